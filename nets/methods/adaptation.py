"""Learning to adapt to one recording without its labels (Lee, Chen, Lee, Meta-rPPG, ECCV 2020).

For any net that separates features from an estimator: the stages of training, the synthetic gradients, the
prototype, and the adaptation of a copy when a recording is answered.
"""

from __future__ import annotations

import abc
import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer

from nets.layers.statistics import batch_statistics, forget_running
from nets.methods.base import MakeOptimizer, Method, evaluating, standardise
from nets.methods.supervised import refuse_unlabelled
from utils.contracts import ClipBatch, InputSpec, RecordingClips, Updater
from utils.runlog import warn

Variant = Literal["none", "prototype", "synthetic", "both"]
Statistics = Literal["batch", "running"]
Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
State = Tensor | None
MOMENTUM, DECAY = 0.9, 5e-4
PERIOD, FLOOR = 5, 0.1


@dataclass(frozen=True)
class Point:
    """Features (B, T, F) where gradients are synthesised, and the estimator's state there."""

    features: Tensor
    state: State = None


@dataclass(frozen=True)
class Options:
    """What the methods have in common; see `adaptive.Adaptive` for what each field means."""

    adaptation: Variant
    steps: int
    train_steps: int
    rate: float
    support: int
    queries: int
    step: int | None
    pretrain_epochs: int | None
    gamma: float
    prototype_weight: float
    gradient_scale: float
    statistics: Statistics
    compat: bool


class Turns:
    """States that the windows of a recording begin with and leave behind, taken in turn."""

    def __init__(self, states: list[State]) -> None:
        """states: before the first window of each turn."""
        self._states, self._next = states, 0

    def take(self) -> State:
        """The state for the next window."""
        return self._states[self._next]

    def put(self, state: State) -> None:
        """The state that window left behind; the turn passes on."""
        self._states[self._next] = state
        self._next = (self._next + 1) % len(self._states)


class Transductive(Method, abc.ABC):
    """The stages of training and the adaptation; subclasses say how a net is divided and what it learns.

    They give `gradients`, `point`, `answer_at`, `task_loss` and `waveform`.
    """

    reads_gradients = True
    net_calls = 0

    def __init__(self, net: nn.Module, options: Options) -> None:
        """Prototype and flag are buffers: they are saved with the weights."""
        super().__init__(net)
        self.options, self._warned = options, False
        self.register_buffer("prototype", torch.zeros(int(net.feature_width)))  # type: ignore[arg-type]
        self.register_buffer("initialised", torch.zeros((), dtype=torch.bool))

    # What a net is made of

    @property
    def window(self) -> int:
        """Frames of a window."""
        return int(self.net.input_spec.frames)  # type: ignore[union-attr, arg-type]

    @property
    def input_spec(self) -> InputSpec:
        """The net's, with episodes of support and query windows one after the other to learn from."""
        spec: InputSpec = self.net.input_spec  # type: ignore[assignment]
        frames = (self.options.support + self.options.queries) * self.window
        return spec.replace(plan="episodes", train_frames=frames, step=self.options.step)

    @abc.abstractmethod
    def gradients(self) -> nn.Module:
        """The net that tells the gradient (B, T, F) of the loss from features (B, T, F)."""

    @abc.abstractmethod
    def point(self, net: nn.Module, window: Tensor, state: State) -> Point:
        """The features of windows (B, C, T, H, W) that gradients are synthesised for."""

    @abc.abstractmethod
    def answer_at(self, net: nn.Module, point: Point) -> Point:
        """What `net` says from there on (B, T, ...), and the estimator's state after it."""

    @abc.abstractmethod
    def task_loss(self, answer: Tensor, pulse: Tensor) -> Tensor:
        """The supervised loss of answers to windows with labels (B, T)."""

    @abc.abstractmethod
    def waveform(self, answer: Tensor) -> Tensor:
        """An answer as waveforms: (B, T, ...) -> (B, T)."""

    def adapted(self, net: nn.Module) -> list[nn.Parameter]:
        """The weights of `net` that synthetic gradients reach."""
        return list(net.halves()[0])  # type: ignore[operator]

    @property
    def adapted_optimizers(self) -> tuple[str, ...]:
        """The optimisers that the supervised loss steps while adapting."""
        return ("extractor",)

    def first_state(self, n: int) -> State:
        """The estimator's state before n windows, by default none."""
        return None

    def set_state(self, state: State, share: float) -> None:
        """Take a share of the state after windows into the one windows begin with, by default nothing."""

    def window_of(self, batch: ClipBatch, start: int) -> Tensor:
        """The window of each clip that begins at frame `start` of it, as the net takes it."""
        return batch.video[:, :, start : start + self.window]

    # Training

    def optimizers(self, make: MakeOptimizer) -> dict[str, Optimizer]:
        """extractor, estimator, generator by the params; synthetic over what is adapted, at its own rate."""
        extractor, estimator = self.net.halves()  # type: ignore[operator]
        synthetic = make(
            iter(self.adapted(self.net)), optimizer="sgd", lr=self.options.rate, momentum=MOMENTUM,
            weight_decay=DECAY, scheduler="cosine_annealing",
            scheduler_options={"T_max": PERIOD, "eta_min": FLOOR * self.options.rate},
        )
        return {"extractor": make(iter(extractor)), "estimator": make(iter(estimator)),
                "generator": make(self.gradients().parameters()), "synthetic": synthetic}

    def loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        """The supervised loss end to end, mean over the windows of the clips, without adapting anything."""
        refuse_unlabelled(batch)
        losses, state = [], self.first_state(len(batch))
        with self._normalising():
            for window, pulse in self._windows(batch):
                told = self.answer_at(self.net, self.point(self.net, window, state))
                losses.append(self.task_loss(told.features, pulse))
                state = _detached(told.state)
        return {"loss": torch.stack(losses).mean()}

    def train_step(self, batch: ClipBatch, updater: Updater) -> dict[str, Tensor]:
        """A step end to end while pre-training; afterwards an episode: adapt on support, learn on queries."""
        refuse_unlabelled(batch)
        if self.options.pretrain_epochs is None or batch.epoch < self.options.pretrain_epochs:
            terms = self.loss(batch)
            updater.minimise(terms["loss"], "extractor", "estimator")
            return terms
        if not bool(self.initialised):
            self._follow(batch, 0, share=1.0)
        state = self.first_state(len(batch))
        windows = list(self._windows(batch))
        support = min(self.options.support, len(windows) - 1)
        for window, pulse in windows[:support]:
            state = self._adapt(window, pulse, state, updater)
        learnt = []
        for window, pulse in windows[support:]:
            found, state = self._learn(window, pulse, state, updater)
            learnt.append(found)
        # The release takes a window from anywhere in the recordings; here it lies within the episode.
        start = int(torch.randint(batch.video.shape[2] - self.window + 1, ()))
        self._follow(batch, start, share=1 - self.options.gamma)
        return {name: torch.stack([found[name] for found in learnt]).mean() for name in learnt[0]}

    def _windows(self, batch: ClipBatch) -> Iterator[tuple[Tensor, Tensor]]:
        """The windows (B, C, T, H, W) of the clips, back to back, and their labels (B, T)."""
        for start in self._starts(batch):
            yield self.window_of(batch, start), batch.pulse[:, start : start + self.window]

    def _starts(self, batch: ClipBatch) -> range:
        """First frames of the windows in a clip."""
        return range(0, batch.video.shape[2] - self.window + 1, self.window)

    def _adapt(self, window: Tensor, pulse: Tensor, state: State, updater: Updater) -> State:
        """What is adapted steps by the loss, the prototype and synthetic gradients; the state after it.

        The paper takes all three in each step. The released code takes the first two once, and then the
        third alone.
        """
        after = state
        for number in range(self.options.train_steps):
            if number == 0 or not self.options.compat:
                point = self.point(self.net, window, state)
                told = self.answer_at(self.net, point)
                after = _detached(told.state)
                if not self.options.compat:
                    grads = self._synthesised(self.net, point.features, retain=True)
                loss = self.task_loss(told.features, pulse) + self.distance(point.features)
                updater.minimise(loss, *self.adapted_optimizers)
            if self.options.compat:
                grads = self._synthesised(self.net, self.point(self.net, window, state).features)
            updater.apply("synthetic", grads)
        return after

    def _synthesised(self, net: nn.Module, features: Tensor, retain: bool = False) -> list[Tensor]:
        """Gradients of the adapted weights of `net`, from the one that the generator tells for `features`."""
        with torch.no_grad():
            told = self.gradients()(features.detach()) / self.options.gradient_scale
        return _gradients(features, self.adapted(net), told, retain)

    def _learn(self, window: Tensor, pulse: Tensor, state: State, updater: Updater
               ) -> tuple[dict[str, Tensor], State]:
        """One step of net and generator on a query window; the terms, and the state after it."""
        point = self.point(self.net, window, state)
        told = self.answer_at(self.net, point)
        task, near = self.task_loss(told.features, pulse), self.distance(point.features)
        wanted = task + near if self.options.compat else task
        (target,) = _gradients(wanted, [point.features], retain=True)
        updater.minimise(task + near, "extractor", "estimator")
        missed = F.mse_loss(self.gradients()(point.features.detach()), self.options.gradient_scale * target)
        updater.minimise(missed, "generator")
        terms = {"loss": task + near, "task": task, "prototype": near, "synthetic": missed}
        return {name: term.detach() for name, term in terms.items()}, _detached(told.state)

    def distance(self, features: Tensor) -> Tensor:
        """Mean squared distance of features (B, T, F) to the prototype, weighted."""
        return self.options.prototype_weight * F.mse_loss(features, self.prototype.expand_as(features))  # type: ignore[operator]

    @torch.no_grad()
    def _follow(self, batch: ClipBatch, start: int, share: float) -> None:
        """Move prototype and first state by `share` towards those of the windows at `start`."""
        point = self.point(self.net, self.window_of(batch, start), self.first_state(len(batch)))
        self.prototype.lerp_(point.features.mean((0, 1)), share)  # type: ignore[operator]
        self.set_state(self.answer_at(self.net, point).state, share)
        self.initialised.fill_(True)  # type: ignore[operator]

    def _normalising(self) -> AbstractContextManager[None]:
        """The statistics of the batch in evaluation mode, where they are wanted."""
        wanted = self.options.statistics == "batch" and not self.training
        return batch_statistics(self.net) if wanted else nullcontext()

    # Answering

    def predict(self, clips: RecordingClips, batch_size: int = 8) -> Tensor:
        """The waveform of one recording from a copy adapted to its first windows, see `Method.predict`.

        The first windows are answered by the adapted copy as well. Windows pass one by one, so that the
        statistics are each window's own; each one's waveform is standardised.
        """
        with evaluating(self), torch.no_grad():
            net, turns = self.adapted_copy(clips), Turns(self.states())
            return self.joined(clips, batch_size, lambda batch: self._answers(net, turns, batch))

    def waveforms(self, batch: ClipBatch) -> Tensor:
        """The net's waveform for each clip by itself, without adaptation, see `Method.waveforms`."""
        with self._normalising():
            return torch.cat([
                self._answers(self.net, Turns(self.states()), batch.select([i])) for i in range(len(batch))
            ])

    def _answers(self, net: nn.Module, turns: Turns, batch: ClipBatch) -> Tensor:
        """Waveforms (B, T) float64 on the CPU of clips that follow each other, window by window."""
        rows = []
        for place in range(len(batch)):
            clip, pieces = batch.select([place]).to(self._device()), []
            for start in self._starts(clip):
                point = self.point(net, self.window_of(clip, start), turns.take())
                told = self.answer_at(net, point)
                turns.put(_detached(told.state))
                pieces.append(standardise(self.waveform(told.features).double()).cpu())
            rows.append(torch.cat(pieces, dim=1))
        return torch.cat(rows)

    def adapted_copy(self, clips: RecordingClips) -> nn.Module:
        """A copy of the net, adapted to the first windows of a recording as `adaptation` says.

        As it is where no transductive training has begun: there is no prototype and no generator then. So,
        too, for a recording that is shorter than a window.
        """
        net = copy.deepcopy(self.net)
        if self.options.statistics == "batch":
            forget_running(net)
        if self.options.adaptation != "none" and self._ready():
            gradients = self._normalising_generator()
            with torch.enable_grad(), gradients:
                self._fit(net, self._support(clips))
        return net

    def _ready(self) -> bool:
        """Whether there is something to adapt by; said once where there is not."""
        ready = bool(self.initialised)
        if not ready and not self._warned:
            self._warned = True
            warn("no episode has been learnt yet: recordings are answered without adaptation")
        return ready

    def _normalising_generator(self) -> AbstractContextManager[None]:
        return batch_statistics(self.gradients()) if self.options.statistics == "batch" else nullcontext()

    def _support(self, clips: RecordingClips) -> list[Tensor]:
        """The first windows of a recording, (1, C, T, H, W) each; none that reaches beyond its end."""
        found: list[Tensor] = []
        for batch in clips.batches(1):
            last = clips.n_frames - batch.start[0] - self.window
            pairs = zip(self._starts(batch), self._windows(batch.to(self._device())), strict=True)
            found += [window for start, (window, _) in pairs if start <= last]
            if len(found) >= self.options.support:
                break
        return found[: self.options.support]

    def _fit(self, net: nn.Module, windows: list[Tensor]) -> None:
        """Adapt `net`, in place, by a fixed number of steps: both gradients in each, as in the paper.

        The released code takes all steps by synthetic gradients first, and then all by the prototype.
        """
        optimizer = SGD(self.adapted(net), lr=self.options.rate, momentum=MOMENTUM, weight_decay=DECAY)
        wanted = self.options.adaptation
        kinds: list[str] = ["synthetic", "prototype"] if wanted == "both" else [wanted]
        stages = [[kind] for kind in kinds] if self.options.compat else [kinds]
        for stage in stages:
            for _ in range(self.options.steps):
                for window in windows:
                    self._add_gradients(net, window, stage, 1 / len(windows))
                optimizer.step()
                optimizer.zero_grad()

    def _add_gradients(self, net: nn.Module, window: Tensor, kinds: list[str], share: float) -> None:
        """Add the asked gradients of a window to those of the adapted weights."""
        features = self.point(net, window, self.first_state(1)).features
        total = torch.zeros_like(features)
        if "synthetic" in kinds:
            with torch.no_grad():
                total = total + self.gradients()(features.detach()) / self.options.gradient_scale
        if "prototype" in kinds:
            (near,) = torch.autograd.grad(self.distance(features), features, retain_graph=True)
            total = total + near
        features.backward(share * total, inputs=self.adapted(net))

    def states(self) -> list[State]:
        """The states that the windows of a recording begin with, taken in turn."""
        return [self.first_state(1)]

    def _device(self) -> torch.device:
        return next(self.net.parameters()).device


def _gradients(
    output: Tensor, inputs: Sequence[Tensor], told: Tensor | None = None, retain: bool = False
) -> list[Tensor]:
    """Gradients of `inputs`, from that of the output where it is told; in the precision of each step."""
    with torch.autocast(output.device.type, enabled=False):
        return list(torch.autograd.grad(output, inputs, told, retain_graph=retain))


def _detached(state: State) -> State:
    return None if state is None else state.detach()
