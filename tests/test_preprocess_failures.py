"""A failure costs its own recording, is named with its reason, and leaves the rest of the store whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from preprocessing import pool
from preprocessing.report import StoreReport
from tests.fake_source import NAME, PROGRAM, ROOT, fill, leftovers, manifest_of, write_raw
from utils.errors import RecordingsFailed, Stopped, UserError
from utils.files import file_sha256


@pytest.fixture(scope="module")
def bad_day(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StoreReport]:
    """Ten recordings: seven good, one refused, one whose worker is killed, one whose worker hangs."""
    folder = tmp_path_factory.mktemp("bad_day")
    behaviours = {f"p{index}": "good" for index in range(1, 8)}
    write_raw(folder / "raw", behaviours | {"p8": "refuse", "p9": "kill", "p10": "hang"})
    return folder / "store", fill(folder / "raw", folder / "store", timeout_s=2.0)


def test_a_failure_costs_its_own_recording(bad_day: tuple[Path, StoreReport]) -> None:
    """One refused, one killed and one hung of ten: seven are done, three are named with the reason."""
    store, report = bad_day
    part = report.datasets[NAME]
    assert part.made == [f"p{index}" for index in range(1, 8)]
    assert list(part.failed) == ["p8", "p9", "p10"]
    assert part.failed["p8"] == "the ground truth is empty"
    assert "SIGKILL" in part.failed["p9"]
    assert "no progress for 2 s" in part.failed["p10"]
    assert report.summary() == f"store {NAME}: expected 10, done 7 (0 reused), failed 3"
    assert leftovers(store) == []


def test_the_manifest_tells_the_same(bad_day: tuple[Path, StoreReport]) -> None:
    """Recordings stand in natural order, done with checksum and size, failed with the reason."""
    store, report = bad_day
    entries = manifest_of(store)
    assert list(entries) == [f"p{index}" for index in range(1, 11)]
    for key in report.datasets[NAME].made:
        path = store / NAME / entries[key]["file"]
        assert entries[key]["status"] == "done"
        assert (entries[key]["bytes"], entries[key]["sha256"]) == (path.stat().st_size, file_sha256(path))
    for key, reason in report.datasets[NAME].failed.items():
        assert (entries[key]["status"], entries[key]["reason"]) == ("failed", reason)
        assert not (store / NAME / f"{key}.h5").exists()


def test_failures_change_the_exit_code(bad_day: tuple[Path, StoreReport]) -> None:
    """The run ends with exit code 3 and names all, unless failures are allowed."""
    _, report = bad_day
    with pytest.raises(RecordingsFailed, match=r"3 of 10 .*failed:\n.*p8.*\n.*p9.*\n.*p10") as caught:
        report.raise_if_failed()
    assert caught.value.exit_code == 3
    report.raise_if_failed(allow_failed=True)


def test_crashes_are_told_apart(tmp_path: Path) -> None:
    """A segmentation fault, an exit and a bug are named, with where they happened; torch is not loaded."""
    write_raw(tmp_path / "raw", {"a": "segfault", "b": "exit", "c": "stumble", "d": "torch"}, n_frames=4)
    failed = fill(tmp_path / "raw", tmp_path / "store").datasets[NAME].failed
    assert "SIGSEGV" in failed["a"]
    assert "exit code 7" in failed["b"]
    assert failed["c"] == "ZeroDivisionError: a bug in a reader"
    assert failed["d"] == "KeyError: 'torch'"
    entries = manifest_of(tmp_path / "store")
    assert "in segfault" in entries["a"]["traceback"]
    assert "in stumble" in entries["c"]["traceback"]


def work_alone(task: tuple[Path, bool], beat: Callable[[int], None]) -> bool:
    """Whether another was at work meanwhile; where asked for, ends the worker the first time."""
    mark, is_guilty = task
    seen = mark.with_suffix(".seen")
    mark.touch()
    time.sleep(0.3)
    if is_guilty and not seen.exists():
        seen.touch()
        mark.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    others = [path for path in mark.parent.glob("*.on") if path != mark]
    mark.unlink()
    return bool(others)


def test_what_a_lost_worker_had_is_done_again_alone(tmp_path: Path) -> None:
    """Two workers are killed once: their tasks are done in the end, when no other is at work."""
    tasks = [(key, (tmp_path / f"{key}.on", key in "ab")) for key in "abcdef"]
    ended: list[pool.Outcome] = []
    pool.run(tasks, work_alone, 2, 30.0, ended.append)
    assert [outcome.reason for outcome in ended] == [None] * 6
    assert {outcome.key for outcome in ended[-2:]} == {"a", "b"}
    assert [outcome.value for outcome in ended[-2:]] == [False, False]


def test_a_lost_worker_costs_nothing(tmp_path: Path) -> None:
    """A recording whose worker is killed once is made; one that kills every worker says that it was so."""
    write_raw(tmp_path / "raw", {"a": "once kill", "b": "good", "c": "kill"}, n_frames=4)
    part = fill(tmp_path / "raw", tmp_path / "store").datasets[NAME]
    assert (part.made, list(part.failed)) == (["a", "b"], ["c"])
    assert part.failed["c"].endswith("so it was when tried again with no other beside it")
    assert leftovers(tmp_path / "store") == []


def test_switched_off_the_failed_stay_failed(bad_day: tuple[Path, StoreReport]) -> None:
    """With enabled = false, what failed before is reported with its reason, and not tried again."""
    store, report = bad_day
    again = fill(store.parent / "raw", store, enabled=False)
    assert (again.failed, again.reused) == (report.failed, report.done)


def test_a_full_disk_stops_the_run(tmp_path: Path) -> None:
    """Stopped, exit code 4, with the message of the worker; what was done stays done."""
    write_raw(tmp_path / "raw", {"a": "good", "b": "full", "c": "good"}, n_frames=4)
    with pytest.raises(Stopped, match="disk full: p needs"):
        fill(tmp_path / "raw", tmp_path / "store", workers=1)
    assert list(manifest_of(tmp_path / "store")) == ["a"]
    assert leftovers(tmp_path / "store") == []
    (tmp_path / "raw" / "b.txt").write_text("good")
    report = fill(tmp_path / "raw", tmp_path / "store").datasets[NAME]
    assert (report.reused, report.made) == (["a"], ["b", "c"])


def test_a_disk_that_fills_up_ends_the_run_in_order(tmp_path: Path) -> None:
    """On a real disk of 6 MB: exit code 4, both figures, no abort, no leftover, done work kept."""
    (tmp_path / "store").mkdir()
    mount = f'mount -t tmpfs -o size=6m none "{tmp_path}/store"'
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True, check=False).returncode:
        pytest.skip("no small disk can be mounted here (unshare)")
    write_raw(tmp_path / "raw", {"a": "good", "b": "good", "c": "good"}, n_frames=3500)
    store = f'"{tmp_path}/store"'
    script = f'{mount}; "$0" -c "$1" "{tmp_path}/raw" {store}; echo $?; ls -A {store}/{NAME}'
    ended = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, sys.executable, PROGRAM],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )
    code, *files = ended.stdout.split()
    assert code == "4"
    assert "manifest.json" in files and set(files) < {"a.h5", "b.h5", "c.h5", "manifest.json"}
    assert "disk full" in ended.stderr and "needs" in ended.stderr and "free()" not in ended.stderr


@pytest.mark.parametrize("declared", [10**12, 5000])
def test_a_video_that_declares_too_much_costs_itself(tmp_path: Path, declared: int) -> None:
    """A damaged header does not stop the run as a full disk would."""
    write_raw(tmp_path / "raw", {"a": f"declares {declared}", "b": "good"}, n_frames=4)
    report = fill(tmp_path / "raw", tmp_path / "store")
    assert f"declares {declared:,} frames" in report.failed[f"{NAME}.a"]
    assert report.done == [f"{NAME}.b"]


def test_missing_inputs_are_named(tmp_path: Path) -> None:
    """A recording whose label file is missing fails by the file's name; an empty folder is refused."""
    write_raw(tmp_path / "raw", {"a": "good"}, n_frames=4)
    (tmp_path / "raw" / "a.txt").unlink()
    assert "a.txt: No such file" in fill(tmp_path / "raw", tmp_path / "store").datasets[NAME].failed["a"]
    (tmp_path / "raw" / "a.npy").unlink()
    with pytest.raises(UserError, match="no recordings"):
        fill(tmp_path / "raw", tmp_path / "store")
