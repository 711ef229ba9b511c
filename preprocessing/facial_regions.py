"""The picture of a crop divided into facial regions by the face mesh; every pixel belongs to one."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.regions import HOLES, OVAL

NAMES = ("forehead", "left_eye", "right_eye", "nose", "left_cheek", "right_cheek", "mouth", "chin",
         "background")
"""Left and right are the subject's own; an eye includes its brow, a cheek the temple."""

_EYES = {"right_eye": (0, 2), "left_eye": (1, 3)}
"""Places in HOLES of each eye and its brow."""
_MOUTH = 4
_NOSE = (168, 6, 197, 195, 5, 4, 1, 2, 98, 97, 326, 327, 48, 64, 278, 294, 129, 358)
_BROW_TOPS, _LIP_BOTTOM = (105, 66, 334, 296), 17
_FOREHEAD_TOP, _CHIN_TIP = 10, 152

Points = NDArray[np.float64]


def facial_regions(points: Points, size: int) -> dict[str, NDArray[np.float32]]:
    """Masks of NAMES on a square crop: name -> (size, size) of 0 and 1, which add up to 1 everywhere.

    points: (468, 2) finite mesh points in pixels of the crop. Eyes, nose and mouth are hulls of their
    points; the rest of the face's oval is forehead above the brows, chin below the lower lip, and cheek
    on either side of the line from the forehead to the chin.
    """
    corners = np.rint(points).astype(np.int32)
    down = points[_CHIN_TIP] - points[_FOREHEAD_TOP]
    down = down / max(float(np.linalg.norm(down)), 1e-9)
    rows, columns = np.mgrid[:size, :size]
    offset = np.stack([columns, rows], axis=-1) - points[_FOREHEAD_TOP]
    height = offset @ down
    side = offset @ np.array([down[1], -down[0]])
    brows, lip = ((points[list(places)] - points[_FOREHEAD_TOP]) @ down
                  for places in (_BROW_TOPS, (_LIP_BOTTOM,)))
    label = np.full((size, size), NAMES.index("background"), dtype=np.uint8)
    oval = _filled(corners[list(OVAL)], size)
    for name, inside in {
        "left_cheek": side >= 0, "right_cheek": side < 0,
        "forehead": height < brows.mean(), "chin": height > lip.mean(),
    }.items():
        label[oval & inside] = NAMES.index(name)
    for name, places in _EYES.items():
        for place in places:
            label[_hull(corners[list(HOLES[place])], size) & oval] = NAMES.index(name)
    label[_hull(corners[list(_NOSE)], size) & oval] = NAMES.index("nose")
    label[_hull(corners[list(HOLES[_MOUTH])], size) & oval] = NAMES.index("mouth")
    return {name: (label == index).astype(np.float32) for index, name in enumerate(NAMES)}


def _filled(corners: NDArray[np.int32], size: int) -> NDArray[np.bool_]:
    mask = np.zeros((size, size), dtype=np.uint8)
    cv2.fillPoly(mask, [corners], (1,))
    return mask.astype(bool)


def _hull(corners: NDArray[np.int32], size: int) -> NDArray[np.bool_]:
    return _filled(np.asarray(cv2.convexHull(corners), dtype=np.int32), size)
