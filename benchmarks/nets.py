"""All nets that learn a pulse, on the same synthetic people: `python -m benchmarks.nets --work DIR`.

For each seed a synthetic set of its own, and every recipe of params/compare trained on its training people;
its validation people choose the epoch, and its test people are seen once, by the table. Beside the nets stand
methods without training and the training part's mean rate. What a net costs is measured for one clip of its
recipe: parameters, FLOPs of convolutions and matrix products, and seconds on one thread of this machine's
CPU. A reduced size, and people that are easy on purpose: the order of the nets is not claimed to hold on real
data or at full size. With --work, what is finished there is not done again.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import machine
from benchmarks.seeds import ROOT, call, csv_text, logged, new_set, parser, recipe, rows_of, spread
from commands.building import build_method
from evaluation.cells import Table, number
from nets.methods.base import Method
from nets.summary import model_summary
from utils.config import load
from utils.files import write_json, write_text
from utils.runlog import say

SEEDS = (31, 32, 33)
NETS = ("physnet", "physnet_2dcnn", "physnet_3dcnn", "physnet_lstm", "physnet_bilstm", "physnet_convlstm",
        "rppgnet", "autohr", "contrast_phys", "deepphys", "tscan", "efficientphys", "physformer", "rhythmnet")
COMPARED = ("pos", "chrom", "ica", "constant")
SHARED = {"evaluation.classical": '["pos", "chrom", "ica"]', "evaluation.vital_signs": "false",
          "evaluation.bootstrap": 0, "run.threads": 1, "logging.figures": "false",
          "logging.progress": "false"}
FIGURES = ("mae_bpm", "pearson_r", "snr_db")
WARM_UP, REPEATS = 1, 5
NOTES = (
    "the order is not claimed to hold on real data or for nets of full size; the people are easy on purpose, "
    "and differences of some tenths of a bpm mean nothing",
    "autohr: the house genotype; contrast_phys: its backbone with a quarter of the channels, learning from "
    "labels; physformer: 4 of 12 blocks, half as wide; rhythmnet: after RhythmNet, a quarter of the channels",
    "MAE: error of the rate on unseen synthetic people; mean ± SD (n - 1) over the seeds' sets",
    "recipes were tried on validation people of another set, seed 1; autohr and physformer have 30 and 24 "
    "epochs since a first pass over these sets with 12, in which the validation error was still falling "
    "(autohr) or had not fallen on one set (physformer: 0.24, 26.3, 0.15 bpm); else these test people were "
    "seen once",
    "FLOPs: of convolutions and matrix products, a multiplication with its addition as two; those inside an "
    "LSTM, below 1 % here, are left out",
    "s/clip: processor time of one clip's answer in float32 on one thread, reading left out; median of five",
)
Found = dict[str, dict[str, Any]]


def recipe_of(net: str) -> str:
    """The params of a net."""
    return f"params/compare/{net}.json"


def results(seeds: list[int], nets: list[str], folder: Path, jobs: int, overrides: list[str]
            ) -> Iterator[dict[str, Found]]:
    """Train and test every net on every seed's set; after each run, all that is known, by seed and net."""
    common = {}
    for seed in seeds:
        place = folder / f"seed{seed}"
        common[seed] = {**new_set(place, seed, "--hard", 0, "--control", 0), **SHARED}
        call("preprocess", recipe_of(nets[0]), settings=common[seed])
    found: dict[str, Found] = {str(seed): {} for seed in seeds}
    pool = ThreadPoolExecutor(jobs)
    try:
        tasks = {pool.submit(one_run, net, common[seed], overrides): (seed, net)
                 for seed in seeds for net in nets}
        for task in as_completed(tasks):
            seed, net = tasks[task]
            found[str(seed)][net] = task.result()
            say(f"seed {seed}, {net}: {told(task.result())}")
            yield found
    finally:
        pool.shutdown(cancel_futures=True)


def told(run: dict[str, Any]) -> str:
    """A run in a line."""
    return run.get("failed") or ", ".join(f"{name} {number(run[name])}" for name in FIGURES)


def one_run(net: str, common: dict[str, object], overrides: list[str]) -> dict[str, Any]:
    """A net's run on one set: its figures and those of the methods beside it, or why there are none."""
    mine = [word.partition(":")[2] for word in overrides if word.partition(":")[0] in (net, "all")]
    try:
        call("run", recipe_of(net), settings={**common, "run.name": net}, overrides=mine)
    except subprocess.CalledProcessError as error:
        return {"failed": f"exit code {error.returncode}"}
    run = Path(str(common["run.output"])) / net
    rows = rows_of(run)
    beside = {name: _figures(rows[name]) for name in COMPARED}
    (own,) = (row for name, row in rows.items() if name not in beside)
    return {**_figures(own), "training_s": round(sum(one["seconds"] for one in logged(run, "epoch")), 1),
            "validations": [{"epoch": one["epoch"], **one["metrics"]} for one in logged(run, "validation")],
            "beside": beside}


def _figures(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in (*FIGURES, "n", "n_failed")}


def of_methods(found: dict[str, Found]) -> dict[str, Found]:
    """Seed -> name -> figures: those of the nets, and once those of the methods beside them.

    SystemExit where runs of one set disagree about a method without training: they read different data.
    """
    shown = {}
    for seed, runs in found.items():
        beside = [run["beside"] for run in runs.values() if "beside" in run]
        if any(one != beside[0] for one in beside):
            raise SystemExit(f"seed {seed}: POS, CHROM, ICA or the mean rate differ between runs of one set")
        shown[seed] = {**runs, **(beside[0] if beside else {})}
    return shown


def costs(nets: list[str]) -> dict[str, dict[str, Any]]:
    """Parameters, FLOPs and seconds of each net for one clip of its recipe; float32, one thread."""
    torch.set_num_threads(1)
    methods = {net: build_method(load(ROOT / recipe_of(net), [], [])).eval() for net in nets}
    cost: dict[str, dict[str, Any]] = {}
    clips = {}
    for net, method in methods.items():
        facts = model_summary(method.net, method.input_spec)[1]
        cost[net] = {name: facts[name] for name in ("input", "parameters", "flops_per_clip")}
        clips[net] = torch.randn(facts["input"], generator=torch.Generator().manual_seed(0))
    passes: dict[str, list[tuple[float, float]]] = {net: [] for net in nets}
    for _ in range(WARM_UP + REPEATS):
        for net in nets:
            passes[net].append(_seconds(methods[net], clips[net]))
    for net, both in passes.items():
        wall, cpu = (statistics.median(times) for times in zip(*both[WARM_UP:], strict=True))
        cost[net] |= {"wall_s_per_clip": wall, "cpu_s_per_clip": cpu}
    return cost


def _seconds(method: Method, clip: torch.Tensor) -> tuple[float, float]:
    """Wall and processor seconds of one clip's answer."""
    wall, cpu = time.perf_counter(), time.process_time()
    with torch.no_grad():
        method.answer(clip)
    return time.perf_counter() - wall, time.process_time() - cpu


def summary(found: dict[str, Found], cost: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """A row per net and per method beside them: each figure's mean, SD and number of seeds, and its cost."""
    shown = of_methods(found)
    rows = []
    for name in [*cost, *COMPARED]:
        mine = [one[name] for one in shown.values() if name in one]
        known = [one for one in mine if "failed" not in one]
        row: dict[str, Any] = {"method": name, "runs": len(mine), "runs_failed": len(mine) - len(known),
                               "recordings": sum(one["n"] + one["n_failed"] for one in known),
                               "recordings_failed": sum(one["n_failed"] for one in known)}
        for figure in FIGURES:
            row[figure], row[f"{figure}_sd"], row[f"{figure}_n"] = spread(one[figure] for one in known)
        rows.append({**row, **cost.get(name, {})})
    return rows


def table_of(rows: list[dict[str, Any]], found: dict[str, Found]) -> Table:
    """The summary to read; what is missing of a row's runs and recordings stands below it."""
    cells, shown = [], of_methods(found)
    for row in rows:
        each = [number(one[row["method"]].get("mae_bpm")) for one in shown.values() if row["method"] in one]
        size = "x".join(map(str, row["input"][2:])) if "input" in row else "–"
        cells.append([
            row["method"], size, f"{row['parameters']:,}" if "input" in row else "–",
            f"{row['flops_per_clip'] / 1e9:.2f}" if "input" in row else "–",
            number(row.get("cpu_s_per_clip"), 3),
            *(number(row[name]) + (f" ± {row[f'{name}_sd']:.2f}" if row[f"{name}_sd"] is not None else "")
              for name in FIGURES),
            ", ".join(each),
        ])
    lacking = [f"{row['method']}: {row['runs_failed']} of {row['runs']} runs failed, and "
               f"{row['recordings_failed']} of {row['recordings']} recordings have no number" for row in rows
               if row["runs_failed"] or row["recordings_failed"]]
    missing = [f"{row['method']} ({row['runs']} of {len(found)} seeds)" for row in rows
               if row["runs"] < len(found)]
    if missing:
        lacking.append(f"not finished: {', '.join(missing)}")
    columns = ["net", "clip", "parameters", "GFLOP", "s/clip", "MAE [bpm]", "r", "SNR [dB]", "MAE by seed"]
    return Table(f"All nets on synthetic people, seeds {', '.join(found)}", columns, cells,
                 [*NOTES, *lacking])


def csv_of(found: dict[str, Found], rows: list[dict[str, Any]]) -> str:
    """A line for every method and seed, then the means and SDs; empty where there is no number."""
    names = (*FIGURES, "n", "n_failed", "training_s", "failed")
    cost = ("parameters", "flops_per_clip", "wall_s_per_clip", "cpu_s_per_clip")
    lines: list[list[Any]] = [["method", "seed", *names, *cost]]
    shown = of_methods(found)
    for row in rows:
        mine = {seed: one[row["method"]] for seed, one in shown.items() if row["method"] in one}
        lines += [[row["method"], seed, *(one.get(name, "") for name in names)] for seed, one in mine.items()]
        means, deviations = ([row[f"{name}{end}"] for name in FIGURES] for end in ("", "_sd"))
        counts = [row["recordings"], row["recordings_failed"], "", row["runs_failed"]]
        lines.append([row["method"], "mean", *means, *counts, *(row.get(name, "") for name in cost)])
        lines.append([row["method"], "sd", *deviations])
    width = len(lines[0])
    return csv_text([f"{cell:.4f}" if isinstance(cell, float) else cell
                     for cell in [*line, *[""] * (width - len(line))]] for line in lines)


def write(found: dict[str, Found], cost: dict[str, Any], facts: dict[str, Any], out: Path) -> Table:
    """The result as nets.json, nets.csv and nets.md in `out`; gives the table."""
    rows = summary(found, cost)
    table, here = table_of(rows, found), facts["machine"]
    table.notes.append(f"measured on {here['cpu']}, {here['cores']} cores shared with other work, load "
                       f"{here['load']}, torch {here['torch']}")
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "nets.json", {**facts, "notes": NOTES, "summary": rows, "cost": cost, "seeds": found})
    write_text(out / "nets.csv", csv_of(found, rows))
    write_text(out / "nets.md", table.markdown() + "\n")
    return table


def main() -> int:
    """Measure what the nets cost, run everything, and write what is known after each run."""
    options = parser(__doc__, SEEDS, setting="NET:section.key=value, or all:...")
    options.add_argument("--nets", nargs="+", default=list(NETS), choices=NETS, metavar="NET")
    options.add_argument("--jobs", type=int, default=1, help="runs at a time")
    args = options.parse_args()
    cost = costs(args.nets)
    facts = {"machine": machine("torch", "mediapipe"), "overrides": args.overrides, "recipes": {
        net: recipe(recipe_of(net), "data", "net", "method", "train") for net in args.nets}}
    with tempfile.TemporaryDirectory() as spare:
        folder = (args.work or Path(spare)).resolve()
        for found in results(args.seeds, args.nets, folder, args.jobs, args.overrides):
            table = write(found, cost, facts, args.out)
    say(table.markdown())
    return 0


if __name__ == "__main__":
    sys.exit(main())
