"""Labels onto frames: low-passed, interpolated, never extrapolated."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from preprocessing.sources.base import Labels, Series
from preprocessing.times import increasing, mean_rate_hz
from utils.errors import UserError
from utils.gaps import in_gaps

_CUT, _HALF_WIDTH = 0.4, 8
"""Edge of the low-pass in frame rates, and half the length of its kernel in periods of that edge."""
_SHORT_S, _SHORT_SHARE = 1.0, 0.05
"""A label may be shorter than its video by a second or 5 %, whichever is more."""
_FLAT_S = 2.0
_MOST_MASKED = 0.5


@dataclass(frozen=True)
class Aligned:
    """A label at the frames' times."""

    pulse: NDArray[np.float32]
    """(T,) NaN where the label does not reach, and everywhere without one."""
    label_rate_hz: float | None = None
    warnings: list[str] = field(default_factory=list)


def align(labels: Labels, frame_time_s: Series, method: str, what: str) -> Aligned:
    """The label at `frame_time_s` (T,), strictly increasing.

    `method` "timestamps": low-passed below half the frame rate at its own rate (on a uniform grid
    where its stamps are irregular), then interpolated at the frames' times; frames outside its
    span, or between two samples that are far apart, get NaN. "stretch": the samples stretched over
    the frames, endpoints on endpoints, as rPPG-Toolbox does; no times, no filter. Samples that the
    reader masked (NaN) make the frames beside them NaN; up to half of all may be. An ECG gives no
    pulse (NaN): its heart rate is read from the R peaks of the stored label. UserError, naming
    `what`, for a label that cannot be used.
    """
    nothing = np.full(len(frame_time_s), np.nan, dtype=np.float32)
    if labels.kind == "none":
        return Aligned(nothing)
    samples, time_s = labels.samples, labels.time_s
    _check_samples(samples, time_s, what)
    time_s, warnings = increasing(time_s, f"{what}: label")
    warnings += _flat_stretches(samples, time_s, what)
    masked = np.isnan(samples)
    if masked.any():
        warnings.append(f"{what}: {int(masked.sum())} of {len(samples)} label samples are missing")
    rate = mean_rate_hz(time_s)
    if labels.kind == "ecg":
        return Aligned(nothing, rate, [*warnings, f"{what}: an ECG has no pulse waveform; pulse is NaN"])
    if method == "stretch":
        warnings += _stretched(time_s, frame_time_s, what)
        time_s = np.arange(len(samples), dtype=np.float64)
        frame_time_s = np.linspace(0, len(samples) - 1, len(frame_time_s))
        pulse = np.interp(frame_time_s, time_s, _bridged(samples, time_s))
    else:
        _check_span(time_s, frame_time_s, what)
        pulse = _interpolated(_bridged(samples, time_s), time_s, frame_time_s)
    inside = (frame_time_s >= time_s[0]) & (frame_time_s <= time_s[-1])
    gaps = in_gaps(time_s, frame_time_s)
    beside = inside & ~gaps & (np.interp(frame_time_s, time_s, masked.astype(np.float64)) > 0)
    for unknown, where in ((~inside, "outside the label's time"), (gaps, "in its gaps"),
                           (beside, "where it is masked")):
        pulse[unknown] = np.nan
        if unknown.any():
            warnings.append(f"{what}: {int(unknown.sum())} frames lie {where}; pulse is NaN there")
    return Aligned(pulse.astype(np.float32), rate, warnings)


def _bridged(samples: Series, time_s: Series) -> Series:
    """The samples with straight lines over what is masked, so that its neighbours can be filtered."""
    known = ~np.isnan(samples)
    return samples if known.all() else np.interp(time_s, time_s[known], samples[known])


def _interpolated(samples: Series, time_s: Series, frame_time_s: Series) -> Series:
    """The samples at the frames' times; low-passed on the way where they come faster than frames."""
    fps, rate = mean_rate_hz(frame_time_s), mean_rate_hz(time_s)
    if rate <= 1.1 * fps:
        return np.interp(frame_time_s, time_s, samples)
    grid = np.linspace(time_s[0], time_s[-1], len(time_s))
    return _lowpassed_at(np.interp(grid, time_s, samples), time_s[0], rate, frame_time_s, _CUT * fps)


def _lowpassed_at(uniform: Series, start_s: float, rate: float, at_s: Series, cut_hz: float) -> Series:
    """Uniform samples through a Hann-windowed sinc low-pass, evaluated at any times: one step, no lag.

    Half amplitude at `cut_hz`, under .003 above 1.25 times that. The ends are mirrored about their
    value. In blocks of frames, so that memory stays small.
    """
    reach = int(np.ceil(_HALF_WIDTH * rate / cut_hz))
    n = min(reach, len(uniform) - 1)
    before, after = 2 * uniform[0] - uniform[n:0:-1], 2 * uniform[-1] - uniform[-2 : -n - 2 : -1]
    padded = np.concatenate([np.full(reach - n + 1, before[0]), before, uniform, after,
                             np.full(reach - n + 1, after[-1])])
    place = np.clip((at_s - start_s) * rate, 0, len(uniform) - 1)
    offsets = np.arange(-reach, reach + 1)
    found = np.empty(len(at_s))
    for first in range(0, len(at_s), 256):
        where = place[first : first + 256, None]
        nearest = np.rint(where).astype(np.int64)
        distance = offsets + nearest - where
        kernel = np.sinc(2 * cut_hz / rate * distance)
        kernel *= np.cos(np.pi / 2 * np.clip(distance / (reach + 1), -1, 1)) ** 2
        taken = padded[nearest + offsets + reach + 1]
        found[first : first + 256] = (kernel * taken).sum(axis=1) / kernel.sum(axis=1)
    return found


def _check_samples(samples: Series, time_s: Series, what: str) -> None:
    if len(samples) != len(time_s):
        raise UserError(f"{what}: {len(samples)} label samples but {len(time_s)} label times")
    if len(samples) < 2:
        raise UserError(f"{what}: the label holds {len(samples)} sample(s)")
    n_bad, n_masked = int(np.isinf(samples).sum()), int(np.isnan(samples).sum())
    if n_bad:
        raise UserError(f"{what}: {n_bad} of {len(samples)} label samples are infinite")
    if n_masked > _MOST_MASKED * len(samples):
        raise UserError(f"{what}: {n_masked} of {len(samples)} label samples are missing (NaN or masked)")
    if np.nanmin(samples) == np.nanmax(samples):
        raise UserError(f"{what}: the label is constant ({np.nanmin(samples):g}); it holds no pulse")


def _check_span(time_s: Series, frame_time_s: Series, what: str) -> None:
    duration = float(frame_time_s[-1] - frame_time_s[0])
    covered = min(time_s[-1], frame_time_s[-1]) - max(time_s[0], frame_time_s[0])
    missing = duration - float(covered)
    if missing > max(_SHORT_S, _SHORT_SHARE * duration):
        raise UserError(
            f"{what}: the label covers {max(0.0, float(covered)):.1f} s of the video's {duration:.1f} s; "
            "check that both belong together and the unit of their times, or exclude the recording"
        )


def _flat_stretches(samples: Series, time_s: Series, what: str) -> list[str]:
    """A warning when the label stands still for more than two seconds."""
    change = np.flatnonzero(np.diff(samples) != 0)
    edges = np.concatenate([[0], change + 1, [len(samples)]])
    longest = max(float(time_s[b - 1] - time_s[a]) for a, b in itertools.pairwise(edges))
    return [f"{what}: the label stands still for {longest:.1f} s"] if longest > _FLAT_S else []


def _stretched(time_s: Series, frame_time_s: Series, what: str) -> list[str]:
    label_s, video_s = float(np.ptp(time_s)), float(np.ptp(frame_time_s))
    if abs(label_s - video_s) <= _SHORT_S:
        return []
    return [f"{what}: a label of {label_s:.1f} s was stretched over a video of {video_s:.1f} s"]
