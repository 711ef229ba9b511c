"""What a video is to the rest: frames in time order, and their stamps."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
Series = NDArray[np.float64]


class FrameReader(abc.ABC):
    """Frames of one recording, read once from the first to the last.

    Iterating yields uint8 (H, W, 3) RGB and raises UserError when the video cannot be read to
    its end. Each frame may be kept or changed by the caller.
    """

    n_declared: int | None = None
    """Frames the container states; None where it states none or only estimates."""
    fps_declared: float | None = None
    """Frame rate the container states, in Hz: for the record, never for timing."""
    warnings: list[str]
    """What was tolerated while reading; whole after the iteration."""
    beat: Callable[[], None] = staticmethod(lambda: None)
    """Called by readers that work for long before their first frame; set by who waits for them."""

    def as_bgr(self) -> bool:
        """Ask, before iterating, for BGR frames, where they cost less; whether they will be."""
        return False

    @abc.abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames in time order."""

    @property
    @abc.abstractmethod
    def time_s(self) -> Series:
        """(T,) the container's time stamps in seconds, whole after the iteration."""
