"""Convolutions that repeat the first and last frame where others see zeros beyond the ends of a clip."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

Conv = nn.Conv1d | nn.Conv3d


def held(x: Tensor, frames: int) -> Tensor:
    """First and last frame `frames` times more: (B, C, T, ...) -> (B, C, T + 2 frames, ...)."""
    if not frames:
        return x
    shape = [-1, -1, frames, *[-1] * (x.dim() - 3)]
    return torch.cat([x[:, :, :1].expand(shape), x, x[:, :, -1:].expand(shape)], dim=2)


class HeldConv3d(nn.Conv3d):
    """A 3D convolution without padding over time, of a clip with held ends."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, T, H, W) -> (B, C_out, T, H, W)."""
        return super().forward(held(x, self.kernel_size[0] // 2))


class HeldConv1d(nn.Conv1d):
    """A 1D convolution without padding, of a signal with held ends."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, T) -> (B, C_out, T)."""
        return super().forward(held(x, self.kernel_size[0] // 2))


def conv3d(channels_in: int, channels_out: int, size: int, hold: bool, **options: Any) -> nn.Conv3d:
    """A cubic kernel of odd `size` that keeps the shape; hold: with held ends of time, zeros otherwise."""
    half = size // 2
    if hold:
        return HeldConv3d(channels_in, channels_out, size, padding=(0, half, half), **options)
    return nn.Conv3d(channels_in, channels_out, size, padding=half, **options)


def conv1d(channels_in: int, channels_out: int, hold: bool, groups: int = 1) -> nn.Conv1d:
    """A kernel of 3 samples that keeps the length; hold: as in `conv3d`."""
    if hold:
        return HeldConv1d(channels_in, channels_out, 3, groups=groups)
    return nn.Conv1d(channels_in, channels_out, 3, padding=1, groups=groups)
