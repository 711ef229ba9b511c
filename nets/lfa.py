"""LFA, learnable frequency augmentation: a clip whose pulse beats r times as fast (Yue, Shi, Ding 2022)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.layers import recompute
from nets.layers.colour import original, standardised
from nets.registry import NETS
from utils.contracts import InputSpec

SLOPE = 0.1
FACTORS = (1, 2, 4)


@NETS.register("lfa")
class LFA(nn.Module):
    """The frequency augmentation of LFA/REA: 449,175 parameters (arXiv 2210.15401).

    Features of the clip at three sizes are each multiplied by a signal over time that a small recurrent net
    makes of the features and the wanted ratio; their sum is the new clip.
    """

    task = "enhancement"
    parameter_count = 449_175
    small_sizes = (16, 24)

    def __init__(
        self, *, width: int = 64, learned_down: bool = False, bidirectional: bool = False, hidden: int = 1,
        final: Literal["prelu", "none"] = "prelu", checkpointing: bool = False,
    ) -> None:
        """learned_down: strided convolutions as in the first release (523,033 parameters) instead of every
        2nd and 4th row and column. bidirectional: the recurrence runs both ways, as the paper's figure has
        it; hidden: its width. With either, a convolution makes one signal of its outputs.
        final: activation of the new clip. checkpointing: keep only inputs of stages for the backward pass.
        """
        super().__init__()
        if width < 1 or hidden < 1:
            raise ValueError(f"width = {width}, hidden = {hidden}: at least 1")
        self.input_spec = InputSpec(frames=150, size=64, video="unit", target="standardised")
        self.width, self.checkpointing = width, checkpointing
        self.entry = nn.Conv3d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(Residual(width) for _ in range(2))
        self.down = nn.ModuleList(_Halved(width) for _ in range(2)) if learned_down else None
        self.modulation = nn.ModuleList(Modulation(width, hidden, bidirectional) for _ in FACTORS)
        self.out = nn.Conv3d(len(FACTORS) * width, 3, 1)
        self.act = nn.PReLU() if final == "prelu" else nn.Identity()

    def forward(self, video: Tensor, ratio: Tensor | None = None) -> Tensor:
        """(B, 3, T, H, W), 0..1, and ratios (B,) -> a clip of the same shape whose pulse is `ratio` times as
        fast, float32; None: 1. H and W at least 4 (ValueError)."""
        if video.dim() != 5 or video.shape[1] != 3 or min(video.shape[3:]) < FACTORS[-1]:
            raise ValueError(f"lfa takes (B, 3, T, H, W) of 4 pixels at least, got {tuple(video.shape)}")
        wanted = video.new_ones(len(video)) if ratio is None else ratio
        made: Tensor = original(self.augmented(standardised(video), wanted[:, None])[:, 0])
        return made

    def augmented(self, clip: Tensor, ratio: Tensor) -> Tensor:
        """K new clips of each: (B, 3, T, H, W) standardised, (B, K) -> (B, K, 3, T, H, W) float32.

        The features do not depend on the ratio and are made once. The last 1x1x1 convolution comes before
        modulation and growing, with which it commutes: three channels are modulated, not `width`.
        """
        x = recompute.run(self, lambda x: F.leaky_relu(self.entry(x), SLOPE), clip, self.checkpointing)
        for block in self.blocks:
            x = recompute.run(self, block, x, self.checkpointing)
        parts = self.out.weight.split(self.width, dim=1)
        size = (int(x.shape[3]), int(x.shape[4]))
        sums: Tensor | None = None
        for level, weight, modulation in zip(self._levels(x), parts, self.modulation, strict=True):
            picture = F.conv3d(level, weight)
            with torch.autocast(x.device.type, enabled=False):
                signal = modulation(level.float().mean((3, 4)), ratio.float())
                grown = _grown(picture.float(), size)
                term = grown[:, None] * signal[:, :, None, :, None, None]
                sums = term if sums is None else sums + term
        assert sums is not None and self.out.bias is not None
        with torch.autocast(x.device.type, enabled=False):
            made: Tensor = self.act(sums + self.out.bias.view(3, 1, 1, 1))
        return made

    def _levels(self, full: Tensor) -> list[Tensor]:
        """The features at full, half and quarter size."""
        if self.down is None:
            return [full[..., ::factor, ::factor] for factor in FACTORS]
        half = self.down[0](full)
        return [full, half, self.down[1](half)]


class Residual(nn.Module):
    """Two 3x3x3 convolutions beside the identity, leaky ReLUs: (B, C, T, H, W) -> the same shape."""

    def __init__(self, channels: int) -> None:
        """Width stays what it is."""
        super().__init__()
        self.a = nn.Conv3d(channels, channels, 3, padding=1)
        self.b = nn.Conv3d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T, H, W)."""
        return F.leaky_relu(self.b(F.leaky_relu(self.a(x), SLOPE)) + x, SLOPE)


class Modulation(nn.Module):
    """Frequency modulation block: a signal over time, from mean features and the wanted ratio."""

    def __init__(self, width: int, hidden: int, bidirectional: bool) -> None:
        """width: of the features; hidden: of the recurrence."""
        super().__init__()
        self.mix = nn.Conv1d(width, 1, 3, padding=1)
        # With torch's own start the rectifier behind is shut in about half of the blocks, for good: they
        # would not see the clip.
        nn.init.ones_(self.mix.get_parameter("bias"))
        self.a, self.b = nn.Conv1d(2, 2, 3, padding=1), nn.Conv1d(2, 2, 3, padding=1)
        self.recurrence = nn.LSTM(2, hidden, batch_first=True, bidirectional=bidirectional)
        wide = hidden * (1 + bidirectional)
        self.join = nn.Conv1d(wide, 1, 1) if wide > 1 else None

    def forward(self, means: Tensor, ratio: Tensor) -> Tensor:
        """(B, C, T), (B, K) -> (B, K, T)."""
        row = self.mix(means)
        n, k, frames = len(row), ratio.shape[1], row.shape[2]
        rows = [row.expand(-1, k, -1), ratio[:, :, None].expand(-1, -1, frames)]
        both = torch.stack(rows, dim=2).flatten(0, 1)
        both = (self.b(self.a(both).relu()) + both).relu()
        signal, _ = self.recurrence(both.transpose(1, 2).contiguous())
        signal = signal.transpose(1, 2)
        return (signal if self.join is None else self.join(signal)).view(n, k, frames)


class _Halved(nn.Module):
    """Strided 1x3x3 convolution and PReLU: (B, C, T, H, W) -> (B, C, T, ceil(H/2), ceil(W/2))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, channels, (1, 3, 3), (1, 2, 2), (0, 1, 1))
        self.act = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        halved: Tensor = self.act(self.conv(x))
        return halved


def _grown(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """Nearest neighbour: every row and column repeated, cut to `size`; (B, C, T, h, w) -> (B, C, T, H, W)."""
    factor = -(-size[0] // pictures.shape[3])
    if factor == 1:
        return pictures
    grown = pictures[:, :, :, :, None, :, None].expand(-1, -1, -1, -1, factor, -1, factor)
    return grown.flatten(5, 6).flatten(3, 4)[..., : size[0], : size[1]]
