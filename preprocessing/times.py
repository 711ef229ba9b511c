"""Time stamps as recorded: how much may be odd, and how little odds are repaired."""

from __future__ import annotations

import numpy as np

from preprocessing.frames import Series
from utils.errors import UserError


def tolerated(n: int) -> int:
    """Frames or samples of `n` that may be missing or odd before a recording fails: 5 or 1 %."""
    return max(5, n // 100)


def increasing(time_s: Series, what: str) -> tuple[Series, list[str]]:
    """Times made strictly increasing: stamps that repeat or step back move between their neighbours.

    Returns (times, warnings). UserError when more than 5 and more than 1 % of them do, or when one
    is not finite. `what` names the stamps and their file.
    """
    if not np.isfinite(time_s).all():
        raise UserError(f"{what}: a time stamp is not a number")
    if len(time_s) < 2:
        raise UserError(f"{what}: {len(time_s)} time stamp(s); at least 2 are needed")
    highest = np.maximum.accumulate(time_s)
    good = np.concatenate([[True], time_s[1:] > highest[:-1]])
    n_bad = int((~good).sum())
    if n_bad == 0:
        return time_s, []
    if n_bad > tolerated(len(time_s)) or good.sum() < 2:
        raise UserError(
            f"{what}: {n_bad} of {len(time_s)} time stamps repeat or step back; too many to repair"
        )
    index = np.arange(len(time_s))
    fixed = np.interp(index, index[good], time_s[good])
    last = int(index[good][-1])
    gap = float(np.median(np.diff(time_s[good])))
    fixed[last + 1 :] = fixed[last] + gap * np.arange(1, len(time_s) - last)
    return fixed, [f"{what}: {n_bad} time stamps repeated or stepped back; put between their neighbours"]


def mean_rate_hz(time_s: Series) -> float:
    """(n - 1) / (last - first stamp) of increasing times, in Hz."""
    return (len(time_s) - 1) / float(time_s[-1] - time_s[0])
