"""Beats of a pulse waveform, and the intervals between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.ndimage import uniform_filter1d

from evaluation.vital_presets import VitalSettings
from utils.signal import bandpass, parabolic_peak, power_spectrum

Array = NDArray[np.float64]
Index = NDArray[np.intp]

RATES_HZ = (0.6, 4.0)
"""Heart rates that are followed."""
BLOCK_S, HOP_S = 12.0, 6.0
"""Length and step of the pieces in which the rate is followed."""
GUIDE, SHAPE = (0.5, 1.5), 3.0
"""Band of the guide, and upper edge of the refined wave, in multiples of the rate."""
STIFFNESS = 0.1
"""A change of the rate by this share between neighbouring pieces costs as much as a power of 1/e."""
REACH = 0.25
"""A beat lies at most this part of a cycle from the maximum of the guide."""
NEIGHBOURS = 5
"""Intervals whose median an interval is compared with."""


@dataclass(frozen=True)
class Beats:
    """time_s: (B,) of the systolic maxima from the first sample on, increasing; fs: of the signal, Hz."""

    time_s: Array
    fs: float


@dataclass(frozen=True)
class Intervals:
    """Intervals between beats: ibi_s (B - 1,), end_s (B - 1,) the beat that ends each, kept bool (B - 1,)."""

    ibi_s: Array
    end_s: Array
    kept: NDArray[np.bool_]

    @property
    def n_dropped(self) -> int:
        """How many are outliers."""
        return int((~self.kept).sum())


def find_beats(pulse: Array, fs: float, settings: VitalSettings) -> Beats:
    """Systolic maxima of a pulse (T,) without gaps, sampled uniformly at `fs` Hz; it rises at systole.

    ValueError when the signal is too short or too slowly sampled for the filter.
    """
    if len(pulse) < 3 * fs:
        raise ValueError(f"{len(pulse) / fs:.1f} s are too short for beats")
    track = follow_rate(pulse, fs) if settings.detector == "tracked" else np.empty(0)
    if len(track):
        guide = _by_piece(pulse, fs, track * GUIDE[0], track * GUIDE[1])
        top = np.minimum(track * SHAPE, settings.high_hz)
        wave = _by_piece(pulse, fs, np.full_like(track, settings.low_hz), top)
    else:
        guide = wave = bandpass(pulse, fs, settings.low_hz, settings.high_hz, settings.order)
    rate = fs
    if settings.upsample_hz is not None and fs < settings.upsample_hz:
        rate = settings.upsample_hz
        guide, wave = _spline(np.stack([guide, wave]), fs, rate)
    if settings.detector == "tracked":
        rate_hz = np.interp(np.arange(len(wave)) / rate, _middles(pulse, fs), track)
        index = _tracked(guide, wave, rate, rate_hz)
    elif settings.detector == "elgendi":
        index = _elgendi(wave, rate, settings.distance_s)
    else:
        apart = max(1, round(settings.distance_s * rate))
        index = scipy.signal.find_peaks(wave, height=0.0, distance=apart)[0]
    places = [parabolic_peak(wave, int(i)) if settings.refine else float(i) for i in index]
    time_s = np.unique(np.array(places, dtype=np.float64)) / rate
    last_s = (len(pulse) - 1) / fs - settings.margin_s
    return Beats(time_s[(time_s >= settings.margin_s) & (time_s <= last_s)], fs)


def _spline(rows: Array, fs: float, rate_hz: float) -> Array:
    """Cubic spline of rows (K, T) at a higher rate, over the same span."""
    time_s = np.arange(rows.shape[1]) / fs
    fine_s = np.arange(int(time_s[-1] * rate_hz) + 1) / rate_hz
    made: Array = CubicSpline(time_s, rows, axis=1)(fine_s)
    return made


def _middles(pulse: Array, fs: float) -> Array:
    """Middles of the overlapping pieces in which the rate is followed, in s (P,)."""
    duration_s = len(pulse) / fs
    if duration_s <= BLOCK_S:
        return np.array([duration_s / 2])
    n = int(np.ceil((duration_s - BLOCK_S) / HOP_S)) + 1
    return np.linspace(BLOCK_S / 2, duration_s - BLOCK_S / 2, n)


def follow_rate(pulse: Array, fs: float) -> Array:
    """Rate in Hz of each piece (P,): the likeliest path through the pieces' spectra.

    A piece votes for f with its power at f and half of that at 2f, so that a strong second wave does not
    double the rate; a path pays for the square of its relative changes (Viterbi).
    """
    band = bandpass(pulse, fs, RATES_HZ[0] / 2, 2 * RATES_HZ[1])
    half = BLOCK_S / 2
    votes = []
    for middle_s in _middles(pulse, fs):
        piece = band[max(0, round((middle_s - half) * fs)) : round((middle_s + half) * fs)]
        frequency, power = power_spectrum(piece, fs, bin_hz=0.02)
        bins = np.flatnonzero((frequency >= RATES_HZ[0]) & (frequency <= min(RATES_HZ[1], 0.45 * fs)))
        double = np.minimum(2 * bins, len(power) - 1)
        rates = frequency[bins]
        score = power[bins] + 0.5 * power[double]
        votes.append((rates, np.log(score / max(score.max(), 1e-300) + 1e-3)))
    return _likeliest(votes)


def _likeliest(votes: list[tuple[Array, Array]]) -> Array:
    """The path with the highest sum of log votes less the cost of its changes: (P,) Hz."""
    rates, total = votes[0]
    came: list[Index] = []
    for new, score in votes[1:]:
        cost = (np.log(new[:, None] / rates[None]) / STIFFNESS) ** 2
        before = total[None] - cost
        came.append(before.argmax(axis=1))
        total, rates = score + before.max(axis=1), new
    place = int(total.argmax())
    path = [votes[-1][0][place]]
    for (earlier, _), step in zip(reversed(votes[:-1]), reversed(came), strict=True):
        place = int(step[place])
        path.append(earlier[place])
    return np.array(path[::-1])


def _by_piece(pulse: Array, fs: float, low_hz: Array, high_hz: Array) -> Array:
    """A zero-phase band-pass whose band moves with the pieces: filtered whole, joined by straight weights."""
    middles = _middles(pulse, fs)
    time_s = np.arange(len(pulse)) / fs
    corner = np.eye(len(middles))
    joined = np.zeros(len(pulse))
    bands = np.round(np.stack([low_hz, high_hz], axis=1), 2)
    for band in np.unique(bands, axis=0):
        mine = (bands == band).all(axis=1)
        weight = np.interp(time_s, middles, corner[mine].sum(axis=0))
        joined += weight * bandpass(pulse, fs, float(band[0]), float(band[1]))
    return joined


def _tracked(guide: Array, wave: Array, fs: float, rate_hz: Array) -> Index:
    """The highest point of the wave near each positive maximum of the guide, which has one a cycle."""
    peaks = scipy.signal.find_peaks(guide, height=0.0)[0]
    found = []
    for peak in peaks:
        reach = int(REACH * fs / rate_hz[peak])
        start = max(0, peak - reach)
        place = start + int(np.argmax(wave[start : peak + reach + 1]))
        if 0 < place < len(wave) - 1 and wave[place] >= max(wave[place - 1], wave[place + 1]):
            found.append(place)
    return np.unique(np.array(found, dtype=np.intp))


def _elgendi(wave: Array, fs: float, distance_s: float) -> Index:
    """Elgendi et al. (2013), PLoS ONE 8(10) e76585: blocks where one moving average exceeds another.

    Of the squared positive wave: means over 111 ms (a systolic peak) and 667 ms (a beat) plus 2 % of the
    overall mean; a block at least a peak long holds one beat; beats are `distance_s` apart.
    """
    power = np.clip(wave, 0, None) ** 2
    peak_n, beat_n = (2 * int(width * fs / 2) + 1 for width in (0.111, 0.667))
    peak, beat = (uniform_filter1d(power, n, mode="nearest") for n in (peak_n, beat_n))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], peak > beat + 0.02 * power.mean(), [0]]).astype(int)))
    found: list[int] = []
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        place = int(start) + int(np.argmax(wave[start:stop]))
        apart = not found or place - found[-1] >= distance_s * fs
        if stop - start >= int(0.111 * fs) and apart and 0 < place < len(wave) - 1:
            found.append(place)
    return np.array(found, dtype=np.intp)


def intervals(beats: Beats, settings: VitalSettings) -> Intervals:
    """Intervals between beats, and which of them are kept; see VitalSettings."""
    ibi = np.diff(beats.time_s)
    kept = np.ones(len(ibi), dtype=bool)
    if settings.shortest_s is not None:
        kept &= ibi >= settings.shortest_s
    if settings.longest_s is not None:
        kept &= ibi <= settings.longest_s
    if settings.change is not None and len(ibi):
        half = NEIGHBOURS // 2
        padded = np.pad(ibi, half, mode="reflect") if len(ibi) > half else ibi
        usual = (np.median(np.lib.stride_tricks.sliding_window_view(padded, NEIGHBOURS), axis=1)
                 if len(padded) >= NEIGHBOURS else np.full(len(ibi), np.median(ibi)))
        kept &= np.abs(ibi - usual) <= settings.change * usual
    return Intervals(ibi, beats.time_s[1:], kept)
