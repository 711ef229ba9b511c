"""COHFACE (Heusch et al. 2017): 1/0/data.avi with 1/0/data.hdf5, subject by session."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from preprocessing.sources.base import SOURCES, FrameReader, Labels, RawRecording, Series, Source
from preprocessing.sources.folders import counted, passed_over
from preprocessing.sources.text import folder_of, nothing_found
from preprocessing.video import VideoReader
from utils import hdf5
from utils.errors import UserError
from utils.files import natural_key

_EXPECTED = "folders 1/0, 1/1, ... 40/3, each with data.avi and data.hdf5"
_PERSON, _SESSION = re.compile(r"[1-9]\d?"), re.compile(r"[0-3]")
_LIGHTS = {"0": "lamp", "1": "lamp", "2": "natural", "3": "natural"}
_FPS, _LABEL_HZ = 20.0, 256.0
_SAME = 0.02
N_RECORDINGS = 160
_MOST_SAMPLES = 1 << 24
"""Eighteen hours."""


@SOURCES.register("cohface")
class Cohface(Source):
    """COHFACE: 40 people, 4 sessions of a minute in lamp and natural light, heavily compressed video.

    20 fps; pulse and respiration at 256 Hz from the same start. Conditions: light, session.
    """

    name = "cohface"
    access = "End user licence agreement of Idiap, Martigny (https://www.idiap.ch, dataset cohface)."

    def __init__(self, root: Path) -> None:
        """root: the folder with a folder for each subject, 1 to 40, and protocols."""
        folder_of(root, "COHFACE", _EXPECTED)
        self._root = root
        self._folders = [
            session for person in root.iterdir() if person.is_dir() and _PERSON.fullmatch(person.name)
            for session in person.iterdir() if session.is_dir() and _SESSION.fullmatch(session.name)
        ]
        if not self._folders:
            raise nothing_found(root, _EXPECTED)

    def recordings(self) -> list[RawRecording]:
        """A recording for each folder subject/session, 2-0 before 10-0; videos elsewhere are copies."""
        made: list[RawRecording] = [
            CohfaceRecording(
                dataset=self.name, subject=folder.parent.name, folder=folder,
                recording=f"{folder.parent.name}-{folder.name}",
                conditions={"light": _LIGHTS[folder.name], "session": folder.name},
            )
            for folder in self._folders
        ]
        return sorted(made, key=lambda item: natural_key(item.recording))

    def notes(self) -> list[str]:
        """How many of the set's recordings this copy has, and folders of other names."""
        people = {folder.parent.name for folder in self._folders}
        return [*counted(len(self._folders), N_RECORDINGS, "recordings"),
                *passed_over(self._root, people, ("protocols",))]


@dataclass(frozen=True, kw_only=True)
class CohfaceRecording(RawRecording):
    """One session of one subject."""

    folder: Path

    def files(self) -> list[Path]:
        """Video and labels."""
        return [self._video(), self.folder / "data.hdf5"]

    def open_frames(self) -> FrameReader:
        """The frames of data.avi, or of data.mkv where a copy has only that."""
        return VideoReader(self._video())

    def labels(self) -> Labels:
        """Pulse and respiration by their stamps; the frames' times are the container's, 20 a second."""
        path = self.folder / "data.hdf5"
        with hdf5.open_untrusted(path) as opened:
            pulse, breath, stamps = (_series(opened, name) for name in ("pulse", "respiration", "time"))
            stated_hz = hdf5.attribute(opened, "sample-rate-hz")
        if len({len(pulse), len(breath), len(stamps)}) > 1:
            raise UserError(f"{path}: {len(pulse)} samples of pulse, {len(breath)} of respiration, "
                            f"{len(stamps)} of time; they must be as many")
        time_s, odd = _times(stamps, stated_hz)
        fps = VideoReader(self._video()).fps_declared
        if fps is not None and abs(fps / _FPS - 1) > _SAME:
            odd.append(f"{self._video().name}: the container says {fps:.2f} frames a second, COHFACE has 20")
        return Labels(
            kind="ppg", samples=pulse, time_s=time_s, resp=breath, resp_time_s=time_s, warnings=tuple(odd)
        )

    def _video(self) -> Path:
        video, other = self.folder / "data.avi", self.folder / "data.mkv"
        return other if other.is_file() and not video.is_file() else video


def _series(opened: h5py.File, name: str) -> Series:
    found = hdf5.dataset(opened, name)
    if found.ndim != 1 or not 2 <= found.shape[0] <= _MOST_SAMPLES:
        raise UserError(f"{opened.filename}: {name} has shape {found.shape}; a series was expected")
    return hdf5.read_array(opened, name).astype(np.float64)


def _times(stamps: Series, stated_hz: object) -> tuple[Series, list[str]]:
    """Seconds from the first sample; by the rate where the stamps contradict it."""
    rate = float(stated_hz) if isinstance(stated_hz, (int, float, np.number)) else _LABEL_HZ
    span_s = float(stamps[-1] - stamps[0])
    by_stamps = (len(stamps) - 1) / span_s if span_s > 0 else 0.0
    if rate > 0 and abs(by_stamps / rate - 1) <= _SAME:
        return stamps - stamps[0], []
    rate = rate if abs(rate / _LABEL_HZ - 1) <= _SAME else _LABEL_HZ
    text = f"data.hdf5: {by_stamps:.4g} samples a second by its times, {rate:g} by its rate, which was used"
    return np.arange(len(stamps)) / rate, [text]
