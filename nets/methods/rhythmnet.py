"""Learning of heart rates from spatio-temporal maps (after Niu et al., IEEE TIP 2020)."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from nets.methods.base import Method, evaluating
from nets.methods.registry import METHODS
from utils import interrupt
from utils.contracts import ST_MAP, ClipBatch, RecordingClips
from utils.errors import UserError
from utils.runlog import warn
from utils.signal import wave_of_rates

Weight = Annotated[float, Field(ge=0)]


@METHODS.register("rhythmnet")
class RhythmNetMethod(Method):
    """Rates of clips against the reference rate, smooth over neighbouring clips; for nets that give rates."""

    tasks = ("rate",)
    needs = ("rates", "clip_frames", "step", "reference_fps", "spread_bpm")
    waveform_from_rates = True
    passes_unlabelled = True
    net_calls = 0

    def __init__(self, net: nn.Module, *, smoothness: Weight = 100.0, sequence: Weight = 0.0) -> None:
        """smoothness: weight of the mean distance of the GRU's rates from their mean over a stretch.

        sequence: weight of the GRU's error beside that of the single clips. With 0, as in the reproduction
        this follows, nothing ties the GRU to the rate: it only draws its clips together, and the single
        clips answer. Above 0 the GRU answers; it then needs a smoothness of about 1, as with 100 it settles
        on a constant before it learns a rate.
        """
        super().__init__(net)
        if self.input_spec.video != ST_MAP:
            raise ValueError("this method reads spatio-temporal maps: leave net.input.video out")
        self.smoothness, self.sequence = smoothness, sequence
        self._warned = False

    def loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        """clip + sequence * (GRU's error) + smoothness * (its spread), in steps of the net's spread_bpm.

        Clips whose reference rate is not known are left out, which is said once; NaN where none is known.
        """
        self._warn_of_unknown(batch)
        of_clips, of_sequence = self._rates(batch.video, batch.fps)
        known, step = batch.hr_bpm.isfinite(), float(self.net.spread_bpm)  # type: ignore[arg-type]
        wanted = torch.nan_to_num(batch.hr_bpm)[:, None]
        spread = of_sequence - of_sequence.mean(1, keepdim=True)
        clip, sequence, rough = (
            (part.abs().mean(1) * known).sum() / known.sum() / step
            for part in (of_clips - wanted, of_sequence - wanted, spread)
        )
        loss = clip + self.sequence * sequence + self.smoothness * rough
        return {"loss": loss, "clip": clip, "sequence": sequence, "roughness": rough}

    def predict_rates(self, clips: RecordingClips, batch_size: int = 8) -> tuple[Tensor, Tensor]:
        """Rates of the clips of one recording in bpm, and the clips' middles in s: (K,), (K,) float64.

        Each stretch gives as many as the net has clips; where the last one overlaps its neighbour, only
        later ones. Clips that reach beyond the recording's end, where frames are repeated, give none;
        UserError where no clip is left. Clips pass the net one by one on the CPU, so that the bits do not
        depend on batch_size.
        """
        told: list[tuple[float, float]] = []
        needed = 0
        with evaluating(self), torch.no_grad():
            for batch in clips.batches(batch_size):
                interrupt.check()
                needed = self.net.clip_frames(batch.video)  # type: ignore[operator]
                told += self._told(batch, needed, clips.n_frames)
        if not told:
            raise UserError(f"{clips.recording}: {clips.n_frames} frames are fewer than the {needed} of a "
                            "clip of this net; leave it out, or train with a lower net.input.frames")
        middle, rate_bpm = torch.tensor(told, dtype=torch.float64).T
        latest = torch.cat([torch.full((1,), -1.0, dtype=torch.float64), middle.cummax(0).values[:-1]])
        later = middle > latest
        time_s = torch.as_tensor(clips.time_s, dtype=torch.float64)
        return rate_bpm[later], time_s[middle[later].round().long()]

    def _told(self, batch: ClipBatch, frames: int, n_frames: int) -> list[tuple[float, float]]:
        """Middle frame and rate in bpm of the clips of a batch that lie within a recording.

        frames: of a clip; n_frames: of the recording.
        """
        net: Any = self.net
        device = next(self.net.parameters()).device
        share = 1 if device.type == "cpu" else max(1, len(batch))
        half = (frames - 1) / 2
        made = [self._rates(video.to(device), fps.to(device))[int(self.sequence > 0)].double().cpu()
                for video, fps in zip(batch.video.split(share), batch.fps.split(share), strict=True)]
        return [(start + place * net.step + half, rate)
                for start, found in zip(batch.start, torch.cat(made).tolist(), strict=True)
                for place, rate in enumerate(found) if start + place * net.step + frames <= n_frames]

    def predict(self, clips: RecordingClips, batch_size: int = 8) -> Tensor:
        """A sinusoid of the predicted rates, float32 (T,): only its rate means something."""
        rate_bpm, at_s = self.predict_rates(clips, batch_size)
        return torch.from_numpy(wave_of_rates(rate_bpm.numpy(), at_s.numpy(), clips.time_s.numpy())).float()

    def _rates(self, video: Tensor, fps: Tensor) -> tuple[Tensor, Tensor]:
        """Of the clips and of the GRU, in bpm at the clips' own frame rates: (B, K) twice."""
        of_clips, of_sequence = self.net.rates(video)  # type: ignore[operator]
        scale = fps[:, None] / float(self.net.reference_fps)  # type: ignore[arg-type]
        return of_clips * scale, of_sequence * scale

    def _warn_of_unknown(self, batch: ClipBatch) -> None:
        """Say once that there are clips without a rate; looked up on the CPU only, where it costs nothing."""
        if self._warned or batch.hr_bpm.device.type != "cpu" or bool(batch.hr_bpm.isfinite().all()):
            return
        self._warned = True
        found = zip(batch.recording, batch.hr_bpm.isfinite().tolist(), strict=True)
        warn("clips whose rate is not known are left out of the loss; the first: "
             f"{', '.join(sorted({key for key, known in found if not known}))}")
