"""STVEN: a clip at one level of compression into the same clip at another (Yu et al., ICCV 2019)."""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.layers import recompute
from nets.layers.st_conv import STConv
from nets.registry import NETS
from utils.contracts import InputSpec

ORIGINAL = 0


@NETS.register("stven")
class STVEN(nn.Module):
    """The spatio-temporal video enhancement network: 51,481,088 parameters with 4 levels, 6 blocks.

    Level 0 is the original, higher levels are stronger compression. The wanted level is given as
    constant planes beside the colours; the net puts out what must be added to the clip.
    """

    task = "enhancement"
    parameter_count = 51_481_088
    small_sizes = (16, 24)
    small_options: ClassVar[dict[str, int]] = {"width": 4, "blocks": 2}

    def __init__(
        self, *, blocks: int = 6, levels: int = 4, width: int = 64, checkpointing: bool = False
    ) -> None:
        """blocks: 6 as in the paper's table, 4 as in the released code (whose levels are 5).

        levels: the original and the compressed ones. width: channels of the first layer, 8 times as many
        amid the net; 64 is the published one. checkpointing: keep only the input of each stage for the
        backward pass, and compute it again.
        """
        super().__init__()
        if blocks < 1 or levels < 2 or width < 1:
            raise ValueError(f"blocks = {blocks}, levels = {levels}, width = {width}: at least 1, 2 and 1")
        self.input_spec = InputSpec(
            frames=64, size=128, video="centred", target="standardised", multiple_of=2
        )
        self.levels, self.checkpointing = levels, checkpointing
        conv, up = nn.Conv3d, nn.ConvTranspose3d
        self.encoder = nn.ModuleList([
            _normed(conv(3 + levels, width, (3, 7, 7), padding=(1, 3, 3), bias=False), width),
            _normed(conv(width, 2 * width, (3, 4, 4), (1, 2, 2), padding=1, bias=False), 2 * width),
            _normed(conv(2 * width, 8 * width, 4, 2, padding=1, bias=False), 8 * width),
        ])
        self.blocks = nn.ModuleList(STConv(8 * width, 8 * width) for _ in range(blocks))
        self.decoder = nn.ModuleList([
            _normed(up(8 * width, 2 * width, 4, 2, padding=1, bias=False), 2 * width),
            _normed(up(2 * width, width, (1, 4, 4), (1, 2, 2), padding=(0, 1, 1), bias=False), width),
        ])
        self.out = conv(width, 3, (1, 7, 7), padding=(0, 3, 3), bias=False)

    def forward(self, video: Tensor, level: Tensor | None = None) -> Tensor:
        """(B, 3, T, H, W), about -1..1, and the wanted level (B,) int64 -> (B, 3, T, H, W) float32.

        level None: the original, level 0. T must be even, H and W multiples of 4 (ValueError).
        """
        _check(video)
        x = torch.cat([video, self._planes(video, level)], dim=1)
        for stage in (*self.encoder, *self.blocks, *self.decoder):
            x = recompute.run(self, stage, x, self.checkpointing)
        change = self.out(x)
        with torch.autocast(video.device.type, enabled=False):
            restored: Tensor = video.float() + change.float().tanh()
        return restored

    def _planes(self, video: Tensor, level: Tensor | None) -> Tensor:
        """(B, levels, T, H, W): 1 in the plane of the wanted level, else 0."""
        if level is None:
            level = torch.full((len(video),), ORIGINAL, device=video.device)
        planes = F.one_hot(level.long(), self.levels).to(video.dtype)
        return planes[:, :, None, None, None].expand(-1, -1, *video.shape[2:])



def _normed(conv: nn.Module, channels: int) -> nn.Sequential:
    """Instance norm with running statistics, which evaluation uses, and ReLU."""
    norm = nn.InstanceNorm3d(channels, affine=True, track_running_stats=True)
    return nn.Sequential(OrderedDict(conv=conv, norm=norm, act=nn.ReLU(inplace=True)))


def _check(video: Tensor) -> None:
    """ValueError unless the clip's shape is one this net can answer for."""
    if video.dim() != 5:
        raise ValueError(f"stven takes (B, 3, T, H, W), got a tensor of shape {tuple(video.shape)}")
    frames, height, width = video.shape[2:]
    if frames % 2 or height % 4 or width % 4 or not frames * height * width:
        raise ValueError(
            f"stven takes an even number of frames and pictures of a multiple of 4 pixels, got {frames} "
            f"frames of {height} x {width}; set net.input"
        )
