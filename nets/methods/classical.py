"""Answering without learning: a classical net over the colours of a skin region or of the whole crop."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nets.methods.base import Method, standardise
from nets.methods.registry import METHODS
from utils.contracts import RecordingClips
from utils.errors import UserError
from utils.registry import did_you_mean

CROP = "crop"
"""In the place of a region's name: all pixels of the crop, skin or not."""


@METHODS.register("classical")
class Classical(Method):
    """GREEN, CHROM, POS and their kind: nothing is trained."""

    trainable = False
    tasks = ("classical",)

    def __init__(self, net: nn.Module, *, region: str = "face") -> None:
        """region: the skin region of the stored mean colours that is used, or "crop".

        With "crop" it is the mean of the whole crop, as rPPG-Toolbox takes it: hair, background and all, and
        whether a face was seen or not. It is not stored, so the frames are read; else none is.
        """
        super().__init__(net)
        self.region = region

    def predict(self, clips: RecordingClips, batch_size: int = 8) -> Tensor:
        """The pulse waveform of one recording, float32 (T,), standardised; it rises when skin darkens.

        Released forms have their own signs, and one loses less than .8 s at the end: there it is 0, which
        moves a spectrum least, so that scores are those of what is left. All NaN where the method says
        nothing (no visible face). UserError when the store has no colours of the region.
        """
        with torch.no_grad():
            waveform = standardise(self.net(self._colours(clips)[None], clips.fps)[0].cpu())
        return torch.cat([waveform, waveform.new_zeros(clips.n_frames - len(waveform))]).float()

    def _colours(self, clips: RecordingClips) -> Tensor:
        """Mean RGB of the region over time: (T, 3)."""
        if self.region == CROP:
            return clips.crop_rgb
        if clips.roi_rgb is None:
            raise UserError(f"{clips.recording}: no mean colours in the store; run preprocess again")
        known = list(clips.region_names)
        if self.region not in known:
            hint = did_you_mean(self.region, [*known, CROP])
            names = ", ".join([*known, CROP])
            raise UserError(f"{clips.recording}: no region {self.region!r}{hint}  known: {names}")
        return clips.roi_rgb[:, known.index(self.region)]
