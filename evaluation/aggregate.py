"""Finished runs as results: seeds of one experiment as mean and SD, folds of one split as one table."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evaluation.cells import counted
from evaluation.pooling import pool
from evaluation.runs import Run, common_name, experiment, load_run, run_names
from evaluation.split_notes import named
from evaluation.table import bins_bpm, doubts, expected_units
from utils.errors import UserError
from utils.files import digest

NUMBERS = ("mae_bpm", "rmse_bpm", "sd_bpm", "me_bpm", "mape_percent", "pearson_r", "snr_db", "macc")


@dataclass(frozen=True)
class Result:
    """One row of ours: a method of a run, or of several runs taken together.

    run, ids, how: name of the run or of what its runs have in common, their ids, and in words what was taken
    together. names: the names it may be published under. values: metrics by name, None where one does not
    exist; spread: their SD over seeds or folds (ddof 1), empty for a single run. n of expected: scored units;
    n_recordings: recordings behind them; subjects: those tested, as "dataset/subject"; split_source: where
    the split was published; origins, train_origins: "synthetic" and the like, of recordings tested and
    trained on that only have the layout of their dataset; leaks: which parts share subjects; untested:
    recordings of the set that no fold tested; is_mean: the mean of the folds' own numbers, beside the row
    over all of them; notes: what a reader must know.
    """

    run: str
    ids: tuple[str, ...]
    method: str
    names: tuple[str, ...]
    trained: tuple[str, ...]
    tested: tuple[str, ...]
    protocol: Mapping[str, Any]
    values: Mapping[str, float | None]
    n: int
    expected: int
    n_recordings: int
    subjects: tuple[str, ...] = ()
    spread: Mapping[str, float | None] = field(default_factory=dict)
    interval: tuple[float, float] | None = None
    origins: tuple[str, ...] = ()
    train_origins: tuple[str, ...] = ()
    split_source: str = ""
    leaks: tuple[str, ...] = ()
    untested: int = 0
    how: tuple[str, ...] = ()
    is_mean: bool = False
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Run, id (of all runs where there are several), and what was taken together."""
        identity = self.ids[0] if len(self.ids) == 1 else digest(list(self.ids))[:8]
        return ", ".join([f"{self.run} {identity}", *self.how])


def results(folders: Sequence[Path], protocol: str | None = None) -> list[Result]:
    """The rows of all runs; runs that differ only in seed, fold and name become common rows.

    protocol: instead of the one of metrics.json. Runs of one experiment with the same seed and fold are
    repeats, not new evidence: each stays alone.
    """
    groups: dict[str, list[Run]] = {}
    for run in [load_run(folder, protocol) for folder in folders]:
        choices = {k: v for k, v in run.metrics["protocol"].items() if k not in ("constant_bpm", "seed")}
        same = [experiment(run.params), choices, _data(run)]
        key = digest(same if run.params else str(run.folder.resolve()))
        repeats = [r for name, made in groups.items() if name.startswith(key) for r in made
                   if (r.seed, r.fold) == (run.seed, run.fold)]
        groups.setdefault(key + "r" * len(repeats), []).append(run)
    folded = next((made for made in groups.values() if len({run.fold for run in made}) > 1), None)
    if protocol and folded:
        raise UserError(f"{folded[0].folder}: folds are pooled from windows.csv, under the run's own "
                        "protocol; leave out --protocol")
    return [result for made in groups.values() for result in _combine(made)]


def _data(run: Run) -> list[Any]:
    """What it was trained on, and whether that and the test part are a dataset or only have its layout.

    The params do not tell: folders may hold anything. Folds deal all recordings of one set in turns.
    """
    tested, learned = set(run.metrics["test"].get("origins", ())), set(run.training["origins"])
    origins = [tested, learned] if run.fold is None else [tested | learned]
    return [sorted(run.training["datasets"]), *(sorted(found) for found in origins)]


def _combine(runs: list[Run]) -> list[Result]:
    """The rows of one experiment: per seed alone or pooled over folds, then over seeds."""
    by_seed: dict[int, list[Run]] = {}
    for run in sorted(runs, key=lambda r: (r.seed, r.fold or 0)):
        by_seed.setdefault(run.seed, []).append(run)
    folds = {run.fold for run in runs}
    whole = {seed: made for seed, made in by_seed.items() if {r.fold for r in made} == folds}
    lacking = sorted(set(by_seed) - set(whole))
    if not whole:
        return [result for run in runs for result in _single(run)]
    per_seed = [_of_folds(made) if len(made) > 1 else _single(made[0]) for made in whole.values()]
    notes: tuple[str, ...] = ()
    if lacking:
        notes = (f"{common_name(runs)}: seeds {', '.join(map(str, lacking))} left out, they lack folds",)
    return [replace(row, notes=(*row.notes, *notes)) for row in _over_seeds(runs, per_seed)]


def _single(run: Run) -> list[Result]:
    """The rows of one run's test part."""
    how: tuple[str, ...] = () if run.fold is None else (f"fold {run.fold}",)
    untested = len(_never_tested([run])) if run.fold is not None else 0
    made = [_result(run, row, run.metrics) for row in run.metrics["rows"] if "mae_bpm" in row]
    return [replace(result, how=how, untested=untested) for result in made]


def _result(run: Run, row: Mapping[str, Any], metrics: Mapping[str, Any]) -> Result:
    """One row of `metrics`, which are the run's own or those of its fellow folds, too."""
    names, trained = run_names(run, row["method"])
    limits = (row.get("ci95") or {}).get("mae_bpm")
    return Result(
        run=run.name, ids=(run.id,), method=row["method"], names=names, trained=trained,
        tested=tuple(metrics["test"].get("datasets") or run.datasets("test")),
        protocol=metrics["protocol"], values={name: row.get(name) for name in NUMBERS},
        n=row["n"], expected=expected_units(metrics, metrics["protocol"]),
        n_recordings=metrics["test"]["n_recordings"], subjects=tuple(run.part("test")["subjects"]),
        interval=(limits[0], limits[1]) if limits else None,
        origins=tuple(metrics["test"].get("origins", ())),
        train_origins=tuple(run.training["origins"]) if trained else (),
        split_source=str(run.split.get("source", "")), leaks=run.leaks,
        notes=(*run.notes, *_about(common_name([run]), metrics)),
    )


def _about(name: str, metrics: Mapping[str, Any]) -> list[str]:
    """What no cell says: recordings in no number, units without a reference, bins that rates fall on."""
    test = metrics["test"]
    missing, unknown = list(test.get("missing", ())), test.get("n_unlabelled_windows", 0)
    notes = [f"{name}: missing: {counted(len(missing), 'recording')}: {named(missing)}"] if missing else []
    if unknown:
        notes.append(f"{name}: {counted(unknown, 'unit')} without a reference, not scored")
    notes += [f"{name}: {text}" for text in doubts(test)]
    width = bins_bpm(metrics["protocol"], test)
    if width:
        notes.append(f"{name}: rates fall on bins of up to {width:.2f} bpm: an error of 0 means the same bin")
    return notes


def _never_tested(runs: Sequence[Run]) -> set[str]:
    """Recordings that took part in some run of the folds, and in the test part of none."""
    def keys(run: Run, part: str) -> set[str]:
        return {*run.part(part)["recordings"], *run.part(part)["missing"]}

    tested = set().union(*(keys(run, "test") for run in runs))
    return set().union(*(keys(run, part) for run in runs for part in ("train", "valid"))) - tested


def _of_folds(runs: list[Run]) -> list[Result]:
    """Folds of one seed: all units as one table, and the mean of the folds' own numbers."""
    metrics, untested, name = pool([run.folder for run in runs]), len(_never_tested(runs)), common_name(runs)
    notes = _union(run.notes for run in runs)
    notes += tuple(_about(name, metrics))
    if untested:
        notes += (f"{name}: {untested} recordings are in no tested fold; run the other folds",)
    common: dict[str, Any] = {
        "run": name, "ids": tuple(run.id for run in runs), "untested": untested, "notes": notes,
        "subjects": tuple(subject for run in runs for subject in run.part("test")["subjects"]),
        "leaks": _union(run.leaks for run in runs),
    }
    learned = _union(run.training["origins"] for run in runs)
    alone = [{row.method: row for row in _single(run)} for run in runs]
    made = []
    for row in metrics["rows"]:
        pooled = replace(_result(runs[0], row, metrics), how=(f"{len(runs)} folds pooled",), **common)
        pooled = replace(pooled, train_origins=learned if pooled.trained else ())
        made.append(pooled)
        parts = [rows[pooled.method] for rows in alone if pooled.method in rows]
        if len(parts) == len(runs):
            how = (f"mean of {len(runs)} folds",)
            made.append(_mean(parts, replace(pooled, how=how, interval=None, is_mean=True)))
    return made


def _union(parts: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """Every text once, in the order in which they come."""
    return tuple(dict.fromkeys(text for part in parts for text in part))


def _over_seeds(runs: Sequence[Run], per_seed: list[list[Result]]) -> list[Result]:
    """Mean and SD of each row over the seeds; the rows themselves for one seed."""
    if len(per_seed) == 1:
        return per_seed[0]
    made = []
    for row in per_seed[0]:
        same = [found for rows in per_seed for found in rows
                if (found.method, found.how) == (row.method, row.how)]
        made.append(_mean(same, replace(
            row, run=common_name(runs), ids=tuple(name for part in same for name in part.ids),
            how=(*row.how, f"{len(same)} seeds"), interval=None,
            n=min(part.n for part in same), expected=max(part.expected for part in same),
            n_recordings=min(part.n_recordings for part in same),
            untested=max(part.untested for part in same), subjects=_union(part.subjects for part in same),
            origins=_union(part.origins for part in same), leaks=_union(part.leaks for part in same),
            train_origins=_union(part.train_origins for part in same),
            notes=_union(part.notes for part in same),
        )))
    return made


def _mean(parts: list[Result], like: Result) -> Result:
    """`like` with the mean of the parts' values and their SD; a value missing in one is missing."""
    values: dict[str, float | None] = {}
    spread: dict[str, float | None] = {}
    for name in NUMBERS:
        known = [value for part in parts if (value := part.values[name]) is not None]
        whole = len(known) == len(parts)
        values[name] = statistics.fmean(known) if whole else None
        spread[name] = statistics.stdev(known) if whole and len(known) > 1 else None
    return replace(like, values=values, spread=spread)
