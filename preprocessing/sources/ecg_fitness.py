"""ECG-Fitness (Spetlik et al. 2018): 00/01/{c920-1.avi, c920-2.avi, c920.csv, viatom-raw.csv}."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from preprocessing.ecg import r_peaks, rate_over_time
from preprocessing.sources.base import SOURCES, FrameReader, Labels, RawRecording, Series, Source
from preprocessing.sources.text import device_rate, folder_of, nothing_found, numbers, read_text
from preprocessing.times import increasing
from preprocessing.video import VideoReader
from utils.errors import UserError
from utils.files import natural_key
from utils.signal import to_uniform

Label = Literal["ppg", "ecg"]

CAMERAS: dict[str, str] = {"c920-1": "tripod", "c920-2": "machine"}
N_SESSIONS = 100
"""Of 17 subjects in 6 sessions; 02/04 and 07/02 were never there."""

_EXPECTED = "folders 00/01 to 16/06, each with c920-1.avi, c920-2.avi, c920.csv and viatom-raw.csv"
_PERSON, _SESSION = re.compile(r"\d\d"), re.compile(r"0[1-6]")
_TASKS = {"01": "talk", "02": "row", "03": "talk", "04": "row", "05": "elliptical", "06": "bike"}
_LIGHTS = {"01": "daylight", "02": "daylight", "03": "lamp", "04": "lamp"}
_SWAPPED = {("11", "01"): "02", ("11", "02"): "01"}
_BYTE = 256
_RATE_STEP_S = 0.25


@SOURCES.register("ecg_fitness")
class EcgFitness(Source):
    """ECG-Fitness: 17 people talking, rowing, cycling before two cameras, with finger pulse and ECG.

    Frames have the times of the meter's samples that c920.csv assigns to them. Both cameras of a
    session show one subject at one time. Conditions: task, light, camera, session; subject 11 did the
    first two sessions in the other order, which `task` takes into account.
    """

    name = "ecg_fitness"
    access = "On request from the Center for Machine Perception, CTU Prague (http://cmp.felk.cvut.cz)."

    def __init__(self, root: Path, *, label: Label = "ppg") -> None:
        """root: the folder with a folder for each subject, 00 to 16.

        label: "ppg", the finger pulse, with the meter's heart rate; or "ecg", whose R peaks give the
        heart rate, without a pulse to train on.
        """
        folder_of(root, "ECG-Fitness", _EXPECTED)
        self._folders = [
            session for person in root.iterdir() if person.is_dir() and _PERSON.fullmatch(person.name)
            for session in person.iterdir() if session.is_dir() and _SESSION.fullmatch(session.name)
        ]
        if not self._folders:
            raise nothing_found(root, _EXPECTED)
        self._label: Label = label

    def recordings(self) -> list[RawRecording]:
        """A recording for each camera of each session."""
        made: list[RawRecording] = [
            FitnessRecording(
                dataset=self.name, subject=folder.parent.name, folder=folder, camera=camera,
                recording=f"{folder.parent.name}-{folder.name}-{camera}", label=self._label,
                conditions={**_conditions(folder), "camera": place, "session": folder.name},
            )
            for folder in self._folders for camera, place in CAMERAS.items()
        ]
        return sorted(made, key=lambda item: natural_key(item.recording))

    def notes(self) -> list[str]:
        """How many sessions this copy has, where it has not all."""
        n = len(self._folders)
        return [] if n == N_SESSIONS else [f"{n} of {N_SESSIONS} sessions"]


def _conditions(folder: Path) -> dict[str, str]:
    session = _SWAPPED.get((folder.parent.name, folder.name), folder.name)
    light = _LIGHTS.get(folder.name)
    return {"task": _TASKS[session], **({"light": light} if light else {})}


@dataclass(frozen=True, kw_only=True)
class FitnessRecording(RawRecording):
    """One camera in one session."""

    folder: Path
    camera: str
    label: Label

    def files(self) -> list[Path]:
        """Video, samples of its frames, signals."""
        return [self.folder / f"{self.camera}.avi", self.folder / "c920.csv", self.folder / "viatom-raw.csv"]

    def open_frames(self) -> FrameReader:
        """The frames of this camera."""
        return VideoReader(self.folder / f"{self.camera}.avi")

    def labels(self) -> Labels:
        """Pulse or ECG, heart rate and frame times, counted from the first frame."""
        table, odd = _signals(self.folder / "viatom-raw.csv"), []
        index = _frame_samples(self.folder / "c920.csv", len(table))
        time_s = (table[:, 0] - table[index[0], 0]) / 1000.0
        column = table[:, 3 if self.label == "ppg" else 1]
        there = np.isfinite(column)
        if there.sum() < 2:
            raise UserError(f"{self.folder / 'viatom-raw.csv'}: no {self.label.upper()} in it")
        inner = ~there[np.flatnonzero(there)[0] : np.flatnonzero(there)[-1]]
        if inner.any():
            odd.append(f"viatom-raw.csv: {int(inner.sum())} missing samples inside the {self.label.upper()}")
        samples, sample_time_s = column[there], time_s[there]
        frame_time_s = time_s[index]
        if self.label == "ecg":
            rate_bpm, rate_time_s = _by_ecg(samples, sample_time_s, self.recording)
        else:
            rate_bpm, missing = device_rate(_unwrapped(table[:, 2]), "viatom-raw.csv")
            odd, rate_time_s = [*odd, *missing], time_s
        shown = (rate_time_s >= 0) & (rate_time_s <= frame_time_s[-1])
        return Labels(
            kind=self.label, samples=samples, time_s=sample_time_s, hr_bpm=rate_bpm[shown],
            hr_time_s=rate_time_s[shown], frame_time_s=frame_time_s, warnings=tuple(odd),
            covers_session=True,
        )


def _rows(path: Path) -> list[list[str]]:
    """Cells of a comma- or semicolon-separated file, without a line of column names at its top."""
    lines = [line for line in read_text(path).splitlines() if line.strip()]
    cells = [re.split(r"\s*[,;\t]\s*", line.strip()) for line in lines]
    try:
        float(cells[0][0])
    except ValueError:
        return cells[1:]
    return cells


def _signals(path: Path) -> NDArray[np.float64]:
    """(N, 4) milliseconds, ECG, heart rate, pulse, up to the last line that has a time."""
    cells = _rows(path)
    short = next((i for i, row in enumerate(cells) if len(row) < 4), None)
    if not cells or short is not None:
        raise UserError(f"{path}: row {1 if short is None else short + 1} lacks some of milliseconds, ECG, "
                        "heart rate and pulse")
    columns = [numbers([row[k] or "nan" for row in cells], f"{path}, column {k + 1}") for k in range(4)]
    table = np.stack(columns, axis=1)
    timed = np.flatnonzero(np.isfinite(table[:, 0]))
    if not len(timed) or len(timed) != timed[-1] + 1:
        raise UserError(f"{path}: times are missing, {len(timed)} of {len(table)} are there")
    return table[: len(timed)]


def _frame_samples(path: Path, n_samples: int) -> NDArray[np.int64]:
    """(T,) index of the meter's sample at each frame: the last column, counted from 0 or from 1."""
    cells = _rows(path)
    index = numbers([row[-1] for row in cells], str(path))
    if len(index) < 2 or not (index == np.rint(index)).all() or index.min() < 0 or index.max() > n_samples:
        raise UserError(f"{path}: whole numbers from 0 to {n_samples} (rows of viatom-raw.csv) were expected")
    from_one = index.max() == n_samples
    return index.astype(np.int64) - int(from_one)


def _unwrapped(rate_bpm: Series) -> Series:
    """Heart rates that were stored in a signed byte: below zero they lack 256."""
    return np.where(rate_bpm < 0, rate_bpm + _BYTE, rate_bpm)


def _by_ecg(ecg: Series, time_s: Series, what: str) -> tuple[Series, Series]:
    """Heart rate four times a second, and these times."""
    time_s, _ = increasing(time_s, f"{what}: ECG")
    even, fs = to_uniform(ecg, time_s)
    at_s = np.arange(time_s[0], time_s[-1], _RATE_STEP_S)
    return rate_over_time(r_peaks(even, fs) + time_s[0], at_s), at_s
