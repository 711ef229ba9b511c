"""Losses between videos, and between a skin map and its mask: scalars, float32 whatever comes in."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def skin_bce(logit: Tensor, mask: Tensor) -> Tensor:
    """Binary cross entropy of a skin map: (B, T, h, w) before the sigmoid, (B, T, H, W) in 0..1 -> ().

    The mask is averaged down (or repeated) to the map's size.
    """
    target = mask.float()
    if target.shape[2:] != logit.shape[2:]:
        target = F.interpolate(target, size=logit.shape[2:], mode="area")
    return F.binary_cross_entropy_with_logits(logit.float(), target)


def restoring_loss(restored: Tensor, original: Tensor) -> Tensor:
    """Mean squared error of videos of one shape (STVEN: what decompression is judged by)."""
    return F.mse_loss(restored.float(), original.float())


def absolute_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute error of videos of one shape (STVEN: compression, and both cycles)."""
    return F.l1_loss(made.float(), wanted.float())


def psnr_db(made: Tensor, wanted: Tensor, span: float) -> Tensor:
    """Peak signal-to-noise ratio of each clip in dB: (B, ...) twice -> (B,); span: largest difference."""
    error = (made.float() - wanted.float()).square().flatten(1).mean(1)
    return 10 * (span**2 / error.clamp_min(1e-12)).log10()
