"""Whether a result agrees with a published one, and whether the two can be compared at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evaluation import presets
from evaluation.aggregate import Result
from evaluation.published import Entry, Facts

UNTRAINED_MAE_BPM = 0.5
TRAINED_MAE_BPM = 1.0
TRAINED_MAE_SHARE = 0.25
LOOSE_RMSE_SHARE = 0.1
MARKS = {
    "n?": "how many recordings are behind the published number is not stated",
    "≠n": "another number of recordings, or some failed",
    "≠s": "other subjects, or other folds",
    "≠p": "another protocol than a preset of this project, or one that is not public",
    "≠d": "other data: recordings that only have the layout of the dataset",
    "leaks": "people of the test part were also trained on",
    "folds": "not every fold was run",
    "misprint": "the published number is a probable slip",
    "requoted": "the number is quoted with different values",
}


@dataclass(frozen=True)
class Verdict:
    """word: within, outside, "loose: within", "loose: outside" or "not comparable"; marks: keys of MARKS."""

    word: str
    marks: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The word, and why where nothing can be said."""
        return f"{self.word}: {' '.join(self.marks)}" if self.marks else self.word


def judge(entry: Entry, result: Result, facts: Facts) -> Verdict:
    """The verdict on a result beside one published row.

    Tolerances: 0.5 bpm of MAE where nothing is trained; 1 bpm or 25 %, whichever is more, where something
    is, as seeds alone move 42 or 59 recordings by that much; 10 % of the RMSE, called loose, where folds
    are public but the loop over them is not. A published row is never agreed with when recordings,
    protocol or data differ or are unknown.
    """
    marks = _marks(entry, result, facts)
    if marks:
        return Verdict("not comparable", tuple(marks))
    part = facts.parts[entry.part] if entry.part else {}
    loose = part.get("tolerance") == "loose"
    metric = "rmse_bpm" if loose else "mae_bpm"
    theirs, ours = entry.values.get(metric), result.values.get(metric)
    if theirs is None or ours is None:
        return Verdict(f"not comparable: no {metric.partition('_')[0].upper()}")
    word = "within" if abs(ours - theirs) <= tolerance(entry, theirs, loose) + 1e-9 else "outside"
    return Verdict(f"loose: {word}" if loose else word)


def tolerance(entry: Entry, theirs: float, loose: bool) -> float:
    """Largest difference that counts as agreement, in bpm (of RMSE where loose, else of MAE)."""
    if loose:
        return LOOSE_RMSE_SHARE * theirs
    if entry.kind == "unsupervised":
        return UNTRAINED_MAE_BPM
    return max(TRAINED_MAE_BPM, TRAINED_MAE_SHARE * theirs)


def _marks(entry: Entry, result: Result, facts: Facts) -> list[str]:
    """Why the two cannot be compared; empty where they can."""
    part: Mapping[str, Any] = facts.parts[entry.part] if entry.part else {}
    marks = []
    if not part:
        marks.append("n?")
    elif part["n"] != result.n_recordings or result.n != result.expected:
        marks.append("≠n")
    elif _other_people(entry, part, result):
        marks.append("≠s")
    if not is_preset(result.protocol, facts.preset(entry)):
        marks.append("≠p")
    marks += [mark for mark, holds in {
        "≠d": result.origins or result.train_origins,
        "leaks": any("test" in pair for pair in result.leaks), "folds": result.untested,
    }.items() if holds]
    return [*marks, *entry.flags]


def _other_people(entry: Entry, part: Mapping[str, Any], result: Result) -> bool:
    """Whether other subjects were tested, or what was trained was tested in other folds."""
    subjects = {f"{part['dataset']}/{name}" for name in part.get("subjects", ())}
    folds = part.get("folds") if entry.train is not None else None
    return bool(subjects and subjects != set(result.subjects)) or bool(
        folds and not result.split_source.endswith(folds))


def is_preset(protocol: Mapping[str, Any], name: str | None) -> bool:
    """Whether every choice of a stored protocol is that of the preset of that name, whatever it is called."""
    if name is None or name not in presets.PRESETS:
        return False
    wanted = presets.build(name).model_dump(exclude={"name", "description"})
    return all(key in protocol and protocol[key] == value for key, value in wanted.items())
