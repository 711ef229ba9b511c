"""R peaks of an ECG and the heart rate they give; without scipy, so that workers stay small."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import ArrayLike, NDArray

from preprocessing.frames import Series
from utils.signal import fill_gaps, parabolic_peak

LOWEST_HZ = 60.0
"""With fewer samples a second a QRS complex is too short to be found."""
_BAND_HZ = (5.0, 20.0)
_KERNEL_S = 0.3
_MERGE_S = 0.1
"""A QRS complex is one hump of its slope's energy when averaged over so long."""
_REFRACTORY_S = 0.25
_BLOCK_S = 2.0
"""Long enough to hold a beat at 30 bpm."""
_SHARE, _SHARE_BACK = 0.3, 0.1
"""Part of the usual energy that makes a beat; and where one is missing, searched once more."""
_LATE = 1.5
"""An interval of so many usual ones lacks a beat."""
_NEAR_S = 0.06
RATE_BPM = (30.0, 220.0)
_ODD = 0.35
"""An interval further from its neighbours' median than this part holds an extra or a missed beat."""


def r_peaks(ecg: ArrayLike, fs: float) -> Series:
    """(beats,) times of the R peaks in seconds from the first sample, finer than a sample.

    ecg: (N,) in any unit and of either polarity, `fs` samples a second; NaN is bridged. After the
    scheme of Pan and Tompkins (1985): band-pass, slope, square, average; but the threshold follows
    the median energy of the seconds on both sides, as the whole recording is at hand. Empty where
    there is no signal. ValueError below 60 samples a second: a QRS complex is too short for it.
    """
    if fs < LOWEST_HZ:
        raise ValueError(f"R peaks need at least {LOWEST_HZ:g} samples a second, not {fs:.1f}")
    x = fill_gaps(ecg)
    if len(x) < int(_BLOCK_S * fs) or not np.isfinite(x).all() or x.min() == x.max():
        return np.empty(0)
    band = _bandpassed(x, fs)
    energy = _averaged(np.gradient(band) ** 2, max(1, round(_MERGE_S * fs)))
    candidates = _maxima(energy, max(1, round(_REFRACTORY_S * fs)))
    relative = energy[candidates] / np.maximum(_usual(energy, fs)[candidates], 1e-30)
    beats = _searched_back(candidates, relative)
    return _located(band, beats, max(1, round(_NEAR_S * fs))) / fs


def rate_over_time(peak_time_s: Series, at_s: ArrayLike) -> Series:
    """Heart rate in bpm of the interval between R peaks that holds each time `at_s` (N,).

    Its mean over time is the number of beats over their duration. NaN outside the peaks, and where
    an interval is outside 30..220 bpm or more than 35 % from the median of the nine around it: a
    beat was missed there, or something else taken for one.
    """
    at = np.asarray(at_s, dtype=np.float64)
    if len(peak_time_s) < 2:
        return np.full(at.shape, np.nan)
    interval_s = np.diff(peak_time_s)
    rate = 60 / np.maximum(interval_s, 1e-9)
    usual = np.array([np.median(interval_s[max(0, i - 4) : i + 5]) for i in range(len(interval_s))])
    odd = np.abs(interval_s / usual - 1) > _ODD
    rate[odd | (rate < RATE_BPM[0]) | (rate > RATE_BPM[1])] = np.nan
    holds = np.searchsorted(peak_time_s, at, side="right") - 1
    inside = (at >= peak_time_s[0]) & (at < peak_time_s[-1])
    return np.where(inside, rate[np.clip(holds, 0, len(rate) - 1)], np.nan)


def _bandpassed(x: Series, fs: float) -> Series:
    """Through a Hann-windowed difference of two sincs, without lag; the ends are prolonged."""
    reach = round(_KERNEL_S * fs)
    place = np.arange(-reach, reach + 1)
    low, high = (2 * hz / fs * np.sinc(2 * hz / fs * place) for hz in _BAND_HZ)
    kernel = (high - low) * np.cos(np.pi / 2 * place / (reach + 1)) ** 2
    return np.convolve(np.pad(x - x.mean(), reach, mode="edge"), kernel - kernel.mean(), mode="valid")


def _averaged(x: Series, n: int) -> Series:
    """Moving average over n samples, centred."""
    total = np.concatenate([[0.0], np.cumsum(np.pad(x, (n // 2, n - 1 - n // 2), mode="edge"))])
    return (total[n:] - total[:-n]) / n


def _maxima(x: Series, apart: int) -> NDArray[np.int64]:
    """Indices of local maxima, the higher of any two that are closer than `apart` samples."""
    rises = np.concatenate([[True], x[1:] > x[:-1]])
    falls = np.concatenate([x[:-1] >= x[1:], [True]])
    tops = np.flatnonzero(rises & falls)
    free = np.ones(len(x), dtype=np.bool_)
    kept = []
    for index in tops[np.argsort(-x[tops], kind="stable")]:
        if free[index]:
            kept.append(int(index))
            free[max(0, index - apart + 1) : index + apart] = False
    return np.array(sorted(kept), dtype=np.int64)


def _usual(energy: Series, fs: float) -> Series:
    """The energy of a beat at each sample: the median of the highest in five blocks of two seconds."""
    n = int(_BLOCK_S * fs)
    starts = np.arange(0, max(1, len(energy) - n // 2), n)
    highest = np.array([energy[start : start + n].max() for start in starts])
    level = np.array([np.median(highest[max(0, i - 2) : i + 3]) for i in range(len(highest))])
    return np.interp(np.arange(len(energy)), starts + n / 2, level)


def _searched_back(candidates: NDArray[np.int64], relative: Series) -> NDArray[np.int64]:
    """The candidates that are beats: above the threshold, or the highest in too long an interval."""
    is_beat = relative > _SHARE
    places = np.flatnonzero(is_beat)
    if len(places) > 2:
        longest = _LATE * float(np.median(np.diff(candidates[places])))
        for first, last in itertools.pairwise(places):
            if candidates[last] - candidates[first] > longest and last - first > 1:
                best = first + 1 + int(np.argmax(relative[first + 1 : last]))
                is_beat[best] = relative[best] > _SHARE_BACK
    return candidates[is_beat]


def _located(band: Series, beats: NDArray[np.int64], near: int) -> Series:
    """(beats,) index of the R peak near each hump, refined; upward or downward, as most of them are."""
    pieces = [band[max(0, b - near) : b + near + 1] for b in beats]
    upward = sum(float(piece.max() + piece.min()) for piece in pieces) >= 0
    signed = band if upward else -band
    places = [max(0, b - near) + int(np.argmax(signed[max(0, b - near) : b + near + 1])) for b in beats]
    return np.array([parabolic_peak(signed, place) for place in places])
