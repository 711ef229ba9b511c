"""rPPGNet: a skin map and six pulse signals from one clip (Yu, Peng, Li, Hong, Zhao, ICCV 2019)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from nets.layers import recompute
from nets.layers.conv import conv_block
from nets.layers.pool import mean_pool
from nets.layers.st_conv import STConv
from nets.registry import NETS
from utils.contracts import InputSpec

MULTIPLE = 16
_ELSEWHERE = "it serves the loss of method rppgnet, not the global signal"
_DEAD = "the released code never uses it; kept so that its weights fit"


class Signals(NamedTuple):
    """What rPPGNet says of B clips of T frames and H x W pixels, float32.

    skin_logit: (B, T, H/2, W/2), the skin map before its sigmoid; mid, whole: (B, T); parts:
    (B, 4, T), upper left, lower left, upper right, lower right; shallow: (B, 32, T, H/2, W/2) and
    deep: (B, 64, T, H/4, W/4), the features that the perceptual loss compares.
    """

    skin_logit: Tensor
    mid: Tensor
    whole: Tensor
    parts: Tensor
    shallow: Tensor
    deep: Tensor

    @property
    def skin(self) -> Tensor:
        """(B, T, H/2, W/2) the skin map, 0 to 1."""
        return self.skin_logit.sigmoid()


@NETS.register("rppgnet")
class RPPGNet(nn.Module):
    """rPPGNet with its skin branch, attention and regional heads: 550,331 parameters.

    The forward pass gives the global signal; `signals` gives everything. Space is halved three times,
    time never.
    """

    task = "pulse"
    default_method = "rppgnet"
    parameter_count = 550_331
    small_sizes = (16, 32)

    def __init__(
        self, *, build: Literal["fixed", "compat"] = "fixed", stem_channels: Literal[16, 32] = 16,
        checkpointing: bool = False,
    ) -> None:
        """build: "compat" has the released code's slips: the first part is read by the global head, and
        two layers are never used (550,779 parameters). stem_channels: 32 as in the paper's table.
        checkpointing: keep only the input of each stage for the backward pass, and compute it again.
        """
        super().__init__()
        self.input_spec = InputSpec(frames=64, size=128, video="centred", target="standardised")
        self.build, self.checkpointing = build, checkpointing
        stem = nn.Conv3d(3, stem_channels, (1, 5, 5), padding=(0, 2, 2))
        self.stem = conv_block(stem, stem_channels, nn.ReLU(inplace=True))
        self.shallow = nn.Sequential(_stage(stem_channels, 32), _stage(32, 32))
        self.middle = nn.Sequential(_stage(32, 64), _stage(64, 64))
        self.deep = nn.Sequential(_stage(64, 64), _stage(64, 64), _stage(64, 64))
        self.skin = SkinBranch()
        self.head_mid, self.head_whole = nn.Conv1d(64, 1, 1), nn.Conv1d(64, 1, 1)
        self.head_parts = nn.ModuleList(nn.Conv1d(64, 1, 1) for _ in range(4))
        self.no_gradient = {
            f"{name}.{kind}": _ELSEWHERE for kind in ("weight", "bias")
            for name in ("head_mid", *(f"head_parts.{i}" for i in range(4)))
        }
        if build == "compat":
            self.unused = nn.Conv3d(3, 16, (1, 3, 3), padding=(0, 1, 1))
            self.no_gradient |= {"unused.weight": _DEAD, "unused.bias": _DEAD}

    def forward(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W), about -1..1 -> (B, T) float32; H and W multiples of 16 (ValueError)."""
        return self.signals(video).whole

    def signals(self, video: Tensor) -> Signals:
        """Everything the net says of (B, 3, T, H, W); see `Signals`."""
        _check(video)
        again = self.checkpointing
        start = recompute.run(self, lambda x: mean_pool(self.stem(x), 1, 2), video, again)
        shallow = recompute.run(self, self.shallow, start, again)
        deep = recompute.run(self, lambda x: self.middle(mean_pool(x, 1, 2)), shallow, again)
        last = recompute.run(self, lambda x: self.deep(mean_pool(x, 1, 2)), deep, again)
        logit = recompute.run(self, self.skin, shallow, again)
        # Full precision from here on, also under autocast: the attended features are of the order 1e-3.
        with torch.autocast(video.device.type, enabled=False):
            logit = logit.float()
            skin = mean_pool(logit.sigmoid(), 1, 2)
            mid = attend(deep.float(), skin)
            whole = attend(last.float(), mean_pool(skin, 1, 2))
            return Signals(
                logit.squeeze(1), self.head_mid(mid.mean((3, 4))).squeeze(1),
                self.head_whole(whole.mean((3, 4))).squeeze(1), self._parts(whole), shallow.float(),
                deep.float(),
            )

    def _parts(self, attended: Tensor) -> Tensor:
        """(B, 64, T, h, w) -> (B, 4, T): upper left, lower left, upper right, lower right quarter."""
        h, w = attended.shape[3] // 2, attended.shape[4] // 2
        rows, columns = (slice(h), slice(h, None)), (slice(w), slice(w, None))
        first = self.head_whole if self.build == "compat" else self.head_parts[0]
        heads = [first, *self.head_parts[1:]]
        quarters = [attended[..., row, column].mean((3, 4)) for column in columns for row in rows]
        return torch.cat([head(quarter) for head, quarter in zip(heads, quarters, strict=True)], dim=1)



class SkinBranch(nn.Module):
    """A skin map from the first features: (B, 32, T, h, w) -> (B, 1, T, h, w) before the sigmoid."""

    def __init__(self) -> None:
        """Two convolutions beside a residual one, and one that joins them."""
        super().__init__()
        self.main = nn.Sequential(_flat(32, 16), _flat(16, 8))
        self.residual = conv_block(nn.Conv3d(32, 8, 1), 8, nn.ReLU(inplace=True))
        self.out = nn.Conv3d(8, 1, (1, 3, 3), padding=(0, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        """(B, 32, T, h, w) -> (B, 1, T, h, w)."""
        logit: Tensor = self.out(self.main(features) + self.residual(features))
        return logit


def attend(features: Tensor, skin: Tensor) -> Tensor:
    """Skin attention without parameters: (B, C, T, h, w), (B, 1, T, h, w) -> (B, C, T, h, w).

    Weights of each frame are the softmax over its positions of sigmoid(mean over channels) +
    sigmoid(maximum over channels) + skin. They sum to 1, so the result is of the order 1/(h w).
    """
    score = features.mean(1, keepdim=True).sigmoid() + features.amax(1, keepdim=True).sigmoid() + skin
    return features * score.flatten(3).softmax(-1).view_as(score)


def _stage(channels_in: int, channels_out: int) -> nn.Sequential:
    return conv_block(STConv(channels_in, channels_out), channels_out, nn.ReLU(inplace=True))


def _flat(channels_in: int, channels_out: int) -> nn.Sequential:
    conv = nn.Conv3d(channels_in, channels_out, (1, 3, 3), padding=(0, 1, 1))
    return conv_block(conv, channels_out, nn.ReLU(inplace=True))


def _check(video: Tensor) -> None:
    """ValueError unless the clip's shape is one this net can answer for."""
    if video.dim() != 5 or video.shape[1] != 3:
        raise ValueError(f"rppgnet takes (B, 3, T, H, W), got a tensor of shape {tuple(video.shape)}")
    height, width = video.shape[3:]
    if height % MULTIPLE or width % MULTIPLE or not height or not width:
        raise ValueError(
            f"rppgnet takes pictures of a multiple of {MULTIPLE} pixels, got {height} x {width}; "
            "set net.input.size"
        )
