"""V4V (Revanur et al. 2021, ICCV challenge): F001_T1.mkv, rates a frame, blood pressure at 1 kHz."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from preprocessing.sources.base import SOURCES, FrameReader, Labels, RawRecording, Series, Source
from preprocessing.sources.folders import walk
from preprocessing.sources.text import device_rate, folder_of, nothing_found, numbers, read_column
from preprocessing.video import VideoReader
from utils.errors import UserError
from utils.files import natural_key

TimeBase = Literal["25", "container"]

_EXPECTED = "F001_T1.mkv and so on in the challenge's folders, the archives unpacked"
_NAME = re.compile(r"([FM]\d{3})[_-](T\d+)")
_PARTS = ("train", "valid", "test")
_FPS, _PRESSURE_HZ = 25.0, 1000.0
_LINE_BYTES = 4 << 20
"""More than a line of rates can have: a week at 25 a second."""


@dataclass
class _Found:
    """The files of a copy by recording, wherever they lie in it."""

    videos: list[Path] = field(default_factory=list)
    rates: dict[str, Path] = field(default_factory=dict)
    pressure: dict[str, Path] = field(default_factory=dict)
    releases: list[Path] = field(default_factory=list)


@SOURCES.register("v4v")
class V4V(Source):
    """V4V challenge: people of BP4D+ in tasks that stir emotions, 25 fps, blood pressure at 1 kHz.

    The waveform is the blood pressure; the heart rate is the device's, a value a frame, from
    Physiology or, for validation and test, from the *_gt_release.txt files. The respiration rate
    beside it is not a waveform and is not read. Conditions: task, and part (train, valid, test).
    """

    name = "v4v"
    access = (
        "Agreement for BP4D+/V4V with Binghamton University (https://vision4vitals.github.io); "
        "challenge: codalab 31978."
    )

    def __init__(self, root: Path, *, time_base: TimeBase = "25") -> None:
        """root: the folder with the challenge's two phases, or any part of it.

        time_base: "25", as the set defines it: a rate a frame and 40 samples of pressure a frame, so a
        video of another length is refused; or "container", the stamps of the MKV.
        """
        folder_of(root, "V4V", _EXPECTED)
        self._root, self._time_base = root, time_base
        self._found = _search(root)
        if not self._found.videos:
            raise nothing_found(root, _EXPECTED)

    def recordings(self) -> list[RawRecording]:
        """A recording for each video: F001_T2 before F001_T10."""
        made = [self._recording(path) for path in self._found.videos]
        return sorted(made, key=lambda item: natural_key(item.recording))

    def notes(self) -> list[str]:
        """Labels without a video: not recordings, but worth a word."""
        there = {path.stem for path in self._found.videos}
        alone = sorted({*self._found.rates, *self._found.pressure} - there)
        return [f"{len(alone)} recordings have labels but no video, the first is {alone[0]}"] if alone else []

    def _recording(self, video: Path) -> RawRecording:
        subject, task = video.stem.split("_")
        own = self._found.rates.get(video.stem)
        words = [part.lower() for part in video.relative_to(self._root).parts[:-1]]
        part = next((p for word in reversed(words) for p in _PARTS if word.startswith(p)), None)
        return V4VRecording(
            dataset=self.name, subject=subject, recording=video.stem, people="bp4d", video=video,
            conditions={"task": task, **({"part": part} if part else {})}, time_base=self._time_base,
            rates=(own,) if own else tuple(self._found.releases),
            pressure=self._found.pressure.get(video.stem),
        )


def _search(root: Path) -> _Found:
    """All videos and label files below `root`, in a fixed order."""
    found = _Found()
    for folder, _, names in walk(root):
        for name in names:
            path = folder / name
            match = _NAME.match(path.stem)
            key = f"{match[1]}_{match[2]}" if match else ""
            if path.suffix == ".mkv" and key == path.stem:
                found.videos.append(path)
            elif name.endswith("_gt_release.txt"):
                found.releases.append(path)
            elif path.suffix == ".txt" and key:
                is_pressure = path.stem.endswith("-BP") or path.parent.name.endswith("_bp")
                (found.pressure if is_pressure else found.rates).setdefault(key, path)
    return found


@dataclass(frozen=True, kw_only=True)
class V4VRecording(RawRecording):
    """One video with its rates and its blood pressure."""

    video: Path
    rates: tuple[Path, ...]
    """Files that may hold its heart rate."""
    pressure: Path | None
    time_base: TimeBase

    def files(self) -> list[Path]:
        """The video and the label files."""
        return [self.video, *self.rates, *([self.pressure] if self.pressure else [])]

    def open_frames(self) -> FrameReader:
        """The frames of the MKV."""
        return VideoReader(self.video)

    def labels(self) -> Labels:
        """Blood pressure up to the video's end, the device's heart rate and the frames' times."""
        if self.pressure is None:
            name = self.recording.replace("_", "-")
            raise UserError(f"{self.recording}: no blood pressure; looked for {name}-BP.txt, or {name}.txt "
                            "in a folder such as test_set_bp")
        path, rate_bpm = self._rate()
        rate_bpm, missing = device_rate(rate_bpm, path.name)
        time_s = np.arange(len(rate_bpm)) / _FPS
        pressure = read_column(self.pressure)[: round(len(rate_bpm) * _PRESSURE_HZ / _FPS)]
        return Labels(
            kind="bp", samples=pressure, time_s=np.arange(len(pressure)) / _PRESSURE_HZ,
            hr_bpm=rate_bpm, hr_time_s=time_s, frame_time_s=time_s if self.time_base == "25" else None,
            warnings=tuple(missing),
        )

    def _rate(self) -> tuple[Path, Series]:
        """The file that holds this video's heart rates, and they, one a frame."""
        for path in self.rates:
            for cells in _lines(path):
                if cells[0].strip() in (self.video.name, self.video.stem) and cells[1].strip() == "HR":
                    words = [word for word in cells[2].split(",") if word.strip()]
                    return path, numbers(words, f"{path}, HR of {self.video.name}")
        looked = ", ".join(path.name for path in self.rates) or "Physiology and *_gt_release.txt"
        raise UserError(
            f"{self.recording}: no heart rates; looked for a line '{self.video.name}, HR, ...' in {looked}"
        )


def _lines(path: Path) -> Iterator[list[str]]:
    """Name, kind and the rest of each line; memory for one line only."""
    with open(path, encoding="utf-8-sig", errors="replace") as handle:
        while line := handle.readline(_LINE_BYTES):
            if len(line) == _LINE_BYTES:
                raise UserError(f"{path}: a line of more than {_LINE_BYTES:,} characters, not read")
            cells = line.rstrip("\r\n").split(",", 2)
            if len(cells) == 3:
                yield cells
