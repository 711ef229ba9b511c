"""Known defects of the datasets: shipped lists of recordings, a reason each; left out only when asked."""

from __future__ import annotations

import functools
from pathlib import Path

from utils.errors import UserError
from utils.files import natural_key
from utils.registry import did_you_mean
from utils.settings import RawSet

_FOLDER = Path(__file__).parent / "sources" / "defects"
DO_NOT_SHOW = "do_not_show"
"""The list of people who must not be pictured; nothing is wrong with their recordings."""
EXCLUDED = "left out by data.sets exclude"


def lists_of(dataset: str) -> dict[str, dict[str, str]]:
    """The dataset's lists by name, each a reason by recording id; files are `<dataset>.<list>.txt`."""
    paths = sorted(_FOLDER.glob(f"{dataset}.*.txt"), key=lambda path: natural_key(path.name))
    return {path.name.split(".")[1]: dict(_read(path)) for path in paths}


def known(dataset: str) -> dict[str, str]:
    """What is known against recordings of the dataset, by id; "list: reason", several joined."""
    found: dict[str, list[str]] = {}
    for name, entries in lists_of(dataset).items():
        for recording, reason in entries.items():
            if name != DO_NOT_SHOW:
                found.setdefault(recording, []).append(f"{name}: {reason}")
    return {recording: "; ".join(reasons) for recording, reasons in found.items()}


def hidden(dataset: str) -> set[str]:
    """Ids of the recordings whose people asked not to be pictured in publications."""
    return set(lists_of(dataset).get(DO_NOT_SHOW, {}))


def left_out(raw_set: RawSet) -> dict[str, str]:
    """Every recording that the params leave out, with the reason; UserError for an unknown list.

    Lists may name recordings that this copy of the dataset does not hold.
    """
    reasons = dict.fromkeys(raw_set.exclude, EXCLUDED)
    lists = lists_of(raw_set.name) if raw_set.exclude_lists else {}
    for name in raw_set.exclude_lists:
        if name not in lists:
            there = f"; lists: {', '.join(lists)}" if lists else ", nor any other"
            raise UserError(
                f"data.sets: {raw_set.name} has no list {name!r} of known defects"
                f"{did_you_mean(name, list(lists))}{there}"
            )
        for recording, reason in lists[name].items():
            reasons.setdefault(recording, f"{EXCLUDED}_lists {name}: {reason}")
    return reasons


@functools.cache
def _read(path: Path) -> tuple[tuple[str, str], ...]:
    """Pairs of id and reason; a line is `id<TAB>reason`, or a comment after `#`."""
    pairs = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            recording, _, reason = line.partition("\t")
            pairs.append((recording.strip(), reason.strip()))
    return tuple(pairs)
