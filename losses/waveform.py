"""Losses between a predicted and a true waveform, (B, T) each: scalars, float32 whatever comes in."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

EPS = 1e-8
ROUNDING = 1e-7


def pearson(prediction: Tensor, target: Tensor) -> Tensor:
    """Correlation over time of each row: (..., T), (..., T) -> (...), in centred float32 arithmetic.

    A row without variance (beyond rounding) gives 0 and a finite gradient, never NaN. A NaN that comes
    in stays NaN: an unlabelled clip must not pass for an uncorrelated one.
    """
    x, x_norm = _centred(prediction.float())
    y, y_norm = _centred(target.float())
    return (x * y).sum(-1) / (x_norm * y_norm + EPS)


def _centred(signal: Tensor) -> tuple[Tensor, Tensor]:
    """Mean-free rows (..., T) and their norms (...).

    The norm of a flat row is given as 1, before the root: its slope at 0 is infinite.
    """
    x = signal - signal.mean(-1, keepdim=True)
    power = x.square().sum(-1)
    flat = power <= signal.shape[-1] * (ROUNDING * signal.detach().abs().amax(-1)) ** 2
    return x, torch.where(flat, torch.ones_like(power), power).sqrt()


def unit_norm(signal: Tensor) -> Tensor:
    """Mean-free rows of norm 1: (..., T) -> (..., T); a row without variance becomes (nearly) 0."""
    x, norm = _centred(signal)
    return x / (norm[..., None] + EPS)


def neg_pearson(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean over clips of 1 - r, r the correlation over time; 0 to 2, and 1 without variance.

    Yu, Li, Zhao 2019, eq. 1. (B, T), (B, T) -> ().
    """
    return (1 - pearson(prediction, target)).mean()


def mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error: (B, T), (B, T) -> ()."""
    return F.mse_loss(prediction.float(), target.float())


def l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error: (B, T), (B, T) -> ()."""
    return F.l1_loss(prediction.float(), target.float())


def smooth_l1(prediction: Tensor, target: Tensor) -> Tensor:
    """Squared below an error of 1, linear above: (B, T), (B, T) -> ()."""
    return F.smooth_l1_loss(prediction.float(), target.float())


def huber(prediction: Tensor, target: Tensor) -> Tensor:
    """Huber's loss with delta 1: (B, T), (B, T) -> ()."""
    return F.huber_loss(prediction.float(), target.float())


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "neg_pearson": neg_pearson, "mse": mse, "l1": l1, "smooth_l1": smooth_l1, "huber": huber,
}

_CLASSES = "it compares class scores with class labels, and a waveform has none"
_BINARY = "it needs targets that are 0 or 1, or +1 or -1, and a waveform is neither"
_TRIPLET = "it needs an anchor, a similar and a dissimilar example"

UNSUITABLE: dict[str, str] = {
    "bce": _BINARY, "bce_with_logits": _BINARY, "hinge_embedding": _BINARY, "soft_margin": _BINARY,
    "multi_label_margin": _BINARY, "multi_label_soft_margin": _BINARY,
    "cross_entropy": _CLASSES, "nll": _CLASSES, "nll2d": _CLASSES, "multi_margin": _CLASSES,
    "ctc": "it aligns sequences of symbols, and a waveform has no symbols",
    "cosine_embedding": "it needs pairs marked similar or not; neg_pearson is the cosine without the mean",
    "gaussian_nll": "it needs a predicted variance beside the waveform",
    "poisson_nll": "it needs counts as targets",
    "kl_div": "it compares distributions, and a waveform is not one",
    "margin_ranking": "it ranks two inputs",
    "pairwise": "it is the root of the summed squares, which mse minimises as well",
    "triplet_margin": _TRIPLET, "triplet_margin_distance": _TRIPLET,
}


def loss_name(name: str) -> str:
    """`name` when it is one of LOSSES; ValueError with the reason otherwise."""
    if name in LOSSES:
        return name
    known = f"use one of {', '.join(LOSSES)}"
    if name in UNSUITABLE:
        raise ValueError(f"{name!r} does not suit waveforms: {UNSUITABLE[name]}; {known}")
    raise ValueError(f"unknown loss {name!r}; {known}")
