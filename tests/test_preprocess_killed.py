"""A signalled or killed run leaves no process and no half file; its restart ends in the same store."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from preprocessing.manifest import Manifest
from tests.fake_source import NAME, PROGRAM, ROOT, checksums, fill, inodes, leftovers, manifest_of, write_raw
from utils.files import file_sha256


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
