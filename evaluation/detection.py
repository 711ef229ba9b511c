"""Is there a pulse at all? A waveform against noise of the same colour.

Null hypothesis: the waveform is stationary Gaussian noise with a smooth spectrum. Surrogates are drawn
from the waveform's own spectral envelope with random phases and random (Rayleigh) amplitudes. Plain
phase randomisation would not do: it keeps every spectral amplitude and so the very peak that is in
question, and each surrogate would have the SNR of the waveform. The envelope is therefore smoothed over
a width in which a pulse is a narrow line: a running median of the log spectrum, without the bins of the
highest peak and its harmonic, which would lift it.

What is found is a periodic signal; a flickering lamp or a swinging head is one as well as a pulse.

On simulated waveforms of 15 s (tests/test_detection.py), noise of any colour is called a pulse in 2 %
of the cases or fewer; a pulse with respiratory variability is found in 95 % of them from about 1 dB above
noise in the band on, at 30 s from about 2 dB below it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray
from scipy import fft as sfft
from scipy import ndimage

from utils.signal import detrend, strength_at, to_uniform

Array = NDArray[np.float64]

BAND_HZ = (0.7, 4.0)
PULSE_HZ, HARMONIC_HZ = 0.1, 0.2
ENVELOPE_HZ = 1.5
N_SURROGATES = 499
MAX_P = 0.01
MIN_DURATION_S, MIN_FPS = 5.0, 5.0
STEEPEST = -2.5


@dataclass(frozen=True)
class Detection:
    """found: a pulse is there; snr_db: of the waveform at its own peak; surrogate_snr_db_95: what one
    noise in twenty exceeds; p_value: share of noises at least as clear; reason: why there is no test."""

    found: bool
    snr_db: float | None
    surrogate_snr_db_95: float | None
    p_value: float | None
    reason: str = ""


def detect(
    waveform: ArrayLike, time_s: ArrayLike, *, n_surrogates: int = N_SURROGATES, seed: int = 0
) -> Detection:
    """Test one waveform (T,) at `time_s` (T,); a function of its arguments alone.

    Found means p < 0.01 and an SNR above the surrogates' 95th percentile, where SNR is the power around
    the highest peak in 0.7-4 Hz and its harmonic over the rest of that band. Waveform and surrogates are
    compared after tilting their spectra by the slope of the envelope, so that the steep low end of
    coloured noise does not decide alone.
    """
    x = np.asarray(waveform, dtype=np.float64)
    if not np.isfinite(x).all():
        return Detection(False, None, None, None, "the waveform is not finite")
    if np.ptp(x) == 0:
        return Detection(False, None, None, None, "the waveform is constant")
    uniform, fs = to_uniform(x, time_s)
    if len(uniform) < MIN_DURATION_S * fs:
        return Detection(False, None, None, None, f"shorter than {MIN_DURATION_S:.0f} s")
    if fs < MIN_FPS:
        return Detection(False, None, None, None, f"{fs:.2f} frames a second are too few")
    uniform = detrend(uniform, strength_at(300.0, fs))
    frequency, shape = envelope(uniform, fs)
    inside = (frequency >= BAND_HZ[0]) & (frequency <= BAND_HZ[1])
    slope = np.polyfit(np.log(frequency[inside]), np.log(shape[inside]), 1)[0]
    tilt = -float(np.clip(slope, STEEPEST, 0.0))
    noise = surrogates(frequency, shape, len(uniform), fs, n_surrogates, seed)
    own = float(peak_snr_db(uniform[None], fs, tilt)[0])
    drawn = peak_snr_db(noise, fs, tilt)
    p_value = (1 + int((drawn >= own).sum())) / (1 + n_surrogates)
    limit = float(np.percentile(drawn, 95))
    return Detection(bool(p_value < MAX_P and own > limit), own, limit, p_value)


def envelope(signal: Array, fs: float) -> tuple[Array, Array]:
    """Smooth power spectrum of `signal` (T,) without its highest peak: (frequencies in Hz, power)."""
    frequency, power = scipy.signal.periodogram(signal, fs, "hann")
    log_power = np.log(power + 1e-12 * power.max())
    width = int(ENVELOPE_HZ / frequency[1]) | 1
    inside = (frequency >= BAND_HZ[0]) & (frequency <= BAND_HZ[1])
    peak = frequency[inside][power[inside].argmax()]
    masked = np.where(_around(frequency, peak, 1.5), np.nan, log_power)
    padded = np.pad(masked, width // 2, constant_values=np.nan)
    smooth = np.nanmedian(np.lib.stride_tricks.sliding_window_view(padded, width), axis=-1)
    return frequency, np.exp(ndimage.gaussian_filter1d(smooth, width / 4))


def surrogates(frequency: Array, power: Array, length: int, fs: float, n: int, seed: int) -> Array:
    """Gaussian noises (n, length) with the spectrum `power` (F,) at `frequency` (F,)."""
    bins = np.fft.rfftfreq(2 * length, 1 / fs)
    amplitude = np.sqrt(np.interp(bins, frequency, power))
    draws = np.random.default_rng(seed).standard_normal((2, n, len(bins)))
    noise: Array = sfft.irfft(amplitude * (draws[0] + 1j * draws[1]), axis=-1)[:, :length]
    return noise


def peak_snr_db(signals: Array, fs: float, tilt: float = 0.0) -> Array:
    """SNR in dB of each row (K, T) at its own highest peak in the band; (K,).

    tilt: the power is multiplied by frequency to this exponent.
    """
    n = signals.shape[-1]
    tapered = (signals - signals.mean(axis=-1, keepdims=True)) * scipy.signal.get_window("hann", n)
    n_fft = sfft.next_fast_len(2 * n, real=True)
    frequency: Array = np.fft.rfftfreq(n_fft, 1 / fs).astype(np.float64)
    inside = (frequency >= BAND_HZ[0]) & (frequency <= BAND_HZ[1])
    power = np.abs(sfft.rfft(tapered, n_fft, axis=-1)[:, inside]) ** 2
    frequency = frequency[inside]
    power *= frequency**tilt
    pulse = _around(frequency, frequency[power.argmax(axis=-1)][:, None])
    kept = (power * pulse).sum(axis=-1)
    rest = np.maximum(power.sum(axis=-1) - kept, 1e-12 * kept)
    ratio: Array = np.maximum(kept, 1e-300) / np.maximum(rest, 1e-300)
    return 10 * np.log10(ratio)


def _around(frequency: Array, peak: float | Array, widen: float = 1.0) -> NDArray[np.bool_]:
    """Whether a frequency belongs to the pulse at `peak` or to its harmonic."""
    near: NDArray[np.bool_] = np.abs(frequency - peak) <= widen * PULSE_HZ
    return near | (np.abs(frequency - 2 * peak) <= widen * HARMONIC_HZ)
