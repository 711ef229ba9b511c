"""Optimisers and schedules by name: all of torch's, with their options checked."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.training_toys import Batches, MatrixNet, Plain, TinyNet, settings
from training.optim import check_train, make_optimizer, make_scheduler, optimizer_names, scheduler_names
from training.updater import Updater
from utils.errors import ParamsError, UserError

ISSUED = ["adam", "adamw", "sgd", "rmsprop", "adadelta", "adagrad", "adamax", "asgd", "lbfgs", "nadam",
          "radam", "rprop"]
NEEDS: dict[str, dict[str, Any]] = {
    "cosine_annealing_warm_restarts": {"T_0": 2}, "cyclic": {"base_lr": 0.001}, "exponential": {"gamma": 0.9},
    "multi_step": {"milestones": [1, 2]}, "step": {"step_size": 2},
    "sequential": {"milestones": [2], "schedulers": [
        {"name": "linear"}, {"name": "exponential", "options": {"gamma": 0.9}}]},
    "chained": {"schedulers": [{"name": "constant_lr"}, {"name": "step_lr", "options": {"step_size": 2}}]},
}


def test_the_names_asked_for_are_known() -> None:
    """Every optimiser of the settings list, and every class that torch has, is there."""
    assert set(ISSUED) <= set(optimizer_names())
    assert {"one_cycle", "cosine_annealing", "reduce_on_plateau", "constant"} <= set(scheduler_names())


@pytest.mark.parametrize("name", optimizer_names())
def test_every_optimiser_of_torch_takes_a_step(name: str) -> None:
    """One step on a small net moves the weights and leaves them finite; sparse_adam says why not."""
    method = Plain(MatrixNet() if name == "muon" else TinyNet())
    section = settings(optimizer=name, scheduler="constant")
    if name == "sparse_adam":
        with pytest.raises(ParamsError, match="only sparse gradients"):
            Updater(method, section, "cpu", 4, 4)
        return
    updater = Updater(method, section, "cpu", 4, 4)
    before = [p.detach().clone() for p in method.parameters()]
    for index in range(2):
        method.train_step(Batches().batch(0, index), updater)
        updater.finish_batch(last=index == 1)
    assert any(not torch.equal(p, q) for p, q in zip(method.parameters(), before, strict=True))
    assert all(bool(torch.isfinite(p).all()) for p in method.parameters())


def test_lbfgs_lowers_the_loss_by_its_own_evaluations() -> None:
    """The line search evaluates the loss anew: one step of many iterations fits a matrix net."""
    method, batch = Plain(MatrixNet()), Batches().batch(0, 0)
    batch.pulse = batch.video[:, 0].mean((2, 3)) * 3
    section = settings(optimizer="lbfgs", optimizer_options={"line_search_fn": "strong_wolfe"},
                       learning_rate=1.0, scheduler="constant")
    method.train_step(batch, Updater(method, section, "cpu", 1, 1))
    assert float(method.loss(batch)["loss"].detach()) < 1e-6


def test_lbfgs_refuses_what_it_cannot_do() -> None:
    """A method that cannot evaluate again, and settings that a line search excludes, are named."""
    method = Plain(TinyNet())
    updater = Updater(method, settings(optimizer="lbfgs", scheduler="constant"), "cpu", 4, 4)
    with pytest.raises(UserError, match="evaluates the loss several times"):
        updater.minimise(method.loss(Batches().batch(0, 0))["loss"], "net")
    paths = {path for path, _ in check_train({"optimizer": "lbfgs", "accumulate": 2, "clip_norm": 1.0})}
    assert paths == {"train.accumulate", "train.clip_norm"}


def test_lbfgs_gives_the_weights_back_when_the_loss_is_lost() -> None:
    """A loss that becomes NaN within the search leaves the weights as they were."""
    method, batch = Plain(TinyNet()), Batches().batch(0, 0)
    updater = Updater(method, settings(optimizer="lbfgs", scheduler="constant"), "cpu", 4, 4)
    before = [p.detach().clone() for p in method.parameters()]
    losses = iter([1.0, 1.0, float("nan")])

    def again() -> Tensor:
        return method.loss(batch)["loss"] * next(losses)

    with pytest.raises(UserError, match="not finite"):
        updater.minimise(again(), "net", again=again)
    assert all(torch.equal(p, q) for p, q in zip(method.parameters(), before, strict=True))


def test_muon_names_what_it_lacks() -> None:
    """A net with convolutions is refused for muon up front."""
    with pytest.raises(ParamsError, match="only matrices"):
        Updater(Plain(TinyNet()), settings(optimizer="muon"), "cpu", 4, 4)


@pytest.mark.parametrize("name", scheduler_names())
def test_every_schedule_of_torch_builds_and_runs(name: str) -> None:
    """Over three epochs of four steps; those that need a Python function say so."""
    section = settings(scheduler=name, scheduler_options=NEEDS.get(name, {}))
    optimizer = make_optimizer([nn.Parameter(torch.ones(1, 1))], section)
    if name in ("lambda", "multiplicative"):
        with pytest.raises(ParamsError, match="Python function"):
            make_scheduler(optimizer, section, 12, 4)
        return
    schedule = make_scheduler(optimizer, section, 12, 4)
    for _ in range(3):
        for _ in range(4):
            optimizer.step()
            schedule.after_step()
        schedule.after_epoch(1.0)
    assert 0 <= optimizer.param_groups[0]["lr"] <= 0.1
    assert check_train({"scheduler": name, "scheduler_options": NEEDS.get(name, {})}) == []


def rates(section: Any, epochs: int = 3, steps: int = 4) -> list[float]:
    """The rate before every step."""
    optimizer = make_optimizer([nn.Parameter(torch.ones(1, 1))], section)
    schedule = make_scheduler(optimizer, section, epochs * steps, steps)
    seen = []
    for _ in range(epochs):
        for _ in range(steps):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.after_step()
        schedule.after_epoch(None)
    return seen


def test_the_one_cycle_peaks_at_the_learning_rate() -> None:
    """It rises from a 25th to train.learning_rate and ends at a 10000th of the start."""
    seen = rates(settings())
    assert seen[0] == pytest.approx(0.01 / 25)
    assert max(seen) == pytest.approx(0.01, rel=0.05)
    assert seen[-1] == pytest.approx(0.01 / 25 / 1e4)


def test_epoch_schedules_change_between_epochs_only() -> None:
    """A step schedule halves the rate after its epochs; constant keeps it."""
    section = settings(scheduler="step", scheduler_options={"step_size": 2, "gamma": 0.5})
    assert rates(section) == [0.01] * 8 + [0.005] * 4
    assert rates(settings(scheduler="constant")) == [0.01] * 12


def test_cosine_annealing_ends_with_the_run_by_itself() -> None:
    """T_max is the number of epochs unless it is given."""
    assert rates(settings(scheduler="cosine_annealing"))[-1] == pytest.approx(0.01 * 0.25)


def test_the_plateau_follows_the_monitored_value() -> None:
    """The rate falls after a value without gain, and not where none is given."""
    section = settings(scheduler="reduce_on_plateau", scheduler_options={"patience": 0})
    optimizer = make_optimizer([nn.Parameter(torch.ones(1, 1))], section)
    schedule = make_scheduler(optimizer, section, 12, 4)
    for value, rate in [(3.0, 0.01), (None, 0.01), (4.0, 0.001), (1.0, 0.001)]:
        schedule.after_epoch(value)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(rate)


def test_overrides_go_before_the_section() -> None:
    """lr and options given by a method win; another optimiser does not get the section's options."""
    section = settings(optimizer="adam", optimizer_options={"betas": [0.5, 0.9], "weight_decay": 0.1})
    weights = [nn.Parameter(torch.ones(2))]
    adam = make_optimizer(weights, section, lr=1e-3, weight_decay=0.2)
    chosen = [adam.defaults[key] for key in ("betas", "weight_decay", "lr")]
    assert chosen == [(0.5, 0.9), 0.2, 1e-3]
    other = make_optimizer(weights, section, optimizer="sgd", momentum=0.9)
    assert (other.defaults["momentum"], other.defaults["weight_decay"]) == (0.9, 0)


@pytest.mark.parametrize(("section", "path", "text"), [
    ({"optimizer": "adma"}, "train.optimizer", "did you mean"),
    ({"optimizer": "sparse_adam"}, "train.optimizer", "sparse gradients"),
    ({"optimizer_options": {"beta": [0.9, 0.99]}}, "train.optimizer_options.beta", 'did you mean "betas"'),
    ({"optimizer_options": {"lr": 1.0}}, "train.optimizer_options.lr", "train.learning_rate"),
    ({"optimizer_options": {"eps": "small"}}, "train.optimizer_options.eps", "float is expected"),
    ({"optimizer_options": {"amsgrad": 1}}, "train.optimizer_options.amsgrad", "bool is expected"),
    ({"optimizer_options": {"betas": [0.5, 1.9]}}, "train.optimizer_options", "Invalid beta"),
    ({"optimizer_options": {"betas": [0.5]}}, "train.optimizer_options.betas", "tuple"),
    ({"scheduler": "one_cycel"}, "train.scheduler", 'did you mean "one_cycle"'),
    ({"scheduler": "step"}, "train.scheduler_options.step_size", "needs this option"),
    ({"scheduler": "constant", "scheduler_options": {"gamma": 1}}, "train.scheduler_options", "no options"),
    ({"scheduler_options": {"max_lr": 1.0}}, "train.scheduler_options.max_lr", "train.learning_rate"),
    ({"scheduler_options": {"pct_start": 2.0}}, "train.scheduler_options", "pct_start"),
    ({"scheduler": "sequential"}, "train.scheduler_options", "two or more"),
    ({"scheduler": "chained", "scheduler_options": {
        "schedulers": [{"name": "linear"}, {"name": "one_cycle"}]}},
     "train.scheduler_options", "cannot be mixed"),
    ({"scheduler": "lambda"}, "train.scheduler", "Python function"),
])
def test_a_wrong_section_is_explained(section: dict, path: str, text: str) -> None:
    """Each mistake is found before any work, with its path and what to do."""
    problems = dict(check_train(section))
    assert list(problems) == [path]
    assert text in problems[path]


def test_several_mistakes_are_reported_together() -> None:
    """Optimiser and schedule are both looked at."""
    section = {"optimizer_options": {"beta": 1, "epsilon": 2}, "scheduler": "stp"}
    assert len(check_train(section)) == 3


@pytest.mark.parametrize("section", [
    {}, {"optimizer": 3, "optimizer_options": [], "scheduler": None}, {"epochs": "many", "amp": 7},
    {"scheduler": "chained", "scheduler_options": {"schedulers": [1, {"name": {}}]}},
])
def test_values_of_wrong_types_do_not_break_the_check(section: dict) -> None:
    """What the types' own check reports must not raise here."""
    assert isinstance(check_train(section), list)
