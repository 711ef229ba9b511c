"""The two branches of DeepPhys and TS-CAN: motion, weighted by masks that appearance makes."""

from __future__ import annotations

import torch
from torch import Tensor

from nets.layers.attention import MotionNet, pair_of_convolutions, soft_mask


class TwoBranchNet(MotionNet):
    """Normalised differences pass the motion branch, standardised frames the appearance branch.

    Both are alike with weights of their own; after each pair of convolutions the appearance gives a mask
    over the places of the motion's maps (Chen & McDuff, ECCV 2018, fig. 2).
    """

    def __init__(self, size: int, frame_depth: int | None) -> None:
        """As of MotionNet."""
        super().__init__(size, "diff_standardised", frame_depth)
        self.appearance_conv1, self.appearance_conv2 = pair_of_convolutions(3, 32)
        self.appearance_conv3, self.appearance_conv4 = pair_of_convolutions(32, 64)

    def features(self, frames: Tensor, clips: int) -> Tensor:
        """(B * T, 6, S, S), the difference first -> (B * T, 64, S', S')."""
        motion, look = frames[:, :3], frames[:, 3:]
        motion = self.motion(motion, self.motion_conv1, self.motion_conv2)
        look = torch.tanh(self.appearance_conv2(torch.tanh(self.appearance_conv1(look))))
        motion = self.pooled(motion * soft_mask(self.appearance_att_conv1(look)))
        look = self.pooled(look)
        motion = self.motion(motion, self.motion_conv3, self.motion_conv4)
        look = torch.tanh(self.appearance_conv4(torch.tanh(self.appearance_conv3(look))))
        return self.pooled(motion * soft_mask(self.appearance_att_conv2(look)))
