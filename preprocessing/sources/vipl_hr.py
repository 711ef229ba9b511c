"""VIPL-HR V1 (Niu et al. 2018): data/pN/vM[-2]/sourceK/{video.avi, time.txt, wave.csv, gt_HR.csv}."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from preprocessing.sources.base import SOURCES, FrameReader, Labels, RawRecording, Series, Source
from preprocessing.sources.text import device_rate, folder_of, nothing_found, numbers, read_text
from preprocessing.video import VideoReader
from utils.errors import UserError
from utils.files import natural_key

Scenario = Literal["v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9"]
Camera = Literal["source1", "source2", "source3"]
Source2Time = Literal["hr_rows", "30", "container"]
WaveTime = Literal["60hz", "stretch"]

SCENARIOS: dict[str, str] = {
    "v1": "stable", "v2": "large motion", "v3": "talking", "v4": "dark", "v5": "bright",
    "v6": "long distance", "v7": "after exercise", "v8": "phone held still", "v9": "phone with motion",
}
"""As the set's ReadMe names them; one document in circulation exchanges v4 and v5."""
CAMERAS: dict[str, str] = {"source1": "webcam", "source2": "phone", "source3": "RealSense"}
N_SUBJECTS = 107
COUNTS: dict[str, tuple[int, int, int]] = {
    "v1": (95, 107, 107), "v1-2": (5, 6, 6), "v2": (93, 107, 107), "v3": (95, 106, 106),
    "v3-2": (0, 1, 1), "v4": (96, 107, 107), "v5": (93, 107, 106), "v6": (94, 106, 106),
    "v7": (91, 106, 105), "v8": (0, 106, 0), "v9": (0, 105, 0), "v9-2": (0, 1, 0),
}
"""Recordings of source1, source2, source3 in a whole copy: 2378."""

_EXPECTED = "data/p1/v1/source1/video.avi and so on, the zip files unpacked"
_PERSON, _PARTS = re.compile(r"p[1-9]\d*"), re.compile(r"p\d+-\d+")
_TAKE = re.compile(r"(v[1-9])(?:-([2-9]))?")
_WAVE_HZ = 60.0
_PHONE_HZ, _PHONE_RANGE_HZ = 30.0, (28.0, 32.0)
_POSSIBLE_HZ = (5.0, 120.0)
_LABEL_S = 2.0
_NOTED_S = 1.0
_SPO2_CODES = (44.0, 127.0)


@SOURCES.register("vipl_hr")
class ViplHr(Source):
    """VIPL-HR: 107 people, 9 scenarios, webcam, phone and RealSense; cropped faces, finger pulse at 60 Hz.

    Frames have the times of time.txt, never the container's 25 frames a second. The phone (source2)
    has none: see `source2_time`. Near infrared (source4) is left out. Pulse and video begin together
    but are not tightly aligned; the device's rate (1 Hz) is what the field's tables use. The cameras
    of one take share its labels, so subjects must stay on one side of a split. Conditions: scenario,
    source, take.
    """

    name = "vipl_hr"
    access = (
        "Signed release agreement by full-time staff of a research institution; VIPL, Institute of "
        "Computing Technology, CAS (https://vipl.ict.ac.cn)."
    )

    def __init__(
        self, root: Path, *,
        scenarios: Sequence[Scenario] = ("v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9"),
        sources: Sequence[Camera] = ("source1", "source2", "source3"),
        source2_time: Source2Time = "hr_rows", wave_time: WaveTime = "60hz",
    ) -> None:
        """root: VIPL-HR-V1, or its folder data, with a folder pN for each subject.

        scenarios, sources: which to read; a scenario's second takes (v1-2) belong to it.
        source2_time: the phone's frame rate. "hr_rows": number of frames over the seconds that gt_HR.csv
        covers, good to a second in the video's length (3 % of half a minute); outside 28..32 it is used
        with a warning. "30": nominal. "container": as the AVI says, which is wrong for the other sources.
        wave_time: "60hz", the meter's own rate from the first frame on; or "stretch", spread from the
        first to the last frame as papers do, with a warning where that is another rate.
        """
        folder_of(root, "VIPL-HR-V1", _EXPECTED)
        self._people = _people(root)
        if not self._people:
            raise nothing_found(root, _EXPECTED)
        self._scenarios, self._sources = tuple(scenarios), tuple(sources)
        self._source2_time, self._wave_time = source2_time, wave_time

    def recordings(self) -> list[RawRecording]:
        """A recording for each sourceK folder, complete or not: p2-v1-source1 before p10-v1-source1."""
        made: list[RawRecording] = [
            ViplRecording(
                dataset=self.name, subject=person.name, recording=f"{person.name}-{take.name}-{source}",
                conditions={"scenario": SCENARIOS[scenario], "source": source, "take": number},
                is_crop=True, folder=take / source, wave_time=self._wave_time,
                source2_time=self._source2_time if source == "source2" else None,
            )
            for person in self._people
            for take, scenario, number in _takes(person) if scenario in self._scenarios
            for source in CAMERAS if source in self._sources and (take / source).is_dir()
        ]
        return sorted(made, key=lambda item: natural_key(item.recording))

    def notes(self) -> list[str]:
        """How this copy differs from a whole one, by scenario and source; nothing where it does not."""
        found = Counter(
            (item.recording.partition("-")[2].rpartition("-")[0], item.conditions["source"])
            for item in self.recordings()
        )
        wanted = {
            (take, source): n for take, counts in COUNTS.items()
            for source, n in zip(CAMERAS, counts, strict=True)
            if take.partition("-")[0] in self._scenarios and source in self._sources
        }
        differing = [
            f"{take} {source} {found[take, source]} of {n}"
            for (take, source), n in wanted.items() if found[take, source] != n
        ]
        differing += [f"{take} {source} {n} of none" for (take, source), n in found.items()
                      if (take, source) not in wanted]
        if not differing:
            return []
        n = len(self._people)
        text = f"{n} of {N_SUBJECTS} subjects, {found.total()} of {sum(wanted.values())} recordings"
        return [f"{text}: {', '.join(differing)}" if n == N_SUBJECTS else text]


def _people(root: Path) -> list[Path]:
    """The folders pN in the root, in its data, or in folders named as the zip files are (p1-5)."""
    places = [root, root / "data"]
    places += [path for place in places if place.is_dir() for path in place.iterdir()
               if path.is_dir() and _PARTS.fullmatch(path.name)]
    found = {path.name: path for place in reversed(places) if place.is_dir() for path in place.iterdir()
             if path.is_dir() and _PERSON.fullmatch(path.name)}
    return sorted(found.values(), key=lambda path: natural_key(path.name))


def _takes(person: Path) -> list[tuple[Path, str, str]]:
    """(folder, scenario, number of the take) of a person's vM and vM-2."""
    found = []
    for path in sorted(person.iterdir(), key=lambda path: natural_key(path.name)):
        match = _TAKE.fullmatch(path.name)
        if match and path.is_dir():
            found.append((path, match[1], match[2] or "1"))
    return found


@dataclass(frozen=True, kw_only=True)
class ViplRecording(RawRecording):
    """One sourceK folder."""

    folder: Path
    wave_time: WaveTime
    source2_time: Source2Time | None
    """How the frames are timed where there is no time.txt; None: there must be one."""

    def files(self) -> list[Path]:
        """Video, labels, and the time stamps and the oxygen saturation where they are there."""
        extra = ["gt_SpO2.csv", *(["time.txt"] if self.source2_time is not None else [])]
        needed = ["video.avi", "wave.csv", "gt_HR.csv", *(["time.txt"] if self.source2_time is None else [])]
        return [self.folder / name for name in needed] + [
            self.folder / name for name in extra if (self.folder / name).is_file()
        ]

    def open_frames(self) -> FrameReader:
        """The frames of video.avi."""
        return VideoReader(self.folder / "video.avi")

    def labels(self) -> Labels:
        """Pulse, device heart rate up to the last frame, and frame times.

        UserError names a file that is missing or damaged.
        """
        rate_bpm, missing = device_rate(_column(self.folder / "gt_HR.csv", "HR"), "gt_HR.csv")
        frame_time_s, odd = self._frame_times(len(rate_bpm))
        wave = _column(self.folder / "wave.csv", "Wave")
        time_s, differing = self._wave_times(len(wave), frame_time_s, len(rate_bpm))
        rate_time_s = np.arange(len(rate_bpm), dtype=np.float64)
        shown = rate_time_s <= frame_time_s[-1]
        return Labels(
            kind="ppg", samples=wave, time_s=time_s, hr_bpm=rate_bpm[shown], hr_time_s=rate_time_s[shown],
            frame_time_s=frame_time_s, warnings=(*missing, *odd, *differing, *self._saturation()),
        )

    def _frame_times(self, n_rates: int) -> tuple[Series, list[str]]:
        """The milliseconds of time.txt in seconds; for the phone the index over its rate."""
        path = self.folder / "time.txt"
        if self.source2_time is None or path.is_file():
            return numbers(read_text(path).split(), str(path)) / 1000.0, []
        reader = VideoReader(self.folder / "video.avi")
        n = reader.n_declared
        if not n:
            raise UserError(f"{reader.path}: it states no number of frames, so their times are unknown")
        if self.source2_time == "30":
            return np.arange(n) / _PHONE_HZ, []
        if self.source2_time == "container" and reader.fps_declared:
            return np.arange(n) / reader.fps_declared, []
        return self._by_rates(n, n_rates)

    def _by_rates(self, n: int, n_rates: int) -> tuple[Series, list[str]]:
        fps = n / max(1, n_rates - 1)
        text = f"{n} frames in the {n_rates - 1} s of gt_HR.csv are {fps:.2f} a second"
        if not _POSSIBLE_HZ[0] <= fps <= _POSSIBLE_HZ[1]:
            raise UserError(f"{self.folder}: {text}; the labels do not belong to this video")
        low, high = _PHONE_RANGE_HZ
        odd = [] if low <= fps <= high else [f"{text}, not {low:g} to {high:g}: its times are doubtful"]
        return np.arange(n) / fps, odd

    def _wave_times(self, n: int, frame_time_s: Series, n_rates: int) -> tuple[Series, list[str]]:
        """Times of the pulse's samples, and a warning where the files tell of different durations."""
        wave_s, video_s = (n - 1) / _WAVE_HZ, float(frame_time_s[-1])
        if self.wave_time == "stretch":
            changed = [] if abs(wave_s - video_s) <= _NOTED_S else [
                f"wave.csv: {wave_s:.1f} s at 60 Hz were spread over the video's {video_s:.1f} s"
            ]
            return np.linspace(0, video_s, n), changed
        notes = []
        if abs(wave_s - n_rates) > _LABEL_S:
            notes.append(f"wave.csv: {wave_s:.1f} s at 60 Hz, but gt_HR.csv holds {n_rates} s")
        if abs(wave_s - video_s) > _NOTED_S:
            notes.append(f"wave.csv: {wave_s:.1f} s at 60 Hz, the video {video_s:.1f} s")
        return np.arange(n) / _WAVE_HZ, notes

    def _saturation(self) -> list[str]:
        """A warning where the meter gave codes for the oxygen saturation: it may have sat loosely."""
        path = self.folder / "gt_SpO2.csv"
        if not path.is_file():
            return []
        n_codes = int(np.isin(_column(path, "SpO2"), _SPO2_CODES).sum())
        return [f"gt_SpO2.csv: {n_codes} values are codes (44, 127); was the meter loose?"] if n_codes else []


def _column(path: Path, header: str) -> Series:
    """The numbers below the header, one a line; UserError where there are none."""
    words = read_text(path).split()
    if words[0].strip('",').casefold() == header.casefold():
        words = words[1:]
    if not words:
        raise UserError(f"{path}: nothing below its header")
    return numbers(words, str(path))
