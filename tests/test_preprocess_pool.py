"""Filling the store: every recording is accounted for, whatever happens to workers, parent or inputs."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprocessing import freshness, plan, pool, run
from preprocessing.manifest import Manifest
from preprocessing.report import StoreReport
from preprocessing.sources.base import SOURCES
from preprocessing.store import StoredRecording
from preprocessing.work import mean_rate_bpm
from tests import fake_source
from tests.fake_source import NAME, fill, write_raw
from utils.errors import RecordingsFailed, Stopped, UserError
from utils.files import file_sha256
from utils.settings import RawSet

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = "import sys; from tests.fake_source import main; sys.exit(main(*sys.argv[1:]))"
GOOD = {f"p{index}": "good" for index in (1, 2, 10)}


def manifest_of(store: Path) -> dict[str, dict[str, Any]]:
    return Manifest(store / NAME / "manifest.json").entries


def checksums(store: Path) -> dict[str, str]:
    return {path.name: file_sha256(path) for path in sorted((store / NAME).glob("*.h5"))}


def inodes(store: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in (store / NAME).glob("*.h5")}


def leftovers(store: Path) -> list[str]:
    return [path.name for path in store.rglob("*.tmp")]


@pytest.fixture(scope="module")
def bad_day(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StoreReport]:
    """Ten recordings: seven good, one refused, one whose worker is killed, one whose worker hangs."""
    folder = tmp_path_factory.mktemp("bad_day")
    behaviours = {f"p{index}": "good" for index in range(1, 8)}
    write_raw(folder / "raw", behaviours | {"p8": "refuse", "p9": "kill", "p10": "hang"})
    return folder / "store", fill(folder / "raw", folder / "store", timeout_s=2.0)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three good recordings and their store; tests work on copies."""
    folder = tmp_path_factory.mktemp("filled")
    write_raw(folder / "raw", GOOD)
    fill(folder / "raw", folder / "store")
    return folder


@pytest.fixture
def copied(filled: Path, tmp_path: Path) -> Path:
    """A copy of `filled` that a test may change; times are kept."""
    subprocess.run(["cp", "-a", f"{filled}/.", str(tmp_path)], check=True)
    return tmp_path


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


def test_lines_are_kept_one_by_one(filled: Path, tmp_path: Path) -> None:
    """A program that ends while it fills a store loses no line that was added; a torn one is left out."""
    entries = manifest_of(filled / "store")
    manifest = Manifest(tmp_path / "manifest.json")
    for key in ("p1", "p2"):
        manifest.add(key, entries[key])
    assert Manifest(tmp_path / "manifest.json").entries == {key: entries[key] for key in ("p1", "p2")}
    journal = tmp_path / "manifest.journal"
    journal.write_text(journal.read_text() + '["p10", {"status": "do')
    again = Manifest(tmp_path / "manifest.json")
    assert list(again.entries) == ["p1", "p2"] and not again.is_published()
    again.write()
    assert not journal.exists() and again.is_published()
    assert Manifest(tmp_path / "manifest.json").entries == again.entries


@pytest.mark.parametrize("line", ["[]", '["p1"]', '["../p1", {"status": "failed", "reason": ""}]', "["])
def test_a_damaged_journal_is_named(tmp_path: Path, line: str) -> None:
    """A whole line that is none of a manifest is refused by the file's name."""
    (tmp_path / "manifest.journal").write_text(line + "\n")
    with pytest.raises(UserError, match="manifest.journal"):
        Manifest(tmp_path / "manifest.json")


def test_the_line_describes_the_recording(filled: Path) -> None:
    """What split and table need stands in the manifest, and agrees with the file."""
    entry = manifest_of(filled / "store")["p1"]
    expected = {
        "subject": "p1", "recording": "p1", "dataset": NAME, "conditions": {"light": "dim"}, "n_frames": 40,
        "fps": 30.0, "duration_s": 1.3, "size": 16, "label_kind": "ppg", "has_label": True,
        "hr_mean_bpm": 72.0, "warnings": ["a word of warning"], "file": "p1.h5",
    }
    assert {key: entry[key] for key in expected} == expected
    attributes = StoredRecording(filled / "store" / NAME / "p1.h5").attributes
    assert attributes["settings_hash"] == entry["settings_hash"]
    assert json.loads(attributes["settings"]) == entry["settings"]
    assert json.loads(attributes["identity"]) == entry["identity"]
    assert (attributes["condition.light"], attributes["region_names"]) == ("dim", ["chin"])


def test_the_number_of_workers_does_not_change_a_byte(filled: Path, tmp_path: Path) -> None:
    """One worker and two make the same files and the same manifest."""
    fill(filled / "raw", tmp_path / "store", workers=1)
    assert checksums(tmp_path / "store") == checksums(filled / "store")
    assert manifest_of(tmp_path / "store") == manifest_of(filled / "store")


def test_what_is_done_is_not_touched(copied: Path) -> None:
    """A second run reuses everything and writes nothing."""
    manifest = copied / "store" / NAME / "manifest.json"
    before = [inodes(copied / "store"), manifest.stat().st_ino]
    report = fill(copied / "raw", copied / "store")
    assert report.datasets[NAME].reused == ["p1", "p2", "p10"]
    assert [inodes(copied / "store"), manifest.stat().st_ino] == before


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def change_quietly(path: Path) -> None:
    """Other content, same size and same time."""
    stat, content = path.stat(), path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize(
    ("name", "change"), [("p2.npy", touch), ("p2.npy", append), ("p2.npy", change_quietly), ("p2.txt", touch)]
)
def test_a_changed_input_is_made_again(copied: Path, name: str, change: Callable[[Path], None]) -> None:
    """Another time, size or content of any input makes that recording anew, and only that."""
    change(copied / "raw" / name)
    assert stale_keys(copied) == ["p2"]


def stale_keys(folder: Path, **changes: Any) -> list[str]:
    """The recordings a run would make, without making them."""
    SOURCES.register(NAME)(fake_source.FakeSource)
    try:
        sets = [RawSet(name=NAME, root=str(folder / "raw"))]
        settings = fake_source.settings(**changes)
        return list(plan.make(sets, folder / "store", settings, False)[NAME].tasks)
    finally:
        SOURCES._entries.pop(NAME)


@pytest.mark.parametrize("changes", [{"size": 32}, {"box_scale": 1.2}, {"swap_rb": True}])
def test_a_changed_setting_makes_all_anew(copied: Path, changes: dict[str, Any]) -> None:
    """A setting that changes the content makes the whole store stale; workers and time limits do not."""
    assert stale_keys(copied, **changes) == ["p1", "p2", "p10"]
    assert stale_keys(copied, workers=1, timeout_s=5.0, allow_failed=True) == []


def test_changed_code_makes_all_anew(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version of the extraction, or of a library it uses, is a reason; a comment is none."""
    monkeypatch.setattr(freshness, "_version", lambda library: "0.0")
    assert stale_keys(copied) == ["p1", "p2", "p10"]
    monkeypatch.undo()
    monkeypatch.setattr(freshness, "_code_digest", lambda recording_class: "other")
    assert stale_keys(copied) == ["p1", "p2", "p10"]
    (copied / "a.py").write_text('"""One."""\ndef f():\n    """Two."""\n    return 1  # three\n')
    (copied / "b.py").write_text("def f():\n    return 1\n")
    assert freshness._code(copied / "a.py") == freshness._code(copied / "b.py")


@pytest.mark.parametrize("told", [
    {"subject": "someone else"}, {"people": "v4v"}, {"conditions": {"light": "dim", "origin": "synthetic"}},
])
def test_another_subject_or_condition_makes_it_anew(
    copied: Path, monkeypatch: pytest.MonkeyPatch, told: dict[str, Any]
) -> None:
    """Also where no file of the recording says so: whom and what it shows decides about splits and tables."""
    true = fake_source.FakeSource.recordings

    def recordings(self: fake_source.FakeSource) -> list[Any]:
        return [replace(item, **told) if item.recording == "p2" else item for item in true(self)]

    monkeypatch.setattr(fake_source.FakeSource, "recordings", recordings)
    assert stale_keys(copied) == ["p2"]


def test_a_stale_recording_is_replaced(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is made from what is there now, the others stay, and the run says why."""
    before = inodes(copied / "store")
    frames = np.full((50, 16, 16, 3), 9, np.uint8)
    np.save(copied / "raw" / "p2.npy", frames)
    report = fill(copied / "raw", copied / "store")
    assert (report.datasets[NAME].made, report.datasets[NAME].reused) == (["p2"], ["p1", "p10"])
    assert np.array_equal(StoredRecording(copied / "store" / NAME / "p2.h5").read_frames(0, 50), frames)
    assert "1 made from other source files: made again" in capsys.readouterr().out
    assert {key: ino for key, ino in inodes(copied / "store").items() if key != "p2.h5"} == {
        key: ino for key, ino in before.items() if key != "p2.h5"
    }


def damage_size(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def link_outside(path: Path) -> None:
    path.rename(path.parent.parent / path.name)
    path.symlink_to(path.parent.parent / path.name)


@pytest.mark.parametrize("damage", [damage_size, Path.unlink, link_outside])
def test_a_damaged_or_missing_file_is_made_again(copied: Path, damage: Callable[[Path], None]) -> None:
    """A file that is gone, of another size than its line says, or a link elsewhere is never used."""
    damage(copied / "store" / NAME / "p2.h5")
    assert stale_keys(copied) == ["p2"]


def test_verifying_reads_everything(copied: Path) -> None:
    """With verify, sources are hashed whole, and one flipped bit in a stored file is found."""
    assert stale_keys(copied, verify=True) == ["p1", "p2", "p10"]
    fill(copied / "raw", copied / "store", verify=True)
    assert stale_keys(copied, verify=True) == stale_keys(copied) == []
    change_quietly(copied / "store" / NAME / "p10.h5")
    assert stale_keys(copied, verify=True) == ["p10"]


def test_a_file_without_its_line_does_not_exist(copied: Path) -> None:
    """A store without its manifest, or with a foreign file, is not taken for done work."""
    (copied / "store" / NAME / "manifest.json").unlink()
    assert stale_keys(copied) == ["p1", "p2", "p10"]


def test_a_recording_without_source_is_not_used(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is set aside with a message, and used again, not made again, when its source returns."""
    for suffix in (".npy", ".txt"):
        (copied / "raw" / f"p2{suffix}").rename(copied / f"p2{suffix}")
    report = fill(copied / "raw", copied / "store")
    assert report.datasets[NAME].reused == ["p1", "p10"]
    assert manifest_of(copied / "store")["p2"]["status"] == "absent"
    assert "no source for them any more: p2" in capsys.readouterr().err
    for suffix in (".npy", ".txt"):
        (copied / f"p2{suffix}").rename(copied / "raw" / f"p2{suffix}")
    assert fill(copied / "raw", copied / "store").datasets[NAME].reused == ["p1", "p2", "p10"]
    assert manifest_of(copied / "store")["p2"]["status"] == "done"


def test_excluded_recordings_are_not_made(tmp_path: Path) -> None:
    """They are listed as left out, and an id that does not exist is an error."""
    write_raw(tmp_path / "raw", {"a": "hang", "b": "good"}, n_frames=4)
    report = fill(tmp_path / "raw", tmp_path / "store", exclude=["a"])
    assert (report.datasets[NAME].excluded, report.datasets[NAME].made) == (["a"], ["b"])
    assert manifest_of(tmp_path / "store")["a"]["status"] == "absent"
    with pytest.raises(UserError, match='no recording \'bb\' to exclude; did you mean "b"'):
        fill(tmp_path / "raw", tmp_path / "store", exclude=["bb"])


def test_switched_off_it_uses_the_store_or_says_why_not(copied: Path) -> None:
    """With enabled = false the store is reused; another setting is refused by its name."""
    assert fill(copied / "raw", copied / "store", enabled=False).datasets[NAME].done == ["p1", "p2", "p10"]
    with pytest.raises(UserError, match=r"3 made with other settings \(size\).*preprocessing.enabled = true"):
        fill(copied / "raw", copied / "store", enabled=False, size=32)
    (copied / "raw").rename(copied / "elsewhere")
    assert fill(copied / "raw", copied / "store", enabled=False).datasets[NAME].done == ["p1", "p2", "p10"]
    with pytest.raises(UserError, match=r"made with other settings \(size\)"):
        fill(copied / "raw", copied / "store", enabled=False, size=32)


def test_switched_off_what_the_store_lacks_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the raw data, a recording that was left out when the store was made is missing: it is named."""
    write_raw(tmp_path / "raw", {"a": "good", "b": "good"}, n_frames=4)
    fill(tmp_path / "raw", tmp_path / "store", exclude=["a"])
    (tmp_path / "raw").rename(tmp_path / "elsewhere")
    capsys.readouterr()
    fill(tmp_path / "raw", tmp_path / "store", enabled=False)
    assert "not used, as the store does not hold them: a" in capsys.readouterr().err
    fill(tmp_path / "raw", tmp_path / "store", enabled=False, exclude=["a"])
    assert "does not hold" not in capsys.readouterr().err


def test_switched_off_it_never_uses_a_damaged_store(copied: Path) -> None:
    """Without the raw data at hand, a missing file is refused, and so is an empty store."""
    (copied / "raw").rename(copied / "elsewhere")
    (copied / "store" / NAME / "p2.h5").unlink()
    with pytest.raises(UserError, match=r"1 without its file \(first: p2\)"):
        fill(copied / "raw", copied / "store", enabled=False)
    with pytest.raises(UserError, match="holds no recordings either"):
        fill(copied / "raw", copied / "empty", enabled=False)


def test_switched_off_the_failed_stay_failed(bad_day: tuple[Path, StoreReport]) -> None:
    """With enabled = false, what failed before is reported with its reason, and not tried again."""
    store, report = bad_day
    again = fill(store.parent / "raw", store, enabled=False)
    assert (again.failed, again.reused) == (report.failed, report.done)


def test_a_second_run_does_not_disturb_the_first(copied: Path) -> None:
    """While one run fills the store, another may use what is done but is refused to write."""
    with run._lock(copied / "store"):
        assert fill(copied / "raw", copied / "store").datasets[NAME].done == ["p1", "p2", "p10"]
        touch(copied / "raw" / "p1.npy")
        with pytest.raises(UserError, match="another run is filling it"):
            fill(copied / "raw", copied / "store")


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


def test_hundred_recordings_are_checked_within_a_second(tmp_path: Path) -> None:
    """Finding that 100 recordings with 5 MB of source each are up to date takes less than a second."""
    (tmp_path / "raw").mkdir()
    for index in range(100):
        shape = (6000, 16, 16, 3)
        np.lib.format.open_memmap(tmp_path / "raw" / f"p{index}.npy", "w+", np.uint8, shape)
        (tmp_path / "raw" / f"p{index}.txt").write_text("good")
    SOURCES.register(NAME)(fake_source.FakeSource)
    try:
        sets = [RawSet(name=NAME, root=str(tmp_path / "raw"))]
        planned = plan.make(sets, tmp_path / "store", fake_source.settings(), False)[NAME]
    finally:
        SOURCES._entries.pop(NAME)
    planned.folder.mkdir(parents=True)
    for key, task in planned.tasks.items():
        task.target.write_bytes(b"x")
        planned.manifest.entries[key] = task.description() | {
            "status": "done", "reason": "", "n_frames": 6000, "fps": 30.0, "duration_s": 200.0, "size": 16,
            "label_kind": "ppg", "has_label": True, "hr_mean_bpm": None, "face_found_share": None,
            "warnings": [], "file": task.target.name, "bytes": 1, "sha256": "0",
        }
    planned.manifest.write()
    elapsed = []
    for _ in range(3):
        start = time.perf_counter()
        assert fill(tmp_path / "raw", tmp_path / "store").datasets[NAME].done == list(planned.tasks)
        elapsed.append(time.perf_counter() - start)
    assert min(elapsed) < 1.0


def start_program(folder: Path) -> subprocess.Popen[str]:
    """Preprocess `folder` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder / "raw"), str(folder / "store")],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


def descendants(pid: int) -> list[int]:
    """All living processes below `pid`."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(entry.parent.name)] = int(fields[1])
    found = [pid]
    for parent in found:
        found += [child for child, its in parents.items() if its == parent]
    return found[1:]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_it_whole_and_soon(tmp_path: Path, number: int, code: int) -> None:
    """Within 5 s it ends with the right code, no temporary file, no process left, the manifest whole."""
    write_raw(tmp_path / "raw", {"a": "good", "b": "hang", "c": "hang"}, n_frames=8)
    program = start_program(tmp_path)
    store = tmp_path / "store"
    wait_for(lambda: (store / NAME / "a.h5").exists() and len(leftovers(store)) == 2)
    below, start = descendants(program.pid), time.monotonic()
    for pid in below:  # as a terminal does: to everyone, and in any order
        os.kill(pid, number)
    time.sleep(0.5)
    os.kill(program.pid, number)
    assert program.wait(10) == code
    assert time.monotonic() - start < 5
    wait_for(lambda: not any(is_alive(pid) for pid in below), 5)
    assert leftovers(store) == []
    assert set(manifest_of(store)) <= {"a"}


def test_workers_do_not_outlive_their_parent(tmp_path: Path) -> None:
    """When the parent is killed, busy and hung workers end by themselves."""
    write_raw(tmp_path / "raw", {"a": "hang", "b": "hang"}, n_frames=8)
    program = start_program(tmp_path)
    wait_for(lambda: len(leftovers(tmp_path / "store")) == 2)
    below = descendants(program.pid)
    assert len(below) >= 2
    program.kill()
    program.wait()
    wait_for(lambda: not any(is_alive(pid) for pid in below), 5)


def check_published(store: Path, truth: dict[str, str]) -> dict[str, int]:
    """Whatever a kill left behind: each line that says done has a whole, right file; their inodes."""
    path = store / NAME / "manifest.json"
    done = Manifest(path).done() if path.exists() else {}
    for key, entry in done.items():
        assert file_sha256(store / NAME / f"{key}.h5") == entry["sha256"] == truth[f"{key}.h5"]
    return {name: ino for name, ino in inodes(store).items() if name[:-3] in done}


def survive_kills(folder: Path, moments: Iterator[Callable[[Path], bool] | float], n_kills: int) -> None:
    """Kill and restart in one store until it is full, then begin with a fresh one; compare every byte."""
    write_raw(folder / "raw", {f"p{index}": "slow" for index in range(5)}, n_frames=40)
    fill(folder / "raw", folder / "truth")
    truth, store, done = checksums(folder / "truth"), folder / "store", {}
    for _ in range(n_kills):
        program, moment = start_program(folder), next(moments)
        if callable(moment):
            wait_for(lambda: moment(store / NAME) or program.poll() is not None)  # noqa: B023
        else:
            time.sleep(moment)
        program.kill()
        program.wait()
        now = check_published(store, truth)
        assert done.items() <= now.items(), "a finished recording was made again"
        done = now
        if len(done) == len(truth):
            subprocess.run(["rm", "-r", str(store)], check=True)
            done = {}
    program = start_program(folder)
    assert program.wait(60) == 0, program.stderr
    assert done.items() <= check_published(store, truth).items()
    assert checksums(store) == truth
    assert leftovers(store) == []
    assert manifest_of(store) == manifest_of(folder / "truth")


def test_killed_runs_end_in_the_same_store(tmp_path: Path) -> None:
    """Killed while writing, after the first rename, and between files: the restart gives the same bytes."""
    moments: list[Callable[[Path], bool]] = [
        lambda folder: any(folder.glob(".p*.tmp")),
        lambda folder: any(folder.glob("*.h5")),
        lambda folder: len(list(folder.glob("*.h5"))) >= 3,
    ]
    survive_kills(tmp_path, iter(moments), len(moments))


@pytest.mark.slow
def test_killed_at_random_it_ends_in_the_same_store(tmp_path: Path) -> None:
    """30 kills at random moments: no half file is taken for whole, nothing done is repeated."""
    rng = random.Random(0)
    survive_kills(tmp_path, (rng.uniform(0.2, 5.0) for _ in itertools.count()), 30)


BUSY_PARENT = """
import sys
import cv2, mediapipe, numpy, torch
from dataclasses import replace
from pathlib import Path
from tests.fake_source import fill
cv2.resize(numpy.zeros((500, 500, 3), numpy.uint8), (99, 99))
torch.ones(300, 300) @ torch.ones(300, 300)
with mediapipe.solutions.face_mesh.FaceMesh(max_num_faces=1) as mesh:
    mesh.process(numpy.zeros((200, 200, 3), numpy.uint8))
for index in range(int(sys.argv[2])):
    folder = Path(sys.argv[1])
    report = fill(folder / "raw", folder / f"store{index}")
    assert report.done == ["made_up.a", "made_up.b"], report.summary()
"""


def start_often(folder: Path, times: int) -> None:
    write_raw(folder / "raw", {"a": "good", "b": "good"}, n_frames=4)
    subprocess.run(
        [sys.executable, "-c", BUSY_PARENT, str(folder), str(times)], cwd=ROOT, check=True,
        timeout=60 + 20 * times, capture_output=True,
    )


def test_workers_start_after_the_parent_used_the_libraries(tmp_path: Path) -> None:
    """cv2, mediapipe and torch with their threads in the parent do not keep workers from working."""
    start_often(tmp_path, 2)


@pytest.mark.slow
def test_hundred_starts_end(tmp_path: Path) -> None:
    """100 starts after the parent used cv2, mediapipe and torch: 100 end."""
    start_often(tmp_path, 100)


def test_the_true_extraction_fills_the_store(tmp_path: Path) -> None:
    """Crops by declaration go through the project's own extraction into the store unchanged."""
    write_raw(tmp_path / "raw", {"a": "good"}, n_frames=70)
    SOURCES.register(NAME)(fake_source.FakeSource)
    try:
        sets = [RawSet(name=NAME, root=str(tmp_path / "raw"))]
        report = run.preprocess(sets, tmp_path / "store", fake_source.settings(), progress=False)
    finally:
        SOURCES._entries.pop(NAME)
    assert report.done == [f"{NAME}.a"]
    stored = StoredRecording(tmp_path / "store" / NAME / "a.h5")
    assert np.array_equal(stored.read_frames(0, 70), np.load(tmp_path / "raw" / "a.npy"))
    assert stored.array("frame_time_s").shape == (70,)
    entry = manifest_of(tmp_path / "store")["a"]
    assert (entry["has_label"], entry["label_kind"], entry["hr_mean_bpm"]) == (False, "none", None)


@pytest.mark.parametrize("rate_bpm", [48.0, 72.5, 150.0])
def test_the_mean_rate_of_a_label_is_right(rate_bpm: float) -> None:
    """Within half a beat, with a harmonic and NaN at the start; unlabelled recordings have none."""
    time_s = np.arange(900) / 30
    phase = 2 * np.pi * rate_bpm / 60 * time_s
    pulse = np.sin(phase) + 0.4 * np.sin(2 * phase)
    pulse[:20] = np.nan
    assert mean_rate_bpm(pulse, 30.0) == pytest.approx(rate_bpm, abs=0.5)
    assert mean_rate_bpm(np.full(900, np.nan), 30.0) is None
    assert mean_rate_bpm(np.zeros(900), 30.0) is None
    assert mean_rate_bpm(None, 30.0) is None


def test_what_holds_for_a_set_is_worked_out_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings that all recordings of a set share are not put together for each of them anew."""
    write_raw(tmp_path / "raw", {f"p{index}": "good" for index in range(20)}, n_frames=2)
    calls: list[object] = []
    true = freshness.content_settings
    monkeypatch.setattr(freshness, "content_settings", lambda *given: calls.append(given) or true(*given))
    assert len(stale_keys(tmp_path)) == 20
    assert len(calls) == 1
