"""Training fits, chooses its best epoch on validation, stops when that gains nothing, and logs it all."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import wandb_toys
from tests.training_toys import Plain, StopAfter, TinyNet, settings, train
from training.checkpoint import read_checkpoint
from training.tracking import NullTracker, WandbTracker, make_tracker
from utils.settings import Logging


def test_training_changes_every_weight_and_lowers_the_loss(tmp_path: Path) -> None:
    """Forty epochs on the toy data fit it."""
    method = Plain(TinyNet(dropout=0.0))
    before = {name: p.detach().clone() for name, p in method.named_parameters()}
    result, _ = train(None, settings(epochs=40), method=method)
    assert all(not torch.equal(before[name], p) for name, p in method.named_parameters())
    assert result.history[-1]["train"]["loss"] < 0.3 * result.history[0]["train"]["loss"]
    assert len(result.step_losses) == result.steps == 160


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
