"""What a split means for the numbers, in sentences: leaks, who was left out, known defects that took part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.cells import counted

MAX_NAMED = 10
_NO_REASON = ""


def split_notes(split: Mapping[str, Any]) -> list[str]:
    """A sentence for everything in the section "split" of a metrics.json that a reader of the numbers needs.

    Names beyond the first ten are counted. Empty for a split without oddities, and without a split.
    """
    notes = split_facts(split)
    for kind, text in {"missing_in_training": "missing in training", "unused": "in no part"}.items():
        keys = split.get(kind, [])
        if keys:
            notes.append(f"{text}: {counted(len(keys), 'recording')}: {named(keys)}")
    return notes


def split_facts(split: Mapping[str, Any]) -> list[str]:
    """Those of the sentences that are the same for every fold of a split."""
    notes = []
    if split.get("leaks"):
        details = split.get("leak_details") or ["the parts share subjects"]
        how = "split by recording" if split.get("by") == "recording" else "published lists that leak"
        notes.append(f"LEAKS ({how}): {'; '.join(details)}")
    notes += split.get("start_leaks", [])
    if split.get("source"):
        notes.append(f"split: {split['source']}")
    absent = split.get("absent", [])
    if absent:
        notes.append(f"listed, but not in the data: {named(absent)}")
    why = split.get("exclusion_reasons", {})
    notes += _grouped("left out", {key: why.get(key, _NO_REASON) for key in split.get("excluded", [])})
    return notes + _grouped("took part in spite of a known defect", split.get("known_defects", {}))


def named(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def _grouped(text: str, reasons: Mapping[str, str]) -> list[str]:
    """A sentence for each reason, with the recordings it holds for."""
    found: dict[str, list[str]] = {}
    for key, reason in reasons.items():
        found.setdefault(reason, []).append(key)
    return [
        f"{text}: {counted(len(keys), 'recording')}{f' ({reason})' if reason else ''}: {named(keys)}"
        for reason, keys in found.items()
    ]
