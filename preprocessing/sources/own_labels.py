"""Label files of own recordings: CSV or JSON, columns and units as the user says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from preprocessing.frames import Series
from preprocessing.sources.base import Labels
from preprocessing.sources.text import device_rate, numbers, read_named_table
from utils.errors import UserError
from utils.files import FOREIGN_JSON_BYTES, read_json

_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_CLOCK_S = 3600.0
"""Times that start later than this after the first frame are a clock's own, not the video's."""


@dataclass(frozen=True)
class LabelFormat:
    """Names and units of a label file. sign: -1 where the signal falls at systole."""

    kind: Literal["ppg", "ecg", "bp"]
    time: str
    pulse: str
    hr: str
    resp: str
    unit: Literal["s", "ms", "us", "ns"]
    zero: Literal["video", "first_row"]
    sign: int


@dataclass(frozen=True)
class _Column:
    """One series at its own times, in the file's unit."""

    values: Series
    time: Series


def read(path: Path, form: LabelFormat, zero: float | None, frame_time_s: Series | None) -> Labels:
    """The labels in `path`.

    zero: time of the first frame in the file's unit, by the file's clock, where it is stated
    elsewhere. UserError for a file without pulse and heart rate, and for times of another clock.
    """
    columns = _from_json(path, form) if path.suffix.lower() == ".json" else _from_table(path, form)
    if not columns[form.pulse].values.size and not columns[form.hr].values.size:
        raise UserError(f"{path}: neither {form.pulse!r} nor {form.hr!r} has a value")
    starts = [float(column.time[0]) for column in columns.values() if len(column.time)]
    if zero is None:
        zero = min(starts) if form.zero == "first_row" else 0.0
    time_s = {name: (column.time - zero) / _PER_SECOND[form.unit] for name, column in columns.items()}
    _check_clock(path, min(starts), zero, form)
    rate_bpm, warnings = device_rate(columns[form.hr].values, path.name)
    samples = columns[form.pulse].values * form.sign
    return Labels(
        kind=form.kind if len(samples) else "none", samples=samples, time_s=time_s[form.pulse],
        hr_bpm=rate_bpm, hr_time_s=time_s[form.hr], resp=columns[form.resp].values,
        resp_time_s=time_s[form.resp], frame_time_s=frame_time_s, warnings=tuple(warnings),
    )


def read_frame_times(path: Path, form: LabelFormat) -> tuple[Series, float]:
    """(T,) seconds from the first frame, and the first frame's time as written, in the file's unit."""
    words = read_named_table(path, form.time)[form.time]
    stamps = _finite(numbers(words, f"{path}, column {form.time}"), path, form.time)
    if not len(stamps):
        raise UserError(f"{path}: no frame times")
    return (stamps - stamps[0]) / _PER_SECOND[form.unit], float(stamps[0])


def _check_clock(path: Path, start: float, zero: float, form: LabelFormat) -> None:
    """A label that starts hours from the first frame counts from another zero."""
    away_s = (start - zero) / _PER_SECOND[form.unit]
    if abs(away_s) > _CLOCK_S:
        raise UserError(
            f"{path}: the first time is {away_s:.0f} s from the first frame; set time_unit or time_zero in "
            'the options of data.sets, or state "video_start" in recordings.json'
        )


def _from_table(path: Path, form: LabelFormat) -> dict[str, _Column]:
    """Columns of a CSV; lines in which a column's cell is empty are not part of its series."""
    table = read_named_table(path, form.time)
    time = table[form.time]
    columns = {}
    for name in (form.pulse, form.hr, form.resp):
        cells = table.get(name, [""] * len(time))
        there = [index for index, cell in enumerate(cells) if cell]
        values = numbers([cells[index] for index in there], f"{path}, column {name}")
        own_time = numbers([time[index] for index in there], f"{path}, column {form.time}")
        columns[name] = _Column(values, _finite(own_time, path, form.time))
    return columns


def _from_json(path: Path, form: LabelFormat) -> dict[str, _Column]:
    """Lists of a JSON object; rate and respiration may have times of their own: hr_time_s, resp_time_s.

    (Or whatever the time is called, with hr_ and resp_ before it.)
    """
    content = read_json(path, FOREIGN_JSON_BYTES)
    if not isinstance(content, dict):
        raise UserError(f'{path}: must hold {{"{form.time}": [...], "{form.pulse}": [...]}}')
    columns = {}
    own_times = (form.time, f"hr_{form.time}", f"resp_{form.time}")
    for name, own_time in zip((form.pulse, form.hr, form.resp), own_times, strict=True):
        values = _list(content.get(name, []), path, name)
        time_name = own_time if own_time in content else form.time
        time = _list(content.get(time_name, []), path, time_name)
        if len(values) and len(values) != len(time):
            raise UserError(f"{path}: {len(values)} values of {name!r} but {len(time)} of {time_name!r}")
        columns[name] = _Column(values, time if len(values) else np.empty(0))
    return columns


def _finite(time: Series, path: Path, name: str) -> Series:
    if not np.isfinite(time).all():
        raise UserError(f"{path}, column {name}: a time is not a number")
    return time


def _list(value: Any, path: Path, name: str) -> Series:
    """A list of numbers as (N,)."""
    is_numbers = isinstance(value, list) and all(
        isinstance(item, (int, float)) and not isinstance(item, bool) for item in value
    )
    if not is_numbers:
        raise UserError(f"{path}: {name} must be a list of numbers")
    return np.array(value, dtype=np.float64)
