"""Contrast-Phys: a 3D convolutional net whose output keeps space (Sun & Li, ECCV 2022, TPAMI 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from nets.layers.colour import standardised_clip
from nets.layers.conv import conv_block
from nets.layers.pool import mean_pool
from nets.registry import NETS
from utils.contracts import InputSpec

MIN_SIZE = 16
Width = Annotated[int, Field(ge=2)]
RELEASED = {
    "start": "start", "loop1": "stage1", "encoder1": "stage2", "encoder2": "stage3", "loop4": "stage4",
    "decoder1": "decoder1", "decoder2": "decoder2", "end": "head",
}


@NETS.register("contrast_phys")
class ContrastPhys(nn.Module):
    """The backbone of Contrast-Phys, local signals on an S x S grid: 858,497 parameters.

    Raw frames go in; the net standardises each clip and channel itself.
    """

    task = "pulse"
    default_method = "contrast_phys"
    parameter_count = 858_497
    small_options: ClassVar[dict[str, Any]] = {"width": 8}

    def __init__(self, *, S: int = 2, width: Width = 64) -> None:
        """S: rows and columns of the grid of local signals. width: channels from stage 1 on."""
        super().__init__()
        if S < 1:
            raise ValueError(f"S = {S}: the grid of local signals needs at least one row")
        self.input_spec = InputSpec(frames=300, size=128, video="raw", target="standardised")
        self.S = S
        half = width // 2
        self.start = conv_block(nn.Conv3d(3, half, (1, 5, 5), padding=(0, 2, 2)), half, nn.ELU())
        self.stage1 = _stage(half, width)
        self.stage2 = _stage(width, width)
        self.stage3 = _stage(width, width)
        self.stage4 = _stage(width, width)
        self.decoder1 = _decoder(width)
        self.decoder2 = _decoder(width)
        self.head = nn.Conv3d(width, 1, 1)

    def forward(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W), 0..255 -> (B, T) float32: the mean of the local signals."""
        return self.st_block(video)[:, -1]

    def st_block(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W), 0..255 -> (B, S * S + 1, T) float32: local signals row by row, then their mean.

        T at least 4, H and W at least 16. An odd length loses its last frame where time is halved; the
        decoder repeats its last frame there.
        """
        _check(video)
        x = mean_pool(self.start(standardised_clip(video)), time=1, space=2)
        x = self.stage1(x)
        full = x.shape[2]
        x = self.stage2(mean_pool(x, time=2, space=2))
        half = x.shape[2]
        x = self.stage3(mean_pool(x, time=2, space=2))
        x = self.stage4(mean_pool(x, time=1, space=2))
        x = _lengthen(self.decoder1(_twice(x)), half)
        x = _lengthen(self.decoder2(_twice(x)), full)
        # Full precision from here on, also under autocast: bf16 would round a waveform to 8 bits.
        with torch.autocast(x.device.type, enabled=False):
            local = self.head(self._grid(x.float())).flatten(3).squeeze(1).transpose(1, 2)
            return torch.cat([local, local.mean(1, keepdim=True)], dim=1)

    def _grid(self, maps: Tensor) -> Tensor:
        """Adaptive average over space: (B, C, T, H, W) -> (B, C, T, S, S), of deterministic steps only."""
        rows, columns = (_windows(size, self.S) for size in maps.shape[3:])
        means = [maps[..., row, column].mean((3, 4)) for row in rows for column in columns]
        return torch.stack(means, dim=-1).unflatten(-1, (self.S, self.S))

    @classmethod
    def rename(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' released state dict in the names of this class; others are returned as they are."""
        if not any(key.startswith(("loop", "encoder")) for key in state):
            return dict(state)
        return {_renamed(key): value for key, value in state.items()}


def _renamed(key: str) -> str:
    """One released name: "loop1.4.weight" -> "stage1.b.conv.weight"; unknown names stay as they are."""
    block, _, rest = key.partition(".")
    number, _, leaf = rest.partition(".")
    if block not in RELEASED or not number.isdigit():
        return key
    name = RELEASED[block]
    if name == "head":
        return f"{name}.{leaf}"
    index = int(number)
    if name.startswith("stage"):
        return f"{name}.{'a' if index < 4 else 'b'}.{('conv', 'norm')[(index - 1) % 3]}.{leaf}"
    return f"{name}.{('conv', 'norm')[index]}.{leaf}"


def _check(video: Tensor) -> None:
    """ValueError unless the clip's shape is one this net can answer for."""
    if video.dim() != 5 or video.shape[1] != 3:
        raise ValueError(f"contrast_phys takes (B, 3, T, H, W), got a tensor of shape {tuple(video.shape)}")
    frames, height, width = video.shape[2:]
    if frames < 4 or min(height, width) < MIN_SIZE:
        raise ValueError(
            f"contrast_phys takes at least 4 frames of at least {MIN_SIZE} pixels, "
            f"got {frames} of {height} x {width}"
        )


def _stage(channels_in: int, width: int) -> nn.Sequential:
    """Two 3x3x3 convolutions to `width` channels, each with batch norm and ELU."""
    stage = nn.Sequential()
    stage.add_module("a", conv_block(nn.Conv3d(channels_in, width, 3, padding=1), width, nn.ELU()))
    stage.add_module("b", conv_block(nn.Conv3d(width, width, 3, padding=1), width, nn.ELU()))
    return stage


def _decoder(width: int) -> nn.Sequential:
    """Convolution over time, batch norm, ELU."""
    return conv_block(nn.Conv3d(width, width, (3, 1, 1), padding=(1, 0, 0)), width, nn.ELU())


def _twice(maps: Tensor) -> Tensor:
    """Every frame twice (nearest neighbour): (B, C, T, H, W) -> (B, C, 2T, H, W)."""
    return maps.unsqueeze(3).expand(-1, -1, -1, 2, -1, -1).flatten(2, 3)


def _lengthen(maps: Tensor, frames: int) -> Tensor:
    """The last frame repeated until there are `frames` (one more at most)."""
    missing = frames - maps.shape[2]
    return torch.cat([maps, maps[:, :, -1:].expand(-1, -1, missing, -1, -1)], dim=2) if missing else maps


def _windows(size: int, parts: int) -> list[slice]:
    """The windows of adaptive pooling: part i covers floor(i n / p) to ceil((i + 1) n / p)."""
    return [slice(i * size // parts, -(-(i + 1) * size // parts)) for i in range(parts)]
