"""Pictures as they come: from a camera, or from a video file that stands in for one."""

from __future__ import annotations

import abc
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from preprocessing.frames import Frame
from preprocessing.track import BUFFER_BYTES
from preprocessing.video import VideoReader
from utils.errors import UserError

Shot = tuple[Frame, float]
"""A BGR picture and its time in seconds."""

MOST_WAITING = 32
"""Pictures that may wait for the work on those before them; the next one is dropped."""
SILENCE_S = 10.0
"""A camera that gives no picture for so long is given up."""
_WAIT_S = 0.1


class Camera(abc.ABC):
    """Where pictures come from. name: for people; stamps: whose times they bear; warnings: whole at the end.

    n_stale counts pictures left out as their time was not after that of the one before.
    """

    stamps: str
    keeps_pace = True
    """Whether pictures come at their own pace; False: at once, as fast as they are read."""

    def __init__(self, name: str) -> None:
        self.name, self.warnings, self.n_stale = name, list[str](), 0

    def shots(self) -> Iterator[Shot]:
        """The pictures, once, with increasing times from 0 on."""
        first, last = math.nan, -math.inf
        for frame, time_s in self._pictures():
            if time_s <= last:
                self.n_stale += 1
                continue
            first, last = (time_s if math.isnan(first) else first), time_s
            yield frame, time_s - first

    def close(self) -> None:
        """Let go of the device; ends `shots`."""
        return None

    @abc.abstractmethod
    def _pictures(self) -> Iterator[Shot]:
        """The pictures with the times they bear, on any clock."""


class Device(Camera):
    """A camera of this machine, by its number.

    Times are the driver's stamps where it gives any (they do not depend on how busy this program is), else
    those of the arrival here.
    """

    def __init__(self, number: int) -> None:
        """UserError when there is no such camera, or it is not free."""
        super().__init__(f"camera {number}")
        self._capture: Any = cv2.VideoCapture(number)
        self._is_closed = False
        if not self._capture.isOpened():
            there = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*"))) or "none"
            raise UserError(
                f"--camera {number}: cannot be opened; is it there (/dev/video*: {there}), used by another "
                "program, or closed to you (group video)?"
            )
        early = [self._driver_s() for _ in range(3) if self._capture.grab()]
        self.stamps = "camera" if len(early) == 3 and 0 < early[0] < early[1] < early[2] else "arrival"

    def _driver_s(self) -> float:
        """The driver's stamp of the newest picture in seconds; 0 or standing still where it has none."""
        return float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000

    def _pictures(self) -> Iterator[Shot]:
        while not self._is_closed:
            there, frame = self._capture.read()
            if not there:
                self.warnings.append(f"{self.name} stopped giving pictures")
                break
            time_s = self._driver_s() if self.stamps == "camera" else time.monotonic()
            yield np.asarray(frame, np.uint8), time_s
        self._capture.release()

    def close(self) -> None:
        """The reading thread lets go of the device after its picture."""
        self._is_closed = True


class Film(Camera):
    """A video file as a camera: at its own pace, or as fast as it is worked on."""

    stamps = "file"

    def __init__(self, path: Path, keeps_pace: bool = True) -> None:
        """UserError when there is no such file, or it is no video."""
        super().__init__(path.name)
        self.keeps_pace = keeps_pace
        self._reader, self._is_closed = VideoReader(path), False
        self._reader.as_bgr()

    def _pictures(self) -> Iterator[Shot]:
        """Each when it is due, so that a slow listener misses some, as with a camera."""
        start, first = time.monotonic(), math.nan
        for frame in self._reader:
            stamp_s = self._reader.newest_s
            first = stamp_s if math.isnan(first) else first
            ahead_s = stamp_s - first - (time.monotonic() - start)
            if self.keeps_pace and ahead_s > 0:
                time.sleep(ahead_s)
            if self._is_closed:
                return
            yield frame, stamp_s
        self.warnings += self._reader.warnings

    def close(self) -> None:
        """No further picture is read."""
        self._is_closed = True


def open_camera(which: str, fast: bool = False) -> Camera:
    """The camera of that number, or the video file of that name.

    fast: the file's pictures as fast as they are worked on, none dropped; UserError for a camera.
    """
    if not which.isascii() or not which.isdigit():
        return Film(Path(which), keeps_pace=not fast)
    if fast:
        raise UserError("--fast is for a video file; a camera has its own pace")
    return Device(int(which))


class Feed:
    """The pictures of a camera, taken in a thread of their own so that none is taken late.

    Where the work on them does not keep up, the newest are dropped and counted. A camera that does not
    keep a pace of its own is read directly, and nothing is dropped. n_taken: pictures handed out.
    """

    def __init__(self, camera: Camera, check: Callable[[], bool]) -> None:
        """check: called often, also while no picture comes; True ends the iteration."""
        self._camera, self._check = camera, check
        self._waiting: queue.Queue[Shot] = queue.Queue(MOST_WAITING)
        self._is_over = threading.Event()
        self._error: BaseException | None = None
        self.n_taken = self.n_dropped = 0

    def __iter__(self) -> Iterator[Shot]:
        for shot in self._from_thread() if self._camera.keeps_pace else self._camera.shots():
            if self._check():
                break
            self.n_taken += 1
            yield shot
        self._camera.close()

    def _from_thread(self) -> Iterator[Shot]:
        """UserError after SILENCE_S without a picture; what went wrong in the thread is raised here."""
        threading.Thread(target=self._take, name="camera", daemon=True).start()
        heard = time.monotonic()
        while True:
            try:
                shot = self._waiting.get(timeout=_WAIT_S)
            except queue.Empty:
                if self._is_over.is_set() and self._waiting.empty():
                    break
                if self._check():
                    return
                if time.monotonic() - heard > SILENCE_S:
                    self._camera.warnings.append(f"{self._camera.name}: no picture for {SILENCE_S:g} s")
                    return
                continue
            heard = time.monotonic()
            yield shot
        if self._error is not None:
            raise self._error

    def _take(self) -> None:
        """Read the camera into the queue, which holds less of large pictures."""
        try:
            for frame, time_s in self._camera.shots():
                room = max(2, min(MOST_WAITING, BUFFER_BYTES // frame.nbytes))
                if self._waiting.qsize() >= room:
                    self.n_dropped += 1
                else:
                    self._waiting.put((frame, time_s))
        except Exception as error:  # handed to the thread that iterates
            self._error = error
        finally:
            self._is_over.set()
