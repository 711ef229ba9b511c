"""The search learns choices and weights each from its half, and a run learns the cells that were found."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nets
from commands.building import resolved, trained_method
from commands.earlier import learn_earlier
from commands.learning import learn
from commands.params import check_names
from dataset.split import Part, Parts
from nets import methods
from nets.layers.genotype import load_genotype
from tests.autohr_toys import SMALL, supernet
from tests.fakes import FakeUpdater, clip_batch, make_adam
from tests.stores import make_store
from tests.training_toys import NoisyClips, assert_same_bits, settings, train
from training.checkpoint import read_checkpoint
from utils.config import validate
from utils.contracts import ClipBatch
from utils.errors import Interrupted
from utils.files import read_json
from utils.runlog import RunLog

FEW = ["zero", "identity", "conv_3x1x1", "tdc_3x3x3_0.2"]


# The search


class Spy(FakeUpdater):
    """Notes which optimiser was stepped, and which of its parameters moved."""

    def __init__(self, method: nn.Module) -> None:
        super().__init__(method.optimizers(make_adam))
        self.stepped: list[str] = []

    def minimise(self, loss: Tensor, *names: str, again: object = None) -> None:
        self.stepped += names
        super().minimise(loss, *names)


def search(**options: Any) -> Any:
    net = supernet(operations=FEW)
    net.input_spec = net.input_spec.replace(frames=16, size=16)
    return methods.build("autohr_search", net, **options).train()


def batch_of(method: Any, epoch: int, n: int = 4) -> ClipBatch:
    return dataclasses.replace(clip_batch(method.input_spec, n), epoch=epoch)


def test_choices_wait_for_the_warm_up() -> None:
    """Before its end only the weights learn; from then on the choices are stepped first, then the weights."""
    method = search(warmup_epochs=2)
    spy = Spy(method)
    for epoch in (0, 1):
        assert "choice_loss" not in method.train_step(batch_of(method, epoch), spy)
    assert spy.stepped == ["weights", "weights"]
    assert all(not p.any() for p in method.net.architecture())
    assert "choice_loss" in method.train_step(batch_of(method, 2), spy)
    assert spy.stepped[2:] == ["choices", "weights"]
    assert all(p.any() for p in method.net.architecture())


def test_the_search_tells_how_much_is_chosen() -> None:
    """The entropy of the operations' weights falls from ln of their number, to 0 when all is decided."""
    method = search(warmup_epochs=0, choice_rate=1e-9)
    spy = Spy(method)
    uniform = method.train_step(batch_of(method, 0), spy)["choice_entropy"]
    assert float(uniform) == pytest.approx(math.log(len(FEW)), abs=1e-4) and not uniform.requires_grad
    with torch.no_grad():
        method.net.choices["alphas"][..., 2] = 200
    assert float(method.train_step(batch_of(method, 0), spy)["choice_entropy"]) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("side", [0, 1])
def test_each_half_teaches_its_own(side: int) -> None:
    """What the choices learn depends on side 1 alone, what the weights learn on side 0 alone."""
    def learnt(spoiled: bool, warmup: int) -> list[Tensor]:
        method = search(warmup_epochs=warmup)
        batch = batch_of(method, 5)
        if spoiled:
            batch.pulse[batch.extras["side"] == side] *= torch.linspace(-1, 2, batch.pulse.shape[1])
        method.train_step(batch, FakeUpdater(method.optimizers(make_adam)))
        part = method.net.architecture() if side == 0 else method.net.weights()
        return [p.detach().clone() for p in part]

    warmup = 0 if side == 0 else 99  # the weights' step sees the choices that were just stepped
    same = [torch.equal(a, b) for a, b in zip(learnt(False, warmup), learnt(True, warmup), strict=True)]
    assert all(same)


def test_the_other_half_does_teach() -> None:
    """The test above would notice: spoiling the half that teaches changes what is learnt."""
    def learnt(spoiled: bool) -> list[Tensor]:
        method = search(warmup_epochs=0)
        batch = batch_of(method, 5)
        if spoiled:
            batch.pulse[batch.extras["side"] == 1] *= torch.linspace(-1, 2, batch.pulse.shape[1])
        method.train_step(batch, FakeUpdater(method.optimizers(make_adam)))
        return [p.detach().clone() for p in method.net.architecture()]

    assert not torch.equal(learnt(False)[0], learnt(True)[0])


def test_optimisers_share_all_parameters_between_them() -> None:
    """Every parameter is learnt by exactly one of the two; the choices by Adam at their own rate."""
    method = search(choice_rate=2e-3)
    made: dict[str, dict[str, Any]] = {}

    def make(params: Any, **overrides: Any) -> torch.optim.Optimizer:
        made[str(len(made))] = overrides
        return torch.optim.SGD(list(params), lr=1.0)

    groups = {name: o.param_groups[0]["params"] for name, o in method.optimizers(make).items()}
    learnt = [id(p) for group in groups.values() for p in group]
    assert sorted(learnt) == sorted(id(p) for p in method.parameters())
    (told,) = [o for o in made.values() if o]
    assert (told["optimizer"], told["lr"], told["betas"]) == ("adam", 2e-3, [0.5, 0.999])


def test_resume_inside_the_search_gives_the_same_bits(tmp_path: Path, monkeypatch: Any) -> None:
    """Stopped in the warm-up, at its end or after it, amid an epoch or not, all state ends the same."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    section = settings(epochs=3, scheduler="cosine_annealing")
    spec = search().input_spec
    options: dict[str, Any] = {"make": lambda _: search(warmup_epochs=1, frequency="log_power")}
    train(tmp_path / "straight", section, NoisyClips(spec, noise=0.01), **options)
    expected = read_checkpoint(tmp_path / "straight" / "last.pt")
    assert expected["method"]["net.choices.alphas"].any()
    for after in (1, 2, 3, 5):
        folder = tmp_path / f"after{after}"
        with pytest.raises(Interrupted):
            train(folder, section, NoisyClips(spec, after, noise=0.01), **options)
        train(folder, section, NoisyClips(spec, noise=0.01), seed=99, **options)
        assert_same_bits(read_checkpoint(folder / "last.pt"), expected)


# The loss of the supervised method


def test_frequency_term_is_weighted_in() -> None:
    """The loss is loss_weight times the time term plus frequency_weight times the rate term."""
    learner = methods.build("supervised", nets.build("autohr", node_channels=2), loss_weight=0.2,
                            frequency="released", frequency_weight=3.0)
    learner.net.input_spec = learner.net.input_spec.replace(frames=32, size=16)
    terms = learner.loss(clip_batch(learner.input_spec))
    torch.testing.assert_close(terms["loss"], 0.2 * terms["time"] + 3.0 * terms["rate"])
    with pytest.raises(ValueError, match="leaves no loss"):
        methods.build("supervised", nets.build("physnet"), loss_weight=0.0)


def test_strange_rates_are_warned_of_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A rate outside the classes, or none, is named the first time it is met."""
    learner = methods.build("supervised", nets.build("autohr", node_channels=2), frequency="log_power")
    learner.net.input_spec = learner.net.input_spec.replace(frames=32, size=16)
    batch = clip_batch(learner.input_spec)
    learner.loss(batch)
    assert not capsys.readouterr().err
    batch.hr_bpm[1] = 191.5
    for _ in range(2):
        learner.loss(batch)
    told = capsys.readouterr().err
    assert told.count("r1: 191.5 bpm") == 1 and "r0" not in told


# A run with a search before it


def config_of(folder: Path) -> dict[str, Any]:
    stage = {
        "name": "search", "train": {"epochs": 2, "batch": 1},
        "net": {"name": "autohr_supernet", "options": {**SMALL, "operations": FEW},
                "input": {"frames": 16, "size": 16}},
        "method": {"name": "autohr_search", "options": {"warmup_epochs": 1, "choice_rate": 0.1}},
    }
    return {
        "data": {"sets": [{"name": "folder", "root": str(folder)}], "store": str(folder)},
        "net": {"name": "autohr", "input": {"frames": 16, "size": 16},
                "options": {"genotype": "before:search", "node_channels": 2}},
        "train": {"epochs": 1, "batch": 2}, "run": {"name": "r", "threads": 1, "device": "cpu",
                                                    "before": [stage]},
        "logging": {"progress": False, "summary": False},
    }


def test_a_run_searches_then_learns_what_was_found(tmp_path: Path, capsys: Any) -> None:
    """The genotype lies in the search's folder with its drawing, and is the net's; done once, it stays."""
    infos = {info.key: info for info in make_store(tmp_path / "store", [40, 40, 40])}
    parts = Parts("lists", "subject", {
        "train": Part(["made/p1", "made/p2", "made/p3"], list(infos)), "test": Part(),
    })
    config, folder = validate(config_of(tmp_path), "params"), tmp_path / "run"
    folder.mkdir()
    learn_earlier(config, folder, infos, parts)
    own = folder / "before" / "search"
    made = read_json(own / "genotype.json")
    weights = np.array(made["about"]["operation_weights"])
    assert weights.shape == (1, 9, 4) and np.abs(weights - 0.25).max() > 0.01
    assert (own / "figures" / "cells.png").stat().st_size > 5000
    ready = resolved(config, folder)
    assert ready.net.options["genotype"] == str(own)
    method = learn(ready, folder, RunLog(folder / "log.jsonl"), infos, parts)
    assert method.net.genotype == load_genotype(str(own))
    assert read_json(folder / "genotype.json")["cells"] == made["cells"]
    (folder / "params.json").write_text(json.dumps(config.model_dump(mode="json")))
    again, _ = trained_method(folder)
    assert_same_bits(dict(again.state_dict()), dict(method.state_dict()))
    capsys.readouterr()
    before = (own / "checkpoints" / "last.pt").read_bytes()
    learn_earlier(config, folder, infos, parts)
    assert (own / "checkpoints" / "last.pt").read_bytes() == before
    assert read_json(own / "genotype.json") == made


@pytest.mark.parametrize(("change", "where", "words"), [
    (lambda c: c["net"]["options"].update(genotype="before:serch"), "net.options.genotype", "no earlier"),
    (lambda c: c["run"]["before"].append(dict(c["run"]["before"][0])), "run.before.1.name", "twice"),
    (lambda c: c["run"]["before"][0]["net"].update(name="autohr_supernt"), "run.before.0.net.name", "mean"),
    (lambda c: c["run"]["before"][0]["method"].update(options={"rate": 1}),
     "run.before.0.method.options.rate", "unknown"),
    (lambda c: c["net"].update(init_from={"stem": "before:later"}), "net.init_from.stem", "run.before has"),
    (lambda c: c["run"]["before"][0]["train"].update(optimizer="adem"), "run.before.0.train", "adem"),
])
def test_faults_of_earlier_trainings_are_found_before_any_work(
    change: Any, where: str, words: str, tmp_path: Path
) -> None:
    """Names, options and references inside run.before are checked as those of the run itself."""
    raw = config_of(tmp_path)
    assert not [text for path, text in check_names(raw) if path.startswith(("run", "net"))]
    change(raw)
    found = [(path, text) for path, text in check_names(raw) if path.startswith(("run", "net"))]
    assert any(path.startswith(where) and words in text for path, text in found), found
