"""Time of the classical methods on one minute of mean colours: `python -m benchmarks.classical`."""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch

import nets
from benchmarks.machine import RESULTS, machine
from nets.registry import NETS
from utils.runlog import say

LIMITS_MS = {"pos": 4.0, "ica": 60.0}
"""What a minute at 30 frames a second may take on one core."""
WINDOW_S = 10.0


def median_ms(
    name: str, seconds: float, fps: float, repeats: int, **options: float
) -> tuple[float, float]:
    """Median time of one recording and of the processor for it, in ms; a first call is not counted.

    The two are equal on an idle machine.
    """
    rng = np.random.default_rng(0)
    rgb = torch.from_numpy(120 + rng.normal(size=(1, int(seconds * fps), 3)))
    net, times = nets.build(name, **options), []
    for _ in range(repeats + 1):
        start, start_cpu = time.perf_counter(), time.process_time()
        net(rgb, fps)
        times.append((1000 * (time.perf_counter() - start), 1000 * (time.process_time() - start_cpu)))
    wall, cpu = (round(statistics.median(column), 3) for column in zip(*times[1:], strict=True))
    return wall, cpu


def main() -> None:
    """Measure every classical method, print, and write the result beside the others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the recording")
    parser.add_argument("--fps", type=float, default=30.0, help="frames a second")
    parser.add_argument("--repeats", type=int, default=51)
    parser.add_argument("--out", type=Path, default=RESULTS / "classical.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    names = [name for name in nets.names() if NETS.get(name).task == "classical"]
    measure = functools.partial(median_ms, seconds=args.seconds, fps=args.fps, repeats=args.repeats)
    times = {name: measure(name) for name in names}
    windowed = [name for name in names if "window_s" in NETS.options(name)]
    in_windows = {name: measure(name, window_s=WINDOW_S) for name in windowed}
    for name, (wall, cpu) in times.items():
        beside = f"   in windows {in_windows[name][1]:8.3f} ms" if name in in_windows else ""
        limit = f"   (limit {LIMITS_MS[name]:g} ms)" if name in LIMITS_MS else ""
        say(f"{name:8} {wall:8.3f} ms, of the processor {cpu:8.3f} ms{beside}{limit}")
    result = {
        "machine": machine("numpy"), "seconds": args.seconds, "fps": args.fps, "limits_ms": LIMITS_MS,
        "median_ms": {name: wall for name, (wall, _) in times.items()},
        "median_cpu_ms": {name: cpu for name, (_, cpu) in times.items()},
        "window_s": WINDOW_S,
        "median_cpu_ms_in_windows": {name: cpu for name, (_, cpu) in in_windows.items()},
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
