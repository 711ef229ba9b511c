"""The vital signs of one recording: of its label, its sensor and every prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.beats import Intervals, find_beats, intervals
from evaluation.heart_rate import is_constant
from evaluation.respiration import pulse_rate_bpm, sensor_rate_bpm
from evaluation.variability import ibi_mae_4hz, interval_fault, measures
from evaluation.vital_presets import VitalSettings
from evaluation.waveforms import RecordingWaveform
from utils.gaps import in_gaps
from utils.signal import fill_gaps, sample_rate, to_uniform

Array = NDArray[np.float64]

QUANTITIES = ("rf_hz", "lf_nu", "hf_nu", "lf_hf", "sdnn_ms", "rmssd_ms", "resp_bpm", "ibi_mae_4hz")
POWERS = ("lf_ms2", "hf_ms2")
REFERENCE = "reference"
NO_LABEL = "no label waveform to compare with"
MAX_UNKNOWN = 0.05
"""Share of a label or a sensor that may be interpolated; beyond it there is no reference."""
COVERED = 0.95
"""Share of a recording that its respiration sensor must cover."""


@dataclass
class Measured:
    """What one waveform gave: by quantity a value or the reason for none; found: None without beats."""

    values: dict[str, float | str]
    n_beats: int = 0
    found: Intervals | None = None


def measure(waveform: Array, fs: float, settings: VitalSettings) -> Measured:
    """Variability and respiration of one waveform (T,), uniformly sampled at `fs` Hz."""
    fault = _fault(waveform)
    if not fault:
        try:
            beats = find_beats(waveform, fs, settings)
        except ValueError as error:
            fault = str(error)
    if fault:
        return Measured(dict.fromkeys((*QUANTITIES, *POWERS), fault))
    found = intervals(beats, settings)
    values = measures(found, settings)
    values["resp_bpm"] = pulse_rate_bpm(waveform, fs, beats, found, settings)
    return Measured(values, len(beats.time_s), found)


def _fault(waveform: Array) -> str:
    """Why a waveform cannot be measured at all; empty when it can."""
    bad = int((~np.isfinite(waveform)).sum())
    if bad:
        return f"{bad} of {len(waveform)} samples are not finite"
    return "the waveform is constant" if is_constant(waveform.min(), waveform.max()) else ""


def recording_lines(
    wave: RecordingWaveform, methods: Sequence[str], settings: VitalSettings
) -> tuple[list[dict[str, Any]], str]:
    """Entries of "per_recording", the reference first; and where its respiration is from.

    "sensor" or "label". Methods without a waveform here have entries of null, too.
    """
    present = [name for name in methods if name in wave.predictions]
    rows, fs, times = _on_grid(wave, present)
    reference = _reference(rows[0], fs, settings)
    breathing = _sensor(wave, times)
    if breathing is not None:
        reference.values["resp_bpm"] = (
            breathing if isinstance(breathing, str) else sensor_rate_bpm(breathing, fs, settings))
    duration_s = rows.shape[1] / fs
    lines = [_line(wave, REFERENCE, duration_s, reference)]
    for name in methods:
        if name in present:
            made = measure(rows[1 + present.index(name)], fs, settings)
        else:
            made = Measured(dict.fromkeys((*QUANTITIES, *POWERS), "no waveform by this method"))
        made.values["ibi_mae_4hz"] = _interval_error(made, reference, settings)
        lines.append(_line(wave, name, duration_s, made))
    return lines, "label" if breathing is None else "sensor"


def _on_grid(wave: RecordingWaveform, present: Sequence[str]) -> tuple[Array, float, Array]:
    """Label and predictions over the labelled span (1 + M, n), their rate in Hz, the grid's times (n,)."""
    rows = np.stack([wave.label, *(wave.predictions[name] for name in present)]).astype(np.float64)
    times = wave.time_s
    known = np.flatnonzero(np.isfinite(wave.label))
    if len(known) > 1 and times[known[-1]] > times[known[0]]:
        span = slice(int(known[0]), int(known[-1]) + 1)
        rows, times = rows[:, span], times[span]
    grid = np.linspace(times[0], times[-1], len(times))
    rows = np.stack([to_uniform(row, times)[0] for row in rows])
    rows[0, in_gaps(times, grid)] = np.nan
    return rows, sample_rate(times), grid


def _reference(label: Array, fs: float, settings: VitalSettings) -> Measured:
    """The label's own vital signs; nothing where too much of it is unknown."""
    unknown = float(np.isnan(label).mean())
    if unknown > MAX_UNKNOWN:
        why = NO_LABEL if unknown == 1 else f"{100 * unknown:.0f} % of the label are unknown"
        return Measured(dict.fromkeys((*QUANTITIES, *POWERS), why))
    return measure(fill_gaps(label) if unknown else label, fs, settings)


def _sensor(wave: RecordingWaveform, grid_s: Array) -> Array | str | None:
    """The respiration sensor as means around the times of a grid (n,); why not; None without a sensor.

    Means, as a sensor of a higher rate may carry mains hum, which sampling would fold into the band.
    """
    if wave.resp is None or wave.resp_time_s is None or not np.isfinite(wave.resp).any():
        return None
    known = np.isfinite(wave.resp)
    time_s, values = wave.resp_time_s[known], wave.resp[known].astype(np.float64)
    if 1 - known.mean() > MAX_UNKNOWN or len(time_s) < 2:
        return f"{100 * (1 - known.mean()):.0f} % of the respiration sensor are unknown"
    inside = (grid_s >= time_s[0]) & (grid_s <= time_s[-1])
    if inside.mean() < COVERED:
        return f"the respiration sensor covers {100 * inside.mean():.0f} % of the recording"
    if sample_rate(time_s) <= sample_rate(grid_s):
        return np.interp(grid_s, time_s, values)
    half = float(grid_s[1] - grid_s[0]) / 2
    area = np.concatenate([[0.0], np.cumsum((values[1:] + values[:-1]) / 2 * np.diff(time_s))])
    first, last = (np.clip(grid_s + side, time_s[0], time_s[-1]) for side in (-half, half))
    means = (np.interp(last, time_s, area) - np.interp(first, time_s, area)) / np.maximum(last - first, 1e-9)
    outside = (grid_s < time_s[0]) | (grid_s > time_s[-1])
    return np.where(outside, np.interp(grid_s, time_s, values), means)


def _interval_error(made: Measured, reference: Measured, settings: VitalSettings) -> float | str:
    """ibi_mae_4hz of a prediction, or why it has none."""
    faults = [
        f"{whose}: {one.values['sdnn_ms']}" if one.found is None else interval_fault(one.found, settings)
        for one, whose in ((made, "prediction"), (reference, "reference"))
    ]
    if any(faults) or made.found is None or reference.found is None:
        return "; ".join(filter(None, faults))
    return ibi_mae_4hz(made.found, reference.found)


def _line(wave: RecordingWaveform, method: str, duration_s: float, made: Measured) -> dict[str, Any]:
    """One entry of "per_recording"."""
    names = [name for name in (*QUANTITIES, *POWERS) if name in made.values]
    reasons = {name: value for name in names if isinstance(value := made.values[name], str)}
    line: dict[str, Any] = {
        "recording": wave.key, "subject": wave.subject, "part": wave.part, "method": method,
        "duration_s": round(duration_s, 3), "n_beats": made.n_beats,
        "n_dropped": made.found.n_dropped if made.found else 0,
    }
    line |= {name: None if name in reasons else made.values[name] for name in names}
    return {**line, "reasons": reasons}
