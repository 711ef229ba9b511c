"""What a report reads: the files of a run folder, those that must be there and those that may."""

from __future__ import annotations

import csv
import json
import sys
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.waveforms import RecordingWaveform, read_waveforms
from utils.errors import UserError
from utils.files import read_json

Array = NDArray[np.float64]
Names = NDArray[np.object_]
NEEDED = ("metrics.json", "windows.csv", "waveforms.h5")
MAX_PICTURE_BYTES = 5_000_000
PNG = b"\x89PNG\r\n\x1a\n"
OPTIONAL = ("params", "environment", "split", "sensitivity")


@dataclass(frozen=True)
class Units:
    """windows.csv by columns, each (n,); numbers are NaN and texts empty where the file has none."""

    part: Names
    recording: Names
    subject: Names
    method: Names
    reference: Names
    failed: Names
    start_s: Array
    stop_s: Array
    reference_bpm: Array
    predicted_bpm: Array
    error_bpm: Array
    snr_db: Array

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.method)

    def where(self, rows: NDArray[Any]) -> Units:
        """The chosen rows: a mask (n,) or indices."""
        return Units(**{column.name: getattr(self, column.name)[rows] for column in fields(self)})

    @property
    def scored(self) -> Units:
        """The rows with an error."""
        return self.where(np.isfinite(self.error_bpm))

    def by(self, column: str) -> Iterator[tuple[str, Units]]:
        """The rows of each value of a column of names, in the order in which the values first appear."""
        values = getattr(self, column)
        place = {name: index for index, name in enumerate(dict.fromkeys(values.tolist()))}
        codes = np.array([place[name] for name in values.tolist()], dtype=np.int64)
        order = np.argsort(codes, kind="stable")
        bounds = np.searchsorted(codes[order], np.arange(len(place) + 1))
        for index, name in enumerate(place):
            yield name, self.where(order[bounds[index]:bounds[index + 1]])


@dataclass(frozen=True)
class RunFiles:
    """A run folder as the report needs it; what is optional is empty where there is no such file."""

    folder: Path
    metrics: Mapping[str, Any]
    units: Units
    waveforms: list[RecordingWaveform]
    optional: Mapping[str, Any]
    curves: Curves


@dataclass(frozen=True)
class Curves:
    """The course of a training.

    steps: "step" and "loss" (N,), "term/<name>" and "lr/<name>" (N,) where logged; epochs: "step" (M,) and
    an array per measure of the validation part; best_step: the step of the best checkpoint so far.
    """

    steps: dict[str, Array] = field(default_factory=dict)
    epochs: dict[str, Array] = field(default_factory=dict)
    best_step: float | None = None


def read_run(folder: Path) -> RunFiles:
    """Everything a report is made of; UserError names what is missing or damaged."""
    for name in NEEDED:
        if not (folder / name).exists():
            raise UserError(f"{folder}: no {name}; evaluate the run first")
    waveforms, _ = read_waveforms(folder / "waveforms.h5")
    paths = {name: folder / f"{name}.json" for name in OPTIONAL}
    return RunFiles(
        folder, read_json(folder / "metrics.json"), read_units(folder / "windows.csv"), waveforms,
        {name: read_json(path) if path.exists() else {} for name, path in paths.items()},
        read_curves(folder / "log.jsonl"),
    )


def read_units(path: Path) -> Units:
    """windows.csv; UserError names a column that is missing, a short line or a value that is no number.

    Overlapping windows make hundreds of thousands of lines: texts are kept once, numbers as doubles.
    """
    kinds = {column.name: column.type == "Array" for column in fields(Units)}
    found: dict[str, Any] = {name: array("d") if is_number else [] for name, is_number in kinds.items()}
    try:
        with open(path, newline="", encoding="utf-8") as handle:
            reader = csv.reader(handle)
            header = next(reader, [])
            for name in kinds:
                if name not in header:
                    raise UserError(f'{path}: no column "{name}"; evaluate the run again')
            wanted = [(header.index(name), found[name].append, kind) for name, kind in kinds.items()]
            for row in reader:
                if len(row) != len(header):
                    raise ValueError(f"line {reader.line_num} has {len(row)} values, not {len(header)}")
                for place, append, is_number in wanted:
                    append(float(row[place] or "nan") if is_number else sys.intern(row[place]))
    except (csv.Error, ValueError) as error:
        raise UserError(f"{path}: {error}; evaluate the run again") from None
    columns: dict[str, Any] = {name: np.array(values, dtype=np.float64 if kinds[name] else object)
                               for name, values in found.items()}
    return Units(**columns)


def read_curves(path: Path) -> Curves:
    """Losses, rates and validations of a log.jsonl; empty where nothing was trained.

    Lines that were cut off by a kill are skipped; a step repeated after a resume counts once, with its
    later values.
    """
    trained: dict[int, dict[str, float]] = {}
    measured: dict[int, dict[str, float]] = {}
    epoch_end: dict[int, int] = {}
    best = None
    for event in _events(path):
        kind = event.get("event")
        if kind == "step":
            trained[event["step"]] = _step(event)
            epoch_end[event["epoch"]] = event["step"]
        elif kind == "validation":
            measured[event["epoch"]] = {name: _number(value) for name, value in event["metrics"].items()}
        elif kind == "epoch" and event.get("best"):
            best = event["epoch"]
    order = [epoch for epoch in sorted(measured) if epoch in epoch_end]
    ends = [epoch_end[epoch] for epoch in order]
    chosen = epoch_end.get(best) if best is not None and measured else None
    return Curves(
        _columns(sorted(trained), [trained[step] for step in sorted(trained)]),
        _columns(ends, [measured[epoch] for epoch in order]),
        None if chosen is None else float(chosen),
    )


def _events(path: Path) -> Iterator[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for line in lines:
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def _step(event: Mapping[str, Any]) -> dict[str, float]:
    """A logged step: the loss, its further terms, the learning rates."""
    terms = {name: _number(value) for name, value in event["terms"].items()}
    rates = {f"lr/{name}": _number(value) for name, value in event.get("lr", {}).items()}
    rest = {f"term/{name}": value for name, value in terms.items() if name != "loss"}
    return {"loss": terms.get("loss", float("nan")), **rest, **rates}


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _columns(steps: list[int], rows: list[dict[str, float]]) -> dict[str, Array]:
    """"step" and every name that any row has, as arrays; NaN where a row has none."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {"step": np.array(steps, dtype=np.float64),
            **{name: np.array([row.get(name, np.nan) for row in rows], dtype=np.float64) for name in names}}


def attention(folder: Path) -> tuple[bytes | None, str]:
    """The stored picture of what the net looks at, and why there is none; both empty where none was tried."""
    picture, about = folder / "figures" / "attention.png", folder / "figures" / "attention.json"
    if picture.exists() and picture.stat().st_size <= MAX_PICTURE_BYTES:
        data = picture.read_bytes()
        if data.startswith(PNG):
            return data, ""
    stored = read_json(about) if about.exists() else {}
    return None, str(stored.get("reason") or "") if isinstance(stored, dict) else ""


def png_width(data: bytes) -> int:
    """Width of a PNG in pixels, from its header."""
    return int.from_bytes(data[16:20], "big")
