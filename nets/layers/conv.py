"""Convolution, batch norm, activation."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def conv_block(conv: nn.Module, channels: int, activation: nn.Module) -> nn.Sequential:
    """`conv` (which puts out `channels`), batch norm and `activation`, named conv, norm and act."""
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm3d(channels), act=activation))
