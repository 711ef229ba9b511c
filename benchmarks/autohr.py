"""AutoHR's search at a reduced size against the house genotype and random ones; the cost of the full one.

    python -m benchmarks.autohr                       # 3 seeds of params/autohr/synthetic.json, hours
    python -m benchmarks.autohr --seeds 0 --set train.epochs=1 --set run.before.0.train.epochs=2
    python -m benchmarks.autohr --cost                # memory and time of a full-size step, minutes

Each seed makes a synthetic set of its own. The searched net, the house genotype and a random genotype are
trained by the same recipe on the same people and judged on the same unseen ones.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import nets
from benchmarks.machine import RESULTS, machine
from evaluation.cells import Table, number
from nets.layers.genotype import load_genotype
from nets.summary import model_summary
from utils.contracts import InputSpec
from utils.files import read_json, write_json, write_text
from utils.runlog import say

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "params" / "autohr" / "synthetic.json"
KINDS = ("searched", "house", "random")
GIB = 1 << 30


def one_seed(seed: int, folder: Path, overrides: list[str], people: list[str]) -> dict[str, Any]:
    """The set of a seed, and its three nets: errors on unseen people, the search's weights and duration."""
    raw = folder / "raw"
    _main("synthesise", str(raw), "--seed", str(seed), *people)
    shared = {
        "data.sets.0.root": raw, "data.store": folder / "store", "split.file": raw / "lists.json",
        "run.output": folder / "runs", "run.seed": seed, "logging.figures": "false",
    }
    words = [*(f"{key}={value}" for key, value in shared.items()), *overrides]
    found: dict[str, Any] = {"seed": seed}
    for kind in KINDS:
        found[kind] = _train(kind, seed, folder, words)
    search = folder / "runs" / "searched" / "before" / "search"
    about = read_json(search / "genotype.json")["about"]
    found["search_s"] = round(_seconds(search / "log.jsonl"), 1)
    found["operation_weights"] = about["operation_weights"]
    uniform = 1 / len(about["operations"])
    found["largest_move"] = max(
        abs(w - uniform) for cell in about["operation_weights"] for edge in cell for w in edge
    )
    return found


def _train(kind: str, seed: int, folder: Path, words: list[str]) -> dict[str, Any]:
    """One run by the recipe; without a search where the genotype is given."""
    chosen = [*words, f"run.name={kind}"]
    if kind != "searched":
        name = "house" if kind == "house" else f"random:{seed}"
        chosen = [word for word in chosen if not word.startswith("run.before.")]
        chosen += ["run.before=[]", f"net.options.genotype={name}"]
    start = time.perf_counter()
    _main("run", str(RECIPE), *(part for word in chosen for part in ("--set", word)))
    metrics = read_json(folder / "runs" / kind / "metrics.json")
    row = {row["method"]: row for row in metrics["rows"]}
    genotype = load_genotype(str(folder / "runs" / kind))
    return {
        "mae_bpm": row["autohr"]["mae_bpm"], "rmse_bpm": row["autohr"]["rmse_bpm"],
        "constant_mae_bpm": row["constant"]["mae_bpm"], "seconds": round(time.perf_counter() - start, 1),
        "genotype": genotype.to_json(),
    }


def _seconds(log: Path) -> float:
    """How long a training of one piece took, from its log."""
    return max(json.loads(line)["elapsed_s"] for line in log.read_text(encoding="utf-8").splitlines())


def _main(*words: str) -> None:
    subprocess.run([sys.executable, "main.py", *words], cwd=ROOT, check=True)


def table_of(results: list[dict[str, Any]]) -> Table:
    """MAE on unseen people: a row per genotype, a column per seed, mean and SD."""
    rows = []
    for kind in KINDS:
        values = [result[kind]["mae_bpm"] for result in results]
        known = [value for value in values if value is not None]
        spread = f" ± {statistics.stdev(known):.2f}" if len(known) > 1 else ""
        mean = number(statistics.fmean(known) if known else None) + spread
        rows.append([kind, *(number(value) for value in values), mean])
    columns = ["genotype", *(f"seed {result['seed']}" for result in results), "MAE [bpm]"]
    moves = ", ".join(f"{result['largest_move']:.3f}" for result in results)
    times = ", ".join(f"{result['search_s']:.0f} s" for result in results)
    return Table("AutoHR at reduced size on synthetic data", columns, rows,
                 [f"largest move of an operation's weight from uniform: {moves}", f"search: {times}"])


def saved_gib(frames: int, size: int, checkpointing: bool, batch: int = 2) -> float:
    """GiB kept for the backward pass of the full supernet, from a small clip: it grows with the pixels."""
    net = nets.build("autohr_supernet", checkpointing=checkpointing).train()
    small = (16, 32)
    kept: dict[int, int] = {}

    def note(value: torch.Tensor) -> torch.Tensor:
        storage = value.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return value

    weights = {p.untyped_storage().data_ptr() for p in net.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
        output = net(torch.randn(1, 3, small[0], small[1], small[1]))
    total = sum(n for place, n in kept.items() if place not in weights)
    del output
    return batch * total * (frames / small[0]) * (size / small[1]) ** 2 / GIB


def cost(device: str) -> dict[str, Any]:
    """Memory and operations of a step of the full search, and one step measured on a GPU."""
    net: Any = nets.build("autohr_supernet")
    found: dict[str, Any] = {"batch": "2 + 2 clips"}
    for frames, size in ((128, 112), (128, 56)):
        spec: InputSpec = net.input_spec.replace(frames=frames, size=size)
        macs = model_summary(net, spec)[1]["macs_per_clip"]
        found[f"{frames}x{size}x{size}"] = {
            "macs_per_clip": macs, "macs_per_step": 3 * 4 * macs,
            "saved_gib": round(saved_gib(frames, size, False), 2),
            "saved_gib_checkpointing": round(saved_gib(frames, size, True), 2),
            **(_measured(frames, size, device) if device != "cpu" else {}),
        }
    return found


def _measured(frames: int, size: int, device: str) -> dict[str, float]:
    """Peak memory in GiB and seconds of a backward pass of 2 clips, the second of two."""
    net = nets.build("autohr_supernet").to(device).train()
    clip = torch.randn(2, 3, frames, size, size, device=device)
    seconds = 0.0
    for _ in range(2):
        torch.cuda.reset_peak_memory_stats(device)
        start = time.perf_counter()
        net(clip).square().mean().backward()
        torch.cuda.synchronize(device)
        seconds = time.perf_counter() - start
    return {"peak_gib": round(torch.cuda.max_memory_allocated(device) / GIB, 2),
            "half_step_s": round(seconds, 3)}


def main() -> int:
    """Run what is asked for, print it, and write it beside the other results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="settings of all runs")
    parser.add_argument("--people", nargs="+", default=[], metavar="WORD",
                        help="words for synthesise without their dashes, as train 4 seconds 10")
    parser.add_argument("--cost", action="store_true", help="only the cost of the full search")
    parser.add_argument("--out", type=Path, default=None, help="result file")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if args.cost:
        result = {"machine": machine("torch"), "device": device, **cost(device)}
        say(json.dumps(result, indent=1))
        write_json(args.out or RESULTS / "autohr_cost.json", result)
        return 0
    people = [f"--{word}" if word.isalpha() else word for word in args.people]
    results = []
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as folder:
            results.append(one_seed(seed, Path(folder), args.overrides, people))
    table = table_of(results)
    say(table.markdown())
    target = args.out or RESULTS / "autohr.json"
    write_json(target, {"machine": machine("torch"), "device": device, "overrides": args.overrides,
                        "seeds": results})
    write_text(target.with_suffix(".md"), table.markdown() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
