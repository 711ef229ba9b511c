"""A net that tells the gradient of a loss from the features alone (Lee, Chen, Lee, Meta-rPPG, ECCV 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

INNER, NARROW = 40, 20


class SyntheticGradient(nn.Module):
    """Convolutions along the features, the frames being the channels: 19,560 parameters for 60 frames."""

    def __init__(self, frames: int) -> None:
        """frames: of a window; any number of features."""
        super().__init__()
        self.down1, self.norm1 = nn.Conv1d(frames, INNER, 3, padding=1), nn.BatchNorm1d(INNER)
        self.down2, self.norm2 = nn.Conv1d(INNER, NARROW, 3, padding=1), nn.BatchNorm1d(NARROW)
        self.up1, self.norm3 = nn.ConvTranspose1d(NARROW, INNER, 3, padding=1), nn.BatchNorm1d(INNER)
        self.up2 = nn.ConvTranspose1d(INNER, frames, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, T, F) -> (B, T, F) float32, T the number of frames it was made for."""
        with torch.autocast(features.device.type, enabled=False):
            first = F.relu(self.norm1(self.down1(features.float())))
            second = F.relu(self.norm2(self.down2(first)))
            third = F.relu(self.norm3(self.up1(second))) + first
            made: Tensor = self.up2(third)
        return made
