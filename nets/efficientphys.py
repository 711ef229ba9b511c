"""EfficientPhys: temporal shifts and attention on plain frames (Liu, Hill, Jiang, Patel, McDuff, 2023)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from nets.foreign import KerasFile, norms_of_keras
from nets.layers.attention import FLATTENED, MotionNet, soft_mask
from nets.registry import NETS

KERAS = {
    "bn": "batch_norm", "attc1": "appearance_att_conv1", "attc2": "appearance_att_conv2",
    "dense1": "final_dense_1", "dense2": "final_dense_2",
    **{f"layers/{layer}": f"motion_conv{i}"
       for i, layer in enumerate(("conv2d", "conv2d_1", "conv2d_2", "conv2d_3"), 1)},
}
"""Layers in the Keras files of open-rppg."""


@NETS.register("efficientphys")
class EfficientPhys(MotionNet):
    """EfficientPhys, the convolutional one: 2,163,081 parameters at 72 pixels.

    467,337 at 36 pixels, 4,030,857 at 96. The net takes the difference of frames itself, and the masks come
    from the motion's own maps. It puts out the derivative of the pulse.
    """

    parameter_count = 2_163_081
    keras: ClassVar[KerasFile] = KerasFile(
        "open-rppg", KERAS, {"variant": "open_rppg", "frame_depth": 180}, flattened=FLATTENED)

    def __init__(
        self, *, size: int = 72, frame_depth: int = 10, compat: bool = False,
        variant: Literal["released", "open_rppg"] = "released",
    ) -> None:
        """size: side of the picture in pixels. frame_depth: frames that are shifted among each other; clips
        are a multiple of it. compat: in training the difference runs through the batch as one list of frames,
        from the end of a clip to the beginning of the next, as in rPPG-Toolbox; here it stays inside each
        clip and ends with a zero. In prediction it always does, so that a clip's answer is its own.

        variant: "open_rppg" for the weights of that package: pictures of 0 to 1, batch statistics for each
        place of the picture in place of each colour, a mask for each channel in place of one for all
        (2,178,561 parameters at 72 pixels), norms of Keras.
        """
        own = variant == "open_rppg"
        super().__init__(size, "unit" if own else "standardised", frame_depth, wide_masks=own)
        self.compat, self.by_place = compat, own
        self.batch_norm: nn.Module = nn.BatchNorm2d(3)
        if own:
            self.batch_norm = nn.BatchNorm1d(size * size)
            norms_of_keras(self)

    def features(self, frames: Tensor, clips: int) -> Tensor:
        """(B * T, 3, S, S), standardised -> (B * T, 64, S', S')."""
        lists = 1 if self.compat and self.training else clips
        motion = self.normalised(difference(frames, lists))
        motion = self.motion(motion, self.motion_conv1, self.motion_conv2)
        motion = self.pooled(motion * soft_mask(self.appearance_att_conv1(motion)))
        motion = self.motion(motion, self.motion_conv3, self.motion_conv4)
        return self.pooled(motion * soft_mask(self.appearance_att_conv2(motion)))

    def normalised(self, motion: Tensor) -> Tensor:
        """The batch norm, by colour or by place: (N, 3, S, S) -> the same shape."""
        by_place = motion.flatten(2).transpose(1, 2) if self.by_place else motion
        normalised: Tensor = self.batch_norm(by_place)
        return normalised.transpose(1, 2).reshape(motion.shape) if self.by_place else normalised


def difference(frames: Tensor, lists: int) -> Tensor:
    """Each frame's successor minus itself, zeros at the end of each of `lists` equal lists: (N, C, H, W)."""
    parts = frames.unflatten(0, (lists, -1))
    return torch.cat([parts.diff(dim=1), torch.zeros_like(parts[:, :1])], dim=1).flatten(0, 1)
