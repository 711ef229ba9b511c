"""Following the face: looks at keyframes, closer where it moves fast, interpolation between."""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.face import FaceFinder
from preprocessing.frames import Frame

Values = NDArray[np.float64]

BUFFER_BYTES = 64 << 20
"""Decoded frames held at a time; larger pictures are looked at more often than the stride says."""
_JUMP = 6.4 / 250
_AGREE = 1.5 / 250
"""Distances in face heights: off the prediction, and agreeing at a midpoint (px on a 250 px face)."""
_RESIZED = 0.08
"""Change of height between two looks that is taken at once, not smoothed."""
_ALERT, _PROBE = 4, 12
"""Segments checked after a disagreement, and how often one is checked when all is calm."""


@dataclass(frozen=True)
class Segment:
    """Consecutive frames with the place of the face in each."""

    start: int
    """Index of the first frame in the video."""
    frames: list[Frame]
    box: Values
    """(n, 3) centre x, centre y and height of the face in pixels; the last known where it is lost."""
    landmarks: Values | None
    """(n, 468, 2) mesh points in pixels, NaN where the face is lost; None without a mesh."""
    found: NDArray[np.bool_]
    """(n,) false where the box is carried over."""


@dataclass(frozen=True)
class _Knot:
    index: int
    value: Values | None
    """(3,) or (3 + 936,): box, then landmarks; None where no face was found."""


class FaceTrack:
    """Places the face in every frame of one video, holding few frames at a time.

    The finder looks at every `stride`-th frame. Between two looks the values follow a cubic with
    one segment of look-ahead. A segment is halved when its end lies more than 6.4 px off the
    linear prediction, and on, until a look at the midpoint agrees with the cubic within 1.5 px
    (for a face 250 px high; in proportion for others). Motion at the rate of the looks themselves
    hides from the prediction, so every twelfth segment is probed, and four after a disagreement.
    (Tighter limits cost looks and gain nothing: a look at a moving face errs by half a pixel itself.)
    Where the face comes or goes, the frame is found by halving.

    Frames before the first face are left out; the first segment says where it starts.
    """

    def __init__(self, finder: FaceFinder, stride: int, is_swapped: bool = False) -> None:
        """finder: a fresh one, its state belongs to this video; stride: frames between looks.

        is_swapped: the frames come as BGR.
        """
        self._is_swapped = is_swapped
        self._finder, self._stride = finder, stride
        self._knots: list[_Knot] = []
        self._keys: deque[_Knot] = deque(maxlen=3)
        self._frames: list[Frame] = []
        self._start = 0
        self._alert, self._calm = 1, 0
        self._last: Values | None = None
        self.n_frames = 0
        self.n_looks = 0

    def segments(self, frames: Iterable[Frame], beat: Callable[[], None]) -> Iterator[Segment]:
        """Yield the frames from the first face on, in order; nothing when there is no face."""
        for frame in frames:
            beat()
            if self.n_frames == 0:
                self._stride = max(1, min(self._stride, BUFFER_BYTES // (2 * frame.nbytes)))
            self._frames.append(frame)
            self.n_frames += 1
            if (self.n_frames - 1) % self._stride == 0:
                yield from self._advance(self.n_frames - 1)
        if self._frames and self._knots[-1].index != self.n_frames - 1:
            yield from self._advance(self.n_frames - 1)
        yield from self._emit(self.n_frames)

    def _advance(self, index: int) -> Iterator[Segment]:
        """Look at the newest frame; emit up to the key frame before it, whose surroundings are known."""
        before = self._keys[-1].index if self._keys else None
        self._keys.append(self._look(index, self._steadied))
        if before is not None:
            self._refine_newest()
            yield from self._emit(before)

    def _look(self, index: int, height_of: Callable[[float], float]) -> _Knot:
        """Look at a buffered frame and add the knot; `height_of` turns the seen height into the kept."""
        look = self._finder.look(in_rgb(self._frames[index - self._start], self._is_swapped))
        self.n_looks += 1
        value = None
        if look.box is not None:
            x, y, height = look.box
            points = () if look.landmarks is None else look.landmarks.ravel()
            value = np.concatenate([(x, y, height_of(height)), points])
        knot = _Knot(index, value)
        bisect.insort(self._knots, knot, key=lambda k: k.index)
        return knot

    def _steadied(self, height: float) -> float:
        """Half the seen, half the kept height: a face's size changes slowly, its estimate jitters."""
        kept = self._keys[-1].value if self._keys else None
        if kept is None or abs(height - kept[2]) > _RESIZED * kept[2]:
            return height
        return float(height + kept[2]) / 2

    def _refine_newest(self) -> None:
        left, right = self._knots[-2], self._knots[-1]
        self._calm += 1
        if left.value is not None and right.value is not None:
            if not (self._jumped() or self._alert > 0 or self._calm >= _PROBE):
                return
            self._calm, self._alert = 0, max(0, self._alert - 1)
        self._halve(left, right)

    def _jumped(self) -> bool:
        """Whether the newest key frame is off the line through the two before it."""
        if len(self._keys) < 3:
            return True
        a, b, new = self._keys
        if a.value is None or b.value is None or new.value is None:
            return True
        ahead = (new.index - b.index) / (b.index - a.index)
        return _distance(b.value[:3] + (b.value[:3] - a.value[:3]) * ahead, new.value) > _JUMP

    def _halve(self, left: _Knot, right: _Knot) -> None:
        """Look at midpoints until they agree, or until the face's coming or going is placed."""
        if right.index - left.index < 2 or (left.value is None and right.value is None):
            return
        index = (left.index + right.index) // 2
        expected = None
        if left.value is not None and right.value is not None:
            expected = self._between(self._knots.index(left), np.array([index]), 3)[0]
        middle = self._look(index, lambda seen: seen if expected is None else float(expected[2]))
        if expected is not None and middle.value is not None:
            if _distance(expected, middle.value) <= _AGREE:
                return
            self._alert = _ALERT
        self._halve(left, middle)
        self._halve(middle, right)

    def _between(self, place: int, index: NDArray[np.int_], width: int) -> Values:
        """(n, width) cubic Hermite between the knots `place` and `place + 1`, both with a face."""
        left, right = self._knots[place], self._knots[place + 1]
        h = right.index - left.index
        s = ((index - left.index) / h)[:, None]
        a, b = _value(left)[:width], _value(right)[:width]
        at_a, at_b = self._tangent(place, width), self._tangent(place + 1, width)
        slope = (b - a) / h
        if at_a is None:
            at_a = slope if at_b is None else 2 * slope - at_b
        if at_b is None:
            at_b = 2 * slope - at_a
        t = 1 - s
        return (1 + 2 * s) * t**2 * a + s * t**2 * h * at_a + s**2 * (3 - 2 * s) * b - s**2 * t * h * at_b

    def _tangent(self, place: int, width: int) -> Values | None:
        """Slope at a knot of the parabola through it and its neighbours; None when one has no face."""
        if not 0 < place < len(self._knots) - 1:
            return None
        before, knot, after = self._knots[place - 1 : place + 2]
        if before.value is None or after.value is None:
            return None
        g, h = knot.index - before.index, after.index - knot.index
        here = _value(knot)[:width]
        rise, next_rise = (here - before.value[:width]) / g, (after.value[:width] - here) / h
        return (h * rise + g * next_rise) / (g + h)

    def _emit(self, stop: int) -> Iterator[Segment]:
        """Hand out all frames before `stop` and forget the knots that are no longer needed."""
        while self._start < stop:
            place = max(i for i, k in enumerate(self._knots) if k.index <= self._start)
            end = self._knots[place + 1].index if place + 1 < len(self._knots) else stop
            yield from self._segment(place, min(end, stop))
        keep = max((i for i, k in enumerate(self._knots) if k.index <= self._start), default=0)
        del self._knots[: max(0, keep - 1)]

    def _segment(self, place: int, end: int) -> Iterator[Segment]:
        n = end - self._start
        frames, self._frames = self._frames[:n], self._frames[n:]
        start, self._start = self._start, end
        here = self._knots[place].value
        if here is None and self._last is None:
            return
        following = self._knots[place + 1].value if place + 1 < len(self._knots) else None
        if here is not None and following is not None:
            values = self._between(place, np.arange(start, end), len(here))
        else:
            known = here if here is not None else self._last
            assert known is not None
            values = np.repeat(known[None], n, axis=0)
        self._last = values[-1].copy()
        if here is None:
            values[:, 3:] = np.nan
        points = values[:, 3:].reshape(n, -1, 2) if values.shape[1] > 3 else None
        yield Segment(start, frames, values[:, :3], points, np.full(n, here is not None))


class FixedTrack:
    """Keeps the first box that the finder finds (or that is given), for finders that look only once.

    Frames before that are left out, as FaceTrack does.
    """

    def __init__(self, finder: FaceFinder, stride: int, is_swapped: bool = False) -> None:
        """stride: frames between looks until there is a face; is_swapped: they come as BGR."""
        self._is_swapped = is_swapped
        self._finder, self._stride = finder, stride
        self._box: Values | None = None
        self.n_frames = 0
        self.n_looks = 0

    def segments(self, frames: Iterable[Frame], beat: Callable[[], None]) -> Iterator[Segment]:
        """Yield each frame from the first face on with the same box; nothing without a face."""
        for frame in frames:
            beat()
            index = self.n_frames
            self.n_frames += 1
            if self._box is None and index % self._stride == 0:
                look = self._finder.look(in_rgb(frame, self._is_swapped))
                self.n_looks += 1
                self._box = None if look.box is None else np.asarray(look.box)
            if self._box is not None:
                yield Segment(index, [frame], self._box[None], None, np.ones(1, dtype=np.bool_))


def in_rgb(frame: Frame, is_swapped: bool) -> Frame:
    """The frame in RGB, from BGR where it is swapped."""
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), dtype=np.uint8) if is_swapped else frame


def _value(knot: _Knot) -> Values:
    assert knot.value is not None
    return knot.value


def _distance(expected: Values, seen: Values) -> float:
    """The larger of the distances of two centres along x and y, in heights of the face."""
    return float(np.abs(expected[:2] - seen[:2]).max() / seen[2])
