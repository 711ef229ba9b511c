"""PhysNet: spatio-temporal convolutions from face video to pulse (Yu, Li, Zhao, BMVC 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from nets.foreign import KerasFile, norms_of_keras
from nets.layers.colour import standardised_clip
from nets.layers.conv import conv_block, doubled_time
from nets.layers.pool import PooledReLU
from nets.registry import NETS
from utils.contracts import InputSpec

MIN_SIZE = 16
RELEASED = {
    **{f"ConvBlock{i}": f"block{i}" for i in range(1, 10)}, "ConvBlock10": "head",
    "upsample": "up1", "upsample2": "up2",
}
LAYERS = {"0": "conv", "1": "norm"}
KERAS = {
    **{f"ConvBlock{i}/layers/{layer}": f"block{i}.{name}" for i in range(1, 10)
       for layer, name in (("conv3d", "conv"), ("batch_normalization", "norm"))},
    **{f"layers/sequential_{i}/layers/{layer}": f"{up}.{name}" for i, up in ((9, "up1"), (10, "up2"))
       for layer, name in (("conv3d_transpose", "conv"), ("batch_normalization", "norm"))},
    "convBlock10": "head",
}


@NETS.register("physnet")
class PhysNet(nn.Module):
    """PhysNet, the 3D convolutional encoder-decoder (3DCNN-ED): 768,577 parameters.

    The encoder halves time twice and space four times, the decoder restores time with two transposed
    convolutions; a mean over space and a 1x1x1 convolution give one sample a frame.
    """

    task = "pulse"
    parameter_count = 768_577
    feature_width = 64
    keras: ClassVar[KerasFile] = KerasFile("open-rppg", KERAS, {"variant": "open_rppg"})

    def __init__(
        self, *, head_pool: Literal["avg", "max"] = "avg", in_channels: int = 3,
        variant: Literal["released", "open_rppg"] = "released",
    ) -> None:
        """head_pool: how the last maps are reduced over space; "max" is that of an older public variant.

        variant: "open_rppg" for the weights of that package: raw pictures of 32 pixels, of which the net
        standardises each clip and colour itself, the pulse and not its difference, batch norms of Keras.
        """
        super().__init__()
        self.input_spec = InputSpec(
            frames=128, size=128, video="diff_normalised", target="diff_normalised", multiple_of=4
        )
        self.standardises = variant == "open_rppg"
        if self.standardises:
            self.input_spec = self.input_spec.replace(size=32, video="raw", target="standardised")
        self.head_pool, self.in_channels = head_pool, in_channels
        self.block1 = conv_block(
            nn.Conv3d(in_channels, 16, (1, 5, 5), padding=(0, 2, 2)), 16, PooledReLU(1, 2)
        )
        self.block2 = _encoder(16, 32)
        self.block3 = _encoder(32, 64, PooledReLU(2, 2))
        self.block4 = _encoder(64, 64)
        self.block5 = _encoder(64, 64, PooledReLU(2, 2))
        self.block6 = _encoder(64, 64)
        self.block7 = _encoder(64, 64, PooledReLU(1, 2))
        self.block8 = _encoder(64, 64)
        self.block9 = _encoder(64, 64)
        self.up1 = doubled_time(64)
        self.up2 = doubled_time(64)
        self.head = nn.Conv3d(64, 1, 1)
        if variant == "open_rppg":
            norms_of_keras(self)

    def forward(self, video: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, T) float32; T a multiple of 4, H and W at least 16.

        ValueError for other shapes: the decoder would give back fewer samples than frames.
        """
        return self.estimate(self.features(video))

    def features(self, video: Tensor) -> Tensor:
        """What the head reads, 64 values a frame: (B, C, T, H, W) -> (B, T, 64) float32."""
        _check(video, self.in_channels)
        video = standardised_clip(video) if self.standardises else video
        x = self.block3(self.block2(self.block1(video)))
        x = self.block7(self.block6(self.block5(self.block4(x))))
        x = self.up2(self.up1(self.block9(self.block8(x))))
        # Full precision from here on, also under autocast: bf16 would round a waveform to 8 bits.
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            over_space = x.mean((3, 4), keepdim=True) if self.head_pool == "avg" else x.amax((3, 4), True)
        return over_space.flatten(2).transpose(1, 2)

    def estimate(self, features: Tensor) -> Tensor:
        """The head: (B, T, 64) -> (B, T) float32."""
        with torch.autocast(features.device.type, enabled=False):
            waveform: Tensor = self.head(features.transpose(1, 2)[..., None, None]).flatten(1)
        return waveform

    def halves(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Parameters of what makes the features, and of the head."""
        head = list(self.head.parameters())
        return [p for p in self.parameters() if all(p is not mine for mine in head)], head

    @classmethod
    def rename(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' state dict, also rPPG-Toolbox's, in the names of this class; others as they are."""
        return {_renamed(key): value for key, value in state.items()}


def _renamed(key: str) -> str:
    """One released name: "ConvBlock2.1.bias" -> "block2.norm.bias"; unknown names stay as they are."""
    block, _, rest = key.partition(".")
    number, _, leaf = rest.partition(".")
    name = RELEASED.get(block)
    if name == "head":
        return f"{name}.{rest}"
    return key if name is None or number not in LAYERS else f"{name}.{LAYERS[number]}.{leaf}"


def _check(video: Tensor, channels: int) -> None:
    """ValueError unless the clip's shape is one this net can answer for."""
    if video.dim() != 5 or video.shape[1] != channels:
        raise ValueError(
            f"physnet takes (B, C, T, H, W), here with C = {channels}, got a tensor of shape "
            f"{tuple(video.shape)}"
        )
    frames, height, width = video.shape[2:]
    if frames < 4 or frames % 4:
        raise ValueError(f"physnet takes clips of a multiple of 4 frames, got {frames}; set net.input.frames")
    if min(height, width) < MIN_SIZE:
        raise ValueError(f"physnet takes pictures of at least {MIN_SIZE} pixels, got {height} x {width}")


def _encoder(channels_in: int, channels_out: int, act: nn.Module | None = None) -> nn.Sequential:
    """3x3x3 convolution that keeps the size, batch norm, and ReLU or `act`."""
    conv = nn.Conv3d(channels_in, channels_out, 3, padding=1)
    return conv_block(conv, channels_out, act or nn.ReLU(inplace=True))
