"""From waveform to heart rate: windows, detrending, filter, spectrum and peak, as a protocol says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from evaluation.presets import Protocol
from evaluation.spectrum import interval_rates, peak_rates, spectrum
from utils.signal import bandpass, detrend, strength_at

Array = NDArray[np.float64]
FLAT = 1e-6
"""A filtered waveform below this share of its raw spread is rounding noise, not a pulse."""
ROUNDING = 1e-5
"""So is a raw waveform, stored in single precision, that moves by less than this share of its size."""


@dataclass(frozen=True)
class Estimates:
    """What a protocol makes of K waveforms of one length.

    filtered (K, n); frequency_hz (F,); power (K, F); rate_bpm (K,), NaN where a waveform failed;
    failed: reason per waveform, empty where it did not fail.
    """

    filtered: Array
    frequency_hz: Array
    power: Array
    rate_bpm: Array
    failed: list[str]


def estimate(signals: Array, fs: float, protocol: Protocol) -> Estimates:
    """Rates of K waveforms (K, n), uniformly sampled at `fs` Hz.

    A waveform that is not finite, constant, or empty in the band gets the rate NaN and a reason.
    """
    failed = raw_faults(signals)
    sound = np.where(np.array([bool(text) for text in failed])[:, None], 0.0, signals)
    filtered = prepare(sound, fs, protocol)
    spread = np.abs(sound - sound.mean(axis=1, keepdims=True)).max(axis=1)
    for index in np.flatnonzero(filtered.std(axis=1) <= FLAT * spread).tolist():
        failed[index] = failed[index] or "nothing is left of the waveform in the band"
    if protocol.standardise:
        spread = filtered.std(axis=1, keepdims=True)
        filtered = (filtered - filtered.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1.0)
    frequency, power, rates = _rates(filtered, fs, protocol)
    rates[[index for index, text in enumerate(failed) if text]] = np.nan
    for index in np.flatnonzero(np.isnan(rates)).tolist():
        failed[index] = failed[index] or "no spectral peak in the band: the window is too short"
    return Estimates(filtered, frequency, power, rates, failed)


def raw_faults(signals: Array) -> list[str]:
    """Why each waveform of (K, n) cannot be scored at all; empty where it can."""
    n = signals.shape[-1]
    bad = (~np.isfinite(signals)).sum(axis=-1)
    constant = is_constant(signals.min(axis=-1), signals.max(axis=-1))
    return [
        f"{count} of {n} samples are not finite" if count else "the waveform is constant" if flat else ""
        for count, flat in zip(bad.tolist(), constant.tolist(), strict=True)
    ]


def is_constant(low: Array, high: Array) -> NDArray[np.bool_]:
    """Whether waveforms between `low` and `high` are constant but for rounding; False where these are NaN."""
    with np.errstate(invalid="ignore"):
        flat: NDArray[np.bool_] = high - low <= ROUNDING * np.maximum(np.abs(low), np.abs(high))
    return flat


def prepare(signals: Array, fs: float, protocol: Protocol) -> Array:
    """Detrended and filtered waveforms: (K, n) -> (K, n)."""
    x = _filtered(_detrended(signals, fs, protocol), fs, protocol)
    return np.array(x) if x is signals else x


def _detrended(x: Array, fs: float, protocol: Protocol) -> Array:
    """Without the smoothness-priors trend, whole or block by block."""
    if protocol.detrend is None:
        return x
    fixed = protocol.detrend_at == "any_rate"
    strength = protocol.detrend if fixed else strength_at(protocol.detrend, fs)
    step = protocol.detrend_block or x.shape[-1]
    blocks = [detrend(x[:, start : start + step], strength) for start in range(0, x.shape[-1], step)]
    return np.concatenate(blocks, axis=-1)


def _filtered(x: Array, fs: float, protocol: Protocol) -> Array:
    """Band-passed along time as `filter` says."""
    low, high = protocol.filter_low_hz, protocol.filter_high_hz
    if protocol.filter == "none" or low is None or high is None:
        return x
    if protocol.filter == "fir_hamming":
        return _fir(x, fs, protocol, low, min(high, 0.499 * fs))
    order = protocol.filter_order or 1
    if protocol.filter_passes == "zero_phase":
        return bandpass(x, fs, low, high, order)
    sections = scipy.signal.butter(order, [low, min(high, 0.499 * fs)], "bandpass", fs=fs, output="sos")
    forward: Array = scipy.signal.sosfilt(sections, x, axis=-1)
    return forward


def _fir(x: Array, fs: float, protocol: Protocol, low_hz: float, high_hz: float) -> Array:
    """Hamming-windowed FIR band-pass with gain 1 at its centre, of the order the length allows.

    Forward and backward with mirrored ends of three orders, as MATLAB's filtfilt has them.
    """
    order = max(int((protocol.filter_order_share or 0.1) * x.shape[-1]), 2)
    taps = scipy.signal.firwin(order + 1, [low_hz, high_hz], pass_zero=False, window="hamming", fs=fs)
    if protocol.filter_passes == "one_way":
        forward: Array = scipy.signal.lfilter(taps, 1.0, x, axis=-1)
        return forward
    both: Array = scipy.signal.filtfilt(taps, 1.0, x, axis=-1, padlen=min(3 * order, x.shape[-1] - 1))
    return both


def _rates(filtered: Array, fs: float, protocol: Protocol) -> tuple[Array, Array, Array]:
    """Frequencies, power (K, F), averaged over the parts, and rates (K,) of prepared waveforms (K, n)."""
    length = filtered.shape[-1] // protocol.parts
    if length < 2:
        return np.array([0.0, fs / 2]), np.zeros((len(filtered), 2)), np.full(len(filtered), np.nan)
    pieces = filtered[:, : length * protocol.parts].reshape(-1, length)
    frequency, power = spectrum(pieces, fs, protocol)
    if protocol.estimator == "mean_interval":
        rates = interval_rates(pieces, fs)
    else:
        rates = peak_rates(frequency, power, protocol)
    if protocol.whole_bpm:
        rates = np.round(rates)
    shape = (len(filtered), protocol.parts)
    return frequency, power.reshape(*shape, -1).mean(axis=1), rates.reshape(shape).mean(axis=1)


def windows(n: int, fs: float, protocol: Protocol) -> list[tuple[int, int]]:
    """Start and stop samples of the windows of a recording of n samples.

    Empty when the recording has too few samples, or less than the window of a protocol that drops tails.
    """
    if n < protocol.min_samples:
        return []
    if protocol.window_s is None:
        return [(0, n)]
    length = max(int(round(protocol.window_s * fs)), protocol.min_samples)
    hop = protocol.hop_frames or length
    if protocol.hop_s is not None:
        hop = max(int(round(protocol.hop_s * fs)), 1)
    cuts = [(start, min(start + length, n)) for start in range(0, n, hop)]
    if protocol.tail == "drop":
        return [cut for cut in cuts if cut[1] - cut[0] == length]
    return [cut for cut in cuts if cut[1] - cut[0] >= protocol.min_samples]
