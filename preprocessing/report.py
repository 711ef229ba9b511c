"""What became of every recording when the store was filled."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from utils.errors import RecordingsFailed
from utils.files import natural_key


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
