"""PhysFormer: a video transformer with temporal difference attention (Yu et al., CVPR 2022)."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from nets.foreign import KerasFile, norms_of_keras
from nets.layers import recompute
from nets.layers.colour import standardised_clip
from nets.layers.conv import conv_block
from nets.layers.pool import PooledReLU
from nets.layers.tdc import TDC
from nets.registry import NETS
from utils.contracts import InputSpec

PATCH, MIN_SIZE = 4, 32
OUTSIDE = {
    **{f"Stem{i}.{layer}": f"stem.{i}.{name}" for i in range(3)
       for layer, name in enumerate(("conv", "norm"))},
    "patch_embedding": "tokens", "upsample.1": "up1.conv", "upsample.2": "up1.norm",
    "upsample2.1": "up2.conv", "upsample2.2": "up2.norm", "ConvBlockLast": "head",
}
IN_A_BLOCK = {
    "norm1": "norm1", "norm2": "norm2", "proj": "projection",
    "attn.proj_q.0.conv": "attention.query.conv", "attn.proj_q.1": "attention.query.norm",
    "attn.proj_k.0.conv": "attention.key.conv", "attn.proj_k.1": "attention.key.norm",
    "attn.proj_v.0": "attention.value",
    **{f"pwff.{part}.{layer}": f"feedforward.{i}.{name}" for i, part in enumerate(("fc1", "STConv", "fc2"))
       for layer, name in enumerate(("conv", "norm"))},
}
"""Names of the released weights, of layers and of those in a block, and what they are called here."""
KERAS_PAIRS = (("conv3d", "conv"), ("batch_normalization", "norm"))
KERAS_OUTSIDE = {
    "layers/conv3d": "tokens", "ConvBlockLast": "head",
    **{f"layers/sequential{number}/layers/{layer}": f"{ours}.{name}"
       for number, ours in (("", "stem.0"), ("_1", "stem.1"), ("_2", "stem.2"), ("_3", "up1"), ("_4", "up2"))
       for layer, name in KERAS_PAIRS},
}
KERAS_IN_A_BLOCK = {
    "norm1": "norm1", "norm2": "norm2", "proj": "projection", "attn/proj_v/layers/conv3d": "attention.value",
    **{f"attn/proj_{letter}/layers/{layer}": f"attention.{word}.{name}"
       for letter, word in (("q", "query"), ("k", "key"))
       for layer, name in (("cdc", "conv"), ("batch_normalization", "norm"))},
    **{f"pwff/{part}/layers/{layer}": f"feedforward.{i}.{name}"
       for i, part in enumerate(("fc1", "STConv", "fc2")) for layer, name in KERAS_PAIRS},
}
KERAS = KERAS_OUTSIDE | {
    f"layers/transformer_st_tdc_gra_sharp{group}/blocks/block_st_tdc_gra_sharp{place}/{layer}":
    f"blocks.{4 * i + j}.{name}" for i, group in enumerate(("", "_1", "_2"))
    for j, place in enumerate(("", "_1", "_2", "_3")) for layer, name in KERAS_IN_A_BLOCK.items()
}
"""The same of the Keras files of open-rppg."""
Share = Annotated[float, Field(ge=0, lt=1)]
Width = Annotated[int, Field(ge=4, multiple_of=4)]


@NETS.register("physformer")
class PhysFormer(nn.Module):
    """PhysFormer: tokens of 4 frames and 32 x 32 pixels, twelve blocks: 7,380,865 parameters.

    There is neither a class token nor a position embedding: queries and keys are temporal difference
    convolutions of the tokens in their places, and the feed-forward part holds a 3x3x3 convolution. The
    paper's grid of 4 x 4 tokens is that of 128 pixels; other sizes give other grids with the same weights.
    """

    task = "pulse"
    default_method = "physformer"
    parameter_count = 7_380_865
    keras: ClassVar[KerasFile] = KerasFile("open-rppg", KERAS, {"variant": "open_rppg"})
    small_sizes = (32, 64)
    small_options: ClassVar[dict[str, Any]] = {"width": 24, "blocks": 2, "feedforward": 32}
    no_gradient: ClassVar[dict[str, str]] = {
        f"blocks.{number}.attention.key.norm.bias": "adds the same to all scores of a token, which softmax "
        "takes off again" for number in range(12)
    }

    def __init__(
        self, *, width: Width = 96, blocks: Annotated[int, Field(ge=1)] = 12,
        heads: Annotated[int, Field(ge=1)] = 4, feedforward: Annotated[int, Field(ge=1)] = 144,
        theta: Annotated[float, Field(ge=0, le=1)] = 0.7,
        sharpness: Annotated[float, Field(gt=0)] = 2.0, dropout: Share = 0.1, checkpointing: bool = False,
        variant: Literal["released", "open_rppg"] = "released",
    ) -> None:
        """width: channels of a token; feedforward: inside the feed-forward part of the `blocks` blocks.

        theta: of the temporal difference convolutions. sharpness: what scores are divided by (the paper
        calls it temperature), in place of the root of a head's width. checkpointing: keep only the input of
        each block for the backward pass, and compute it again. variant: "open_rppg" for the weights of that
        package: raw pictures, of which the net standardises each clip and colour itself, norms of Keras.
        """
        super().__init__()
        if width % heads:
            raise ValueError(f"width = {width} cannot be divided among {heads} heads")
        self.input_spec = InputSpec(
            frames=160, size=128, video="centred", target="standardised", multiple_of=PATCH
        )
        self.checkpointing, self.standardises = checkpointing, variant == "open_rppg"
        if self.standardises:
            self.input_spec = self.input_spec.replace(video="raw")
        first = nn.Conv3d(3, width // 4, (1, 5, 5), padding=(0, 2, 2))
        self.stem = nn.Sequential(
            conv_block(first, width // 4, PooledReLU(1, 2)),
            conv_block(nn.Conv3d(width // 4, width // 2, 3, padding=1), width // 2, PooledReLU(1, 2)),
            conv_block(nn.Conv3d(width // 2, width, 3, padding=1), width, PooledReLU(1, 2)),
        )
        self.tokens = nn.Conv3d(width, width, PATCH, stride=PATCH)
        self.blocks = nn.ModuleList(
            Block(width, heads, feedforward, theta, sharpness, dropout) for _ in range(blocks)
        )
        self.up1, self.up2 = _upward(width, width), _upward(width, width // 2)
        self.head = nn.Conv1d(width // 2, 1, 1)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.normal_(module.bias, std=1e-6)
        if variant == "open_rppg":
            norms_of_keras(self)

    def forward(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W), about -1..1 -> (B, T) float32; T a multiple of 4, H and W at least 32."""
        _check(video)
        video = standardised_clip(video) if self.standardises else video
        x = self.tokens(self.stem(video))
        for block in self.blocks:
            # only the block's statistics are put back: others are still needed for the stem's gradients
            x = recompute.run(block, partial(_along, block), x, self.checkpointing)
        x = self.up2(_twice(self.up1(_twice(x))))
        # Full precision from here on, also under autocast: bf16 would round a waveform to 8 bits.
        with torch.autocast(x.device.type, enabled=False):
            waveform: Tensor = self.head(x.float().mean((3, 4))).flatten(1)
        return waveform

    @classmethod
    def rename(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' state dict, also rPPG-Toolbox's, in the names of this class; others as they are."""
        return {_renamed(key): value for key, value in state.items()}


class Block(nn.Module):
    """Attention and feed-forward, each after a layer norm and added to what came in."""

    def __init__(
        self, width: int, heads: int, feedforward: int, theta: float, sharpness: float, dropout: float
    ) -> None:
        """As in PhysFormer."""
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, heads, theta, sharpness, dropout)
        self.projection = nn.Linear(width, width)
        self.feedforward = nn.Sequential(
            conv_block(nn.Conv3d(width, feedforward, 1, bias=False), feedforward, nn.ELU()),
            conv_block(nn.Conv3d(feedforward, feedforward, 3, padding=1, groups=feedforward, bias=False),
                       feedforward, nn.ELU()),
            nn.Sequential(OrderedDict(
                conv=nn.Conv3d(feedforward, width, 1, bias=False), norm=nn.BatchNorm3d(width)
            )),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, grid: torch.Size) -> Tensor:
        """tokens: (B, N, C) with N the product of the grid (T', H', W') -> the same shape."""
        mixed = self.attention(_in_places(self.norm1(tokens), grid))
        tokens = tokens + self.dropout(self.projection(mixed))
        made = self.feedforward(_in_places(self.norm2(tokens), grid))
        return tokens + self.dropout(_in_line(made))


class Attention(nn.Module):
    """Self-attention whose queries and keys are temporal difference convolutions (PhysFormer, eq. 2, 3)."""

    def __init__(self, width: int, heads: int, theta: float, sharpness: float, dropout: float) -> None:
        """As in PhysFormer."""
        super().__init__()
        self.heads, self.sharpness = heads, sharpness
        self.query, self.key = (
            nn.Sequential(OrderedDict(conv=TDC(width, width, theta), norm=nn.BatchNorm3d(width)))
            for _ in range(2)
        )
        self.value = nn.Conv3d(width, width, 1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, T', H', W') -> (B, N, C), N = T' H' W'."""
        query, key, value = (
            _in_line(made(maps)).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for made in (self.query, self.key, self.value)
        )
        scores = torch.matmul(query, key.transpose(2, 3)) / self.sharpness
        mixed = torch.matmul(self.dropout(scores.softmax(-1)), value)
        return mixed.transpose(1, 2).flatten(2)


def _renamed(key: str) -> str:
    """One released name: "transformer2.blocks.1.proj.bias" -> "blocks.5.projection.bias"; others stay."""
    block = re.fullmatch(r"transformer([123])\.blocks\.([0-3])\.(.+)", key)
    layer, _, leaf = (block[3] if block else key).rpartition(".")
    names, place = OUTSIDE, ""
    if block:
        names, place = IN_A_BLOCK, f"blocks.{4 * int(block[1]) - 4 + int(block[2])}."
    return f"{place}{names[layer]}.{leaf}" if layer in names else key


def _check(video: Tensor) -> None:
    """ValueError unless the clip's shape is one this net can answer for."""
    if video.dim() != 5 or video.shape[1] != 3:
        raise ValueError(f"physformer takes (B, 3, T, H, W), got a tensor of shape {tuple(video.shape)}")
    frames, height, width = video.shape[2:]
    if frames < PATCH or frames % PATCH:
        raise ValueError(
            f"physformer takes clips of a multiple of {PATCH} frames, got {frames}; set net.input.frames"
        )
    if min(height, width) < MIN_SIZE:
        raise ValueError(
            f"physformer takes pictures of at least {MIN_SIZE} pixels, got {height} x {width}; "
            "set net.input.size"
        )


def _along(block: nn.Module, maps: Tensor) -> Tensor:
    """A block on tokens in their places: (B, C, T', H', W') to the same shape."""
    grid = maps.shape[2:]
    return _in_places(block(_in_line(maps), grid), grid)


def _in_line(maps: Tensor) -> Tensor:
    """(B, C, T', H', W') -> tokens (B, N, C)."""
    return maps.flatten(2).transpose(1, 2)


def _in_places(tokens: Tensor, grid: torch.Size) -> Tensor:
    """Tokens (B, N, C) -> (B, C, T', H', W')."""
    return tokens.transpose(1, 2).unflatten(2, tuple(grid))


def _twice(maps: Tensor) -> Tensor:
    """Every frame twice (nearest neighbour): (B, C, T, H, W) -> (B, C, 2T, H, W)."""
    return maps.unsqueeze(3).expand(-1, -1, -1, 2, -1, -1).flatten(2, 3)


def _upward(channels_in: int, channels_out: int) -> nn.Sequential:
    """Convolution over three frames, batch norm, ELU."""
    conv = nn.Conv3d(channels_in, channels_out, (3, 1, 1), padding=(1, 0, 0))
    return conv_block(conv, channels_out, nn.ELU())
