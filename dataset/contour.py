"""The outline of a face as a mask, from the stored landmarks."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.regions import OVAL

NAME, LANDMARKS = "contour", "landmarks"


def masks(landmarks: NDArray[np.floating], side: int, size: int) -> NDArray[np.uint8]:
    """1 inside the face's oval, 0 outside: (T, P, 2) in pixels of crops of `side` -> (T, size, size).

    A frame whose landmarks are not finite has the outline of the nearest one that has any; without one
    the whole picture is 1.
    """
    points = np.asarray(landmarks, dtype=np.float64)[:, list(OVAL)]
    found = np.flatnonzero(np.isfinite(points).all((1, 2)))
    made = np.ones((len(points), size, size), dtype=np.uint8)
    if not len(found):
        return made
    corners = np.rint(points[found] * (size / side) - 0.5).astype(np.int32)
    made[found] = [cv2.fillPoly(np.zeros((size, size), np.uint8), [polygon], (1,)) for polygon in corners]
    nearest = found[np.abs(np.arange(len(points))[:, None] - found).argmin(1)]
    return made[nearest]
