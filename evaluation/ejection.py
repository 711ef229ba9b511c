"""The left ventricle's ejection time, read from the second derivative of a pulse (Hill, Liu, McDuff 2021)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from evaluation.beats import find_beats
from evaluation.vital_presets import VitalSettings
from utils.signal import parabolic_peak

Array = NDArray[np.float64]

FINE_HZ = 500.0
"""Rate at which extremes of the second derivative are looked for."""
BEFORE, AFTER = 0.45, 0.5
"""How far before and after a systolic maximum its beat's landmarks may lie, in parts of the beat."""


@dataclass(frozen=True)
class Ejections:
    """onset_s, notch_s (B,): upstroke and dicrotic notch of each beat, in s from the first sample."""

    onset_s: Array
    notch_s: Array

    @property
    def duration_s(self) -> Array:
        """Ejection time of each beat (B,)."""
        return self.notch_s - self.onset_s


def find_ejections(pulse: Array, fs: float, settings: VitalSettings) -> Ejections:
    """Upstroke and dicrotic notch of every beat of a pulse (T,) without gaps, sampled uniformly at `fs` Hz.

    They are the highest maxima of the second derivative before and after the systolic maximum (the waves a
    and e of the acceleration plethysmogram). Beats where one of them is at the edge of its stretch are left
    out. ValueError when the pulse is too short for beats.
    """
    peaks_s = find_beats(pulse, fs, settings).time_s
    if len(peaks_s) < 2:
        return Ejections(np.empty(0), np.empty(0))
    time_s = np.arange(1, len(pulse) - 1) / fs
    fine_s = np.arange(time_s[0], time_s[-1], 1 / FINE_HZ)
    second = CubicSpline(time_s, np.diff(pulse, n=2))(fine_s)
    beat_s = np.append(np.diff(peaks_s), peaks_s[-1] - peaks_s[-2])
    stretches = zip(peaks_s - BEFORE * beat_s, peaks_s, peaks_s + AFTER * beat_s, strict=True)
    places = np.array([(_highest(second, fine_s, first, peak), _highest(second, fine_s, peak, last))
                       for first, peak, last in stretches])
    places = places[np.isfinite(places).all(axis=1)]
    return Ejections(places[:, 0], places[:, 1])


def _highest(values: Array, time_s: Array, first_s: float, last_s: float) -> float:
    """Time of the highest maximum between two times; NaN where it is at one of them."""
    inside = np.flatnonzero((time_s >= first_s) & (time_s <= last_s))
    if len(inside) < 3 or first_s < time_s[0] or last_s > time_s[-1]:
        return float("nan")
    index = int(inside[values[inside].argmax()])
    if index in (inside[0], inside[-1]):
        return float("nan")
    return float(time_s[0] + parabolic_peak(values, index) * (time_s[1] - time_s[0]))
