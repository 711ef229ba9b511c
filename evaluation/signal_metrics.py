"""Quality of predicted waveforms; each variant under its own name. Many waveforms of one length at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import fft as sfft

from evaluation.spectrum import in_band

Array = NDArray[np.float64]

PULSE_HZ = (40 / 60, 250 / 60)
ROUNDING_HZ = 1e-9
"""Bins and widths are often round numbers of bpm; a bin on the edge belongs, whatever rounding did."""
MAX_LAG_S, SHORTEST_S = 1.0, 3.0


def _sums(power: Array, chosen: NDArray[np.bool_]) -> Array:
    total: Array = np.where(chosen, power, 0.0).sum(axis=-1)
    return total


def _near(frequency_hz: Array, centre_hz: Array, width_hz: float) -> NDArray[np.bool_]:
    """Bins within `width_hz` of each centre (K,), ends included: (K, F)."""
    low, high = centre_hz[:, None] - width_hz - ROUNDING_HZ, centre_hz[:, None] + width_hz + ROUNDING_HZ
    return (frequency_hz >= low) & (frequency_hz <= high)


def _decibels(signal: Array, noise: Array, factor: float = 10.0) -> Array:
    """Ratio in dB; NaN where either is nothing."""
    good = (signal > 0) & (noise > 0)
    ratio: Array = factor * np.log10(np.where(good, signal, 1.0) / np.where(good, noise, 1.0))
    return np.where(good, ratio, np.nan)


def snr_toolbox(
    frequency_hz: Array, power: Array, rate_bpm: Array, low_hz: float, high_hz: float, factor: float = 10.0
) -> Array:
    """SNR of rPPG-Toolbox in dB: power within 6 bpm of f and of 2f over the rest of the band.

    frequency_hz (F,), power (K, F), rate_bpm (K,), the reference -> (K,). The windows around f and 2f are
    not cut at the band's ends; 0 when nothing remains, by its rule.
    """
    first, second = (_near(frequency_hz, many * rate_bpm / 60, 6 / 60) for many in (1, 2))
    rest = (frequency_hz >= low_hz) & (frequency_hz <= high_hz) & ~(first | second)
    noise = _sums(power, rest)
    found = _decibels(_sums(power, first) + _sums(power, second), noise, factor)
    return np.where(noise > 0, found, 0.0)


def snr_toolbox_old(
    frequency_hz: Array, power: Array, rate_bpm: Array, low_hz: float, high_hz: float
) -> Array:
    """`snr_toolbox` with 20 log10 of the power ratio, a habit of the toolbox's older versions and forks."""
    return snr_toolbox(frequency_hz, power, rate_bpm, low_hz, high_hz, factor=20.0)


def snr_dehaan(frequency_hz: Array, power: Array, rate_bpm: Array, low_hz: float, high_hz: float) -> Array:
    """SNR of de Haan & Jeanne (2013) in dB, with the widths of iPhys.

    Power within 0.1 Hz of f and 0.2 Hz of 2f over the rest, all inside 0.5-4 Hz whatever band the
    protocol searches; NaN when nothing remains.
    """
    band = in_band(frequency_hz, 0.5, 4.0)
    frequency_hz, power = frequency_hz[band], power[:, band]
    pulse = _near(frequency_hz, rate_bpm / 60, 0.1) | _near(frequency_hz, 2 * rate_bpm / 60, 0.2)
    return _decibels(_sums(power, pulse), _sums(power, ~pulse))


def snr_contrastphys(
    frequency_hz: Array, power: Array, rate_bpm: Array, low_hz: float, high_hz: float
) -> Array:
    """SNR of Contrast-Phys in dB: power within 5 bpm of f and 10 bpm of 2f over all the rest.

    Over the whole spectrum up to half the sample rate, not the band; NaN when nothing remains.
    """
    pulse = _near(frequency_hz, rate_bpm / 60, 5 / 60) | _near(frequency_hz, 2 * rate_bpm / 60, 10 / 60)
    return _decibels(_sums(power, pulse), _sums(power, ~pulse))


def snr_pyvhr(frequency_hz: Array, power: Array, rate_bpm: Array, low_hz: float, high_hz: float) -> Array:
    """SNR of pyVHR in dB: power within 0.2 Hz of f and of 2f over the rest, all inside the band.

    Its manual says 0.1 Hz around f; its code, which is followed here, takes 0.2 Hz for both.
    """
    band = in_band(frequency_hz, low_hz, high_hz)
    frequency_hz, power = frequency_hz[band], power[:, band]
    pulse = _near(frequency_hz, rate_bpm / 60, 0.2) | _near(frequency_hz, 2 * rate_bpm / 60, 0.2)
    return _decibels(_sums(power, pulse), _sums(power, ~pulse))


SNR: dict[str, Callable[[Array, Array, Array, float, float], Array]] = {
    "toolbox": snr_toolbox, "toolbox_old": snr_toolbox_old, "dehaan": snr_dehaan,
    "contrastphys": snr_contrastphys, "pyvhr": snr_pyvhr,
}


def macc_circular(prediction: Array, label: Array, fs: float) -> Array:
    """rPPG-Toolbox's: largest |Pearson| with the label under circular shifts of 0..T-2 samples.

    prediction, label: (..., T) -> (...). One FFT instead of T correlations; NaN where either is constant.
    """
    p, t = (x - x.mean(axis=-1, keepdims=True) for x in (prediction, label))
    scale = np.sqrt((p**2).sum(axis=-1) * (t**2).sum(axis=-1))
    n = p.shape[-1]
    products = sfft.irfft(sfft.rfft(p) * np.conj(sfft.rfft(t)), n)
    top = np.abs(products[..., : n - 1]).max(axis=-1)
    return np.where(scale > 0, np.minimum(top / np.where(scale > 0, scale, 1.0), 1.0), np.nan)


def mcc_gideon(prediction: Array, label: Array, fs: float) -> Array:
    """Maximum cross-correlation of Gideon & Stent (2021): linear, of the pulse band alone, signed.

    prediction, label: (..., T) -> (...). The cross-spectrum, padded to twice the length, is set to 0 outside
    40-250 bpm; its transform's maximum over lag is divided by T - 1, by the band's share of the
    cross-spectrum's magnitude and by both sample deviations. May exceed 1; NaN where either is constant.
    """
    n = prediction.shape[-1]
    p, t = (x - x.mean(axis=-1, keepdims=True) for x in (prediction, label))
    cross = sfft.fft(p, 2 * n) * np.conj(sfft.fft(t, 2 * n))
    frequency_hz = np.abs(np.fft.fftfreq(2 * n, 1 / fs))
    inside = (frequency_hz >= PULSE_HZ[0]) & (frequency_hz <= PULSE_HZ[1])
    magnitude = np.abs(cross)
    total = magnitude.sum(axis=-1)
    share = np.divide(_sums(magnitude, inside), total, out=np.zeros_like(total), where=total > 0)
    scale = (n - 1) * share * p.std(axis=-1, ddof=1) * t.std(axis=-1, ddof=1)
    top = sfft.ifft(np.where(inside, cross, 0.0)).real.max(axis=-1)
    return np.where(scale > 0, top / np.where(scale > 0, scale, 1.0), np.nan)


MACC: dict[str, Callable[[Array, Array, float], Array]] = {"circular": macc_circular, "gideon": mcc_gideon}


def irrelevant_power_ratio(prediction: Array, fs: float) -> Array:
    """IPR (Gideon & Stent 2021): magnitude outside 40-250 bpm over all magnitude; 0 is clean.

    prediction: (..., T), unfiltered -> (...). Sums of |FFT|, not of power; NaN where it is constant.
    """
    x = prediction - prediction.mean(axis=-1, keepdims=True)
    magnitude: Array = np.abs(sfft.rfft(x, axis=-1))
    frequency_hz = np.fft.rfftfreq(x.shape[-1], 1 / fs)
    outside = (frequency_hz < PULSE_HZ[0]) | (frequency_hz > PULSE_HZ[1])
    total = magnitude.sum(axis=-1)
    return np.where(total > 0, _sums(magnitude, outside) / np.where(total > 0, total, 1.0), np.nan)


def waveform_agreement(prediction: Array, label: Array, fs: float) -> tuple[Array, Array, Array]:
    """Pearson's r at the best lag within 1 s, that lag in s, and the mean absolute error there.

    prediction, label: (K, T) -> three of (K,). Over the samples that both have at a lag, both brought to
    zero mean and unit variance before they are subtracted. A positive lag: the prediction comes later. The
    best lag has the largest r with its sign, so that an inverted waveform does not pass. NaN under 3 s.
    """
    n, most = prediction.shape[-1], int(MAX_LAG_S * fs)
    if n < SHORTEST_S * fs or n < most + 3:
        nothing = np.full(prediction.shape[:-1], np.nan)
        return nothing, nothing.copy(), nothing.copy()
    p, t = (x - x.mean(axis=-1, keepdims=True) for x in (prediction, label))
    lags = np.arange(-most, most + 1)
    r = _lagged_pearson(p, t, lags)
    exists = np.isfinite(r).any(axis=-1)
    best = lags[np.where(np.isfinite(r), r, -2.0).argmax(axis=-1)]
    top = np.where(np.isfinite(r), r, -2.0).max(axis=-1)
    top, lag_s, errors = (np.where(exists, value, np.nan) for value in (top, best / fs, _errors(p, t, best)))
    return top, lag_s, errors


def _lagged_pearson(p: Array, t: Array, lags: NDArray[np.int_]) -> Array:
    """Pearson's r of p[i + lag] with t[i] over the overlap, for every lag: (K, T) twice -> (K, L)."""
    n = p.shape[-1]
    n_fft = sfft.next_fast_len(2 * n, real=True)
    products = sfft.irfft(sfft.rfft(p, n_fft) * np.conj(sfft.rfft(t, n_fft)), n_fft)[..., lags % n_fft]
    count = n - np.abs(lags)
    ahead, behind = np.maximum(lags, 0), np.maximum(-lags, 0)

    def overlap(x: Array, start: NDArray[np.int_]) -> tuple[Array, Array]:
        sums = [np.cumsum(np.pad(y, ((0, 0), (1, 0))), axis=-1) for y in (x, x * x)]
        first, second = (total[:, start + count] - total[:, start] for total in sums)
        return first, np.maximum(second - first**2 / count, 0.0)

    (sum_p, var_p), (sum_t, var_t) = overlap(p, ahead), overlap(t, behind)
    scale = np.sqrt(var_p * var_t)
    good = scale > 1e-12 * np.sqrt((p**2).sum(axis=-1) * (t**2).sum(axis=-1))[:, None]
    r: Array = (products - sum_p * sum_t / count) / np.where(good, scale, 1.0)
    return np.where(good, np.clip(r, -1.0, 1.0), np.nan)


def _errors(p: Array, t: Array, lags: NDArray[np.int_]) -> Array:
    """Mean absolute difference of p[i + lag] and t[i], (K, T), standardised over the overlap; lags (K,)."""
    n = p.shape[-1]
    place = np.arange(n) + lags[:, None]
    both = (place >= 0) & (place < n)
    count = both.sum(axis=-1, keepdims=True)

    def standard(x: Array) -> Array:
        x = np.where(both, x - np.where(both, x, 0.0).sum(axis=-1, keepdims=True) / count, 0.0)
        deviation = np.sqrt((x**2).sum(axis=-1, keepdims=True) / count)
        return np.divide(x, deviation, out=np.full_like(x, np.nan), where=deviation > 0)

    moved = np.take_along_axis(p, np.clip(place, 0, n - 1), axis=-1)
    errors: Array = np.abs(standard(moved) - standard(t)).sum(axis=-1) / count[:, 0]
    return errors
