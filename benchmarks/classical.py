"""Time of the classical methods on one minute of mean colours: `python -m benchmarks.classical`."""

from __future__ import annotations

import argparse
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


def median_ms(name: str, seconds: float, fps: float, repeats: int) -> float:
    """Median time of one recording in milliseconds, after a first call that is not counted."""
    rng = np.random.default_rng(0)
    rgb = torch.from_numpy(120 + rng.normal(size=(1, int(seconds * fps), 3)))
    net, times = nets.build(name), []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        net(rgb, fps)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[1:])


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
    times = {name: round(median_ms(name, args.seconds, args.fps, args.repeats), 3) for name in names}
    for name, value in times.items():
        say(f"{name:8} {value:8.3f} ms")
    result = {"machine": machine("numpy"), "seconds": args.seconds, "fps": args.fps, "median_ms": times}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
