"""Signal processing shared by the packages: detrending, filters, spectra, resampling (numpy)."""

from __future__ import annotations

import functools

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray
from scipy import fft as sfft
from scipy.linalg import cho_solve_banded, cholesky_banded

Array = NDArray[np.float64]


@functools.lru_cache(maxsize=64)
def _trend_factor(n: int, strength: float) -> Array:
    """Banded Cholesky factor of I + strength^2 D'D, D the second difference of n samples."""
    main = np.full(n, 6.0)
    main[[0, -1]], main[[1, -2]] = 1.0, 5.0
    first = np.full(n - 1, -4.0)
    first[[0, -1]] = -2.0
    if n == 3:
        main[:], first[:] = (1.0, 4.0, 1.0), -2.0
    bands = np.zeros((3, n))
    bands[2] = 1.0 + strength**2 * main
    bands[1, 1:] = strength**2 * first
    bands[0, 2:] = strength**2
    return cholesky_banded(bands)


def detrend(signal: ArrayLike, strength: float = 100.0) -> Array:
    """Remove the smoothness-priors trend (Tarvainen et al. 2002, eq. 6) along the last axis.

    signal: (..., T); strength: lambda, unitless. Banded solve, linear in T.
    """
    x = np.asarray(signal, dtype=np.float64)
    n = x.shape[-1]
    if n < 3:
        return x - x.mean(axis=-1, keepdims=True)
    trend = cho_solve_banded((_trend_factor(n, float(strength)), False), x.reshape(-1, n).T)
    return x - trend.T.reshape(x.shape)


def strength_at(strength_at_30: float, fs: float) -> float:
    """The lambda of `detrend` that cuts, at `fs` samples a second, where `strength_at_30` cuts at 30.

    The cut-off in Hz goes with fs / sqrt(lambda): with 100 at 60 samples a second half of a slow pulse is
    lost, and its harmonic passes for the pulse.
    """
    return strength_at_30 * (fs / 30) ** 2


@functools.lru_cache(maxsize=64)
def _butter(order: int, low_hz: float, high_hz: float, fs: float) -> Array:
    return scipy.signal.butter(order, [low_hz, high_hz], "bandpass", fs=fs, output="sos")


def bandpass(signal: ArrayLike, fs: float, low_hz: float, high_hz: float, order: int = 2) -> Array:
    """Zero-phase Butterworth band-pass along the last axis; `order` as given to the design.

    The upper edge is held below the Nyquist frequency; ValueError when the band is then empty.
    """
    high_hz = min(high_hz, 0.499 * fs)
    if not 0 < low_hz < high_hz:
        raise ValueError(f"empty band {low_hz}-{high_hz} Hz at {fs:.3f} samples a second")
    return _zero_phase(signal, _butter(order, float(low_hz), float(high_hz), float(fs)))


def _zero_phase(signal: ArrayLike, sos: Array) -> Array:
    """Forward and backward; the padding is that of scipy's filtfilt for the transfer function."""
    x = np.asarray(signal, dtype=np.float64)
    n_zero = min(int((sos[:, 2] == 0).sum()), int((sos[:, 5] == 0).sum()))
    padding = 3 * (2 * len(sos) + 1 - n_zero)
    return scipy.signal.sosfiltfilt(sos, x, axis=-1, padlen=min(padding, x.shape[-1] - 1))


def power_spectrum(
    signal: ArrayLike, fs: float, window: str = "hann", bin_hz: float | None = None
) -> tuple[Array, Array]:
    """Zero-padded one-sided power spectrum of the mean-free signal along the last axis.

    Returns (frequencies in Hz (F,), power (..., F)); bins are `bin_hz` wide or finer.
    """
    x = np.asarray(signal, dtype=np.float64)
    n = x.shape[-1]
    n_fft = n if bin_hz is None else max(n, int(np.ceil(fs / bin_hz)))
    n_fft = sfft.next_fast_len(n_fft, real=True)
    x = (x - x.mean(axis=-1, keepdims=True)) * _window(window, n)
    power: Array = np.abs(sfft.rfft(x, n_fft, axis=-1)) ** 2
    frequency_hz: Array = np.fft.rfftfreq(n_fft, 1 / fs).astype(np.float64)
    return frequency_hz, power


def _window(name: str, n: int) -> Array:
    """A periodic window of n samples, of any kind scipy knows."""
    if name == "hann":
        return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)
    window: Array = scipy.signal.get_window(name, n)
    return window


def parabolic_peak(values: Array, index: int) -> float:
    """Position of the maximum at `index`, refined by a parabola through three points.

    `index` itself where it is no local maximum (the edge of a band on a slope): the parabola's vertex may
    lie anywhere then.
    """
    if not 0 < index < len(values) - 1:
        return float(index)
    left, mid, right = values[index - 1 : index + 2]
    curve = left - 2 * mid + right
    if curve == 0 or mid < max(left, right):
        return float(index)
    return index + 0.5 * float((left - right) / curve)


def sample_rate(time_s: ArrayLike) -> float:
    """(n - 1) / (last - first stamp), in Hz; ValueError when the stamps do not span time."""
    t = np.asarray(time_s, dtype=np.float64)
    if len(t) < 2 or not t[-1] > t[0]:
        raise ValueError("time stamps must span a positive duration")
    return (len(t) - 1) / float(t[-1] - t[0])


def to_uniform(signal: ArrayLike, time_s: ArrayLike, fs: float | None = None) -> tuple[Array, float]:
    """Linear interpolation onto a uniform grid over the same span; returns (samples, rate in Hz).

    signal: (T,) at `time_s` (T,), which must not decrease. `fs` defaults to the mean rate.
    """
    t = np.asarray(time_s, dtype=np.float64)
    x = np.asarray(signal, dtype=np.float64)
    rate = sample_rate(t)
    n = len(t) if fs is None else round(float(t[-1] - t[0]) * fs) + 1
    grid = np.linspace(t[0], t[-1], n)
    return np.interp(grid, t, x), rate if fs is None else (n - 1) / float(t[-1] - t[0])


def fill_gaps(signal: ArrayLike) -> Array:
    """NaN samples replaced by linear interpolation along the first axis; all-NaN columns stay.

    signal: (T, ...).
    """
    x = np.array(signal, dtype=np.float64)
    flat = x.reshape(len(x), -1)
    index = np.arange(len(x))
    for column in range(flat.shape[1]):
        good = np.isfinite(flat[:, column])
        if good.any() and not good.all():
            flat[:, column] = np.interp(index, index[good], flat[good, column])
    return flat.reshape(x.shape)


def wave_of_rates(rate_bpm: ArrayLike, at_s: ArrayLike, time_s: ArrayLike) -> Array:
    """A sinusoid whose rate follows given ones, without a jump of its phase: (K,), (K,), (T,) -> (T,).

    Between the times `at_s` the rate is interpolated linearly, beyond them it is held. It has a rate at
    every moment and nothing else: neither its phase nor its shape says anything about a pulse.
    """
    times = np.asarray(time_s, dtype=np.float64)
    rate_hz = np.interp(times, np.asarray(at_s, np.float64), np.asarray(rate_bpm, np.float64)) / 60
    steps = np.diff(times) * (rate_hz[1:] + rate_hz[:-1]) / 2
    return np.sin(2 * np.pi * np.concatenate([[0.0], np.cumsum(steps)]))
