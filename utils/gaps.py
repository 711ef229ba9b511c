"""Pauses in time stamps; without scipy, so that preprocessing workers stay small."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_GAP_S, _GAP_STEPS = 0.5, 3


def in_gaps(time_s: ArrayLike, at_s: ArrayLike) -> NDArray[np.bool_]:
    """Whether times (n,) fall strictly between two neighbours of `time_s` (T,) that are too far apart.

    That is by more than half a second and more than three usual steps: a pulse may have beaten between them.
    """
    times, at = np.asarray(time_s, dtype=np.float64), np.asarray(at_s, dtype=np.float64)
    steps = np.diff(times)
    before = np.clip(np.searchsorted(times, at, side="right") - 1, 0, len(steps) - 1)
    wide = steps > max(_GAP_S, _GAP_STEPS * float(np.median(steps)))
    found: NDArray[np.bool_] = wide[before] & (at > times[before]) & (at < times[before + 1])
    return found
