"""Reference rates: of a short stretch of label, and those that the device told."""

from __future__ import annotations

import math

import numpy as np

from preprocessing.stored import StoredRecording
from utils import signal

PULSE_BAND_HZ = (0.6, 4.0)
SHORTEST_FOR_RATE_S = 3.0
IMPOSSIBLE_BPM = 400.0


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


def usable_rates(stored: StoredRecording) -> tuple[np.ndarray, np.ndarray]:
    """The usable samples of the device's heart rate in bpm, and their times in s: (M,) each."""
    if "hr_bpm" not in stored or "hr_time_s" not in stored:
        return np.empty(0), np.empty(0)
    rate, time_s = stored.array("hr_bpm").astype(np.float64), stored.array("hr_time_s")
    good = np.isfinite(rate) & (rate > 0) & (rate < IMPOSSIBLE_BPM)
    return rate[good], time_s[good]
