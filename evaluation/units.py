"""One recording under one protocol: a row per scored unit and method."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.heart_rate import Estimates, estimate, windows
from evaluation.metrics import MACC, SNR
from evaluation.presets import Protocol
from evaluation.waveforms import RecordingWaveform
from utils.files import write_text
from utils.gaps import in_gaps
from utils.signal import fill_gaps, sample_rate, to_uniform

Array = NDArray[np.float64]
CONSTANT = "constant"
MAX_UNKNOWN = 0.05
"""Share of a unit's label that may be interpolated; beyond it the unit has no reference."""


@dataclass
class Unit:
    """One method in one window: a row of windows.csv. NaN and `failed` say what could not be had.

    start_s, stop_s: from the recording's first frame; reference: label or device.
    """

    part: str
    recording: str
    subject: str
    method: str
    start_s: float
    stop_s: float
    reference: str
    reference_bpm: float
    predicted_bpm: float
    error_bpm: float = float("nan")
    snr_db: float = float("nan")
    macc: float = float("nan")
    failed: str = ""

    def __post_init__(self) -> None:
        """The error follows from the two rates."""
        self.error_bpm = self.predicted_bpm - self.reference_bpm


@dataclass
class Scored:
    """A recording's units, how many windows had no reference, and why it has no unit at all.

    bin_bpm: widest spectral bin that a rate was read from.
    """

    units: list[Unit] = dataclasses.field(default_factory=list)
    n_unlabelled: int = 0
    bin_bpm: float = 0.0
    reason: str = ""


def reference_kind(wave: RecordingWaveform, protocol: Protocol) -> str:
    """"label" or "device": where the reference rate comes from; empty where there is none."""
    wanted = protocol.ground_truth
    if wanted != "device" and wave.has_label:
        return "label"
    return "device" if wanted != "label" and wave.reference_hr_bpm is not None else ""


def score_recording(
    wave: RecordingWaveform, protocol: Protocol, methods: list[str], constant_bpm: float | None = None
) -> Scored:
    """Every method in every unit of the recording; methods without a prediction there fail by name."""
    kind = reference_kind(wave, protocol)
    if not kind:
        return Scored(reason=f"no {protocol.ground_truth.replace('_', ' ')} to compare with")
    if kind == "device" and protocol.window_s is not None:
        return Scored(reason="only the device's mean rate is known, which is none for a window")
    signals, fs, offset_s = _on_grid(wave, protocol, kind, [m for m in methods if m in wave.predictions])
    n = signals.shape[1]
    cuts = windows(n, fs, protocol)
    if not cuts:
        wanted = f"{protocol.min_samples} frames" if protocol.window_s is None else f"{protocol.window_s} s"
        return Scored(reason=f"{n} frames ({n / fs:.1f} s) are less than {wanted}")
    if protocol.filter_low_hz >= 0.49 * fs:
        return Scored(reason=f"{fs:.2f} frames a second are too few for {protocol.filter_low_hz} Hz and more")
    scored = Scored()
    for start, stop in cuts:
        piece = signals[:, start:stop].copy()
        if kind == "label" and not _complete(piece):
            scored.n_unlabelled += 1
            continue
        span = (offset_s + start / fs, offset_s + stop / fs)
        estimates = estimate(piece, fs, protocol)
        scored.bin_bpm = max(scored.bin_bpm, 60 * float(estimates.frequency_hz[1]))
        found = _units(wave, protocol, methods, estimates, span, kind)
        scored.units += found
        if constant_bpm is not None and found:
            scored.units.append(dataclasses.replace(
                found[-1], method=CONSTANT, predicted_bpm=constant_bpm, snr_db=float("nan"),
                macc=float("nan"), failed="",
            ))
    if not scored.units:
        scored.reason = "the label is unknown (or in gaps between frames) or flat in every window"
    return scored


def _on_grid(
    wave: RecordingWaveform, protocol: Protocol, kind: str, present: list[str]
) -> tuple[Array, float, float]:
    """Label and predictions over the labelled span: ((1 + M, n), rate in Hz, start in s).

    Without a label, and in gaps between frames, the first row is NaN; predictions that were NaN stay so.
    """
    rows = np.stack([wave.label, *(wave.predictions[name] for name in present)]).astype(np.float64)
    times = wave.time_s
    if kind == "label":
        known = np.flatnonzero(np.isfinite(wave.label))
        span = slice(int(known[0]), int(known[-1]) + 1)
        if known[-1] - known[0] + 1 >= protocol.min_samples:
            rows, times = rows[:, span], times[span]
    offset_s = float(times[0] - wave.time_s[0])
    fs = sample_rate(times)
    if protocol.resample == "uniform":
        rows = np.stack([to_uniform(row, times)[0] for row in rows])
        rows[0, in_gaps(times, np.linspace(times[0], times[-1], len(times)))] = np.nan
    return rows, fs, offset_s


def _complete(piece: Array) -> bool:
    """Fill short gaps of the label (row 0) in place; False when too much of it is unknown."""
    unknown = np.isnan(piece[0]).mean()
    if unknown > MAX_UNKNOWN:
        return False
    if unknown:
        piece[0] = fill_gaps(piece[0])
    return True


def _units(
    wave: RecordingWaveform, protocol: Protocol, methods: list[str], found: Estimates,
    span: tuple[float, float], kind: str,
) -> list[Unit]:
    """Rows of one window; empty when the label itself has no rate."""
    reference = wave.reference_hr_bpm if kind == "device" else float(found.rate_bpm[0])
    if reference is None or not np.isfinite(reference):
        return []
    units, index = [], 0
    for method in methods:
        unit = Unit(
            part=wave.part, recording=wave.key, subject=f"{wave.dataset}.{wave.subject}", method=method,
            start_s=span[0], stop_s=span[1], reference=kind, reference_bpm=reference,
            predicted_bpm=float("nan"), failed="no prediction by this method",
        )
        if method in wave.predictions:
            index += 1
            unit = dataclasses.replace(
                unit, predicted_bpm=float(found.rate_bpm[index]), failed=found.failed[index]
            )
            _signal_metrics(unit, protocol, found, index)
        units.append(unit)
    return units


def _signal_metrics(unit: Unit, protocol: Protocol, found: Estimates, index: int) -> None:
    """Fill SNR and MACC of a prediction that did not fail."""
    if unit.failed:
        return
    unit.snr_db = SNR[protocol.snr](
        found.frequency_hz, found.power[index], unit.reference_bpm,
        protocol.peak_low_hz, protocol.peak_high_hz,
    )
    if not found.failed[0]:
        unit.macc = MACC[protocol.macc](found.filtered[index], found.filtered[0])


def as_row(unit: Unit) -> dict[str, str | float | None]:
    """A unit as JSON values; NaN becomes None."""
    return {name: None if isinstance(value, float) and np.isnan(value) else value
            for name, value in dataclasses.asdict(unit).items()}


def write_windows(path: Path, rows: Iterable[Mapping[str, str | float | None]]) -> None:
    """windows.csv: a row per unit and method, written atomically; what does not exist is empty."""
    names = [field.name for field in dataclasses.fields(Unit)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([f"{row[name]:.6g}" if isinstance(row[name], float) else row[name] for name in names])
    write_text(path, text.getvalue())
