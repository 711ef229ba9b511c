"""SCAMPS (McDuff et al. 2022): P000001.mat, ..., synthetic people in MATLAB v7.3 files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from preprocessing.frames import Series
from preprocessing.matlab import MatFile
from preprocessing.scratch import VideoShape
from preprocessing.sources.base import SOURCES, FrameReader, Labels, RawRecording, Source
from preprocessing.sources.text import folder_of, nothing_found
from utils.errors import UserError
from utils.files import natural_key

_FILE = re.compile(r"P\d+\.mat")
_EXPECTED = "files such as P000001.mat"
_RATE_HZ = 30.0
"""Of pictures and signals alike, by construction (McDuff et al. 2022)."""
_PULSE, _BREATH = "d_ppg", "d_br"
_MAX_SAMPLES = 1_000_000
N_RECORDINGS = 2800

Frames = Literal["RawFrames", "Xsub"]


@SOURCES.register("scamps")
class Scamps(Source):
    """SCAMPS: 2800 synthetic people, 20 s each at 30 frames a second, exact pulse and respiration."""

    name = "scamps"
    access = (
        "Open download, free for research under the licence beside it "
        "(https://github.com/danmcduff/scampsdataset; McDuff et al. 2022)."
    )

    def __init__(self, root: Path, *, frames: Frames = "RawFrames") -> None:
        """root: the folder with P000001.mat, P000002.mat, ...

        frames: "RawFrames", the whole picture of 320x240, in which a face is looked for; or "Xsub",
        the face crop of 240x240 in the same file, which is taken as it is.
        """
        folder_of(root, "SCAMPS", _EXPECTED)
        found = [path for path in root.iterdir() if path.is_file() and _FILE.fullmatch(path.name)]
        if not found:
            raise nothing_found(root, _EXPECTED)
        self._paths = sorted(found, key=lambda path: natural_key(path.name))
        self._frames: Frames = frames

    def recordings(self) -> list[RawRecording]:
        """One recording a file, each of a person of its own."""
        return [
            ScampsRecording(
                dataset=self.name, subject=path.stem, recording=path.stem, path=path,
                conditions={"origin": "synthetic"}, is_crop=self._frames == "Xsub", frames=self._frames,
            )
            for path in self._paths
        ]

    def notes(self) -> list[str]:
        """How many of the set's files this copy has, where it has not all."""
        n = len(self._paths)
        return [] if n == N_RECORDINGS else [f"{n} of {N_RECORDINGS} files"]


@dataclass(frozen=True, kw_only=True)
class ScampsRecording(RawRecording):
    """One file."""

    path: Path
    frames: Frames

    def files(self) -> list[Path]:
        """The one file."""
        return [self.path]

    def open_frames(self) -> FrameReader:
        """The chosen pictures, read in blocks through a temporary file."""
        return MatFile(self.path).video(self.frames, _RATE_HZ)

    def labels(self) -> Labels:
        """Pulse and respiration at each frame."""
        data = MatFile(self.path)
        n_frames = VideoShape.from_dims(data.dims(self.frames), f"{self.path}: {self.frames}").frames
        time_s = np.arange(n_frames) / _RATE_HZ
        has_breath = _BREATH in data
        breath = _at_frames(data, _BREATH, n_frames) if has_breath else np.empty(0)
        return Labels(
            kind="ppg", samples=_at_frames(data, _PULSE, n_frames), time_s=time_s, resp=breath,
            resp_time_s=time_s if has_breath else np.empty(0), frame_time_s=time_s,
            warnings=() if has_breath else (f"{self.path.name}: no respiration ({_BREATH})",),
        )


def _at_frames(data: MatFile, name: str, n_frames: int) -> Series:
    """A signal with one value for each frame; UserError otherwise."""
    values = data.series(name, _MAX_SAMPLES)
    if len(values) != n_frames:
        raise UserError(f"{data.path}: {len(values)} values of {name} for {n_frames} frames; copy it again")
    return values
