"""PhysFormer's training: from the waveform towards its spectrum, epoch by epoch (Yu et al., CVPR 2022)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from losses.spectral import frequency_cross_entropy, rate_divergence
from losses.waveform import neg_pearson
from nets.methods.base import Method
from nets.methods.registry import METHODS
from nets.methods.supervised import refuse_unlabelled, warn_of_rates
from utils.contracts import ClipBatch

TOOLBOX_EPOCHS = 10


@dataclass(frozen=True)
class Curriculum:
    """How the terms are weighted: `time` and `rate` make weights of (epoch, epochs); form of the spectrum."""

    form: str
    time: Callable[[int, int], float]
    rate: Callable[[int, int], float]


def _growing(epoch: int, epochs: int) -> float:
    """1 in the first epoch, towards 5 at the end of the curriculum."""
    return 5.0 ** (min(epoch, epochs) / epochs)


CURRICULA = {
    "working": Curriculum("log_power", lambda epoch, epochs: 1.0, lambda *at: 0.1 * _growing(*at)),
    "released": Curriculum("released", lambda epoch, epochs: 0.1, _growing),
    "toolbox": Curriculum(
        "released", lambda epoch, epochs: 1.0 if epoch <= TOOLBOX_EPOCHS else 0.05,
        lambda epoch, epochs: 1.0 if epoch <= TOOLBOX_EPOCHS else 5.0,
    ),
}


@METHODS.register("physformer")
class PhysFormerMethod(Method):
    """The waveform's correlation, and cross entropy and divergence of its spectrum, weighted by epoch.

    loss = a (1 - r) + b (cross entropy of the rate + divergence from a Gaussian about it).
    """

    def __init__(
        self, net: nn.Module, *, curriculum: Literal["working", "released", "toolbox"] = "working",
        curriculum_epochs: Annotated[int, Field(ge=1)] = 25,
    ) -> None:
        """curriculum: "released": a = 0.1, b = 5^(epoch / curriculum_epochs), and the power as logits.

        "working": the power as probabilities instead, whose gradient is hundreds of times larger, so a = 1
        and a tenth of that b. "toolbox": a = 1, b = 1 up to epoch 10 and a = 0.05, b = 5 after it, with the
        released spectrum (its rate comes from the label's spectrum; here it is the clip's reference rate).
        Validation always weighs as the first epoch does, so that its losses can be compared.
        """
        super().__init__(net)
        self.curriculum, self.epochs = CURRICULA[curriculum], curriculum_epochs
        self._warned = False

    def loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        """The weighted sum as "loss", and its three terms. UserError for clips without a label."""
        refuse_unlabelled(batch)
        self._warned = self._warned or warn_of_rates(batch)
        waveform, form = self.net(batch.video), self.curriculum.form
        time = neg_pearson(waveform, batch.pulse)
        rate = frequency_cross_entropy(waveform, batch.fps, batch.hr_bpm, form)
        spread = rate_divergence(waveform, batch.fps, batch.hr_bpm, form)
        a, b = (weigh(batch.epoch, self.epochs) for weigh in (self.curriculum.time, self.curriculum.rate))
        return {"loss": a * time + b * (rate + spread), "time": time, "rate": rate, "spread": spread}
