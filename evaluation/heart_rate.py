"""From waveform to heart rate: grid, windows, filter, spectrum and peak, as a protocol says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft as sfft
from scipy import signal as ss

from evaluation.presets import Protocol
from utils.signal import bandpass, detrend, parabolic_peak, power_spectrum, strength_at

Array = NDArray[np.float64]
FLAT = 1e-6
"""A filtered waveform below this share of its raw spread is rounding noise, not a pulse."""


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
    failed = [_raw_fault(row) for row in signals]
    sound = np.where(np.array([bool(text) for text in failed])[:, None], 0.0, signals)
    filtered = prepare(sound, fs, protocol)
    for index, row in enumerate(filtered):
        if not failed[index] and row.std() <= FLAT * np.abs(sound[index] - sound[index].mean()).max():
            failed[index] = "nothing is left of the waveform in the band"
    frequency, power = spectrum(filtered, fs, protocol)
    rates = np.array([
        np.nan if text else peak_bpm(frequency, row, protocol)
        for text, row in zip(failed, power, strict=True)
    ])
    for index in np.flatnonzero(np.isnan(rates)).tolist():
        failed[index] = failed[index] or "no spectral bin in the band: the window is too short"
    return Estimates(filtered, frequency, power, rates, failed)


def _raw_fault(row: Array) -> str:
    """Why a waveform cannot be scored at all; empty when it can."""
    bad = int((~np.isfinite(row)).sum())
    if bad:
        return f"{bad} of {len(row)} samples are not finite"
    return "the waveform is constant" if np.ptp(row) == 0 else ""


def prepare(signals: Array, fs: float, protocol: Protocol) -> Array:
    """Detrended and band-passed waveforms: (K, n) -> (K, n)."""
    x = signals
    if protocol.detrend is not None:
        fixed = protocol.detrend_at == "any_rate"
        x = detrend(x, protocol.detrend if fixed else strength_at(protocol.detrend, fs))
    if protocol.filter == "none":
        return x
    return bandpass(x, fs, protocol.filter_low_hz, protocol.filter_high_hz, protocol.filter_order)


def spectrum(filtered: Array, fs: float, protocol: Protocol) -> tuple[Array, Array]:
    """One-sided power spectrum (K, F) and its frequencies in Hz (F,), up to a common factor."""
    if protocol.bin_bpm is not None:
        return power_spectrum(filtered, fs, protocol.spectrum_window, protocol.bin_bpm / 60)
    n = filtered.shape[-1]
    n_fft = 1 << (n - 1).bit_length()
    tapered = filtered * ss.get_window(protocol.spectrum_window, n)
    power: Array = np.abs(sfft.rfft(tapered, n_fft, axis=-1)) ** 2
    power[:, 1:-1] *= 2
    frequency: Array = np.fft.rfftfreq(n_fft, 1 / fs).astype(np.float64)
    return frequency, power


def peak_bpm(frequency_hz: Array, power: Array, protocol: Protocol) -> float:
    """Rate of the highest spectral peak in the protocol's band; NaN when no bin lies in it."""
    inside = np.flatnonzero(
        (frequency_hz >= protocol.peak_low_hz) & (frequency_hz <= protocol.peak_high_hz)
    )
    if not len(inside):
        return float("nan")
    index = int(inside[np.argmax(power[inside])])
    if protocol.peak == "argmax":
        return float(frequency_hz[index]) * 60
    return parabolic_peak(power, index) * float(frequency_hz[1]) * 60


def windows(n: int, fs: float, protocol: Protocol) -> list[tuple[int, int]]:
    """Start and stop samples of the scored units of a recording of n samples.

    Empty when the recording has too few samples, or less than the window of a protocol that drops tails.
    """
    if n < protocol.min_samples:
        return []
    if protocol.window_s is None:
        return [(0, n)]
    length = max(int(round(protocol.window_s * fs)), protocol.min_samples)
    hop = length if protocol.hop_s is None else max(int(round(protocol.hop_s * fs)), 1)
    cuts = [(start, min(start + length, n)) for start in range(0, n, hop)]
    if protocol.tail == "drop":
        return [cut for cut in cuts if cut[1] - cut[0] == length]
    return [cut for cut in cuts if cut[1] - cut[0] >= protocol.min_samples]
