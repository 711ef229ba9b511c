"""The folds of one split as one table: every scored window of every fold, read back from windows.csv."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation import bootstrap
from evaluation.metrics import (
    METRICS,
    RESAMPLED,
    SIGNAL_METRICS,
    Statistics,
    from_sums,
    missing_reason,
    unit_sums,
)
from evaluation.tally import draws_of
from evaluation.window_rows import COLUMNS
from utils.errors import UserError
from utils.files import read_json

Array = NDArray[np.float64]
Window = Mapping[str, Any]
TEXTS = ("part", "recording", "subject", "method", "reference", "failed")
DOUBTFUL = ("n_edge_references", "n_apart_references")
SUMMED = ("n_subjects", "n_recordings", "n_windows", "n_unlabelled_windows", "n_missing")


def read_windows(path: Path) -> list[dict[str, Any]]:
    """The rows of a windows.csv: numbers as floats (six digits), NaN where a cell is empty.

    UserError when the file is not there or is something else.
    """
    if not path.exists():
        raise UserError(f"{path}: not there; folds can only be pooled from the windows.csv of each run")
    reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise UserError(f"{path}: no column {', '.join(missing)}; it should be the windows.csv of a run")
    try:
        return [{name: row[name] if name in TEXTS else float(row[name] or math.nan) for name in COLUMNS}
                for row in reader]
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: a cell that should be a number is none ({error})") from None


def pool(folders: Sequence[Path]) -> dict[str, Any]:
    """The metrics of several folds' test parts taken together: protocol, test and rows as in metrics.json.

    Rows come from the windows of all folds, so that r and RMSE are those of one table over all recordings.
    UserError where a recording was tested in two folds, a run folder has no windows.csv, or a device's rate
    was held to single frames, which windows.csv does not list.
    """
    metrics = [read_json(folder / "metrics.json") for folder in folders]
    per_fold = [
        [row for row in read_windows(folder / "windows.csv") if row["part"] == "test"] for folder in folders
    ]
    _refuse_doubles(folders, per_fold)
    windows = [window for fold in per_fold for window in fold]
    protocol = metrics[0]["protocol"]
    if protocol.get("unit") == "frame" and any(window["reference"] == "device" for window in windows):
        raise UserError(f"{folders[0]}: frames held against a device's rate cannot be pooled over folds")
    n_subjects = len({window["subject"] for window in windows})
    draws = draws_of(n_subjects, protocol["bootstrap"], protocol["seed"])
    choices = Statistics(
        protocol["ddof"], protocol.get("mape_offset_bpm", 0.0), protocol.get("pearson_offset", 0.0)
    )
    lines = [row for each in metrics for row in each["rows"] if "mae_bpm" in row]
    methods = list(dict.fromkeys(row["method"] for row in lines))
    rows = [_row(name, [w for w in windows if w["method"] == name], draws, choices) for name in methods]
    return {"protocol": protocol, "test": _header([each["test"] for each in metrics]), "rows": rows}


def _refuse_doubles(folders: Sequence[Path], per_fold: Sequence[Sequence[Window]]) -> None:
    where: dict[str, Path] = {}
    for folder, windows in zip(folders, per_fold, strict=True):
        for recording in {window["recording"] for window in windows}:
            if recording in where:
                raise UserError(f"{recording} was tested in {where[recording]} and in {folder}: these are "
                                "not folds of one split; give them to `table` one by one")
            where[recording] = folder


def _header(headers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The counts of all folds together; folds share no subject, so that subjects add up as well."""
    summed: dict[str, Any] = {name: sum(int(header[name]) for header in headers) for name in SUMMED}
    summed |= {name: sum(int(header.get(name, 0)) for header in headers) for name in DOUBTFUL}
    summed["bin_bpm"] = max(float(header.get("bin_bpm") or 0.0) for header in headers)
    for name in ("datasets", "origins", "missing"):
        summed[name] = sorted({text for header in headers for text in header.get(name, ())})
    return summed


def _row(method: str, windows: Sequence[Window], draws: Array | str, choices: Statistics) -> dict[str, Any]:
    """One method over all windows, each counted as often as it stands for a unit."""
    counts = np.array([window["n_units"] for window in windows])
    predicted = np.array([math.nan if window["failed"] else window["predicted_bpm"] for window in windows])
    reference = np.array([window["reference_bpm"] for window in windows])
    signals = np.array([[window[name] for name in SIGNAL_METRICS] for window in windows])
    sums = unit_sums(predicted, reference, signals.reshape(-1, len(SIGNAL_METRICS)), choices)
    sums *= counts[:, None]
    n, total = int(sums[:, 0].sum()), int(counts.sum())
    values = {name: float(value) for name, value in from_sums(sums.sum(axis=0), choices).items()}
    values["max_bpm"] = float(np.nanmax(np.abs(predicted - reference))) if n else math.nan
    reasons = {name: missing_reason(name, n) for name in METRICS if not np.isfinite(values[name])}
    row: dict[str, Any] = {"method": method, "n": n, "n_failed": total - n, "ci95": None}
    row |= {name: None if name in reasons else values[name] for name in METRICS}
    if isinstance(draws, str) or not n:
        reasons["ci95"] = draws if isinstance(draws, str) else "no unit could be scored"
    else:
        people = bootstrap.subject_sums(sums, [window["subject"] for window in windows])
        found = bootstrap.intervals(people, draws, choices)
        row["ci95"] = {name: None if name in reasons else found.get(name) for name in RESAMPLED}
    return {**row, "reasons": reasons}
