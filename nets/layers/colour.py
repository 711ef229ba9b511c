"""Frames on a common scale: of photographs, for nets trained on such, or of each clip's own colours."""

from __future__ import annotations

import torch
from torch import Tensor

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Of red, green and blue, for pictures of 0 to 1."""


def standardised(video: Tensor) -> Tensor:
    """(x - mean) / std of each colour: (B, 3, T, H, W), 0..1, RGB -> the same shape, float32."""
    mean, std = (torch.tensor(of, device=video.device).view(1, 3, 1, 1, 1) for of in (MEAN, STD))
    return (video.float() - mean) / std


def standardised_clip(video: Tensor) -> Tensor:
    """Each clip and channel of (B, C, T, H, W) with zero mean and unit (unbiased) deviation."""
    video = video.float()
    std, mean = torch.std_mean(video, dim=(2, 3, 4), keepdim=True)
    # A channel without variation becomes 0, not NaN; on a scale of 0..255 nothing real is below this.
    return (video - mean) / std.clamp_min(1e-6)


def original(video: Tensor) -> Tensor:
    """What `standardised` was made of: (B, 3, T, H, W) -> 0..1 where it came from there."""
    mean, std = (torch.tensor(of, device=video.device).view(1, 3, 1, 1, 1) for of in (MEAN, STD))
    return video * std + mean
