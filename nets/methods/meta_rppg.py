"""Meta-rPPG: episodes, ordinal levels, a carried state, prepared windows (Lee, Chen, Lee, ECCV 2020)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from losses.ordinal import ordinal_loss, to_levels
from nets.layers.face_window import prepare_window
from nets.layers.ordinal import decoded_level, expected_level
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
from utils.contracts import ClipBatch, InputSpec

Adapt = Literal["extractor", "estimator", "both"]
Epochs = Annotated[int, Field(ge=0)]
CONTOUR = "contour"


@METHODS.register("meta_rppg")
class MetaRPPGMethod(Transductive):
    """Meta-rPPG's transductive meta-learning of 40 ordered levels, for nets of its three parts."""

    tasks = ("levels",)
    needs = ("extractor", "estimator", "generator", "window")

    def __init__(
        self, net: nn.Module, *, adaptation: Variant = "both", adapt: Adapt = "extractor", steps: Count = 10,
        train_steps: Count = 1, rate: Rate = 1e-5, support: Count = 1, queries: Count = 2,
        step: Count | None = None, pretrain_epochs: Epochs | None = 20, gamma: Share = 0.8,
        prototype_weight: Weight = 1.0, gradient_scale: Rate = 1.0, statistics: Statistics = "batch",
        waveform: Literal["expected", "levels"] = "expected", mask: bool = True, low_hz: Rate = 1.0,
        high_hz: Rate = 8.0, slots: Count = 1, compat: bool = False,
    ) -> None:
        """As in method adaptive, where a window is the net's, and furthermore:

        adapt: the part that is adapted. With "estimator" and "both" the synthetic gradients, like the
        prototype, are those of the recurrent layers' output instead of the extractor's. waveform: the
        expected level, or the number of levels more probable than not, as published. mask: cut the face out
        along the stored landmarks. low_hz, high_hz: band of the frames' mean colours that is kept; 0.7 at the
        lower end is for slow hearts. slots: estimator's states that windows begin with in turn; the release
        has one for each recording of a batch. compat: also, the generator learns the gradient of loss and
        prototype.
        """
        super().__init__(net, Options(
            adaptation, steps, train_steps, rate, support, queries, step, pretrain_epochs, gamma,
            prototype_weight, gradient_scale, statistics, compat,
        ))
        if low_hz >= high_hz:
            raise ValueError(f"low_hz = {low_hz} must be below high_hz = {high_hz}")
        self.adapt, self.mask, self.band_hz = adapt, mask, (low_hz, high_hz)
        self._decode = expected_level if waveform == "expected" else decoded_level
        lstm: nn.LSTM = net.estimator.lstm  # type: ignore[union-attr, assignment]
        self.register_buffer("state", torch.zeros(2, 2 * lstm.num_layers, slots, lstm.hidden_size))

    @property
    def window(self) -> int:
        """Frames of a window: those that the net was made for."""
        return int(self.net.window)  # type: ignore[arg-type]

    @property
    def input_spec(self) -> InputSpec:
        """The net's, with episodes, and with the face's contour where it is cut out."""
        spec = super().input_spec
        return spec.replace(extras=(*spec.extras, CONTOUR)) if self.mask else spec

    @property
    def adapted_optimizers(self) -> tuple[str, ...]:
        """Those of the adapted part."""
        return ("extractor", "estimator") if self.adapt == "both" else (self.adapt,)

    def gradients(self) -> nn.Module:
        """The net's generator."""
        generator: nn.Module = self.net.generator  # type: ignore[assignment]
        return generator

    def adapted(self, net: nn.Module) -> list[nn.Parameter]:
        """Of the estimator its recurrent layers: the gradients stand at their output."""
        parts: dict[str, nn.Module] = {
            "extractor": net.extractor, "estimator": net.estimator.lstm,  # type: ignore[union-attr, dict-item]
        }
        chosen = list(parts) if self.adapt == "both" else [self.adapt]
        return [parameter for name in chosen for parameter in parts[name].parameters()]

    def window_of(self, batch: ClipBatch, start: int) -> Tensor:
        """The window prepared by itself: face cut out, mean removed, trace band-passed."""
        span = slice(start, start + self.window)
        video = batch.video[:, :, span]
        face = batch.extras[CONTOUR][:, span] if self.mask else torch.ones_like(video[:, 0])
        return prepare_window(video, face, batch.fps, *self.band_hz)

    def point(self, net: nn.Module, window: Tensor, state: State) -> Point:
        """The extractor's features or, where the estimator is adapted, its recurrent output."""
        features = net.extractor(window)  # type: ignore[operator]
        if self.adapt == "extractor":
            return Point(features, state)
        return Point(*net.estimator.recurrent(features, state))  # type: ignore[union-attr, operator]

    def answer_at(self, net: nn.Module, point: Point) -> Point:
        """Probabilities of the levels (B, T, 40), and the state after the window."""
        recurrent, state = point.features, point.state
        if self.adapt == "extractor":
            recurrent, state = net.estimator.recurrent(recurrent, state)  # type: ignore[union-attr, operator]
        return Point(net.estimator.probabilities(recurrent), state)  # type: ignore[union-attr, operator]

    def task_loss(self, answer: Tensor, pulse: Tensor) -> Tensor:
        """The ordinal loss against the levels of the window's label."""
        return ordinal_loss(answer, to_levels(pulse, answer.shape[-1]))

    def waveform(self, answer: Tensor) -> Tensor:
        """Levels as a waveform."""
        return self._decode(answer)

    def first_state(self, n: int) -> State:
        """(2, 4, n, 60): the stored states in turn; at rest before the first episode."""
        state: Tensor = self.state  # type: ignore[assignment]
        return state[:, :, [i % state.shape[2] for i in range(n)]]

    def states(self) -> list[State]:
        """Every stored state."""
        return list(self.state.split(1, dim=2))  # type: ignore[operator, union-attr]

    def set_state(self, state: State, share: float) -> None:
        """Each stored state towards the mean of those that began with it."""
        if state is None:
            return
        kept: Tensor = self.state  # type: ignore[assignment]
        slots = kept.shape[2]
        for slot in range(min(slots, state.shape[2])):
            kept[:, :, slot].lerp_(state[:, :, slot::slots].mean(2), share)
