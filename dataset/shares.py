"""Units of a split (people, or single recordings), and how they are drawn into parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from utils.errors import UserError
from utils.files import natural_key
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
    @property
    def people(self) -> str: ...  # noqa: D102


def subject_name(info: Named) -> str:
    """Who is seen: "dataset/subject", or "people/subject" where datasets share people.

    Equal ids in two datasets are two people, unless the datasets say that they number the same ones.
    """
    return f"{info.people or info.dataset}/{info.subject}"


def gather(infos: Sequence[Named], by: str) -> dict[str, list[Named]]:
    """What is shared out, in natural order: people or single recordings, with their recordings."""
    units: dict[str, list[Named]] = {}
    for info in sorted(infos, key=_order):
        name = subject_name(info) if by == "subject" else info.key
        units.setdefault(name, []).append(info)
    return units


def _order(info: Named) -> tuple[Any, ...]:
    return natural_key(info.dataset), natural_key(info.subject), natural_key(info.recording)


def in_order(chosen: Mapping[str, list[str]], units: Sequence[str]) -> dict[str, list[str]]:
    """Every part in the natural order of the units, not in the order of the draw."""
    place = {unit: i for i, unit in enumerate(units)}
    return {name: sorted(members, key=place.__getitem__) for name, members in chosen.items()}


def fractions(
    free: list[str], settings: Split, seed: int, fixed: Iterable[str] = ()
) -> dict[str, list[str]]:
    """The shares of train, valid and test; parts that are `fixed` by lists leave theirs to the others."""
    shares = {"train": settings.train, "valid": settings.valid, "test": settings.test}
    kept = {name: share for name, share in shares.items() if name not in fixed}
    if len(kept) < len(shares):
        scale = sum(kept.values()) or 1.0
        kept = {name: share / scale for name, share in kept.items()}
    drawn = _shuffled(free, seed)
    chosen: dict[str, list[str]] = {}
    for name, count in _counts(kept, len(drawn)).items():
        chosen[name], drawn = drawn[:count], drawn[count:]
    return in_order(chosen, free)


def _counts(shares: dict[str, float], n: int) -> dict[str, int]:
    """Whole numbers nearest to the shares of n, at least 1 for each share above 0 where n allows it.

    Where n is too small for all, train comes first, then test, then valid.
    """
    asked = [name for name in ("train", "test", "valid") if shares.get(name, 0) > 0]
    counts = {name: int(name in asked[:n]) for name in shares}
    total = min(n, max(round(sum(shares.values()) * n), sum(counts.values())))
    while sum(counts.values()) < total:
        neediest = max(asked, key=lambda name: shares[name] * n - counts[name])
        counts[neediest] += 1
    return counts


def kfold(free: list[str], settings: Split, seed: int) -> dict[str, list[str]]:
    """Fold number settings.fold of settings.folds is tested; each unit is in exactly one fold."""
    if settings.folds > len(free):
        raise UserError(
            f"split.folds = {settings.folds}, but there are only {len(free)} {settings.by}s to share out"
        )
    drawn = _shuffled(free, seed)
    rest = [unit for i, unit in enumerate(drawn) if i % settings.folds != settings.fold]
    return _around(drawn[settings.fold :: settings.folds], rest, free, settings.valid)


def leave_one_out(free: list[str], settings: Split, seed: int) -> dict[str, list[str]]:
    """Unit number settings.fold, in natural order, is tested alone."""
    if settings.fold >= len(free):
        raise UserError(
            f"split.fold = {settings.fold}, but there are only {len(free)} {settings.by}s to leave out "
            f"(0 to {len(free) - 1})"
        )
    test = free[settings.fold]
    return _around([test], [unit for unit in _shuffled(free, seed) if unit != test], free, settings.valid)


def stated_folds(
    folds: list[list[str]], free: list[str], settings: Split, seed: int
) -> dict[str, list[str]]:
    """One of the folds of a file is tested, the others train; units in no fold are not used."""
    if settings.fold >= len(folds):
        raise UserError(f"split.fold = {settings.fold}, but {settings.file} holds {len(folds)} folds")
    members = [unit for i, fold in enumerate(folds) if i != settings.fold for unit in fold]
    return _around(folds[settings.fold], _shuffled(members, seed), free, settings.valid)


def _around(test: list[str], rest: list[str], order: list[str], valid: float) -> dict[str, list[str]]:
    """The tested units, and the others divided into valid, a share of them, and train."""
    n_valid = 0
    if valid > 0 and len(rest) > 1:
        n_valid = min(len(rest) - 1, max(1, round(valid * len(rest))))
    return in_order({"train": rest[n_valid:], "valid": rest[:n_valid], "test": test}, order)


def _shuffled(units: Iterable[str], seed: int) -> list[str]:
    names = list(units)
    return [names[i] for i in sample_rng(seed, _SPLIT_STREAM).permutation(len(names))]
