"""Contrast-Phys and Contrast-Phys+: learning from contrast (Sun & Li, ECCV 2022, TPAMI 2024)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from losses.contrast import (
    band_grid,
    label_distances,
    negative_distance,
    positive_distance,
    sample_windows,
    spectra,
)
from nets.methods.base import Method, upright
from nets.methods.registry import METHODS
from utils.contracts import ClipBatch, InputSpec, RecordingClips

Share = Annotated[float, Field(ge=0, le=1)]


@METHODS.register("contrast_phys")
class ContrastPhysMethod(Method):
    """Spectra of one video's local signals agree, those of different videos do not; labels where given.

    For nets with `st_block`: clips -> local signals and, last, their mean. With label_share above 0 this is
    Contrast-Phys+. The loss tells neither up from down nor when a beat is: waveforms are turned so that
    they go with minus the skin's green, and may be some tenths of a second early or late.
    """

    needs = ("st_block",)
    label_share = 0.0
    passes_unlabelled = True
    drawn_loss = True
    net_calls = 0

    def __init__(
        self, net: nn.Module, *, label_share: Share = 0.0, windows: Annotated[int, Field(ge=2)] = 4,
        window_share: Annotated[float, Field(gt=0, le=1)] = 0.5,
    ) -> None:
        """label_share: of the labels that is read, recordings drawn with the run's seed.

        windows: random ones of each local signal; window_share: their length as a part of the clip's.
        """
        super().__init__(net)
        self.label_share, self.windows, self.window_share = float(label_share), windows, window_share
        self.published_as = "contrast_phys_plus" if label_share else "contrast_phys"

    @property
    def input_spec(self) -> InputSpec:
        """The net's, with no recording twice in a batch."""
        spec: InputSpec = self.net.input_spec  # type: ignore[assignment]
        return spec.replace(plan="distinct")

    def loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        """positive - negative, and with labels + label_positive - label_negative.

        Distances of spectra within 40 to 250 bpm, means over pairs of windows: of one clip, of two clips, of
        a prediction and its own label, of a prediction and another clip's label. All pairs of a batch count.
        """
        length = round(self.window_share * batch.video.shape[2])
        grid_hz = band_grid(length, batch.fps)
        psd = self._spectra(self.net.st_block(batch.video), batch, grid_hz)  # type: ignore[operator]
        terms = {"positive": positive_distance(psd), "negative": negative_distance(psd)}
        loss = terms["positive"] - terms["negative"]
        if self.label_share:
            pulse = torch.where(batch.has_label[:, None], batch.pulse, torch.zeros_like(batch.pulse))
            labels = self._spectra(pulse[:, None], batch, grid_hz)
            own, others = label_distances(psd, labels, batch.has_label)
            terms |= {"label_positive": own, "label_negative": others}
            loss = loss + own - others
        return {"loss": loss, **terms}

    def _spectra(self, signals: Tensor, batch: ClipBatch, grid_hz: Tensor) -> Tensor:
        """Normalised spectra of random windows: (B, N, T) -> (B, N * windows, F)."""
        length = round(self.window_share * signals.shape[-1])
        return spectra(sample_windows(signals, length, self.windows), batch.fps, grid_hz)

    def predict(self, clips: RecordingClips, batch_size: int = 8) -> Tensor:
        """As every method's; see `upright`."""
        return upright(super().predict(clips, batch_size), clips)
