"""The label as recorded: flat or clipped stretches, steps, impossible heart rates, and the device's rates."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from evaluation.audit.findings import Array, Part, Signals
from utils.signal import bandpass, fill_gaps, power_spectrum, to_uniform

FLAT_S, FLAT_SHARE = 2.0, 0.02
"""No pulse pauses for two seconds; flat is below 2 % of the usual swing."""
MOSTLY = 0.5
CLIP_RUN_S, CLIP_SHARE, CLIP_EDGE = 0.1, 0.03, 0.005
"""At the highest or lowest value for .1 s at a time, 3 % of the time in all: a crest is shorter."""
STEP, BURST = 3.0, 5.0
"""Of the usual swing: a baseline that jumps by three, a stretch that swings by five."""
MISSING_SHARE = 0.05
RATE_BPM = (30.0, 220.0)
"""What the field's readers take for a heart rate."""
CODES_BPM = (0.0, 127.0, 255.0)
"""What pulse oximeters write when they know no rate; 127 is also a rate, so only alone it is none."""
JUMP_BPM = 25.0
"""Between windows five seconds apart; hearts slow down by less after the hardest exercise."""
DISAGREE_BPM = 5.0
DROPOUTS = 0.01
PURITY, NOISY_SHARE = 0.5, 0.1
"""Share of the power at the rate and its harmonics: .8 to .99 in contact PPG, .2 to .5 in noise.

A tenth of the windows may be noisy: somebody moved a finger.
"""
WINDOW_S, HOP_S, MISSING_IN_WINDOW = 10.0, 5.0, 0.1
SEARCH_HZ, KEPT_HZ = (0.4, 4.0), (0.4, 8.0)
GRID_HZ = 30.0
_BLOCK_S = 0.25


def check_label(signals: Signals) -> Part:
    """Rate of sampling, flat and clipped stretches, steps, and the heart rates the label holds."""
    part, label, time_s = Part(), signals.label, signals.label_time_s
    kind = str(signals.stated.get("label_kind", "none"))
    part.values["label_kind"] = kind
    part.put("n_label", len(label))
    part.put("label_rate_hz", signals.stated.get("label_rate_hz"), "there is no label", digits=2)
    if np.isfinite(label).sum() < 2 or kind == "none":
        reason = "there is no label"
        for column in ("missing_share", "flat_s", "clipped_share", "n_steps", "noisy_share",
                       "rate_bpm", "lowest_bpm", "highest_bpm"):
            part.put(column, None, reason)
        part.notes.append("no label: usable without one only")
        return part
    missing = float((~np.isfinite(signals.pulse)).mean())
    if kind == "ecg":
        part.put("missing_share", None, "an ECG has no pulse waveform")
    else:
        part.put("missing_share", missing)
        part.flag(missing > MISSING_SHARE, "label_missing", f"{missing:.0%} of the frames have no label")
    uniform, rate_hz = uniform_label(label, time_s)
    _shape(part, uniform, rate_hz, kind)
    _rates(part, *window_rates(beats_of(uniform, rate_hz, kind), rate_hz))
    return part


def uniform_label(label: Array, time_s: Array) -> tuple[Array, float]:
    """The label (N,) on a uniform grid of its mean rate, NaN where it has none; and that rate in Hz."""
    values, rate_hz = to_uniform(fill_gaps(label), time_s)
    known = to_uniform(np.isfinite(label), time_s)[0] > 0.5
    return np.where(known, values, np.nan), rate_hz


def _shape(part: Part, label: Array, rate_hz: float, kind: str) -> None:
    """Flat stretches, clipping and steps."""
    flat_s, flat_share = flat_stretch(label, rate_hz, FLAT_SHARE if kind != "ecg" else 0.0)
    part.put("flat_s", flat_s, digits=2)
    part.flag(flat_s > FLAT_S, "flat_label", f"the label stands still for {flat_s:.1f} s at a time, "
              f"{flat_share:.0%} in all", is_fatal=flat_share > MOSTLY)
    clipped = clipped_share(label, rate_hz)
    part.put("clipped_share", clipped)
    part.flag(clipped > CLIP_SHARE and flat_share < MOSTLY, "clipped_label",
              f"the label is cut off at its highest or lowest value for {clipped:.0%} of the time")
    if kind == "ecg":
        part.put("n_steps", None, "not looked for in an ECG")
        return
    n_steps = steps(label, rate_hz)
    part.put("n_steps", n_steps)
    part.flag(n_steps > 0, "label_steps", f"the label's level or swing jumps {n_steps} times")


def _swings(label: Array, rate_hz: float, seconds: float) -> tuple[Array, Array, Array]:
    """Highest, lowest and mean of windows of `seconds`, a quarter of a second apart."""
    size = max(1, round(_BLOCK_S * rate_hz))
    n = len(label) // size
    blocks = label[: n * size].reshape(n, size)
    length = max(1, min(n, round(seconds * rate_hz / size)))
    summary = (blocks.max(axis=1), blocks.min(axis=1), blocks.mean(axis=1))
    high, low, mean = (sliding_window_view(row, length) for row in summary)
    return high.max(axis=1), low.min(axis=1), mean.mean(axis=1)


def flat_stretch(label: Array, rate_hz: float, least: float = FLAT_SHARE) -> tuple[float, float]:
    """Longest time the label hardly moves, in seconds, and the share of the time that it does not.

    Windows of 1.5 s whose swing is at most `least` of the usual one: the median of those with any (0 for
    an ECG, in which noise may be larger than the beats). Stretches without a label (NaN) are not flat.
    """
    seconds = 0.75 * FLAT_S
    if len(label) < seconds * rate_hz:
        return 0.0, 0.0
    high, low, _ = _swings(label, rate_hz, seconds)
    swing = high - low
    alive = swing[swing > 0]
    usual = float(np.median(alive)) if len(alive) else 0.0
    flat = swing <= least * usual
    longest = max((len(list(run)) for is_flat, run in itertools.groupby(flat) if is_flat), default=0)
    step_s = max(1, round(_BLOCK_S * rate_hz)) / rate_hz
    return ((longest - 1) * step_s + seconds if longest else 0.0), float(flat.mean())


def clipped_share(label: Array, rate_hz: float) -> float:
    """Share of the time in runs of .1 s or more at the label's highest or lowest value."""
    lowest, highest = float(np.nanmin(label)), float(np.nanmax(label))
    edge, shortest, n = CLIP_EDGE * (highest - lowest), CLIP_RUN_S * rate_hz, 0
    for at_end in (label >= highest - edge, label <= lowest + edge):
        lengths = [len(list(run)) for is_there, run in itertools.groupby(at_end) if is_there]
        n += sum(length for length in lengths if length >= max(3.0, shortest))
    return n / len(label)


def steps(label: Array, rate_hz: float) -> int:
    """How often the level jumps, or the swing is five times the usual one, in windows of two seconds."""
    if len(label) < 8 * rate_hz:
        return 0
    high, low, mean = (row[:: round(2 / _BLOCK_S)] for row in _swings(label, rate_hz, 2.0))
    swing = high - low
    seen = swing[np.isfinite(swing)]
    usual = float(np.median(seen)) if len(seen) else 0.0
    if usual <= 0:
        return 0
    is_odd = swing > BURST * usual
    # Across a window, since the jump lies within one.
    is_odd[1:-1] |= np.abs(mean[2:] - mean[:-2]) > STEP * usual
    return sum(odd for odd, _ in itertools.groupby(is_odd.tolist()))


def beats_of(label: Array, rate_hz: float, kind: str) -> Array:
    """A waveform with one hump a beat; of an ECG the smoothed energy of its QRS complexes. (N,) -> (N,)"""
    if kind != "ecg" or rate_hz < 60:
        return label
    steep = bandpass(fill_gaps(label), rate_hz, 8.0, 25.0) ** 2
    # Limited, so that one artefact does not hide the beats.
    steep = np.minimum(steep, 3 * np.quantile(steep, 0.98))
    return np.where(np.isfinite(label), bandpass(np.sqrt(steep), rate_hz, *SEARCH_HZ), np.nan)


def window_rates(label: Array, rate_hz: float) -> tuple[Array, Array]:
    """Heart rate in bpm of every window of ten seconds, five apart, and its purity; (W,) each.

    The highest peak of the spectrum between 24 and 240 bpm; purity is the share of the power, up to
    8 Hz, at that rate and its first two harmonics. Windows without a swing, or with NaN for over a tenth,
    are left out.
    """
    known = np.isfinite(label)
    if rate_hz <= 2 * SEARCH_HZ[1] or not known.any():
        return np.empty(0), np.empty(0)
    kept = bandpass(fill_gaps(label), rate_hz, *KEPT_HZ)
    time_s = np.arange(len(kept)) / rate_hz
    kept, fs = to_uniform(kept, time_s, min(GRID_HZ, rate_hz))
    known = to_uniform(known, time_s, fs)[0] > 0.5
    n = min(len(kept), round(WINDOW_S * fs))
    hop = max(1, round(HOP_S * fs))
    windows = sliding_window_view(kept, n)[::hop]
    share = sliding_window_view(known[: len(kept)], n)[::hop].mean(axis=1)
    windows = windows[(share >= 1 - MISSING_IN_WINDOW) & (np.ptp(windows, axis=1) > 0)]
    if not len(windows) or n / fs < 2:
        return np.empty(0), np.empty(0)
    hz, power = power_spectrum(windows, fs, bin_hz=0.01)
    inside = (hz >= SEARCH_HZ[0]) & (hz <= SEARCH_HZ[1])
    rate = hz[inside][power[:, inside].argmax(axis=1)]
    width = max(0.15, 2 * fs / n)
    near = np.min([np.abs(hz - k * rate[:, None]) for k in (1, 2, 3)], axis=0) <= width
    kept_band = (hz >= KEPT_HZ[0]) & (hz <= KEPT_HZ[1])
    return 60 * rate, (power * (near & kept_band)).sum(axis=1) / (power * kept_band).sum(axis=1)


def _rates(part: Part, rate_bpm: Array, purity: Array) -> None:
    """The heart rates of the clear windows into columns and findings."""
    clear = purity >= PURITY
    noisy = float(1 - clear.mean()) if len(clear) else 1.0
    reason = "no stretch of the label holds a clear pulse"
    part.put("noisy_share", noisy)
    part.flag(MOSTLY >= noisy > NOISY_SHARE, "noisy_label", f"{noisy:.0%} of the label holds no clear pulse")
    part.flag(noisy > MOSTLY, "no_pulse_in_label", f"{noisy:.0%} of the label holds no clear pulse")
    known = rate_bpm[clear]
    statistics = (float(known.mean()), float(known.min()), float(known.max())) if len(known) else (None,) * 3
    for column, value in zip(("rate_bpm", "lowest_bpm", "highest_bpm"), statistics, strict=True):
        part.put(column, value, reason, 2)
    if not len(known):
        return
    _out_of_range(part, "label_rate", "the label's", known)
    next_to = clear[1:] & clear[:-1]
    jump = float(np.abs(np.diff(rate_bpm))[next_to].max(initial=0.0))
    part.flag(jump > JUMP_BPM, "rate_jumps", f"the label's heart rate jumps by {jump:.0f} bpm in {HOP_S:g} s")


def _out_of_range(part: Part, flag: str, whose: str, rate_bpm: Array) -> None:
    low, high = float(rate_bpm.min()), float(rate_bpm.max())
    part.flag(low < RATE_BPM[0] or high > RATE_BPM[1], flag,
              f"{whose} heart rate goes from {low:.0f} to {high:.0f} bpm")


def check_device(signals: Signals, label_rate_bpm: float | None) -> Part:
    """The heart rates of the device: missing, impossible, or other than the label's."""
    part, values = Part(), signals.hr_bpm
    columns = ("device_bpm", "device_lowest_bpm", "device_highest_bpm", "device_minus_label_bpm")
    if not len(values):
        for column in ("device_missing_share", *columns):
            part.put(column, None, "the set has no device heart rates")
        return part
    is_code = _codes(values)
    numbers = values[np.isfinite(values) & ~is_code]
    missing = 1 - len(numbers) / len(values)
    part.put("device_missing_share", missing)
    part.flag(missing > DROPOUTS and signals.stated.get("label_kind") != "none", "device_dropouts",
              f"{missing:.0%} of the device's heart rates are missing")
    for column, rate in zip(columns, _statistics(numbers), strict=False):
        part.put(column, rate, "the device gave no heart rate", 2)
    if len(numbers):
        _out_of_range(part, "device_rate", "the device's", numbers)
    device = float(numbers.mean()) if len(numbers) else None
    both = device is not None and label_rate_bpm is not None
    differ = device - label_rate_bpm if device is not None and label_rate_bpm is not None else None
    part.put(columns[-1], differ, "needs a rate of both", 2)
    part.flag(both and abs(differ or 0.0) > DISAGREE_BPM, "device_disagrees",
              f"the device says {device or 0:.1f} bpm, the label {label_rate_bpm or 0:.1f} bpm")
    return part


def _codes(values: Array) -> NDArray[np.bool_]:
    """Where a device says that it knows no rate: 0 and 255, and 127 out of nowhere."""
    neighbours = np.abs(values - np.nanmedian(values)) > JUMP_BPM if np.isfinite(values).any() else values > 0
    return np.isin(values, (CODES_BPM[0], CODES_BPM[2])) | ((values == CODES_BPM[1]) & neighbours)


def _statistics(numbers: Array) -> tuple[float | None, float | None, float | None]:
    if not len(numbers):
        return None, None, None
    return float(numbers.mean()), float(numbers.min()), float(numbers.max())
