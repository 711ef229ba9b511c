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
from evaluation.references import device_rates, device_rates_at, reference_kind, unit_references
from evaluation.spectrum import segment_length
from evaluation.waveforms import RecordingWaveform
from utils.gaps import in_gaps
from utils.signal import sample_rate, to_uniform, wave_of_rates

Array = NDArray[np.float64]
CONSTANT = "constant"
NO_REFERENCE = {
    "label": "the label is unknown (or in gaps between frames) or flat in every window",
    "device": "the device's rate is unknown in every window",
}
_EMPTY = np.empty(0)


@dataclass
class Scored:
    """M methods in W windows of a recording, and the U units that these stand for.

    reference: "label" or "device"; spans (W, 2) in s from the first frame; label_bpm, device_bpm (W,);
    predicted_bpm, failed (M, W); signals (M, W, 6) in the order of SIGNAL_METRICS; unit_window (U,): the
    window of each unit, reference_bpm (U,): its reference; n_unlabelled: windows (or frames, where
    these are the units) without one; bin_bpm: widest spectral bin that a rate was read from; reason: why
    there is no unit at all.
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
    reference_bpm: Array = dataclasses.field(default_factory=lambda: _EMPTY)
    n_unlabelled: int = 0
    bin_bpm: float = 0.0
    reason: str = ""


def score_recording(
    wave: RecordingWaveform, protocol: Protocol, methods: Sequence[str], constant_bpm: float | None = None
) -> Scored:
    """Every method in every unit of the recording; methods without a prediction there fail by name.

    constant_bpm: a rate that is predicted always, as the last method, CONSTANT.
    """
    kind = reference_kind(wave, protocol)
    if not kind:
        mean_only = protocol.ground_truth != "label" and wave.has_device_rate
        return Scored(reason="only the device's mean rate is known, which is none for a window" if mean_only
                      else f"no {protocol.ground_truth.replace('_', ' ')} to compare with")
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
    if protocol.estimator == "welch_peak":
        start, stop = windows(n, fs, protocol)[0]
        segment_s = segment_length((stop - start) // protocol.parts, protocol) / fs
        if segment_s * protocol.peak_low_hz < 1:
            return f"{n} frames ({n / fs:.1f} s) give segments of {segment_s:.1f} s, shorter than a beat"
    return ""


def _head_rates(
    wave: RecordingWaveform, protocol: Protocol, methods: Sequence[str], kind: str
) -> tuple[Array, Rates, Array]:
    """One window, the recording: mean rate of each heart-rate head over its clips, and the references.

    The device's mean is that of its rates at the middles of those clips.
    """
    spectral = protocol.model_copy(update={"estimator": "spectral_peak", "unit": "window"})
    spans = np.array([[0.0, float(wave.time_s[-1] - wave.time_s[0])]])
    rates = Rates.nothing(len(methods), 1)
    if wave.has_label:
        label, fs, _ = _on_grid(wave, spectral, "label", [])
        if not _too_little(label.shape[1], fs, spectral):
            rates.label_bpm = window_rates(label, fs, [(0, label.shape[1])], spectral).label_bpm
    device = device_rates(wave, spans, whole=True)
    heads = [wave.rates[name] for name in methods if name in wave.rates]
    if heads and wave.hr_bpm is not None:
        at_clips = device_rates_at(wave, heads[0][1] - wave.time_s[0])
        device = np.array([np.nanmean(at_clips)]) if np.isfinite(at_clips).any() else device
    for index, name in enumerate(methods):
        values = wave.rates[name][0].astype(np.float64) if name in wave.rates else np.empty(0)
        bad = int((~(np.isfinite(values) & (values > 0))).sum())
        if bad or not len(values):
            rates.failed[index] = f"{bad} of {len(values)} clips have no rate"
        else:
            rates.predicted_bpm[index] = values.mean()
    return spans, rates, device


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
    held = protocol.unit == "frame" and kind == "device"
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
        scored.unit_window, scored.reference_bpm = window[there], reference[there]
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
