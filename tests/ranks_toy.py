"""A training in several processes: what tests/test_ranks.py starts with torchrun."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.training_toys import Batches, Plain, Spoiled, StopAfter, TinyNet, TwoOptimisers, settings, train
from training import ranks
from training.fit import FitResult
from training.updater import Updater
from utils.contracts import ClipBatch
from utils.errors import Interrupted, Stopped


class Shared:
    """Whole batches, of which this process takes its clips."""

    def __init__(self, whole: Batches) -> None:
        self.whole = whole

    def __len__(self) -> int:
        return len(self.whole)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[ClipBatch]:
        for batch in self.whole.epoch(epoch, first_step):
            mine = list(range(len(batch)))[ranks.rank() :: ranks.count()]
            yield dataclasses.replace(batch.select(mine or [0]), share=len(mine) / len(batch))


def gradients(size: int) -> dict[str, list[float]]:
    """Gradients of the first step of a net without batch norm and dropout, and its loss."""
    taken: dict[str, list[float]] = {}

    class Watched(Updater):
        def _step(self, optimizers: Any, params: list[Any], norm: Tensor) -> None:
            taken["gradient"] = torch.cat([p.grad.flatten() for p in params if p.grad is not None]).tolist()
            super()._step(optimizers, params, norm)

    torch.manual_seed(0)
    method = Plain(TinyNet(norm=False, dropout=0.0))
    updater = Watched(method, settings(), "cpu", total_steps=1, steps_per_epoch=1)
    batch = next(Shared(Batches(steps=1, size=size)).epoch(0))
    updater.start_batch(batch.share)
    terms = ranks.mean_terms(method.train_step(batch, updater), batch.share)
    return {**taken, "loss": [float(terms["loss"])]}


def summary(result: FitResult, method: torch.nn.Module) -> dict[str, Any]:
    return {"losses": result.step_losses, "state": {k: v.tolist() for k, v in method.state_dict().items()}}


def trained(folder: Path, batches: Batches, **changes: Any) -> dict[str, Any]:
    """Weights and losses of a training with two optimisers, dropout and batch norm."""
    kept = folder / "checkpoints" if ranks.rank() == 0 else None
    section = settings(epochs=2, checkpoint_steps=1, **changes)
    return summary(*train(kept, section, Shared(batches), make=TwoOptimisers, seed=1))


def work(task: str, folder: Path) -> dict[str, Any]:
    """One of the tasks that the tests ask for."""
    if task == "gradients":
        return {str(size): gradients(size) for size in (1, 2, 5)}
    if task == "train":
        return trained(folder, Batches(size=3))
    if task == "stop":
        try:
            trained(folder, StopAfter(5, size=3))
        except Interrupted as stop:
            return {"code": stop.exit_code}
    if task == "spoiled":
        try:
            trained(folder, Spoiled([(0, 2)]), learning_rate=0.01)
        except Stopped as stop:
            return {"error": str(stop)}
    raise ValueError(task)


def threads() -> list[str]:
    """Names of this process's threads, those of libraries too (Linux)."""
    return [file.read_text() for file in Path("/proc/self/task").glob("*/comm")]


def main(task: str, folder: Path) -> None:
    """Do the task, and write what came of it under this process's number."""
    ranks.start(torch.device("cpu"))
    try:
        answer = work(task, folder)
    finally:
        number = ranks.rank()
        ranks.stop()
    answer["threads"] = [name for name in threads() if "gloo" in name]
    (folder / f"{task}.{number}.json").write_text(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
