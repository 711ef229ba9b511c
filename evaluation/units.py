"""One recording under one protocol: rates and signal metrics of every method in every unit."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.heart_rate import windows
from evaluation.metrics import SIGNAL_METRICS
from evaluation.presets import Protocol
from evaluation.rates import Rates, window_rates
from evaluation.references import device_rates, device_rates_at, reference_kinds, unit_references
from evaluation.spectrum import segment_length
from evaluation.waveforms import RecordingWaveform
from utils.gaps import in_gaps
from utils.signal import sample_rate, to_uniform, wave_of_rates

Array = NDArray[np.float64]
CONSTANT = "constant"
NO_REFERENCE = {
    "label": "the label is unknown (or in gaps between frames) or flat in every window",
    "device": "the device's rate is unknown, or unknown for more than 5 % of the time, in every window",
}
SHORTEST_S = 3.0
"""Below some three beats the highest peak of a spectrum depends on where in a beat the waveform begins."""
_EMPTY = np.empty(0)


@dataclass
class Scored:
    """M methods in W windows of a recording, and the U units that these stand for.

    reference: "label" or "device"; spans (W, 2) in s from the first frame; label_bpm, device_bpm (W,);
    predicted_bpm, failed (M, W); signals (M, W, 6) in the order of SIGNAL_METRICS; unit_window (U,): the
    window of each unit, reference_bpm (M, U): what each method is compared with in it, one and the same rate
    but for heart-rate heads, whose clips may differ; n_unlabelled: windows (or frames, where these are the
    units) without one; bin_bpm: widest spectral bin that a rate was read from; reason: why there is no unit
    at all.
    """

    methods: list[str] = dataclasses.field(default_factory=list)
    reference: str = ""
    spans: Array = dataclasses.field(default_factory=lambda: np.empty((0, 2)))
    label_bpm: Array = dataclasses.field(default_factory=lambda: _EMPTY)
    device_bpm: Array = dataclasses.field(default_factory=lambda: _EMPTY)
    predicted_bpm: Array = dataclasses.field(default_factory=lambda: np.empty((0, 0)))
    failed: NDArray[np.object_] = dataclasses.field(default_factory=lambda: np.empty((0, 0), dtype=object))
    signals: Array = dataclasses.field(default_factory=lambda: np.empty((0, 0, len(SIGNAL_METRICS))))
    unit_window: NDArray[np.int_] = dataclasses.field(default_factory=lambda: np.empty(0, dtype=np.int_))
    reference_bpm: Array = dataclasses.field(default_factory=lambda: np.empty((0, 0)))
    n_unlabelled: int = 0
    bin_bpm: float = 0.0
    reason: str = ""


def score_recording(
    wave: RecordingWaveform, protocol: Protocol, methods: Sequence[str], constant_bpm: float | None = None
) -> Scored:
    """Every method in every unit of the recording; methods without a prediction there fail by name.

    constant_bpm: a rate that is predicted always, as the last method, CONSTANT. Of two kinds of reference
    the second serves where the first is unknown in every unit.
    """
    first = None
    for kind in reference_kinds(wave, protocol):
        scored = _score_against(wave, protocol, methods, kind, constant_bpm)
        if not scored.reason:
            return scored
        first = first or scored
    if first is not None:
        return first
    mean_only = protocol.ground_truth != "label" and wave.has_device_rate
    return Scored(reason="only the device's mean rate is known, which is none for a window" if mean_only
                  else f"no {protocol.ground_truth.replace('_', ' ')} to compare with")


def _score_against(
    wave: RecordingWaveform, protocol: Protocol, methods: Sequence[str], kind: str, constant_bpm: float | None
) -> Scored:
    """The recording with one kind of reference, "label" or "device"."""
    if protocol.estimator == "rate_head":
        spans, rates, device = _head_rates(wave, protocol, methods, kind)
    else:
        signals, fs, offset_s = _on_grid(wave, protocol, kind, methods)
        reason = _too_little(signals.shape[1], fs, protocol)
        if reason:
            return Scored(reason=reason)
        cuts = windows(signals.shape[1], fs, protocol)
        spans = offset_s + np.array(cuts) / fs
        device = device_rates(wave, spans, protocol.window_s is None)
        rates = window_rates(signals, fs, cuts, protocol, device if kind == "device" else None)
    for index, method in enumerate(methods):
        if method not in wave.predictions:  # a sinusoid of rates has a rate, and no shape to measure
            rates.signals[index] = np.nan
        if not _answered(wave, method, protocol):
            rates.failed[index] = _absence(wave, method)
    return _scored(wave, protocol, methods, kind, spans, rates, device, constant_bpm)


def _on_grid(
    wave: RecordingWaveform, protocol: Protocol, kind: str, methods: Sequence[str]
) -> tuple[Array, float, float]:
    """Label and predictions over the labelled span: ((1 + M, n), rate in Hz, start in s).

    Without a label, without a prediction, and in gaps between frames, a row is NaN; predictions that were
    NaN stay so. Rates of a heart-rate head without a waveform become a sinusoid of these rates.
    """
    series = [wave.label, *(_waveform(wave, name) for name in methods)]
    rows = np.stack(series).astype(np.float64)
    times = wave.time_s
    if kind == "label":
        known = np.flatnonzero(np.isfinite(wave.label))
        if known[-1] - known[0] + 1 >= protocol.min_samples:
            rows, times = rows[:, known[0] : known[-1] + 1], times[known[0] : known[-1] + 1]
    offset_s = float(times[0] - wave.time_s[0])
    fs = sample_rate(times)
    if protocol.resample == "uniform":
        made = [to_uniform(row, times, protocol.resample_hz) for row in rows]
        rows, fs = np.stack([row for row, _ in made]), made[0][1]
        rows[0, in_gaps(times, np.linspace(times[0], times[-1], rows.shape[1]))] = np.nan
    return rows, fs, offset_s


def _waveform(wave: RecordingWaveform, method: str) -> NDArray[np.floating[Any]]:
    """What a method predicted, or a sinusoid of the rates it gave instead; NaN without either."""
    if method in wave.predictions:
        return wave.predictions[method]
    rate_bpm, at_s = wave.rates.get(method, (_EMPTY, _EMPTY))
    if not len(rate_bpm):
        return np.full(len(wave.time_s), np.nan)
    return wave_of_rates(rate_bpm, at_s, wave.time_s)


def _too_little(n: int, fs: float, protocol: Protocol) -> str:
    """Why n samples at fs Hz cannot be scored; empty where they can."""
    if not windows(n, fs, protocol):
        wanted = f"{protocol.min_samples} frames" if protocol.window_s is None else f"{protocol.window_s} s"
        return f"{n} frames ({n / fs:.1f} s) are less than {wanted}"
    low = protocol.peak_low_hz if protocol.filter_low_hz is None else protocol.filter_low_hz
    if low >= 0.49 * fs:
        return f"{fs:.2f} frames a second are too few for {low:.3g} Hz and more"
    start, stop = windows(n, fs, protocol)[0]
    if protocol.estimator == "welch_peak":
        segment_s = segment_length((stop - start) // protocol.parts, protocol) / fs
        if segment_s * protocol.peak_low_hz < 1:
            return f"{n} frames ({n / fs:.1f} s) give segments of {segment_s:.1f} s, shorter than a beat"
    elif protocol.tail == "drop":  # tools that keep short tails score them, however short
        shortest_s = max(SHORTEST_S, 1 / protocol.peak_low_hz)
        if (stop - start + 0.5) / fs < shortest_s:
            return (f"{stop - start} frames ({(stop - start) / fs:.1f} s) are less than {shortest_s:.1f} s, "
                    f"too few for a rate of {60 * protocol.peak_low_hz:.0f} bpm")
    return ""


def _head_rates(
    wave: RecordingWaveform, protocol: Protocol, methods: Sequence[str], kind: str
) -> tuple[Array, Rates, Array]:
    """One window, the recording: mean rate of each heart-rate head over its clips, and the references.

    A clip counts where its reference is known at its middle, the device's rate or the label; the device's
    mean for a head is that over its own clips. The device's mean returned is the first head's.
    """
    spectral = protocol.model_copy(update={"estimator": "spectral_peak", "unit": "window"})
    spans = np.array([[0.0, float(wave.time_s[-1] - wave.time_s[0])]])
    rates = Rates.nothing(len(methods), 1)
    if wave.has_label:
        label, fs, _ = _on_grid(wave, spectral, "label", [])
        if not _too_little(label.shape[1], fs, spectral):
            rates.label_bpm = window_rates(label, fs, [(0, label.shape[1])], spectral).label_bpm
    device = device_rates(wave, spans, whole=True)
    of_heads = rates.device_bpm = np.full((len(methods), 1), np.nan)
    heads = [index for index, name in enumerate(methods) if name in wave.rates]
    for index in heads:
        _over_clips(rates, index, wave, kind, methods[index])
    if heads and wave.hr_bpm is not None:
        device = next((row for row in of_heads if np.isfinite(row[0])), of_heads[0])
    return spans, rates, device


def _over_clips(rates: Rates, index: int, wave: RecordingWaveform, kind: str, name: str) -> None:
    """Fill in the mean rate of one head, and the device's, over its clips with a known reference."""
    values, times = wave.rates[name]
    bad = int((~(np.isfinite(values) & (values > 0))).sum())
    at_s = times - wave.time_s[0]
    known = np.ones(len(at_s), dtype=np.bool_)
    if wave.hr_bpm is not None and rates.device_bpm is not None:
        device_bpm = device_rates_at(wave, at_s)
        known = np.isfinite(device_bpm)
        rates.device_bpm[index] = device_bpm[known].mean() if known.any() else np.nan
    if kind == "label":
        labelled_s = wave.time_s[np.isfinite(wave.label)] - wave.time_s[0]
        known = (at_s >= labelled_s[0]) & (at_s <= labelled_s[-1])
    if bad or not len(values):
        rates.failed[index] = f"{bad} of {len(values)} clips have no rate"
    elif not known.any():
        rates.failed[index] = f"the {kind} is unknown at the middle of every clip"
    else:
        rates.predicted_bpm[index] = values[known].astype(np.float64).mean()


def _answered(wave: RecordingWaveform, method: str, protocol: Protocol) -> bool:
    return method in (wave.rates if protocol.estimator == "rate_head" else wave.methods)


def _absence(wave: RecordingWaveform, method: str) -> str:
    """Why a method has nothing that the protocol could score."""
    if method not in wave.methods:
        return "no prediction by this method"
    return "a waveform only: this protocol scores the rates of a net with a heart-rate head"


def _scored(
    wave: RecordingWaveform, protocol: Protocol, methods: Sequence[str], kind: str, spans: Array,
    rates: Rates, device_bpm: Array, constant_bpm: float | None,
) -> Scored:
    """The windows that have a reference, merged where the recording is the unit, and what they stand for."""
    reference = rates.label_bpm if kind == "label" else device_bpm
    held = protocol.unit == "frame"
    known = np.isfinite(reference) | held
    scored = Scored(
        list(methods), kind, spans[known], rates.label_bpm[known], device_bpm[known],
        rates.predicted_bpm[:, known], rates.failed[:, known], rates.signals[:, known],
        n_unlabelled=int((~known).sum()), bin_bpm=rates.bin_bpm,
    )
    if constant_bpm is not None:
        _add_constant(scored, constant_bpm)
    if protocol.unit == "recording" and known.any():
        _merge(scored)
    reference = scored.label_bpm if kind == "label" else scored.device_bpm
    if known.any():
        window, reference = unit_references(wave, protocol, kind, scored.spans, reference)
        there = np.isfinite(reference)
        scored.unit_window = window[there]
        scored.reference_bpm = np.tile(reference[there], (len(scored.methods), 1))
        if kind == "device" and rates.device_bpm is not None and there.any():
            own = rates.device_bpm[:, scored.unit_window]
            np.copyto(scored.reference_bpm[: len(own)], own, where=np.isfinite(own))
        scored.n_unlabelled += int((~there).sum())
    if not len(scored.unit_window):
        scored.reason = NO_REFERENCE[kind]
    return scored


def _add_constant(scored: Scored, constant_bpm: float) -> None:
    """The same rate in every window, as a further method that never fails and has no waveform."""
    n_windows = len(scored.spans)
    scored.methods.append(CONSTANT)
    scored.predicted_bpm = np.vstack([scored.predicted_bpm, np.full((1, n_windows), constant_bpm)])
    scored.failed = np.vstack([scored.failed, np.full((1, n_windows), "", dtype=object)])
    nothing = np.full((1, *scored.signals.shape[1:]), np.nan)
    scored.signals = np.concatenate([scored.signals, nothing])


def _merge(scored: Scored) -> None:
    """All windows as one: means of rates and signal metrics; who failed in one of them has failed."""
    n_windows = scored.failed.shape[1]
    failed = np.full((len(scored.methods), 1), "", dtype=object)
    for index, texts in enumerate(scored.failed.tolist()):
        bad = [text for text in texts if text]
        if bad:
            many = f"in {len(bad)} of {n_windows} windows, such as: "
            failed[index] = (many if n_windows > 1 else "") + bad[0]
    count = np.isfinite(scored.signals).sum(axis=1, keepdims=True)
    total = np.nansum(scored.signals, axis=1, keepdims=True)
    scored.signals = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    scored.failed = failed
    scored.predicted_bpm = scored.predicted_bpm.mean(axis=1, keepdims=True)
    scored.label_bpm = scored.label_bpm.mean(keepdims=True)
    scored.device_bpm = scored.device_bpm.mean(keepdims=True)
    scored.spans = np.array([[scored.spans[0, 0], scored.spans[-1, 1]]])
