"""Test-time adaptation as in Meta-rPPG, for any net that separates features from an estimator."""

from __future__ import annotations

from torch import Tensor, nn

from losses.waveform import LOSSES, loss_name
from nets.layers.synthetic_gradient import SyntheticGradient
from nets.methods.adaptation import (
    Count,
    Options,
    Point,
    Rate,
    Share,
    State,
    Statistics,
    Transductive,
    Variant,
    Weight,
)
from nets.methods.registry import METHODS
from nets.methods.supervised import LossName


@METHODS.register("adaptive")
class Adaptive(Transductive):
    """Supervised learning, then episodes of adapting to a recording's first clip; answers of adapted copies.

    For nets that have `features(video) -> (B, T, F)`, `estimate(features) -> (B, T)`, `halves()`, the
    parameters of both, and `feature_width`, F. A window is a clip.
    """

    needs = ("features", "estimate", "halves", "feature_width")

    def __init__(
        self, net: nn.Module, *, loss: LossName = "neg_pearson", adaptation: Variant = "both",
        steps: Count = 10, train_steps: Count = 1, rate: Rate = 1e-5, support: Count = 1, queries: Count = 2,
        step: Count | None = None, pretrain_epochs: int | None = 20, gamma: Share = 0.8,
        prototype_weight: Weight = 1.0, gradient_scale: Rate = 1.0, statistics: Statistics = "batch",
        compat: bool = False,
    ) -> None:
        """loss: a name of `losses.waveform.LOSSES`.

        adaptation: of the features to a recording, by synthetic gradients, the distance to the prototype,
        both or not at all; steps, rate: how often, and the learning rate. support: windows at the beginning
        of a recording that are adapted to. In training: train_steps, as steps; queries: windows of an episode
        that are learnt from; step: frames between the starts of successive episodes, null: as
        data.clips_per_recording says, 1 where that is null too. pretrain_epochs: of plain learning before the
        episodes; null: all. gamma: what prototype and first state keep in each episode. gradient_scale: the
        generator learns so many times the gradient, and its answer is divided by it. statistics: of batch
        norms when answering, those of the window or the running ones of training. compat: the steps in the
        order of the released code of Meta-rPPG instead of its paper's.
        """
        super().__init__(net, Options(
            adaptation, steps, train_steps, rate, support, queries, step, pretrain_epochs, gamma,
            prototype_weight, gradient_scale, statistics, compat,
        ))
        self._loss = LOSSES[loss_name(loss)]
        self.generator = SyntheticGradient(self.window)

    def gradients(self) -> nn.Module:
        """The generator, made for the net's clips."""
        return self.generator

    def point(self, net: nn.Module, window: Tensor, state: State) -> Point:
        """The net's features."""
        return Point(net.features(window))  # type: ignore[operator]

    def answer_at(self, net: nn.Module, point: Point) -> Point:
        """The net's waveform."""
        return Point(net.estimate(point.features))  # type: ignore[operator]

    def task_loss(self, answer: Tensor, pulse: Tensor) -> Tensor:
        """The loss of the waveform."""
        return self._loss(answer, pulse)

    def waveform(self, answer: Tensor) -> Tensor:
        """As it is."""
        return answer
