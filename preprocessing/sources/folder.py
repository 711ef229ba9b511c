"""Own recordings: NAME.mp4 (or a folder of pictures NAME) beside NAME.csv or NAME.json."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from preprocessing.pictures import SUFFIXES, PictureFolder, numbered_pictures
from preprocessing.sources import own_labels
from preprocessing.sources.base import SOURCES, FrameReader, Labels, RawRecording, Source
from preprocessing.sources.own_labels import LabelFormat
from preprocessing.sources.text import folder_of, nothing_found, safe_id
from preprocessing.video import VIDEO_SUFFIXES, VideoReader
from utils.errors import UserError
from utils.files import FOREIGN_JSON_BYTES, natural_key, read_json

_LABELS = (".csv", ".json")
_LIST = "recordings.json"
_FRAMES = ".frames"
_VIDEO, _LABEL, _TIMES = "video or folder of pictures", "label file", "file of frame times"
_KEYS: dict[str, tuple[type, ...]] = {
    "subject": (str,), "conditions": (dict,), "video_start": (int, float), "fps": (int, float),
}
_EXPECTED = "NAME.mp4 (or .avi, .mov, ... or a folder NAME of numbered pictures) beside NAME.csv or NAME.json"


@SOURCES.register("folder")
class Folder(Source):
    """Your own recordings: any video beside a table of time and pulse or heart rate.

    NAME.mp4 beside NAME.csv, whose header is time_s,pulse and, if you like, hr_bpm and resp (the
    options give other names), or NAME.json with lists under the same names. A cell may be empty.
    NAME.frames.csv, with a column of the time's name, gives the times of the frames; without it
    they are the container's. NAME may be a folder of numbered pictures, which needs
    NAME.frames.csv or an fps in recordings.json. A video without a label is a recording without one.

    recordings.json, {"NAME": {"subject": text, "conditions": {name: text}, "video_start": the time of
    the first frame by the label's clock, "fps": of pictures}}, tells the rest. Without it the subject is
    what stands before the first "_" of NAME.
    """

    name = "folder"
    access = "Your own recordings; nobody has to be asked but the people in them."

    def __init__(
        self, root: Path, *, subject: Literal["prefix", "name"] = "prefix",
        label: Literal["ppg", "ecg", "bp"] = "ppg",
        time_column: str = "time_s", pulse_column: str = "pulse", hr_column: str = "hr_bpm",
        resp_column: str = "resp", time_unit: Literal["s", "ms", "us", "ns"] = "s",
        time_zero: Literal["video", "first_row"] = "video", inverted: bool = False, is_crop: bool = False,
    ) -> None:
        """root: the folder with the videos.

        subject: who is filmed where recordings.json does not say: what stands before the first "_"
        of the name, or the whole name. label: what the pulse column holds. time_zero: a time of 0
        is the first frame; or the first row is (for clocks of their own). inverted: the sensor's
        signal falls at systole. is_crop: the pictures are face crops.
        """
        folder_of(root, "your own recordings", _EXPECTED)
        self._root, self._is_crop = root, is_crop
        self._format = LabelFormat(
            kind=label, time=time_column, pulse=pulse_column, hr=hr_column, resp=resp_column, unit=time_unit,
            zero=time_zero, sign=-1 if inverted else 1,
        )
        self._files = _gather(root)
        if not self._files:
            raise nothing_found(root, _EXPECTED)
        self._stated = _read_list(root / _LIST, set(self._files))
        self._subjects = _subjects(root, list(self._files), self._stated, subject)

    def recordings(self) -> list[RawRecording]:
        """One recording a name, in natural order."""
        return [
            OwnRecording(
                dataset=self.name, subject=self._subjects[name], recording=safe_id(name),
                is_crop=self._is_crop, conditions=dict(self._stated.get(name, {}).get("conditions", {})),
                root=self._root, stem=name, found=tuple(self._files[name]), format=self._format,
                is_listed=name in self._stated,
                video_start=self._stated.get(name, {}).get("video_start"),
                fps=self._stated.get(name, {}).get("fps"),
            )
            for name in sorted(self._files, key=natural_key)
        ]

    def notes(self) -> list[str]:
        """Subjects that differ in capitals, blanks or leading zeros only: they may be one person."""
        alike: dict[str, set[str]] = {}
        for subject in self._subjects.values():
            alike.setdefault(_plain(subject), set()).add(subject)
        return [
            f"subjects {' and '.join(sorted(names))} are taken for different people; if they are not, say so "
            f"in {_LIST}" for names in alike.values() if len(names) > 1
        ]


@dataclass(frozen=True, kw_only=True)
class OwnRecording(RawRecording):
    """Everything in the folder that has the same stem."""

    root: Path
    stem: str
    found: tuple[str, ...]
    format: LabelFormat
    is_listed: bool
    video_start: float | None
    fps: float | None

    def files(self) -> list[Path]:
        """The video or pictures, the labels, the frames' times and the list, those that are there."""
        video, stated = self._video(), self.root / _LIST if self.is_listed else None
        pictures = numbered_pictures(video) if video.is_dir() else [video]
        extra = (self._label(), self._frame_times(), stated)
        return [*pictures, *(path for path in extra if path is not None)]

    def open_frames(self) -> FrameReader:
        """The video's frames, or the pictures in the order of their numbers."""
        video = self._video()
        if not video.is_dir():
            return VideoReader(video)
        if self._frame_times() is None and self.fps is None:
            raise UserError(
                f"{video}: pictures have no times of their own; write {self.stem}{_FRAMES}.csv with a line "
                f'for each, or state their rate in {_LIST}: {{"{self.stem}": {{"fps": ...}}}}'
            )
        return PictureFolder(numbered_pictures(video), fps_declared=self.fps)

    def labels(self) -> Labels:
        """What the label file holds, on the video's clock."""
        label, times = self._label(), self._frame_times()
        frame_time_s, zero = None, self.video_start
        if times is not None:
            frame_time_s, first = own_labels.read_frame_times(times, self.format)
            zero = first if zero is None and self.format.zero == "video" else zero
        if label is None:
            text = f"no {self.stem}.csv or {self.stem}.json: a recording without label"
            return Labels(frame_time_s=frame_time_s, warnings=(text,))
        found = own_labels.read(label, self.format, zero, frame_time_s)
        return replace(found, covers_session=self.video_start is not None or bool(zero))

    def _video(self) -> Path:
        found = self._one(_VIDEO)
        if found is None:
            raise UserError(f"{self.root / self.stem}: labels without a video or a folder of pictures")
        return found

    def _label(self) -> Path | None:
        return self._one(_LABEL)

    def _frame_times(self) -> Path | None:
        return self._one(_TIMES)

    def _one(self, kind: str) -> Path | None:
        """The only file of a kind, None without one; which of two is meant nobody can know."""
        names = [name for name in self.found if _kind(name) == kind]
        if len(names) > 1:
            raise UserError(
                f"{self.root / self.stem}: one {kind} is needed, found {', '.join(names)}; move the others"
            )
        return self.root / names[0] if names else None


def _plain(subject: str) -> str:
    """A subject's name without what people write in two ways."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"[\s-]+", "", subject.casefold()))


def _kind(name: str) -> str:
    """What a file or folder of that name is to a recording."""
    if name.lower().endswith(f"{_FRAMES}.csv"):
        return _TIMES
    return _LABEL if Path(name).suffix.lower() in _LABELS else _VIDEO


def _gather(root: Path) -> dict[str, list[str]]:
    """File and picture folder names by stem; stems in natural order."""
    found: dict[str, list[str]] = {}
    for path in sorted(root.iterdir(), key=lambda path: natural_key(path.name)):
        if path.name.startswith(".") or path.name == _LIST:
            continue
        has_pictures = path.is_dir() and any(item.suffix.lower() in SUFFIXES for item in path.iterdir())
        if has_pictures or (path.is_file() and path.suffix.lower() in (*VIDEO_SUFFIXES, *_LABELS)):
            stem = path.name if has_pictures else path.stem
            found.setdefault(stem.removesuffix(_FRAMES), []).append(path.name)
    return found


def _read_list(path: Path, names: set[str]) -> dict[str, dict[str, Any]]:
    """What recordings.json says; {} without one. UserError for names and keys that nothing is known of."""
    if not path.is_file():
        return {}
    stated = read_json(path, FOREIGN_JSON_BYTES)
    if not isinstance(stated, dict) or not all(isinstance(item, dict) for item in stated.values()):
        raise UserError(f'{path}: must hold {{"NAME": {{"subject": text, ...}}}}')
    unknown = sorted(set(stated) - names)
    if unknown:
        raise UserError(f"{path}: no files of {', '.join(unknown[:5])}; NAME is a video's name without .mp4")
    for name, item in stated.items():
        for key, value in item.items():
            if key not in _KEYS:
                raise UserError(f"{path}: {name}.{key}: unknown key; known: {', '.join(_KEYS)}")
            if not isinstance(value, _KEYS[key]) or isinstance(value, bool) or value == "":
                raise UserError(f"{path}: {name}.{key}: {value!r} is of the wrong type")
        if not all(isinstance(value, str) for value in item.get("conditions", {}).values()):
            raise UserError(f"{path}: {name}.conditions: must hold texts by name")
        if not 0 < item.get("fps", 1) < 10_000:
            raise UserError(f"{path}: {name}.fps: {item['fps']} is not a frame rate")
    return stated


def _subjects(root: Path, names: list[str], stated: dict[str, dict[str, Any]], rule: str) -> dict[str, str]:
    """The subject of each name; UserError where nobody says whom a recording shows."""
    found = {name: stated.get(name, {}).get("subject") for name in names}
    unclear = [name for name in names if found[name] is None and rule == "prefix" and "_" not in name]
    if unclear:
        raise UserError(
            f"{root}: who is seen in {', '.join(unclear[:5])}? Name files SUBJECT_ANYTHING, state subjects "
            f'in {_LIST}, or set data.sets options {{"subject": "name"}} where each is another person'
        )
    return {
        name: subject or (name.partition("_")[0] if rule == "prefix" else name)
        for name, subject in found.items()
    }
