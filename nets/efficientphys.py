"""EfficientPhys: temporal shifts and attention on plain frames (Liu, Hill, Jiang, Patel, McDuff, 2023)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nets.layers.attention import MotionNet, soft_mask
from nets.registry import NETS


@NETS.register("efficientphys")
class EfficientPhys(MotionNet):
    """EfficientPhys, the convolutional one: 2,163,081 parameters at 72 pixels.

    467,337 at 36 pixels, 4,030,857 at 96. The net takes the difference of frames itself, and the masks come
    from the motion's own maps. It puts out the derivative of the pulse.
    """

    parameter_count = 2_163_081

    def __init__(self, *, size: int = 72, frame_depth: int = 10, compat: bool = False) -> None:
        """size: side of the picture in pixels. frame_depth: frames that are shifted among each other; clips
        are a multiple of it. compat: in training the difference runs through the batch as one list of frames,
        from the end of a clip to the beginning of the next, as in rPPG-Toolbox; here it stays inside each
        clip and ends with a zero. In prediction it always does, so that a clip's answer is its own.
        """
        super().__init__(size, "standardised", frame_depth)
        self.compat = compat
        self.batch_norm = nn.BatchNorm2d(3)

    def features(self, frames: Tensor, clips: int) -> Tensor:
        """(B * T, 3, S, S), standardised -> (B * T, 64, S', S')."""
        lists = 1 if self.compat and self.training else clips
        motion = self.batch_norm(difference(frames, lists))
        motion = self.motion(motion, self.motion_conv1, self.motion_conv2)
        motion = self.pooled(motion * soft_mask(self.appearance_att_conv1(motion)))
        motion = self.motion(motion, self.motion_conv3, self.motion_conv4)
        return self.pooled(motion * soft_mask(self.appearance_att_conv2(motion)))


def difference(frames: Tensor, lists: int) -> Tensor:
    """Each frame's successor minus itself, zeros at the end of each of `lists` equal lists: (N, C, H, W)."""
    parts = frames.unflatten(0, (lists, -1))
    return torch.cat([parts.diff(dim=1), torch.zeros_like(parts[:, :1])], dim=1).flatten(0, 1)
