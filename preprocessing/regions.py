"""Mean colour of named skin regions, and a skin mask, from the face mesh on the crop."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.frames import Frame

NAMES = ("face", "forehead", "left_cheek", "right_cheek")
"""Left and right are the subject's own. `face` is the oval without eyes, brows and lips."""
SKIN_SIDE = 64
"""Side of the skin mask in pixels."""

OVAL = (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152,
         148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109)
HOLES = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
    (70, 63, 105, 66, 107, 55, 65, 52, 53, 46),
    (300, 293, 334, 296, 336, 285, 295, 282, 283, 276),
    (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185),
)
_SKIN = (
    (103, 67, 109, 10, 338, 297, 332, 333, 299, 336, 9, 107, 69, 104),
    (346, 347, 348, 329, 266, 425, 411, 352),
    (117, 118, 119, 100, 36, 205, 187, 123),
)
_SKIN_COLOUR = np.array([0, 133, 77]), np.array([255, 173, 127])
"""Lowest and highest Y, Cr, Cb."""
STILL = 0.5
"""Mean shift of the mesh in crop pixels below which the masks are kept."""

Points = NDArray[np.float64]
Mask = NDArray[np.uint8]


class Regions:
    """Masks of the named regions on square crops, rebuilt when the mesh has moved on the crop."""

    def __init__(self, size: int) -> None:
        """size: side of the crops in pixels."""
        self._size = size
        self._built_from: Points | None = None
        self._oval = np.zeros((size, size), dtype=np.uint8)
        self._parts: list[tuple[slice, slice, Mask] | None] = []

    def fit(self, points: Points) -> None:
        """Place the masks on mesh points (468, 2) in crop pixels."""
        if self._built_from is not None and np.abs(points - self._built_from).mean() < STILL:
            return
        self._built_from = points.copy()
        corners = np.rint(points).astype(np.int32)
        oval = self._polygon(corners, OVAL)
        for hole in HOLES:
            cv2.fillPoly(oval, [corners[list(hole)]], (0,))
        self._oval = oval
        self._parts = [_bounded(oval), *(_bounded(self._polygon(corners, skin)) for skin in _SKIN)]

    def fit_ellipse(self) -> None:
        """Without a mesh: `face` is the ellipse of .4 x .5 of the crop's side about its centre."""
        if self._parts:
            return
        half = self._size // 2
        axes = (round(0.2 * self._size), round(0.25 * self._size))
        self._oval = np.zeros((self._size, self._size), dtype=np.uint8)
        cv2.ellipse(self._oval, (half, half), axes, 0, 0, 360, (255,), -1)
        self._parts = [_bounded(self._oval), None, None, None]

    def means(self, crop: Frame, out: NDArray[np.float32]) -> None:
        """Fill `out` (R, 3) with the mean RGB of each region; NaN for one that has no pixel."""
        for row, part in enumerate(self._parts):
            if part is None:
                out[row] = np.nan
            else:
                rows, columns, mask = part
                out[row] = cv2.mean(crop[rows, columns], mask)[:3]

    def skin(self, crop: Frame) -> Mask:
        """(64, 64) 255 where a pixel of the face region has the colour of skin, else 0.

        The colour rule is that of Chai and Ngan (1999), Cr 133..173 and Cb 77..127; it was made on
        well-lit pictures and misses skin in coloured or very dim light.
        """
        small = cv2.resize(crop, (SKIN_SIDE, SKIN_SIDE), interpolation=cv2.INTER_AREA)
        colour = cv2.inRange(cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb), *_SKIN_COLOUR)
        oval = cv2.resize(self._oval, (SKIN_SIDE, SKIN_SIDE), interpolation=cv2.INTER_NEAREST)
        return np.asarray(cv2.bitwise_and(colour, oval), dtype=np.uint8)

    def _polygon(self, corners: NDArray[np.int32], path: tuple[int, ...]) -> Mask:
        mask = np.zeros((self._size, self._size), dtype=np.uint8)
        cv2.fillPoly(mask, [corners[list(path)]], (255,))
        return mask


def _bounded(mask: Mask) -> tuple[slice, slice, Mask] | None:
    """The mask within its bounding rectangle; None when it is empty."""
    x, y, wide, high = cv2.boundingRect(mask)
    if wide == 0 or high == 0:
        return None
    rows, columns = slice(y, y + high), slice(x, x + wide)
    return rows, columns, np.ascontiguousarray(mask[rows, columns])
