"""One training step of PhysNet on a CPU: the plain form against channels_last_3d with bf16.

    python -m benchmarks.training_step                        # the claimed figure, about 10 minutes
    python -m benchmarks.training_step --size 36 --pairs 9    # the demonstration's step, seconds

Both forms do the same: forward, negative Pearson, backward, Adam. Steps are interleaved in pairs, so that
other load on the machine strikes both, and the median of the pairs' ratios is given.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import nets
from benchmarks.machine import RESULTS, machine
from losses.waveform import neg_pearson
from utils.allocator import keep_freed_memory
from utils.runlog import say


def make_step(size: int, frames: int, batch: int, fast: bool) -> Callable[[], None]:
    """A function that does one step; `fast`: channels_last_3d and bf16 autocast."""
    torch.manual_seed(0)
    net = nets.build("physnet")
    video, pulse = torch.randn(batch, 3, frames, size, size), torch.randn(batch, frames)
    if fast:
        net = net.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        video = video.contiguous(memory_format=torch.channels_last_3d)
    optimizer = torch.optim.Adam(net.parameters(), 1e-4)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            prediction = net(video)
        loss = neg_pearson(prediction, pulse)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def measured(step: Callable[[], None]) -> tuple[float, float, float]:
    """Seconds of one step, its CPU seconds, and the process's peak memory during it in MiB."""
    Path("/proc/self/clear_refs").write_text("5")
    start, cpu = time.perf_counter(), time.process_time()
    step()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    status = Path("/proc/self/status").read_text()
    peak_kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return seconds, cpu, peak_kib / 1024


def compare(size: int, frames: int, batch: int, pairs: int) -> dict[str, Any]:
    """Times and memory of both forms, and the median of the pairs' ratios."""
    forms = {"plain": make_step(size, frames, batch, False), "fast": make_step(size, frames, batch, True)}
    for step in forms.values():
        step()
    rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in forms}
    for pair in range(pairs):
        for name, step in forms.items():
            rows[name].append(measured(step))
        say(f"pair {pair + 1}: " + ", ".join(f"{name} {rows[name][-1][0]:.3f} s" for name in forms))
    wall, cpu, peak = ({name: [row[i] for row in values] for name, values in rows.items()} for i in range(3))
    ratios, cpu_ratios = (
        [a / b for a, b in zip(times["plain"], times["fast"], strict=True)] for times in (wall, cpu)
    )
    return {
        "input": [batch, 3, frames, size, size], "wall_s": wall, "cpu_s": cpu,
        "median_wall_s": {name: statistics.median(values) for name, values in wall.items()},
        "median_cpu_s": {name: statistics.median(values) for name, values in cpu.items()},
        "peak_mib": {name: round(max(values)) for name, values in peak.items()},
        "ratio_median": statistics.median(ratios), "ratios": ratios,
        "cpu_ratio_median": statistics.median(cpu_ratios), "load_average": os.getloadavg()[0],
    }


def main() -> None:
    """Measure, print, and write the result beside the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=int, default=128, help="side of the picture in pixels")
    parser.add_argument("--frames", type=int, default=128, help="clip length")
    parser.add_argument("--batch", type=int, default=4, help="clips in a batch")
    parser.add_argument("--pairs", type=int, default=5, help="interleaved pairs after one warm-up each")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads, by default one a core")
    parser.add_argument("--keep-memory", action="store_true", help="the allocator keeps freed blocks")
    parser.add_argument("--out", type=Path, default=None, help="result file")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    kept = args.keep_memory and keep_freed_memory()
    result = {"machine": machine("torch"), "threads": torch.get_num_threads(), "allocator_keeps_memory": kept,
              **compare(args.size, args.frames, args.batch, args.pairs)}
    suffix = "_kept" if kept else ""
    target = args.out or RESULTS / f"training_step_{args.size}{suffix}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n")
    wall, peak = result["median_wall_s"], result["peak_mib"]
    say(
        f"plain {wall['plain']:.3f} s, fast {wall['fast']:.3f} s, ratio {result['ratio_median']:.2f} "
        f"(of CPU time {result['cpu_ratio_median']:.2f}), peak {peak['plain']} and {peak['fast']} MiB; "
        f"written to {target}"
    )


if __name__ == "__main__":
    main()
