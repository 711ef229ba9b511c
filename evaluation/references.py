"""What a prediction is compared with: the label's rate by the same estimator, or the device's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evaluation.presets import Protocol
from evaluation.waveforms import RecordingWaveform
from utils.gaps import in_gaps

Array = NDArray[np.float64]
MIN_KNOWN = 0.95
"""Share of a span in which the device's rate has to be known, as much as of a label (`rates.MAX_UNKNOWN`)."""


def reference_kinds(wave: RecordingWaveform, protocol: Protocol) -> list[str]:
    """"label" and "device": where a reference rate may come from, the first choice first.

    A device of which only the mean rate is known is none for windows and frames.
    """
    wanted = protocol.ground_truth
    whole = protocol.window_s is None and protocol.unit != "frame"
    device = wave.hr_bpm is not None or (whole and wave.reference_hr_bpm is not None)
    there = {"label": wave.has_label, "device": device}
    order = {"label_or_device": ("label", "device"), "device_or_label": ("device", "label")}
    return [kind for kind in order.get(wanted, (wanted,)) if there[kind]]


def device_rates(wave: RecordingWaveform, spans: Array, whole: bool) -> Array:
    """Mean device rate in each span (W, 2), in s from the first frame; NaN where too little of it is known.

    That is less than MIN_KNOWN of the span, a sample being good for the device's usual step before and after
    it. whole: the spans are whole recordings, for which the mean rate will do where no series is known.
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
    known = (count > 0) & (_known_share(times[order], spans) >= MIN_KNOWN - 1e-9)
    return np.where(known, (sums[last] - sums[first]) / np.maximum(count, 1), np.nan)


def _known_share(times: Array, spans: Array) -> Array:
    """Share of each span (W, 2) within a usual step, the median one, of one of the ascending times (M,)."""
    at = np.unique(times)
    if len(at) < 2:
        return np.zeros(len(spans))
    steps = np.diff(at)
    reach_s = float(np.median(steps))
    to_next = np.minimum(reach_s, steps / 2)
    edges = np.stack([at - np.r_[reach_s, to_next], at + np.r_[to_next, reach_s]], axis=1)
    lengths = np.cumsum(edges[:, 1] - edges[:, 0])
    known_s = np.stack([np.r_[0.0, lengths[:-1]], lengths], axis=1).ravel()
    start, stop = (np.interp(side, edges.ravel(), known_s) for side in spans.T)
    share: Array = (stop - start) / (spans[:, 1] - spans[:, 0])
    return share


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
    recording's end, each with the device's rate at its time or the window's rate of the label. NaN where that
    is unknown, and for the frames before the label begins and after it ends.
    """
    if protocol.unit != "frame":
        return np.arange(len(spans)), reference_bpm
    frames_s = wave.time_s - wave.time_s[0]
    window = np.maximum(np.searchsorted(spans[:, 0], frames_s + 1e-6, side="right") - 1, 0)
    if kind == "device":
        return window, device_rates_at(wave, frames_s)
    labelled_s = frames_s[np.isfinite(wave.label)]
    inside = (frames_s >= labelled_s[0]) & (frames_s <= labelled_s[-1])
    return window, np.where(inside, reference_bpm[window], np.nan)
