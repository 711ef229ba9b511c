"""Contrast-Phys without labels and with some, on synthetic people: `python -m benchmarks.contrast_phys`.

For each seed a synthetic set of its own, and params/ssl/contrast_phys.json trained on it with no label, with
those of half of the training recordings, and with all; checkpoints are chosen without labels in each case,
and the last ones are judged beside them.
Judged on unseen people, and by whether recordings without a pulse are taken for ones with a pulse. A reduced
size: the order of the shares is not claimed to hold on real data or for the full net.
"""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.machine import RESULTS, machine
from benchmarks.seeds import call, judged, logged, new_set, over_seeds, parser, recipe, rows_of, spread
from commands.building import trained_method
from dataset.index import load_infos
from training.checkpoint import read_checkpoint
from utils.files import read_json, write_json, write_text
from utils.runlog import say

RECIPE = "params/ssl/contrast_phys.json"
NET, COMPARED = "contrast_phys", ("green", "pos", "constant")
WANTED_BPM = 3.0


def one_seed(
    seed: int, shares: list[float], flicker: float, folder: Path, overrides: list[str]
) -> list[dict[str, Any]]:
    """The set of a seed and a run on it for every label share."""
    common = {**new_set(folder, seed, "--hard", 0, "--flicker", f"{flicker:g}"),
              "logging.figures": "false", "evaluation.vital_signs": "false"}
    rows = []
    for share in shares:
        told = {**common, "method.options.label_share": share, "run.name": f"share_{share:g}"}
        call("run", RECIPE, settings=told, overrides=overrides)
        run = folder / "runs" / f"share_{share:g}"
        rows.append({"seed": seed, "share": share, **_read(run),
                     "last_mae_bpm": _last_error(run, folder / "store")})
        say(f"seed {seed}, labels of {share:.0%}: {rows[-1]['mae_bpm']}")
    return rows


def _read(run: Path) -> dict[str, Any]:
    """Errors on the unseen, what was found in the controls, and the validations of one run."""
    rows = rows_of(run)
    control = read_json(run / "metrics.json")["parts"]["control"]["rows"]
    controls = [row for row in control if row["method"] == NET]
    return {
        "mae_bpm": {name: row["mae_bpm"] for name, row in rows.items()},
        "rmse_bpm": {name: row["rmse_bpm"] for name, row in rows.items()},
        "n": rows[NET]["n"], "controls": len(controls),
        "controls_found": sum(row["found"] for row in controls),
        "seconds": max(line["elapsed_s"] for line in logged(run)),
        "validations": [{"epoch": line["epoch"], **line["metrics"]} for line in logged(run, "validation")],
    }


def _last_error(run: Path, store: Path) -> float | None:
    """MAE on the unseen in bpm of the last epoch's weights, whichever epoch was chosen."""
    method, _ = trained_method(run)
    method.load_state_dict(read_checkpoint(run / "checkpoints" / "last.pt")["method"])
    keys = read_json(run / "split.json")["parts"]["test"]["recordings"]
    infos = [info for info in load_infos(store, ["ubfc_rppg_2"]) if info.key in keys]
    error: float | None = judged(method, infos)[0]["mae_bpm"]
    return error


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line per label share and per method compared with: mean, SD (ddof 1) over seeds, controls found."""
    lines = []
    shares = sorted({row["share"] for row in rows})
    for name, share in [*((NET, share) for share in shares), *((name, shares[0]) for name in COMPARED)]:
        mine = [row for row in rows if row["share"] == share]
        errors = [row["mae_bpm"][name] for row in mine if row["mae_bpm"].get(name) is not None]
        line: dict[str, Any] = {
            "method": name, "label_share": share if name == NET else None,
            **dict(zip(("mae_bpm", "sd_over_seeds"), spread(errors), strict=False)),
            "seeds": len(mine), "seeds_failed": len(mine) - len(errors),
        }
        if name == NET:
            last = [row["last_mae_bpm"] for row in mine if row["last_mae_bpm"] is not None]
            line |= {"last_epoch_mae_bpm": float(np.mean(last)) if len(last) == len(mine) else None,
                     "controls": sum(row["controls"] for row in mine),
                     "controls_found": sum(row["controls_found"] for row in mine),
                     "seeds_within_3_bpm": sum(error <= WANTED_BPM for error in errors)}
        lines.append(line)
    return lines


def table(lines: list[dict[str, Any]]) -> str:
    """The summary as CSV text; cells that do not apply are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows([{key: f"{value:.3f}" if isinstance(value, float) else value
                       for key, value in line.items()} for line in lines])
    return text.getvalue()


def figure(rows: list[dict[str, Any]], lines: list[dict[str, Any]], path: Path) -> None:
    """Errors over label shares, of the last epoch as circles; the irrelevant power ratio beside the error."""
    made = Figure(figsize=(8.0, 3.2), layout="constrained")
    errors, choice = made.subplots(1, 2)
    for seed in sorted({row["seed"] for row in rows}):
        mine = [row for row in rows if row["seed"] == seed and row["mae_bpm"][NET] is not None]
        (drawn,) = errors.plot([row["share"] for row in mine], [row["mae_bpm"][NET] for row in mine], "o-",
                               lw=1, label=f"seed {seed}")
        ends = [row for row in mine if row["last_mae_bpm"] is not None]
        errors.plot([row["share"] for row in ends], [row["last_mae_bpm"] for row in ends], "o", ms=9,
                    mfc="none", color=drawn.get_color(), label="last epoch")
    others = [line for line in lines if line["method"] in COMPARED]
    for line, style in zip(others, ("-.", "--", ":"), strict=True):
        if line["mae_bpm"] is not None:
            errors.axhline(line["mae_bpm"], color="0.4", ls=style, label=line["method"])
    errors.set(xlabel="share of labels read", ylabel="MAE on unseen people [bpm]", yscale="log")
    errors.set_ylim(top=8 * errors.get_ylim()[1])
    errors.legend(fontsize=7, ncols=3, loc="upper center")
    for share in sorted({row["share"] for row in rows}):
        seen = [one for row in rows if row["share"] == share for one in row["validations"]
                if one["mae_bpm"] is not None]
        choice.plot([one["irrelevant_power_ratio"] for one in seen], [one["mae_bpm"] for one in seen], "o",
                    ms=4, label=f"labels of {share:.0%}")
    choice.set(xlabel="irrelevant power ratio, validation", ylabel="MAE, validation [bpm]")
    choice.set_ylim(bottom=0, top=1.4 * choice.get_ylim()[1])
    choice.legend(fontsize=7, ncols=3, loc="upper center")
    made.savefig(path, dpi=150, metadata={"Software": None})


def write(rows: list[dict[str, Any]], flicker: float, overrides: list[str], target: Path) -> None:
    """The result at `target` (.json), its table and its figure beside it."""
    lines = summary(rows)
    write_json(target, {
        "machine": machine("torch", "mediapipe"), "flicker": flicker, "overrides": overrides,
        "summary": lines, "runs": rows,
        "recipe": recipe(RECIPE, "data", "net", "method", "train"),
    })
    write_text(target.with_suffix(".csv"), table(lines))
    figure(rows, lines, target.with_suffix(".png"))


def main() -> int:
    """Run all seeds and write the result after each of them."""
    options = parser(__doc__, out=RESULTS / "contrast_phys.json")
    options.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.5, 1.0])
    options.add_argument("--flicker", type=float, default=0.0, help="of the sets' light; default: steady")
    args = options.parse_args()
    asked = {"shares": args.shares, "flicker": args.flicker, "overrides": args.overrides,
             "recipe": recipe(RECIPE, "data", "net", "method", "train")}
    rows: list[dict[str, Any]] = []
    for seeds in over_seeds(args.seeds, args.work, asked, lambda seed, folder: one_seed(
            seed, args.shares, args.flicker, folder, args.overrides)):
        rows = [row for found in seeds.values() for row in found]
        write(rows, args.flicker, args.overrides, args.out)
    say(table(summary(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
