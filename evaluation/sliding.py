"""Rates of windows that move by a few frames: thousands of short spectra of which only the peak is asked for.

A transform of 5400 points for each would cost tens of seconds for a dataset. Only the band's bins are
computed, a few per peak first, as one matrix product; around the candidates the rest follows. A window that
touches an unknown sample of the label has no reference: gaps are not filled here.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from evaluation.heart_rate import is_constant
from evaluation.presets import Protocol
from evaluation.spectrum import in_band, taper, transform_length

Array = NDArray[np.float64]
COARSE_PER_BIN = 3
"""Coarse bins in the width of a bin without padding: a tapered peak then holds twelve of them."""
CANDIDATE = 0.75
"""Around every coarse bin from this share of the highest one on, all bins are looked at. In noise of any
colour the coarse bin next to the highest of all had 0.89 of the highest coarse bin or more."""


def applies(protocol: Protocol) -> bool:
    """Whether windows can be treated so: whole, unfiltered, and nothing but a rate asked for."""
    return (
        protocol.hop_frames is not None and protocol.tail == "drop" and protocol.estimator == "spectral_peak"
        and protocol.peak == "argmax" and protocol.filter == "none" and protocol.detrend is None
        and protocol.parts == 1 and protocol.snr == "none" and protocol.macc == "none"
        and not protocol.waveform_metrics and not protocol.standardise
    )


def sliding_rates(
    signals: Array, length: int, fs: float, protocol: Protocol
) -> tuple[Array, NDArray[np.object_]]:
    """Rates in bpm and failures of all whole windows: (K, n) -> (K, W) twice; NaN where a window failed."""
    hop = protocol.hop_frames or 1
    n_fft, step = transform_length(length, fs, protocol)
    coarse = max(n_fft // step // (COARSE_PER_BIN * length), 1)
    failed = _faults(signals, length)[:, ::hop]
    bins, basis = _basis(length, fs, protocol)
    rates = np.full(failed.shape, np.nan)
    for row, signal in enumerate(np.nan_to_num(signals, posinf=0.0, neginf=0.0)):
        pieces = np.lib.stride_tricks.sliding_window_view(signal, length)[::hop]
        if len(bins):
            rates[row] = 60 * bins[_highest(np.ascontiguousarray(pieces), basis, coarse)]
    rates[failed != ""] = np.nan
    failed[np.isnan(rates) & (failed == "")] = "no spectral peak in the band: the window is too short"
    return rates, failed


def _faults(signals: Array, length: int) -> NDArray[np.object_]:
    """Why a window cannot be scored: (K, n) -> (K, n - length + 1), empty where it can."""

    def counted(flags: NDArray[np.bool_], width: int) -> NDArray[np.int_]:
        sums = np.cumsum(np.pad(flags, ((0, 0), (1, 0))), axis=1)
        return sums[:, width:] - sums[:, :-width]

    bad = counted(~np.isfinite(signals), length)
    finite, middles = np.nan_to_num(signals, posinf=0.0, neginf=0.0), slice(length // 2, None)
    low, high = (edge(finite, length, axis=1)[:, middles][:, : bad.shape[1]]
                 for edge in (ndimage.minimum_filter1d, ndimage.maximum_filter1d))
    found = np.full(bad.shape, "", dtype=object)
    found[is_constant(low, high)] = "the waveform is constant"
    for place in np.argwhere(bad > 0).tolist():
        found[tuple(place)] = f"{bad[tuple(place)]} of {length} samples are not finite"
    return found


@functools.lru_cache(maxsize=4)
def _basis(length: int, fs: float, protocol: Protocol) -> tuple[Array, Array]:
    """Frequencies of the band's bins in Hz (F,), and the tapered cosines and sines (2, F, length).

    Where the mean is to be removed it is taken out of the basis, which is the same.
    """
    n_fft, step = transform_length(length, fs, protocol)
    frequency_hz: Array = np.fft.rfftfreq(n_fft // step, 1 / fs).astype(np.float64)
    bins = frequency_hz[in_band(frequency_hz, protocol.peak_low_hz, protocol.peak_high_hz)]
    phase = 2 * np.pi * bins[:, None] / fs * np.arange(length)
    basis: Array = np.stack([np.cos(phase), np.sin(phase)])
    if protocol.spectrum_window != "boxcar":
        basis *= taper(protocol.spectrum_window, length, protocol.taper)
    if protocol.remove_mean:
        basis -= basis.mean(axis=-1, keepdims=True)
    return bins, basis


def _power(pieces: Array, basis: Array) -> Array:
    """Power (W, F) of pieces (W, n) at the bins of `basis` (2, F, n)."""
    flat = pieces @ basis.reshape(-1, basis.shape[-1]).T
    flat *= flat
    power: Array = flat[:, : basis.shape[1]] + flat[:, basis.shape[1] :]
    return power


def _highest(pieces: Array, basis: Array, step: int) -> NDArray[np.int_]:
    """Index of the highest bin for each piece (W, n), every `step`th bin first; the lowest of equal ones."""
    n_bins = basis.shape[1]
    coarse = _power(pieces, basis[:, ::step])
    best = coarse.max(axis=1)
    index = step * coarse.argmax(axis=1)
    candidate = coarse >= CANDIDATE * best[:, None]
    for place in np.flatnonzero(candidate.any(axis=0)).tolist():
        rows = np.flatnonzero(candidate[:, place])
        low, high = max(step * (place - 1) + 1, 0), min(step * (place + 1), n_bins)
        power = _power(pieces[rows], basis[:, low:high])
        top = power.max(axis=1)
        better = top > best[rows]
        best[rows[better]] = top[better]
        index[rows[better]] = low + power[better].argmax(axis=1)
    return index
