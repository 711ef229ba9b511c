"""The search for AutoHR's cells: weights and choices learn from different people (Yu et al., SPL 2020)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim import Optimizer

from nets.methods.base import MakeOptimizer
from nets.methods.registry import METHODS
from nets.methods.supervised import Frequency, LossName, Supervised, Weight
from utils.contracts import ClipBatch, InputSpec, Updater

WEIGHTS, CHOICES = 0, 1
Rate = Annotated[float, Field(gt=0)]


@METHODS.register("autohr_search")
class AutoHRSearch(Supervised):
    """First-order differentiable search, for nets that hold an architecture to choose from.

    Every batch brings clips of both halves of the training part. The weights learn from one half with the
    optimiser of the params; what is chosen by learns from the other.
    """

    tasks = ("search",)
    needs = ("architecture", "weights", "operation_weights", "genotype")
    net_calls = 2

    def __init__(
        self, net: nn.Module, *, loss: LossName = "neg_pearson", loss_weight: Weight = 1.0,
        frequency: Frequency | None = None, frequency_weight: Weight = 1.0,
        warmup_epochs: Annotated[int, Field(ge=0)] = 5, choice_rate: Rate = 6e-4,
        choice_decay: Weight = 1e-3,
    ) -> None:
        """loss, frequency and their weights: as in method supervised.

        warmup_epochs: in which only the weights learn; choice_rate, choice_decay: learning rate and weight
        decay of the architecture's Adam.
        """
        super().__init__(
            net, loss=loss, loss_weight=loss_weight, frequency=frequency, frequency_weight=frequency_weight
        )
        self.warmup_epochs, self.choice_rate, self.choice_decay = warmup_epochs, choice_rate, choice_decay

    @property
    def input_spec(self) -> InputSpec:
        """The net's, with batches of both halves."""
        spec: InputSpec = self.net.input_spec  # type: ignore[assignment]
        return spec.replace(plan="halves")

    def optimizers(self, make: MakeOptimizer) -> dict[str, Optimizer]:
        """The params' optimiser for the weights; Adam at a constant rate for the choices."""
        choices = make(
            self.net.architecture(), optimizer="adam", lr=self.choice_rate,  # type: ignore[operator]
            betas=[0.5, 0.999], weight_decay=self.choice_decay, scheduler="constant", scheduler_options={},
        )
        return {"weights": make(self.net.weights()), "choices": choices}  # type: ignore[operator]

    def train_step(self, batch: ClipBatch, updater: Updater) -> dict[str, Tensor]:
        """A step of the choices once the warm-up is over, then one of the weights.

        Beside the losses, "choice_entropy": of the operations' weights in nats, the mean over the edges; the
        logarithm of their number while nothing is chosen, 0 when each edge has one operation.
        """
        sides = batch.extras["side"].tolist()
        mine, others = ([i for i, side in enumerate(sides) if side == who] for who in (WEIGHTS, CHOICES))
        chosen: dict[str, Tensor] = {}
        if batch.epoch >= self.warmup_epochs:
            part = batch.select(others)
            chosen = self.loss(part)
            updater.minimise(chosen["loss"], "choices", again=lambda: self.loss(part)["loss"])
            weights = self.net.operation_weights().detach()  # type: ignore[operator]
            chosen["entropy"] = torch.special.entr(weights).sum(-1).mean()
        part = batch.select(mine)
        terms = self.loss(part)
        updater.minimise(terms["loss"], "weights", again=lambda: self.loss(part)["loss"])
        return {**terms, **{f"choice_{name}": term for name, term in chosen.items()}}
