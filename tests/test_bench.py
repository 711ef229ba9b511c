"""The table of all speeds: what it measures, and how it is set beside the committed one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import nets
from benchmarks import bench, gpu, scaling, training_step
from benchmarks.machine import Row, kind
from nets import methods

ABOUT = {"cpu": "AMD EPYC 9005", "cores": 2, "gpu": None}


def test_a_figure_is_set_beside_the_committed_one(tmp_path: Path) -> None:
    """The ratio new/old of each figure; what is worse by more than a quarter is marked, either way round."""
    old = [Row("read", 10.0, "ms", "less"), Row("decode", 100.0, "frames/s", "more"),
           Row("gone", None, "s", "less")]
    assert "no committed result of this kind of machine (amd-epyc-9005-2-cores)" in bench.report(
        old, ABOUT, tmp_path / "out", tmp_path / "kept", keep=True, quick=False)
    new = [Row("read", 12.0, "ms", "less"), Row("decode", 70.0, "frames/s", "more"),
           Row("gone", 2.0, "s", "less"), Row("gpu", None, "clips/s", "more", gpu.ABSENT)]
    text = bench.report(new, ABOUT, tmp_path / "out", tmp_path / "kept", keep=False, quick=False)
    assert "| read | 12 | ms | 1.20 |  |" in text
    assert "| decode | 70 | frames/s | 0.70 WORSE |  |" in text
    assert "| gone | 2 | s | new |  |" in text
    assert "| gpu | not measured | clips/s |  | not measured: no CUDA device |" in text
    stored = json.loads((tmp_path / "out" / "amd-epyc-9005-2-cores.json").read_text())
    assert [row["value"] for row in stored["rows"]] == [12.0, 70.0, 2.0, None]
    assert json.loads((tmp_path / "kept" / "amd-epyc-9005-2-cores.json").read_text())["machine"] == ABOUT


def test_kinds_of_machine_differ_by_processor_cores_and_gpu() -> None:
    """Figures of another number of cores, or of a machine with a GPU, are no measure of this one."""
    others = [ABOUT, {**ABOUT, "cores": 4}, {**ABOUT, "gpu": "NVIDIA H200"}, {**ABOUT, "cpu": "Xeon"}]
    assert len({kind(about) for about in others}) == 4


def test_quick_parts_give_figures() -> None:
    """Clip reading, classical methods, scoring and steps come out positive, each name once."""
    parts = ("clip_reading", "classical", "scoring", "steps")
    rows = [row for part in parts for row in bench.PARTS[part](True)]
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    assert all(row.value is not None and row.value > 0 for row in rows)
    assert {"method, pos", "scoring, default", "step, deepphys", "physnet, train both"} <= set(names)


def test_every_trainable_net_has_a_step() -> None:
    """Each is trained by a method that takes it, its own where there is one."""
    found = training_step.trainable()
    assert set(found) > {"physnet", "meta_rppg", "lfa_rea", "rhythmnet"} and "pos" not in found
    for name in found:
        net = training_step.small_net(name)
        chosen = training_step.fitting(name, net)[0]
        methods.build(chosen, net)
        assert chosen == name or name not in methods.names()


def test_a_step_counts_and_learns() -> None:
    """A step's operations are those of its convolutions, three times a forward pass at most; weights move."""
    step = training_step.make_step("physnet", 1, {}, frames=32, size=16)
    net = nets.build("physnet")
    with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 3, 32, 16, 16))
    forward = counter.get_total_flops()
    assert 2.5 * forward < training_step.flops(step) <= 3 * forward


def test_the_part_for_a_gpu_runs() -> None:
    """Without one it says so; its steps are those a GPU would take, tried here on the CPU."""
    if not torch.cuda.is_available():
        (absent,) = gpu.rows(quick=True)
        assert (absent.value, absent.note) == (None, gpu.ABSENT)
    rows = [*gpu.of_form("cpu", 16, 1, 100.0, frames=32), *gpu.forms("cpu", 16, 1, frames=32)]
    torch.use_deterministic_algorithms(False)
    assert [row.unit for row in rows] == ["clips/s", "GiB", "s", "%", *["clips/s"] * 4]
    assert rows[3].value is None and rows[0].value is not None and rows[0].value > 0


def test_growth_is_the_exponent_of_the_last_step() -> None:
    """Ten times the recordings, ten times the time: 1; a hundred times: 2; what is too short is left out."""
    rows = [{"recordings": n, "s": {"a_s": n / 100, "b_s": (n / 100) ** 2, "c_s": 1e-6 * n}}
            for n in (100, 1000)]
    assert scaling.growth(rows, "recordings") == {"s: a_s": 1.0, "s: b_s": 2.0}


@pytest.mark.parametrize("part", ["decoding", "preprocessing"])
@pytest.mark.slow
def test_slow_parts_give_figures(part: str) -> None:
    """Decoding and preprocessing come out positive."""
    assert all(row.value is not None and row.value > 0 for row in bench.PARTS[part](True))
