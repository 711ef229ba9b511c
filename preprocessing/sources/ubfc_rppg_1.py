"""UBFC-rPPG DATASET_1 (Bobbia et al. 2017): <folder>/<one .avi> with <folder>/gtdump.xmp."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from preprocessing.sources.base import SOURCES, FrameReader, Labels, RawRecording, Source
from preprocessing.sources.text import device_rate, folder_of, nothing_found, read_table, safe_id
from preprocessing.video import VideoReader
from utils.errors import UserError
from utils.files import natural_key, source_identity

_LABELS = "gtdump.xmp"
_EXPECTED = "folders such as 5-gt, 10-gt, after-exercise, each with one .avi and gtdump.xmp"
_MS = 1000.0


@SOURCES.register("ubfc_rppg_1")
class UbfcRppg1(Source):
    """UBFC-rPPG DATASET_1: 8 videos of people at rest, finger PPG at about 62 Hz in milliseconds.

    A folder is a subject. Two folders whose videos are the same file get one subject, the first's,
    and a warning each: some copies hold one video twice (7-gt and 12-gt).
    """

    name = "ubfc_rppg_1"
    access = (
        "Free for research under the agreement sheet in the bundle; ask the authors of Bobbia et al. 2017 "
        "(https://sites.google.com/view/ybenezeth/ubfcrppg)."
    )

    def __init__(self, root: Path) -> None:
        """root: DATASET_1, with a folder for each recording."""
        folder_of(root, "UBFC-rPPG's DATASET_1", _EXPECTED)
        folders = [path for path in root.iterdir() if path.is_dir()]
        found = [path for path in folders if (path / _LABELS).is_file() or _videos(path)]
        if not found:
            raise nothing_found(root, _EXPECTED)
        self._folders = sorted(found, key=lambda path: natural_key(path.name))

    def recordings(self) -> list[RawRecording]:
        """One recording a folder, 5-gt before 10-gt."""
        made = [
            Ubfc1Recording(
                dataset=self.name, subject=folder.name, recording=safe_id(folder.name), folder=folder,
            )
            for folder in self._folders
        ]
        return [*_join_twins(made)]


@dataclass(frozen=True, kw_only=True)
class Ubfc1Recording(RawRecording):
    """One folder. twin: the folder whose video is the same, where there is one."""

    folder: Path
    twin: str = ""

    def files(self) -> list[Path]:
        """The video, its labels, and the twin's video: with it gone, the subject is another."""
        twins = _videos(self.folder.parent / self.twin) if self.twin else []
        return [self._video(), self.folder / _LABELS, *twins]

    def open_frames(self) -> FrameReader:
        """The frames of the folder's only .avi."""
        return VideoReader(self._video())

    def labels(self) -> Labels:
        """Pulse and device rate at the stamps of gtdump.xmp; the frames' times are the video's own."""
        path = self.folder / _LABELS
        table = read_table(path, ("time in ms", "heart rate", "SpO2", "PPG"))
        time_s = table["time in ms"] / _MS
        rate_bpm, warnings = device_rate(table["heart rate"], path.name)
        if self.twin:
            warnings.append(f"its video is the same file as that of {self.twin}; one subject is made of both")
        return Labels(
            kind="ppg", samples=table["PPG"], time_s=time_s, hr_bpm=rate_bpm, hr_time_s=time_s,
            warnings=tuple(warnings),
        )

    def _video(self) -> Path:
        """The single .avi, whatever its name."""
        found = _videos(self.folder)
        if len(found) != 1:
            names = ", ".join(path.name for path in found) or "none"
            raise UserError(f"{self.folder}: exactly one .avi is needed, found: {names}")
        return found[0]


def _videos(folder: Path) -> list[Path]:
    """The .avi files of a folder; hidden ones are what a Mac leaves beside a copied file."""
    return sorted(path for path in folder.iterdir()
                  if path.suffix.lower() == ".avi" and not path.name.startswith("."))


def _join_twins(made: list[Ubfc1Recording]) -> list[Ubfc1Recording]:
    """The recordings, with one subject for those whose videos have the same content."""
    sizes = [_video_size(item) for item in made]
    seen: dict[str, int] = {}
    joined = list(made)
    for index, size in enumerate(sizes):
        if size is None or sizes.count(size) == 1:
            continue
        content = str({**source_identity(made[index].files()[0]), "mtime_ns": 0})
        first = seen.setdefault(content, index)
        if first != index:
            subject = joined[first].subject
            joined[index] = replace(made[index], subject=subject, twin=made[first].folder.name)
            joined[first] = replace(joined[first], twin=made[index].folder.name)
    return joined


def _video_size(item: Ubfc1Recording) -> int | None:
    """Bytes of the video; None where there is not exactly one, which preprocessing will name."""
    try:
        return item.files()[0].stat().st_size
    except (UserError, OSError):
        return None
