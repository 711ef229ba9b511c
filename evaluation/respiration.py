"""Respiration rate, from a sensor's waveform or from what breathing does to the pulse."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import fft as sfft

from evaluation.beats import Beats, Intervals
from evaluation.variability import BEYOND_HZ, highest_peak_hz, lomb_scargle
from evaluation.vital_presets import VitalSettings
from utils.signal import bandpass, detrend, power_spectrum

Array = NDArray[np.float64]
BIN_HZ = 0.002
MIN_BEATS = 8
"""Beats below which nothing is read from their heights and intervals."""
MIN_SAMPLES = 16
"""Samples of a respiration waveform below which nothing is read from it."""


def sensor_rate_bpm(
    breathing: Array, fs: float, settings: VitalSettings, derivative: bool = False
) -> float | str:
    """Breaths a minute of a respiration waveform (T,), uniformly sampled at `fs` Hz; else why there are none.

    derivative: the waveform is a difference-normalised one and is summed up first. With resp_detrend and
    resp_order this is what rPPG-Toolbox computes for BigSmall: smoothness priors, Butterworth band-pass,
    periodogram (boxcar, next power of two), highest bin of the band. Otherwise: what is slower than half of
    the band's lower edge is removed, and the highest local maximum of a Hann spectrum is refined.
    """
    short = too_short(len(breathing) / fs, settings)
    if short:
        return short
    if len(breathing) < MIN_SAMPLES or 2.1 * settings.resp_high_hz >= fs:
        return f"{len(breathing)} samples at {fs:.2f} Hz are too few for respiration"
    x = np.cumsum(breathing) if derivative else np.asarray(breathing, dtype=np.float64)
    if np.ptp(x) == 0:
        return "the waveform is constant"
    band = settings.resp_low_hz, settings.resp_high_hz
    if settings.resp_detrend is not None and settings.resp_order is not None:
        x = bandpass(detrend(x, settings.resp_detrend), fs, *band, order=settings.resp_order)
        return _highest_bin_hz(x, fs, band) * 60
    # the trend of strength lambda is cut at fs / (2 pi sqrt(lambda)) Hz
    x = detrend(x, (fs / (np.pi * settings.resp_low_hz)) ** 2)
    frequency, power = power_spectrum(x, fs, "hann", BIN_HZ)
    rate = highest_peak_hz(frequency, power, band, refine=True)
    return rate * 60 if rate is not None else f"no local maximum within {band[0]}-{band[1]} Hz"


def _highest_bin_hz(x: Array, fs: float, band_hz: tuple[float, float]) -> float:
    """Frequency of the highest bin of the periodogram within a band."""
    n_fft = 1 << (len(x) - 1).bit_length()
    power = np.abs(sfft.rfft(x, n_fft)) ** 2
    frequency = np.fft.rfftfreq(n_fft, 1 / fs)
    inside = np.flatnonzero((frequency >= band_hz[0]) & (frequency <= band_hz[1]))
    return float(frequency[inside[power[inside].argmax()]])


def too_short(duration_s: float, settings: VitalSettings) -> str:
    """Why a recording is too short for the band of respiration; empty when it is not."""
    if duration_s * settings.resp_low_hz >= settings.min_periods:
        return ""
    return f"{duration_s:.1f} s hold less than {settings.min_periods:g} period of {settings.resp_low_hz} Hz"


def pulse_rate_bpm(
    pulse: Array, fs: float, beats: Beats, found: Intervals, settings: VitalSettings
) -> float | str:
    """Breaths a minute from a pulse (T,), uniformly sampled at `fs` Hz; else why there are none.

    resp_from "pulse" reads the waveform itself, as `sensor_rate_bpm`. "fusion": breathing changes the
    intervals, the heights and the baseline of the beats (Karlen et al. 2013, IEEE TBME 60(7)); the three
    Lomb-Scargle spectra, each as a share of its own power in the band, are summed, and the highest local
    maximum is taken.
    """
    if settings.resp_from == "pulse":
        return sensor_rate_bpm(pulse, fs, settings)
    if found.n_dropped > settings.most_dropped * max(len(found.ibi_s), 1):
        return "too many intervals are outliers"
    n_beats = int(found.kept.sum())
    if n_beats < MIN_BEATS:
        return f"{n_beats} usable beats, {MIN_BEATS} are needed"
    short = too_short(float(beats.time_s[-1] - beats.time_s[0]), settings)
    if short:
        return short
    band, time_s = (settings.resp_low_hz, settings.resp_high_hz), found.end_s[found.kept]
    total: Array = np.zeros(0)
    frequency: Array = np.zeros(0)
    for values in _modulations(pulse, fs, beats, found):
        trend = np.polynomial.Polynomial.fit(time_s, values, 1)(time_s)
        frequency, power = lomb_scargle(time_s, values - trend, band[1] + BEYOND_HZ, settings.oversampling)
        inside = (frequency >= band[0]) & (frequency <= band[1])
        share = power / power[inside].sum() if power[inside].sum() > 0 else np.zeros_like(power)
        total = share if not len(total) else total + share
    rate = highest_peak_hz(frequency, total, band, settings.parabolic)
    return rate * 60 if rate is not None else f"no local maximum within {band[0]}-{band[1]} Hz"


def _modulations(pulse: Array, fs: float, beats: Beats, found: Intervals) -> list[Array]:
    """Interval, height over the foot before, and middle of both, of every kept beat: three (B,)."""
    places = np.clip(np.rint(beats.time_s * fs).astype(int), 0, len(pulse) - 1)
    feet = np.array([pulse[a : b + 1].min() for a, b in pairwise(places)])
    tops = pulse[places[1:]]
    return [values[found.kept] for values in (found.ibi_s, tops - feet, (tops + feet) / 2)]
