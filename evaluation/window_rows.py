"""windows.csv: every window of every recording and method, as it was scored."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from evaluation.metrics import SIGNAL_METRICS
from evaluation.units import Scored
from evaluation.waveforms import RecordingWaveform
from utils.files import write_text

Value = str | float | int | None
COLUMNS = (
    "part", "recording", "subject", "method", "start_s", "stop_s", "reference", "reference_bpm",
    "predicted_bpm", "error_bpm", *SIGNAL_METRICS, "label_bpm", "device_bpm", "n_units", "failed",
)


def rows_of(wave: RecordingWaveform, scored: Scored) -> Iterator[dict[str, Value]]:
    """A row per window and method, the columns as in COLUMNS; None where there is no number.

    n_units: how many units the window stands for (its frames, where these are the unit); reference_bpm: their
    mean reference. label_bpm and device_bpm: both references where both are known, whichever was used.
    """
    n_units = np.bincount(scored.unit_window, minlength=len(scored.spans))
    totals = np.array([np.bincount(scored.unit_window, each, minlength=len(scored.spans))
                       for each in scored.reference_bpm]).reshape(-1, len(scored.spans))
    references = np.where(n_units > 0, totals / np.maximum(n_units, 1), np.nan)
    for window in np.flatnonzero(n_units > 0).tolist():
        start_s, stop_s = (float(edge) for edge in scored.spans[window])
        for index, method in enumerate(scored.methods):
            predicted = float(scored.predicted_bpm[index, window])
            reference = float(references[index, window])
            values: list[Value] = [
                wave.part, wave.key, wave.person, method, start_s, stop_s,
                scored.reference, reference, predicted, predicted - reference,
                *scored.signals[index, window].tolist(), float(scored.label_bpm[window]),
                float(scored.device_bpm[window]), int(n_units[window]), scored.failed[index, window],
            ]
            yield {name: None if value != value else value
                   for name, value in zip(COLUMNS, values, strict=True)}


def write_windows(path: Path, rows: Iterable[Mapping[str, Value]]) -> None:
    """windows.csv: a row per window and method, written atomically; what does not exist is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        values = (row[name] for name in COLUMNS)
        writer.writerow([f"{value:.6g}" if isinstance(value, float) else value for value in values])
    write_text(path, text.getvalue())
