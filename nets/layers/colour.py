"""Frames on the scale of photographs: per-channel statistics that nets trained on photographs share."""

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


def original(video: Tensor) -> Tensor:
    """What `standardised` was made of: (B, 3, T, H, W) -> 0..1 where it came from there."""
    mean, std = (torch.tensor(of, device=video.device).view(1, 3, 1, 1, 1) for of in (MEAN, STD))
    return video * std + mean
