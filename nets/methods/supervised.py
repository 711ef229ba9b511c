"""Learning from labelled waveforms."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator
from torch import Tensor, nn

from losses.waveform import LOSSES, loss_name
from nets.methods.base import Method
from nets.methods.registry import METHODS
from utils.contracts import ClipBatch
from utils.errors import UserError


@METHODS.register("supervised")
class Supervised(Method):
    """The net's waveform against the label's, clip by clip."""

    def __init__(
        self, net: nn.Module, *, loss: Annotated[str, AfterValidator(loss_name)] = "neg_pearson"
    ) -> None:
        """loss: a name of `losses.waveform.LOSSES`."""
        super().__init__(net)
        self._loss = LOSSES[loss_name(loss)]

    def loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        """{"loss": ()}; UserError naming the recordings of clips without a label."""
        refuse_unlabelled(batch)
        return {"loss": self._loss(self.net(batch.video), batch.pulse)}


def refuse_unlabelled(batch: ClipBatch) -> None:
    """UserError naming the recordings of a batch that have no label.

    Looked up on the CPU only: on a GPU it would wait for the device in every step, and the NaN of
    such a label stops the step there anyway.
    """
    if batch.has_label.is_cuda or bool(batch.has_label.all()):
        return
    missing = sorted({batch.recording[i] for i, has in enumerate(batch.has_label.tolist()) if not has})
    raise UserError(
        f"no label for training: {', '.join(missing)}; leave these recordings out (data.sets.exclude) "
        "or choose a method that learns without labels"
    )
