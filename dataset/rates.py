"""The rate of a short stretch of label."""

from __future__ import annotations

import math

import numpy as np

from utils import signal

PULSE_BAND_HZ = (0.6, 4.0)
SHORTEST_FOR_RATE_S = 3.0


def spectral_rate_bpm(label: np.ndarray, time_s: np.ndarray) -> float:
    """Rate of the strongest peak of a label (n,) between 0.6 and 4 Hz; NaN where there is none to read."""
    n = len(label)
    if n < 4 or time_s[-1] - time_s[0] < SHORTEST_FOR_RATE_S or not np.isfinite(label).all():
        return math.nan
    uniform, fs = signal.to_uniform(label, time_s)
    frequency_hz, power = signal.power_spectrum(
        signal.detrend(uniform, signal.strength_at(100.0, fs)), fs, bin_hz=0.02)
    band = np.flatnonzero((frequency_hz >= PULSE_BAND_HZ[0]) & (frequency_hz <= PULSE_BAND_HZ[1]))
    if len(band) == 0 or not power[band].max() > 0:
        return math.nan
    peak = int(band[power[band].argmax()])
    return 60.0 * float(frequency_hz[1]) * signal.parabolic_peak(power, peak)
