"""AutoHR's search at a reduced size against the house genotype and random ones; the cost of the full one.

    python -m benchmarks.autohr                       # 3 seeds of params/autohr/synthetic.json
    python -m benchmarks.autohr --seeds 1 --work DIR  # keeps the runs in DIR, and uses those that are there
    python -m benchmarks.autohr --cost                # memory and time of a full-size step, minutes

Each seed makes a synthetic set of its own. The searched net, the house genotype and a random genotype are
trained by the same recipe on the same people and judged on the same unseen ones; the house genotype also
with the frequency loss in the form and weight of params/autohr/released_loss.json, and with the frequency
loss alone in both forms. Reduced sizes: no order is claimed for real data or for the full nets.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

import nets
from benchmarks.machine import machine
from benchmarks.seeds import call, logged, new_set, over_seeds, parser, recipe, rows_of, spread
from evaluation.cells import Table, number
from evaluation.figures.cells import draw_cells
from evaluation.figures.style import GREY, MARKERS, PALETTE, new, save, styled
from losses.spectral import SPECTRAL, frequency_cross_entropy
from losses.waveform import neg_pearson
from nets.layers.genotype import load_genotype
from nets.summary import model_summary
from utils.contracts import InputSpec
from utils.files import read_json, write_json, write_text
from utils.runlog import say

RECIPE = "params/autohr/synthetic.json"
HOUSE = ("run.before=[]", "net.options.genotype=house")
FREQUENCY = "method.options.frequency"
ALONE = ("method.options.loss_weight=0", f"{FREQUENCY}_weight=1")
ARMS: dict[str, tuple[str, ...]] = {
    "searched": (), "house": HOUSE, "random": ("run.before=[]", "net.options.genotype=random:{seed}"),
    "house, released loss": (*HOUSE, "method.options.loss_weight=0.2", f"{FREQUENCY}=released",
                             f"{FREQUENCY}_weight=1"),
    "house, log_power alone": (*HOUSE, *ALONE),
    "house, released alone": (*HOUSE, *ALONE, f"{FREQUENCY}=released"),
}
GIB = 1 << 30
FPS, FRAMES = 30.0, 128


def one_seed(seed: int, folder: Path, overrides: list[str], people: list[str]) -> dict[str, Any]:
    """The set of a seed, and its nets: errors on unseen people, the search's weights, course and duration."""
    shared = {**new_set(folder, seed, "--hard", 0, "--control", 0, *people), "logging.figures": "false"}
    arms = {kind: _train(kind, shared, overrides) for kind in ARMS}
    search = folder / "runs" / "searched" / "before" / "search"
    about = read_json(search / "genotype.json")["about"]
    weights = about["operation_weights"]
    return {
        "seed": seed, "arms": arms, "operations": about["operations"], "edges": about["edges"],
        "operation_weights": weights, "edge_weights": about["edge_weights"],
        "search_s": round(_seconds(search), 1),
        "entropy": {"uniform": math.log(len(about["operations"])), "found": _entropy(weights),
                    "course": _course(search)},
        "largest_move": max(abs(w - 1 / len(edge)) for cell in weights for edge in cell for w in edge),
    }


def _train(kind: str, shared: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """One run by the recipe; without a search where the genotype is given."""
    name, chosen = kind.replace(", ", "_").replace(" ", "_"), overrides
    if ARMS[kind]:
        chosen = [word for word in overrides if not word.startswith("run.before.")]
        chosen += [word.format(seed=shared["run.seed"]) for word in ARMS[kind]]
    call("run", RECIPE, settings=shared, overrides=[*chosen, f"run.name={name}"])
    run = shared["run.output"] / name
    rows = rows_of(run)
    return {
        **{key: rows["autohr"][key] for key in ("mae_bpm", "rmse_bpm", "pearson_r", "snr_db", "n")},
        "constant_mae_bpm": rows["constant"]["mae_bpm"],
        "training_s": round(sum(epoch["seconds"] for epoch in logged(run, "epoch")), 1),
        "parameters": sum(p.numel() for p in nets.build("autohr", genotype=str(run)).parameters()),
        "genotype": load_genotype(str(run)).to_json(),
    }


def _seconds(run: Path) -> float:
    """How long a training took, without pauses between its starts: epochs and validations."""
    return sum(line["seconds"] for event in ("epoch", "validation") for line in logged(run, event))


def _entropy(weights: list[Any]) -> float:
    """Mean over the edges of the entropy of their operations' weights, in nats."""
    return statistics.fmean(-sum(w * math.log(w) for w in edge if w) for cell in weights for edge in cell)


def _course(run: Path) -> list[list[float]]:
    """[epoch, mean entropy in it] of each epoch in which the choices were learnt."""
    return [[line["epoch"], line["terms"]["choice_entropy"]] for line in logged(run, "epoch")
            if "choice_entropy" in line["terms"]]


def gradients(n: int = 256) -> list[dict[str, float]]:
    """Mean norm of each loss's gradient by a waveform of unit variance, weights left aside.

    Waveforms between noise (share 0) and a pulse of 45 to 150 bpm (share 1), n of each, 128 frames at 30 Hz.
    """
    rng = torch.Generator().manual_seed(0)
    rate_bpm = 45 + 105 * torch.rand(n, generator=rng)
    fps = torch.full((n,), FPS)
    cycles = rate_bpm[:, None] / 60 * torch.arange(FRAMES) / FPS + torch.rand(n, 1, generator=rng)
    pulse = 2**0.5 * (2 * math.pi * cycles).sin()
    noise = torch.randn(n, FRAMES, generator=rng)
    found = []
    for share in (0.0, 0.25, 0.5, 0.75, 0.95):
        wave = (share**0.5 * pulse + (1 - share) ** 0.5 * noise).requires_grad_()
        terms = {"time": neg_pearson(wave, pulse),
                 **{form: frequency_cross_entropy(wave, fps, rate_bpm, form) for form in SPECTRAL}}
        norms = {name: n * torch.autograd.grad(term, wave)[0].norm(dim=1).mean().item()
                 for name, term in terms.items()}
        found.append({"share": share, **norms})
    return found


def table_of(results: list[dict[str, Any]]) -> Table:
    """MAE on unseen people: a row per genotype, a column per seed, mean and SD of it and of the SNR."""
    def row(name: str, arm: str, prefix: str = "") -> list[str]:
        errors = [result["arms"][arm][f"{prefix}mae_bpm"] for result in results]
        ratios = [] if prefix else [result["arms"][arm]["snr_db"] for result in results]
        return [name, *(number(value) for value in errors), _spread(errors), _spread(ratios)]

    rows = [*(row(kind, kind) for kind in ARMS), row("constant", "house", "constant_")]
    columns = ["genotype", *(f"seed {result['seed']}" for result in results), "MAE [bpm]", "SNR [dB]"]
    moves = ", ".join(f"{result['largest_move']:.3f}" for result in results)
    left = ", ".join(f"{result['entropy']['found']:.3f}" for result in results)
    times = ", ".join(f"{result['search_s']:.0f} s" for result in results)
    return Table("AutoHR at reduced size on synthetic data", columns, rows, [
        f"entropy of the operations' weights: {results[0]['entropy']['uniform']:.3f} before, {left} after",
        f"largest move of an operation's weight from uniform: {moves}", f"search: {times}"])


def _spread(values: list[float | None]) -> str:
    """Mean and SD (n - 1) of the values that exist; how many do not."""
    mean, sd, known = spread(values)
    missing = f" ({len(values) - known} missing)" if known < len(values) else ""
    return number(mean) + ("" if sd is None else f" ± {sd:.2f}") + missing


@styled
def weights_figure(results: list[dict[str, Any]]) -> Figure:
    """Entropy of the operations' weights over the search, and the weights it ended with, seed by seed."""
    figure, axes = new(3.2 + 2.7 * len(results), 3.9, 1, 1 + len(results),
                       width_ratios=[1.1, *[1.0] * len(results)])
    course, *maps = axes[0]
    uniform = results[0]["entropy"]["uniform"]
    course.axhline(uniform, color=GREY, ls="--", lw=1)
    course.text(0.98, uniform, "uniform", transform=course.get_yaxis_transform(), ha="right", va="bottom",
                color=GREY)
    for result, colour, marker in zip(results, PALETTE, MARKERS, strict=False):
        course.plot(*np.transpose(result["entropy"]["course"]), color=colour, marker=marker, ms=4,
                    label=f"seed {result['seed']}")
    course.set(xlabel="epoch", ylabel="entropy [nats]", title="weights of the operations")
    course.xaxis.set_major_locator(MaxNLocator(integer=True))
    course.legend(loc="lower left")
    highest = max(w for result in results for edge in result["operation_weights"][0] for w in edge)
    scale = TwoSlopeNorm(math.exp(-uniform), 0, highest)
    for axis, result in zip(maps, results, strict=True):
        shown = axis.imshow(result["operation_weights"][0], norm=scale, cmap="RdBu_r", aspect="auto")
        axis.spines[:].set_visible(False)
        names = [name.replace("_", " ") for name in result["operations"]]
        axis.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor")
        axis.set_yticks(range(len(result["edges"])), result["edges"] if axis is maps[0] else [])
        axis.set_title(f"seed {result['seed']}, after the search")
    figure.colorbar(shown, ax=maps, fraction=0.05, pad=0.01, label="weight; white: uniform",
                    ticks=[0, math.exp(-uniform), highest], format="%.2f")
    return figure


def cells_figure(results: list[dict[str, Any]]) -> Figure:
    """The cells that were found, a panel per seed."""
    found = [result["arms"]["searched"]["genotype"] for result in results]
    return draw_cells({"inputs": found[0]["inputs"], "cells": [value["cells"][0] for value in found]},
                      [f"found with seed {result['seed']}" for result in results])


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
    options = parser(__doc__)
    options.add_argument("--people", nargs="+", default=[], metavar="WORD",
                         help="words for synthesise without their dashes, as train 4 seconds 10")
    options.add_argument("--cost", action="store_true", help="only the cost of the full search")
    args = options.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if args.cost:
        result = {"machine": machine("torch"), "device": device, **cost(device)}
        say(json.dumps(result, indent=1))
        write_json(args.out / "autohr_cost.json", result)
        return 0
    people = [f"--{word}" if word.isalpha() else word for word in args.people]
    asked = {"overrides": args.overrides, "people": people, "arms": ARMS,
             "recipe": recipe(RECIPE, "data", "net", "method", "train", "run")}
    for seeds in over_seeds(args.seeds, args.work, asked, lambda seed, folder: one_seed(
            seed, folder, args.overrides, people)):
        facts = {"machine": machine("torch"), "device": device, "overrides": args.overrides}
        _write(args.out, list(seeds.values()), facts)
    return 0


def _write(out: Path, results: list[dict[str, Any]], facts: dict[str, Any]) -> None:
    table = table_of(results)
    say(table.markdown())
    write_json(out / "autohr.json", {**facts, "gradients": gradients(), "seeds": results})
    write_text(out / "autohr.csv", table.csv())
    save(weights_figure(results), out / "autohr_weights.png")
    save(cells_figure(results), out / "autohr_cells.png")


if __name__ == "__main__":
    sys.exit(main())
