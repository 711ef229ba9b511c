"""Time and memory over the number and the length of recordings: `python -m benchmarks.scaling`.

Number: datasets of 10 to 10,000 recordings in UBFC-rPPG's layout, whose videos are 4 MiB of nothing and whose
store has a manifest as a true one, but no files of its own that could be read. `start` is all that
`main.py train` does from its beginning to the plan of the first batch, in a process of its own and imports
included. The first check of a store hashes 3 MiB of each video; later ones, that of `start` too, ask the file
system whether anything was touched.
Length: one recording of 1 to 60 minutes of 32x32 video through preprocessing, clip reading, GREEN, CHROM and
POS, and scoring. Times are processor seconds. The growth is the exponent of the last step of ten (number) or
of the last two lengths: 1 is linear.
"""

from __future__ import annotations

import argparse
import csv
import gc
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import RESULTS, machine
from benchmarks.preprocessing import Rows, in_process, peak_mb
from preprocessing.sightings import SETTLED_NS
from utils.files import write_json, write_text
from utils.runlog import say

ROOT = Path(__file__).resolve().parent.parent
NUMBERS, MINUTES = (10, 100, 1000, 10_000), (1, 4, 15, 60)
FPS, SIDE, START_LIMIT_S = 30.0, 32, 5.0
VIDEO_BYTES = 4 << 20
SCHEMES = ("fractions", "kfold", "loso", "lists")
Row = dict[str, Any]


def make_set(root: Path, n: int) -> None:
    """`n` recordings in UBFC's layout, with videos that take no room on the disk."""
    label = "\n".join(" ".join(["0.1"] * 8) for _ in range(3)) + "\n"
    for number in range(1, n + 1):
        folder = root / f"subject{number}"
        folder.mkdir(parents=True)
        with open(folder / "vid.avi", "wb") as video:
            video.truncate(VIDEO_BYTES)
        (folder / "ground_truth.txt").write_text(label, encoding="utf-8")


def params(folder: Path) -> Row:
    """A params file over the made set."""
    return {
        "data": {"sets": [{"name": "ubfc_rppg_2", "root": str(folder / "raw")}],
                 "store": str(folder / "store")},
        "net": {"name": "physnet"}, "logging": {"progress": False},
        "run": {"name": "run", "output": str(folder / "runs"), "device": "cpu"},
    }


def make_store(folder: Path) -> None:
    """A manifest that takes every recording for done, with lines as long as true ones; files of one byte."""
    from commands.params import load_config
    from preprocessing import plan

    config = load_config(str(folder / "params.json"), [])
    (planned,) = plan.make(config.data.sets, folder / "store", config.preprocessing, False).values()
    planned.folder.mkdir(parents=True)
    for number, (key, task) in enumerate(planned.tasks.items()):
        task.target.write_bytes(b"x")
        planned.manifest.entries[key] = task.description() | {
            "status": "done", "reason": "", "n_frames": 1800 + number % 7, "fps": FPS, "duration_s": 60.0,
            "size": 128, "label_kind": "ppg", "has_label": True, "hr_mean_bpm": 72.0 + number % 30,
            "hr_mean_label_bpm": 72.0, "hr_mean_device_bpm": None, "face_found_share": 1.0,
            "quality_kbps": {}, "warnings": [], "file": task.target.name, "bytes": 1,
            "sha256": f"{number:064x}",
        }
    planned.manifest.write()


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds of `work`, and what it gives."""
    start = time.process_time()
    value = work()
    return time.process_time() - start, value


def steps(folder: Path, answer: Any) -> None:
    """Send the processor seconds of each step over one dataset, and the peak memory at the end."""
    from commands.params import load_config
    from commands.recordings import divide
    from dataset.index import load_infos
    from dataset.loader import ClipLoader
    from dataset.split import make_split
    from preprocessing import plan
    from preprocessing.manifest import Manifest
    from utils.contracts import InputSpec
    from utils.settings import Split

    gc.disable()  # its passes would count to whichever step they fall into; `start` has them
    config, store = load_config(str(folder / "params.json"), []), folder / "store"
    rest, spent = peak_mb(), {}
    path = store / "ubfc_rppg_2" / "manifest.json"
    spent["manifest, read"], manifest = timed(lambda: Manifest(path))
    manifest.path = folder / "copy.json"
    spent["manifest, write"], _ = timed(manifest.write)
    spent["manifest, add a line"], _ = timed(lambda: [manifest.add(*manifest.entries.popitem())
                                                      for _ in range(10)])
    for name in ("first check of the store", "check of the store"):
        spent[name], plans = timed(lambda: plan.make(config.data.sets, store, config.preprocessing, False))
        plans["ubfc_rppg_2"].sightings.keep()
    spent["index"], infos = timed(lambda: load_infos(store, ["ubfc_rppg_2"]))
    names = [info.recording for info in infos]
    half = len(names) // 2
    for name in SCHEMES:
        lists = {"lists": {"train": names[:half], "test": names[half:]}} if name == "lists" else {}
        settings = Split(**{"scheme": name, **lists})
        spent[f"split, {name}"], _ = timed(lambda: make_split(infos, settings, 0))  # noqa: B023
    spent["index and split"], (found, parts) = timed(lambda: divide(config))
    trained = parts.select(found.values(), "train")
    for name in ("clips", "distinct", "halves"):
        spec = InputSpec(frames=128, size=72, plan=name)
        spent[f"plan, {name}"], _ = timed(lambda: ClipLoader(trained, spec, batch=4, seed=0))  # noqa: B023
    answer.send({"processor_s": spent, "rest_mb": round(rest), "peak_mb": round(peak_mb())})


START = """
import gc
import sys
from pathlib import Path
import main
gc.set_threshold(*main.COLLECTOR)
from commands.lineage import learned
from commands.params import load_config
from commands.recordings import divide, fill, keep_split
from commands.runfolder import RunFolder
config = load_config(sys.argv[1], [])
with RunFolder(config).opened(must_exist=False) as folder:
    fill(config)
    infos, parts = divide(config)
    keep_split(infos, parts, folder / "split.json", learned(config, infos, parts))
    from commands import learning
    from dataset.loader import ClipLoader
    device, settings, method = learning.prepare(config)
    trained = parts.select(infos.values(), "train")
    loader = ClipLoader(trained, learning.training_spec(config, method), batch=4, seed=0)
    assert len(loader) > 0
"""


def started(*words: str) -> tuple[float, float, float]:
    """Wall and processor seconds of a program, and its peak memory in MB."""
    start = time.perf_counter()
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status:
        raise SystemExit(f"{' '.join(words)[:200]} ended with {status}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000


def of_number(n: int) -> Row:
    """One row: all steps over a dataset of `n` recordings."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_set(folder / "raw", n)
        write_json(folder / "params.json", params(folder))
        make_store(folder)
        time.sleep(2 * SETTLED_NS / 1e9)  # what was changed a moment ago is read again
        row: Row = {"recordings": n, **in_process(steps, folder)}
        path = str(folder / "params.json")
        row["manifest_bytes"] = (folder / "store" / "ubfc_rppg_2" / "manifest.json").stat().st_size
        wall, used, memory = started(sys.executable, "-c", START, path)
        row["start"] = {"wall_s": round(wall, 2), "processor_s": round(used, 2), "peak_mb": round(memory)}
    row["processor_s"] = {key: round(value, 4) for key, value in row["processor_s"].items()}
    return row


def make_video(folder: Path, minutes: float) -> Path:
    """A face crop of 32x32 pixels with a pulse of 72 bpm in it, and its label."""
    from preprocessing.synthetic.avi import write_avi

    n = round(60 * FPS * minutes)
    noise = np.random.default_rng(0).normal(0, 2, (64, SIDE, SIDE, 3))
    folder.mkdir(parents=True)

    def frame(index: int) -> np.ndarray:
        pulse = 2 * math.sin(2 * math.pi * 1.2 * index / FPS)
        return np.clip(np.array([90, 110 - pulse, 140]) + noise[index * 7 % 64], 0, 255).astype(np.uint8)

    write_avi(folder / "a_long.avi", (frame(i) for i in range(n)), fps=FPS, codec="mjpeg", quality=90)
    times = (f"{i / FPS:.4f},{math.sin(2 * math.pi * 1.2 * i / FPS):.4f}\n" for i in range(n))
    write_text(folder / "a_long.csv", "time_s,pulse\n" + "".join(times))
    return folder


def read_in(folder: Path, answer: Any) -> None:
    """Preprocess the one recording; send processor seconds and memory."""
    from preprocessing import sources
    from preprocessing.extract import ExtractSettings, extract

    (recording,) = sources.build("folder", folder / "raw", is_crop=True).recordings()
    settings = ExtractSettings(face_finder="none", size=SIDE, landmarks=False)
    rest = peak_mb()

    def work() -> None:
        sink = Rows(folder / "r.h5", SIDE)
        got = extract(recording, settings, sink, lambda: None)
        assert sink.writer is not None
        sink.writer.finish(got.arrays, got.attributes)

    spent, _ = timed(work)
    answer.send({"processor_s": round(spent, 3), "rest_mb": round(rest), "peak_mb": round(peak_mb())})


def read_clips(folder: Path, answer: Any) -> None:
    """Read every clip of the stored recording, eight at a time."""
    from dataset.reader import StoreClips
    from utils.contracts import InputSpec

    clips, rest = StoreClips.from_file(folder / "r.h5", InputSpec(frames=128, size=SIDE)), peak_mb()
    spent, _ = timed(lambda: sum(len(batch) for batch in clips.batches(8)))
    answer.send({"processor_s": round(spent, 3), "rest_mb": round(rest), "peak_mb": round(peak_mb())})


def evaluate(folder: Path, answer: Any) -> None:
    """The classical methods' waveforms of the stored recording, and their scores in windows of 30 s."""
    import scipy.signal  # noqa: F401  loaded at its first use, which is not what is measured

    from commands.building import classical_methods
    from dataset.reader import StoreClips
    from evaluation import protocols
    from evaluation.infer import infer
    from utils.contracts import InputSpec
    from utils.settings import Evaluation

    methods, rest = classical_methods(Evaluation()), peak_mb()
    clips = StoreClips.from_file(folder / "r.h5", InputSpec(frames=128, size=SIDE))
    waves: list[Any] = []
    spent, _ = timed(lambda: waves.extend(infer(methods, [clips])))
    whole, _ = timed(lambda: protocols.score(waves, "default"))
    windows, _ = timed(lambda: protocols.score(waves, "default", window_s=30.0))
    answer.send({
        "processor_s": {"methods": round(spent, 3), "score": round(whole, 3),
                        "score in windows": round(windows, 3)},
        "rest_mb": round(rest), "peak_mb": round(peak_mb()),
    })


def of_length(minutes: float) -> Row:
    """One row: a recording of that length, read, cut into clips and evaluated."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_video(folder / "raw", minutes)
        parts = {"preprocessing": read_in, "clips": read_clips, "evaluation": evaluate}
        return {"minutes": minutes, **{part: in_process(work, folder) for part, work in parts.items()}}


def flat(row: Row, prefix: str = "") -> dict[str, float]:
    """All numbers of a row by their path."""
    found: dict[str, float] = {}
    for key, value in row.items():
        path = f"{prefix}{key}"
        found |= flat(value, f"{path}: ") if isinstance(value, dict) else {path: float(value)}
    return found


def growth(rows: list[Row], over: str) -> dict[str, float]:
    """The exponent of each number between the last two rows; what takes under 20 ms is left out."""
    if len(rows) < 2:
        return {}
    small, large = flat(rows[-2]), flat(rows[-1])
    by = math.log(large[over] / small[over])
    return {key: round(math.log(large[key] / small[key]) / by, 2) for key in large
            if key != over and small[key] > 0 and (large[key] > 0.02 or "_s" not in key)}


def write_csv(path: Path, parts: dict[str, list[Row]]) -> None:
    """A line per number: part, size, name, value."""
    with open(path, "w", newline="", encoding="utf-8") as handle:
        table = csv.writer(handle)
        table.writerow(["over", "size", "what", "value"])
        for over, rows in parts.items():
            for row in rows:
                table.writerows([over, row[over], key, value] for key, value in flat(row).items()
                                if key != over)


def draw(path: Path, numbers: list[Row], lengths: list[Row]) -> None:
    """Processor time over number and length, and memory over both."""
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    from evaluation.figures.style import MARKERS, PALETTE, new, save, styled

    def lines(
        axes: Any, rows: list[Row], over: str, chosen: dict[str, str], label: str, scale: str = "linear"
    ) -> None:
        at = [row[over] for row in rows]
        for index, (key, name) in enumerate(chosen.items()):
            axes.plot(at, [flat(row)[key] for row in rows], color=PALETTE[index], marker=MARKERS[index],
                      markersize=4, label=name)
        axes.set(xscale="log", yscale=scale, xlabel=over, ylabel=label)
        axes.set_xticks(at)
        if scale == "linear":
            axes.set_ylim(bottom=0)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
            axis.set_minor_formatter(NullFormatter())
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))  # beside the lines, which fill the panel

    def panels() -> Any:
        figure, axes = new(10.6, 5.6, 2, 2)
        chosen = {f"processor_s: {key}": key for key in (
            "first check of the store", "check of the store", "index and split", "plan, clips")}
        lines(axes[0, 0], numbers, "recordings", chosen | {"start: processor_s": "start"}, "seconds", "log")
        memory = {"peak_mb": "steps", "start: peak_mb": "start"}
        lines(axes[0, 1], numbers, "recordings", memory, "MB at most")
        lines(axes[1, 0], lengths, "minutes", {
            "preprocessing: processor_s": "preprocessing", "clips: processor_s": "clips",
            "evaluation: processor_s: methods": "three methods",
            "evaluation: processor_s: score in windows": "scores, 30 s windows"}, "seconds", "log")
        lines(axes[1, 1], lengths, "minutes", {f"{key}: peak_mb": key for key in (
            "preprocessing", "clips", "evaluation")}, "MB at most")
        return figure

    save(styled(panels)(), path)


def main() -> int:
    """Measure, print and keep; 1 when the largest number of recordings takes too long to start."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--numbers", type=int, nargs="+", default=NUMBERS)
    parser.add_argument("--minutes", type=float, nargs="+", default=MINUTES)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    numbers, lengths = [], []
    for n in args.numbers:
        numbers.append(of_number(n))
        say(json.dumps(numbers[-1]))
    for minutes in args.minutes:
        lengths.append(of_length(minutes))
        say(json.dumps(lengths[-1]))
    grown = {"recordings": growth(numbers, "recordings"), "minutes": growth(lengths, "minutes")}
    say("growth (1: linear): " + json.dumps(grown, indent=1))
    write_json(args.out / "scaling.json", {
        "machine": machine("numpy", "h5py", "torch"), "numbers": numbers, "lengths": lengths,
        "growth": grown,
    })
    write_csv(args.out / "scaling.csv", {"recordings": numbers, "minutes": lengths})
    draw(args.out / "scaling.png", numbers, lengths)
    return int(numbers[-1]["start"]["processor_s"] > START_LIMIT_S)


if __name__ == "__main__":
    sys.exit(main())
