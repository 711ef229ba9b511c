"""Which source files were looked at before, so that files nobody touched are not read at every start."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

from preprocessing import freshness
from preprocessing.sources import RawRecording
from utils import files
from utils.errors import Stopped, UserError

NAME = ".sightings.json"
SETTLED_NS = 2 * 10**9
"""A file that changed this shortly before it was looked at may change again within the same clock tick."""


class Sightings:
    """The identity of each recording's source files, kept with what the file system told of them.

    Files whose names, sizes, inodes, times of modification and times of change are as they were are the
    same files: unlike the first, the last cannot be set back. Only a cache: where it is missing, damaged or
    cannot be written, files are read.
    """

    def __init__(self, folder: Path) -> None:
        """folder: a dataset's in the store; it need not exist."""
        self._path = folder / NAME
        self._before: dict[str, Any] = {}
        self._now: dict[str, Any] = {}
        with contextlib.suppress(UserError, TypeError, ValueError):
            value = files.read_json(self._path) if self._path.exists() else {}
            self._before = {key: entry for key, entry in dict(value).items() if _is_whole(entry)}

    def identity(self, recording: RawRecording, root: Path, verify: bool) -> dict[str, Any]:
        """`freshness.identity`, from memory where no file was touched; verify: all content is read.

        UserError when a file is missing.
        """
        looked_ns, key = time.time_ns(), recording.recording
        look, changed_ns = _look(recording)
        before = self._before.get(key)
        if before and before["look"] == look and not verify:
            self._now[key] = before
            return dict(before["identity"])
        found = freshness.identity(recording, root, verify)
        if changed_ns < looked_ns - SETTLED_NS:
            parts = {name: value for name, value in found.items() if name != "whole"}
            self._now[key] = {"look": look, "identity": parts}
        return found

    def keep(self) -> None:
        """Write what is new, if the store can be written."""
        if self._now == self._before or not self._path.parent.is_dir():
            return
        with contextlib.suppress(OSError, Stopped):
            files.write_json(self._path, self._now)


def _is_whole(entry: Any) -> bool:
    identity = entry.get("identity") if isinstance(entry, dict) else None
    return isinstance(identity, dict) and isinstance(identity.get("bytes"), int) and "look" in entry


def _look(recording: RawRecording) -> tuple[str, int]:
    """What the file system says of a recording's files, as a digest; and when the last of them changed."""
    found, changed_ns = [], 0
    for path in recording.files():
        stat = freshness.file_stat(path)
        changed_ns = max(changed_ns, stat.st_ctime_ns)
        found.append((str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_dev, stat.st_ino))
    return files.digest(found), changed_ns
