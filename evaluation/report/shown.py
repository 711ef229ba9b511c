"""Waveforms as a report shows them: on a uniform grid, band-passed, of unit spread.

The filter is the same zero-phase Butterworth band-pass for every protocol, over the protocol's own band;
rates and errors beside a waveform are those of windows.csv, so they are the scored ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.report.files import Units
from evaluation.waveforms import RecordingWaveform
from utils.files import natural_key
from utils.gaps import in_gaps
from utils.signal import bandpass, fill_gaps, power_spectrum, sample_rate, to_uniform

Array = NDArray[np.float64]
BAND_HZ = (0.7, 4.0)
SHOWN_S = 15.0
SPECTRUM_BPM = (36.0, 240.0)
MIN_SAMPLES = 9


@dataclass(frozen=True)
class Shown:
    """A recording for the eye: label and predictions (n,) at fs Hz, None where there is nothing to show."""

    fs: float
    label: Array | None
    predictions: dict[str, Array | None]


def band_of(protocol: Mapping[str, Any]) -> tuple[float, float]:
    """The band of a protocol's filter in Hz, that of its peak where it filters not, or else the house's."""
    edge = "peak" if protocol.get("filter") == "none" else "filter"
    low, high = protocol.get(f"{edge}_low_hz"), protocol.get(f"{edge}_high_hz")
    return (float(low), float(high)) if low and high else BAND_HZ


def shown(wave: RecordingWaveform, methods: Sequence[str], band_hz: tuple[float, float]) -> Shown:
    """Label and predictions of a recording, filtered; NaN where a label is unknown or frames are missing."""
    fs = sample_rate(wave.time_s)
    grid = np.linspace(wave.time_s[0], wave.time_s[-1], len(wave.time_s))
    missing = in_gaps(wave.time_s, grid)
    label = _filtered(fill_gaps(wave.label), wave.time_s, fs, band_hz) if wave.has_label else None
    if label is not None:
        unknown = np.interp(grid, wave.time_s, (~np.isfinite(wave.label)).astype(np.float64)) > 0
        label[unknown | missing] = np.nan
    predictions = {
        name: _filtered(found, wave.time_s, fs, band_hz) if found is not None else None
        for name, found in ((name, wave.predictions.get(name)) for name in methods)
    }
    return Shown(fs, label, predictions)


def _filtered(values: Any, time_s: Array, fs: float, band_hz: tuple[float, float]) -> Array | None:
    """One waveform, or None where it is not finite, too short, or flat."""
    low, high = band_hz[0], min(band_hz[1], 0.45 * fs)
    signal = np.asarray(values, dtype=np.float64)
    if len(signal) < MIN_SAMPLES or low >= high or not np.isfinite(signal).all():
        return None
    kept: Array = bandpass(to_uniform(signal - signal.mean(), time_s)[0], fs, low, high)
    spread = float(kept.std())
    return kept / spread if spread > 1e-6 * float(np.abs(signal - signal.mean()).max()) > 0 else None


def worst_units(units: Units) -> dict[str, Units]:
    """Recording -> its unit with the largest absolute error, the recordings with the worst mean first.

    units: of one method and one part. Rows without an error are left out.
    """
    found = {key: rows for key, rows in units.scored.by("recording")}
    means = {key: float(np.abs(rows.error_bpm).mean()) for key, rows in found.items()}
    ordered = sorted(found, key=lambda key: (-means[key], natural_key(key)))
    worst = {key: int(np.argmax(np.abs(found[key].error_bpm))) for key in ordered}
    return {key: found[key].where(np.arange(len(found[key])) == worst[key]) for key in ordered}


def panel(wave: RecordingWaveform, method: str, unit: Units, band_hz: tuple[float, float]) -> dict[str, Any]:
    """One row of the waveform figure: the middle seconds of a unit, and the spectrum of all of it.

    Empty where the waveform cannot be drawn.
    """
    seen = shown(wave, [method], band_hz)
    prediction = seen.predictions[method]
    if prediction is None:
        return {}
    first, last = (round(float(edge[0]) * seen.fs) for edge in (unit.start_s, unit.stop_s))
    whole = slice(max(first, 0), min(max(last, first + MIN_SAMPLES), len(prediction)))
    length = min(whole.stop - whole.start, int(SHOWN_S * seen.fs))
    start = whole.start + (whole.stop - whole.start - length) // 2
    part = slice(start, start + length)
    has_label = seen.label is not None and bool(np.isfinite(seen.label[part]).any())
    frequency, power = _spectrum(prediction[whole], seen.fs)
    return {
        "title": wave.key, "time_s": np.arange(part.start, part.stop) / seen.fs,
        "label": _unit(seen.label[part]) if seen.label is not None and has_label else None,
        "prediction": _unit(prediction[part]), "frequency_bpm": frequency, "power": power,
        "label_power": (_spectrum(fill_gaps(seen.label[whole]), seen.fs)[1]
                        if seen.label is not None and has_label else None),
        "reference_bpm": float(unit.reference_bpm[0]), "predicted_bpm": float(unit.predicted_bpm[0]),
    }


def _unit(values: Array) -> Array:
    """The stretch at unit spread, so that label and prediction lie over each other."""
    spread = float(np.nanstd(values))
    return values / spread if spread > 0 else values


def _spectrum(signal: Array, fs: float) -> tuple[Array, Array]:
    """Frequencies in bpm and power over its largest value, inside SPECTRUM_BPM."""
    frequency_hz, power = power_spectrum(signal, fs, bin_hz=0.01)
    bpm = 60 * frequency_hz
    inside = (bpm >= SPECTRUM_BPM[0]) & (bpm <= SPECTRUM_BPM[1])
    top = float(power[inside].max()) if inside.any() else 0.0
    return bpm[inside], power[inside] / (top or 1.0)
