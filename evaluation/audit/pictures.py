"""What the pictures are like: is there a face, does its box hold still, is it lit, is it coloured right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evaluation.audit.findings import Array, Part, Signals

Crops = NDArray[np.uint8]

FACE_SHARE, NO_FACE_SHARE = 0.9, 0.1
"""Of the frames: below .9 the box was carried over for seconds; below .1 there is no face to speak of."""
JUMP = 0.2
"""Of the box's height between two frames: six heights a second, no head moves so."""
TREMBLE = 0.01
"""Of the box's height: how far it trembles about its own course. The crop's colours tremble with it."""
SATURATED, BLACK = 250, 5
"""Grey levels from which a sensor or a codec has lost the pulse."""
BAD_PIXELS = 0.05
DIM, BRIGHT = 30.0, 225.0
"""Mean grey level: a pulse of .5 % is then less than a sixth of a level, or most pixels saturate."""
BLACK_FRAME = 2.0
MOSTLY = 0.5
FROZEN_SHARE, SAME_COLOUR = 0.05, 1e-3
"""Neighbouring frames with one mean colour to a thousandth of a grey level; noise alone moves it more."""
GREY = 0.5


def check_face(signals: Signals) -> Part:
    """Share of frames with a face, and how its box moves; nothing of it where the source is the crop."""
    part, finder = Part(), str(signals.stated.get("face_finder", ""))
    columns = ("face_share", "box_tremble", "n_box_jumps")
    if finder == "none" or not len(signals.box):
        for column in columns:
            part.put(column, None, "no face is looked for: the pictures are crops by declaration")
        return part
    share = float(signals.face_found.mean())
    part.put(columns[0], share)
    part.flag(share < FACE_SHARE, "face_lost", f"a face is found in {share:.0%} of the frames",
              is_fatal=share < NO_FACE_SHARE)
    size = float(np.median(signals.box[:, 3]))
    centre = (signals.box[:, :2] + signals.box[:, 2:] / 2) / size
    step = np.hypot(*np.diff(centre, axis=0).T)
    tremble = np.abs(np.diff(centre, n=2, axis=0)).mean() if len(centre) > 2 else 0.0
    grown = np.abs(np.diff(signals.box[:, 3])) / size
    n_jumps = int(((step > JUMP) | (grown > JUMP)).sum())
    part.put(columns[1], float(tremble))
    part.put(columns[2], n_jumps)
    part.flag(tremble > TREMBLE, "box_tremble", f"the face box trembles by {tremble:.1%} of its height")
    part.flag(n_jumps > 0, "box_jumps", f"the face box jumps {n_jumps} times")
    return part


def check_light(signals: Signals) -> Part:
    """Exposure of the sampled skin; order of the colours, black and frozen frames over all frames."""
    part, skin = Part(), skin_pixels(signals.crops).astype(np.float64)
    bright, dark = float((skin >= SATURATED).any(axis=1).mean()), float((skin <= BLACK).all(axis=1).mean())
    mean = float(skin.mean())
    part.put("brightness", mean, digits=1)
    part.put("saturated_share", bright)
    part.put("black_share", dark)
    part.flag(bright > BAD_PIXELS, "saturated", f"{bright:.0%} of the skin is saturated")
    part.flag(dark > BAD_PIXELS, "black", f"{dark:.0%} of the skin is black")
    part.flag(mean < DIM, "dim", f"the skin has a mean grey level of {mean:.0f}")
    part.flag(mean > BRIGHT, "bright", f"the skin has a mean grey level of {mean:.0f}")
    seen = signals.rgb[np.isfinite(signals.rgb).all(axis=1)]
    if not len(seen):
        for column in ("n_black_frames", "frozen_share", "red_minus_blue"):
            part.put(column, None, "no colour of the face is known")
        return part
    _colours(part, seen)
    return part


def _colours(part: Part, rgb: Array) -> None:
    """Findings from the mean colours of the frames (T, 3)."""
    n_black = int((rgb.mean(axis=1) < BLACK_FRAME).sum())
    part.put("n_black_frames", n_black)
    part.flag(n_black > 0, "black_frames", f"the face is black in {n_black} frames",
              is_fatal=n_black > MOSTLY * len(rgb))
    same = np.abs(np.diff(rgb, axis=0)).max(axis=1) < SAME_COLOUR
    frozen = float(same.mean()) if len(same) else 0.0
    part.put("frozen_share", frozen)
    part.flag(frozen > FROZEN_SHARE, "frozen", f"{frozen:.0%} of the frames repeat the one before",
              is_fatal=frozen > MOSTLY)
    red_minus_blue = float((rgb[:, 0] - rgb[:, 2]).mean())
    part.put("red_minus_blue", red_minus_blue, digits=1)
    is_grey = bool(np.ptp(rgb.mean(axis=0)) < GREY)
    if is_grey:
        part.notes.append("the pictures have no colour (infrared?)")
    part.flag(red_minus_blue < 0 and not is_grey, "swapped_colours",
              f"the face has {-red_minus_blue:.0f} grey levels more blue than red: exchanged? "
              "(preprocessing.swap_rb)")


def skin_pixels(crops: Crops) -> NDArray[np.uint8]:
    """(pixels, 3) of the ellipse amid each of the crops (n, H, W, 3), where skin is in a face crop."""
    _, height, width, _ = crops.shape
    y, x = np.ogrid[:height, :width]
    inside = ((x / width - 0.5) / 0.2) ** 2 + ((y / height - 0.5) / 0.25) ** 2 <= 1
    pixels: NDArray[np.uint8] = crops[:, inside].reshape(-1, 3)
    return pixels


def appearance(crops: Crops) -> NDArray[np.uint64]:
    """A 64-bit hash of each crop (n, H, W, 3): whether each of 8x8 fields is brighter than its neighbour.

    Neither light nor compression changes many of the bits; another face changes a third of them.
    """
    grey = crops.astype(np.float32).mean(axis=3)
    rows = np.array_split(np.arange(grey.shape[1]), 8)
    columns = np.array_split(np.arange(grey.shape[2]), 9)
    small = np.array([[grey[:, r][:, :, c].mean(axis=(1, 2)) for c in columns] for r in rows])
    bits = (small[:, 1:] > small[:, :-1]).transpose(2, 0, 1).reshape(len(crops), 64)
    weights = np.uint64(1) << np.arange(64, dtype=np.uint64)
    hashes: NDArray[np.uint64] = (bits * weights).sum(axis=1, dtype=np.uint64)
    return hashes
