"""Rates and signal metrics of all windows of a recording, computed for many windows at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation import sliding
from evaluation.heart_rate import Estimates, estimate
from evaluation.metrics import SIGNAL_METRICS
from evaluation.presets import Protocol
from evaluation.signal_metrics import MACC, SNR, irrelevant_power_ratio, waveform_agreement
from evaluation.spectrum import transform_length
from utils.signal import fill_gaps

Array = NDArray[np.float64]
MAX_UNKNOWN = 0.05
"""Share of a window's label that may be interpolated; beyond it the window's label has no rate."""
MAX_NUMBERS = 4_000_000
"""Spectral values held at once; more windows are taken in turns."""


@dataclass
class Rates:
    """What a protocol makes of W windows of a label and M predictions.

    label_bpm (W,), NaN where the label is unknown or flat; predicted_bpm (M, W), NaN where `failed` (M, W)
    gives a reason; signals (M, W, 6) in the order of SIGNAL_METRICS; bin_bpm: widest spectral bin; device_bpm
    (M, W): the device's mean over the clips of each heart-rate head, None where there are no heads.
    """

    label_bpm: Array
    predicted_bpm: Array
    failed: NDArray[np.object_]
    signals: Array
    bin_bpm: float = 0.0
    device_bpm: Array | None = None

    @classmethod
    def nothing(cls, n_methods: int, n_windows: int) -> Rates:
        """NaN throughout, no failures."""
        shape = (n_methods, n_windows)
        return cls(
            np.full(n_windows, np.nan), np.full(shape, np.nan), np.full(shape, "", dtype=object),
            np.full((*shape, len(SIGNAL_METRICS)), np.nan),
        )


def window_rates(
    signals: Array, fs: float, cuts: list[tuple[int, int]], protocol: Protocol,
    device_bpm: Array | None = None,
) -> Rates:
    """Rates of the label, row 0 of (1 + M, n), and of M predictions in the windows `cuts`.

    device_bpm: reference rates (W,) that the SNR is about; None: the label's.
    """
    found = Rates.nothing(len(signals) - 1, len(cuts))
    lengths = np.array([stop - start for start, stop in cuts])
    for length in np.unique(lengths).tolist():
        members = np.flatnonzero(lengths == length)
        if cuts[members[0]][0] == 0 and sliding.applies(protocol):
            rates, failed = sliding.sliding_rates(signals, length, fs, protocol)
            found.label_bpm[members] = rates[0]
            found.predicted_bpm[:, members], found.failed[:, members] = rates[1:], failed[1:]
            n_fft, step = transform_length(length, fs, protocol)
            found.bin_bpm = max(found.bin_bpm, 60 * fs * step / n_fft)
            continue
        n_fft = transform_length(length, fs, protocol)[0]
        turn = max(MAX_NUMBERS // (len(signals) * max(n_fft, length)), 1)
        for first in range(0, len(members), turn):
            some = members[first : first + turn]
            pieces = np.stack([signals[:, cuts[index][0] : cuts[index][1]] for index in some])
            reference = None if device_bpm is None else device_bpm[some]
            _fill(found, some, pieces, fs, protocol, reference)
    return found


def _fill(
    found: Rates, some: NDArray[np.int_], pieces: Array, fs: float, protocol: Protocol,
    device_bpm: Array | None,
) -> None:
    """Put the results of windows of one length, pieces (W, 1 + M, n), into their places."""
    n_windows, n_rows, n = pieces.shape
    for piece in pieces:
        _complete(piece)
    made = estimate(pieces.reshape(-1, n), fs, protocol)
    rates = made.rate_bpm.reshape(n_windows, n_rows)
    failed = np.array(made.failed, dtype=object).reshape(n_windows, n_rows)
    found.label_bpm[some] = rates[:, 0]
    found.predicted_bpm[:, some], found.failed[:, some] = rates[:, 1:].T, failed[:, 1:].T
    found.bin_bpm = max(found.bin_bpm, 60 * float(made.frequency_hz[1]))
    reference = rates[:, 0] if device_bpm is None else device_bpm
    if n_rows > 1:
        measured = _signals(pieces, made, fs, protocol, reference)
        measured[failed[:, 1:] != ""] = np.nan
        found.signals[:, some] = measured.transpose(1, 0, 2)


def _complete(piece: Array) -> None:
    """Fill short gaps of the label, row 0, in place; one that is too much unknown becomes NaN throughout."""
    unknown = np.isnan(piece[0]).mean()
    if unknown > MAX_UNKNOWN:
        piece[0] = np.nan
    elif unknown:
        piece[0] = fill_gaps(piece[0])


def _signals(pieces: Array, made: Estimates, fs: float, protocol: Protocol, reference_bpm: Array) -> Array:
    """Signal metrics (W, M, 6) of the predictions, pieces[:, 1:]; NaN where they do not exist."""
    n_windows, n_rows, n = pieces.shape
    filtered, power = (x.reshape(n_windows, n_rows, -1) for x in (made.filtered, made.power))
    predictions = filtered[:, 1:].reshape(-1, n)
    labels = np.repeat(filtered[:, 0], n_rows - 1, axis=0)
    unlabelled = np.repeat([bool(text) for text in made.failed[::n_rows]], n_rows - 1)
    found = np.full((len(predictions), len(SIGNAL_METRICS)), np.nan)
    if protocol.snr != "none":
        rates = np.repeat(reference_bpm, n_rows - 1)
        found[:, 0] = SNR[protocol.snr](
            made.frequency_hz, power[:, 1:].reshape(len(predictions), -1), np.nan_to_num(rates),
            protocol.peak_low_hz, protocol.peak_high_hz,
        )
        found[np.isnan(rates), 0] = np.nan
    if protocol.macc != "none":
        found[:, 1] = MACC[protocol.macc](predictions, labels, fs)
    if protocol.waveform_metrics:
        raw = np.nan_to_num(pieces[:, 1:].reshape(-1, n), posinf=0.0, neginf=0.0)
        found[:, 2] = irrelevant_power_ratio(raw, fs)
        found[:, 3:6] = np.stack(waveform_agreement(predictions, labels, fs), axis=1)
    for column in (1, 3, 4, 5):
        found[unlabelled, column] = np.nan
    return found.reshape(n_windows, n_rows - 1, -1)
