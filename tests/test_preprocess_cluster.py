"""Preprocessing on a Dask cluster of two workers: the same bytes, and every recording accounted for."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from preprocessing import freshness
from preprocessing.extract import ExtractSettings
from preprocessing.manifest import Manifest
from preprocessing.report import StoreReport
from preprocessing.work import make_as_planned
from tests import fake_source
from tests.fake_source import NAME, fill, write_raw
from utils.errors import Stopped, UserError
from utils.files import file_sha256

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
GOOD = {f"p{index}": "good" for index in range(6)}


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    """A cluster of two workers of one thread; a task is given up when its first worker is lost."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
        ) as cluster,
    ):
        yield cluster


@pytest.fixture
def address(running: Any) -> str:
    """Of the scheduler, when both workers are there."""
    running.wait_for_workers(2)
    return str(running.scheduler_address)


@pytest.fixture(scope="module")
def bad_day(running: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StoreReport]:
    """Seven recordings: three good, one whose worker is killed once, one always, one that hangs, a bug."""
    folder = tmp_path_factory.mktemp("bad_day")
    write_raw(folder / "raw", {
        "p1": "good", "p2": "once kill", "p3": "kill", "p4": "hang", "p5": "stumble", "p6": "slow",
        "p7": "good",
    })
    return folder / "store", fill(
        folder / "raw", folder / "store", cluster=running.scheduler_address, timeout_s=4.0
    )


def test_a_cluster_makes_the_same_bytes(address: str, tmp_path: Path) -> None:
    """Files and manifest equal those of processes of this machine; nothing else is left behind."""
    write_raw(tmp_path / "raw", GOOD)
    made = fill(tmp_path / "raw", tmp_path / "cluster", cluster=address)
    fill(tmp_path / "raw", tmp_path / "local")
    assert made.datasets[NAME].made == list(GOOD)
    for name in ("manifest.json", *(f"{key}.h5" for key in GOOD)):
        one, other = (tmp_path / store / NAME / name for store in ("cluster", "local"))
        assert file_sha256(one) == file_sha256(other)
    assert sorted(path.name for path in (tmp_path / "cluster").iterdir()) == [".lock", NAME]
    assert fill(tmp_path / "raw", tmp_path / "cluster", cluster="tcp://127.0.0.1:9").done == made.done


def test_a_lost_worker_costs_nothing(bad_day: tuple[Path, StoreReport]) -> None:
    """What was under way on a killed worker is made by another; only what cannot be made is missing."""
    store, report = bad_day
    assert report.datasets[NAME].made == ["p1", "p2", "p6", "p7"]
    assert list(Manifest(store / NAME / "manifest.json").done()) == ["p1", "p2", "p6", "p7"]
    assert not list(store.rglob("*.tmp"))


def test_who_loses_every_worker_is_named(bad_day: tuple[Path, StoreReport]) -> None:
    """A recording that kills its workers, one that hangs and one with a bug fail with their reasons."""
    failed = bad_day[1].datasets[NAME].failed
    assert list(failed) == ["p3", "p4", "p5"]
    assert "every Dask worker that had it was lost" in failed["p3"]
    assert "tried again with no other beside it" in failed["p3"]
    assert "no progress for 4 s; the Dask worker tcp://" in failed["p4"] and "was restarted" in failed["p4"]
    assert failed["p5"] == "ZeroDivisionError: a bug in a reader"


def test_what_runs_when_a_run_ends_is_not_published(address: str, tmp_path: Path) -> None:
    """A full disk ends the run; a task that another worker is at then ends without a file."""
    write_raw(tmp_path / "raw", {"a": "waits", "b": "full while a"}, n_frames=8)
    with pytest.raises(Stopped, match="disk full: p needs"):
        fill(tmp_path / "raw", tmp_path / "store", cluster=address)
    time.sleep(1.0)
    (tmp_path / "raw" / "a.go").touch()
    time.sleep(2.0)
    assert [path.name for path in (tmp_path / "store" / NAME).iterdir()] == ["manifest.json"]


def test_workers_that_do_not_see_the_store_are_named(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a worker finds another folder under the store's path, the run stops and says what is needed."""
    write_raw(tmp_path / "raw", {"a": "good"}, n_frames=4)
    monkeypatch.chdir(tmp_path)  # the workers stay where they are
    with pytest.raises(Stopped, match=r"Dask worker tcp://\S+ does not see store"):
        fill(tmp_path / "raw", Path("store"), cluster=address)


def planned_elsewhere(recording: Any, **changes: Any) -> SimpleTask:
    """A task that was planned by a program which differs in `changes`."""
    settings = ExtractSettings.from_params(fake_source.settings())
    content = freshness.content_settings(settings, {}, type(recording))
    return SimpleTask(recording, settings, content | changes)


@dataclasses.dataclass
class SimpleTask:
    """What matters here of a task."""

    recording: Any
    settings: Any
    content: dict[str, Any]


def test_workers_with_other_code_make_nothing() -> None:
    """A worker whose code or libraries differ from those of the plan stops the run by the differing names."""
    recording = fake_source.FakeRecording(dataset=NAME, subject="a", recording="a", folder=Path())
    same, other = planned_elsewhere(recording), planned_elsewhere(recording, code="other", mediapipe="9")
    assert make_as_planned(same, print, lambda task, beat: {"made": 1}) == {"made": 1}
    with pytest.raises(Stopped, match=r"differs in code, mediapipe; give every worker this project"):
        make_as_planned(other, print, lambda task, beat: {"made": 1})


def test_a_missing_scheduler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address where nobody answers, and a missing package, are refused with what to do."""
    write_raw(tmp_path / "raw", {"a": "good"}, n_frames=4)
    monkeypatch.setattr("preprocessing.cluster.CONNECT_S", 0.5)
    with pytest.raises(UserError, match=r"no Dask scheduler answers at tcp://127.0.0.1:9 .*dask scheduler"):
        fill(tmp_path / "raw", tmp_path / "store", cluster="tcp://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match="needs the package distributed.*pip install distributed"):
        fill(tmp_path / "raw", tmp_path / "store", cluster="tcp://127.0.0.1:9")
    assert os.listdir(tmp_path / "store" / NAME) == ["manifest.json"]
