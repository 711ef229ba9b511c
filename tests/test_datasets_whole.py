"""The command line over several datasets at once, and from one dataset to another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import main
from preprocessing.synthetic import layouts

MIXED = {"pure": "train", "lgi_ppgi": "train", "folder": "valid", "ubfc_rppg_1": "test"}
CROSS = ("pure", "ubfc_rppg_2")
METHODS = {"physnet", "green", "chrom", "pos", "constant"}


def params(home: Path, name: str, sets: list[str], lists: dict[str, list[str]]) -> str:
    content = {
        "data": {"sets": [{"name": item, "root": str(home / "raw" / item)} for item in sets],
                 "store": str(home / "store")},
        "preprocessing": {"face_finder": "none", "size": 32, "landmarks": False, "workers": 1},
        "split": {"scheme": "lists", "lists": lists},
        "net": {"name": "physnet", "input": {"frames": 64, "size": 16}},
        "train": {"epochs": 1, "batch": 4},
        "evaluation": {"bootstrap": 20},
        "logging": {"figures": False},
        "run": {"name": name, "threads": 1, "device": "cpu", "output": str(home / "runs")},
    }
    path = home / f"{name}.json"
    path.write_text(json.dumps(content))
    return str(path)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small copies of five datasets."""
    folder = tmp_path_factory.mktemp("datasets")
    for name in {*MIXED, *CROSS}:
        layouts.build(name).write(folder / "raw" / name, 2, 8.0)
    return folder


def run(
    home: Path, name: str, sets: list[str], lists: dict[str, list[str]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run to the end; returns split.json and metrics.json."""
    assert main.main(["run", params(home, name, sets, lists)]) == 0
    found = home / "runs" / name
    return json.loads((found / "split.json").read_text()), json.loads((found / "metrics.json").read_text())


def test_several_datasets_train_together(home: Path) -> None:
    """Two datasets train, a third chooses, a fourth is tested; nobody is on two sides."""
    lists: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for name, part in MIXED.items():
        lists[part].append(f"{name}/*")
    split, metrics = run(home, "mixed", list(MIXED), lists)
    for part, content in split["parts"].items():
        assert {key.partition("/")[0] for key in content["subjects"]} == {
            name for name, where in MIXED.items() if where == part
        }
    assert len(split["parts"]["train"]["recordings"]) == 4 + 4
    assert metrics["test"]["n_subjects"] == 2 and metrics["test"]["n_missing"] == 0
    rows = {row["method"]: row for row in metrics["rows"]}
    assert set(rows) == METHODS
    assert rows["pos"]["mae_bpm"] < 2


@pytest.mark.parametrize("source, target", [CROSS, CROSS[::-1]], ids=["there", "back"])
def test_one_params_file_goes_from_one_dataset_to_the_other(source: str, target: str, home: Path) -> None:
    """Training on all of one dataset and testing on all of another is one file of params, both ways."""
    lists = {"train": [f"{source}/*"], "test": [f"{target}/*"]}
    split, metrics = run(home, f"{source}_to_{target}", [*CROSS], lists)
    assert all(key.startswith(f"{source}/") for key in split["parts"]["train"]["subjects"])
    assert all(key.startswith(f"{target}/") for key in split["parts"]["test"]["subjects"])
    assert metrics["test"]["n_recordings"] == len(split["parts"]["test"]["recordings"]) > 0
    assert next(row for row in metrics["rows"] if row["method"] == "pos")["mae_bpm"] < 2
    with h5py.File(home / "runs" / f"{source}_to_{target}" / "waveforms.h5") as file:
        assert all(name.startswith(f"{target}.") for name in file)
        assert all(np.isfinite(group["label"][:]).mean() > 0.98 for group in file.values())
