"""The lag between label and skin, with its sign, and whether the label stands upright.

Both are cut into windows that are correlated one by one, so that a burst of movement weighs no more than
its seconds. A label on its head is half a beat away from one that stands upright; what tells them apart is
that systole is steeper than diastole, the second harmonic of the pulse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from utils.signal import bandpass, parabolic_peak

Array = NDArray[np.float64]
Polarity = Literal["upright", "inverted", "undecided"]

FARTHEST_S = 1.5
"""Lags are looked for so far to both sides; clocks of consumer devices start that far apart."""
BAND_HZ = (0.6, 4.0)
"""36 to 240 bpm: all pulse rates, and the second harmonic of those at rest."""
WINDOW_S, HOP_S = 5.0, 2.5
"""Four beats or more, so that a window has a peak of its own; halves of it overlap."""
TRACK_WINDOWS = 5
"""Neighbouring windows whose correlations are averaged (15 s) where the lag is followed over time."""
SHORTEST_DRIFT_S = 15.0
"""Below it both halves hold too few beats to compare."""
MIN_KNOWN = 0.9
"""Share of a window's label that must exist."""
MIN_R, DOUBT = 0.4, 3.5
"""Least correlation of a lag that is believed: .4, and 3.5 / sqrt(independent values) in short recordings.

Labels of other people stay below it, but for those whose hearts beat at the same rate.
"""
CLEAR_R, CLEAR_SE = 0.01, 3.0
"""One reading is better than another when its windows correlate better by .01 and by 3 standard errors."""
FASTEST_DRIFT, FOLLOWED = 0.03, 0.6
"""A clock that loses over 30 ms a second is none; and .6 of the pieces must correlate to be followed."""


@dataclass(frozen=True)
class Lag:
    """Label minus skin in seconds: positive where the label comes late."""

    lag_s: float
    """At the best correlation within half a beat, or farther where that fits clearly better."""
    r: float
    """Mean correlation of the windows there, of the label as it stands or inverted."""
    error_s: float
    """Standard error of the lag, by r and the number of independent values."""
    is_known: bool
    """Whether r is beyond what skin without a pulse gives."""
    polarity: Polarity
    upright_s: float
    upright_r: float
    inverted_s: float
    inverted_r: float
    half_beat_s: float
    drift_s: float | None
    """Lag at the end minus lag at the beginning; None where too short, or not known in both halves."""
    grid_s: Array
    """(K,) lags, and `correlation` (K,) of the label as it stands at each."""
    correlation: Array
    track_time_s: Array
    """(M,) middles of the pieces in which the lag was followed, and `track_s` (M,) the lag in each."""
    track_s: Array


@dataclass(frozen=True)
class _Peak:
    index: int
    lag_s: float
    r: float


def measure(
    skin: Array, label: Array, fs: float, rate_bpm: float, expected_s: float = 0.0
) -> Lag | None:
    """The lag of `label` (T,) behind `skin` (T,), both at `fs` Hz and rising at systole.

    label: NaN where there is none. rate_bpm: mean pulse rate, which says what half a beat is.
    expected_s: the middle of that beat. None where no window of five seconds holds both.
    """
    rows, starts = _correlograms(skin, label, fs)
    if not len(rows):
        return None
    reach = rows.shape[1] // 2
    grid_s = np.arange(-reach, reach + 1) / fs
    half_s = min(30 / rate_bpm, FARTHEST_S)
    mean = rows.mean(axis=0)
    near = np.flatnonzero(np.abs(grid_s - expected_s) <= half_s + 0.5 / fs)
    upright, inverted = _peak(mean, near, fs), _peak(-mean, near, fs)
    best, polarity = _choose(rows, mean, upright, inverted, fs)
    n_free = 2 * (BAND_HZ[1] - BAND_HZ[0]) * _covered_s(starts, fs)
    is_known = best.r >= max(MIN_R, DOUBT / math.sqrt(n_free))
    sign = -1 if polarity == "inverted" else 1
    time_s, track_s, track_r = _follow(sign * rows, starts, best, half_s, fs)
    drift_s, drift_known = _drift(time_s, track_s, track_r, len(label) / fs, n_free)
    error_s = half_s / math.pi * math.sqrt(max(0.0, 1 / max(best.r, 0.01) ** 2 - 1) / n_free)
    is_known = is_known or drift_known
    return Lag(
        best.lag_s, best.r, error_s, is_known, polarity, upright.lag_s, upright.r, inverted.lag_s, inverted.r,
        half_s, drift_s if is_known else None, grid_s, mean, time_s, track_s,
    )


def _correlograms(skin: Array, label: Array, fs: float) -> tuple[Array, Array]:
    """Correlation of every window over all lags, (W, K), and where the windows begin, (W,).

    At lag k sample i of the skin meets sample i + k of the label, in the part that overlaps.
    """
    n, hop, reach = round(WINDOW_S * fs), max(1, round(HOP_S * fs)), round(FARTHEST_S * fs)
    known = np.isfinite(label)
    if len(label) < n or not known.any() or not np.isfinite(skin).all() or np.ptp(skin) == 0:
        return np.empty((0, 2 * reach + 1)), np.empty(0)
    index = np.arange(len(label))
    filled = np.interp(index, index[known], label[known])
    pair = bandpass(np.stack([skin, filled]), fs, *BAND_HZ)
    windows = sliding_window_view(pair, n, axis=1)[:, ::hop]
    starts = np.arange(windows.shape[1]) * hop
    share = sliding_window_view(known, n)[::hop].mean(axis=1)
    usable = (share >= MIN_KNOWN) & (windows.std(axis=2) > 0).all(axis=0)
    rows = [_correlogram(a - a.mean(), b - b.mean(), reach) for a, b in zip(*windows[:, usable], strict=True)]
    return np.array(rows).reshape(-1, 2 * reach + 1), starts[usable]


def _correlogram(skin: Array, label: Array, reach: int) -> Array:
    """(2 reach + 1,) correlation of the overlapping parts at lags -reach..reach."""
    n = len(skin)
    cross = np.correlate(label, skin, "full")[n - 1 - reach : n + reach]
    a, b = np.concatenate([[0.0], np.cumsum(skin**2)]), np.concatenate([[0.0], np.cumsum(label**2)])
    lags = np.arange(-reach, reach + 1)
    late, early = np.maximum(lags, 0), np.maximum(-lags, 0)
    energy = (a[n - late] - a[early]) * (b[n - early] - b[late])
    return cross / np.sqrt(np.maximum(energy, 1e-300))


def _peak(values: Array, allowed: NDArray[np.int64], fs: float) -> _Peak:
    """The highest of the allowed places, refined between samples."""
    index = int(allowed[np.argmax(values[allowed])])
    place = parabolic_peak(values, index)
    return _Peak(index, (place - len(values) // 2) / fs, float(values[index]))


def _choose(
    rows: Array, mean: Array, upright: _Peak, inverted: _Peak, fs: float
) -> tuple[_Peak, Polarity]:
    """The reading that fits clearly best; the label as it stands within half a beat where none does."""
    far = _peak(mean, np.arange(len(mean)), fs)
    best = far if _is_better(rows[:, far.index], rows[:, upright.index]) else upright
    if _is_better(-rows[:, inverted.index], rows[:, best.index]):
        return inverted, "inverted"
    is_upright = _is_better(rows[:, best.index], -rows[:, inverted.index])
    return best, "upright" if is_upright else "undecided"


def _is_better(one: Array, other: Array) -> bool:
    """Whether the windows (W,) correlate clearly better in one reading than in the other."""
    gain = one - other
    if len(gain) < 3:
        return False
    # Windows overlap by half, so that two of three bring something new.
    error = float(gain.std(ddof=1)) / math.sqrt(len(gain) * 2 / 3)
    return float(gain.mean()) > max(CLEAR_R, CLEAR_SE * error)


def _covered_s(starts: Array, fs: float) -> float:
    """Seconds that the windows cover together."""
    steps = np.minimum(np.diff(starts) / fs, WINDOW_S)
    return WINDOW_S + float(steps.sum())


def _follow(
    rows: Array, starts: Array, best: _Peak, half_s: float, fs: float
) -> tuple[Array, Array, Array]:
    """Middles of pieces of the recording, the lag in each, and its correlation, (M,) each.

    Followed from the clearest piece to both ends, each within half a beat of its neighbour: a clock that
    runs away is not taken for one that jumps back by a beat.
    """
    n = min(TRACK_WINDOWS, len(rows))
    pieces = sliding_window_view(rows, n, axis=0).mean(axis=-1)
    middle = sliding_window_view(starts, n).mean(axis=-1) / fs + WINDOW_S / 2
    reach = rows.shape[1] // 2
    grid_s = np.arange(-reach, reach + 1) / fs
    lag_s, r = np.empty(len(pieces)), np.empty(len(pieces))
    near = np.flatnonzero(np.abs(grid_s - best.lag_s) <= half_s)
    first = int(pieces[:, near].max(axis=1).argmax())
    for order in (range(first, len(pieces)), range(first - 1, -1, -1)):
        expected = best.lag_s if order.start == first else lag_s[first]
        for piece in order:
            allowed = np.flatnonzero(np.abs(grid_s - expected) <= half_s)
            found = _peak(pieces[piece], allowed if len(allowed) else np.array([reach]), fs)
            lag_s[piece] = expected = found.lag_s
            r[piece] = found.r
    return middle, lag_s, r


def _drift(
    time_s: Array, lag_s: Array, r: Array, duration_s: float, n_free: float
) -> tuple[float | None, bool]:
    """Lag at the end minus lag at the beginning by the line through the pieces; is it to be believed?"""
    if duration_s < SHORTEST_DRIFT_S or len(time_s) < 2:
        return None, False
    good = r >= max(MIN_R, DOUBT / math.sqrt(n_free * min(1.0, 15 / duration_s)))
    first, last = good & (time_s < duration_s / 2), good & (time_s >= duration_s / 2)
    if not first.any() or not last.any() or good.mean() < FOLLOWED:
        return None, False
    slope = float(np.polyfit(time_s[good], lag_s[good], 1)[0])
    return (slope * duration_s, True) if abs(slope) <= FASTEST_DRIFT else (None, False)
