"""What a prediction is compared with: the label's rate by the same estimator, or the device's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evaluation.presets import Protocol
from evaluation.waveforms import RecordingWaveform
from utils.gaps import in_gaps

Array = NDArray[np.float64]


def reference_kind(wave: RecordingWaveform, protocol: Protocol) -> str:
    """"label" or "device": where the reference rate comes from; empty where there is none.

    A device of which only the mean rate is known is none for windows and frames.
    """
    wanted = protocol.ground_truth
    whole = protocol.window_s is None and protocol.unit != "frame"
    device = wave.hr_bpm is not None or (whole and wave.reference_hr_bpm is not None)
    there = {"label": wave.has_label, "device": device}
    order = {"label_or_device": ("label", "device"), "device_or_label": ("device", "label")}
    return next((kind for kind in order.get(wanted, (wanted,)) if there[kind]), "")


def device_rates(wave: RecordingWaveform, spans: Array, whole: bool) -> Array:
    """Mean device rate in each span (W, 2), in s from the first frame; NaN where there is no sample in it.

    whole: the spans are whole recordings, for which the mean rate will do where no series is known.
    """
    if wave.hr_bpm is None or wave.hr_time_s is None:
        known = whole and wave.reference_hr_bpm is not None
        return np.full(len(spans), wave.reference_hr_bpm if known else np.nan, dtype=np.float64)
    times = wave.hr_time_s - wave.time_s[0]
    order = np.argsort(times, kind="stable")
    sums = np.concatenate([[0.0], np.cumsum(wave.hr_bpm[order], dtype=np.float64)])
    half_frame_s = 0.5 / wave.fps
    first, last = (np.searchsorted(times[order], edge - half_frame_s) for edge in spans.T)
    count = last - first
    return np.where(count > 0, (sums[last] - sums[first]) / np.maximum(count, 1), np.nan)


def device_rates_at(wave: RecordingWaveform, times_s: Array) -> Array:
    """Device rate at times (n,) in s from the first frame, linear in between; NaN outside and in gaps."""
    if wave.hr_bpm is None or wave.hr_time_s is None or len(wave.hr_bpm) < 2:
        return np.full(len(times_s), np.nan)
    known = wave.hr_time_s - wave.time_s[0]
    order = np.argsort(known, kind="stable")
    found = np.interp(times_s, known[order], wave.hr_bpm[order].astype(np.float64))
    slack = 0.5 * float(np.median(np.diff(known[order])))
    outside = (times_s < known[order[0]] - slack) | (times_s > known[order[-1]] + slack)
    return np.where(outside | in_gaps(known[order], times_s), np.nan, found)


def unit_references(
    wave: RecordingWaveform, protocol: Protocol, kind: str, spans: Array, reference_bpm: Array
) -> tuple[NDArray[np.int_], Array]:
    """The units that W windows stand for: index of the window and reference rate of each (U,), (U,).

    Under `unit` = "frame", every frame from a window's start to the next one's, the last window's to the
    recording's end, each with the device's rate at its time (NaN where it is unknown) or the window's rate of
    the label.
    """
    if protocol.unit != "frame":
        return np.arange(len(spans)), reference_bpm
    frames_s = wave.time_s - wave.time_s[0]
    frames_s = frames_s[frames_s >= spans[0, 0] - 0.5 / wave.fps]
    window = np.maximum(np.searchsorted(spans[:, 0], frames_s + 1e-6, side="right") - 1, 0)
    if kind == "label":
        return window, reference_bpm[window]
    return window, device_rates_at(wave, frames_s)
