"""Respiration frequency and heart-rate variability of runs beside published ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evaluation import published
from evaluation.cells import Table, number
from evaluation.further_tables import signs_notes
from evaluation.published import Entry, Facts
from evaluation.runs import Run, load_run, run_names

COLUMNS = ("tested on", "quantity", "method", "trained on", "result of", "n of N", "SD", "RMSE", "r")
QUANTITIES = {"rf_hz": ("rf", "RF [Hz]"), "lf_nu": ("lf", "LF n.u."), "hf_nu": ("hf", "HF n.u."),
              "lf_hf": ("lf_hf", "LF/HF")}


def vital_table(runs: Sequence[Path]) -> Table | None:
    """RF, LF, HF and LF/HF of every run that has them, each followed by what is published for it.

    None where no run has vital signs. SD, RMSE and r are over recordings; no verdict is given, as no
    document says how far such numbers move between seeds and implementations.
    """
    facts = published.load()
    rows: list[list[str]] = []
    cited: list[str] = []
    loaded = [load_run(folder) for folder in runs]
    for run in loaded:
        for key, (quantity, title) in QUANTITIES.items():
            rows += _of_run(run, key, quantity, title, facts, cited)
    if not rows:
        return None
    notes = ["errors over recordings; published numbers are from other code and other recordings"]
    told: dict[str, list[str]] = {}
    for run in loaded:
        for text in signs_notes(run.metrics.get("vital_signs") or {}):
            told.setdefault(text, []).append(run.name)
    notes += [f"{', '.join(names)}: {text}" for text, names in told.items()]
    notes += [f"[{place}] {facts.sources[name]['label']}; {facts.sources[name]['seen']}"
              for place, name in enumerate(cited, 1)]
    return Table("Vital signs beside published numbers", list(COLUMNS), rows, notes)


def _of_run(run: Run, key: str, quantity: str, title: str, facts: Facts, cited: list[str]) -> list[list[str]]:
    """The rows of one quantity of one run, and the published ones below each."""
    tested = tuple(run.metrics["test"].get("datasets", ()))
    where = ", ".join([*tested, *run.metrics["test"].get("origins", ())])
    rows = []
    for row in (run.metrics.get("vital_signs") or {}).get("rows", ()):
        found, (names, trained) = row.get(key), run_names(run, row["method"])
        if found is None or not found["n"] + found["n_failed"]:
            continue
        origins = run.training["origins"] if trained else ()
        label = f"{run.name} {run.id}" + (" (LEAKS)" if run.leaks else "")
        rows.append([
            where, title, row["method"], ", ".join([*trained, *origins]) or "–", label,
            f"{found['n']} of {found['n'] + found['n_failed']}",
            *(number(found[name], 3) for name in ("sd", "rmse", "pearson_r")),
        ])
        rows += [_published(entry, title, cited) for entry in facts.of(names, trained, tested, quantity)]
    return rows


def _published(entry: Entry, title: str, cited: list[str]) -> list[str]:
    """One published row; its source gets a number."""
    if entry.source not in cited:
        cited.append(entry.source)
    origin = f"[{cited.index(entry.source) + 1}] {entry.origin.replace('_', ' ')}"
    numbers = (number(entry.values.get(name), 3) for name in ("sd", "rmse", "pearson_r"))
    return [entry.test, title, entry.name, entry.train or "–", origin, "–", *numbers]
