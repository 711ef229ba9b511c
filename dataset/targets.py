"""What a net learns from a label: its forms, and the stretch of a recording that has one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dataset.transforms import end_with_zeros, over

DIFFERENCES = {"diff_normalised": 1, "second_derivative": 2}
"""Forms that are differences, and of which order: so many samples after the clip are read too."""


@dataclass(frozen=True)
class LabelStatistics:
    """Mean and standard deviation of a recording's label, and deviation of its differences by order."""

    mean: float
    std: float
    diff_std: dict[int, float]


def label_statistics(label: Tensor) -> LabelStatistics:
    """Statistics of a recording's label (T,) over its finite samples; NaN where there are none."""
    values = label.double()

    def spread(part: Tensor) -> float:
        known = part[part.isfinite()]
        return float(known.std(correction=0)) if len(known) else math.nan

    known = values[values.isfinite()]
    mean = float(known.mean()) if len(known) else math.nan
    orders = sorted(set(DIFFERENCES.values()))
    return LabelStatistics(mean, spread(values), {n: spread(values.diff(n=n)) for n in orders})


def target_form(label: Tensor, form: str, n_frames: int, statistics: LabelStatistics) -> Tensor:
    """The label in one of TARGET_FORMS: float (n,) to float32 (n_frames,), in step with `video_form`.

    Index t of "diff_normalised" is the step from frame t to t + 1 over the recording's standard deviation of
    steps; of "second_derivative" the step after it less this one, over the deviation of these (Hill, Liu,
    McDuff 2021). Samples that are NaN stay NaN; a flat label becomes zeros.
    """
    values = label.double()
    if form == "raw":
        return values[:n_frames].float()
    if form == "standardised":
        made, scale = values[:n_frames] - statistics.mean, statistics.std
    else:
        order = DIFFERENCES[form]
        steps = values[: n_frames + order].diff(n=order)
        made, scale = end_with_zeros(steps, n_frames), statistics.diff_std[order]
    made = torch.where(made.isnan(), made, over(made, scale))
    return made.float()


def longest_run(known: np.ndarray) -> tuple[int, int]:
    """First index and length of the longest stretch of True in (T,); (0, 0) where there is none."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], known.astype(np.int8), [0]])))
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    longest = int(lengths.argmax()) if len(lengths) else -1
    return (int(starts[longest]), int(lengths[longest])) if longest >= 0 else (0, 0)
