"""What AutoHR and its supernet share: stem, cells with their pools, decoder (Yu et al., IEEE SPL 2020)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from nets.layers import recompute
from nets.layers.conv import conv_block, doubled_time
from nets.layers.genotype import BLOCKS, NODES, Kernel
from nets.layers.pool import halving_max_pool
from nets.layers.tdc import TDC
from utils.contracts import InputSpec

CELLS_IN_A_BLOCK = 2
HALVES_TIME = (True, True, False)
Multipliers = Annotated[list[int], Field(min_length=BLOCKS, max_length=BLOCKS)]
CellOf = Callable[[Tensor, Tensor], Tensor]


class CellNet(nn.Module):
    """A stem, four blocks of two cells, and a decoder; a cell sees the outputs of the two before it.

    Space is halved by the stem and after the first three blocks, time after the first two. The paper says
    only that it is pooled between blocks: where is this project's reading, as is the width of the nodes.
    """

    task = "pulse"
    small_sizes = (16, 24)

    def __init__(
        self, stem_channels: int, node_channels: int, multipliers: list[int] | None, checkpointing: bool
    ) -> None:
        """node_channels: of each of a cell's three nodes, times the block's multiplier (1 each)."""
        super().__init__()
        self.multipliers = list(multipliers or [1] * BLOCKS)
        if min(stem_channels, node_channels, *self.multipliers) < 1 or len(self.multipliers) != BLOCKS:
            raise ValueError(f"channels and the {BLOCKS} multipliers must be at least 1")
        self.input_spec = InputSpec(
            frames=128, size=112, video="centred", target="standardised", multiple_of=4
        )
        self.checkpointing = checkpointing
        self.widths = [node_channels * factor for factor in self.multipliers]
        stem = nn.Conv3d(3, stem_channels, (1, 5, 5), padding=(0, 2, 2), bias=False)
        self.stem = conv_block(stem, stem_channels, nn.ReLU(inplace=True))
        self.cells = nn.ModuleList()
        self._channels = stem_channels, stem_channels
        last = len(NODES) * self.widths[-1]
        self.up1, self.up2 = doubled_time(last), doubled_time(last)
        self.head = nn.Conv3d(last, 1, 1)

    def append(self, make: Callable[[int, int, int], nn.Module]) -> None:
        """Add the next cell: `make` is given the channels of s0, of s1, and of the cell's nodes."""
        width = self.widths[len(self.cells) // CELLS_IN_A_BLOCK]
        before, last = self._channels
        self.cells.append(make(before, last, width))
        self._channels = last, len(NODES) * width

    def cell(self, number: int) -> CellOf:
        """Cell number `number` (from 0) as a function of s0 and s1."""
        found: CellOf = self.cells[number]
        return found

    def forward(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W), about -1..1 -> (B, T) float32; T a multiple of 4 (ValueError)."""
        x = self.up2(self.up1(self.features(video)))
        # Full precision from here on, also under autocast: bf16 would round a waveform to 8 bits.
        with torch.autocast(x.device.type, enabled=False):
            waveform: Tensor = self.head(x.float().mean((3, 4), keepdim=True)).flatten(1)
        return waveform

    def features(self, video: Tensor) -> Tensor:
        """The last cell's output: (B, 3, T, H, W) -> (B, 3 C, T/4, H/16, W/16), 48 channels by default."""
        _check(video)
        s1 = recompute.run(self, lambda x: halving_max_pool(self.stem(x), False), video, self.checkpointing)
        s0 = s1
        for number in range(len(self.cells)):
            if number and number % CELLS_IN_A_BLOCK == 0:
                halve_time = HALVES_TIME[number // CELLS_IN_A_BLOCK - 1]
                s0, s1 = halving_max_pool(s0, halve_time), halving_max_pool(s1, halve_time)
            s0, s1 = s1, recompute.run(self, partial(self.cell(number), s0), s1, self.checkpointing)
        return s1


def to_nodes(channels_in: int, channels: int) -> nn.Sequential:
    """An input of a cell at the width of its nodes: ReLU, 1x1x1 convolution, batch norm."""
    conv = nn.Conv3d(channels_in, channels, 1, bias=False)
    return nn.Sequential(OrderedDict(act=nn.ReLU(), conv=conv, norm=nn.BatchNorm3d(channels)))


def operation(kernel: Kernel, channels: int) -> nn.Sequential:
    """ReLU, the convolution of `kernel`, batch norm."""
    conv: nn.Module
    if kernel.theta:
        conv = TDC(channels, channels, kernel.theta)
    else:
        extent = (kernel.time, kernel.space, kernel.space)
        margin = (kernel.time // 2, kernel.space // 2, kernel.space // 2)
        conv = nn.Conv3d(channels, channels, extent, padding=margin, bias=False)
    return nn.Sequential(OrderedDict(act=nn.ReLU(), conv=conv, norm=nn.BatchNorm3d(channels)))


def _check(video: Tensor) -> None:
    """ValueError unless the clip's shape is one these nets can answer for."""
    if video.dim() != 5 or video.shape[1] != 3:
        raise ValueError(f"autohr takes (B, 3, T, H, W), got a tensor of shape {tuple(video.shape)}")
    frames, height, width = video.shape[2:]
    if frames < 4 or frames % 4:
        raise ValueError(f"autohr takes clips of a multiple of 4 frames, got {frames}; set net.input.frames")
    if not height or not width:
        raise ValueError(f"autohr takes pictures, got {height} x {width} pixels")
