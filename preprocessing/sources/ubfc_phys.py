"""UBFC-Phys (Meziati Sabour et al. 2021): sN/{vid_sN_TK.avi, bvp_sN_TK.csv, eda_..., info_sN.txt}."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from preprocessing.sources.base import SOURCES, Frame, FrameReader, Labels, RawRecording, Series, Source
from preprocessing.sources.folders import counted, passed_over
from preprocessing.sources.text import folder_of, nothing_found, read_column, read_text
from preprocessing.video import VideoReader
from utils.errors import UserError
from utils.files import natural_key

_TASKS = {"T1": "rest", "T2": "speech", "T3": "arithmetic"}
_SUBJECT = re.compile(r"s\d+")
_EXPECTED = "folders s1, s2, ... with vid_s1_T1.avi, bvp_s1_T1.csv and info_s1.txt"
_LABEL_HZ = 64.0
N_RECORDINGS = 168
_SEXES = ("m", "f")
_STEP = 16
_JUMP_GREY, _JUMP_TIMES = 12.0, 6.0
"""A last frame that differs from the one before by this much, and this many times as much as that one
from its own, is damaged."""


@SOURCES.register("ubfc_phys")
class UbfcPhys(Source):
    """UBFC-Phys: 56 people at rest, speaking and reckoning, 35 fps video, wrist pulse at 64 Hz.

    Labels and video begin together. Conditions: task, and sex where info_sN.txt states it.
    """

    name = "ubfc_phys"
    access = "Free for research (IEEE DataPort, an account is needed; Meziati Sabour et al. 2021)."

    def __init__(self, root: Path) -> None:
        """root: the folder with a folder sN for each subject."""
        folder_of(root, "UBFC-Phys", _EXPECTED)
        found = [path for path in root.iterdir() if path.is_dir() and _SUBJECT.fullmatch(path.name)]
        if not found:
            raise nothing_found(root, _EXPECTED)
        self._root = root
        self._folders = sorted(found, key=lambda path: natural_key(path.name))

    def recordings(self) -> list[RawRecording]:
        """A recording for each task of which a video or a label is there: s2_T1 before s10_T1."""
        return [
            UbfcPhysRecording(
                dataset=self.name, subject=folder.name, recording=f"{folder.name}_{task}", folder=folder,
                conditions={"task": words, **_sex(folder / f"info_{folder.name}.txt")},
            )
            for folder in self._folders
            for task, words in _TASKS.items()
            if any((folder / f"{name}_{folder.name}_{task}{suffix}").is_file()
                   for name, suffix in (("vid", ".avi"), ("bvp", ".csv")))
        ]

    def notes(self) -> list[str]:
        """How many of the set's videos this copy has, and folders of other names."""
        names = [folder.name for folder in self._folders]
        return [*counted(len(self.recordings()), N_RECORDINGS, "recordings"), *passed_over(self._root, names)]


@dataclass(frozen=True, kw_only=True)
class UbfcPhysRecording(RawRecording):
    """One task of one subject."""

    folder: Path

    def files(self) -> list[Path]:
        """Video and pulse, and the info where it is there."""
        info = self.folder / f"info_{self.subject}.txt"
        return [self._file("vid", ".avi"), self._file("bvp", ".csv"), *([info] if info.is_file() else [])]

    def open_frames(self) -> FrameReader:
        """The video without a last frame that is damaged."""
        return WithoutDamagedEnd(VideoReader(self._file("vid", ".avi")))

    def labels(self) -> Labels:
        """The pulse at 64 Hz from the video's first frame; the frames' times are the video's own."""
        samples = read_column(self._file("bvp", ".csv"))
        return Labels(kind="ppg", samples=samples, time_s=np.arange(len(samples)) / _LABEL_HZ)

    def _file(self, name: str, suffix: str) -> Path:
        return self.folder / f"{name}_{self.recording}{suffix}"


class WithoutDamagedEnd(FrameReader):
    """The frames of another reader, without the last where its picture has nothing to do with the others."""

    def __init__(self, inner: FrameReader) -> None:
        """inner: the reader, not yet iterated."""
        self._inner = inner
        self.n_declared, self.fps_declared, self.warnings = inner.n_declared, inner.fps_declared, []
        self._n = 0

    def as_bgr(self) -> bool:
        """As the inner reader has it."""
        return self._inner.as_bgr()

    def __iter__(self) -> Iterator[Frame]:
        held: Frame | None = None
        usual = latest = 0.0
        for frame in self._inner:
            if held is not None:
                usual, latest = latest, _difference(held, frame)
                self._n += 1
                yield held
            held = frame
            del frame
        self.warnings += self._inner.warnings
        if held is not None and self._n > 1 and latest > max(_JUMP_GREY, _JUMP_TIMES * usual):
            self.warnings.append("the last frame is damaged and left out")
        elif held is not None:
            self._n += 1
            yield held

    @property
    def time_s(self) -> Series:
        """(T,) the inner reader's stamps of the frames that were given."""
        return self._inner.time_s[: self._n]


def _difference(one: Frame, other: Frame) -> float:
    """Mean difference of two pictures in grey levels, on a coarse grid."""
    coarse = (slice(None, None, _STEP), slice(None, None, _STEP))
    return float(np.abs(one[coarse].astype(np.int16) - other[coarse].astype(np.int16)).mean())


def _sex(path: Path) -> dict[str, str]:
    """{"sex": "m" or "f"} from the second line of info_sN.txt; nothing where it does not say."""
    try:
        lines = read_text(path).splitlines()
    except UserError:
        return {}
    word = lines[1].strip().lower() if len(lines) > 1 else ""
    return {"sex": word} if word in _SEXES else {}
