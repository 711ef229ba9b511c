"""Who is trained on, who chooses and who is tested: made once, saved with the run, hashed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from utils.errors import UserError
from utils.files import digest, natural_key, read_json, safe_name
from utils.registry import did_you_mean
from utils.seeding import sample_rng
from utils.settings import Split

MAIN_PARTS = ("train", "valid", "test")
_SPLIT_STREAM = 2


class Named(Protocol):
    """What a split needs to know of a recording, usable or failed."""

    @property
    def key(self) -> str: ...  # noqa: D102
    @property
    def dataset(self) -> str: ...  # noqa: D102
    @property
    def subject(self) -> str: ...  # noqa: D102
    @property
    def recording(self) -> str: ...  # noqa: D102


T = TypeVar("T", bound=Named)


@dataclass
class Part:
    """One part: subjects as "dataset/subject", keys of its recordings, keys of those that failed."""

    subjects: list[str] = field(default_factory=list)
    recordings: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


@dataclass
class Parts:
    """A split. `leaks`: some subject is on two sides (only with by = "recording")."""

    scheme: str
    by: str
    parts: dict[str, Part]
    leaks: bool = False
    unused: list[str] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)

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
                f"split part {name!r} names recordings that the store does not hold: {_listed(lost)}; "
                f"preprocess them again, or make a new split in a new run"
            )
        return [known[key] for key in wanted]

    def to_json(self) -> dict[str, Any]:
        """The content of split.json."""
        return {
            "hash": self.hash, "scheme": self.scheme, "by": self.by, "leaks": self.leaks,
            "parts": {name: vars(part) for name, part in self.parts.items()},
            "unused": self.unused, "excluded": self.excluded,
        }

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
            rest = {key: value[key] for key in ("scheme", "by", "leaks", "unused", "excluded")}
            made = cls(parts=parts, **rest)
            intact = made.hash == value["hash"]
        except (KeyError, TypeError, AttributeError):
            raise UserError(f"{origin}: not a split as this program writes it; start a new run") from None
        if not intact:
            raise UserError(f"{origin}: was changed after it was made (its hash differs); start a new run")
        return made


def make_split(
    infos: Sequence[Named], settings: Split, seed: int, failed: Sequence[Named] = (),
    excluded: Sequence[str] = (), require: Sequence[str] = ("train", "test"),
) -> Parts:
    """Cut recordings into parts as `settings` say.

    infos: the usable recordings; failed: those that preprocessing could not use, which take part in
    the cut (so that a failure changes nobody else's place) and are listed as missing of their part;
    excluded: keys left out by the user, only noted; require: parts that must not be empty.
    Pure in (infos, failed, settings, seed); the order of the recordings does not matter. UserError for
    entries that are unknown or doubled and for parts that came out empty.
    """
    units = _units([*infos, *failed], settings.by)
    lists, extra = _asked_lists(settings)
    chosen = _resolve({**lists, **extra}, units, settings.by)
    taken = {unit for members in chosen.values() for unit in members}
    free = [unit for unit in units if unit not in taken]
    if settings.scheme == "fractions":
        chosen = {**_fractions(free, settings, seed), **chosen}
    elif settings.scheme == "kfold":
        chosen = {**_kfold(free, settings, seed), **chosen}
    ordered = [*(name for name in MAIN_PARTS if chosen.get(name)), *extra]
    failed_keys = {info.key for info in failed}
    parts = {name: _part([i for unit in chosen[name] for i in units[unit]], failed_keys) for name in ordered}
    _require(parts, [*require, *extra])
    placed = {key for part in parts.values() for key in (*part.recordings, *part.missing)}
    everyone = [info.key for members in units.values() for info in members]
    unused = [key for key in everyone if key not in placed]
    leaks = _leaks(parts, settings.by)
    return Parts(settings.scheme, settings.by, parts, leaks, unused, sorted(excluded, key=natural_key))


def subject_name(info: Named) -> str:
    """Who is seen: "dataset/subject"; equal ids in two datasets are two people."""
    return f"{info.dataset}/{info.subject}"


def _order(info: Named) -> tuple[Any, ...]:
    return natural_key(info.dataset), natural_key(info.subject), natural_key(info.recording)


def _units(infos: Sequence[Named], by: str) -> dict[str, list[Named]]:
    """What is shared out, in natural order: subjects or single recordings, with their recordings."""
    units: dict[str, list[Named]] = {}
    for info in sorted(infos, key=_order):
        name = subject_name(info) if by == "subject" else info.key
        units.setdefault(name, []).append(info)
    return units


def _shuffled(units: Iterable[str], seed: int) -> list[str]:
    names = list(units)
    return [names[i] for i in sample_rng(seed, _SPLIT_STREAM).permutation(len(names))]


def _in_order(chosen: dict[str, list[str]], units: Sequence[str]) -> dict[str, list[str]]:
    """Every part in the natural order of the units, not in the order of the draw."""
    place = {unit: i for i, unit in enumerate(units)}
    return {name: sorted(members, key=place.__getitem__) for name, members in chosen.items()}


def _fractions(free: list[str], settings: Split, seed: int) -> dict[str, list[str]]:
    shares = {"train": settings.train, "valid": settings.valid, "test": settings.test}
    drawn = _shuffled(free, seed)
    chosen: dict[str, list[str]] = {}
    for name, count in _counts(shares, len(drawn)).items():
        chosen[name], drawn = drawn[:count], drawn[count:]
    return _in_order(chosen, free)


def _counts(shares: dict[str, float], n: int) -> dict[str, int]:
    """Whole numbers nearest to the shares of n, at least 1 for each share above 0 where n allows it.

    Where n is too small for all, train comes first, then test, then valid.
    """
    asked = [name for name in ("train", "test", "valid") if shares[name] > 0]
    counts = {name: int(name in asked[:n]) for name in shares}
    total = min(n, max(round(sum(shares.values()) * n), sum(counts.values())))
    while sum(counts.values()) < total:
        neediest = max(asked, key=lambda name: shares[name] * n - counts[name])
        counts[neediest] += 1
    return counts


def _kfold(free: list[str], settings: Split, seed: int) -> dict[str, list[str]]:
    if settings.folds > len(free):
        raise UserError(
            f"split.folds = {settings.folds}, but there are only {len(free)} {settings.by}s to share out"
        )
    drawn = _shuffled(free, seed)
    test = drawn[settings.fold :: settings.folds]
    rest = [unit for i, unit in enumerate(drawn) if i % settings.folds != settings.fold]
    n_valid = 0
    if settings.valid > 0 and len(rest) > 1:
        n_valid = min(len(rest) - 1, max(1, round(settings.valid * len(rest))))
    return _in_order({"train": rest[n_valid:], "valid": rest[:n_valid], "test": test}, free)


def _asked_lists(settings: Split) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The lists for train, valid and test (scheme "lists") and the further test lists."""
    lists: dict[str, list[str]] = {}
    given: dict[str, list[str]]
    extra = dict(settings.extra)
    if settings.scheme == "lists":
        if settings.file and settings.lists:
            raise UserError("split.file and split.lists are both given; keep one of them")
        given = {str(name): entries for name, entries in settings.lists.items()}
        given = _read_lists(Path(settings.file)) if settings.file else given
        twice = [name for name in given if name in extra]
        if twice:
            raise UserError(f"{settings.file} and split.extra both have a list {twice[0]!r}; rename one")
        lists = {name: given[name] for name in MAIN_PARTS if name in given}
        extra = {**{name: part for name, part in given.items() if name not in lists}, **extra}
    for name in extra:
        if safe_name(name) in MAIN_PARTS:
            raise UserError(f"split.extra.{name}: that name is taken; call the further list something else")
    return lists, extra


def _read_lists(path: Path) -> dict[str, list[str]]:
    value = read_json(path)
    shaped = isinstance(value, dict) and all(
        isinstance(part, list) and all(isinstance(entry, str) for entry in part) for part in value.values()
    )
    if not shaped:
        raise UserError(f'{path}: lists of names are expected, as in {{"train": ["subject1"], ...}}')
    return value


def _resolve(asked: dict[str, list[str]], units: dict[str, list[Named]], by: str) -> dict[str, list[str]]:
    """Entries to units; UserError lists every entry that is unknown, ambiguous or doubled at once."""
    names: dict[str, list[str]] = {}
    for unit, (first, *_) in units.items():
        short = first.subject if by == "subject" else first.recording
        for name in {short, f"{first.dataset}/{short}", f"{first.dataset}/*", unit}:
            names.setdefault(name, []).append(unit)
    chosen: dict[str, list[str]] = {part: [] for part in asked}
    where: dict[str, str] = {}
    problems: list[str] = []
    for part, entries in asked.items():
        for entry in entries:
            found = names.get(entry, [])
            if len(found) != 1 and not (found and entry.endswith("/*")):
                problems.append(f"{part}: {_not_one(entry, found, list(names), by)}")
                continue
            problems += [f"{part}: {u} is also in {where[u]}" for u in found if u in where]
            chosen[part] += found
            where.update({unit: part for unit in found})
    if problems:
        shown = [*problems[:8], *([f"and {len(problems) - 8} more"] if len(problems) > 8 else [])]
        raise UserError("\n  ".join([f"the lists of the split have {len(problems)} problem(s):", *shown]))
    return _in_order(chosen, list(units))


def _not_one(entry: str, found: list[str], known: list[str], by: str) -> str:
    if found:
        return f"{entry!r} is in several datasets; write one of {_listed(found)}"
    return f"there is no {by} {entry!r}{did_you_mean(entry, known)}"


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
        why = f": all of its recordings failed ({_listed(part.missing)})" if part.missing else ""
        raise UserError(
            f"the {name} part of the split is empty{why}; check section split, or add recordings"
        )


def _leaks(parts: dict[str, Part], by: str) -> bool:
    """Whether some subject is on two sides; a fault of ours when the split is by subject."""
    subjects = [subject for part in parts.values() for subject in part.subjects]
    leaks = len(subjects) != len(set(subjects))
    if leaks and by == "subject":
        raise RuntimeError("a subject came out on two sides of a split by subject")
    return leaks


def _listed(names: Sequence[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
