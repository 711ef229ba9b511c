"""Pulse waveforms as ordered levels: labels, loss (Lee, Chen, Lee, Meta-rPPG, ECCV 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = 40
SMALLEST, LARGEST = 1e-8, 1e8


def to_levels(pulse: Tensor, levels: int = LEVELS) -> Tensor:
    """Each row between its minimum and maximum in whole levels: (..., T) -> (..., T) float, 0 to levels - 1.

    A row that does not vary becomes zeros. A row with a NaN becomes NaN: it must not pass for a label.
    """
    low, high = pulse.amin(-1, keepdim=True), pulse.amax(-1, keepdim=True)
    step = (high - low) / (levels - 1)
    scaled = (pulse - low) / torch.where(step > 0, step, torch.ones_like(step))
    return torch.where(step == 0, torch.zeros_like(scaled), scaled.round())


def ordinal_loss(probabilities: Tensor, level: Tensor) -> Tensor:
    """Mean over all samples of - sum over k <= t of log P_k - sum over k > t of log(1 - P_k).

    probabilities: (B, T, K), P_k that the sample reaches level k; level: (B, T), t of `to_levels`. The
    sum runs up to and including t, so that a perfect answer has t + 1 levels; the arguments of the
    logarithms are held within 1e-8 and 1e8. NaN in `level` stays NaN.
    """
    with torch.autocast(probabilities.device.type, enabled=False):
        p = probabilities.float()
        places = torch.arange(p.shape[-1], device=p.device)
        below = places <= level[..., None]
        reached = torch.where(below, p, 1 - p).clamp(SMALLEST, LARGEST).log()
        return -(reached.sum(-1) + 0 * level.float()).mean()
