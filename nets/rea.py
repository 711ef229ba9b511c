"""REA, local rPPG expert aggregation: each region's expert reads the pulse (Yue, Shi, Ding 2022)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.layers import recompute
from nets.layers.colour import original, standardised
from nets.layers.ends import Conv, conv1d, conv3d, held
from nets.registry import NETS
from utils.contracts import InputSpec

Region = tuple[slice, slice]
DARK = 0.05


@NETS.register("rea")
class REA(nn.Module):
    """The pulse estimator of LFA/REA with L = 4 regions: 5,139,152 parameters (arXiv 2210.15401).

    A 3D residual encoder that never shrinks the clip, an expert for each region of its maps, and a gate that
    weights the experts anew at every frame.
    """

    task = "pulse"
    parameter_count = 5_139_152
    small_sizes = (8, 12)
    small_options: ClassVar[dict[str, int]] = {"width": 4}

    def __init__(
        self, *, experts: int = 4, width: int = 64, relative: int = 0,
        ends: Literal["zeros", "held"] = "zeros", checkpointing: bool = False,
    ) -> None:
        """experts: L, any square number; 9 as the paper draws it. width: channels, 64 as published.

        relative: above 0, read of each pixel its change from its mean over so many frames around, in per cent
        of that mean, instead of its value (not published): the still picture and slow drifts are gone, and
        light changes all colours alike. ends: beyond the first and last frame convolutions see zeros as
        published, against which still features step, so that a net can answer any clip with the same wave;
        "held": they see these frames again. checkpointing: keep only the input of each stage for the
        backward pass, and compute it again.
        """
        super().__init__()
        if experts < 1 or math.isqrt(experts) ** 2 != experts:
            raise ValueError(f"experts = {experts}: the regions form a square grid, so 1, 4, 9, 16, ...")
        if relative < 0 or (relative and relative % 2 == 0):
            raise ValueError(f"relative = {relative}: odd, or 0 for the pixels themselves")
        if width < 2:
            raise ValueError(f"width = {width}: at least 2 channels")
        self.input_spec = InputSpec(frames=150, size=64, video="unit", target="standardised")
        self.relative, self.checkpointing = relative, checkpointing
        hold = ends == "held"
        conv = conv3d(3, width, 7, hold, bias=False)
        self.stem = nn.Sequential(conv, nn.BatchNorm3d(width), nn.ReLU(inplace=True))
        widths = [width, width, 2 * width, 2 * width, width]
        self.layers = nn.ModuleList(Block(a, b, hold) for a, b in pairwise(widths))
        _initialise(self.stem, self.layers)
        self.experts = Experts(experts, width, hold)
        self.gate = Gate(experts, width, hold)
        self.fusion = conv1d(1, 1, hold)

    def forward(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W), 0..1 -> (B, T) float32; a pixel for each region at least (ValueError)."""
        return self.estimate(standardised(video))

    def estimate(self, clip: Tensor) -> Tensor:
        """As forward, of clips with standardised colours."""
        if clip.dim() != 5 or clip.shape[1] != 3:
            raise ValueError(f"rea takes (B, 3, T, H, W), got a tensor of shape {tuple(clip.shape)}")
        x = relative_change(clip, self.relative) if self.relative else clip
        for stage in (self.stem, *self.layers):
            x = recompute.run(self, stage, x, self.checkpointing)
        local = recompute.run(self, self.experts, x, self.checkpointing)
        weight = recompute.run(self, self.gate, x, self.checkpointing)
        # Full precision from here on, also under autocast: bf16 would round a waveform to 8 bits.
        with torch.autocast(x.device.type, enabled=False):
            waveform: Tensor = self.fusion((local * weight).sum(1, keepdim=True)).squeeze(1)
        return waveform

    @classmethod
    def rename(cls, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """This net's part of a net that holds it as `rea`; other states are returned as they are."""
        mine = {key.removeprefix("rea."): value for key, value in state.items() if key.startswith("rea.")}
        return mine or dict(state)


class Block(nn.Module):
    """Basic residual block: two 3x3x3 convolutions with batch norm, a 1x1x1 shortcut where widths differ."""

    def __init__(self, channels_in: int, channels_out: int, hold: bool) -> None:
        """(B, C_in, T, H, W) -> (B, C_out, T, H, W); hold: the ends of time."""
        super().__init__()
        self.a = conv3d(channels_in, channels_out, 3, hold, bias=False)
        self.norm_a = nn.BatchNorm3d(channels_out)
        self.b = conv3d(channels_out, channels_out, 3, hold, bias=False)
        self.norm_b = nn.BatchNorm3d(channels_out)
        self.shortcut: nn.Module = nn.Identity()
        if channels_in != channels_out:
            conv = nn.Conv3d(channels_in, channels_out, 1, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm3d(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, T, H, W) -> (B, C_out, T, H, W)."""
        y = self.norm_b(self.b(self.norm_a(self.a(x)).relu_()))
        return (y + self.shortcut(x)).relu_()


class Experts(nn.Module):
    """L experts, each with its own weights for its own region, in grouped convolutions.

    Regions of one shape pass together; on a CPU about as fast as one by one at the published width.
    """

    def __init__(self, count: int, width: int, hold: bool = False) -> None:
        """count: L, a square; width: channels of each expert; hold: the ends of time."""
        super().__init__()
        self.count, self.hold = count, hold
        wide, half = count * width, width // 2
        conv = partial(conv3d, wide, wide, 3, hold, groups=count)
        self.entry = conv()
        self.before_a, self.before_b = conv(), conv()
        self.attention = conv()
        self.mask_a = nn.Conv3d(wide, count * half, (1, 3, 3), padding=(0, 1, 1), groups=count)
        self.mask_b = nn.Conv3d(count * half, count, (1, 3, 3), padding=(0, 1, 1), groups=count)
        self.after_a, self.after_b = conv(), conv()
        self.head = conv1d(wide, count, hold, groups=count)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, L, T) float32, regions row by row."""
        alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
        cut = [maps[..., rows, columns] for rows, columns in regions(maps, self.count)]
        for number, region in enumerate(cut):
            alike[tuple(region.shape)].append(number)
        signals: list[Tensor] = [maps] * self.count
        for numbers in alike.values():
            made = self._signals(torch.cat([cut[i] for i in numbers], dim=1), numbers)
            for place, number in enumerate(numbers):
                signals[number] = made[:, place]
        return torch.stack(signals, dim=1)

    def _signals(self, x: Tensor, who: list[int]) -> Tensor:
        """Signals of the experts `who` for their regions: (B, n C, T, h, w) -> (B, n, T) float32."""
        x = self._run(self.entry, x, who).relu_()
        x = self._residual(self.before_a, self.before_b, x, who)
        seen = self._run(self.attention, x, who)
        mask = self._run(self.mask_a, seen.mean(2, keepdim=True), who).relu_()
        mask = self._run(self.mask_b, mask, who).sigmoid()
        looked = (seen.unflatten(1, (len(who), -1)) * mask[:, :, None]).flatten(1, 2)
        x = self._residual(self.after_a, self.after_b, looked + x, who)
        with torch.autocast(x.device.type, enabled=False):
            return self._run(self.head, x.float().mean((3, 4)), who)

    def _residual(self, a: Conv, b: Conv, x: Tensor, who: list[int]) -> Tensor:
        return (self._run(b, self._run(a, x, who).relu_(), who) + x).relu_()

    def _run(self, conv: Conv, x: Tensor, who: list[int]) -> Tensor:
        """The groups `who` of a grouped convolution."""
        if len(who) == self.count or conv.bias is None:
            whole: Tensor = conv(x)
            return whole
        weight, bias = (p.unflatten(0, (self.count, -1))[who].flatten(0, 1) for p in (conv.weight, conv.bias))
        convolve: Callable[..., Tensor] = F.conv1d if x.dim() == 3 else F.conv3d
        x = held(x, conv.kernel_size[0] // 2) if self.hold else x
        return convolve(x, weight, bias, padding=conv.padding, groups=len(who))


class Gate(nn.Module):
    """Weights of the experts at every frame, which sum to 1."""

    def __init__(self, experts: int, width: int, hold: bool = False) -> None:
        """experts: L; width: channels of the encoder's maps; hold: the ends of time."""
        super().__init__()
        self.a, self.b = (conv3d(width, width, 3, hold) for _ in range(2))
        self.head = conv1d(width, experts, hold)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, L, T) float32."""
        x = self.b(self.a(maps).relu_()).relu_()
        with torch.autocast(x.device.type, enabled=False):
            weight: Tensor = self.head(x.float().mean((3, 4))).softmax(1)
        return weight


def relative_change(clip: Tensor, frames: int) -> Tensor:
    """Change of each pixel from its mean over `frames` around, in per cent: standardised (B, 3, T, H, W).

    Frames beyond the ends are the first and last ones. Means below 5 % of white count as these: dark pixels
    are noise.
    """
    with torch.autocast(clip.device.type, enabled=False):
        shown = original(clip.float())
        weight = shown.new_full((3, 1, frames, 1, 1), 1 / frames)
        mean = F.conv3d(held(shown, frames // 2), weight, groups=3)
    return 100 * (shown - mean) / mean.clamp_min(DARK)


def regions(maps: Tensor, count: int) -> list[Region]:
    """Rows and columns of each cell of a square grid, row by row: boundaries floor(i H / g).

    ValueError where the maps have fewer rows or columns than the grid.
    """
    grid = math.isqrt(count)
    if min(maps.shape[3:]) < grid:
        raise ValueError(f"{count} experts need {grid} x {grid} pixels, got {tuple(maps.shape[3:])}")
    rows, columns = ([slice(i * n // grid, (i + 1) * n // grid) for i in range(grid)] for n in maps.shape[3:])
    return [(row, column) for row in rows for column in columns]


def _initialise(*parts: nn.Module) -> None:
    """Convolutions: normal, deviation sqrt(2 / (k k C_out)), of a k x k x k kernel two sides, as released."""
    for part in parts:
        for module in part.modules():
            if isinstance(module, nn.Conv3d):
                fan = module.kernel_size[1] * module.kernel_size[2] * module.out_channels
                nn.init.normal_(module.weight, 0.0, math.sqrt(2 / fan))
