"""PURE (Stricker et al. 2014): NN-TT with a JSON of nanosecond stamps and a folder of PNG pictures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from preprocessing.pictures import PictureFolder, numbered_pictures, picture_number
from preprocessing.sources.base import SOURCES, FrameReader, Labels, RawRecording, Series, Source
from preprocessing.sources.folders import counted, passed_over
from preprocessing.sources.text import device_rate, folder_of, nothing_found
from preprocessing.times import increasing, tolerated
from utils.errors import UserError
from utils.files import FOREIGN_JSON_BYTES, natural_key, read_json

_NAME = re.compile(r"(\d\d)-(\d\d)")
_TASKS = {
    "01": "steady", "02": "talking", "03": "slow translation", "04": "fast translation",
    "05": "small rotation", "06": "medium rotation", "07": "talking",
}
_EXPECTED = "folders such as 01-01 with 01-01.json and Image1392643993642815000.png, ..."
_NS = 1e-9
N_RECORDINGS, SURPLUS = 59, "07-07"
"""06-02 was never there; 07-07 is a second take that only some copies hold."""
_BAD_SAMPLES = 2
"""The first samples of every label are bad (Gideon and Stent 2021)."""


@SOURCES.register("pure")
class Pure(Source):
    """PURE: 10 people, six kinds of head movement, PNG pictures and finger PPG stamped in nanoseconds.

    The pictures may lie in NN-TT/NN-TT or in NN-TT, the JSON in NN-TT or beside it. Time is that of
    the numbers in the pictures' names, so a missing picture moves no other. The first two samples
    of the label, which are bad, are left out: about 30 ms in which the pulse is unknown.
    """

    name = "pure"
    access = (
        "Free for research; request form of TU Ilmenau, Neuroinformatics and Cognitive Robotics Lab, signed "
        "by a permanent researcher (Stricker, Mueller, Gross 2014)."
    )

    def __init__(self, root: Path) -> None:
        """root: the folder with a folder NN-TT for each recording."""
        folder_of(root, "PURE", _EXPECTED)
        names = {path.name if path.is_dir() else path.name.removesuffix(".json") for path in root.iterdir()}
        found = [name for name in names if _NAME.fullmatch(name)]
        if not found:
            raise nothing_found(root, _EXPECTED)
        self._root = root
        self._folders = [root / name for name in sorted(found, key=natural_key)]

    def recordings(self) -> list[RawRecording]:
        """One recording a folder, or a JSON that has lost its folder; the subject is NN."""
        made: list[RawRecording] = []
        for folder in self._folders:
            subject, _, task = folder.name.partition("-")
            made.append(PureRecording(
                dataset=self.name, subject=subject, recording=folder.name, folder=folder,
                conditions={"task": _TASKS.get(task, task)},
            ))
        return made

    def notes(self) -> list[str]:
        """How many of the set's recordings this copy has, and folders of other names."""
        names = [folder.name for folder in self._folders]
        n = len([name for name in names if name != SURPLUS])
        return [*counted(n, N_RECORDINGS, "recordings"), *passed_over(self._root, names)]


@dataclass(frozen=True, kw_only=True)
class PureRecording(RawRecording):
    """One folder NN-TT."""

    folder: Path

    def files(self) -> list[Path]:
        """The labels and every picture."""
        return [self._json(), *self._pictures()]

    def open_frames(self) -> FrameReader:
        """The pictures, ordered by their numbers."""
        paths = self._pictures()
        return PictureFolder(paths, _seconds(_stamps(paths), _stamps(paths)[0]))

    def labels(self) -> Labels:
        """Pulse and device rate at their stamps, frames at those of their names."""
        path = self._json()
        samples, rate_bpm, stamps, listed = _read(path)
        images = _stamps(self._pictures())
        frame_time_s, warnings = increasing(_seconds(images, images[0]), str(self.folder))
        time_s = _seconds(stamps, images[0])
        rate_bpm, missing = device_rate(rate_bpm, path.name)
        return Labels(
            kind="ppg", samples=samples[_BAD_SAMPLES:], time_s=time_s[_BAD_SAMPLES:],
            hr_bpm=rate_bpm, hr_time_s=time_s, frame_time_s=frame_time_s,
            warnings=(*warnings, *missing, *_compare(images, listed, path)),
        )

    def _json(self) -> Path:
        """In the folder, or beside it."""
        name = f"{self.recording}.json"
        inside, beside = self.folder / name, self.folder.parent / name
        return beside if beside.is_file() and not inside.is_file() else inside

    def _pictures(self) -> list[Path]:
        """In the folder of the same name inside, or in the folder itself."""
        nested = self.folder / self.recording
        paths = numbered_pictures(nested if nested.is_dir() else self.folder, (".png",))
        if not paths:
            raise UserError(f"{self.folder}: no pictures; looked for Image<nanoseconds>.png")
        return paths


def _stamps(paths: list[Path]) -> list[int]:
    """The nanoseconds in the pictures' names, exact: a float would round them to 128 ns or worse."""
    return [picture_number(path) or 0 for path in paths]


def _seconds(stamps: list[int], zero: int) -> Series:
    """(N,) seconds since `zero`."""
    return np.array([stamp - zero for stamp in stamps], dtype=np.float64) * _NS


def _read(path: Path) -> tuple[Series, Series, list[int], list[int]]:
    """Waveform and pulse rate (N,), their N stamps, and the stamps of the pictures the file lists."""
    content = read_json(path, FOREIGN_JSON_BYTES)
    try:
        package, images = content["/FullPackage"], content["/Image"]
        stamps = [_whole(item["Timestamp"]) for item in package]
        samples = [float(item["Value"]["waveform"]) for item in package]
        rates = [float(item["Value"]["pulseRate"]) for item in package]
        listed = [_whole(item["Timestamp"]) for item in images]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"{path}: not a PURE label file ({type(error).__name__}: {error}); needed: /FullPackage with "
            "Timestamp and Value (waveform, pulseRate), and /Image with Timestamp"
        ) from None
    if len(samples) <= _BAD_SAMPLES:
        raise UserError(f"{path}: {len(samples)} label samples in /FullPackage; copy the recording again")
    return np.array(samples), np.array(rates), stamps, listed


def _whole(value: Any) -> int:
    """A stamp, which must be a whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{str(value)[:40]!r} is not a time in nanoseconds")
    return value


def _compare(images: list[int], listed: list[int], path: Path) -> list[str]:
    """A warning where pictures and list differ by a few; UserError where they differ by more."""
    lacking, surplus = len(set(listed) - set(images)), len(set(images) - set(listed))
    if not lacking and not surplus:
        return []
    text = f"{path.name}: {lacking} listed pictures are missing, {surplus} are not listed"
    if max(lacking, surplus) > tolerated(len(listed)):
        raise UserError(
            f"{path}: {lacking} of {len(listed)} listed pictures are missing, {surplus} pictures are not "
            "listed; copy the recording again"
        )
    return [text]
