"""Training that was stopped, signalled or killed anywhere ends with the bits of the straight run."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import training_toys
from tests.training_toys import (
    Batches,
    Plain,
    StopAfter,
    TwoOptimisers,
    assert_same_bits,
    noisy_validation,
    settings,
    train,
)
from training.checkpoint import read_checkpoint
from utils import interrupt
from utils.contracts import ClipBatch
from utils.errors import Interrupted, UserError

VARIANTS: dict[str, dict[str, Any]] = {
    "one_cycle": {},
    "accumulate": {"accumulate": 3, "clip_norm": 0.5},
    "plateau": {"optimizer": "nadam", "scheduler": "reduce_on_plateau",
                "scheduler_options": {"patience": 0}},
    "sequential": {"optimizer": "sgd", "optimizer_options": {"momentum": 0.9}, "scheduler": "sequential",
                   "scheduler_options": {"milestones": [1], "schedulers": [
                       {"name": "linear"}, {"name": "step", "options": {"step_size": 1}}]}},
    "lbfgs": {"optimizer": "lbfgs", "optimizer_options": {"max_iter": 3}, "scheduler": "constant"},
    "bf16": {"amp": "bf16", "optimizer": "adamw"},
    "two_optimisers": {"optimizer": "rmsprop", "scheduler": "cyclic",
                       "scheduler_options": {"base_lr": 0.001, "step_size_up": 3}},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_resume_at_every_step_gives_the_bits_of_the_straight_run(
    variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after any of 12 steps and continued in fresh objects, all state ends the same."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    section = settings(**VARIANTS[variant])
    make = TwoOptimisers if variant == "two_optimisers" else Plain
    options: dict[str, Any] = {"make": make, "validate": noisy_validation}
    straight, _ = train(tmp_path / "straight", section, **options)
    expected = read_checkpoint(tmp_path / "straight" / "last.pt")
    for after in range(12):
        folder = tmp_path / f"after{after}"
        with pytest.raises(Interrupted):
            train(folder, section, StopAfter(after), **options)
        resumed, _ = train(folder, section, seed=99, **options)
        assert_same_bits(read_checkpoint(folder / "last.pt"), expected)
        assert resumed == straight
    best = read_checkpoint(tmp_path / "straight" / "best.pt")
    assert_same_bits(read_checkpoint(folder / "best.pt"), best)


def test_a_finished_run_takes_no_further_step(tmp_path: Path) -> None:
    """Started again after the last step, fit returns the same result without asking for a batch."""
    first, _ = train(tmp_path / "c", settings())
    again, _ = train(tmp_path / "c", settings(), StopAfter(0))
    assert again == first


def test_no_epochs_leave_a_checkpoint_of_the_first_weights(tmp_path: Path) -> None:
    """With epochs = 0 there is a best checkpoint to go on with."""
    result, method = train(tmp_path / "c", settings(epochs=0))
    assert result.steps == 0
    assert_same_bits(dict(method.state_dict()), dict(read_checkpoint(tmp_path / "c")["method"]))


class SignalledBatches(Batches):
    """Sends this process a signal while a batch is made."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def batch(self, epoch: int, index: int) -> ClipBatch:
        if (epoch, index) == (1, 2):
            os.kill(os.getpid(), self.number)
        return super().batch(epoch, index)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_in_training_saves_and_stops(number: int, code: int, tmp_path: Path) -> None:
    """SIGTERM and Ctrl-C end in Interrupted after the step, with the state saved there."""
    with interrupt.listening(), pytest.raises(Interrupted) as caught:
        train(tmp_path / "c", settings(), SignalledBatches(number))
    assert caught.value.exit_code == code
    assert read_checkpoint(tmp_path / "c" / "last.pt")["position"]["steps"] == 7


def test_a_signal_in_validation_saves_the_state_before_it(tmp_path: Path) -> None:
    """A validation that is interrupted is repeated on resuming, with the same bits."""
    section = settings(scheduler="reduce_on_plateau")
    straight, _ = train(tmp_path / "s", section, validate=noisy_validation)

    def interrupted() -> dict[str, float]:
        torch.rand(3)
        os.kill(os.getpid(), signal.SIGTERM)
        return noisy_validation()

    with interrupt.listening(), pytest.raises(Interrupted):
        train(tmp_path / "c", section, validate=interrupted)
    with interrupt.listening():
        resumed, _ = train(tmp_path / "c", section, validate=noisy_validation)
    assert resumed == straight


def start(folder: Path) -> BaseProcess:
    """The toy training as a process of its own, forked from a server that has torch imported."""
    folder.mkdir(exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training_toys", "torch._dynamo"])
    process = context.Process(target=training_toys.main, args=(folder,))
    process.start()
    return process


def ended(process: BaseProcess) -> None:
    """Wait for the end, which must be a good one."""
    process.join(120)
    assert process.exitcode == 0


def campaign(folder: Path, kills: int, seed: int) -> None:
    """Kill the program at random moments of its work, then let it end: the bits are the straight run's."""
    reference = folder / "reference"
    process = start(reference)
    wait_for_work(process, reference)
    began = time.perf_counter()
    ended(process)
    length_s = time.perf_counter() - began
    expected = read_checkpoint(reference / "checkpoints" / "last.pt")
    rng = np.random.default_rng(seed)
    died = 0
    for attempt in range(20 * kills):
        victim = folder / f"victim{died}"
        process = start(victim)
        wait_for_work(process, victim)
        time.sleep(float(rng.uniform(0, length_s)) / (1 + attempt % 4))
        process.kill()
        process.join(60)
        died += process.exitcode == -signal.SIGKILL
        if (victim / "result.json").exists() and process.exitcode == 0:
            compare(victim, reference, expected)
            shutil.rmtree(victim)
            continue
        ended(start(victim))
        compare(victim, reference, expected)
        if died == kills:
            return
    pytest.fail(f"only {died} of {kills} kills met the program at work")


def wait_for_work(process: BaseProcess, folder: Path) -> None:
    """Until the program writes into its folder, or has ended."""
    def stamp() -> list[int]:
        return [p.stat().st_mtime_ns for p in (folder / "log.jsonl", folder / "checkpoints") if p.exists()]

    before = stamp()
    while process.is_alive() and stamp() == before:
        time.sleep(0.005)


def compare(victim: Path, reference: Path, expected: dict[str, Any]) -> None:
    """Weights, optimiser, curves and the result file."""
    assert_same_bits(read_checkpoint(victim / "checkpoints" / "last.pt"), expected)
    assert_same_bits(read_checkpoint(victim / "checkpoints" / "best.pt"),
                     read_checkpoint(reference / "checkpoints" / "best.pt"))
    assert (victim / "result.json").read_bytes() == (reference / "result.json").read_bytes()
    assert not list((victim / "checkpoints").glob(".*.tmp"))


def test_killed_three_times_training_ends_with_the_same_bits(tmp_path: Path) -> None:
    """kill -9 at three random moments; the restart ends bit-identical."""
    campaign(tmp_path, kills=3, seed=1)


@pytest.mark.slow
def test_killed_forty_times_training_ends_with_the_same_bits(tmp_path: Path) -> None:
    """kill -9 at forty random moments; every chain of restarts ends bit-identical."""
    campaign(tmp_path, kills=40, seed=2)


def test_longer_training_needs_a_schedule_that_allows_it(tmp_path: Path) -> None:
    """With a constant rate a run goes on for more epochs; a one-cycle, laid out over them, refuses."""
    for scheduler, allowed in (("constant", True), ("one_cycle", False), ("cosine_annealing", False)):
        folder = tmp_path / scheduler
        train(folder, settings(epochs=1, scheduler=scheduler))
        if allowed:
            assert train(folder, settings(epochs=2, scheduler=scheduler))[0].epochs == 2
        else:
            with pytest.raises(UserError, match=r"train\.epochs"):
                train(folder, settings(epochs=2, scheduler=scheduler))
