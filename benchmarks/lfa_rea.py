"""What LFA/REA learns without labels: `python -m benchmarks.lfa_rea --seeds 4 5 6`.

For each seed: a synthetic set, then the recipe params/ssl/lfa_rea.json with all four losses and with each of
them left out. No label is read in training, and the epoch is chosen without any. Reported are the error on
the test people, in how many of the recordings without a pulse one is found, the rate of the clips that LFA
makes over that of the clips they are made of against the ratio asked for, and the size of each loss's
gradient with spectral distances averaged or summed over bins. Beside them the error before any training.
Reduced sizes, see the recipe, which was tuned on seeds 1 to 3. With --work, what is finished there is not
done again, so that each seed may be made by a call of its own.
"""

from __future__ import annotations

import contextlib
import csv
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.machine import machine
from benchmarks.seeds import over_seeds, parser, recipe
from commands.building import build_method, trained_method
from dataset.index import RecordingInfo, load_infos
from dataset.loader import ClipLoader
from dataset.reader import StoreClips
from losses.self_supervised import RATE_BAND_HZ, soft_rate_hz
from main import main as main_program
from nets.layers.colour import standardised
from nets.methods.base import Method
from utils.files import read_json, write_json, write_text
from utils.runlog import say
from utils.seeding import seed_everything

ROOT = Path(__file__).resolve().parent.parent
RECIPE = "params/ssl/lfa_rea.json"
LOSSES = ("reconstruction", "contrast", "ratio", "agreement")
ALL, BEFORE = "all four", "before training"
REDUCED = {"preprocessing.size": 32, "preprocessing.landmarks": "false", "evaluation.bootstrap": 0,
           "evaluation.vital_signs": "false", "logging.summary": "false", "logging.progress": "false",
           "run.threads": 1}
RATIOS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7)
CLOSE_BPM = 3.0
CLIPS = 4
"""Clips of each test recording that LFA is measured on; batches whose gradients are."""


def one_seed(seed: int, folder: Path, overrides: list[str]) -> dict[str, Any]:
    """Data, the five trainings and the measurements of one seed."""
    raw, runs, store = folder / "raw", folder / "runs", folder / "store"
    _main("synthesise", str(raw), "--seed", str(seed), "--seconds", "24", "--hard", "0", "--control", "4",
          "--flicker", "0")
    common = {"data.sets.0.root": raw, "data.store": store, "split.file": raw / "lists.json",
              "run.output": runs, "run.seed": seed, **REDUCED}
    words = [f"{key}={value}" for key, value in common.items()] + overrides
    found: dict[str, Any] = {"variants": {}}
    changes = {ALL: [], BEFORE: ["train.epochs=0"]}
    changes |= {f"without {name}": [f"method.options.{name}=0"] for name in LOSSES}
    for shown, change in changes.items():
        name = shown.replace(" ", "_")
        pairs = (*words, *change, f"run.name={name}")
        _main("run", RECIPE, *(word for pair in pairs for word in ("--set", pair)))
        found["variants"][shown] = _result(runs / name)
        say(f"seed {seed}, {shown}: {found['variants'][shown]}")
    split = read_json(runs / ALL.replace(" ", "_") / "split.json")["parts"]
    infos = {info.key: info for info in load_infos(store, ["ubfc_rppg_2"])}
    method, config = trained_method(runs / ALL.replace(" ", "_"))
    found["lfa"] = measured_ratios(method, [infos[key] for key in split["test"]["recordings"]])
    train = [infos[key] for key in split["train"]["recordings"]]
    seed_everything(seed)
    found["gradients"] = {"start": gradient_sizes(build_method(config), train, seed),
                          "end": gradient_sizes(method, train, seed)}
    return found


def _main(*words: str) -> None:
    """`main.py` with these words, in this process; its exit code must be 0."""
    with contextlib.redirect_stdout(io.StringIO()):
        code = main_program(list(words))
    if code:
        raise SystemExit(code)


def _result(run: Path) -> dict[str, Any]:
    """Error of the net and of those beside it, and what is found in recordings without a pulse."""
    metrics = read_json(run / "metrics.json")
    control = metrics["parts"]["control"]["rows"]
    net = metrics["rows"][0]["method"]
    with open(run / "windows.csv", newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["method"] == net and row["part"] == "test"]
    errors = [abs(float(row["error_bpm"])) for row in rows]
    return {
        "mae_bpm": {row["method"]: row["mae_bpm"] for row in metrics["rows"]},
        "n": metrics["rows"][0]["n"], "net": net, "errors_bpm": errors,
        "within_3_bpm": sum(error <= CLOSE_BPM for error in errors),
        "controls_found": sum(row["found"] for row in control if row["method"] == net),
    }


def measured_ratios(method: Method, infos: list[RecordingInfo]) -> dict[str, Any]:
    """For each of RATIOS, the measured ratios of the rates after and before: by REA, and of the colour.

    And "input_hz", the rates before as REA reads them. All by `soft_rate_hz`, before within the band of the
    method; the colour is green minus red, averaged over the picture.
    """
    net: Any = method.net.eval()
    learner: Any = method
    wanted, band_hz = torch.tensor(RATIOS), learner.band_hz or RATE_BAND_HZ
    rows: dict[str, list[Tensor]] = {"rea": [], "colour": []}
    rates: list[float] = []
    for info in infos:
        batch = next(iter(StoreClips(info, method.input_spec).batches(CLIPS)))
        fps = batch.fps
        with torch.no_grad():
            clip = standardised(batch.video)
            made = net.lfa.augmented(clip, wanted.expand(len(clip), -1))
            answers = torch.stack([net.rea.estimate(x) for x in made.unbind(1)], dim=1)
            for kind, before, after in (("rea", net.rea.estimate(clip), answers),
                                        ("colour", _colour(clip), _colour(made))):
                rate_hz = soft_rate_hz(before, fps, band_hz)
                rows[kind].append(soft_rate_hz(after, fps) / rate_hz[:, None])
                rates += rate_hz.tolist() if kind == "rea" else []
    return {**{name: torch.cat(parts).T.tolist() for name, parts in rows.items()}, "input_hz": rates}


def _colour(clips: Tensor) -> Tensor:
    """Green minus red of standardised clips: (..., 3, T, H, W) -> (..., T)."""
    means = clips.mean((-1, -2))
    return means[..., 1, :] - means[..., 0, :]


def gradient_sizes(method: Method, infos: list[RecordingInfo], seed: int) -> dict[str, dict[str, float]]:
    """Mean norm over CLIPS batches of each loss's gradient, by REA's and LFA's weights.

    Contrast and agreement twice: with distances averaged over bins, and summed.
    """
    loader = ClipLoader(infos, method.input_spec, batch=4, seed=seed, label_share=0.0)
    norms: dict[str, dict[str, list[float]]] = {}
    learner: Any = method.train()
    kept = learner.distance
    for _, batch in zip(range(CLIPS), loader.epoch(0), strict=False):
        for distance in ("mean", "sum"):
            learner.distance = distance
            with torch.random.fork_rng():
                terms = learner.loss(batch)
            for name in LOSSES:
                by_bins = name in ("contrast", "agreement")
                if by_bins or distance == "sum":
                    shown = f"{name} ({distance})" if by_bins else name
                    for part, norm in _norms(learner, terms[name]).items():
                        norms.setdefault(shown, {}).setdefault(part, []).append(norm)
    learner.distance = kept
    return {name: {part: float(np.mean(values)) for part, values in parts.items()}
            for name, parts in norms.items()}


def _norms(method: Any, term: Tensor) -> dict[str, float]:
    """Norm of a term's gradient by the weights of either net."""
    sizes = {}
    for name, part in (("rea", method.net.rea), ("lfa", method.net.lfa)):
        grads = torch.autograd.grad(term, list(part.parameters()), retain_graph=True, allow_unused=True)
        squares = [float(grad.square().sum()) for grad in grads if grad is not None]
        sizes[name] = sum(squares) ** 0.5
    return sizes


def summary(seeds: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """A row per variant: mean and SD (ddof 1) over seeds of the error, each seed's, the controls found."""
    rows = []
    for name in next(iter(seeds.values()))["variants"]:
        results = [one["variants"][name] for one in seeds.values()]
        errors = [one["mae_bpm"][one["net"]] for one in results]
        known = [error for error in errors if error is not None]
        rows.append({
            "losses": name, "mae_bpm": errors, "mean_bpm": float(np.mean(known)) if known else None,
            "sd_bpm": float(np.std(known, ddof=1)) if len(known) > 1 else None,
            "controls_found": [one["controls_found"] for one in results],
            "within_3_bpm": [f"{one['within_3_bpm']}/{one['n']}" for one in results],
            "constant_bpm": [one["mae_bpm"]["constant"] for one in results],
        })
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The summary as CSV text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["losses", "MAE [bpm]", "MAE of each seed", "constant of each seed", "within 3 bpm",
                     "controls found"])
    for row in rows:
        mean, sd = (None if row[k] is None else f"{row[k]:.2f}" for k in ("mean_bpm", "sd_bpm"))
        each = [" ".join("-" if e is None else f"{e:.2f}" for e in row[k])
                for k in ("mae_bpm", "constant_bpm")]
        counts = [" ".join(map(str, row[k])) for k in ("within_3_bpm", "controls_found")]
        writer.writerow([row["losses"], mean if sd is None else f"{mean} +- {sd}", *each, *counts])
    return text.getvalue()


def figure(seeds: dict[str, dict[str, Any]], rows: list[dict[str, Any]], path: Path) -> None:
    """Left: error of each variant. Right: measured over asked ratios, as REA and as the colour has them."""
    made = Figure(figsize=(11.5, 3.4), layout="constrained")
    left, middle, right = made.subplots(1, 3, width_ratios=(1.5, 1, 1))
    names = [row["losses"] for row in rows]
    for place, row in enumerate(rows):
        left.plot([place] * len(row["mae_bpm"]), row["mae_bpm"], "o", ms=4, color="C0")
        if row["mean_bpm"] is not None:
            left.plot(place, row["mean_bpm"], "_", ms=18, mew=2, color="k")
    left.axhline(3, color="grey", lw=0.8, ls=":")
    left.set_xticks(range(len(names)), [name.replace(" ", "\n", 1) for name in names], fontsize=6.5)
    left.set(ylabel="MAE [bpm], seeds and mean", title="losses", ylim=(0, None))
    panels = (middle, "rea", "rate as REA reads it"), (right, "colour", "rate of the colour")
    for panel, kind, title in panels:
        _ratios(panel, [one["lfa"][kind] for one in seeds.values()], title)
    made.savefig(path, dpi=150, metadata={"Software": None})


def _ratios(panel: Axes, seeds: list[list[list[float]]], title: str) -> None:
    """Median and quartiles over all clips, and each seed's median, of the ratios over the ones asked for."""
    for values in seeds:
        panel.plot(RATIOS, np.median(values, axis=1), color="C0", lw=0.6, alpha=0.6)
    low, middle, high = np.percentile(np.concatenate(seeds, axis=1), (25, 50, 75), axis=1)
    panel.plot([0.2, 1.8], [0.2, 1.8], color="grey", lw=0.8, ls=":", label="asked for")
    panel.axhline(1, color="grey", lw=0.8)
    panel.errorbar(RATIOS, middle, [middle - low, high - middle], fmt="o", ms=4, capsize=3, lw=1,
                   label="median, quartiles; lines: seeds")
    panel.set(xlabel="ratio asked for", ylabel="rate of LFA's clip / of its input", title=title)
    panel.legend(fontsize=7)


def scaling(seeds: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What LFA makes of the rates, read by REA: per seed the median for each of RATIOS, and the mean error of
    a clip's ratio from the one asked for, beside that of clips left as they are.

    correlation: of the rate made with the clip's own, mean over RATIOS; 1 where each clip's rate is scaled,
    0 where LFA gives all clips the same rate for a ratio.
    """
    found = {}
    for seed, one in seeds.items():
        values = np.array(one["lfa"]["rea"])
        asked, own = np.array(RATIOS)[:, None], np.array(one["lfa"]["input_hz"])
        found[seed] = {"median": np.median(values, axis=1).tolist(),
                       "mean_error": float(np.abs(values - asked).mean()),
                       "mean_error_unchanged": float(np.abs(1 - asked).mean()),
                       "correlation": float(np.mean([np.corrcoef(own, row * own)[0, 1] for row in values]))}
    return found


def main() -> int:
    """Run all seeds and write the result, its table and its figure."""
    args = parser(__doc__, seeds=(4, 5, 6)).parse_args()
    sections = recipe(RECIPE, "net", "method", "train")
    asked = {"recipe": recipe(RECIPE, "data", *sections), "reduced": REDUCED, "overrides": args.overrides}
    seeds: dict[str, Any] = {}
    for seeds in over_seeds(args.seeds, args.work, asked, lambda seed, folder: one_seed(
            seed, folder, args.overrides)):
        rows = summary(seeds)
        write_json(args.out / "lfa_rea.json", {
            "machine": machine("torch"), "recipe": sections, "overrides": args.overrides, "ratios": RATIOS,
            "seeds": seeds, "summary": rows, "scaling": scaling(seeds),
        })
        write_text(args.out / "lfa_rea.csv", table(rows))
        figure(seeds, rows, args.out / "lfa_rea.png")
    say(table(summary(seeds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
