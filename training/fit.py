"""The loop: one for every method. It can stop anywhere and goes on with the same bits."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from training import ranks
from training.ahead import Ahead
from training.checkpoint import Checkpoints
from training.faults import NonFinite, memory_advice, name_clips
from training.means import Curve, Means, plain
from training.tracking import NullTracker, Tracker
from training.updater import Updater
from utils.contracts import BatchSource, ClipBatch
from utils.errors import Interrupted
from utils.runlog import Progress, RunLog, say, warn
from utils.seeding import rng_state, set_rng_state
from utils.settings import Train

Validate = Callable[[int], dict[str, float]]
Rank = tuple[int, float]


@dataclass
class Position:
    """Where the loop stands: whole epochs done, batches of the next one, batches in all.

    rank: how good the best epoch was, see `_rank`; waited: validations since; skipped: batches that were
    not finite; history: per epoch the means of the terms, the rates and what validation gave.
    """

    epoch: int = 0
    step: int = 0
    steps: int = 0
    rank: Rank | None = None
    best_epoch: int = 0
    waited: int = 0
    skipped: int = 0
    stopped_early: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class FitResult:
    """What training came to; the method holds the last weights, `checkpoints.best` the best.

    best_epoch counts from 1. history: one entry an epoch: {"epoch", "train": means of the terms, "lr": rates
    by optimiser, "valid": metrics or None}. step_losses: the loss of every step that was not skipped.
    """

    epochs: int
    steps: int
    best_epoch: int
    skipped: int
    stopped_early: bool
    history: list[dict[str, Any]]
    step_losses: list[float]


def fit(
    method: nn.Module, updater: Updater, batches: BatchSource, *, settings: Train,
    device: torch.device | str, checkpoints: Checkpoints | None, log: RunLog, every: int = 10,
    progress: bool = True, validate: Validate | None = None, tracker: Tracker | None = None, seed: int = 0,
) -> FitResult:
    """Train `method` until its epochs are done, going on from the latest checkpoint where there is one.

    checkpoints: None keeps nothing. validate: of an epoch, counted from 1, metrics by name, lower is better;
    called with the method in evaluation mode, without gradients. every: batches between two log lines.
    With several processes `batches` are each one's share, only the first has checkpoints, and random
    numbers follow from `seed`.
    Raises Interrupted (state saved), NonFinite, and Stopped for a full disk or memory; all can be resumed.
    """
    loop = _Loop(method, updater, batches, settings, torch.device(device), checkpoints, log, every,
                 progress, validate, tracker or NullTracker(), seed)
    return loop.run()


@dataclass
class _Loop:
    method: nn.Module
    updater: Updater
    batches: BatchSource
    settings: Train
    device: torch.device
    checkpoints: Checkpoints | None
    log: RunLog
    every: int
    progress: bool
    validate: Validate | None
    tracker: Tracker
    seed: int
    at: Position = field(default_factory=Position)
    means: Means = field(default_factory=Means)
    curve: Curve = field(default_factory=Curve)

    def run(self) -> FitResult:
        """All epochs that are left."""
        self._restore()
        if mode := self.settings.compile:
            how = "default" if mode is True else mode
            self.method.net.compile(mode=how)  # type: ignore[operator, union-attr]
        while self.at.epoch < self.settings.epochs and not self.at.stopped_early:
            self._epoch()
        at = self.at
        return FitResult(at.epoch, at.steps, at.best_epoch, at.skipped, at.stopped_early, at.history,
                         self.curve.read())

    def _restore(self) -> None:
        """Go on from the latest checkpoint, or write the first one."""
        state = ranks.from_first(self.checkpoints.load_latest() if self.checkpoints else None)
        if state is None:
            return self._save(self._state(), best=True)
        self.method.load_state_dict(state["method"])
        self.updater.load_state_dict(state["updater"])
        self.means.load_state_dict(state["means"], self.device)
        self.curve.load_state_dict(state["curve"])
        self.at = Position(**state["position"])
        set_rng_state(state["rng"])
        self.log.write("resumed", epoch=self.at.epoch + 1, step=self.at.step)
        return None

    def _epoch(self) -> None:
        """The rest of one epoch, its validation, its checkpoint."""
        number, start = self.at.epoch + 1, time.perf_counter()
        bar = Progress(len(self.batches), f"epoch {number}/{self.settings.epochs}", self.progress)
        self.method.train()
        drawn = self.batches.epoch(self.at.epoch, self.at.step)
        ahead = Ahead(drawn, self.device, self.settings.channels_last)
        self.updater.meanwhile = ahead.fetch
        try:
            with contextlib.closing(bar):
                bar.step(self.at.step)
                for batch in ahead:
                    self._batch(batch, bar)
        except Interrupted:
            self._save(self._state())
            raise
        self._read(start=None)
        seconds = time.perf_counter() - start
        self._end_epoch(self._validated(), seconds)

    def _batch(self, batch: ClipBatch, bar: Progress) -> None:
        """One batch, and what is due after it."""
        start = time.perf_counter()
        terms = self._learn(batch)
        self.at.step += 1
        self.at.steps += 1
        self.updater.finish_batch(last=self.at.step == len(self.batches))
        if terms is not None:
            self.means.add(terms)
            self.curve.add(terms["loss"])
        shown = self._read(start) if self.at.steps % self.every == 0 else {}
        bar.step(1, **{name: f"{value:.4f}" for name, value in shown.items()})
        if self.settings.checkpoint_steps and self.at.steps % self.settings.checkpoint_steps == 0:
            self._save(self._state())
        ranks.stop_if_asked(due=self.at.steps % self.every == 0)

    def _learn(self, batch: ClipBatch) -> dict[str, Tensor] | None:
        """The method's step; None when the batch was skipped."""
        skip = self.settings.non_finite == "skip"
        # A forward pass with NaN has already entered the running statistics when the guard sees it.
        before = {name: b.clone() for name, b in self.method.named_buffers()} if skip else {}
        ranks.draw_apart(self.seed, self.at.steps)
        self.updater.start_batch(batch.share)
        try:
            with memory_advice(self._place(), len(batch), tuple(batch.video.shape[1:])):
                step: Callable[..., dict[str, Tensor]] = self.method.train_step  # type: ignore[assignment]
                with self.updater.autocast():
                    terms = step(batch, self.updater)
            ranks.mean_buffers(self.method, batch.share)
            return ranks.mean_terms(terms, batch.share)
        except NonFinite as error:
            for name, buffer in self.method.named_buffers():
                if name in before:
                    buffer.copy_(before[name])
            self._not_finite(error, batch)
            return None

    def _not_finite(self, error: NonFinite, batch: ClipBatch) -> None:
        """Count a batch that was not finite, or stop; both name its recordings."""
        where = f" at {self._place()}, with {name_clips(batch)}"
        self.log.write("not_finite", term=error.term, epoch=self.at.epoch + 1, step=self.at.step + 1,
                       recordings=batch.recording)
        if self.settings.non_finite == "stop":
            raise NonFinite(error.term, f"{where}; no step was taken") from error
        self.at.skipped += 1
        warn(f"{error.term} is not finite{where}; batch skipped ({self.at.skipped} so far)")
        if self.at.skipped > self.settings.max_skipped:
            raise NonFinite(error.term, f"{where}; more than train.max_skipped = "
                            f"{self.settings.max_skipped} batches were skipped") from error

    def _read(self, start: float | None) -> dict[str, float]:
        """Read the means; log them as a step when `start`, the beginning of this step, is given."""
        try:
            shown = self.means.read()
        except NonFinite as error:
            raise NonFinite(error.term, f" in the {self.every} steps up to {self._place()}") from None
        if start is not None and shown:
            rates = self.updater.learning_rates()
            self.log.write("step", epoch=self.at.epoch + 1, step=self.at.steps, terms=shown, lr=rates,
                           step_s=round(time.perf_counter() - start, 4))
            flat = {f"train/{name}": value for name, value in shown.items()}
            self.tracker.log({**flat, **{f"lr/{n}": r for n, r in rates.items()}}, self.at.steps)
        return shown

    def _validated(self) -> dict[str, float] | None:
        """Metrics of this epoch, where it is one to validate after; an interrupted one is repeated."""
        number = self.at.epoch + 1
        due = number % self.settings.validate_every == 0 or number == self.settings.epochs
        if self.validate is None or not due:
            return None
        before, start = self._state(), time.perf_counter()
        self.method.eval()
        try:
            ranks.stop_if_asked()
            with torch.no_grad(), memory_advice(f"validation after epoch {number}"):
                metrics = ranks.measured(self.validate, number)
        except Interrupted:
            self._save(before)
            raise
        self.log.write("validation", epoch=number, metrics=plain(metrics),
                       seconds=round(time.perf_counter() - start, 3))
        self.tracker.log({f"valid/{name}": value for name, value in metrics.items()}, self.at.steps)
        return metrics

    def _end_epoch(self, metrics: dict[str, float] | None, seconds: float) -> None:
        """Judge the epoch, advance the schedules, save."""
        at, train = self.at, self.means.whole()
        rates, at.epoch, at.step, self.means = self.updater.learning_rates(), at.epoch + 1, 0, Means()
        at.history.append({"epoch": at.epoch, "train": train, "lr": rates,
                           "valid": None if metrics is None else plain(metrics)})
        best = self._judge(metrics) if metrics is not None or self.validate is None else False
        self.updater.finish_epoch(self._monitored(metrics, train))
        patience = self.settings.patience
        at.stopped_early = patience is not None and at.waited >= patience
        self.log.write("epoch", epoch=at.epoch, terms=train, lr=rates, seconds=round(seconds, 3),
                       skipped=at.skipped, best=best)
        if at.stopped_early:
            say(f"stopped early: no gain in {patience} validations since epoch {at.best_epoch}")
        self._save(self._state(), best)
        ranks.stop_if_asked()

    def _judge(self, metrics: dict[str, float] | None) -> bool:
        """Whether this epoch is the best so far; without validation every epoch is."""
        at = self.at
        rank = _rank(metrics or {}, self.settings.monitor, at.epoch)
        best = at.rank is None or rank < at.rank
        at.waited = 0 if best else at.waited + 1
        if best:
            at.rank, at.best_epoch = rank, at.epoch
        return best

    def _monitored(self, metrics: dict[str, float] | None, train: dict[str, float]) -> float | None:
        """What a plateau is judged by: the metric the best epoch was chosen by, or the training loss."""
        if self.validate is None:
            return train.get("loss")
        order, value = _rank(metrics or {}, self.settings.monitor, self.at.epoch)
        same = self.at.rank is not None and order == self.at.rank[0] < 2
        return value if same else None

    def _state(self) -> dict[str, Any]:
        """All that the rest of the training depends on."""
        return {
            "method": self.method.state_dict(), "updater": self.updater.state_dict(),
            "means": self.means.state_dict(), "curve": self.curve.state_dict(),
            "position": dataclasses.asdict(self.at), "rng": rng_state(),
        }

    def _save(self, state: dict[str, Any], best: bool = False) -> None:
        """Write a checkpoint, unless the last step has blown up the weights."""
        for name, value in state["method"].items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise NonFinite(name, f" after {self._place()}; nothing was saved, the last checkpoint "
                                "is good")
        if self.checkpoints:
            self.checkpoints.save(state, best)

    def _place(self) -> str:
        return f"epoch {self.at.epoch + 1} step {self.at.step + 1}"


def _rank(metrics: dict[str, float], monitor: str, epoch: int) -> Rank:
    """How good an epoch is, lower is better: by the monitored metric, else by the loss, else the later."""
    for order, name in enumerate(dict.fromkeys((monitor, "loss"))):
        value = metrics.get(name)
        if value is not None and math.isfinite(value):
            return order, float(value)
    return 2, -float(epoch)
