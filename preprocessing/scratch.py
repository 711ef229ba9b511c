"""Frames that do not come in time order, put in order through a temporary file instead of memory."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.frames import Frame, FrameReader, Series
from utils.errors import UserError
from utils.files import disk_full, require_space

MAX_FRAMES, MAX_PIXELS = 1_000_000, 1 << 22
_UNIT_TOP, _LEAST_TOP, _GREY_TOP = 1.2, 16.0, 255.5
"""Up to 1.2, values count as 0 to 1 (resizing overshoots); from 16 to 255.5 as grey levels."""

Beat = Callable[[], None]
Place = tuple[slice, ...]
Blocks = Iterable[tuple[Place, NDArray[Any]]]


@dataclass(frozen=True)
class VideoShape:
    """Sizes of a video in a MATLAB array."""

    frames: int
    height: int
    width: int
    time_is_first: bool

    @property
    def pixels(self) -> int:
        """Values of one frame."""
        return 3 * self.height * self.width

    @classmethod
    def from_dims(cls, dims: tuple[int, ...], what: str) -> VideoShape:
        """From MATLAB's dimensions, (t, h, w, 3) or (h, w, 3, t); UserError for others."""
        if len(dims) == 4 and dims[3] == 3:
            shape = cls(dims[0], dims[1], dims[2], True)
        elif len(dims) == 4 and dims[2] == 3:
            shape = cls(dims[3], dims[0], dims[1], False)
        else:
            listed = "x".join(map(str, dims))
            raise UserError(f"{what} is {listed}; a video of t x h x w x 3 or h x w x 3 x t was looked for")
        if not 2 <= shape.frames <= MAX_FRAMES or not 0 < shape.height * shape.width <= MAX_PIXELS:
            raise UserError(f"{what}: {shape.frames} frames of {shape.width}x{shape.height} pixels, not read")
        return shape


class ScratchFrames(FrameReader):
    """A video whose values come in any order: written once into a temporary file, then read by frames.

    The file holds (t, 3, w, h) grey levels and has no name, so that it is gone whatever ends the
    process. It lies in TMPDIR or else in /var/tmp, which, unlike /tmp, is on a disk.
    """

    def __init__(
        self, shape: VideoShape, blocks: Callable[[Beat], Blocks], what: str, fps_declared: float
    ) -> None:
        """blocks(beat): yields (place, values), the place in an array (t, 3 w h) or (t, 3, w, h)."""
        self.n_declared, self.fps_declared, self.warnings = shape.frames, fps_declared, []
        self._shape, self._blocks, self._what = shape, blocks, what
        self._n_read, self._bgr = 0, False

    def as_bgr(self) -> bool:
        """BGR costs a copy, as RGB does."""
        self._bgr = True
        return True

    def __iter__(self) -> Iterator[Frame]:
        shape = self._shape
        with scratch_file(shape.frames * shape.pixels) as handle:
            self._write(handle)
            for index in range(shape.frames):
                data = os.pread(handle, shape.pixels, index * shape.pixels)
                planes = np.frombuffer(data, np.uint8).reshape(3, shape.width, shape.height)
                self._n_read += 1
                frame = np.ascontiguousarray(planes.transpose(2, 1, 0))
                yield np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), np.uint8) if self._bgr else frame

    @property
    def time_s(self) -> Series:
        """(T,) the index of each frame over the declared rate."""
        return np.arange(self._n_read) / (self.fps_declared or 1.0)

    def _write(self, handle: int) -> None:
        """All values as grey levels; begun anew where numbers taken for 0 to 1 are grey levels."""
        try:
            top = self._fill(handle, 255.0)
        except _Brighter:
            top = self._fill(handle, 1.0)
            if top < _LEAST_TOP:
                raise UserError(
                    f"{self._what}: values up to {top:g} are neither 0 to 1 nor 0 to 255; is it a video?"
                ) from None

    def _fill(self, handle: int, scale: float) -> float:
        """Write all blocks with floats times `scale`; returns the largest value found."""
        shape, top, low = self._shape, 0.0, 0.0
        mapped = mmap.mmap(handle, shape.frames * shape.pixels)
        flat = np.frombuffer(mapped, np.uint8).reshape(shape.frames, shape.pixels)
        box = flat.reshape(shape.frames, 3, shape.width, shape.height)
        for place, values in self._blocks(self.beat):
            highest, lowest = float(values.max()), float(values.min())
            self._check(highest, lowest, scale, values.dtype)
            top, low = max(top, highest), min(low, lowest)
            target = flat if len(place) == 2 else box
            target[place] = _grey_levels(values, scale)
            mapped.madvise(mmap.MADV_DONTNEED)  # the pages are the file's, not ours to keep in memory
        if scale > 1 and (top > 1 or low < 0) and top > 0:
            self.warnings.append(f"{self._what}: values from {low:g} to {top:g} cut to 0 to 1")
        return top

    def _check(self, highest: float, lowest: float, scale: float, dtype: np.dtype[Any]) -> None:
        """Refuse what is no picture; _Brighter where a scale for 0 to 1 does not fit."""
        if not np.isfinite(highest) or not np.isfinite(lowest):
            raise UserError(f"{self._what}: values that are not numbers (NaN or infinite)")
        if lowest < 1 - _UNIT_TOP or highest > _GREY_TOP:
            raise UserError(
                f"{self._what}: values from {lowest:g} to {highest:g}; 0 to 1 or 0 to 255 expected"
            )
        if scale > 1 and (dtype.kind != "f" or highest > _UNIT_TOP):
            raise _Brighter


class _Brighter(Exception):
    """The values are grey levels and not parts of one."""


def _grey_levels(values: NDArray[Any], scale: float) -> NDArray[np.uint8]:
    """Values times `scale`, rounded to the nearest whole number and cut to 0 to 255."""
    if values.dtype == np.uint8:
        return values
    scaled = values * scale
    np.rint(scaled, out=scaled)
    return np.clip(scaled, 0, 255, out=scaled).astype(np.uint8)


@contextlib.contextmanager
def scratch_file(n_bytes: int) -> Iterator[int]:
    """The descriptor of a file of `n_bytes` without a name, whose space is taken at once.

    Stopped when the disk has no room: a mapped file on a full disk would end the process.
    """
    folder = Path(os.environ.get("TMPDIR") or _disk_folder())
    with contextlib.ExitStack() as stack:
        try:
            require_space(folder / "frames", n_bytes)
            handle = stack.enter_context(tempfile.TemporaryFile(dir=folder)).fileno()
            os.posix_fallocate(handle, 0, n_bytes)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise disk_full(folder / "frames", n_bytes) from error
            raise UserError(f"{folder}: no temporary file can be made ({error}); set TMPDIR") from None
        yield handle


def _disk_folder() -> str:
    return "/var/tmp" if os.access("/var/tmp", os.W_OK) else tempfile.gettempdir()
