"""Any video file as one recording without labels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from preprocessing.sources.base import FrameReader, Labels, RawRecording
from preprocessing.video import VideoReader


@dataclass(frozen=True, kw_only=True)
class VideoFile(RawRecording):
    """One video of unknown origin; its times are the container's stamps."""

    path: Path

    def files(self) -> list[Path]:
        """The video."""
        return [self.path]

    def open_frames(self) -> FrameReader:
        """Its frames."""
        return VideoReader(self.path)

    def labels(self) -> Labels:
        """None."""
        return Labels()


def video_file(path: Path, is_crop: bool = False) -> VideoFile:
    """The recording of a video file; its id is the file's stem in safe characters."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", path.stem).lstrip(".")[:100] or "video"
    return VideoFile(dataset="video_file", subject=name, recording=name, is_crop=is_crop, path=path)
