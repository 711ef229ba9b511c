"""UBFC-rPPG DATASET_2 (Bobbia et al. 2017): subjectN/vid.avi with subjectN/ground_truth.txt."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from preprocessing.sources.base import SOURCES, FrameReader, Labels, RawRecording, Series, Source
from preprocessing.sources.folders import counted, passed_over
from preprocessing.sources.text import device_rate, numbers, read_text
from preprocessing.times import increasing
from preprocessing.video import VideoReader
from utils.errors import UserError
from utils.files import FOREIGN_JSON_BYTES, natural_key, read_json

_SUBJECT = re.compile(r"subject\d+")
_LINES = ("pulse", "heart rate", "time")
_TABLE_RATE_HZ = 30.0
N_SUBJECTS = 42

TimeBase = Literal["timestamps", "assume_30fps"]


@SOURCES.register("ubfc_rppg_2")
class UbfcRppg2(Source):
    """UBFC-rPPG DATASET_2: 42 subjects, uncompressed 640x480 video, finger PPG at each frame."""

    name = "ubfc_rppg_2"
    access = (
        "Free for research under the agreement sheet in the bundle; ask the authors of Bobbia et al. 2017 "
        "(https://sites.google.com/view/ybenezeth/ubfcrppg)."
    )

    def __init__(self, root: Path, *, time_base: TimeBase = "timestamps") -> None:
        """root: DATASET_2, with a folder subjectN for each subject.

        time_base: "timestamps", the third line of ground_truth.txt; or "assume_30fps", as
        rPPG-Toolbox takes it, to reproduce its tables.
        """
        if not root.is_dir():
            raise UserError(
                f"{root}: no such folder; set root in data.sets to UBFC-rPPG's DATASET_2, for example by "
                f"--set data.sets.0.root=FOLDER, or make synthetic recordings: main.py synthesise {root}"
            )
        folders = [path for path in root.iterdir() if path.is_dir() and _SUBJECT.fullmatch(path.name)]
        if not folders:
            raise UserError(
                f"{root}: no subject folders; looked for subject1, subject3, ... each with vid.avi and "
                "ground_truth.txt (the root in data.sets of the params should be UBFC-rPPG's DATASET_2)"
            )
        self._root = root
        self._folders = sorted(folders, key=lambda path: natural_key(path.name))
        self._time_base: TimeBase = time_base

    def recordings(self) -> list[RawRecording]:
        """One recording a subject, subject2 before subject10; a folder without video is one, too."""
        return [
            UbfcRecording(
                dataset=self.name, subject=folder.name, recording=folder.name,
                conditions=_conditions(folder / "conditions.json"), folder=folder,
                time_base=self._time_base,
            )
            for folder in self._folders
        ]

    def notes(self) -> list[str]:
        """How many of the set's subjects this copy has, and folders of other names."""
        names = [folder.name for folder in self._folders]
        return [*counted(len(names), N_SUBJECTS, "subjects"), *passed_over(self._root, names)]


@dataclass(frozen=True, kw_only=True)
class UbfcRecording(RawRecording):
    """One subject's folder."""

    folder: Path
    time_base: TimeBase

    def files(self) -> list[Path]:
        """Video, ground truth, and the conditions where there are any."""
        extra = self.folder / "conditions.json"
        found = [self.folder / "vid.avi", self.folder / "ground_truth.txt"]
        return [*found, extra] if extra.is_file() else found

    def open_frames(self) -> FrameReader:
        """The frames of vid.avi."""
        return VideoReader(self.folder / "vid.avi")

    def labels(self) -> Labels:
        """Pulse, device heart rate and frame times; a pulse line of NaN only is no label."""
        path = self.folder / "ground_truth.txt"
        pulse, rate_bpm, time_s = _read_lines(path)
        time_s, warnings = increasing(time_s, str(path))
        if self.time_base == "assume_30fps":
            time_s = np.arange(len(time_s)) / _TABLE_RATE_HZ
        rate_bpm, missing = device_rate(rate_bpm, path.name)
        has_label = not np.isnan(pulse).all()
        if has_label and not np.isfinite(pulse).all():
            n_bad = int((~np.isfinite(pulse)).sum())
            raise UserError(f"{path} line 1 (pulse): {n_bad} of {len(pulse)} values are not finite numbers")
        return Labels(
            kind="ppg" if has_label else "none",
            samples=pulse if has_label else np.empty(0), time_s=time_s if has_label else np.empty(0),
            hr_bpm=rate_bpm, hr_time_s=time_s, frame_time_s=time_s, warnings=(*warnings, *missing),
        )


def _read_lines(path: Path) -> list[Series]:
    """The three lines as arrays of one length."""
    text = read_text(path, "every subject needs a ground_truth.txt")
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if len(lines) != len(_LINES):
        raise UserError(f"{path}: {len(lines)} lines; three are needed: {', '.join(_LINES)}")
    values = [numbers(words, f"{path} line {i} ({_LINES[i - 1]})") for i, words in enumerate(lines, 1)]
    lengths = [len(series) for series in values]
    if len(set(lengths)) > 1:
        counted = ", ".join(f"{name} {n}" for name, n in zip(_LINES, lengths, strict=True))
        raise UserError(f"{path}: the lines differ in length: {counted}")
    return values


def _conditions(path: Path) -> dict[str, str]:
    """Conditions that a made dataset states beside its ground truth; UBFC itself has none."""
    if not path.is_file():
        return {}
    stated = read_json(path, FOREIGN_JSON_BYTES)
    found = stated.get("conditions") if isinstance(stated, dict) else None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise UserError(f'{path}: must hold {{"conditions": {{name: text}}}}')
    return dict(found)
