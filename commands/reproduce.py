"""reproduce: run every recipe of a table on given data, then print the table."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from commands.experiment import run
from commands.params import load_config
from commands.recordings import divide, fill
from commands.runfolder import RunFolder
from commands.table import print_table, show
from dataset.lists import read_folds
from evaluation.ablation import ablation_table
from utils.errors import RecordingsFailed, Stopped, UserError
from utils.files import read_json, write_json
from utils.registry import did_you_mean
from utils.runlog import say, warn
from utils.settings import RunConfig

TABLES = Path(__file__).parent.parent / "params" / "tables"


@dataclass
class Outcome:
    """What became of the recipes of a table: run folders to show, and by name what is not there and why.

    by_recipe: the run folders of each recipe.
    """

    runs: list[Path] = field(default_factory=list)
    by_recipe: dict[str, list[Path]] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)


def reproduce(args: argparse.Namespace) -> int:
    """Run the recipes of params/tables/<table>, each seed and fold, and print their table.

    What is finished already is not run again. A recipe whose data is not there, or that fails, is named in
    the table and the others go on. Exit code 3 where recordings failed, 2 where a recipe could not be run
    for another reason than missing data, or none could.
    """
    roots = _roots(args.root)
    recipes = _recipes(args.table, args.only)
    out = Path(args.out or Path("runs") / f"table_{args.table}")
    outcome = Outcome()
    known: set[str] = set()
    for recipe in recipes:
        raw = _with_roots(read_json(recipe), roots)
        known.update(entry["name"] for entry in raw["data"]["sets"])
        _run_recipe(recipe.stem, raw, args, out, outcome)
    unused = sorted(set(roots) - known)
    if unused:
        here = ", ".join(sorted(known))
        warn(f"--root {unused[0]}=...: no recipe of this table reads it; datasets here: {here}")
    return _finish(args.table, outcome, out, args.published)


def _finish(table: str, outcome: Outcome, out: Path, every: bool) -> int:
    """Print the table and say what is not in it; the exit code, or the error that carries it."""
    notes = [f"not run: {name}: {why}" for name, why in outcome.not_run.items()]
    if not outcome.runs:
        raise UserError("\n".join(["no recipe of this table could be run:", *notes]))
    print_table(outcome.runs, out, every, notes)
    ablation = ablation_table(table, outcome.by_recipe)
    if ablation:
        show(ablation, out, "ablation")
    say(f"in {out}: table.md, table.csv, table.tex and the run folders")
    if any(not why.startswith("no data") for why in outcome.not_run.values()):
        return UserError.exit_code
    if outcome.lost:
        lines = [f"{name}: {why}" for name, why in outcome.lost.items()]
        raise RecordingsFailed("\n".join(["the table is made, but recordings failed:", *lines]))
    return 0


def _roots(given: Sequence[str]) -> dict[str, str]:
    """--root dataset=FOLDER words as a dict."""
    from preprocessing.sources import SOURCES

    roots = {}
    for text in given:
        name, equals, folder = text.partition("=")
        if not equals or not folder:
            raise UserError(f"--root {text}: use dataset=FOLDER, for example --root pure=/data/PURE")
        if name not in SOURCES.names():
            raise UserError(f"--root {text}: {SOURCES.unknown(name)}")
        roots[name] = folder
    return roots


def _recipes(table: str, only: Sequence[str]) -> list[Path]:
    """The recipe files of a table, or those of `only`; UserError names what there is."""
    tables = sorted(path.name for path in TABLES.iterdir() if path.is_dir())
    if table not in tables:
        raise UserError(f"no table {table!r}{did_you_mean(table, tables)}  known: {', '.join(tables)}")
    files = {path.stem: path for path in sorted((TABLES / table).glob("*.json"))}
    for name in only:
        if name not in files:
            raise UserError(f"--only {name}: no such recipe{did_you_mean(name, list(files))}  "
                            f"known: {', '.join(files)}")
    return [files[name] for name in (only or files)]


def _with_roots(raw: dict[str, Any], roots: Mapping[str, str]) -> dict[str, Any]:
    """The recipe with its placeholder roots replaced, also where split.file lies under one."""
    for entry in raw["data"]["sets"]:
        placeholder, entry["root"] = entry["root"], roots.get(entry["name"], entry["root"])
        file = raw.get("split", {}).get("file") or ""
        if file.startswith(placeholder + "/"):
            raw["split"]["file"] = entry["root"] + file.removeprefix(placeholder)
    return raw


def _run_recipe(
    name: str, raw: dict[str, Any], args: argparse.Namespace, out: Path, outcome: Outcome
) -> None:
    """Every seed and fold of one recipe; what happened is added to `outcome`."""
    sets = {entry["name"]: entry["root"] for entry in raw["data"]["sets"]}
    absent = {dataset: root for dataset, root in sets.items() if not Path(root).is_dir()}
    file = Path(raw.get("split", {}).get("file") or "params")
    if absent:
        where = ", ".join(f"{dataset} is not at {root}" for dataset, root in absent.items())
        outcome.not_run[name] = f"no data: {where}; give --root {next(iter(absent))}=FOLDER"
        return
    if not file.exists():
        outcome.not_run[name] = f"no data: the split {file} is not there"
        return
    out.mkdir(parents=True, exist_ok=True)
    params = out / f"{name}.json"
    write_json(params, {key: value for key, value in raw.items() if key != "$schema"})
    for seed in dict.fromkeys(args.seeds):
        words = [*args.overrides, f"run.seed={seed}", f"run.output={json.dumps(str(out))}"]
        try:
            for fold in _folds(load_config(str(params), [*words, f"run.name={name}"]), raw):
                label = name + (f"_seed{seed}" if seed else "") + ("" if fold is None else f"_fold{fold}")
                here = [*words, f"run.name={label}", *([] if fold is None else [f"split.fold={fold}"])]
                folder = _run_one(label, str(params), here, outcome)
                outcome.by_recipe.setdefault(name, []).append(folder)
        except Stopped:
            raise
        except UserError as error:
            outcome.not_run[f"{name}, seed {seed}"] = str(error)
            warn(f"{name}: {error}")


def _run_one(label: str, params: str, overrides: list[str], outcome: Outcome) -> Path:
    """One run and its folder; failed recordings are noted, any other error is the caller's."""
    say(f"\n{label}")
    folder = RunFolder(load_config(params, overrides)).path
    try:
        run(argparse.Namespace(params=params, overrides=overrides, resume=False))
    except RecordingsFailed as error:
        outcome.lost[label] = str(error)
    outcome.runs.append(folder)
    return folder


def _folds(config: RunConfig, raw: Mapping[str, Any]) -> list[int | None]:
    """Every fold of the split, the one that the recipe itself names, or [None] where it has none."""
    return [config.split.fold] if "fold" in raw.get("split", {}) else split_folds(config)


def split_folds(config: RunConfig) -> list[int | None]:
    """Every fold of the split by number, or [None] where it has none."""
    settings = config.split
    if settings.scheme == "kfold":
        return list(range(settings.folds))
    if settings.scheme == "folds":
        return list(range(len(read_folds(Path(settings.file or ""), settings.by)[0])))
    if settings.scheme == "loso":
        fill(config)
        parts = divide(config)[1].parts.values()
        everyone = ([*part.recordings, *part.missing] if settings.by == "recording" else part.subjects
                    for part in parts)
        return list(range(sum(map(len, everyone))))
    return [None]
