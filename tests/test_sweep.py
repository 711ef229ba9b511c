"""main.py sweep: what it would run, what it runs, and what it says of runs that fail."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from commands.sweep import plan
from preprocessing.synthetic import layouts
from utils.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
PARAMS: dict[str, Any] = {
    "data": {"sets": [{"name": "ubfc_rppg_2", "root": "raw"}], "store": "store"},
    "preprocessing": {"face_finder": "none", "size": 32, "workers": 1},
    "split": {"scheme": "kfold", "folds": 2, "valid": 0},
    "net": {"name": "physnet", "input": {"frames": 32, "size": 16}},
    "train": {"epochs": 1, "batch": 2},
    "evaluation": {"bootstrap": 0, "vital_signs": False, "classical": []},
    "logging": {"figures": False, "summary": False},
    "run": {"name": "small", "device": "cpu", "threads": 1, "output": "runs"},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two small recordings and the params of the experiment."""
    folder = tmp_path_factory.mktemp("sweep")
    layouts.build("ubfc_rppg_2").write(folder / "raw", people=2, seconds=4.0)
    (folder / "params.json").write_text(json.dumps(PARAMS))
    return folder


def call(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(ROOT / "main.py"), "sweep", "params.json", *words], cwd=home,
                          capture_output=True, text=True, timeout=300)


def asked(home: Path, **changes: Any) -> argparse.Namespace:
    given = {"params": str(home / "params.json"), "overrides": [], "grid": [], "seeds": [0], "folds": None}
    return argparse.Namespace(**{**given, **changes})


def test_every_combination_is_planned_once(home: Path) -> None:
    """Two rates, two clip lengths, two seeds and all folds are sixteen runs with names of their own."""
    grid = ["train.learning_rate=1e-3,3e-3", "net.input.frames=[32, 64]"]
    jobs = plan(asked(home, grid=grid, seeds=[1, 2], folds=[]), "small", home / "out")
    assert len({job.label for job in jobs}) == len(jobs) == 16
    assert {word for job in jobs for word in job.overrides if "fold" in word and "name" not in word} == {
        "split.fold=0", "split.fold=1"}
    assert all(f'run.name="{job.label}"' in job.overrides for job in jobs)


def test_names_that_would_be_the_same_are_refused(home: Path) -> None:
    """Values that differ only in characters no folder may hold would overwrite each other's runs."""
    with pytest.raises(UserError, match="several combinations would have the name"):
        plan(asked(home, grid=['data.store=["a b","a:b"]']), "small", home / "out")


@pytest.mark.parametrize("text", ["train.learning_rate", "rate=1", "train.learning_rate="])
def test_a_grid_that_is_none_is_refused(home: Path, text: str) -> None:
    """The message shows the form."""
    with pytest.raises(UserError, match=r"use section\.key=VALUE,VALUE"):
        plan(asked(home, grid=[text]), "small", home / "out")


def test_runs_are_made_counted_and_not_made_again(home: Path) -> None:
    """A failing combination is named with its exit code, the others are tabled; a second call only tables."""
    words = ("--grid", "train.learning_rate=1e-3,1e30", "--folds", "0", "--jobs", "2")
    first = call(home, *words)
    assert "small_learning_rate1e30_seed0_fold0" in first.stderr and first.returncode == 4, first.stderr
    done = json.loads((home / "runs/sweep_small/sweep.json").read_text())
    assert [entry["exit_code"] for entry in done] == [0, 4]
    assert "physnet" in (home / "runs/sweep_small/table.md").read_text()
    good = home / "runs/sweep_small" / done[0]["run"]
    before = (good / "metrics.json").stat().st_mtime_ns
    assert call(home, *words).returncode == 4
    assert (good / "metrics.json").stat().st_mtime_ns == before


def test_different_preprocessing_into_one_store_is_refused(home: Path) -> None:
    """Runs side by side would make each other's store anew."""
    done = call(home, "--grid", "preprocessing.size=32,64")
    assert done.returncode == 2 and "preprocess differently into one store" in done.stderr


def test_the_list_holds_commands_that_the_parser_takes(home: Path) -> None:
    """--list prints one command a line and runs nothing."""
    done = call(home, "--seeds", "7", "8", "--list", "--out", "elsewhere")
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and all(line.startswith("python main.py run params.json") for line in lines)
    assert not (home / "elsewhere").exists()
