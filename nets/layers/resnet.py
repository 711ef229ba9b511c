"""ResNet-18 up to its global pooling (He et al., CVPR 2016)."""

from __future__ import annotations

from torch import Tensor, nn

from nets.layers.pool import halving_max_pool

STAGES = (1, 2, 4, 8)
"""Channels of the four stages, in multiples of the width."""


class ResNet18(nn.Module):
    """Pictures to features: (B, 3, H, W) -> (B, 8 width); 11,176,512 parameters at width 64."""

    def __init__(self, width: int = 64) -> None:
        """width: channels of the first stage."""
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.stages, channels = nn.Sequential(), width
        for factor in STAGES:
            stride = 1 if factor == 1 else 2
            self.stages.append(BasicBlock(channels, factor * width, stride))
            self.stages.append(BasicBlock(factor * width, factor * width, 1))
            channels = factor * width
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C)."""
        pooled = halving_max_pool(self.first(pictures).unsqueeze(2), halve_time=False).squeeze(2)
        features: Tensor = self.stages(pooled).mean((2, 3))
        return features


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, and what came in added before the last ReLU."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        """stride: of the first convolution; where shapes differ, what came in passes a 1x1 convolution."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.act = nn.ReLU()
        self.shortcut = nn.Identity() if stride == 1 and channels_in == channels_out else nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 1, stride=stride, bias=False), nn.BatchNorm2d(channels_out)
        )

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        inner = self.norm2(self.conv2(self.act(self.norm1(self.conv1(maps)))))
        added: Tensor = self.act(inner + self.shortcut(maps))
        return added
