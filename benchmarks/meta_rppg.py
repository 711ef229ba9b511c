"""Adaptation to a recording across a gap between domains: `python -m benchmarks.meta_rppg --seeds 1 2 3`.

For each seed: a synthetic set whose people to learn from are bright and still, and whose test people are
dark and moving before a camera of another curve; one training of Meta-rPPG and one of PhysNet in method
adaptive by the recipes of params/meta; then each net's answers in four ways: without adaptation, by the
prototype, by synthetic gradients, by both (the ablation of the paper). Rates by the default protocol and the
waveform's correlation with the label between 0.7 and 4 Hz, for the test people and, on this side of the gap,
for those of the validation; and POS beside them. Reduced sizes, see the recipes: neither the order nor the
size of the errors is claimed to hold on real data.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import nets
from benchmarks.machine import machine
from benchmarks.seeds import call, csv_text, judged, new_set, over_seeds, parser, recipe, spread, with_sd
from commands.building import trained_method
from dataset.index import RecordingInfo, load_infos
from nets import methods
from nets.methods.base import Method
from utils.files import read_json, write_json, write_text
from utils.runlog import say
from utils.signal import bandpass

RECIPES = {"meta_rppg": "Meta-rPPG", "physnet": "PhysNet"}
VARIANTS = {"none": "no adaptation", "prototype": "prototype", "synthetic": "synthetic gradients",
            "both": "both"}
PEOPLE = {"train": 8, "valid": 3, "test": 8, "hard": 0, "control": 0}
PARTS = ("test", "valid")
BAND_HZ = (0.7, 4.0)
Row = dict[str, float | None]


def one_seed(seed: int, folder: Path, overrides: list[str]) -> dict[str, Any]:
    """Data, both trainings and all answers of one seed: method -> variant -> part -> numbers."""
    raw, store = folder / "raw", folder / "store"
    counts = [word for part, n in PEOPLE.items() for word in (f"--{part}", n)]
    common = new_set(folder, seed, "--gap", "--seconds", 12, *counts)
    found: dict[str, Any] = {}
    for net in RECIPES:
        extra = [word.partition(":")[2] for word in overrides if word.partition(":")[0] in (net, "all")]
        call("train", recipe_of(net), settings={**common, "run.name": net}, overrides=extra)
        method, _ = trained_method(folder / "runs" / net)
        found[net] = {name: judge(_variant(method, name), store, raw) for name in VARIANTS}
        say(f"  {net}: " + ", ".join(f"{name} {_shown(found[net][name]['test'])}" for name in VARIANTS))
    found["pos"] = {"none": judge(methods.build("classical", nets.build("pos")), store, raw)}
    return found


def recipe_of(net: str) -> str:
    """The params of a net's training."""
    return f"params/meta/gap_{net}.json"


def _variant(method: Method, name: str) -> Method:
    """The method with another adaptation."""
    method.options = dataclasses.replace(method.options, adaptation=name)  # type: ignore[arg-type, type-var, assignment]
    return method


def judge(method: Method, store: Path, raw: Path) -> dict[str, Row]:
    """Errors of the rate and correlation of the waveform, by part."""
    lists = read_json(raw / "lists.json")
    infos = {info.recording: info for info in load_infos(store, ["ubfc_rppg_2"])}
    return {part: _numbers(method, [infos[name] for name in lists[part]]) for part in PARTS}


def _numbers(method: Method, infos: Sequence[RecordingInfo]) -> Row:
    row, waves = judged(method, infos)
    both = [(np.stack([wave.predictions["answer"], wave.label]), wave.fps) for wave in waves]
    pairs = [bandpass(pair, fps, *BAND_HZ) for pair, fps in both]
    correlations = [float(np.corrcoef(pair)[0, 1]) if pair[0].any() else 0.0 for pair in pairs]
    return {"mae_bpm": row["mae_bpm"], "pearson_r": row["pearson_r"], "n_failed": row["n_failed"],
            "waveform_r": float(np.mean(correlations))}


def _shown(row: Row) -> str:
    return "-" if row["mae_bpm"] is None else f"{row['mae_bpm']:.2f} bpm"


def summary(seeds: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """A row per method, variant and part: mean and SD (ddof 1) over the seeds, and how many had a number."""
    rows = []
    first = next(iter(seeds.values()))
    for method, variants in first.items():
        for variant, parts in variants.items():
            for part in parts:
                found = [seeds[seed][method][variant][part] for seed in seeds]
                row: dict[str, Any] = {"method": method, "variant": variant, "part": part}
                for name in ("mae_bpm", "pearson_r", "waveform_r"):
                    row[name], row[f"{name}_sd"], row[f"{name}_n"] = spread(one[name] for one in found)
                rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The summary as CSV text."""
    header = ["method", "adaptation", "people", "MAE [bpm]", "r of the rates", "r of the waveforms"]
    return csv_text([header, *(
        [row["method"], row["variant"], row["part"],
         *(with_sd(row[name], row[f"{name}_sd"]) for name in ("mae_bpm", "pearson_r", "waveform_r"))]
        for row in rows
    )])


def figure(rows: list[dict[str, Any]], seeds: dict[str, dict[str, Any]], path: Path) -> None:
    """Errors of the rate for the test people by way of adaptation, a panel per net, a dot per seed."""
    made = Figure(figsize=(3.6 * len(RECIPES), 3.2), layout="constrained")
    panels = np.atleast_1d(made.subplots(1, len(RECIPES), sharey=True))
    bars = {(row["method"], row["variant"]): row for row in rows if row["part"] == "test"}
    for panel, (net, shown) in zip(panels, RECIPES.items(), strict=True):
        heights = [bars[net, variant]["mae_bpm"] or 0.0 for variant in VARIANTS]
        panel.bar(range(len(VARIANTS)), heights, color="0.8", width=0.6)
        for seed in seeds.values():
            errors = [seed[net][variant]["test"]["mae_bpm"] for variant in VARIANTS]
            panel.plot(range(len(VARIANTS)), [np.nan if e is None else e for e in errors], "o-", ms=3, lw=0.8)
        pos = bars["pos", "none"]["mae_bpm"]
        if pos is not None:
            panel.axhline(pos, color="k", lw=0.8, ls="--", label="POS")
        names = [name.replace(" ", "\n") for name in VARIANTS.values()]
        panel.set_xticks(range(len(VARIANTS)), names, fontsize=7)
        panel.set_title(shown)
    panels[0].set_ylabel("MAE across the gap [bpm]")
    panels[0].set_ylim(bottom=0)
    panels[-1].legend(fontsize=7)
    made.savefig(path, dpi=150, metadata={"Software": None})


def main() -> int:
    """Run all seeds; write the result, its table and its figure after each."""
    args = parser(__doc__, setting="RECIPE:section.key=value, or all:...").parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    recipes = {net: recipe(recipe_of(net), "net", "method", "train", "data") for net in RECIPES}
    asked = {"people": PEOPLE, "recipes": recipes, "overrides": args.overrides}
    rows: list[dict[str, Any]] = []
    for seeds in over_seeds(args.seeds, args.work, asked, lambda *at: one_seed(*at, args.overrides)):
        rows = summary(seeds)
        write_json(args.out / "meta_rppg.json", {
            "machine": machine("torch"), **asked, "seeds": seeds, "summary": rows,
        })
        write_text(args.out / "meta_rppg.csv", table(rows))
        figure(rows, seeds, args.out / "meta_rppg.png")
    say(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
