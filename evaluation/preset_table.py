"""The presets: how the field's tools and papers turn waveforms into numbers, every choice by name.

Sources: the published evaluation code of each tool, or the paper where there is none. Where a
description leaves a choice open, the natural one was taken, and the comment above the entry says so.
"""

from __future__ import annotations

from typing import Any

_DEFAULT: dict[str, Any] = {
    "description": "house protocol: order 2, 0.7-4 Hz, bins of 0.1 bpm with parabolic refinement",
    "ground_truth": "label_or_device", "window_s": None, "tail": "drop", "resample": "uniform",
    "detrend": 100.0, "detrend_at": "30_fps", "filter": "butterworth", "filter_order": 2,
    "filter_low_hz": 0.7, "filter_high_hz": 4.0,
    "estimator": "spectral_peak", "spectrum_window": "hann", "n_fft": "bin_width", "bin_bpm": 0.1,
    "peak": "parabolic", "peak_low_hz": 0.7, "peak_high_hz": 4.0, "snr": "dehaan",
}

_TOOLBOX: dict[str, Any] = {
    "description": "rPPG-Toolbox: order 1, 0.6-3.3 Hz, power-of-two bins, short last window kept",
    "ground_truth": "label", "window_s": None, "tail": "keep", "resample": "none",
    "detrend": 100.0, "filter": "butterworth", "filter_order": 1,
    "filter_low_hz": 0.6, "filter_high_hz": 3.3,
    "estimator": "spectral_peak", "spectrum_window": "boxcar", "remove_mean": False,
    "n_fft": "power_of_two", "peak": "argmax", "peak_low_hz": 0.6, "peak_high_hz": 3.3,
    "snr": "toolbox", "standard_error": "toolbox",
}

# What most of the others share: both rates by one estimator, on a uniform grid, no filter, no detrending.
_PLAIN: dict[str, Any] = {
    "ground_truth": "label", "window_s": None, "tail": "drop", "resample": "uniform", "detrend": None,
    "filter": "none", "peak": "argmax", "snr": "none",
}

# Filtered after cutting, since the net sees such a clip alone; a local peak is higher than both neighbours
# inside the band.
_CONTRASTPHYS: dict[str, Any] = _PLAIN | {
    "description": "Contrast-Phys: 30 s clips, order 2, 0.6-4 Hz, Hann without padding, harmonic rule",
    "window_s": 30.0, "filter": "butterworth", "filter_order": 2, "filter_low_hz": 0.6, "filter_high_hz": 4.0,
    "estimator": "spectral_peak", "spectrum_window": "hann", "taper": "symmetric", "remove_mean": False,
    "n_fft": "unpadded", "peak": "harmonic_rule", "harmonic_bpm": 10.0,
    "peak_low_hz": 0.6, "peak_high_hz": 4.0, "snr": "contrastphys",
}

# Zeros of 50 lengths on each side: 101 lengths in all; where they lie does not change the power. A peak moves
# towards the neighbour with the smaller drop, by half of one minus the ratio of the smaller to the larger.
# The SNR is not specified: de Haan's. The overlap-add of predictions belongs to inference.
_GIDEON: dict[str, Any] = _PLAIN | {
    "description": "Gideon & Stent 2021: at 30 Hz, padded by 50 lengths on both sides, 40-180 bpm",
    "resample_hz": 30.0, "estimator": "spectral_peak", "spectrum_window": "boxcar",
    "n_fft": "multiple", "n_fft_value": 101.0, "peak": "neighbour_drops",
    "peak_low_hz": 40 / 60, "peak_high_hz": 3.0, "snr": "dehaan", "macc": "gideon",
}

# The release's rate estimate, over whole recordings. Its evaluation code is incomplete: how long the windows
# of the published tables are is not known (its training clips last 5 s).
_LFA_REA: dict[str, Any] = _GIDEON | {
    "description": "LFA/REA's released rate estimate: padded by 50 lengths on both sides, 40-180 bpm",
    "resample_hz": None, "peak": "band_drops", "macc": "circular",
}

# The released code makes a filtered copy and then transforms the unfiltered waveform; here the copy is used.
# Segments of 30 s are those of the paper's table; the band of the peak is the filter's.
_META_RPPG: dict[str, Any] = _PLAIN | {
    "description": "Meta-rPPG: 30 s segments, order 3, 0.4-4 Hz, Hann without padding, whole beats a minute",
    "ground_truth": "device_or_label", "window_s": 30.0, "filter": "butterworth", "filter_order": 3,
    "filter_low_hz": 0.4, "filter_high_hz": 4.0, "estimator": "spectral_peak", "spectrum_window": "hann",
    "n_fft": "unpadded", "peak_low_hz": 0.4, "peak_high_hz": 4.0, "whole_bpm": True,
}

# The overlap-add of predictions belongs to inference. Windows are standardised: of that, only the removal of
# their mean can move a peak. Thousands of windows: no waveform metrics, which the paper has not got either.
_SINC: dict[str, Any] = _PLAIN | {
    "description": "SiNC: 10 s windows at every frame, Hamming periodogram of 5400 points, 0.667-3 Hz",
    "window_s": 10.0, "hop_frames": 1, "estimator": "spectral_peak", "spectrum_window": "hamming",
    "n_fft": "samples", "n_fft_value": 5400.0, "peak_low_hz": 40 / 60, "peak_high_hz": 3.0,
    "macc": "none", "waveform_metrics": False,
}

# pwelch's own choices: eight half-overlapping segments, symmetric Hamming, means kept. Three equal parts:
# up to two samples at the end are left over.
_PHYSFORMER: dict[str, Any] = _PLAIN | {
    "description": "PhysFormer, AutoHR: FIR 0.8-3 Hz, mean of the Welch peaks of three parts, device rate",
    "ground_truth": "device_or_label", "filter": "fir_hamming", "filter_order_share": 0.1,
    "filter_low_hz": 0.8, "filter_high_hz": 3.0, "standardise": True, "parts": 3,
    "estimator": "welch_peak", "welch_segments": 8, "spectrum_window": "hamming", "taper": "symmetric",
    "remove_mean": False, "n_fft": "samples", "n_fft_value": 8192.0,
    "peak_low_hz": 0.7, "peak_high_hz": 4.0,
}

# The statistics are those of NEST's MATLAB version: sample deviation, 0.01 added where MER divides, r as
# usual. The papers' reference of a clip is the mean over its seconds; here it is the device's rate at the
# clip's middle, since waveform files do not hold how long clips are: the means over a recording differ by
# some 0.1 bpm. A clip whose reference is unknown is in neither mean. The spectral fields serve a label where
# a recording has no device rate.
_STMAP: dict[str, Any] = _DEFAULT | {
    "description": "CVD, RhythmNet, NEST: mean of a head's rates against the device's at its clips' middles",
    "ground_truth": "device_or_label", "estimator": "rate_head", "unit": "recording",
    "snr": "none", "macc": "none", "waveform_metrics": False, "ddof": 1, "mape_offset_bpm": 0.01,
}

# 12 segments, as for COHFACE (16 for MAHNOB-HCI: an own protocol with welch_segments 16); Hann and segments
# without their mean, as scipy's welch has them.
_BOB: dict[str, Any] = _PLAIN | {
    "description": "bob.rppg.base, HR-CNN: Welch of 12 half-overlapping segments, 8192 points, 0.7-4 Hz",
    "estimator": "welch_peak", "welch_segments": 12, "spectrum_window": "hann",
    "n_fft": "samples", "n_fft_value": 8192.0, "peak_low_hz": 0.7, "peak_high_hz": 4.0,
}

# The last block of the detrending may be shorter; the filter starts from rest. Lambda is that of the tool's
# recordings of 30 Hz, with the same cut-off in Hz elsewhere: as it stands it would leave the harmonic at 60.
_PHYSBENCH: dict[str, Any] = _PLAIN | {
    "description": "PhysBench: detrended in blocks of 900, order 3 one way, 0.5-3 Hz, Welch of 256 samples",
    "detrend": 25.0, "detrend_at": "30_fps", "detrend_block": 900, "filter": "butterworth", "filter_order": 3,
    "filter_passes": "one_way", "filter_low_hz": 0.5, "filter_high_hz": 3.0,
    "estimator": "welch_peak", "welch_samples": 256, "spectrum_window": "hann",
    "n_fft": "per_rate", "n_fft_value": 1e5, "peak_low_hz": 0.5, "peak_high_hz": 3.0,
}

# Errors are pooled over the windows of all recordings. One waveform per method stands for the patches.
_PYVHR: dict[str, Any] = _PLAIN | {
    "description": "pyVHR: 8 s windows every second, Welch of 256 samples, 2048 points, 0.65-4 Hz",
    "window_s": 8.0, "hop_s": 1.0, "estimator": "welch_peak", "welch_samples": 256,
    "welch_overlap_samples": 200, "spectrum_window": "hann", "n_fft": "samples", "n_fft_value": 2048.0,
    "peak_low_hz": 0.65, "peak_high_hz": 4.0, "snr": "pyvhr",
}

# Forward and backward; the whole recording.
_IPHYS: dict[str, Any] = _PLAIN | {
    "description": "iPhys: order 3, 0.7-2.5 Hz, Hamming periodogram in bins of 0.5 bpm, 40-240 bpm",
    "filter": "butterworth", "filter_order": 3, "filter_low_hz": 0.7, "filter_high_hz": 2.5,
    "estimator": "spectral_peak", "spectrum_window": "hamming", "taper": "symmetric", "remove_mean": False,
    "n_fft": "exact_bins", "bin_bpm": 0.5, "peak_low_hz": 40 / 60, "peak_high_hz": 4.0, "snr": "dehaan",
}

PRESETS: dict[str, dict[str, Any]] = {
    "default": _DEFAULT,
    "toolbox": _TOOLBOX,
    "toolbox2023": _TOOLBOX | {
        "description": "rPPG-Toolbox as of its NeurIPS 2023 tables: order 1, 0.75-2.5 Hz",
        "filter_low_hz": 0.75, "filter_high_hz": 2.5, "peak_low_hz": 0.75, "peak_high_hz": 2.5,
    },
    "contrastphys": _CONTRASTPHYS,
    "gideon": _GIDEON,
    "lfa_rea": _LFA_REA,
    "meta_rppg": _META_RPPG,
    "sinc": _SINC,
    "physformer": _PHYSFORMER,
    "stmap": _STMAP,
    "bob": _BOB,
    "physbench": _PHYSBENCH,
    "pyvhr": _PYVHR,
    "iphys": _IPHYS,
    "v4v": _DEFAULT | {
        "description": "V4V challenge: the default in 10 s windows, one rate per frame, device rates",
        "ground_truth": "device_or_label", "window_s": 10.0, "unit": "frame",
    },
}
