"""rPPGNet's training: six signals against the label, the skin map against a mask (Yu et al., ICCV 2019)."""

from __future__ import annotations

from typing import Annotated, Protocol

from pydantic import Field
from torch import Tensor, nn

from losses.video import skin_bce
from losses.waveform import neg_pearson
from nets.methods.base import Method
from nets.methods.registry import METHODS
from nets.methods.supervised import refuse_unlabelled
from utils.contracts import ClipBatch, InputSpec

Weight = Annotated[float, Field(ge=0)]


class Signals(Protocol):
    """What the loss reads of a net's `signals`: see `nets.rppgnet.Signals`."""

    @property
    def skin_logit(self) -> Tensor: ...  # noqa: D102
    @property
    def mid(self) -> Tensor: ...  # noqa: D102
    @property
    def whole(self) -> Tensor: ...  # noqa: D102
    @property
    def parts(self) -> Tensor: ...  # noqa: D102


@METHODS.register("rppgnet")
class RPPGNetMethod(Method):
    """Global, mid-level and four part signals, and the skin map, for nets that give them."""

    needs = ("signals",)
    net_calls = 0

    def __init__(
        self, net: nn.Module, *, mid: Weight = 0.5, skin: Weight = 0.1, parts: Weight = 0.5
    ) -> None:
        """Weights beside the global signal's 1; with skin = 0 no skin masks need to be stored."""
        super().__init__(net)
        self.mid, self.skin, self.parts = mid, skin, parts

    @property
    def input_spec(self) -> InputSpec:
        """The net's, with skin masks where they are compared."""
        spec: InputSpec = self.net.input_spec  # type: ignore[assignment]
        return spec.replace(extras=(*spec.extras, "skin")) if self.skin else spec

    def loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        """NP(global) + mid NP(mid) + skin BCE(skin map) + parts sum NP(part); NP = 1 - Pearson's r."""
        refuse_unlabelled(batch)
        signals = self.net.signals(batch.video)  # type: ignore[operator]
        return signal_loss(signals, batch, self.mid, self.skin, self.parts)


def signal_loss(signals: Signals, batch: ClipBatch, mid: float, skin: float, parts: float
                ) -> dict[str, Tensor]:
    """The terms of rPPGNet's loss for a batch and, as "loss", their weighted sum."""
    terms = {
        "whole": neg_pearson(signals.whole, batch.pulse), "mid": neg_pearson(signals.mid, batch.pulse),
        "parts": sum_over_parts(signals.parts, batch.pulse[:, None].expand_as(signals.parts)),
    }
    loss = terms["whole"] + mid * terms["mid"] + parts * terms["parts"]
    if skin:
        terms["skin"] = skin_bce(signals.skin_logit, batch.extras["skin"] / 255)
        loss = loss + skin * terms["skin"]
    return {"loss": loss, **terms}


def sum_over_parts(parts: Tensor, targets: Tensor) -> Tensor:
    """Sum over the parts of the mean over clips of 1 - r: (B, P, T) twice -> ()."""
    return parts.shape[1] * neg_pearson(parts, targets)
