"""A tiny net, methods and batches for tests of the loop, and a training to be killed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nets.methods.base import Method
from tests.fakes import clip_batch
from training.checkpoint import Checkpoints
from training.fit import FitResult, fit
from training.updater import Updater
from utils import interrupt
from utils.contracts import ClipBatch, InputSpec
from utils.errors import Interrupted
from utils.runlog import RunLog
from utils.seeding import sample_rng, seed_everything
from utils.settings import Train

FRAMES, SIZE = 6, 6


class TinyNet(nn.Module):
    """(B, 3, T, H, W) -> (B, T), with running statistics and dropout."""

    def __init__(self, norm: bool = True, dropout: float = 0.3) -> None:
        super().__init__()
        self.input_spec = InputSpec(frames=FRAMES, size=SIZE)
        self.conv = nn.Conv3d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm3d(4) if norm else nn.Identity()
        self.drop = nn.Dropout(dropout)
        self.last = nn.Linear(4, 1)

    def forward(self, video: Tensor) -> Tensor:
        hidden = self.drop(torch.relu(self.norm(self.conv(video)))).mean((3, 4))
        return self.last(hidden.transpose(1, 2)).squeeze(-1)


class MatrixNet(nn.Module):
    """A net of matrices only, for optimisers that take nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.input_spec = InputSpec(frames=FRAMES, size=SIZE)
        self.last = nn.Linear(3, 1, bias=False)

    def forward(self, video: Tensor) -> Tensor:
        return self.last(video.mean((3, 4)).transpose(1, 2)).squeeze(-1)


class Plain(Method):
    """Mean squared error."""

    def loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        error = (self.net(batch.video) - batch.pulse).square().mean()
        return {"loss": error, "size": self.net.last.weight.square().sum()}


class TwoOptimisers(Method):
    """The first layer by gradients of its own, the rest by the loss; a buffer that follows the steps."""

    reads_gradients = True

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        self.register_buffer("prototype", torch.zeros(FRAMES))

    def optimizers(self, make: Callable[..., torch.optim.Optimizer]) -> dict[str, torch.optim.Optimizer]:
        rest = [*self.net.norm.parameters(), *self.net.last.parameters()]
        return {"first": make(self.net.conv.parameters(), lr=1e-3, optimizer="sgd", momentum=0.9,
                              scheduler="cosine_annealing", scheduler_options={"T_max": 2, "eta_min": 1e-4}),
                "rest": make(rest)}

    def train_step(self, batch: ClipBatch, updater: Any) -> dict[str, Tensor]:
        waveforms = self.net(batch.video)
        loss = (waveforms - batch.pulse).square().mean()
        grads = torch.autograd.grad(loss, list(self.net.conv.parameters()), retain_graph=True)
        updater.minimise(loss, "rest")
        updater.apply("first", [g + 0.01 * torch.randn_like(g) for g in grads])
        self.prototype.mul_(0.8).add_(waveforms.detach().mean(0), alpha=0.2)
        return {"loss": loss}


class Batches:
    """Batches that are a function of (seed, epoch, index)."""

    def __init__(self, steps: int = 4, size: int = 2) -> None:
        self.steps, self.size = steps, size

    def __len__(self) -> int:
        return self.steps

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[ClipBatch]:
        for index in range(first_step, self.steps):
            yield self.batch(epoch, index)

    def batch(self, epoch: int, index: int) -> ClipBatch:
        rng = sample_rng(0, epoch, index)
        video = torch.from_numpy(rng.standard_normal((self.size, 3, FRAMES, SIZE, SIZE), dtype="float32"))
        pulse = video[:, 0].mean((2, 3)) * 3 + 0.5
        return ClipBatch(
            video, pulse, torch.ones(self.size, dtype=torch.bool), torch.full((self.size,), 30.0),
            torch.full((self.size,), 60.0), [f"toy.e{epoch}b{index}c{c}" for c in range(self.size)],
            [10 * c for c in range(self.size)])


class StopAfter(Batches):
    """Raises Interrupted instead of delivering batch number `after` (counted over the run)."""

    def __init__(self, after: int, steps: int = 4, size: int = 2) -> None:
        super().__init__(steps, size)
        self.after = after

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[ClipBatch]:
        for index, batch in enumerate(super().epoch(epoch, first_step), start=first_step):
            if epoch * self.steps + index == self.after:
                raise Interrupted(143)
            yield batch


class NoisyClips(StopAfter):
    """Two steps an epoch of clips as a net wants them, each batch with noise of its own."""

    def __init__(self, spec: InputSpec, after: int = 10**6, noise: float = 1.0) -> None:
        super().__init__(after, steps=2)
        self.spec, self.noise = spec, noise

    def batch(self, epoch: int, index: int) -> ClipBatch:
        made = clip_batch(self.spec)
        drawn = torch.from_numpy(sample_rng(0, epoch, index).standard_normal(made.video.shape))
        return dataclasses.replace(made, video=made.video + self.noise * drawn.float(), epoch=epoch)


class Spoiled(Batches):
    """One clip of the given batches holds a NaN."""

    def __init__(self, spoiled: Iterable[tuple[int, int]], steps: int = 4) -> None:
        super().__init__(steps)
        self.spoiled = set(spoiled)

    def batch(self, epoch: int, index: int) -> ClipBatch:
        batch = super().batch(epoch, index)
        if (epoch, index) in self.spoiled:
            batch.video[1, 0, 0, 0, 0] = torch.nan
        return batch


def settings(**changes: Any) -> Train:
    """The train section of these tests."""
    return Train(**{"epochs": 3, "batch": 2, "learning_rate": 0.01, **changes})


def train(
    folder: Path | None, section: Train, batches: Batches | None = None, *,
    method: Method | None = None, make: Callable[[nn.Module], Method] = Plain,
    validate: Callable[[], dict[str, float]] | None = None, seed: int = 1, log: Path | None = None,
    **options: Any,
) -> tuple[FitResult, Method]:
    """One call of `fit` with everything made anew from `seed`."""
    torch.set_num_threads(1)
    seed_everything(seed)
    method = method or make(TinyNet())
    batches = batches or Batches()
    updater = Updater(method, section, "cpu", total_steps=section.epochs * len(batches),
                      steps_per_epoch=len(batches))
    checkpoints = None if folder is None else Checkpoints(folder, {"net": "tiny"})
    log = log or (Path("/dev/null") if folder is None else folder.parent / "log.jsonl")
    result = fit(method, updater, batches, settings=section, device="cpu", checkpoints=checkpoints,
                 log=RunLog(log), every=3, progress=False,
                 validate=None if validate is None else lambda epoch: validate(), **options)
    return result, method


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Every tensor and number of a nested state, by its path."""
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list | tuple):
        parts = enumerate(value)
    else:
        return {path: value}
    return {k: v for key, part in parts for k, v in leaves(part, f"{path}/{key}").items()}


def assert_same_bits(a: Any, b: Any) -> None:
    """Every leaf equal, NaN to NaN."""
    first, second = leaves(a), leaves(b)
    assert first.keys() == second.keys()
    for path, value in first.items():
        other = second[path]
        if isinstance(value, Tensor):
            assert value.dtype == other.dtype, path
            assert np.array_equal(value.float().numpy(), other.float().numpy(), equal_nan=True), path
        else:
            assert value == other or (value != value and other != other), path


def noisy_validation() -> dict[str, float]:
    """Metrics that depend on, and use up, the global random numbers."""
    interrupt.check()
    return {"loss": float(torch.rand(())), "mae_bpm": float(torch.rand(()))}


def main(folder: Path) -> None:
    """Train to the end and write the result: what the campaign of kills starts again and again."""
    with interrupt.listening():
        section = settings(epochs=4, checkpoint_steps=2, accumulate=2, scheduler="cosine_annealing")
        result, _ = train(folder / "checkpoints", section, Batches(steps=5), validate=noisy_validation)
    (folder / "result.json").write_text(json.dumps([*result.history, result.step_losses]))
