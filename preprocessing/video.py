"""Frames and time stamps of video files, in RGB, decoded by one thread (OpenCV over FFmpeg)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from preprocessing.container import stated_length
from preprocessing.frames import Frame, FrameReader, Series
from preprocessing.times import tolerated
from utils.errors import UserError

VIDEO_SUFFIXES = (
    ".mp4", ".avi", ".mov", ".mkv", ".m4v", ".mpg", ".mpeg", ".webm", ".wmv", ".3gp", ".mts", ".flv", ".ogv",
)
_UNUSED = 3
"""References to a frame that nobody but the reader holds: its list, and two of the search itself."""


class VideoReader(FrameReader):
    """Reads a video file once, first frame to last, turned as its rotation mark says.

    A file that delivers less than it states raises UserError at its end, as far as the container
    can tell: an AVI states a true frame count; MP4 and QuickTime the duration after edit lists;
    for other containers (MPEG-1, Matroska) count and duration may be estimates, and only a
    shortfall of more than a second and a tenth of the stated duration is taken for damage. Up to
    five frames or 1 % less is a warning.
    """

    def __init__(self, path: Path) -> None:
        """`path`: a file; UserError when it is missing, cut short, or holds no video."""
        if not path.is_file():
            raise UserError(f"{path}: no such video file")
        if path.stat().st_size == 0:
            raise UserError(f"{path}: the video file is empty (0 bytes)")
        self.path, self.warnings = path, []
        self._stated = stated_length(path)
        cv2.setNumThreads(1)
        self._capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        if not self._capture.isOpened():
            raise UserError(f"{path}: not a video that can be decoded; is the file whole?")
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.fps_declared = float(fps) if 0 < fps < 1e4 else None
        self._count = int(count) if 0 < count < 2**31 else 0
        self.n_declared = self._count if self._count and self._stated.frames_are_exact else None
        self._stamps_ms: list[float] = []
        self._held: list[Frame] = []
        self._bgr = False

    def as_bgr(self) -> bool:
        """BGR is what the decoder gives."""
        self._bgr = True
        return True

    def __iter__(self) -> Iterator[Frame]:
        capture, stamps = self._capture, self._stamps_ms
        while capture.grab():
            frame = self._unused()
            there, picture = capture.retrieve(frame)
            if not there:
                break
            if frame is None or picture is not frame:
                frame = np.asarray(picture, dtype=np.uint8)
                self._held.append(frame)
            stamps.append(capture.get(cv2.CAP_PROP_POS_MSEC))
            del picture
            yield frame if self._bgr else np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), dtype=np.uint8)
        capture.release()
        self._held.clear()
        self._check_whole()

    @property
    def time_s(self) -> Series:
        """(T,) presentation times in seconds, as the container states them."""
        return np.asarray(self._stamps_ms, dtype=np.float64) / 1000.0

    @property
    def newest_s(self) -> float:
        """The time stamp of the newest picture in seconds."""
        return self._stamps_ms[-1] / 1000.0

    def _unused(self) -> Frame | None:
        """Memory of an earlier frame that no holder uses any more.

        Frames are large; allocating each anew fragments the heap by some 100 MB.
        """
        return next((held for held in self._held if sys.getrefcount(held) <= _UNUSED), None)

    def _check_whole(self) -> None:
        n = len(self._stamps_ms)
        if n == 0:
            raise UserError(f"{self.path}: the video holds no frame that can be decoded")
        if self.n_declared is not None:
            self._compare(n, self.n_declared, tolerated(self.n_declared), "frames")
            return
        gap_s = float(np.median(np.diff(self.time_s))) if n > 1 else 0.0
        shown_s = self.time_s[-1] - self.time_s[0] + gap_s
        if self._stated.duration_s is not None:
            stated_s = self._stated.duration_s
            self._compare(shown_s, stated_s, max(5 * gap_s, stated_s / 100), "seconds")
        elif self._count and self.fps_declared is not None:
            stated_s = self._count / self.fps_declared
            self._compare(shown_s, stated_s, max(1.0, stated_s / 10), "seconds")

    def _compare(self, delivered: float, stated: float, allowed: float, unit: str) -> None:
        """Error when more than `allowed` is missing, a warning when anything noticeable differs."""
        digits = 0 if unit == "frames" else 2
        text = f"the file states {stated:.{digits}f} {unit}, {delivered:.{digits}f} could be read"
        if stated - delivered > allowed:
            raise UserError(f"{self.path}: {text}; it is cut short or damaged, copy it again")
        if (unit == "frames" and delivered != stated) or abs(delivered - stated) > allowed:
            self.warnings.append(f"{self.path.name}: {text}")
