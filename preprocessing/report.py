"""What became of every recording when the store was filled, and what was odd about those that can be used."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from utils import runlog
from utils.errors import RecordingsFailed
from utils.files import natural_key

MOST_NAMED = 10
WHERE = "all: python main.py audit, or the store's manifest.json"

Warned = Mapping[str, Sequence[str]]
"""The warnings of each recording by its key, "<dataset>.<recording>"."""


@dataclass
class DatasetReport:
    """What became of one dataset's recordings; every id found is in exactly one of the four."""

    reused: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    excluded: list[str] = field(default_factory=list)

    @property
    def done(self) -> list[str]:
        """Recordings that can be used, in natural order."""
        return _sorted([*self.reused, *self.made])

    @property
    def expected(self) -> int:
        """Number of recordings that should be usable."""
        return len(self.done) + len(self.failed)

    def in_order(self) -> DatasetReport:
        """The same with all ids in natural order, whatever finished first."""
        failed = {key: self.failed[key] for key in _sorted(self.failed)}
        return DatasetReport(_sorted(self.reused), _sorted(self.made), failed, _sorted(self.excluded))


@dataclass
class StoreReport:
    """What became of every recording, by dataset; keys over all are "<dataset>.<recording>"."""

    datasets: dict[str, DatasetReport] = field(default_factory=dict)

    @property
    def expected(self) -> int:
        """Number of recordings that should be usable."""
        return sum(part.expected for part in self.datasets.values())

    @property
    def done(self) -> list[str]:
        """Keys of the recordings that can be used."""
        return [f"{name}.{key}" for name, part in self.datasets.items() for key in part.done]

    @property
    def reused(self) -> list[str]:
        """Keys of those that were there before."""
        return [f"{name}.{key}" for name, part in self.datasets.items() for key in part.reused]

    @property
    def failed(self) -> dict[str, str]:
        """The reason by key of each recording that failed."""
        parts = self.datasets.items()
        return {f"{name}.{key}": reason for name, part in parts for key, reason in part.failed.items()}

    def summary(self) -> str:
        """One line per dataset with the counts."""
        return "\n".join(
            f"store {name}: expected {part.expected}, done {len(part.done)} ({len(part.reused)} reused), "
            f"failed {len(part.failed)}" + (f", left out {len(part.excluded)}" if part.excluded else "")
            for name, part in self.datasets.items()
        )

    def raise_if_failed(self, allow_failed: bool = False) -> None:
        """Raise RecordingsFailed naming every failed recording, unless failures are allowed."""
        if self.failed and not allow_failed:
            lines = [f"  {key}: {reason}" for key, reason in self.failed.items()]
            raise RecordingsFailed("\n".join([f"{len(lines)} of {self.expected} recordings failed:", *lines]))


def _sorted(ids: Iterable[str]) -> list[str]:
    return sorted(ids, key=natural_key)


class Announcer:
    """Prints a line for each recording with warnings as it is made.

    After ten lines only for one with a warning of a kind that no line showed yet, ten times at most.
    """

    def __init__(self) -> None:
        self._kinds: set[str] = set()
        self.named: set[str] = set()

    def made(self, key: str, warnings: Sequence[str]) -> None:
        """A recording is done: `key` and its warnings, in a line if there are any."""
        fresh = [text for text in warnings if _kind(key, text) not in self._kinds]
        most = 2 * MOST_NAMED if fresh else MOST_NAMED
        if not warnings or len(self.named) >= most:
            return
        self.named.add(key)
        shown = (fresh or warnings)[0]
        self._kinds.add(_kind(key, shown))
        more = f" (and {len(warnings) - 1} more)" if len(warnings) > 1 else ""
        runlog.warn(f"{key}: {_plain(key, shown)}{more}")


def warnings_line(warned: Warned, named: set[str]) -> str:
    """One line that counts the recordings with warnings; empty where all of them were named before."""
    keys = [key for key, warnings in warned.items() if warnings]
    if named.issuperset(keys):
        return ""
    (_, found), *_ = _by_kind(warned)
    key, text = next(iter(found.items()))
    have = "recording has" if len(keys) == 1 else "recordings have"
    return f"{len(keys)} {have} warnings (such as {key}: {text}); {WHERE}"


def warnings_in_words(warned: Warned) -> list[str]:
    """A sentence for each kind of warning: the first text of that kind, how many recordings, and which.

    What few recordings have comes first; names and kinds beyond the first ten are counted.
    """
    kinds = _by_kind(warned)
    sentences = []
    for _, found in kinds[:MOST_NAMED]:
        keys, text = list(found), next(iter(found.values()))
        count = f"this or alike in {len(keys)} recordings: " if len(keys) > 1 else ""
        sentences.append(f"preprocessing: {text} ({count}{_named(keys)})")
    if len(kinds) > MOST_NAMED:
        sentences.append(f"preprocessing: warnings of {len(kinds) - MOST_NAMED} more kinds; {WHERE}")
    return sentences


def _by_kind(warned: Warned) -> list[tuple[str, dict[str, str]]]:
    """(kind, {key: text}), the rarest first: what all recordings of a set have is no surprise in one."""
    kinds: dict[str, dict[str, str]] = {}
    for key, warnings in warned.items():
        for text in warnings:
            kinds.setdefault(_kind(key, text), {}).setdefault(key, _plain(key, text))
    return sorted(kinds.items(), key=lambda item: len(item[1]))


def _kind(key: str, text: str) -> str:
    """The text without the recording's name and without numbers."""
    name = re.escape(_numberless(_recording(key)))
    return re.sub(rf"(?<![A-Za-z0-9]){name}(?![A-Za-z0-9])", "", _numberless(text))


def _numberless(text: str) -> str:
    return re.sub(r"\d+(\.\d+)?", "#", text)


def _plain(key: str, text: str) -> str:
    """The text without the recording's name before it, which the key tells."""
    return text.removeprefix(f"{_recording(key)}: ")


def _recording(key: str) -> str:
    return key.partition(".")[2]


def _named(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - MOST_NAMED} more" if len(keys) > MOST_NAMED else ""
    return ", ".join(keys[:MOST_NAMED]) + more
