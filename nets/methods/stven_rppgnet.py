"""The joint stage: STVEN learns what rPPGNet needs (Yu et al., ICCV 2019)."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from losses.video import absolute_loss, psnr_db, restoring_loss
from losses.waveform import neg_pearson
from nets.methods.base import MakeOptimizer, Method
from nets.methods.registry import METHODS
from nets.methods.rppgnet import signal_loss, sum_over_parts
from nets.methods.stven import CENTRED_SPAN, DEFAULT, Qualities, refuse_too_many
from nets.methods.supervised import refuse_unlabelled
from utils.contracts import ClipBatch, InputSpec

Weight = Annotated[float, Field(ge=0)]


@METHODS.register("stven_rppgnet")
class STVENRPPGNetMethod(Method):
    """rPPGNet's loss on restored clips, and its features there against those on the originals."""

    needs = ("stven", "rppgnet")
    net_calls = 0

    def __init__(
        self, net: nn.Module, *, qualities: Qualities = None, freeze: bool = True, mid: Weight = 0.5,
        skin: Weight = 0.1, parts: Weight = 0.5, pixel: Weight = 1e-4,
    ) -> None:
        """qualities: as in method stven. freeze: rPPGNet keeps its weights and statistics.

        mid, skin, parts: weights of rPPGNet's loss; pixel: of the absolute and squared difference of the
        restored from the original pictures.
        """
        super().__init__(net)
        self.qualities, self.freeze = tuple(qualities or DEFAULT), freeze
        self.mid, self.skin, self.parts, self.pixel = mid, skin, parts, pixel
        refuse_too_many(net, self.qualities)
        if freeze:
            self.net.rppgnet.requires_grad_(False)  # type: ignore[union-attr, operator]

    @property
    def input_spec(self) -> InputSpec:
        """The net's, with a compressed copy of each clip, and skin masks where they are compared."""
        spec: InputSpec = self.net.input_spec  # type: ignore[assignment]
        extras = (*spec.extras, "skin") if self.skin else spec.extras
        return spec.replace(qualities=self.qualities, extras=extras)

    def train(self, mode: bool = True) -> STVENRPPGNetMethod:
        """A frozen rPPGNet stays in evaluation mode: its batch statistics must not drift."""
        super().train(mode)
        if self.freeze:
            self.net.rppgnet.eval()  # type: ignore[union-attr, operator]
        return self

    def optimizers(self, make: MakeOptimizer) -> dict[str, Optimizer]:
        """One, named "net", over what is not frozen."""
        return {"net": make(p for p in self.net.parameters() if p.requires_grad)}

    def loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        """rPPGNet's loss on the restored clip + the perceptual distance + pixel times the differences.

        The perceptual distance compares what rPPGNet says of the restored and of the original clip, the
        latter without gradient: squared differences of both features and (times 0.1) of the skin maps,
        1 - r of the global signals, and half the sum of 1 - r over the parts.
        """
        refuse_unlabelled(batch)
        net: Any = self.net
        copy = batch.extras["degraded"]
        restored = net.stven(copy)
        made = net.rppgnet.signals(restored)
        with torch.no_grad():
            wanted = net.rppgnet.signals(batch.video)
        terms = signal_loss(made, batch, self.mid, self.skin, self.parts)
        signal = terms.pop("loss")
        features = (F.mse_loss(made.shallow, wanted.shallow) + F.mse_loss(made.deep, wanted.deep)
                    + 0.1 * F.mse_loss(made.skin, wanted.skin))
        signals = neg_pearson(made.whole, wanted.whole) + 0.5 * sum_over_parts(made.parts, wanted.parts)
        pixels = absolute_loss(restored, batch.video) + restoring_loss(restored, batch.video)
        gain = (psnr_db(restored.detach(), batch.video, CENTRED_SPAN)
                - psnr_db(copy, batch.video, CENTRED_SPAN))
        return {"loss": signal + features + signals + self.pixel * pixels, **terms, "features": features,
                "agreement": signals, "pixels": pixels, "psnr_gain_db": gain.mean()}
