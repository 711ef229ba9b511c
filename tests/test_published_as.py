"""The published name a run stands under: its way of learning, or its net where it learned as in its paper."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from commands.building import build_method
from commands.testing import published_as
from evaluation.runs import load_run, run_names
from evaluation.runs_table import runs_table
from tests.run_folders import protocol, row, run_folder
from utils.config import validate

UBFC = [f"subject{i}" for i in (1, *range(3, 6), *range(8, 19), 20, *range(22, 28), *range(30, 50))]


def name_of(net: str, method: str = "supervised", net_options: dict | None = None, **options: Any) -> str:
    config = validate({
        "data": {"sets": [{"name": "pure", "root": "x"}]},
        "net": {"name": net, "options": net_options or {}}, "method": {"name": method, "options": options},
    }, "test")
    return published_as(config, build_method(config))


@pytest.mark.parametrize(("name", "net", "method", "options"), [
    ("physnet", "physnet", "supervised", {}), ("pos", "pos", "classical", {}),
    ("physformer", "physformer", "physformer", {}), ("rhythmnet", "rhythmnet", "rhythmnet", {}),
    ("contrast_phys", "contrast_phys", "contrast_phys", {}),
    ("contrast_phys_plus", "contrast_phys", "contrast_phys", {"label_share": 0.5}),
    ("contrast_phys_plus", "contrast_phys", "contrast_phys", {"label_share": 1.0}),
    ("", "contrast_phys", "supervised", {}), ("", "physformer", "supervised", {}),
    ("", "physnet", "adaptive", {}),
    ("ssl_lfa_rea", "lfa_rea", "ssl_lfa_rea", {}),
])
def test_a_way_of_learning_has_its_own_name(name: str, net: str, method: str, options: dict) -> None:
    """A net that learned otherwise than in its paper is not what the paper measured."""
    assert name_of(net, method, **options) == name


@pytest.mark.parametrize(("told", "beside"), [
    ({"published_as": "physnet"}, True), ({"published_as": ""}, False), ({}, True),
])
def test_only_what_is_published_stands_beside(tmp_path: Path, told: dict[str, str], beside: bool) -> None:
    """Rows of the name that a run bears; a run of an earlier version bears those of its params."""
    folder = run_folder(
        tmp_path / "run", [row("physnet", 42, mae_bpm=1.6)], UBFC, trained=["pure.01-01"],
        stored=protocol("toolbox2023"), training={"datasets": ["pure"], "origins": []}, **told,
    )
    assert ("PhysNet" in json.dumps(runs_table([folder]).rows)) == beside
    if told:
        assert run_names(load_run(folder), "physnet") == ((told["published_as"],), ("pure",))
    assert run_names(load_run(folder), "pos") == (("pos",), ())
