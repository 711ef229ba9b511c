"""What a net has learned from before its training: named, and a leak where it knows who is tested."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from commands import imported, lineage
from commands.lineage import KEY, Learned
from dataset.index import RecordingInfo
from dataset.split import Part, Parts
from evaluation.runs import load_run
from evaluation.split_notes import split_facts
from tests.run_folders import row, run_folder
from utils.config import validate
from utils.errors import UserError
from utils.files import read_json, write_json
from utils.settings import RunConfig

UBFC, PURE = "ubfc_rppg_2", "pure"


def parts(train: list[str] = (), valid: list[str] = (), test: list[str] = ()) -> Parts:
    """A split of people named "dataset/subject", each with one recording."""
    named = {"train": train, "valid": valid, "test": test}
    return Parts("lists", "subject", {
        name: Part(list(people), [person.replace("/", ".") for person in people])
        for name, people in named.items() if people
    })


def config(**changes: Any) -> RunConfig:
    """A config whose sections are partly others."""
    net = {"name": "physnet", **changes.pop("net", {})}
    return validate({"data": {"sets": [{"name": UBFC, "root": "x"}]}, "net": net, **changes}, "test")


def earlier_run(folder: Path, split: Parts, learned: Learned | None = None) -> Path:
    """The folder of a run as far as its split goes; without `learned` one of an earlier version."""
    folder.mkdir(parents=True)
    told = {KEY: learned.to_json()} if learned else {}
    write_json(folder / "split.json", {**split.to_json(), **told})
    return folder


def weights(path: Path, trained_on: str | None) -> Path:
    """A file of imported weights that says what they were trained on."""
    imported.save(path, {"w": torch.zeros(1)}, imported.Recipe("physnet"),
                  imported.Origin(file="source.pth", sha256="", trained_on=trained_on))
    return path


def told(test: list[str], **net: Any) -> list[str]:
    """What is said of a run with these people in its test part and this net."""
    return lineage.warnings(lineage.of_start(config(net=net)), parts(test=test))


@pytest.mark.parametrize("known", [{"train": [f"{UBFC}/a"]}, {"valid": [f"{UBFC}/a"]}])
@pytest.mark.parametrize("net", [
    lambda run: {"init_from": run}, lambda run: {"init_from": {"stem": run}},
    lambda run: {"name": "autohr", "options": {"genotype": run}},
])
def test_people_of_the_run_before_are_found(tmp_path: Path, known: dict[str, list[str]], net: Any) -> None:
    """Trained on or chosen by, as a whole or a part, weights or a genotype: who is tested again is a leak."""
    run = earlier_run(tmp_path / "run", parts(**{"train": [f"{UBFC}/b"], **known}))
    assert told([f"{UBFC}/a", f"{UBFC}/c"], **net(str(run))) == [
        "LEAKS: the weights it starts from know 1 subjects of test"]
    assert told([f"{UBFC}/c", f"{PURE}/a"], **net(str(run))) == []


def test_what_the_run_before_started_from_counts_too(tmp_path: Path) -> None:
    """A run keeps the people of all runs before it, so that the third knows those of the first."""
    known = Learned(frozenset([UBFC, PURE]), people=frozenset([f"{UBFC}/a", f"{PURE}/1"]))
    second = earlier_run(tmp_path / "second", parts(train=[f"{UBFC}/a"]), known)
    assert told([f"{PURE}/1"], init_from=str(second)) == [
        "LEAKS: the weights it starts from know 1 subjects of test"]
    assert lineage.of_start(config(net={"init_from": str(second)})) == known


def test_a_stage_of_a_run_is_looked_up_in_the_run(tmp_path: Path) -> None:
    """Weights of run.before of another run lie two folders below its split."""
    run = earlier_run(tmp_path / "run", parts(train=[f"{UBFC}/a"]))
    (run / "before" / "search").mkdir(parents=True)
    assert told([f"{UBFC}/a"], init_from=str(run / "before" / "search"))


def test_stages_of_the_run_itself_are_no_leak() -> None:
    """They see the same parts as the run."""
    stage = {"name": "first", "net": {"name": "physnet"}}
    assert lineage.of_start(config(net={"init_from": "before:first"}, run={"before": [stage]})) == Learned()


@pytest.mark.parametrize(("trained_on", "tested", "may"), [
    ("PURE", PURE, True), ("UBFC-rPPG", UBFC, True), ("PURE", UBFC, False), ("RLAP", PURE, False),
    (None, PURE, True), (None, UBFC, True),
])
def test_weights_from_elsewhere_may_know_who_is_tested(
    tmp_path: Path, trained_on: str | None, tested: str, may: bool
) -> None:
    """On the dataset they are from, or where it is not said which: nobody can rule it out."""
    path = weights(tmp_path / "w.pt", trained_on)
    found = told([f"{tested}/a"], init_from=str(path))
    assert [text.startswith("MAY LEAK") for text in found] == [True] * may
    assert lineage.of_start(config(net={"init_from": str(path)})).names == [
        f"{trained_on or 'not stated'} (w.pt)"]


def test_bare_weights_are_not_stated(tmp_path: Path) -> None:
    """A state dict says nothing of where it comes from, and neither does a folder without a split."""
    torch.save({"w": torch.zeros(1)}, tmp_path / "bare.pt")
    (tmp_path / "empty").mkdir()
    for name in ("bare.pt", "empty"):
        (found,) = told([f"{PURE}/1"], init_from=str(tmp_path / name))
        assert found.startswith("MAY LEAK") and found.endswith(f"trained on: not stated ({name})")


@pytest.mark.parametrize(("train", "method", "learns"), [
    ({}, {}, True), ({"epochs": 0}, {}, False), ({}, {"name": "classical"}, False),
])
def test_a_run_learns_from_its_training_part_if_it_trains(
    train: dict[str, Any], method: dict[str, Any], learns: bool
) -> None:
    """Not with 0 epochs, and not where nothing can be trained."""
    made = config(train=train, method=method, net={"name": "pos"} if method else {})
    people = {"train": [f"{UBFC}/a"], "valid": [f"{UBFC}/b"], "test": [f"{UBFC}/c"]}
    infos = {f"{UBFC}.{key}": RecordingInfo(f"{UBFC}.{key}", UBFC, key, key, Path(), 9, 30.0, 8, True,
                                            {"origin": "synthetic"}) for key in "abc"}
    found = lineage.learned(made, infos, parts(**people))
    assert (lineage.is_trained(made), bool(found.names), bool(found.origins)) == (learns,) * 3
    assert found.people == ({f"{UBFC}/a", f"{UBFC}/b"} if learns else set())


def test_a_leak_of_the_start_stands_in_notes_and_tables(tmp_path: Path) -> None:
    """Beside the leaks between parts."""
    sentence = "LEAKS: the weights it starts from know 1 subjects of test"
    about = {"start_leaks": [sentence], "leaks": True, "leak_details": ["train and test share 2 subjects"]}
    folder = run_folder(tmp_path / "run", [row("physnet", 1, mae_bpm=1.0)], ["a"])
    write_json(folder / "metrics.json", {**read_json(folder / "metrics.json"), "split": about})
    assert load_run(folder).leaks == ("train and test share 2 subjects", sentence)
    assert sentence in split_facts(about)
    assert split_facts({"start_leaks": [sentence]}) == [sentence]


def test_a_damaged_account_is_refused(tmp_path: Path) -> None:
    """By name, with what to do."""
    run = earlier_run(tmp_path / "run", parts(train=[f"{UBFC}/a"]))
    write_json(run / "split.json", {KEY: {"people": [], "strangers": []}})
    with pytest.raises(UserError, match=r"split.json: learned_from is damaged"):
        told([f"{UBFC}/a"], init_from=str(run))
