"""Published results as facts: read from published.json, found by method, training and test set."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from utils.files import read_json

Kind = Literal["intra", "cross", "unsupervised"]


@dataclass(frozen=True)
class Entry:
    """One method on one test set, as one document prints it.

    train: dataset it was trained on, None where nothing is trained. quantity: "hr" (bpm), "rf" (Hz), "lf",
    "hf" (normalised units) or "lf_hf". values: metrics by their name in metrics.json. origin: own (by the
    method's authors), rerun, copied, or copied_or_rerun. protocol, part, source: keys of `Facts`; part is
    None where the recordings are not stated. flags: "misprint" or "requoted", with the reason.
    """

    method: str
    name: str
    test: str
    train: str | None
    kind: Kind
    values: Mapping[str, float]
    source: str
    origin: str
    protocol: str
    part: str | None = None
    quantity: str = "hr"
    flags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """published.json. datasets: printed names by registry name; the others are described by key."""

    datasets: Mapping[str, str]
    protocols: Mapping[str, Mapping[str, Any]]
    parts: Mapping[str, Mapping[str, Any]]
    sources: Mapping[str, Mapping[str, str]]
    rows: tuple[Entry, ...]

    def of(
        self, names: Sequence[str], trained: Collection[str], tested: Collection[str], quantity: str = "hr"
    ) -> list[Entry]:
        """Rows of a method for one training and one test set; no row fits several sets at once.

        names: what it may be published under, the first that anything is published under counts: a net
        that learned by the method of another paper is that paper's. trained is empty where nothing is.
        """
        known = {row.method for row in self.rows}
        method = next((name for name in names if name in known), None)
        if len(tested) != 1 or len(trained) > 1:
            return []
        train = next(iter(trained), None)
        return [row for row in self.on(tested, quantity) if row.method == method and row.train == train]

    def on(self, tested: Collection[str], quantity: str = "hr") -> list[Entry]:
        """Every row of one test set that prints an error of this quantity."""
        errors = {"mae_bpm", "rmse_bpm", "rmse"}
        return [row for row in self.rows
                if {row.test} == set(tested) and row.quantity == quantity and errors & set(row.values)]

    def n_recordings(self, entry: Entry) -> int | None:
        """How many recordings are behind a row; None where that is not stated."""
        return None if entry.part is None else int(self.parts[entry.part]["n"])

    def preset(self, entry: Entry) -> str | None:
        """The preset under which the row was made; None where no preset reproduces it."""
        return self.protocols[entry.protocol]["preset"]


def load() -> Facts:
    """The published results that come with the project."""
    value = read_json(Path(__file__).with_name("published.json"))
    rows = tuple(Entry(**row) for row in value["rows"])
    return Facts(value["datasets"], value["protocols"], value["parts"], value["sources"], rows)
