"""Answering without learning: a classical net over the colours of a skin region."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nets.methods.base import Method, standardise
from nets.methods.registry import METHODS
from utils.contracts import RecordingClips
from utils.errors import UserError
from utils.registry import did_you_mean


@METHODS.register("classical")
class Classical(Method):
    """GREEN, CHROM, POS and their kind: nothing is trained and no frame is read."""

    trainable = False
    tasks = ("classical",)

    def __init__(self, net: nn.Module, *, region: str = "face") -> None:
        """region: the skin region of the stored mean colours that is used."""
        super().__init__(net)
        self.region = region

    def predict(self, clips: RecordingClips, batch_size: int = 8) -> Tensor:
        """The pulse waveform of one recording, float32 (T,), standardised; it rises when skin darkens.

        NaN where the method gives no sample (all of it without a visible face; the tail of the released
        form of some). UserError when the store has no colours of the region.
        """
        if clips.roi_rgb is None:
            raise UserError(f"{clips.recording}: no mean colours in the store; run preprocess again")
        known = list(clips.region_names)
        if self.region not in known:
            hint = did_you_mean(self.region, known)
            raise UserError(f"{clips.recording}: no region {self.region!r}{hint}  known: {', '.join(known)}")
        with torch.no_grad():
            waveform = self.net(clips.roi_rgb[None, :, known.index(self.region)], clips.fps)[0].cpu()
        missing = waveform.new_full((clips.n_frames - len(waveform),), torch.nan)
        return torch.cat([standardise(waveform), missing]).float()
