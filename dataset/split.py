"""Who is trained on, who chooses and who is tested: made once, saved with the run, hashed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from dataset import shares
from dataset.lists import Lists, Resolver, asked, listed, read_folds
from dataset.shares import MAIN_PARTS, Named, subject_name
from utils.errors import UserError
from utils.files import digest, natural_key
from utils.settings import Split

T = TypeVar("T", bound=Named)
_FACTS = ("scheme", "by", "leaks", "leak_details", "start_leaks", "source", "unused", "absent", "excluded",
          "exclusion_reasons", "known_defects", "preprocessing_warnings")


@dataclass
class Part:
    """One part: subjects as "dataset/subject", keys of its recordings, keys of those that failed."""

    subjects: list[str] = field(default_factory=list)
    recordings: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


@dataclass
class Parts:
    """A split.

    leaks: some subject is on two sides (only by recording, or by published lists that say so), and
    leak_details which; source: where the lists were published; absent: entries of lists that the data
    lacks; known_defects: by key, what is known of recordings that take part; excluded: by key, why not;
    start_leaks: who is tested that the weights to start from know, or may know, in words;
    preprocessing_warnings: what was odd about recordings that take part, in words.
    """

    scheme: str
    by: str
    parts: dict[str, Part]
    leaks: bool = False
    unused: list[str] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)
    leak_details: list[str] = field(default_factory=list)
    source: str = ""
    absent: list[str] = field(default_factory=list)
    exclusion_reasons: dict[str, str] = field(default_factory=dict)
    known_defects: dict[str, str] = field(default_factory=dict)
    start_leaks: list[str] = field(default_factory=list)
    preprocessing_warnings: list[str] = field(default_factory=list)

    @property
    def hash(self) -> str:
        """SHA-256 of the parts: equal for equal splits, however they were asked for."""
        return digest({name: vars(part) for name, part in self.parts.items()})

    def keys(self, name: str) -> list[str]:
        """Keys of the recordings of a part; none for a part that does not exist."""
        return list(self.parts[name].recordings) if name in self.parts else []

    def test_names(self) -> list[str]:
        """The parts that are tested: "test" and the extra lists."""
        return [name for name in self.parts if name not in ("train", "valid")]

    def select(self, infos: Iterable[T], name: str) -> list[T]:
        """The recordings of a part, in its order; UserError names those that are not there."""
        known = {info.key: info for info in infos}
        wanted = self.keys(name)
        lost = [key for key in wanted if key not in known]
        if lost:
            raise UserError(
                f"split part {name!r} names recordings that the store does not hold: {listed(lost)}; "
                f"preprocess them again, or make a new split in a new run"
            )
        return [known[key] for key in wanted]

    def to_json(self) -> dict[str, Any]:
        """The content of split.json."""
        rest = {name: getattr(self, name) for name in _FACTS}
        return {"hash": self.hash, "parts": {name: vars(part) for name, part in self.parts.items()}, **rest}

    def about(self) -> dict[str, Any]:
        """What metrics.json says of the split."""
        lost = [key for name in ("train", "valid") if name in self.parts for key in self.parts[name].missing]
        told = {key: value for key, value in self.to_json().items() if key not in ("parts", "scheme")}
        return {**told, "missing_in_training": lost}

    @classmethod
    def from_json(cls, value: Any, origin: str = "split.json") -> Parts:
        """Read what `to_json` made; UserError when it is damaged or was changed by hand."""
        try:
            parts = {name: Part(**part) for name, part in value["parts"].items()}
            made = cls(parts=parts, **{key: value[key] for key in _FACTS if key in value})
            intact = made.hash == value["hash"]
        except (KeyError, TypeError, AttributeError):
            raise UserError(f"{origin}: not a split as this program writes it; start a new run") from None
        if not intact:
            raise UserError(f"{origin}: was changed after it was made (its hash differs); start a new run")
        return made


def make_split(
    infos: Sequence[Named], settings: Split, seed: int, failed: Sequence[Named] = (),
    excluded: Sequence[Named] = (), require: Sequence[str] = ("train", "test"),
) -> Parts:
    """Cut recordings into parts as `settings` say.

    infos: the usable recordings; failed: those that preprocessing could not use, which take part in
    the cut (so that a failure changes nobody else's place) and are listed as missing of their part;
    excluded: those left out by the user, only noted; require: parts that must not be empty.
    Pure in (infos, failed, settings, seed); the order of the recordings does not matter. UserError for
    entries that are unknown or doubled and for parts that came out empty.
    """
    units = shares.gather([*infos, *failed], settings.by)
    resolver = Resolver(units, settings.by, excluded, settings.absent == "name")
    given, extra = asked(settings)
    chosen = resolver.resolve({**given.parts, **extra}, may_repeat=given.leaks)
    chosen, source = _drawn(chosen, given, units, resolver, settings, seed)
    ordered = [*(name for name in MAIN_PARTS if chosen.get(name)), *extra]
    failed_keys = {info.key for info in failed}
    parts = {
        name: _part([i for unit in chosen[name] for i in resolver.taken(name, unit)], failed_keys)
        for name in ordered
    }
    _require(parts, [*require, *extra])
    placed = {key for part in parts.values() for key in (*part.recordings, *part.missing)}
    everyone = [info.key for members in units.values() for info in members]
    details = _leaks(parts, settings.by == "recording" or given.leaks)
    return Parts(
        settings.scheme, settings.by, parts, bool(details), [key for key in everyone if key not in placed],
        sorted((info.key for info in excluded), key=natural_key), details, source, resolver.absent,
    )


def _drawn(
    listed_parts: dict[str, list[str]], given: Lists, units: dict[str, list[Named]], resolver: Resolver,
    settings: Split, seed: int,
) -> tuple[dict[str, list[str]], str]:
    """The units of every part, listed or drawn from those in no list, and where they were published."""
    taken = {unit for members in listed_parts.values() for unit in members}
    free = [unit for unit in units if unit not in taken]
    if settings.scheme == "fractions":
        return {**shares.fractions(free, settings, seed, given.parts), **listed_parts}, given.source
    if settings.scheme == "kfold":
        return {**shares.kfold(free, settings, seed), **listed_parts}, ""
    if settings.scheme == "loso":
        return {**shares.leave_one_out(free, settings, seed), **listed_parts}, ""
    if settings.scheme == "folds":
        folds, source = read_folds(Path(settings.file or ""), settings.by)
        members = resolver.resolve({f"fold {i}": fold for i, fold in enumerate(folds)})
        stated = [[unit for unit in fold if unit not in taken] for fold in members.values()]
        return {**shares.stated_folds(stated, free, settings, seed), **listed_parts}, source
    return listed_parts, given.source


def _part(members: Sequence[Named], failed: set[str]) -> Part:
    return Part(
        list(dict.fromkeys(subject_name(info) for info in members)),
        [info.key for info in members if info.key not in failed],
        [info.key for info in members if info.key in failed],
    )


def _require(parts: dict[str, Part], names: Sequence[str]) -> None:
    for name in names:
        part = parts.get(name, Part())
        if part.recordings:
            continue
        why = f": all of its recordings failed ({listed(part.missing)})" if part.missing else ""
        raise UserError(
            f"the {name} part of the split is empty{why}; check section split, or add recordings"
        )


def _leaks(parts: dict[str, Part], may: bool) -> list[str]:
    """Which parts share subjects, in words; a fault of ours where they must not."""
    details = []
    for (first, one), (second, other) in itertools.combinations(parts.items(), 2):
        both = set(one.subjects) & set(other.subjects)
        if both:
            details.append(f"{first} and {second} share {len(both)} subjects")
    if details and not may:
        raise RuntimeError(f"a split by subject came out with leaks: {details}")
    return details
