"""The loop: exact resume, interrupts, guards, choice of the best, logs."""

from __future__ import annotations

import json
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
from torch import Tensor, nn

from nets.methods.base import Method
from tests import training_toys, wandb_toys
from tests.training_toys import (
    Batches,
    MatrixNet,
    Plain,
    Spoiled,
    StopAfter,
    TinyNet,
    TwoOptimisers,
    noisy_validation,
    settings,
    train,
)
from training.checkpoint import read_checkpoint
from training.precision import LossScale
from training.tracking import NullTracker, WandbTracker, make_tracker
from training.updater import NonFinite, Updater, resolve_amp
from utils import interrupt
from utils.contracts import ClipBatch
from utils.errors import Interrupted, Stopped, UserError
from utils.settings import Logging

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


def test_training_changes_every_weight_and_lowers_the_loss(tmp_path: Path) -> None:
    """Forty epochs on the toy data fit it."""
    method = Plain(TinyNet(dropout=0.0))
    before = {name: p.detach().clone() for name, p in method.named_parameters()}
    result, _ = train(None, settings(epochs=40), method=method)
    assert all(not torch.equal(before[name], p) for name, p in method.named_parameters())
    assert result.history[-1]["train"]["loss"] < 0.3 * result.history[0]["train"]["loss"]
    assert len(result.step_losses) == result.steps == 160


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


def test_a_nan_in_a_clip_stops_before_any_step_and_names_it(tmp_path: Path) -> None:
    """The weights are those before the batch, the message names recordings and the guilty clip."""
    method = Plain(TinyNet())
    with pytest.raises(NonFinite, match=r"loss is not finite at epoch 2 step 2.*toy\.e1b1c0 from frame 0, "
                       r"toy\.e1b1c1 from frame 10 \(its data is not finite\)") as caught:
        train(tmp_path / "c", settings(checkpoint_steps=1), Spoiled([(1, 1)]), method=method)
    saved = read_checkpoint(tmp_path / "c" / "last.pt")
    assert saved["position"]["steps"] == 5
    assert caught.value.exit_code == 4
    for name, parameter in method.named_parameters():
        assert torch.equal(parameter, saved["method"][name])


class InfiniteGradient(Method):
    """A finite loss whose gradient is infinite."""

    def loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        loss = self.net(batch.video).square().mean() + (self.net.last.bias - self.net.last.bias).sqrt().sum()
        return {"loss": loss}


def test_an_infinite_gradient_of_a_finite_loss_is_caught() -> None:
    """The guard looks at the gradient too, and names the parameter."""
    with pytest.raises(NonFinite, match=r"gradient of net\.last\.bias"):
        train(None, settings(), make=InfiniteGradient)


class BadTerm(Plain):
    """A term that is only logged is NaN."""

    def loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        return {**super().loss(batch), "smoothness": torch.tensor(torch.nan)}


def test_a_logged_term_that_is_not_finite_is_named() -> None:
    """A NaN in a term beside the loss stops the run with the name of the term."""
    with pytest.raises(NonFinite, match="smoothness"):
        train(None, settings(), make=BadTerm)


class BlownUp(Plain):
    """The weights overflow in the last step of the first epoch."""

    def train_step(self, batch: ClipBatch, updater: Any) -> dict[str, Tensor]:
        terms = super().train_step(batch, updater)
        if batch.recording[0].startswith("toy.e0b3"):
            self.net.last.weight.data.fill_(torch.inf)
        return terms


def test_blown_up_weights_are_not_saved(tmp_path: Path) -> None:
    """A checkpoint never holds weights that are not finite."""
    with pytest.raises(NonFinite, match=r"net\.last\.weight"):
        train(tmp_path / "c", settings(), make=BlownUp)
    weights = read_checkpoint(tmp_path / "c" / "last.pt")["method"]
    assert all(bool(torch.isfinite(v).all()) for v in weights.values())


@pytest.mark.parametrize("accumulate", [1, 2])
def test_skipping_counts_and_leaves_weights_and_statistics_alone(accumulate: int, tmp_path: Path) -> None:
    """A batch with NaN changes neither weights nor running statistics; the run goes on."""
    section = settings(non_finite="skip", accumulate=accumulate, epochs=2)
    result, method = train(tmp_path / "c", section, Spoiled([(0, 1), (1, 0)]))
    assert result.skipped == 2
    assert len(result.step_losses) == 6
    assert all(bool(torch.isfinite(v).all()) for v in method.state_dict().values())


def test_too_many_skipped_batches_stop() -> None:
    """One more than max_skipped ends the run."""
    section = settings(non_finite="skip", max_skipped=1)
    with pytest.raises(NonFinite, match="max_skipped = 1"):
        train(None, section, Spoiled([(0, 1), (0, 2)]))


def test_a_skipped_batch_is_as_if_it_had_not_been(tmp_path: Path) -> None:
    """Without dropout and with a constant rate, skipping the last batch equals a shorter epoch."""
    section = settings(non_finite="skip", scheduler="constant", epochs=1)
    torch.manual_seed(5)
    first, second = Plain(TinyNet(dropout=0.0)), Plain(TinyNet(dropout=0.0))
    second.load_state_dict(first.state_dict())
    train(None, section, Spoiled([(0, 3)]), method=first)
    train(None, section, Batches(steps=3), method=second)
    assert_same_bits(dict(first.state_dict()), dict(second.state_dict()))


def step_once(section: Any, batches: list[ClipBatch], method: Method) -> None:
    """The batches as one epoch, without the loop."""
    updater = Updater(method, section, "cpu", total_steps=len(batches), steps_per_epoch=len(batches))
    for index, batch in enumerate(batches):
        method.train_step(batch, updater)
        updater.finish_batch(last=index == len(batches) - 1)


@pytest.mark.parametrize("group", [2, 3])
def test_accumulation_equals_a_larger_batch(group: int) -> None:
    """Without batch statistics, two batches of 2 give the step of one of 4, also in a group begun."""
    small, large = [Batches().batch(0, i) for i in range(2)], Batches().batch(0, 0)
    large.video = torch.cat([b.video for b in small])
    large.pulse = torch.cat([b.pulse for b in small])
    torch.manual_seed(0)
    a, b = (Plain(TinyNet(norm=False, dropout=0.0)) for _ in range(2))
    b.load_state_dict(a.state_dict())
    plain = {"optimizer": "sgd", "scheduler": "constant", "learning_rate": 0.1}
    step_once(settings(accumulate=group, **plain), small, a)
    step_once(settings(**plain), [large], b)
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-7)


def test_clipping_limits_the_step() -> None:
    """With SGD at rate 1 the weights move by the clipping norm exactly."""
    method = Plain(TinyNet(norm=False, dropout=0.0))
    before = [p.detach().clone() for p in method.parameters()]
    section = settings(optimizer="sgd", scheduler="constant", learning_rate=1.0, clip_norm=0.01)
    step_once(section, [Batches().batch(0, 0)], method)
    moved = torch.cat([(p.detach() - q).flatten() for p, q in zip(method.parameters(), before, strict=True)])
    assert float(moved.norm()) == pytest.approx(0.01, rel=1e-3)


def test_minimise_leaves_other_parameters_alone() -> None:
    """Only the parameters of the named optimisers get gradients and move."""
    method = TwoOptimisers(TinyNet())
    updater = Updater(method, settings(), "cpu", 4, 4)
    batch = Batches().batch(0, 0)
    before = {name: p.detach().clone() for name, p in method.named_parameters()}
    hidden = method.net.conv(batch.video)
    hidden.retain_grad()
    loss = method.net.last(hidden.mean((3, 4)).transpose(1, 2)).square().mean()
    updater.minimise(loss, "first")
    moved = {name for name, p in method.named_parameters() if not torch.equal(before[name], p)}
    assert moved == {"net.conv.weight", "net.conv.bias"}
    assert hidden.grad is not None, "gradients that arrive inside the net can be read"
    assert all(p.grad is None for p in method.parameters())


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_mixed_precision_sees_the_weights_of_the_last_step(optimizer: str) -> None:
    """Within one batch, a forward pass after a step uses the new weights, not autocast's copies."""
    method, batch = Plain(TinyNet(dropout=0.0)), Batches().batch(0, 0)
    section = settings(amp="bf16", optimizer=optimizer, learning_rate=0.5, scheduler="constant")
    updater = Updater(method, section, "cpu", 4, 4)
    with updater.autocast():
        before = method.net(batch.video)
        method.train_step(batch, updater)
        inside = method.net(batch.video)
    with updater.autocast():
        fresh = method.net(batch.video)
    assert torch.equal(inside, fresh) and not torch.equal(inside, before)


def test_several_steps_a_batch_refuse_accumulation() -> None:
    """Adapting several times on one batch cannot be accumulated, and says so."""

    class Twice(Plain):
        def train_step(self, batch: ClipBatch, updater: Any) -> dict[str, Tensor]:
            super().train_step(batch, updater)
            return super().train_step(batch, updater)

    with pytest.raises(UserError, match=r"train\.accumulate must be 1"):
        train(None, settings(accumulate=2), make=Twice)
    with pytest.raises(UserError, match=r"train\.accumulate must be 1"):
        train(None, settings(accumulate=2), make=TwoOptimisers)


def test_unknown_optimiser_name_is_an_error() -> None:
    """A method that names an optimiser it did not make is told which there are."""
    updater = Updater(Plain(TinyNet()), settings(), "cpu", 4, 4)
    with pytest.raises(KeyError, match="this method made net"):
        updater.minimise(torch.zeros((), requires_grad=True), "head")


def test_fp16_is_refused_where_it_cannot_work() -> None:
    """On the CPU fp16 is an error that names what to set instead."""
    with pytest.raises(UserError, match="needs a CUDA device"):
        Updater(Plain(TinyNet()), settings(amp="fp16"), "cpu", 4, 4)
    assert resolve_amp("fp16", "cuda") == "fp16"
    assert resolve_amp("auto", "cpu") in ("bf16", "off")


def test_fp16_overflow_skips_the_step_and_halves_the_scale() -> None:
    """With a loss scale, an infinite gradient of a finite loss costs the step only."""
    method = Plain(TinyNet())
    updater = Updater(method, settings(), "cpu", 4, 4)
    updater._scale = LossScale()
    updater._scale.factor = 2.0**140  # overflows float32
    before = [p.detach().clone() for p in method.parameters()]
    method.train_step(Batches().batch(0, 0), updater)
    assert updater._scale.factor == 2.0**139
    assert all(torch.equal(p, q) for p, q in zip(method.parameters(), before, strict=True))
    restored = Updater(method, settings(), "cpu", 4, 4)
    restored._scale = LossScale()
    restored.load_state_dict(updater.state_dict())
    assert restored._scale.factor == 2.0**139


def test_a_loss_scale_gives_the_step_without_one() -> None:
    """Gradients are unscaled before they are clipped and used."""
    torch.manual_seed(3)
    a, b = (Plain(TinyNet(dropout=0.0)) for _ in range(2))
    b.load_state_dict(a.state_dict())
    section = settings(clip_norm=0.1)
    updater = Updater(a, section, "cpu", 4, 4)
    updater._scale = LossScale()
    a.train_step(Batches().batch(0, 0), updater)
    b.train_step(Batches().batch(0, 0), Updater(b, section, "cpu", 4, 4))
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-6)


def scripted(values: list[dict[str, float]]) -> Any:
    """A validation that gives these metrics one after the other."""
    left = iter(values)
    return lambda: next(left)


@pytest.mark.parametrize(("metrics", "best"), [
    ([{"mae_bpm": 3.0, "loss": 1}, {"mae_bpm": 2.0, "loss": 2}, {"mae_bpm": 2.0, "loss": 0}], 2),
    ([{"loss": 0.5, "mae_bpm": float("nan")}, {"loss": 0.1}, {"mae_bpm": 90.0, "loss": 9}], 3),
    ([{"loss": 0.5}, {"loss": 0.1, "mae_bpm": float("nan")}, {"loss": 0.3}], 2),
    ([{"loss": float("nan")}] * 3, 3),
])
def test_the_best_epoch_is_chosen_on_validation(metrics: list, best: int, tmp_path: Path) -> None:
    """Lowest monitored value, first of equals; the loss where that is missing; the later without any."""
    result, _ = train(tmp_path / "c", settings(), validate=scripted(metrics))
    assert result.best_epoch == best
    assert read_checkpoint(tmp_path / "c")["position"]["epoch"] == best


def test_without_validation_the_best_is_the_last(tmp_path: Path) -> None:
    """best.pt and last.pt hold the same."""
    result, _ = train(tmp_path / "c", settings())
    assert result.best_epoch == 3
    assert (tmp_path / "c" / "best.pt").read_bytes() == (tmp_path / "c" / "last.pt").read_bytes()


def test_patience_stops_early_and_stays_stopped(tmp_path: Path) -> None:
    """Two validations without gain end the run; started again it stays ended."""
    values = [{"mae_bpm": v} for v in (5.0, 4.0, 4.5, 6.0, 1.0)]
    section = settings(epochs=5, patience=2)
    result, _ = train(tmp_path / "c", section, validate=scripted(values))
    assert (result.epochs, result.best_epoch, result.stopped_early) == (4, 2, True)
    again, _ = train(tmp_path / "c", section, StopAfter(0), validate=scripted([]))
    assert again == result


def test_validation_runs_every_n_epochs_and_after_the_last() -> None:
    """With validate_every = 2 and five epochs: after 2, 4 and 5, in evaluation mode, without gradients."""
    method = Plain(TinyNet())
    modes = []

    def validate() -> dict[str, float]:
        modes.append((method.training, torch.is_grad_enabled()))
        return {"mae_bpm": 1.0}

    result, _ = train(None, settings(epochs=5, validate_every=2), method=method, validate=validate)
    assert [entry["epoch"] for entry in result.history if entry["valid"]] == [2, 4, 5]
    assert modes == [(False, False)] * 3
    assert method.training is False


def test_running_out_of_memory_says_what_to_change() -> None:
    """Every way of running out of memory ends in a named stop with advice."""
    errors = [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"),
              RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")]
    for error in errors:

        class Hungry(Plain):
            def loss(self, batch: ClipBatch, error: Exception = error) -> dict[str, Tensor]:
                raise error

        with pytest.raises(Stopped, match=r"epoch 1 step 1, 2 clips of 3x6x6x6.*train\.batch"):
            train(None, settings(), make=Hungry)


def test_other_faults_pass_unchanged() -> None:
    """A fault of a method is not dressed up."""

    class Broken(Plain):
        def loss(self, batch: ClipBatch) -> dict[str, Tensor]:
            raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        train(None, settings(), make=Broken)


def test_the_log_holds_steps_epochs_and_validation(tmp_path: Path) -> None:
    """Every line is strict JSON; rates, terms and times are there."""
    train(None, settings(), log=tmp_path / "log.jsonl",
          validate=scripted([{"mae_bpm": float("nan"), "loss": 1.0}] * 3))

    def refuse(word: str) -> None:
        raise AssertionError(word)

    lines = [json.loads(line, parse_constant=refuse) for line in (tmp_path / "log.jsonl").open()]
    steps = [line for line in lines if line["event"] == "step"]
    assert [line["step"] for line in steps] == [3, 6, 9, 12]
    assert set(steps[0]["terms"]) == {"loss", "size"} and "net" in steps[0]["lr"]
    assert [line["event"] for line in lines].count("epoch") == 3
    assert [line["metrics"]["mae_bpm"] for line in lines if line["event"] == "validation"] == [None] * 3


def test_the_one_cycle_ends_where_it_should() -> None:
    """After the last step of a run with partial groups the rate is at its lowest."""
    method = Plain(TinyNet())
    section = settings(accumulate=3)
    updater = Updater(method, section, "cpu", total_steps=12, steps_per_epoch=4)
    for _ in range(3):
        for index in range(4):
            method.train_step(Batches().batch(0, index), updater)
            updater.finish_batch(last=index == 3)
        updater.finish_epoch(None)
    assert updater.learning_rates()["net"] == pytest.approx(0.01 / 25 / 1e4, rel=1e-6)


def test_channels_last_moves_only_the_layout() -> None:
    """Weights of 3D convolutions change their strides and keep their values and identity."""
    method = Plain(TinyNet())
    weight, before = method.net.conv.weight, method.net.conv.weight.detach().clone()
    Updater(method, settings(channels_last=True), "cpu", 4, 4)
    assert method.net.conv.weight is weight
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(weight, before)


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


def test_the_null_tracker_is_used_without_wandb(tmp_path: Path) -> None:
    """wandb is not started when it is switched off."""
    assert isinstance(make_tracker(Logging(), tmp_path, "run", {}), NullTracker)


def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WandbTracker:
    """A tracker that writes below tmp_path only."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    made = make_tracker(Logging(wandb=True), tmp_path, "run", {"a": 1})
    assert isinstance(made, WandbTracker)
    return made


def test_wandb_offline_writes_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key the values land in a folder that can be synced later."""
    tracker = offline(tmp_path, monkeypatch)
    train(None, settings(), tracker=tracker)
    tracker.finish()
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


@pytest.mark.parametrize(("begin", "text", "patience_s"), [
    (wandb_toys.wandb_full_disk, "wandb failed (OSError: [Errno 28] No space left on device)", 60),
    (wandb_toys.wandb_dies, "wandb died", 60),
    (wandb_toys.wandb_hangs, "wandb is not done after 1 s", 1),
])
def test_a_failing_wandb_warns_once_and_training_goes_on(
    begin: Any, text: str, patience_s: int, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Whatever becomes of wandb, the result is the one without it, and one warning is shown."""
    tracker = WandbTracker("p", "run", tmp_path, {}, begin=begin)
    with_it, _ = train(None, settings(), tracker=tracker)
    tracker.finish(patience_s)
    assert not multiprocessing.active_children()
    without, _ = train(None, settings())
    assert with_it == without
    errors = capsys.readouterr().err
    assert text in errors and errors.count("warning") == 1


def test_the_matrix_net_serves_muon(tmp_path: Path) -> None:
    """Muon trains a net of matrices."""
    before = MatrixNet()
    method = Plain(before)
    weight = before.last.weight.detach().clone()
    train(None, settings(optimizer="muon"), method=method)
    assert not torch.equal(weight, method.net.last.weight)
    assert isinstance(method.net, nn.Module)


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


@pytest.mark.parametrize(("asked", "mode"), [(True, "default"), ("reduce-overhead", "reduce-overhead")])
def test_compile_is_asked_for_by_mode(
    asked: bool | str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """train.compile compiles the net once, in the mode that was asked for; false leaves it alone."""
    modes: list[str] = []
    monkeypatch.setattr(TinyNet, "compile", lambda self, *, mode: modes.append(mode))
    train(None, settings(compile=asked))
    train(None, settings(compile=False))
    assert modes == [mode]
