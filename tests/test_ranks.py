"""Several processes training together, on the CPU over gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset.loader import _Maker
from dataset.samplers import Sample

ROOT = Path(__file__).resolve().parent.parent


def launch(task: str, folder: Path, processes: int) -> list[dict[str, Any]]:
    """What each of the processes answers; no thread of theirs may outlive the group, to abort their end."""
    folder.mkdir(exist_ok=True)
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m",
             "tests.ranks_toy", task, str(folder)]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=300,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    answers = [json.loads((folder / f"{task}.{n}.json").read_text()) for n in range(processes)]
    assert [answer.pop("threads") for answer in answers] == [[]] * processes
    return answers


@pytest.mark.parametrize("size", ["1", "2", "5"])
def test_two_processes_make_the_gradient_of_one(once: dict[str, Any], size: str) -> None:
    """A batch shared out over two processes gives the first step's loss and gradient within 1e-5."""
    alone, together = once["alone"][0][size], once["together"]
    for answer in together:
        assert answer[size]["gradient"] == pytest.approx(alone["gradient"], abs=1e-5)
        assert answer[size]["loss"] == pytest.approx(alone["loss"], abs=1e-5)
    assert max(map(abs, alone["gradient"])) > 1e-3


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The gradients of one and of two processes."""
    folder = tmp_path_factory.mktemp("gradients")
    return {"alone": launch("gradients", folder / "1", 1), "together": launch("gradients", folder / "2", 2)}


def test_processes_agree_and_resume_with_the_same_bits(tmp_path: Path) -> None:
    """Weights, buffers and losses are equal in both; stopped and continued, they are those undisturbed."""
    whole = launch("train", tmp_path / "whole", 2)
    assert whole[0] == whole[1]
    assert [answer["code"] for answer in launch("stop", tmp_path / "parts", 2)] == [143, 143]
    assert launch("train", tmp_path / "parts", 2) == whole


def test_another_number_of_processes_continues(tmp_path: Path) -> None:
    """What two processes began, one finishes."""
    launch("stop", tmp_path, 2)
    assert len(launch("train", tmp_path, 1)[0]["losses"]) == 8


def test_a_spoiled_clip_stops_all_of_them(tmp_path: Path) -> None:
    """A NaN that one process sees ends the training in each, with the same cause."""
    first, second = launch("spoiled", tmp_path, 2)
    assert "not finite" in first["error"] and "not finite" in second["error"]


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5), of=st.integers(1, 4), sides=st.booleans()
)
def test_shares_make_the_whole_batch(sizes: list[int], of: int, sides: bool) -> None:
    """Each clip of a batch goes to exactly one process, shares sum to one, sides are shared out evenly."""
    for size in sizes:
        batch = [Sample(i, 0, i, (i >= size) * 1 if sides else None) for i in range(size * (1 + sides))]
        taken, total = [], 0.0
        for number in range(of):
            maker = object.__new__(_Maker)
            maker.part = number, of
            mine, share = maker._mine(batch)
            assert mine, "a process without clips would not take part in the step"
            taken += mine if share else []
            total += share
            if sides and size % of == 0:
                assert sum(s.side for s in mine) * 2 == len(mine)
        assert sorted(s.index for s in taken) == [s.index for s in batch]
        assert total == pytest.approx(1)
