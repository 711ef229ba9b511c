"""Spectra and their peaks, as a protocol says: many waveforms of one length at a time."""

from __future__ import annotations

import functools

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy import fft as sfft

from evaluation.presets import Protocol
from utils.signal import parabolic_peak

Array = NDArray[np.float64]


def spectrum(filtered: Array, fs: float, protocol: Protocol) -> tuple[Array, Array]:
    """One-sided power spectra of (K, n): frequencies in Hz (F,) and power (K, F), up to a common factor."""
    if protocol.estimator == "welch_peak":
        return _welch(filtered, fs, protocol)
    return _periodogram(filtered, fs, protocol)


def _welch(filtered: Array, fs: float, protocol: Protocol) -> tuple[Array, Array]:
    """Mean of the periodograms of overlapping segments; samples after the last one are left out."""
    length = segment_length(filtered.shape[-1], protocol)
    overlap = length // 2
    if protocol.welch_overlap_samples is not None:
        wanted = protocol.welch_overlap_samples
        overlap = wanted if length > wanted else int(0.8 * length)
    segments = np.lib.stride_tricks.sliding_window_view(filtered, length, axis=-1)[:, :: length - overlap]
    frequency_hz, power = _periodogram(segments, fs, protocol)
    return frequency_hz, power.mean(axis=-2)


def segment_length(n: int, protocol: Protocol) -> int:
    """Samples in a segment of Welch's method for a waveform of n samples."""
    if protocol.welch_samples is not None:
        return min(protocol.welch_samples, n)
    return 2 * n // ((protocol.welch_segments or 1) + 1)


def _periodogram(x: Array, fs: float, protocol: Protocol) -> tuple[Array, Array]:
    """Tapered power spectrum along the last axis: (..., n) -> frequencies (F,) and power (..., F)."""
    n = x.shape[-1]
    n_fft, step = transform_length(n, fs, protocol)
    if protocol.remove_mean:
        x = x - x.mean(axis=-1, keepdims=True)
    if protocol.spectrum_window != "boxcar":
        x = x * taper(protocol.spectrum_window, n, protocol.taper)
    transform = sfft.rfft(x, n_fft, axis=-1)[..., ::step]
    power: Array = transform.real**2 + transform.imag**2
    n_fft //= step
    power[..., 1 : (n_fft + 1) // 2] *= 2  # all but 0 and half the sample rate stand for two frequencies
    frequency_hz: Array = np.fft.rfftfreq(n_fft, 1 / fs).astype(np.float64)
    return frequency_hz, power


@functools.lru_cache(maxsize=64)
def taper(name: str, n: int, form: str) -> Array:
    """Window of n samples, "periodic" or "symmetric"."""
    window: Array = scipy.signal.get_window(name, n, fftbins=form == "periodic")
    window.flags.writeable = False
    return window


def transform_length(n: int, fs: float, protocol: Protocol) -> tuple[int, int]:
    """Length of the transform of n samples, and the step at which its bins are taken.

    A fixed length below n is made a multiple of it: every so manieth bin then is a bin of the fixed length.
    """
    rule, value = protocol.n_fft, protocol.n_fft_value or 1.0
    if rule == "power_of_two":
        return 1 << (n - 1).bit_length(), 1
    if rule == "bin_width":
        wanted = max(n, int(np.ceil(60 * fs / (protocol.bin_bpm or 1.0))))
        return int(sfft.next_fast_len(wanted, real=True)), 1
    if rule == "unpadded":
        return n, 1
    if rule == "multiple":
        return round(value * n), 1
    if rule == "exact_bins":
        n_fft = max(round(60 * fs / (protocol.bin_bpm or 1.0)), 1)
    else:
        n_fft = max(int(value / fs if rule == "per_rate" else value), 1)
    step = -(-n // n_fft)
    return step * n_fft, step


def in_band(frequency_hz: Array, low_hz: float, high_hz: float) -> slice:
    """The bins from `low_hz` to `high_hz`, both included; empty where there is none."""
    first = np.searchsorted(frequency_hz, low_hz * (1 - 1e-12), side="left")
    last = np.searchsorted(frequency_hz, high_hz * (1 + 1e-12), side="right")
    return slice(int(first), int(last))


def peak_rates(frequency_hz: Array, power: Array, protocol: Protocol) -> Array:
    """Rate in bpm of each power spectrum (K, F); NaN where the band holds no bin, power or peak."""
    band = in_band(frequency_hz, protocol.peak_low_hz, protocol.peak_high_hz)
    inside = power[:, band]
    if not inside.shape[1]:
        return np.full(len(power), np.nan)
    empty = ~(inside.max(axis=1) > 0)
    rates = _peaks(frequency_hz, power, band, protocol)
    return np.where(empty, np.nan, rates)


def _peaks(frequency_hz: Array, power: Array, band: slice, protocol: Protocol) -> Array:
    """Rate in bpm of the peak of each power spectrum (K, F) in a band that holds bins."""
    inside = power[:, band]
    if protocol.peak == "harmonic_rule":
        limit = protocol.harmonic_bpm or 0.0
        return np.array([_harmonic_rule(60 * frequency_hz[band], row, limit) for row in inside])
    if protocol.peak == "band_drops":
        places = [band.start + band_drops(row) for row in inside]
        return 60 * float(frequency_hz[1]) * np.array(places)
    highest = band.start + inside.argmax(axis=1)
    if protocol.peak == "argmax":
        return 60 * frequency_hz[highest]
    refine = parabolic_peak if protocol.peak == "parabolic" else neighbour_drops
    places = [refine(row, int(index)) for row, index in zip(power, highest, strict=True)]
    return 60 * float(frequency_hz[1]) * np.array(places)


def neighbour_drops(values: Array, index: int) -> float:
    """Position of the maximum at `index`, moved towards the nearer neighbour in height.

    With d and D the smaller and the larger drop to a neighbour, by (1 - d / D) / 2 towards the smaller one;
    `index` itself at an end, or where it is no maximum.
    """
    if not 0 < index < len(values) - 1:
        return float(index)
    left, right = float(values[index] - values[index - 1]), float(values[index] - values[index + 1])
    if min(left, right) < 0 or max(left, right) == 0:
        return float(index)
    return index + (0.5 * (1 - right / left) if right < left else -0.5 * (1 - left / right))


def band_drops(values: Array) -> float:
    """Position of the highest of a band's values, moved as LFA/REA's released code moves it.

    With d and D the smaller and the larger drop to a neighbour, by 1 - d / D of a bin towards the smaller
    one; at an end of the band, between its two outer bins in proportion to their values.
    """
    highest, last = int(values.argmax()), len(values) - 1
    if last < 1:
        return float(highest)
    if highest in (0, last):
        first = min(highest, last - 1)
        lower, upper = float(values[first]), float(values[first + 1])
        return first + (upper / (lower + upper) if lower + upper > 0 else 0.0)
    left, right = float(values[highest] - values[highest - 1]), float(values[highest] - values[highest + 1])
    share = 1 - min(left, right) / max(left, right) if max(left, right) > 0 else 0.0
    return highest + (-share if right > left else share)


def _harmonic_rule(rates_bpm: Array, power: Array, limit_bpm: float) -> float:
    """The highest local peak, or the second one where the first lies within `limit_bpm` of twice its rate."""
    peaks, _ = scipy.signal.find_peaks(power)
    if not len(peaks):
        return float("nan")
    order = peaks[np.argsort(-power[peaks], kind="stable")]
    first = float(rates_bpm[order[0]])
    if len(order) > 1 and abs(first - 2 * float(rates_bpm[order[1]])) < limit_bpm:
        return float(rates_bpm[order[1]])
    return first


def interval_rates(filtered: Array, fs: float) -> Array:
    """60 over the mean interval of all local maxima of each waveform (K, n); NaN for fewer than two."""
    rates = np.full(len(filtered), np.nan)
    for index, row in enumerate(filtered):
        peaks, _ = scipy.signal.find_peaks(row)
        if len(peaks) > 1:
            rates[index] = 60 * fs * (len(peaks) - 1) / float(peaks[-1] - peaks[0])
    return rates
