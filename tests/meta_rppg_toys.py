"""Meta-rPPG and method adaptive around small nets, and what tests of them ask again and again."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nets
from nets import methods
from tests.fakes import clip_batch
from tests.training_toys import settings
from training.updater import Updater

WINDOW = 16
FEW: dict[str, Any] = {"pretrain_epochs": 0, "rate": 1e-3, "steps": 2}
SGD = {"optimizer": "sgd", "optimizer_options": {"momentum": 0.9, "weight_decay": 5e-4},
       "learning_rate": 1e-3, "scheduler": "constant"}


def learner(**options: Any) -> Any:
    """The method around a net of short windows and small pictures."""
    torch.manual_seed(0)
    net = nets.build("meta_rppg", window=WINDOW)
    net.input_spec = net.input_spec.replace(size=32)
    return methods.build("meta_rppg", net, **{**FEW, **options}).train()


def wrapped(**options: Any) -> Any:
    """PhysNet in method adaptive."""
    torch.manual_seed(0)
    net = nets.build("physnet")
    net.input_spec = net.input_spec.replace(size=16, frames=16)
    return methods.build("adaptive", net, **{**FEW, **options}).train()


BOTH = pytest.mark.parametrize("make", [learner, wrapped])


def updater(method: Any, **changes: Any) -> Updater:
    """The real updater, with SGD at a constant rate; `changes` to the train section."""
    return Updater(method, settings(**{**SGD, **changes}), "cpu", total_steps=9, steps_per_epoch=3)


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """A copy of weights and buffers."""
    return {key: value.clone() for key, value in module.state_dict().items()}


def changed(before: dict[str, Tensor], after: nn.Module) -> set[str]:
    """Names of the weights and buffers that are not what they were."""
    return {key for key, value in after.state_dict().items() if not torch.equal(before[key], value)}


def after_an_episode(make: Any = learner, **options: Any) -> Any:
    """A method that has a prototype and a state, ready to answer."""
    method = make(**options)
    method.train_step(clip_batch(method.input_spec), updater(method))
    return method.eval()


class Hand:
    """SGD with momentum and weight decay, written out."""

    def __init__(self, parameters: list[nn.Parameter], rate: float) -> None:
        self.parameters, self.rate = parameters, rate
        self.velocity = [torch.zeros_like(p) for p in parameters]

    def step(self, grads: Any) -> None:
        with torch.no_grad():
            for p, v, g in zip(self.parameters, self.velocity, grads, strict=True):
                v.mul_(0.9).add_(g + 5e-4 * p)
                p.sub_(self.rate * v)
