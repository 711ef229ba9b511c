"""LGI-PPGI (Pilz et al. 2018): <name>/<name>_<activity> with a raw video and two XML files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from preprocessing.sources.base import SOURCES, FrameReader, Labels, RawRecording, Series, Source
from preprocessing.sources.folders import counted, passed_over
from preprocessing.sources.text import device_rate, folder_of, nothing_found, numbers, safe_id
from preprocessing.times import increasing
from preprocessing.video import VideoReader
from utils.errors import UserError
from utils.files import natural_key

_VIDEO = "cv_camera_sensor_stream_handler.avi"
_TIMER = "cv_camera_sensor_timer_stream_handler.xml"
_LABELS = "cms50_stream_handler.xml"
_ACTIVITIES = ("resting", "rotation", "talk", "gym")
_EXPECTED = f"folders such as alex/alex_resting with {_VIDEO}, {_TIMER} and {_LABELS}"
_LABEL_HZ = 60.0
N_RECORDINGS = 24
_MS = 1000.0
_MAX_BYTES = 12 << 20
_LONGEST_MS = 1000.0
_RISING = 0.95


@SOURCES.register("lgi_ppgi")
class LgiPpgi(Source):
    """LGI-PPGI: 6 published people resting, turning, talking and in the gym, finger PPG at 60 Hz.

    The oximeter starts before the camera and ends with it: its samples have no stamps, so they are
    counted back from the last frame, and those before the first frame are left out.
    """

    name = "lgi_ppgi"
    access = "CC BY 4.0; Pilz et al. 2018 (https://github.com/partofthestars/LGI-PPGI-DB)."

    def __init__(self, root: Path) -> None:
        """root: the folder with a folder for each person."""
        folder_of(root, "LGI-PPGI", _EXPECTED)
        found = [
            path for person in root.iterdir() if person.is_dir()
            for path in person.iterdir()
            if path.is_dir() and path.name in {f"{person.name}_{activity}" for activity in _ACTIVITIES}
        ]
        if not found:
            raise nothing_found(root, _EXPECTED)
        self._root = root
        self._folders = sorted(found, key=lambda path: natural_key(path.name))

    def recordings(self) -> list[RawRecording]:
        """One recording an activity; the subject is the name."""
        return [
            LgiRecording(
                dataset=self.name, subject=folder.parent.name, recording=safe_id(folder.name), folder=folder,
                conditions={"activity": folder.name.removeprefix(f"{folder.parent.name}_")},
            )
            for folder in self._folders
        ]

    def notes(self) -> list[str]:
        """How many of the published recordings this copy has, and folders of other names."""
        people = {folder.parent.name for folder in self._folders}
        return [*counted(len(self._folders), N_RECORDINGS, "recordings"), *passed_over(self._root, people)]


@dataclass(frozen=True, kw_only=True)
class LgiRecording(RawRecording):
    """One folder <name>_<activity>."""

    folder: Path

    def files(self) -> list[Path]:
        """Video, times and labels."""
        return [self.folder / name for name in (_VIDEO, _TIMER, _LABELS)]

    def open_frames(self) -> FrameReader:
        """The frames of the raw video."""
        return VideoReader(self.folder / _VIDEO)

    def labels(self) -> Labels:
        """Pulse and device rate, counted back at 60 Hz from the last frame's time."""
        frame_time_s, warnings = _frame_times(self.folder / _TIMER)
        path = self.folder / _LABELS
        found = read_values(path, ("value1", "value2"))
        rate_bpm, samples = found["value1"], found["value2"]
        if len(rate_bpm) != len(samples):
            raise UserError(f"{path}: {len(rate_bpm)} heart rates (value1), {len(samples)} pulses (value2)")
        time_s = frame_time_s[-1] - np.arange(len(samples))[::-1] / _LABEL_HZ
        inside = time_s >= frame_time_s[0] - 1 / _LABEL_HZ
        rate_bpm, missing = device_rate(rate_bpm[inside], path.name)
        if not inside.all():
            n_before = int((~inside).sum())
            warnings.append(f"{path.name}: {n_before} samples before the first frame are left out")
        return Labels(
            kind="ppg", samples=samples[inside], time_s=time_s[inside], hr_bpm=rate_bpm,
            hr_time_s=time_s[inside], frame_time_s=frame_time_s, warnings=(*warnings, *missing),
        )


def _frame_times(path: Path) -> tuple[Series, list[str]]:
    """(T,) seconds from 0: value1 holds milliseconds, either since the start or since the last frame."""
    values = read_values(path, ("value1",))["value1"]
    if len(values) < 2 or not np.isfinite(values).all():
        raise UserError(f"{path}: {len(values)} frame times (value1) that can be used; at least 2 are needed")
    if (np.diff(values) > 0).mean() < _RISING:
        if not ((values > 0) & (values < _LONGEST_MS)).all():
            raise UserError(f"{path}: value1 is neither a rising time nor the milliseconds of each frame")
        values = np.cumsum(values)
    return increasing((values - values[0]) / _MS, str(path))


def read_values(path: Path, names: tuple[str, ...]) -> dict[str, Series]:
    """The numbers in all elements of these names, in the file's order, each as (N,).

    Nothing of the file is trusted: it is read piece by piece and refused when it is larger than
    12 MiB or defines a document type, which is where entities that grow or point elsewhere come from.
    UserError names the file and what is wrong.
    """
    words: dict[str, list[str]] = {name: [] for name in names}
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UserError(f"{path}: larger than {_MAX_BYTES >> 20} MiB, not read")
        _refuse_document_type(path)
        for _, element in ElementTree.iterparse(path):
            if element.tag in words:
                words[element.tag].append((element.text or "").strip())
            element.clear()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; copy the recording again") from None
    except (ElementTree.ParseError, expat.ExpatError, LookupError, ValueError) as error:
        raise UserError(f"{path}: not an XML file ({str(error)[:200]}); copy the recording again") from None
    return {name: numbers(found, f"{path}, {name}") for name, found in words.items()}


def _refuse_document_type(path: Path) -> None:
    """UserError when the file defines a document type, before any entity can be used."""

    def refuse(*_: object) -> None:
        raise UserError(f"{path}: defines a document type (DOCTYPE), not read")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    with open(path, "rb") as handle:
        parser.ParseFile(handle)
