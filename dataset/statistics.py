"""Frame statistics of whole recordings, computed once and kept beside the store."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from dataset.transforms import FrameStatistics, StatisticsSum, area_resize
from utils import files
from utils.errors import Stopped, UserError

NAME = "statistics.json"
_VERSION = 1
_SAVING_SHARE = 0.1


def measure(blocks: Iterable[Tensor], size: int) -> FrameStatistics:
    """Statistics at size x size of a recording given as uint8 blocks (n, H, W, 3) in time order."""
    total = StatisticsSum()
    for block in blocks:
        total.add(area_resize(block, size))
    return total.result()


class StatisticsFile:
    """`<store>/<dataset>/statistics.json`: statistics by the SHA-256 of the recording's file and size.

    Only a cache: absent, damaged or read-only files cost time, never a result. Several processes may
    write it; what one loses to another is computed again.
    """

    def __init__(self, path: Path) -> None:
        """The file need not exist."""
        self.path = path
        self._known = _read(path)
        self._fresh: dict[str, dict[str, FrameStatistics]] = {}
        self._writable = True
        self._not_before_s = 0.0

    def get(self, sha256: str, size: int) -> FrameStatistics | None:
        """What is known of the recording whose file has that SHA-256."""
        return self._known.get(sha256, {}).get(str(size))

    def put(self, sha256: str, size: int, statistics: FrameStatistics) -> None:
        """Remember; saved at once unless saving already took a tenth of the time."""
        for table in (self._known, self._fresh):
            table.setdefault(sha256, {})[str(size)] = statistics
        if time.perf_counter() >= self._not_before_s:
            self.save()

    def save(self) -> None:
        """Write what is new, merged with what others wrote meanwhile."""
        if not self._fresh or not self._writable:
            return
        begun = time.perf_counter()
        merged = _read(self.path)
        for sha256, sizes in self._fresh.items():
            merged.setdefault(sha256, {}).update(sizes)
        table = {key: {size: asdict(s) for size, s in sizes.items()} for key, sizes in merged.items()}
        try:
            files.write_json(self.path, {"version": _VERSION, "statistics": table})
            self._fresh = {}
        except (OSError, Stopped):
            self._writable = False
        spent = time.perf_counter() - begun
        self._not_before_s = time.perf_counter() + spent / _SAVING_SHARE


def _read(path: Path) -> dict[str, dict[str, FrameStatistics]]:
    """The entries of the file; none where it is absent or not what this version writes."""
    try:
        value = files.read_json(path)
        if value["version"] != _VERSION:
            return {}
        return {
            sha256: {size: _entry(entry) for size, entry in sizes.items()}
            for sha256, sizes in value["statistics"].items()
        }
    except (UserError, KeyError, TypeError, AttributeError, ValueError):
        return {}


def _entry(entry: Any) -> FrameStatistics:
    made = FrameStatistics(**{key: float(value) for key, value in entry.items()})
    if not all(math.isfinite(value) and value >= 0 for value in asdict(made).values()):
        raise ValueError("statistics must be finite")
    return made


@functools.cache
def beside(folder: Path) -> StatisticsFile:
    """The one StatisticsFile of this process for a dataset's folder in the store."""
    return StatisticsFile(folder / NAME)
