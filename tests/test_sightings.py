"""Source files are read again when somebody touched them, and only then."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprocessing import freshness, sightings
from preprocessing.sightings import NAME, Sightings
from tests.fake_source import FakeSource
from utils.files import read_json, write_text


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two recordings whose files were left alone for long enough to be remembered."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for key in ("p1", "p2"):
        np.save(folder / f"{key}.npy", np.zeros((4, 16, 16, 3), np.uint8))
        write_text(folder / f"{key}.txt", "good")
    (tmp_path / "store").mkdir()
    return folder


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The recordings whose files were read, in order."""
    monkeypatch.setattr(sightings, "SETTLED_NS", -10**12)
    keys: list[str] = []
    true = freshness.identity

    def noted(recording: Any, *rest: Any) -> dict[str, Any]:
        keys.append(recording.recording)
        return true(recording, *rest)

    monkeypatch.setattr(freshness, "identity", noted)
    return keys


def look(raw: Path, verify: bool = False) -> list[dict[str, Any]]:
    """One program's look at all recordings."""
    seen = Sightings(raw.parent / "store")
    found = [seen.identity(recording, raw, verify) for recording in FakeSource(raw).recordings()]
    seen.keep()
    return found


def rewrite_in_secret(path: Path) -> None:
    """Other content of the same size, with the time of modification set back."""
    stat = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def swap_in_secret(path: Path) -> None:
    """Another file under the name, of the same size and time of modification."""
    stat, other = path.stat(), path.with_name("other")
    other.write_bytes(bytes(stat.st_size))
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    os.replace(other, path)


def test_untouched_files_are_not_read_again(raw: Path, read: list[str]) -> None:
    """The second look gives the same identities without reading; with `verify` all is read."""
    first = look(raw)
    assert read == ["p1", "p2"]
    assert look(raw) == first
    assert read == ["p1", "p2"]
    verified = look(raw, verify=True)
    assert [{**one, "whole": two["whole"]} for one, two in zip(first, verified, strict=True)] == verified
    assert read == ["p1", "p2"] * 2


@pytest.mark.parametrize("touch", [rewrite_in_secret, swap_in_secret])
def test_a_touched_file_is_read_again(raw: Path, read: list[str], touch: Callable[[Path], None]) -> None:
    """Even where size and time of modification are as before: the time of change cannot be set back."""
    before = look(raw)
    time.sleep(0.02)  # a tick of the file system's clock
    touch(raw / "p2.npy")
    after = look(raw)
    assert read == ["p1", "p2", "p2"]
    assert (after[0], after[1]["names"]) == (before[0], before[1]["names"])
    assert after[1]["parts"] != before[1]["parts"]


def test_what_changed_a_moment_ago_is_not_remembered(raw: Path, read: list[str]) -> None:
    """It may change again within the same tick of the clock."""
    sightings.SETTLED_NS = 10**12  # set back by the fixture
    look(raw)
    look(raw)
    assert read == ["p1", "p2"] * 2
    assert not (raw.parent / "store" / NAME).exists()


@pytest.mark.parametrize("content", [
    "", "[1, 2]", "{}", "{\"p1\": 1, \"p2\": {\"look\": \"\"}}", "3", "{\"p1\": ", "\"text\"",
])
def test_a_damaged_memory_costs_a_look(raw: Path, read: list[str], content: str) -> None:
    """It is as if there were none, and is made anew."""
    first = look(raw)
    write_text(raw.parent / "store" / NAME, content)
    assert look(raw) == first
    assert read == ["p1", "p2"] * 2
    assert set(read_json(raw.parent / "store" / NAME)) == {"p1", "p2"}


def test_a_store_that_cannot_be_written_is_read(
    raw: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a folder without rights nor a missing one is an error."""

    def refuse(*_: Any) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(sightings.files, "write_json", refuse)
    assert len(look(raw)) == 2
    (raw.parent / "store").rmdir()
    assert len(look(raw)) == 2
    assert read == ["p1", "p2"] * 2


def test_what_is_no_longer_there_is_forgotten(raw: Path, read: list[str]) -> None:
    """The memory does not grow beyond the dataset."""
    look(raw)
    (raw / "p1.npy").unlink()
    (raw / "p1.txt").unlink()
    look(raw)
    assert set(read_json(raw.parent / "store" / NAME)) == {"p2"}
    assert read == ["p1", "p2"]
