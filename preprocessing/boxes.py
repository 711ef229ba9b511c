"""Square boxes around the face, and the crops taken through them."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.frames import Frame

Boxes = NDArray[np.float64]

_PLAY_PX, _SIDE_PLAY_PX = 0.3, 0.6
"""How far the face moves before the box follows, and its side before the box's."""


class SquareBoxes:
    """Square boxes of side `scale` x face height about the face's centre, to fractions of a pixel.

    The box has some play: it follows only what exceeds .3 px, so that the jitter of the face finder
    does not reach the crop of a still face, where it would lie in the band of the pulse. Mesh height
    is forehead to chin: 1.3 leaves a margin of skin and hair and little background, 1.5 gives about
    the crop of the Contrast-Phys paper; for a Haar cascade the height is that of its square.
    """

    def __init__(self, scale: float) -> None:
        """scale: side over the face's height."""
        self._scale = scale
        self._kept: tuple[float, float, float] | None = None

    def place(self, places: NDArray[np.float64]) -> Boxes:
        """(n, 4) x, y, width, height for (n, 3) centre x, centre y, height, following on the last call.

        In pixels; a box may reach outside the picture.
        """
        found = np.empty((len(places), 4))
        for row, (x, y, height) in enumerate(places.tolist()):
            side = max(8.0, height * self._scale)
            if self._kept is not None:
                x, y = _within(self._kept[0], x, _PLAY_PX), _within(self._kept[1], y, _PLAY_PX)
                side = _within(self._kept[2], side, _SIDE_PLAY_PX)
            self._kept = (x, y, side)
            found[row] = x - side / 2, y - side / 2, side, side
        return found


def _within(kept: float, wanted: float, play: float) -> float:
    """The value nearest to `kept` that is within `play` of `wanted`."""
    return min(max(kept, wanted - play), wanted + play)


def crop(frame: Frame, box: NDArray[np.float64], size: int, out: Frame) -> None:
    """Fill `out` (size, size, 3) with the picture inside the box, edge pixels repeated outside it.

    Two steps: the picture is reduced by the largest whole factor that leaves at least `size` pixels
    (the mean of k x k pixels), then sampled bilinearly at the box's place to fractions of a pixel. That
    is as low in pixel noise as one reduction by area, and cropping on whole pixels alone would put three
    times the noise into the mean colour of a region of a slowly swaying face.
    """
    x, y, wide, high = box.tolist()
    k = max(1, int(min(wide, high) // size))
    left, top = math.floor(x), math.floor(y)
    columns, rows = math.ceil((x + wide - left) / k), math.ceil((y + high - top) / k)
    part = _cut(frame, left, top, columns * k, rows * k)
    if k > 1:
        part = np.asarray(cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    step_x, step_y = wide / (k * size), high / (k * size)
    first_x = (x - left) / k + 0.5 * step_x - 0.5
    first_y = (y - top) / k + 0.5 * step_y - 0.5
    move = np.array([[step_x, 0.0, first_x], [0.0, step_y, first_y]])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cv2.warpAffine(part, move, (size, size), out, how, cv2.BORDER_REPLICATE)


def _cut(frame: Frame, left: int, top: int, columns: int, rows: int) -> Frame:
    """The picture inside a box on whole pixels, the edge repeated outside the picture."""
    high, wide = frame.shape[:2]
    y0, x0 = min(max(top, 0), high - 1), min(max(left, 0), wide - 1)
    y1, x1 = max(min(top + rows, high), y0 + 1), max(min(left + columns, wide), x0 + 1)
    part = frame[y0:y1, x0:x1]
    above, below = max(0, y0 - top), max(0, top + rows - y1)
    before, behind = max(0, x0 - left), max(0, left + columns - x1)
    if not (above or below or before or behind):
        return part
    edge = cv2.BORDER_REPLICATE
    return np.asarray(cv2.copyMakeBorder(part, above, below, before, behind, edge), dtype=np.uint8)


def to_crop(points: NDArray[np.float64], boxes: Boxes, size: int) -> NDArray[np.float64]:
    """Points in pixels of the picture (n, P, 2) to pixels of the crops (n, P, 2)."""
    return (points - boxes[:, None, :2]) * (size / boxes[:, None, 2:])
