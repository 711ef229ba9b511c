"""What DeepPhys, TS-CAN and EfficientPhys share: temporal shift, soft masks, the motion branch, its head.

Chen & McDuff, "DeepPhys", ECCV 2018; Liu et al., "Multi-task temporal shift attention networks", NeurIPS
2020; Liu et al., "EfficientPhys", WACV 2023. All work frame by frame on (B * T, C, H, W).
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from utils.contracts import InputSpec

SHIFTED = 3
MIN_SIZE = 10
WIDTH = 128
FLATTENED = {"final_dense_1": 64}
"""The layer that reads flattened maps, and their channels."""


class MotionNet(nn.Module, abc.ABC):
    """Four convolutions over motion, two masks over their maps, two linear layers a frame.

    A subclass says in `features` what motion is and where the masks come from. The linear layers depend on
    the size of the picture, so that it is an option and not a choice of the input.
    """

    task = "pulse"
    small_options: ClassVar[dict[str, int]] = {"size": 12}

    def __init__(self, size: int, video: str, frame_depth: int | None, wide_masks: bool = False) -> None:
        """size: side of the picture in pixels; video: its form; frame_depth: frames that are shifted
        among each other, None: no shift. wide_masks: a mask for each channel, not one for all.
        """
        super().__init__()
        if size < MIN_SIZE:
            raise ValueError(f"size = {size}: these nets need pictures of at least {MIN_SIZE} pixels")
        if frame_depth is not None and frame_depth < 2:
            raise ValueError(f"frame_depth = {frame_depth}: a shift needs at least 2 frames")
        self.input_spec = InputSpec(
            frames=_frames(frame_depth or 1), size=size, only_size=size, video=video,
            target="diff_normalised", multiple_of=frame_depth or 1,
        )
        self.small_sizes, self.channels = (size,), self.input_spec.channels
        self.frame_depth = frame_depth
        self.motion_conv1, self.motion_conv2 = pair_of_convolutions(3, 32)
        self.motion_conv3, self.motion_conv4 = pair_of_convolutions(32, 64)
        self.appearance_att_conv1, self.appearance_att_conv2 = (
            nn.Conv2d(width, width if wide_masks else 1, 1) for width in (32, 64)
        )
        self.after_pool, self.after_dense = nn.Dropout(0.25), nn.Dropout(0.5)
        self.final_dense_1, self.final_dense_2 = nn.Linear(flat_width(size), WIDTH), nn.Linear(WIDTH, 1)

    def forward(self, video: Tensor) -> Tensor:
        """(B, C, T, S, S) in the form of input_spec -> (B, T) float32, the derivative of the pulse.

        ValueError for another number of channels, another size, or T no multiple of frame_depth.
        """
        return self.answer(self.maps(video), self.final_dense_1, self.final_dense_2, video.shape[0])

    def maps(self, video: Tensor) -> Tensor:
        """(B, C, T, S, S) -> (B * T, 64, S', S'), what the linear layers read."""
        self._check(video)
        return self.features(video.transpose(1, 2).flatten(0, 1), len(video))

    @abc.abstractmethod
    def features(self, frames: Tensor, clips: int) -> Tensor:
        """(B * T, C, S, S), `clips` = B -> (B * T, 64, S', S'); a subclass writes it."""

    def answer(self, maps: Tensor, first: nn.Linear, second: nn.Linear, clips: int) -> Tensor:
        """(B * T, 64, S', S') through two linear layers with tanh and dropout between -> (B, T) float32."""
        # Full precision from here on, also under autocast: bf16 would round a waveform to 8 bits.
        with torch.autocast(maps.device.type, enabled=False):
            hidden = self.after_dense(torch.tanh(first(maps.float().flatten(1))))
            waveform: Tensor = second(hidden)
        return waveform.view(clips, -1)

    def motion(self, frames: Tensor, first: nn.Conv2d, second: nn.Conv2d) -> Tensor:
        """Two convolutions with tanh, each after the shift where there is one."""
        return torch.tanh(second(self.shifted(torch.tanh(first(self.shifted(frames))))))

    def shifted(self, frames: Tensor) -> Tensor:
        """`temporal_shift` where there is one, else the frames as they are."""
        return frames if self.frame_depth is None else temporal_shift(frames, self.frame_depth)

    def pooled(self, maps: Tensor) -> Tensor:
        """Means of 2 x 2 pixels, then dropout."""
        dropped: Tensor = self.after_pool(F.avg_pool2d(maps, 2))
        return dropped

    @classmethod
    def rename(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dict of rPPG-Toolbox in the names of this class; others are returned as they are."""
        return {renamed(key): value for key, value in state.items()}

    def _check(self, video: Tensor) -> None:
        """ValueError unless the clip's shape is one this net can answer for."""
        spec, name = self.input_spec, type(self).__name__
        if video.dim() != 5 or video.shape[1] != self.channels:
            raise ValueError(f"{name} takes (B, {self.channels}, T, H, W), got a tensor of shape "
                             f"{tuple(video.shape)}; leave net.input.video out")
        frames, height, width = video.shape[2:]
        if (height, width) != (spec.size, spec.size):
            raise ValueError(f"{name} was built for {spec.size} x {spec.size} pixels, got {height} x {width}"
                             "; set net.options.size")
        if not frames or frames % spec.multiple_of:
            raise ValueError(f"{name} shifts {spec.multiple_of} frames among each other and takes clips of a "
                             f"multiple of them, got {frames}; set net.input.frames")


def temporal_shift(frames: Tensor, depth: int) -> Tensor:
    """Channels of neighbouring frames, within groups of `depth` frames: (B * T, C, H, W) -> the same shape.

    The first third of the channels (rounded down) comes from the next frame, the second third from the
    previous one, the rest stays; beyond the ends of a group there are zeros (Liu et al. 2020, after Lin et
    al., "TSM", ICCV 2019). T is a multiple of `depth`, so that no group reaches into another clip.
    """
    fold = frames.shape[1] // SHIFTED
    groups = frames.unflatten(0, (-1, depth))
    nothing = torch.zeros_like(groups[:, :1, :fold])
    following = torch.cat([groups[:, 1:, :fold], nothing], dim=1)
    previous = torch.cat([nothing, groups[:, :-1, fold : 2 * fold]], dim=1)
    return torch.cat([following, previous, groups[:, :, 2 * fold :]], dim=2).flatten(0, 1)


def soft_mask(logit: Tensor) -> Tensor:
    """Attention over the places of a frame: (N, 1 or C, H, W) -> the same shape, of mean 1/2 (DeepPhys)."""
    with torch.autocast(logit.device.type, enabled=False):
        mask = logit.float().sigmoid()
        return (mask / (2 * mask.mean((2, 3), keepdim=True))).to(logit.dtype)


def pair_of_convolutions(channels_in: int, channels: int) -> tuple[nn.Conv2d, nn.Conv2d]:
    """Two 3x3 convolutions, the first keeps the size, the second loses two pixels."""
    return nn.Conv2d(channels_in, channels, 3, padding=1), nn.Conv2d(channels, channels, 3)


def flat_width(size: int) -> int:
    """Numbers a frame of `size` pixels has left before the linear layers: 3,136 of 36, 16,384 of 72."""
    side = ((size - 2) // 2 - 2) // 2
    return 64 * side * side


def renamed(key: str) -> str:
    """A name of rPPG-Toolbox, which spells it "apperance", in ours; others stay as they are."""
    return f"appearance_{key.removeprefix('apperance_')}" if key.startswith("apperance_") else key


def _frames(multiple: int) -> int:
    """180, the clip length of the toolbox, or the next multiple above it."""
    return -(-180 // multiple) * multiple
