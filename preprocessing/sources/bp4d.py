"""BP4D+ (Zhang et al. 2016) and MMSE-HR: pictures of F001/T1, zipped or not, and Physiology at 1 kHz."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from preprocessing.picture_zip import PictureZip, folders_in, numbered_members, open_zip
from preprocessing.pictures import SUFFIXES, PictureFolder, numbered_pictures
from preprocessing.sources.base import SOURCES, Labels, RawRecording, Series, Source
from preprocessing.sources.folders import walk
from preprocessing.sources.text import device_rate, folder_of, nothing_found, read_column
from preprocessing.times import tolerated
from utils.errors import UserError
from utils.files import natural_key

_EXPECTED = "2D+3D/F001.zip, or folders F001/T1 of JPEG pictures, and Physiology/F001/T1/BP_mmHg.txt"
_PERSON, _TASK = re.compile(r"[FM]\d{3}"), re.compile(r"T\d+")
_PRESSURE, _RATE, _BREATH = "BP_mmHg.txt", "Pulse Rate_BPM.txt", "Resp_Volts.txt"
_FPS, _LABEL_HZ, _PER_FRAME = 25.0, 1000.0, 40
_NOTED_S = 1.0

Key = tuple[str, str]


@dataclass
class _Found:
    """Where pictures and measurements lie, by (subject, task); archives by subject."""

    pictures: dict[Key, Path] = field(default_factory=dict)
    archives: dict[str, Path] = field(default_factory=dict)
    physiology: dict[Key, Path] = field(default_factory=dict)


@SOURCES.register("bp4d")
class Bp4d(Source):
    """BP4D+ (140 people, 10 tasks) or MMSE-HR (40 people, 102 videos): 25 fps, blood pressure at 1 kHz.

    Both are found by their folders, wherever these lie: pictures in F001.zip or F001/T1, measurements
    in F001/T1. The waveform is the blood pressure; device rate and respiration where they are there.
    Subjects are those of V4V. Condition: task.
    """

    name = "bp4d"
    access = "Agreement with Binghamton University (https://www.cs.binghamton.edu/~lijun/Research/3DFE)."

    def __init__(self, root: Path) -> None:
        """root: the folder with 2D+3D and Physiology; zip files may stay as they are."""
        folder_of(root, "BP4D+ or MMSE-HR", _EXPECTED)
        self._found = _search(root)
        if not self._found.pictures and not self._found.archives:
            raise nothing_found(root, _EXPECTED)

    def recordings(self) -> list[RawRecording]:
        """A recording for each task of each subject of whom there are pictures: F001_T2 before F001_T10.

        The tasks of a zipped subject are those of Physiology. A task that was measured but has no
        pictures is a recording that fails.
        """
        found = self._found
        seen = {subject for subject, _ in found.pictures} | set(found.archives)
        keys = set(found.pictures) | {key for key in found.physiology if key[0] in seen}
        for subject in set(found.archives) - {subject for subject, _ in keys}:
            keys |= {(subject, task) for task in _tasks_in(found.archives[subject])}
        made: list[RawRecording] = [
            Bp4dRecording(
                dataset=self.name, subject=subject, recording=f"{subject}_{task}", people="bp4d", task=task,
                conditions={"task": task}, pictures=found.pictures.get((subject, task)),
                archive=found.archives.get(subject), physiology=found.physiology.get((subject, task)),
            )
            for subject, task in keys
        ]
        return sorted(made, key=lambda item: natural_key(item.recording))

    def notes(self) -> list[str]:
        """People who were measured but are not pictured."""
        seen = {subject for subject, _ in self._found.pictures} | set(self._found.archives)
        alone = sorted({subject for subject, _ in self._found.physiology} - seen)
        return [f"{len(alone)} subjects have measurements but no pictures, the first is {alone[0]}"
                ] if alone else []


def _search(root: Path) -> _Found:
    """Every F001.zip and F001/T1 below `root`, in a fixed order; folders of pictures are not searched."""
    found = _Found()
    for here, subfolders, names in walk(root):
        for name in names:
            if name.endswith(".zip") and _PERSON.fullmatch(name[:-4]):
                found.archives.setdefault(name[:-4], here / name)
        if _PERSON.fullmatch(here.name):
            for task in subfolders:
                if _TASK.fullmatch(task):
                    _note(found, (here.name, task), here / task)
            subfolders.clear()
    return found


def _note(found: _Found, key: Key, folder: Path) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            suffix = "" if entry.name.startswith(".") else Path(entry.name).suffix.lower()
            if suffix in SUFFIXES:
                found.pictures.setdefault(key, folder)
                return
            if suffix == ".txt":
                found.physiology.setdefault(key, folder)


def _tasks_in(archive: Path) -> list[str]:
    """The tasks a zip file holds; none where it cannot be read."""
    try:
        with open_zip(archive) as opened:
            return sorted(name for name in folders_in(opened) if _TASK.fullmatch(name))
    except UserError:
        return ["T1"]  # a recording all the same, which fails with the reason


@dataclass(frozen=True, kw_only=True)
class Bp4dRecording(RawRecording):
    """One task of one subject."""

    task: str
    pictures: Path | None
    archive: Path | None
    physiology: Path | None

    def files(self) -> list[Path]:
        """The pictures or their zip file, and the measurements that are there."""
        seen = numbered_pictures(self.pictures) if self.pictures else [self.archive] if self.archive else []
        if self.physiology is None:
            return seen
        names = [self.physiology / name for name in (_PRESSURE, _RATE, _BREATH)]
        return [*seen, *(path for path in names if path.is_file())]

    def open_frames(self) -> PictureFolder:
        """The pictures by their numbers; UserError where there are none."""
        if self.pictures is not None:
            return PictureFolder(numbered_pictures(self.pictures), fps_declared=_FPS)
        if self.archive is None:
            raise UserError(f"{self.recording}: measured, but there are no pictures of it; copy it again")
        with open_zip(self.archive) as opened:
            members = numbered_members(opened, self.task)
        if not members:
            raise UserError(f"{self.archive}: no pictures in a folder {self.task}; copy the zip file again")
        return PictureZip(self.archive, members, _FPS)

    def labels(self) -> Labels:
        """Blood pressure up to the video's end, device rate, respiration; frames are 1/25 s apart."""
        if self.physiology is None or not (self.physiology / _PRESSURE).is_file():
            raise UserError(f"{self.recording}: no blood pressure; looked for "
                            f"{self.subject}/{self.task}/{_PRESSURE} in Physiology")
        places, lacking = self._places()
        n = int(places[-1]) + 1
        pressure = read_column(self.physiology / _PRESSURE)
        video_s, label_s = n / _FPS, len(pressure) / _LABEL_HZ
        odd = [f"{_PRESSURE}: {label_s:.1f} s, the video {video_s:.1f} s"
               ] if abs(video_s - label_s) > _NOTED_S else []
        rate, no_rate = self._measured(_RATE, len(pressure))
        rate_bpm, missing = device_rate(rate[:: _PER_FRAME], _RATE)
        breath, no_breath = self._measured(_BREATH, len(pressure))
        pressure, breath = pressure[: n * _PER_FRAME], breath[: n * _PER_FRAME]
        return Labels(
            kind="bp", samples=pressure, time_s=np.arange(len(pressure)) / _LABEL_HZ,
            hr_bpm=rate_bpm, hr_time_s=np.arange(len(rate_bpm)) / _FPS,
            resp=breath, resp_time_s=np.arange(len(breath)) / _LABEL_HZ,
            frame_time_s=places / _FPS, warnings=(*lacking, *odd, *no_rate, *missing, *no_breath),
        )

    def _places(self) -> tuple[Series, list[str]]:
        """(T,) each picture's place by the number in its name, so that a missing one moves no other.

        Numbers that do not count by one give the order only.
        """
        reader = self.open_frames()
        places = np.array(reader.numbers, dtype=np.float64) - reader.numbers[0]
        if len(places) > 1 and np.median(np.diff(places)) != 1:
            return np.arange(len(places), dtype=np.float64), []
        n_lacking = int(places[-1]) + 1 - len(places)
        if n_lacking > tolerated(len(places)):
            raise UserError(f"{self.recording}: by their numbers {n_lacking} of {int(places[-1]) + 1} "
                            "pictures are missing; copy the recording again")
        return places, [f"{n_lacking} pictures are missing by their numbers"] if n_lacking else []

    def _measured(self, name: str, n: int) -> tuple[Series, list[str]]:
        """A series that is as long as the blood pressure, n samples; none and a warning otherwise."""
        path = (self.physiology or Path()) / name
        if not path.is_file():
            return np.empty(0), [f"{name} is not there"]
        found = read_column(path)
        if abs(len(found) - n) > _LABEL_HZ * _NOTED_S:
            return np.empty(0), [f"{name}: {len(found)} values but {n} of blood pressure; not used"]
        return found, []
