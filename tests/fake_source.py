"""A made-up dataset whose recordings misbehave on demand, a program that preprocesses it, and its store.

`<id>.npy` holds the frames; `<id>.txt` the behaviour of the worker that reads them; "once" before it:
only of the first worker that does; "while ID" after it: when another one waits in ID.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from preprocessing import plan
from preprocessing.manifest import Manifest
from preprocessing.run import preprocess
from preprocessing.sources.base import SOURCES, FrameReader, Labels, RawRecording, Source
from preprocessing.work import make_recording
from utils import interrupt
from utils.errors import Interrupted, Stopped, UserError
from utils.files import file_sha256
from utils.settings import Preprocessing, RawSet

NAME = "made_up"
SIZE = 16
ROOT = Path(__file__).resolve().parent.parent
PROGRAM = "import sys; from tests.fake_source import main; sys.exit(main(*sys.argv[1:]))"


def segfault() -> None:
    """Crash as a library would, not as Python would."""
    ctypes.string_at(0)


def refuse() -> None:
    """What a source does with a recording it cannot use."""
    raise UserError("the ground truth is empty")


def stumble() -> None:
    """A fault in a reader."""
    raise ZeroDivisionError("a bug in a reader")


def fill_the_disk() -> None:
    """What the store's writer does on a full disk."""
    raise Stopped("disk full: p needs 2.0 MiB, has 1.0 MiB")


BEHAVIOURS: dict[str, Callable[[], Any]] = {
    "good": lambda: None,
    "slow": lambda: time.sleep(0.4),
    "hang": lambda: time.sleep(600),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda: os._exit(7),
    "segfault": segfault,
    "refuse": refuse,
    "stumble": stumble,
    "full": fill_the_disk,
    "torch": lambda: sys.modules["torch"],
}


class FakeFrames(FrameReader):
    """Frames from a .npy file."""

    def __init__(self, path: Path) -> None:
        self._frames = np.load(path, mmap_mode="r")
        self.n_declared, self.fps_declared, self.warnings = len(self._frames), 30.0, []

    def __iter__(self) -> Iterator[np.ndarray]:
        yield from (np.array(frame) for frame in self._frames)

    @property
    def time_s(self) -> np.ndarray:
        return np.arange(len(self._frames)) / 30.0


@dataclass(frozen=True, kw_only=True)
class FakeRecording(RawRecording):
    """One .npy file and its behaviour."""

    folder: Path

    def files(self) -> list[Path]:
        return [self.folder / f"{self.recording}{suffix}" for suffix in (".npy", ".txt")]

    def open_frames(self) -> FrameReader:
        reader, words = FakeFrames(self.files()[0]), self.files()[1].read_text().split()
        if words[0] == "declares":
            reader.n_declared = int(words[1])
        return reader

    def labels(self) -> Labels:
        return Labels()


class FakeSource(Source):
    """All .npy files of a folder."""

    name, access = NAME, "made up"

    def __init__(self, root: Path) -> None:
        self.root = root

    def recordings(self) -> list[RawRecording]:
        return [
            FakeRecording(
                dataset=NAME, subject=path.stem, recording=path.stem, is_crop=True,
                conditions={"light": "dim"}, folder=self.root,
            )
            for path in sorted(self.root.glob("*.npy"))
        ]


def write_raw(root: Path, behaviours: dict[str, str], n_frames: int = 40) -> None:
    """Write one recording of random frames for each (id, behaviour)."""
    root.mkdir(parents=True, exist_ok=True)
    for index, (key, behaviour) in enumerate(behaviours.items()):
        frames = np.random.default_rng(index).integers(0, 255, (n_frames, SIZE, SIZE, 3), dtype=np.uint8)
        np.save(root / f"{key}.npy", frames)
        (root / f"{key}.txt").write_text(behaviour)


def wait_for(path: Path, beat: Callable[[], None], seconds: float = 60.0) -> None:
    """Show that there is life until the file is there."""
    end = time.monotonic() + seconds
    while not path.exists() and time.monotonic() < end:
        beat()
        time.sleep(0.05)


def fake_extract(recording: Any, settings: Any, sink: Any, beat: Callable[[], None]) -> Any:
    """Copy the frames; halfway through, do what the recording's text says."""
    behaviour = recording.files()[1].read_text().strip()
    if behaviour.startswith("once "):
        seen = recording.files()[1].with_suffix(".seen")
        behaviour = "good" if seen.exists() else behaviour.removeprefix("once ")
        seen.touch()
    reader = recording.open_frames()
    for index, frame in enumerate(reader):
        if index == reader.n_declared // 2:
            behaviour, _, other = behaviour.partition(" while ")
            if other:
                wait_for(recording.folder / f"{other}.here", beat)
            if behaviour == "waits":
                (recording.folder / f"{recording.recording}.here").touch()
                wait_for(recording.folder / f"{recording.recording}.go", beat)
            else:
                BEHAVIOURS[behaviour]()
        sink.append("frames", frame[None])
        beat()
    time_s = reader.time_s
    arrays = {"frame_time_s": time_s, "pulse": np.sin(7 * time_s), "hr_bpm": np.array([70.0, np.nan, 74.0])}
    attributes = {"fps": 30.0, "label_kind": "ppg", "n_frames": len(time_s), "region_names": ["chin"]}
    return SimpleNamespace(arrays=arrays, attributes=attributes, warnings=["a word of warning"])


make = functools.partial(make_recording, extractor=fake_extract)
"""The work of a worker, with the made-up extraction."""


def settings(**changes: Any) -> Preprocessing:
    """Settings that fit the made-up frames."""
    return Preprocessing(**{"face_finder": "none", "size": SIZE, "landmarks": False, "workers": 2} | changes)


@contextlib.contextmanager
def registered() -> Iterator[None]:
    """The made-up dataset is known for a while."""
    SOURCES.register(NAME)(FakeSource)
    try:
        yield
    finally:
        SOURCES._entries.pop(NAME)


def fill(root: Path, store: Path, exclude: list[str] | None = None, **changes: Any) -> Any:
    """Preprocess the made-up dataset; registered for the time of the call only."""
    sets = [RawSet(name=NAME, root=str(root), exclude=exclude or [])]
    with registered():
        return preprocess(sets, store, settings(**changes), progress=False, work=make)


@functools.cache
def good_store(base: Path) -> Path:
    """A folder in `base` with three good recordings and their store, made once; to change it, copy it."""
    folder = base / "good_store"
    write_raw(folder / "raw", dict.fromkeys(("p1", "p2", "p10"), "good"))
    fill(folder / "raw", folder / "store")
    return folder


def manifest_of(store: Path) -> dict[str, dict[str, Any]]:
    """The manifest's lines by recording."""
    return Manifest(store / NAME / "manifest.json").entries


def checksums(store: Path) -> dict[str, str]:
    """Of the stored files, by name."""
    return {path.name: file_sha256(path) for path in sorted((store / NAME).glob("*.h5"))}


def inodes(store: Path) -> dict[str, int]:
    """Of the stored files, by name: a file that was made again has another."""
    return {path.name: path.stat().st_ino for path in (store / NAME).glob("*.h5")}


def leftovers(store: Path) -> list[str]:
    """Names of temporary files."""
    return [path.name for path in store.rglob("*.tmp")]


def stale_keys(folder: Path, **changes: Any) -> list[str]:
    """The recordings a run would make, without making them."""
    sets = [RawSet(name=NAME, root=str(folder / "raw"))]
    with registered():
        return list(plan.make(sets, folder / "store", settings(**changes), False)[NAME].tasks)


def main(root: str, store: str) -> int:
    """Preprocess as the command line would; returns the exit code."""
    try:
        with interrupt.listening():
            fill(Path(root), Path(store)).raise_if_failed()
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except Interrupted as stop:
        return stop.exit_code
    return 0

