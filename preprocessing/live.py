"""Face crops of a video without an end: followed as in a recording, kept for the last seconds only."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocessing import face
from preprocessing.camera import Shot
from preprocessing.crops import Cropper, ExtractSettings, NewestRows
from preprocessing.frames import Frame
from preprocessing.track import FaceTrack, FixedTrack, Segment
from utils.gaps import in_gaps

_ROUNDING_S = 1e-6
_NO_PICTURE: Frame = np.empty((0, 0, 3), dtype=np.uint8)


@dataclass(frozen=True)
class LiveFrame:
    """One frame with its face: arrays as the store has them for a frame.

    box: (4,) x, y, width, height in the picture's pixels; arrays: frames (S, S, 3), roi_rgb (R, 3), and
    the optional streams skin and landmarks.
    """

    time_s: float
    picture: Frame
    box: NDArray[np.float32]
    found: bool
    arrays: dict[str, NDArray[Any]]


class _Block:
    """A sink that keeps the newest block of each stream."""

    def __init__(self) -> None:
        self.arrays: dict[str, NDArray[Any]] = {}

    def append(self, name: str, block: NDArray[Any]) -> None:
        """Keep the block in place of the one before."""
        self.arrays[name] = block


class LiveCrops:
    """Follows the face through pictures as they come and crops it, as `extract` does in a file.

    Frames come out up to two looks later than they went in, as the box between two looks is known only
    after the second. Memory does not grow. warnings: what the settings ask for and a camera cannot give.
    """

    def __init__(self, settings: ExtractSettings, extras: Iterable[str] = ()) -> None:
        """extras: what the method wants beside the frames; what needs no mesh is made without storing it."""
        wanted = set(extras) - {"roi_rgb"}
        self.warnings: list[str] = []
        if settings.box == "median":
            self.warnings.append("the median box needs the whole recording; the first one is kept instead")
        self.settings = replace(
            settings, box="first" if settings.box == "median" else settings.box, qualities=(),
            skin_mask="skin" in wanted, landmarks=settings.landmarks and bool(wanted - {"skin"}),
        )
        self.finder = face.build(settings.face_finder, settings.face_model)

    def frames(self, shots: Iterable[Shot], seen: Callable[[Frame, float], None]) -> Iterator[LiveFrame]:
        """The frames from the first face on, in order; `seen` is told each picture as it goes in."""
        times: deque[tuple[int, float]] = deque()

        def fed() -> Iterator[Frame]:
            for index, (frame, time_s) in enumerate(shots):
                times.append((index, time_s))
                seen(frame, time_s)
                yield frame

        block, is_swapped = _Block(), not self.settings.swap_rb
        cropper = Cropper(self.settings, block, not self.finder.looks, is_swapped, NewestRows)
        follow = FaceTrack if self.finder.follows else FixedTrack
        track = follow(self.finder, self.settings.keyframe_stride, is_swapped)
        try:
            for segment in track.segments(fed(), lambda: None):
                if self.settings.box == "first" and cropper.fixed is None:
                    cropper.fixed = segment.box[0]
                cropper.add(segment)
                yield from _placed(segment, cropper, block, times)
        finally:
            self.finder.close()


def _placed(
    segment: Segment, cropper: Cropper, block: _Block, times: deque[tuple[int, float]]
) -> Iterator[LiveFrame]:
    """The frames of the segment that was cropped last; their times, and those before, leave `times`."""
    while times[0][0] < segment.start:
        times.popleft()
    box, found, rgb = cropper.box.whole(), cropper.found.whole(), cropper.roi.whole()
    for i, frame in enumerate(segment.frames):
        arrays = {name: rows[i] for name, rows in block.arrays.items()}
        yield LiveFrame(times.popleft()[1], frame, box[i], bool(found[i]), arrays | {"roi_rgb": rgb[i]})


class LiveWindow:
    """The frames of the last seconds; a pause, in which pulses may have been missed, starts it anew."""

    def __init__(self, span_s: float) -> None:
        """span_s: how far back it reaches."""
        self.span_s, self.n_pauses = span_s, 0
        self._frames: deque[LiveFrame] = deque()

    def add(self, frame: LiveFrame) -> None:
        """Take in the newest frame, and forget those that are too old; its picture is not kept."""
        if len(self._frames) > 1:
            before = np.array([kept.time_s for kept in self._frames] + [frame.time_s])
            if in_gaps(before, before[-2:].mean(keepdims=True))[0]:
                self._frames.clear()
                self.n_pauses += 1
        self._frames.append(replace(frame, picture=_NO_PICTURE))
        while frame.time_s - self._frames[0].time_s > self.span_s + _ROUNDING_S:
            self._frames.popleft()

    def frames(self) -> list[LiveFrame]:
        """The frames, oldest first."""
        return list(self._frames)

    @property
    def filled_s(self) -> float:
        """Seconds between the oldest and the newest frame."""
        return self._frames[-1].time_s - self._frames[0].time_s if self._frames else 0.0
