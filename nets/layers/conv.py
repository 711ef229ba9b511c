"""Convolution, batch norm, activation; the decoder's step that doubles time."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def conv_block(conv: nn.Module, channels: int, activation: nn.Module) -> nn.Sequential:
    """`conv` (which puts out `channels`), batch norm and `activation`, named conv, norm and act."""
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm3d(channels), act=activation))


def doubled_time(channels: int) -> nn.Sequential:
    """Transposed convolution over time, batch norm, ELU: (B, C, T, H, W) -> (B, C, 2 T, H, W)."""
    up = nn.ConvTranspose3d(channels, channels, (4, 1, 1), stride=(2, 1, 1), padding=(1, 0, 0))
    return conv_block(up, channels, nn.ELU())
