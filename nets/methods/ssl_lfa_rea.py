"""LFA/REA: learning without labels from clips whose pulse was made slower or faster (Yue, Shi, Ding 2022)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Optimizer

from losses.self_supervised import (
    TAU,
    Distance,
    Form,
    agreement,
    contrast,
    ratio_consistency,
    reconstruction,
    shares,
)
from nets.layers import recompute
from nets.layers.colour import standardised
from nets.methods.base import MakeOptimizer, Method, upright
from nets.methods.registry import METHODS
from utils.contracts import ClipBatch, InputSpec, RecordingClips

PARTS = 4
SLOWER, FASTER = (0.3, 0.8), (1.2, 1.7)
ROTATIONS = 4
Weight = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Band = Annotated[list[float] | None, Field(min_length=2, max_length=2)]


@METHODS.register("ssl_lfa_rea")
class SSLLFAREA(Method):
    """Four losses tie an anchor's views, its frequency-augmented negatives and its neighbours in time.

    An item is one clip of 4 T frames, cut into an anchor (drawn) and three neighbours. No label is read.
    REA alone answers; the loss does not tell up from down, so waveforms are turned to go with minus the
    skin's green.
    """

    needs = ("lfa", "rea")
    label_share = 0.0
    published_as = "ssl_lfa_rea"
    drawn_loss = True
    net_calls = 0

    def __init__(
        self, net: nn.Module, *, form: Form = "paper", negatives: Count = 4,
        n_spatial_aug: Literal[1, 2] = 1, tau: Annotated[float, Field(gt=0)] = TAU,
        distance: Distance | None = None, band_hz: Band = None, reconstruction: Weight = 1.0,
        contrast: Weight = 1.0, ratio: Weight = 1.0, agreement: Weight = 1.0, recompute: bool = False,
        lfa_rate: Annotated[float, Field(gt=0)] = 1.0,
    ) -> None:
        """form: of the losses, see `losses.self_supervised`. negatives: K. n_spatial_aug: changes of each
        view, 2 as in the first release. distance: of spectra, the mean over bins as published or their sum;
        None: the sum for "paper", since the mean leaves hardly any gradient, the mean for "release".
        band_hz: only these frequencies count in spectra, and as rates of views. reconstruction, contrast,
        ratio, agreement: weights of the losses. recompute: keep only the input of each pass through REA, and
        compute it again. lfa_rate: LFA's learning rate over REA's, 1 as published.
        """
        super().__init__(net)
        if band_hz is not None and not 0 <= band_hz[0] < band_hz[1]:
            raise ValueError(f"band_hz = {band_hz}: two frequencies in rising order")
        self.form: Form = form
        self.negatives, self.n_spatial_aug, self.tau = negatives, n_spatial_aug, tau
        usual: Distance = "sum" if form == "paper" else "mean"
        self.distance: Distance = distance or usual
        self.band_hz = None if band_hz is None else (band_hz[0], band_hz[1])
        self.weights = {"reconstruction": reconstruction, "contrast": contrast, "ratio": ratio,
                        "agreement": agreement}
        self.recompute, self.lfa_rate = recompute, lfa_rate

    def optimizers(self, make: MakeOptimizer) -> dict[str, Optimizer]:
        """One, named "net"; LFA's weights are a group of their own where their rate is another."""
        if self.lfa_rate == 1:
            return super().optimizers(make)
        net: Any = self.net
        optimizer = make(net.rea.parameters())
        rate = self.lfa_rate * optimizer.defaults["lr"]
        optimizer.add_param_group({"params": list(net.lfa.parameters()), "lr": rate})
        return {"net": optimizer}

    @property
    def input_spec(self) -> InputSpec:
        """The net's; training clips are four times as long."""
        spec: InputSpec = self.net.input_spec  # type: ignore[assignment]
        return spec.replace(train_frames=PARTS * spec.frames)

    def loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        """The weighted sum, and the four losses; clips (B, 3, 4 T, H, W), frames beyond are left out.

        Drawn from torch's CPU generator: which quarter is the anchor, its views, the ratios.
        """
        net: Any = self.net
        count, length = len(batch), batch.video.shape[2] // PARTS
        parts = standardised(batch.video)[:, :, : PARTS * length].unflatten(2, (PARTS, length))
        order = [[first, *(i for i in range(PARTS) if i != first)]
                 for first in torch.randint(PARTS, (count,)).tolist()]
        parts = torch.stack([part[:, row] for part, row in zip(parts, order, strict=True)])
        anchor, neighbours = parts[:, :, 0], parts[:, :, 1:]
        views = [draw_view(anchor, self.n_spatial_aug) for _ in range(2)]
        ratio = draw_ratios(count, self.negatives).to(anchor.device)
        made = net.lfa.augmented(anchor, ratio)
        p1, p2 = (self._pulse(view) for view in views)
        slower_or_faster = torch.stack([self._pulse(clip) for clip in made.unbind(1)], dim=1)
        others = torch.stack([self._pulse(clip) for clip in neighbours.unbind(2)], dim=1)
        terms = self.compare(p1, p2, slower_or_faster, others, ratio, batch.fps)
        terms["reconstruction"] = reconstruction(made, anchor)
        total = [weight * terms[name] for name, weight in self.weights.items() if weight]
        return {"loss": torch.stack(total).sum(), **terms}

    def compare(
        self, p1: Tensor, p2: Tensor, negatives: Tensor, neighbours: Tensor, ratio: Tensor, fps: Tensor
    ) -> dict[str, Tensor]:
        """The three losses of waveforms: (B, T), (B, T), (B, K, T), (B, J, T), (B, K), (B,)."""
        s1, s2, made, others = (shares(x, self.form, fps, self.band_hz)
                                for x in (p1, p2, negatives, neighbours))
        return {
            "contrast": contrast(s1, s2, made, self.form, self.distance, self.tau),
            "ratio": ratio_consistency(p1, p2, negatives, ratio, fps, self.form, self.band_hz),
            "agreement": agreement(s1, s2, others, self.distance),
        }

    def predict(self, clips: RecordingClips, batch_size: int = 8) -> Tensor:
        """As every method's, by REA alone; see `upright`."""
        return upright(super().predict(clips, batch_size), clips)

    def _pulse(self, clip: Tensor) -> Tensor:
        """REA's waveform of a standardised clip: (B, 3, T, H, W) -> (B, T)."""
        rea: Any = self.net.rea
        return recompute.run(rea, rea.estimate, clip.contiguous(memory_format=_layout(rea)), self.recompute)


def draw_view(clips: Tensor, changes: int) -> Tensor:
    """Each clip with one or two different of six changes: (B, C, T, S, S) -> the same shape.

    Upside down, mirrored, turned by 0, 90, 180 or 270 degrees, in this order where there are two (and a
    turn by the smaller angle first).
    """
    drawn = [torch.randperm(2 + ROTATIONS)[:changes].sort().values.tolist() for _ in range(len(clips))]
    return torch.stack([_changed(clip, kinds) for clip, kinds in zip(clips, drawn, strict=True)])


def _changed(clip: Tensor, kinds: list[int]) -> Tensor:
    for kind in kinds:
        clip = clip.flip(-2 if kind == 0 else -1) if kind < 2 else clip.rot90(kind - 2, (-2, -1))
    return clip


def draw_ratios(count: int, negatives: int) -> Tensor:
    """Ratios of rates (count, negatives): uniform in 0.3 to 0.8 or in 1.2 to 1.7, each as likely."""
    u, v, side = torch.rand(3, count, negatives)
    slower, faster = (low + (high - low) * x for (low, high), x in ((SLOWER, u), (FASTER, v)))
    return torch.where(side < 0.5, slower, faster)


def _layout(net: nn.Module) -> torch.memory_format:
    """The memory layout of the net's 3D convolutions."""
    weight = next(p for p in net.parameters() if p.dim() == 5)
    last = weight.is_contiguous(memory_format=torch.channels_last_3d) and not weight.is_contiguous()
    return torch.channels_last_3d if last else torch.contiguous_format
