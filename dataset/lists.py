"""Lists and folds as users and papers give them, resolved to the units of a split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from dataset.shares import MAIN_PARTS, Named, in_order, subject_name
from utils.errors import UserError
from utils.files import natural_key, read_json, safe_name
from utils.registry import did_you_mean
from utils.settings import Split

_NUMBERED = re.compile(r"[A-Za-z]*0*(\d+)")
_NUMBER = "number "
_MAX_MAT_BYTES = 1 << 20


@dataclass
class Lists:
    """Lists by part. source: where they were published; leaks: they put somebody on two sides."""

    parts: dict[str, list[str]] = field(default_factory=dict)
    source: str = ""
    leaks: bool = False


def read_lists(path: Path, by: str) -> Lists:
    """{"train": [...], "valid": [...], "test": [...], ...}, and optionally "about".

    about: {"source": text, "by": "subject" or "recording", "leaks": bool}. A list that is known to
    leak must say so. UserError when the file is something else, or when it lists what `by` is not.
    """
    value = read_json(path)
    about = value.pop("about", {}) if isinstance(value, dict) else {}
    shaped = isinstance(value, dict) and all(_is_names(part) for part in value.values())
    if not shaped or not isinstance(about, dict):
        raise UserError(f'{path}: lists of names are expected, as in {{"train": ["subject1"], ...}}')
    if about.get("by", by) != by:
        raise UserError(f'{path}: holds lists of {about["by"]}s; set split.by = "{about["by"]}"')
    return Lists(value, str(about.get("source", "")), about.get("leaks") is True)


def read_folds(path: Path, by: str) -> tuple[list[list[str]], str]:
    """Folds, and their source: {"folds": [[...], ...]} or a folder of fold1.mat, fold2.mat, ....

    A foldK.mat holds the variable foldK, a vector of subject numbers, as VIPL-HR ships them.
    """
    if path.is_dir():
        files = sorted(path.glob("fold*.mat"), key=lambda file: natural_key(file.name))
        if not files:
            raise UserError(f"{path}: holds no fold1.mat, fold2.mat, ...; split.file should be their folder")
        return [_mat_fold(file) for file in files], f"{path.name}/fold*.mat"
    value = read_json(path)
    folds = value.get("folds") if isinstance(value, dict) else None
    if not isinstance(folds, list) or len(folds) < 2 or not all(_is_names(fold) for fold in folds):
        raise UserError(f'{path}: folds of names are expected, as in {{"folds": [["p1"], ["p2"], ...]}}')
    about = value.get("about", {})
    if about.get("by", by) != by:
        raise UserError(f'{path}: holds folds of {about["by"]}s; set split.by = "{about["by"]}"')
    return folds, str(about.get("source", ""))


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _mat_fold(path: Path) -> list[str]:
    """The subject numbers of one foldK.mat."""
    if path.stat().st_size > _MAX_MAT_BYTES:
        raise UserError(f"{path}: {path.stat().st_size} bytes; a list of subjects is smaller")
    name = path.stem
    try:
        content = scipy.io.loadmat(path, variable_names=[name])
    except Exception as error:  # scipy raises many kinds on a damaged file
        raise UserError(f"{path}: not a MATLAB file that can be read ({error})") from None
    numbers = np.ravel(content[name]) if name in content else np.empty(0)
    if not len(numbers) or numbers.dtype.kind not in "iuf" or (numbers != np.round(numbers)).any():
        raise UserError(f"{path}: the variable {name}, a vector of subject numbers, is expected")
    return [f"{_NUMBER}{int(number)}" for number in numbers]


def asked(settings: Split) -> tuple[Lists, dict[str, list[str]]]:
    """The lists for train, valid and test, and the further test lists."""
    given, extra = Lists(), dict(settings.extra)
    if settings.scheme in ("lists", "fractions"):
        if settings.file and settings.lists:
            raise UserError("split.file and split.lists are both given; keep one of them")
        given = Lists({str(name): entries for name, entries in settings.lists.items()})
        given = read_lists(Path(settings.file), settings.by) if settings.file else given
        twice = [name for name in given.parts if name in extra]
        if twice:
            raise UserError(f"{settings.file} and split.extra both have a list {twice[0]!r}; rename one")
        extra = {**{name: part for name, part in given.parts.items() if name not in MAIN_PARTS}, **extra}
        given.parts = {name: given.parts[name] for name in MAIN_PARTS if name in given.parts}
    for name in extra:
        if safe_name(name) in MAIN_PARTS:
            raise UserError(f"split.extra.{name}: that name is taken; call the further list something else")
    return given, extra


@dataclass
class Resolver:
    """Turns entries of lists into units.

    An entry is a subject (or recording) id, "dataset/id", "dataset/*" for all of a dataset, or, from a
    .mat file, a number. left_out: recordings that the user excluded: naming one is no mistake.
    may_lack: entries that nobody is known by are collected in `absent`, not refused. bounds: by part and
    unit, the only datasets of which the part takes recordings: those that brought it in by "dataset/*".
    """

    units: Mapping[str, list[Named]]
    by: str
    left_out: Sequence[Named] = ()
    may_lack: bool = False
    absent: list[str] = field(default_factory=list)
    bounds: dict[tuple[str, str], set[str]] = field(default_factory=dict)

    def resolve(self, lists: Mapping[str, Iterable[str]], may_repeat: bool = False) -> dict[str, list[str]]:
        """Units of every list, in natural order; UserError lists every wrong entry at once.

        may_repeat: a unit may be in two lists (published lists that leak).
        """
        names = self._names(self.units)
        known_gone = self._names({self._unit(info): [info] for info in self.left_out})
        chosen: dict[str, list[str]] = {part: [] for part in lists}
        where: dict[str, str] = {}
        problems: list[str] = []
        for part, entries in lists.items():
            for entry in entries:
                found = names.get(entry, [])
                if len(found) == 1 or (found and entry.endswith("/*")):
                    problems += self._claim(part, entry, found, chosen[part], where, may_repeat)
                elif found or not (entry in known_gone or self.may_lack):
                    problems.append(f"{part}: {self._not_one(entry, found, list(names))}")
                elif entry not in known_gone:
                    self.absent.append(f"{part}: {entry.removeprefix(_NUMBER)}")
        if problems:
            shown = [*problems[:8], *([f"and {len(problems) - 8} more"] if len(problems) > 8 else [])]
            raise UserError("\n  ".join([f"the lists of the split have {len(problems)} problem(s):", *shown]))
        return in_order(chosen, list(self.units))

    def _claim(
        self, part: str, entry: str, found: list[str], mine: list[str], where: dict[str, str],
        may_repeat: bool,
    ) -> list[str]:
        """Add the units of an entry to `mine`, those of the part, and say which are taken already."""
        dataset, _, rest = entry.partition("/")
        problems = []
        for unit in found:
            bound = self.bounds.get((part, unit))
            if unit not in where or (may_repeat and unit not in mine):
                mine.append(unit)
                where[unit] = part
                self.bounds |= {(part, unit): {dataset}} if rest == "*" else {}
            elif rest == "*" and bound is not None and dataset not in bound:
                bound.add(dataset)  # one person of two datasets, both listed whole
            elif may_repeat:
                self.bounds.pop((part, unit), None)
            else:
                problems.append(f"{part}: {unit} is also in {where[unit]}")
        return problems

    def taken(self, part: str, unit: str) -> list[Named]:
        """The recordings that a part takes of a unit: all, but where it was listed as one of a dataset."""
        only = self.bounds.get((part, unit))
        return [info for info in self.units[unit] if only is None or info.dataset in only]

    def _unit(self, info: Named) -> str:
        return subject_name(info) if self.by == "subject" else info.key

    def _names(self, units: Mapping[str, list[Named]]) -> dict[str, list[str]]:
        """Every name a unit goes by."""
        names: dict[str, list[str]] = {}
        for unit, members in units.items():
            mine = {unit}
            for info in members:
                short = info.subject if self.by == "subject" else info.recording
                number = _NUMBERED.fullmatch(info.subject)
                mine |= {short, f"{info.dataset}/{short}", f"{info.dataset}/*"}
                mine |= {f"{_NUMBER}{number[1]}"} if number and self.by == "subject" else set()
            for name in mine:
                names.setdefault(name, []).append(unit)
        return names

    def _not_one(self, entry: str, found: list[str], known: list[str]) -> str:
        if found:
            return f"{entry!r} is in several datasets; write one of {listed(found)}"
        return (f"there is no {self.by} {entry!r}{did_you_mean(entry, known)}"
                '; where the data lacks people of a published list, set split.absent = "name"')


def listed(names: Sequence[str], most: int = 10) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
