"""Meta-rPPG: extractor, recurrent estimator and synthetic gradients (Lee, Chen, Lee, ECCV 2020)."""

from __future__ import annotations

import itertools
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from losses.ordinal import LEVELS
from nets.layers.ordinal import expected_level, level_probabilities
from nets.layers.synthetic_gradient import SyntheticGradient
from nets.registry import NETS
from utils.contracts import InputSpec

CHANNELS = (3, 32, 48, 64, 80, 120)
FEATURES, HIDDEN, LAYERS = 120, 60, 2
MIN_SIZE = 2 ** (len(CHANNELS) - 1)
_SYNTHETIC = "it tells gradients to method meta_rppg and has no part in the answer"


@NETS.register("meta_rppg")
class MetaRPPG(nn.Module):
    """Meta-rPPG: convolutions frame by frame, a recurrent estimator of 40 levels: 379,808 parameters.

    Windows of 60 frames (2 s at 30 frames a second) are answered each by itself, from an estimator at rest;
    method meta_rppg prepares the windows, carries the estimator's state on and adapts the extractor.
    """

    task = "levels"
    default_method = "meta_rppg"
    parameter_count = 379_808
    small_sizes = (32, 48)
    small_options: ClassVar[dict[str, int]] = {"window": 32}
    feature_width = FEATURES

    def __init__(self, *, window: Annotated[int, Field(ge=16)] = 60) -> None:
        """window: frames; the generator of synthetic gradients is made for this many."""
        super().__init__()
        self.window = window
        self.input_spec = InputSpec(
            frames=window, size=64, video="raw", target="standardised", multiple_of=window
        )
        self.extractor, self.estimator = Extractor(), Estimator()
        self.generator = SyntheticGradient(window)
        self.no_gradient = {f"generator.{key}": _SYNTHETIC for key, _ in self.generator.named_parameters()}
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv1d | nn.ConvTranspose1d | nn.Linear):
                nn.init.normal_(module.weight, 0.0, 0.02)

    def forward(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, T) float32, the expected level; T a multiple of the window.

        ValueError for other lengths and for pictures below 32 pixels.
        """
        frames = video.shape[2]
        if frames % self.window:
            raise ValueError(
                f"meta_rppg takes clips of a multiple of {self.window} frames, got {frames}; "
                "set net.input.frames"
            )
        recurrent, _ = self.estimator.recurrent(self.extractor(video).reshape(-1, self.window, FEATURES))
        return expected_level(self.estimator.probabilities(recurrent)).view(-1, frames)

    def halves(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Parameters of what makes the features, and of what makes the answer from them."""
        return list(self.extractor.parameters()), list(self.estimator.parameters())


class Extractor(nn.Module):
    """Five stages of convolution, batch norm, mean of 2 x 2 and ReLU: 175,848 parameters."""

    def __init__(self) -> None:
        """The same in every frame; the pooling stands before the ReLU."""
        super().__init__()
        pairs = list(itertools.pairwise(CHANNELS))
        self.convs = nn.ModuleList(nn.Conv2d(before, after, 3, padding=1) for before, after in pairs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(after) for _, after in pairs)

    def forward(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, T, 120) float32; H and W at least 32 (ValueError)."""
        if video.dim() != 5 or min(video.shape[3:]) < MIN_SIZE:
            raise ValueError(
                f"meta_rppg takes (B, 3, T, H, W) of at least {MIN_SIZE} pixels, got {tuple(video.shape)}; "
                "set net.input.size"
            )
        x = video.transpose(1, 2).flatten(0, 1)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.avg_pool2d(norm(conv(x)), 2).relu_()
        # Full precision from here on, also under autocast: the pulse is a small part of the features.
        with torch.autocast(x.device.type, enabled=False):
            return x.float().mean((2, 3)).unflatten(0, (video.shape[0], -1))


class Estimator(nn.Module):
    """A bidirectional LSTM of two layers and pairs of outputs for 40 levels: 184,400 parameters."""

    def __init__(self) -> None:
        """60 units in each direction."""
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, LAYERS, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * HIDDEN, 2 * LEVELS)

    def train(self, mode: bool = True) -> Estimator:
        """The recurrent layers, which have no dropout, stay in training mode: cuDNN goes back in no other."""
        super().train(mode)
        self.lstm.train()
        return self

    def recurrent(self, features: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, T, 120) and the state (2, 4, B, 60) before, None at rest -> (B, T, 120), the state after.

        A state holds h and c of both layers and directions.
        """
        with torch.autocast(features.device.type, enabled=False):
            before = None if state is None else (state[0].contiguous(), state[1].contiguous())
            out, (h, c) = self.lstm(features.float(), before)
        return out, torch.stack([h, c])

    def probabilities(self, recurrent: Tensor) -> Tensor:
        """(B, T, 120) -> (B, T, 40), that each level is reached."""
        with torch.autocast(recurrent.device.type, enabled=False):
            return level_probabilities(self.head(recurrent.float()))
