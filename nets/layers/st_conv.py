"""The (2+1)D convolution of rPPGNet and STVEN: first space, then time."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

KERNEL = 3


class STConv(nn.Sequential):
    """A 3x3x3 convolution factorised as in R(2+1)D (Tran et al., CVPR 2018), as wide as the full one is.

    (B, C_in, T, H, W) -> (B, C_out, T, H, W); space, batch norm, ReLU, time. What follows the
    convolution over time is the caller's.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        """The middle width gives about as many weights as one 3x3x3 convolution has."""
        middle = _middle(channels_in, channels_out)
        super().__init__(OrderedDict(
            space=nn.Conv3d(channels_in, middle, (1, KERNEL, KERNEL), padding=(0, 1, 1)),
            norm=nn.BatchNorm3d(middle), act=nn.ReLU(inplace=True),
            time=nn.Conv3d(middle, channels_out, (KERNEL, 1, 1), padding=(1, 0, 0)),
        ))


def _middle(channels_in: int, channels_out: int) -> int:
    """floor(27 C_in C_out / (9 C_in + 3 C_out))."""
    return KERNEL**3 * channels_in * channels_out // (KERNEL**2 * channels_in + KERNEL * channels_out)
