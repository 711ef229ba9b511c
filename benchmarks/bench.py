"""All speeds in one table: `python -m benchmarks.bench`, also `make bench`; 10 minutes on 2 idle cores.

Decoding, preprocessing, clip reading, a training step of every net, PhysNet under each option of the loop,
the classical methods, scoring, and a GPU's steps where there is one. Times are processor time of one thread
(a GPU's: wall time), which other load on the machine changes less; the load is kept with the table. Each
figure is set beside the committed one of the same kind of machine, where there is one.

    python -m benchmarks.bench --only step --quick    # a part of it, small
    python -m benchmarks.bench --keep                 # also replace the committed result
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.machine import RESULTS, Row, kind, whole_machine
from utils.files import read_json, write_json, write_text
from utils.runlog import say

COMMITTED, OUT = RESULTS / "bench", Path("runs") / "bench"
WORSE, FIGURES = 1.25, 3


def decoding(quick: bool) -> Iterator[Row]:
    """Frames decoded per processor second, 640x480, by codec."""
    from benchmarks.preprocessing import make_video
    from preprocessing.video import VideoReader

    n = 30 if quick else 300
    for codec in ("uncompressed", "mjpeg", "h264"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / ("video.mp4" if codec == "h264" else "video.avi")
            make_video(path, (8.0, 2.0), n, codec)
            start = time.process_time()
            read = sum(1 for _ in VideoReader(path))
            spent = time.process_time() - start
            yield Row(f"decoding, {codec}", read / spent, "frames/s", "more", f"{n} of 640x480")


def preprocessing(quick: bool) -> Iterator[Row]:
    """The whole extraction of a still face, in a process of its own."""
    from benchmarks.preprocessing import in_process, make_video, measure

    n, repeats = (40, 1) if quick else (600, 3)
    with tempfile.TemporaryDirectory() as name:
        video, folder = Path(name) / "video.avi", Path(name)
        make_video(folder / "warm_up.avi", (0.0, 1.0), 20)
        make_video(video, (0.0, 1.0), n)
        tries = [in_process(measure, video, 8) for _ in range(repeats)]
    best = min(got["cpu_s"] for got in tries)
    yield Row("preprocessing, still face", n / best, "frames/s", "more", f"{n} of 640x480")
    yield Row("preprocessing, memory", max(got["peak_mb"] for got in tries), "MB", "less")


def clip_reading(quick: bool) -> Iterator[Row]:
    """Random clips out of the store, and what writing costs."""
    from benchmarks import clip_reading as bench

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recording.h5"
        written = bench.write_recording(path)
        times = bench.measure(path, *((2, 1) if quick else (bench.N_CLIPS, bench.ROUNDS)))
    yield Row("store, write", 1000 * written, "us/frame", "less", "128x128")
    for way, spent in times.items():
        yield Row(f"clip of {bench.CLIP} frames, {way}", spent, "ms", "less", "128x128, warm")


def classical(quick: bool) -> Iterator[Row]:
    """Every classical method on a minute of colours."""
    import torch

    import nets
    from benchmarks.classical import median_ms

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for name in nets.names(task="classical"):
        _, spent = median_ms(name, 60.0, 30.0, 1 if quick else 31)
        yield Row(f"method, {name}", spent, "ms", "less", "60 s at 30 frames/s")
    torch.set_num_threads(threads)


def scoring(quick: bool) -> Iterator[Row]:
    """A waveform file read, and scored under some presets."""
    from benchmarks.metrics import METHODS, RECORDINGS, SECONDS, processor_s

    n = 3 if quick else RECORDINGS
    for what, spent in processor_s(n).items():
        yield Row(f"scoring, {what}", spent, "s", "less",
                  f"{n} recordings of {SECONDS} s, {len(METHODS)} methods")


def steps(quick: bool) -> Iterator[Row]:
    """Training steps on the CPU."""
    from benchmarks.training_step import rows

    return rows(quick)


def gpu(quick: bool) -> Iterator[Row]:
    """Training steps on the GPU."""
    from benchmarks.gpu import rows

    return rows(quick)


PARTS: dict[str, Callable[[bool], Iterator[Row]]] = {
    "decoding": decoding, "preprocessing": preprocessing, "clip_reading": clip_reading,
    "classical": classical, "scoring": scoring, "steps": steps, "gpu": gpu,
}


def beside(row: Row, before: dict[str, float | None]) -> str:
    """How a figure compares with the committed one: the ratio new/old, marked where it is much worse."""
    old = before.get(row.name)
    if not old or row.value is None:
        return "new" if before and row.value is not None else ""
    ratio = row.value / old
    worse = ratio if row.better == "less" else 1 / ratio if ratio else float("inf")
    return f"{ratio:.2f}" + (" WORSE" if worse > WORSE else "")


def table(rows: list[Row], before: dict[str, float | None]) -> str:
    """The rows as Markdown."""
    lines = ["| what | figure | unit | to committed | |", "| --- | ---: | --- | ---: | --- |"]
    for row in rows:
        value = "not measured" if row.value is None else f"{row.value:.{FIGURES}g}"
        if row.value is not None and row.value >= 10**FIGURES:
            value = f"{row.value:,.0f}"
        lines.append(f"| {row.name} | {value} | {row.unit} | {beside(row, before)} | {row.note} |")
    return "\n".join(lines) + "\n"


def committed(path: Path) -> dict[str, float | None]:
    """The committed figures by name; none where there is no such file."""
    if not path.exists():
        return {}
    return {row["name"]: row["value"] for row in read_json(path)["rows"]}


def report(rows: list[Row], about: dict[str, Any], out: Path, kept: Path, keep: bool, quick: bool) -> str:
    """Store the table as JSON and Markdown in `out`, with `keep` also in `kept`; returns what to print."""
    name = kind(about)
    before = committed(kept / f"{name}.json")
    said = f"to committed: new / old of {kept.name}/{name}.json; WORSE: by more than {WORSE - 1:.0%}"
    if not before:
        said = f"no committed result of this kind of machine ({name})"
    text = f"{table(rows, before)}\n{said}\n"
    value = {"machine": about, "quick": quick, "rows": [dataclasses.asdict(row) for row in rows]}
    for folder in (out, kept) if keep else (out,):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"{name}.json", value)
        write_text(folder / f"{name}.md", text)
    return text


def main() -> int:
    """Measure the parts asked for, print and store the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--quick", action="store_true", help="small and inexact, to see that it runs")
    parser.add_argument("--keep", action="store_true", help="replace the committed result of this machine")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    if args.keep and (args.quick or args.only != list(PARTS)):
        parser.error("--keep goes with the whole table at full size only")
    rows: list[Row] = []
    about = whole_machine()
    for part in args.only:
        for row in PARTS[part](args.quick):
            rows.append(row)
            say(f"{row.name}: {'not measured' if row.value is None else f'{row.value:.4g} {row.unit}'}")
    say(report(rows, about, args.out, COMMITTED, args.keep, args.quick))
    return 0


if __name__ == "__main__":
    sys.exit(main())
