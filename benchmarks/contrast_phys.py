"""Contrast-Phys without labels and with some, on synthetic people: `python -m benchmarks.contrast_phys`.

For each seed a synthetic set of its own, and params/ssl/contrast_phys.json trained on it with no label, with
those of half of the training recordings, and with all; checkpoints are chosen without labels in each case,
and the last ones are judged beside them.
Judged on unseen people, and by whether recordings without a pulse are taken for ones with a pulse. A reduced
size: the order of the shares is not claimed to hold on real data or for the full net.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.machine import RESULTS, machine
from commands.building import trained_method
from dataset.index import load_infos
from dataset.reader import StoreClips
from evaluation import protocols
from evaluation.infer import infer
from training.checkpoint import read_checkpoint
from utils.config import load
from utils.files import read_json, write_json, write_text
from utils.runlog import say

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "params" / "ssl" / "contrast_phys.json"
NET, COMPARED = "contrast_phys", ("green", "pos", "constant")
WANTED_BPM = 3.0


def one_seed(
    seed: int, shares: list[float], flicker: float, folder: Path, overrides: list[str]
) -> list[dict[str, Any]]:
    """The set of a seed and a run on it for every label share."""
    raw = folder / "raw"
    _main("synthesise", str(raw), "--seed", str(seed), "--hard", "0", "--flicker", f"{flicker:g}")
    common = {
        "data.sets.0.root": raw, "data.store": folder / "store", "split.file": raw / "lists.json",
        "run.output": folder / "runs", "run.seed": seed, "logging.figures": "false",
        "evaluation.vital_signs": "false",
    }
    rows = []
    for share in shares:
        told = {**common, "method.options.label_share": share, "run.name": f"share_{share:g}"}
        words = [*(f"{key}={value}" for key, value in told.items()), *overrides]
        _main("run", str(RECIPE), *(part for word in words for part in ("--set", word)))
        run = folder / "runs" / f"share_{share:g}"
        rows.append({"seed": seed, "share": share, **_read(run),
                     "last_mae_bpm": _last_error(run, folder / "store")})
        say(f"seed {seed}, labels of {share:.0%}: {rows[-1]['mae_bpm']}")
    return rows


def _read(run: Path) -> dict[str, Any]:
    """Errors on the unseen, what was found in the controls, and the validations of one run."""
    metrics = read_json(run / "metrics.json")
    controls = [row for row in metrics["parts"]["control"]["rows"] if row["method"] == NET]
    log = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        "mae_bpm": {row["method"]: row["mae_bpm"] for row in metrics["rows"]},
        "rmse_bpm": {row["method"]: row["rmse_bpm"] for row in metrics["rows"]},
        "n": metrics["rows"][0]["n"], "controls": len(controls),
        "controls_found": sum(row["found"] for row in controls),
        "seconds": max(line["elapsed_s"] for line in log),
        "validations": [{"epoch": line["epoch"], **line["metrics"]} for line in log
                        if line["event"] == "validation"],
    }


def _last_error(run: Path, store: Path) -> float | None:
    """MAE on the unseen in bpm of the last epoch's weights, whichever epoch was chosen."""
    method, _ = trained_method(run)
    method.load_state_dict(read_checkpoint(run / "checkpoints" / "last.pt")["method"])
    keys = read_json(run / "split.json")["parts"]["test"]["recordings"]
    infos = [info for info in load_infos(store, ["ubfc_rppg_2"]) if info.key in keys]
    waves = infer({NET: method}, [StoreClips(info, method.input_spec) for info in infos])
    error: float | None = protocols.score(waves, "default", bootstrap=0)["rows"][0]["mae_bpm"]
    return error


def _main(*words: str) -> None:
    subprocess.run([sys.executable, "main.py", *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line per label share and per method compared with: mean, SD (ddof 1) over seeds, controls found."""
    lines = []
    shares = sorted({row["share"] for row in rows})
    for name, share in [*((NET, share) for share in shares), *((name, shares[0]) for name in COMPARED)]:
        mine = [row for row in rows if row["share"] == share]
        errors = [row["mae_bpm"][name] for row in mine if row["mae_bpm"].get(name) is not None]
        line: dict[str, Any] = {
            "method": name, "label_share": share if name == NET else None,
            "mae_bpm": float(np.mean(errors)) if errors else None,
            "sd_over_seeds": float(np.std(errors, ddof=1)) if len(errors) > 1 else None,
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
    recipe = load(RECIPE, [], []).model_dump(mode="json")
    write_json(target, {
        "machine": machine("torch", "mediapipe"), "flicker": flicker, "overrides": overrides,
        "summary": lines, "runs": rows,
        "recipe": {name: recipe[name] for name in ("data", "net", "method", "train")},
    })
    write_text(target.with_suffix(".csv"), table(lines))
    figure(rows, lines, target.with_suffix(".png"))


def main() -> int:
    """Run all seeds and write the result after each of them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.5, 1.0])
    parser.add_argument("--flicker", type=float, default=0.0, help="of the sets' light; default: steady")
    parser.add_argument("--work", type=Path, help="keep sets and runs here; what is finished stays")
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="settings of all runs")
    parser.add_argument("--out", type=Path, default=RESULTS / "contrast_phys.json")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as scratch:
            folder = args.work / f"seed{seed}" if args.work else Path(scratch)
            rows += one_seed(seed, args.shares, args.flicker, folder, args.overrides)
        write(rows, args.flicker, args.overrides, args.out)
    say(table(summary(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
