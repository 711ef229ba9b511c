"""Learning from labelled waveforms."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from torch import Tensor, nn
from torch.optim import Optimizer

from losses.spectral import HIGH_BPM, LOW_BPM, frequency_cross_entropy
from losses.waveform import LOSSES, loss_name
from nets.methods.base import MakeOptimizer, Method
from nets.methods.frozen import hold_frozen, train_only
from nets.methods.registry import METHODS
from utils.contracts import ClipBatch
from utils.errors import UserError
from utils.files import natural_key
from utils.runlog import warn

LossName = Annotated[str, AfterValidator(loss_name)]
Weight = Annotated[float, Field(ge=0)]
Frequency = Literal["log_power", "released"]


@METHODS.register("supervised")
class Supervised(Method):
    """The net's waveform against the label's, clip by clip, and optionally its spectrum against the rate."""

    def __init__(
        self, net: nn.Module, *, loss: LossName = "neg_pearson", loss_weight: Weight = 1.0,
        frequency: Frequency | None = None, frequency_weight: Weight = 1.0, only: list[str] | None = None,
    ) -> None:
        """loss: a name of `losses.waveform.LOSSES`, times loss_weight.

        frequency: add frequency_weight times the cross entropy of the rate, in one of the forms of
        `losses.spectral.SPECTRAL`. only: the parts of the net that learn, by the names of its modules; all
        else keeps its weights and batch statistics (a linear evaluation, where these are the last layers).
        """
        super().__init__(net)
        self.only = only
        if only is not None:
            train_only(net, only)
        if not loss_weight and not (frequency and frequency_weight):
            raise ValueError("loss_weight = 0 leaves no loss; set frequency, or a weight above 0")
        self._loss, self.loss_weight = LOSSES[loss_name(loss)], loss_weight
        self.frequency, self.frequency_weight = frequency, frequency_weight
        self._warned = False

    def train(self, mode: bool = True) -> Supervised:
        """What is frozen stays in evaluation mode."""
        super().train(mode)
        if self.only is not None:
            hold_frozen(self.net)
        return self

    def optimizers(self, make: MakeOptimizer) -> dict[str, Optimizer]:
        """One, named "net", over what learns."""
        return {"net": make(p for p in self.net.parameters() if p.requires_grad)}

    def loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        """The weighted sum as "loss", and both terms where there are two.

        UserError naming the recordings of clips without a label.
        """
        refuse_unlabelled(batch)
        waveform = self.net(batch.video)
        time = self._loss(waveform, batch.pulse)
        if self.frequency is None:
            return {"loss": self.loss_weight * time}
        self._warned = self._warned or warn_of_rates(batch)
        rate = frequency_cross_entropy(waveform, batch.fps, batch.hr_bpm, self.frequency)
        return {"loss": self.loss_weight * time + self.frequency_weight * rate, "time": time, "rate": rate}


def warn_of_rates(batch: ClipBatch) -> bool:
    """Say which rates of a batch the frequency terms cannot use as they are; whether there were any."""
    told = zip(batch.recording, batch.hr_bpm.tolist(), strict=True)
    strange = [f"{key}: {rate:.1f} bpm" for key, rate in told if not LOW_BPM <= rate < HIGH_BPM]
    if strange:
        warn(f"clips whose rate is not known are left out of the frequency loss, rates outside {LOW_BPM} "
             f"to {HIGH_BPM} bpm count as the nearest ones; the first: {', '.join(strange)}")
    return bool(strange)


def refuse_unlabelled(batch: ClipBatch) -> None:
    """UserError naming the recordings of a batch that have no label.

    Looked up on the CPU only: on a GPU it would wait for the device in every step, and the NaN of
    such a label stops the step there anyway.
    """
    if batch.has_label.device.type != "cpu" or bool(batch.has_label.all()):
        return
    raise without_label({batch.recording[i] for i, has in enumerate(batch.has_label.tolist()) if not has})


def without_label(recordings: Iterable[str]) -> UserError:
    """The error that names recordings nothing can be learned from for want of a label."""
    names = ", ".join(sorted(recordings, key=natural_key))
    return UserError(
        f"no label for training: {names}; leave these recordings out (data.sets.exclude) or choose a method "
        "that learns without labels"
    )
