"""After RhythmNet: heart rates from spatio-temporal maps (Niu, Shan, Han, Chen, IEEE TIP 2020)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from nets.layers.resnet import ResNet18
from nets.registry import NETS
from utils.contracts import ST_MAP, InputSpec

CENTRE_BPM = 80.0
"""What an output of 0 stands for."""
SHORTEST, CELLS = 16, 5
Count = Annotated[int, Field(ge=1)]


@NETS.register("rhythmnet")
class RhythmNet(nn.Module):
    """After RhythmNet: ResNet-18 on maps of 25 regions x 300 frames, a GRU over six of them: 17,697,514.

    No code of the authors is public: the layers follow a reproduction and the paper's text. A stretch of
    frames is read as `clips` overlapping clips, each scaled to its own range region by region. It answers
    with rates, not with a waveform.
    """

    task = "rate"
    default_method = "rhythmnet"
    reference_fps, spread_bpm = 30.0, 20.0
    """Frame rate that rates are given for (a map has no clock: the method scales by each clip's own), and
    what an output of 1 adds."""
    parameter_count = 17_697_514
    small_sizes = (5, 6)
    small_options: ClassVar[dict[str, Any]] = {"width": 8, "features": 16, "step": 2}

    no_gradient: ClassVar[dict[str, str]] = {
        "of_sequence.bias": "what all clips of a stretch share, their smoothness does not see"
    }

    def __init__(
        self, *, clips: Count = 6, step: Count = 15, width: Count = 64, features: Count = 1000
    ) -> None:
        """clips: in a stretch, `step` frames (the paper: half a second) apart; a clip has the frames left.

        width: channels of ResNet's first stage; features: of a clip and of the GRU's state.
        """
        super().__init__()
        self.clips, self.step = clips, step
        self.input_spec = InputSpec(
            frames=300 + (clips - 1) * step, size=CELLS, video=ST_MAP, target="standardised"
        )
        self.backbone = ResNet18(width)
        self.features = nn.Linear(8 * width, features)
        self.of_clip = nn.Linear(features, 1)
        self.recurrent = nn.GRU(features, features, batch_first=True)
        self.of_sequence = nn.Linear(features, 1)

    def forward(self, video: Tensor) -> Tensor:
        """Mean rate of a stretch: (B, 3, T, N, N), mean YUV of a grid -> (B,) in bpm at reference_fps."""
        of_clips, of_sequence = self.rates(video)
        return torch.cat([of_clips, of_sequence], dim=1).mean(1)

    def rates(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Rates of each clip by itself and after the GRU: (B, clips) twice, in bpm at reference_fps.

        ValueError where the frames are too few for the clips.
        """
        maps = self.maps(video)
        found = self.features(self.backbone(maps.flatten(0, 1)))
        # Full precision from here on, also under autocast: bf16 would round a rate to half a bpm.
        with torch.autocast(found.device.type, enabled=False):
            sequence = found.float().unflatten(0, maps.shape[:2])
            states, _ = self.recurrent(sequence)
            heads = self.of_clip(sequence), self.of_sequence(states)
        of_clips, of_sequence = (CENTRE_BPM + self.spread_bpm * head.squeeze(-1) for head in heads)
        return of_clips, of_sequence

    def maps(self, video: Tensor) -> Tensor:
        """Spatio-temporal maps, region by region and channel by channel from 0 to 255: (B, clips, 3, N N, L).

        A region whose colour does not change over the clip is 0.
        """
        frames = self.clip_frames(video)
        rows = video.float().flatten(3).transpose(2, 3)
        clips = rows.unfold(3, frames, self.step).permute(0, 3, 1, 2, 4)
        low = clips.amin(-1, keepdim=True)
        spread = clips.amax(-1, keepdim=True) - low
        scaled = (clips - low) / torch.where(spread > 0, spread, torch.ones_like(spread))
        return 255 * scaled

    def clip_frames(self, video: Tensor) -> int:
        """Frames of a clip of this stretch; ValueError for a shape this net cannot answer for."""
        if video.dim() != 5 or video.shape[1] != 3:
            raise ValueError(f"rhythmnet takes (B, 3, T, N, N), got a tensor of shape {tuple(video.shape)}")
        frames = video.shape[2] - (self.clips - 1) * self.step
        if frames < SHORTEST:
            least = SHORTEST + (self.clips - 1) * self.step
            raise ValueError(
                f"rhythmnet needs at least {least} frames for {self.clips} clips {self.step} frames apart, "
                f"got {video.shape[2]}; set net.input.frames, or net.options clips and step"
            )
        return frames
