"""Ablations: what a table's recipes came to, beside what a paper printed for them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.cells import Table, number
from utils.errors import UserError
from utils.files import read_json

FACTS = Path(__file__).with_name("published_ablations.json")


def ablation_table(name: str, runs: Mapping[str, Sequence[Path]]) -> Table | None:
    """The published ablation of that name beside our runs, by recipe; None where none is known.

    Every variant is a row, also where nothing was run. Differences are to the first variant of the group, in
    the published values and in ours: the order is what can be compared.
    """
    table = read_json(FACTS)["tables"].get(name)
    if table is None:
        return None
    metric = str(table["metric"])
    ours = {recipe: [_value(run, metric) for run in folders] for recipe, folders in runs.items()}
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in table["rows"]:
        groups.setdefault(row["group"], []).append(row)
    rows = [
        [group, row["variant"], number(row["value"]), _change(row["value"], members[0]["value"]),
         *_cells(ours.get(row["recipe"], []), ours.get(members[0]["recipe"], [])), row["recipe"]]
        for group, members in groups.items() for row in members
    ]
    columns = ["ablation", "variant", f"published {_short(metric)}", "to the first", f"ours {_short(metric)}",
               "to the first ", "runs", "recipe"]
    spread = ["±: SD over runs, n - 1 in the denominator"] if any(len(v) > 1 for v in ours.values()) else []
    told = [note for folders in runs.values() for run in folders for note in _notes(run)]
    return Table(str(table["title"]), columns, rows, [str(table["source"]), *table["notes"], *spread, *told])


def _value(run: Path, metric: str) -> float | None:
    """The metric of a run's own net; UserError where the run is not finished."""
    net, path = read_json(run / "params.json")["net"]["name"], run / "metrics.json"
    if not path.is_file():
        raise UserError(f"{run}: not finished (no metrics.json)")
    found = [row.get(metric) for row in read_json(path)["rows"] if row["method"] == net]
    value = found[0] if found else None
    return None if value is None else float(value)


def _notes(run: Path) -> list[str]:
    """What keeps a run's number from being compared: other data, leaks, recordings that are missing."""
    metrics = read_json(run / "metrics.json")
    test, split = metrics.get("test", {}), metrics.get("split", {})
    found = [f"{', '.join(test['origins'])} recordings, not the dataset's"] if test.get("origins") else []
    found += ["LEAKS: people are on both sides of the split"] if split.get("leaks") else []
    found += split.get("start_leaks", [])
    lost, every = test.get("n_missing", 0), test.get("n_recordings", 0)
    found += [f"{lost} recordings are missing beside {every} scored"] if lost else []
    return [f"{run.name}: {'; '.join(found)}"] if found else []


def _cells(values: Sequence[float | None], first: Sequence[float | None]) -> list[str]:
    """Mean with SD, difference to the first variant's mean, number of runs with a value."""
    known, base = ([value for value in group if value is not None] for group in (values, first))
    mean = statistics.fmean(known) if known else None
    text = number(mean) + (f" ± {statistics.stdev(known):.2f}" if len(known) > 1 else "")
    return [text, _change(mean, statistics.fmean(base) if base else None), f"{len(known)} of {len(values)}"]


def _change(value: float | None, base: float | None) -> str:
    return "–" if value is None or base is None else f"{value - base:+.2f}"


def _short(metric: str) -> str:
    return metric.removesuffix("_bpm").upper() + (" [bpm]" if metric.endswith("_bpm") else "")
