"""Heart-rate error against codec and bitrate: `python -m benchmarks.compression --seeds 1 2 3`.

For each seed: a synthetic set with compressed copies, then the four recipes of params/compressed (PhysNet
and rPPGNet on original clips, STVEN on pairs with x264 copies, the joint stage), then every net and POS on
the test people's originals and copies; STVEN in front of rPPGNet both before ("apart") and after the joint
stage. x265 and MPEG-4 copies are seen by no net in training. Also the PSNR of copies and of clips restored
before and after the joint stage. Reduced sizes, see the recipes: the order of the methods here is not claimed
to hold on real data or for the full nets.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

import nets
from benchmarks.machine import machine
from benchmarks.seeds import call, csv_text, judged, new_set, over_seeds, parser, recipe, spread, with_sd
from commands.building import trained_method
from dataset.index import RecordingInfo, load_infos
from dataset.reader import StoreClips
from losses.video import psnr_db
from nets import methods
from utils.contracts import InputSpec
from utils.files import read_json, write_json, write_text
from utils.runlog import say

STAGES = ("physnet", "rppgnet", "stven", "joint")
ORIGINAL = "original"
SHOWN = {"pos": "POS", "physnet": "PhysNet", "rppgnet": "rPPGNet", "apart": "STVEN, rPPGNet",
         "joint": "STVEN + rPPGNet, joint"}
CENTRED_SPAN = 255 / 128


def one_seed(seed: int, folder: Path, overrides: list[str]) -> dict[str, Any]:
    """Data, the four stages and the test of one seed: quality -> {"mae_bpm": by method, "psnr_db": ...}."""
    runs = folder / "runs"
    common = new_set(folder, seed, "--hard", 0, "--control", 0)
    starts = {f"net.init_from.{part}": runs / f"compressed_{part}" for part in ("stven", "rppgnet")}
    for stage in STAGES:
        settings = {**common, **(starts if stage == "joint" else {})}
        extra = [word.partition(":")[2] for word in overrides if word.partition(":")[0] in (stage, "all")]
        call("run", recipe_of(stage), settings=settings, overrides=extra)
        if stage == "joint":
            extra += ["run.name=compressed_apart", "train.epochs=0"]
            call("run", recipe_of(stage), settings=settings, overrides=extra)
    test = read_json(runs / "compressed_physnet" / "split.json")["parts"]["test"]["recordings"]
    infos = [info for info in load_infos(folder / "store", ["ubfc_rppg_2"]) if info.key in test]
    return judge(runs, infos)


def recipe_of(stage: str) -> str:
    """The params of a stage."""
    return f"params/compressed/{stage}.json"


def judge(runs: Path, infos: list[RecordingInfo]) -> dict[str, Any]:
    """Every method on the originals and on every copy of the test recordings."""
    names = [name for name in SHOWN if name != "pos"]
    trained = {name: trained_method(runs / f"compressed_{name}")[0] for name in names}
    trained["pos"] = methods.build("classical", nets.build("pos"))
    stvens = {name: trained[name].net.stven for name in ("apart", "joint")}
    wide = trained["joint"].input_spec
    stored = read_json(runs / "compressed_joint" / "params.json")["preprocessing"]["qualities"]
    qualities = [ORIGINAL, *stored]
    found: dict[str, Any] = {}
    for quality in qualities:
        wanted = None if quality == ORIGINAL else quality
        rates = {}
        for name, method in trained.items():
            spec = method.input_spec.replace(quality=wanted, extras=(), qualities=())
            rates[name] = judged(method, infos, spec)[0]["mae_bpm"]
        found[quality] = {"mae_bpm": rates, "psnr_db": _psnr(stvens, infos, wanted, wide)}
        say(f"  {quality}: " + ", ".join(f"{name} {rate:.2f}" for name, rate in rates.items()))
    return found


def _psnr(stvens: dict[str, torch.nn.Module], infos: list[RecordingInfo], quality: str | None,
          spec: InputSpec) -> dict[str, float] | None:
    """Mean PSNR in dB of a copy, and of what each STVEN restores from it, to the original; None for that."""
    if quality is None:
        return None
    values: dict[str, list[float]] = {"copy": [], **{name: [] for name in stvens}}
    for info in infos:
        pair = StoreClips(info, spec.replace(qualities=(quality,), extras=()))
        for batch in pair.batches(4):
            degraded = batch.extras["degraded"]
            with torch.no_grad():
                clips = {"copy": degraded, **{name: stven(degraded) for name, stven in stvens.items()}}
            for name, clip in clips.items():
                values[name] += psnr_db(clip, batch.video, CENTRED_SPAN).tolist()
    return {name: float(np.mean(found)) for name, found in values.items()}


def summary(seeds: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """A row per quality: mean and SD (ddof 1) over seeds of each method's error and of both PSNR."""
    rows = []
    for quality in next(iter(seeds.values())):
        row: dict[str, Any] = {"quality": quality}
        for name in SHOWN:
            mean, sd, known = spread(one[quality]["mae_bpm"][name] for one in seeds.values())
            row |= {name: [mean, sd], f"{name}_failed": len(seeds) - known}
        ratios = [one[quality]["psnr_db"] for one in seeds.values()]
        for kind in ("copy", "apart", "joint"):
            row[f"psnr_{kind}_db"] = float(np.mean([r[kind] for r in ratios])) if all(ratios) else None
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The summary as CSV text."""
    header = ["quality", *(f"{shown} MAE [bpm]" for shown in SHOWN.values()), "PSNR copy [dB]",
              "PSNR STVEN [dB]", "PSNR STVEN, joint [dB]"]
    return csv_text([header, *(
        [row["quality"], *(with_sd(*row[name]) for name in SHOWN),
         *(with_sd(row[f"psnr_{kind}_db"], None) for kind in ("copy", "apart", "joint"))]
        for row in rows
    )])


def figure(rows: list[dict[str, Any]], path: Path) -> None:
    """Error over bitrate with its SD over seeds, a panel per codec, as in the paper."""
    codecs = list(dict.fromkeys(row["quality"].split("_")[0] for row in rows if row["quality"] != ORIGINAL))
    made = Figure(figsize=(3.2 * len(codecs), 3.3), layout="constrained")
    panels = np.atleast_1d(made.subplots(1, len(codecs), sharey=True))
    for panel, codec in zip(panels, codecs, strict=True):
        mine = sorted((int(row["quality"].split("_")[1]), row) for row in rows
                      if row["quality"].startswith(f"{codec}_"))
        for place, (marker, (name, shown)) in enumerate(zip("osD^v", SHOWN.items(), strict=True)):
            panel.errorbar(
                np.arange(len(mine)) + 0.06 * (place - 2), [row[name][0] for _, row in mine],
                [row[name][1] or 0 for _, row in mine], marker=marker, label=shown, capsize=3, lw=1.2, ms=4,
            )
        panel.set_xticks(range(len(mine)), [str(kbps) for kbps, _ in mine])
        panel.set(title=codec, xlabel="asked bitrate [kb/s]")
    panels[0].set_ylabel("MAE [bpm]")
    panels[0].set_ylim(bottom=0)
    shown_all = panels[0].get_legend_handles_labels()
    made.legend(*shown_all, loc="outside lower center", ncols=len(SHOWN), fontsize=8)
    made.savefig(path, dpi=150, metadata={"Software": None})


def main() -> int:
    """Run all seeds; write the result, its table and its figure after each."""
    args = parser(__doc__, setting="STAGE:section.key=value, or all:...").parse_args()
    recipes = {stage: recipe(recipe_of(stage), "train")["train"] for stage in STAGES}
    asked = {"train": recipes, "overrides": args.overrides}
    rows: list[dict[str, Any]] = []
    for seeds in over_seeds(args.seeds, args.work, asked, lambda *at: one_seed(*at, args.overrides)):
        rows = summary(seeds)
        write_json(args.out / "compression.json", {
            "machine": machine("torch", "av"), **asked, "seeds": seeds, "summary": rows,
        })
        write_text(args.out / "compression.csv", table(rows))
        figure(rows, args.out / "compression.png")
    say(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
