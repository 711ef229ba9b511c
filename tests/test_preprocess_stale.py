"""A run makes again what is stale and only that, and uses the rest of the store or says why not."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprocessing import freshness, plan, run
from preprocessing.store import StoredRecording
from tests import fake_source
from tests.fake_source import NAME, fill, good_store, inodes, manifest_of, registered, stale_keys, write_raw
from utils.errors import UserError
from utils.settings import RawSet


@pytest.fixture
def copied(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """A copy of `good_store` that a test may change; times are kept."""
    subprocess.run(["cp", "-a", f"{good_store(tmp_path_factory.getbasetemp())}/.", str(tmp_path)], check=True)
    return tmp_path


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


def test_a_second_run_does_not_disturb_the_first(copied: Path) -> None:
    """While one run fills the store, another may use what is done but is refused to write."""
    with run._lock(copied / "store"):
        assert fill(copied / "raw", copied / "store").datasets[NAME].done == ["p1", "p2", "p10"]
        touch(copied / "raw" / "p1.npy")
        with pytest.raises(UserError, match="another run is filling it"):
            fill(copied / "raw", copied / "store")


def test_hundred_recordings_are_checked_within_a_second(tmp_path: Path) -> None:
    """Finding that 100 recordings with 5 MB of source each are up to date takes less than a second."""
    (tmp_path / "raw").mkdir()
    for index in range(100):
        shape = (6000, 16, 16, 3)
        np.lib.format.open_memmap(tmp_path / "raw" / f"p{index}.npy", "w+", np.uint8, shape)
        (tmp_path / "raw" / f"p{index}.txt").write_text("good")
    sets = [RawSet(name=NAME, root=str(tmp_path / "raw"))]
    with registered():
        planned = plan.make(sets, tmp_path / "store", fake_source.settings(), False)[NAME]
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


def test_what_holds_for_a_set_is_worked_out_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings that all recordings of a set share are not put together for each of them anew."""
    write_raw(tmp_path / "raw", {f"p{index}": "good" for index in range(20)}, n_frames=2)
    calls: list[object] = []
    true = freshness.content_settings
    monkeypatch.setattr(freshness, "content_settings", lambda *given: calls.append(given) or true(*given))
    assert len(stale_keys(tmp_path)) == 20
    assert len(calls) == 1
