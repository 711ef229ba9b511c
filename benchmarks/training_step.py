"""Training steps as the loop takes them: forward, loss, backward, guard and optimiser of a method.

    python -m benchmarks.training_step                        # PhysNet at full size, about 10 minutes
    python -m benchmarks.training_step --size 36 --pairs 9    # the demonstration's step, seconds

The command compares PhysNet's plain form with channels_last_3d and bf16 on a CPU. Steps are interleaved in
pairs, so that other load on the machine strikes both, and the median of the pairs' ratios is given.
`benchmarks.bench` takes from here the steps of every net, and of PhysNet under each option of section train.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

import nets
from benchmarks.machine import RESULTS, Row, machine
from nets import methods
from nets.methods.registry import METHODS
from nets.registry import NETS
from tests.fakes import clip_batch
from training.updater import Updater
from utils.allocator import keep_freed_memory
from utils.runlog import say
from utils.settings import Train

FAST = {"channels_last": True, "amp": "bf16"}
PLAIN = {"channels_last": False, "amp": "off"}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": PLAIN,
    "channels_last": {**PLAIN, "channels_last": True},
    "amp bf16": {**PLAIN, "amp": "bf16"},
    "both": FAST,
    "both, optimizer_options foreach": {**FAST, "optimizer_options": {"foreach": True}},
    "both, optimizer_options fused": {**FAST, "optimizer_options": {"fused": True}},
    "channels_last, compile": {**PLAIN, "channels_last": True, "compile": True},
    "channels_last, compile max-autotune": {**PLAIN, "channels_last": True, "compile": "max-autotune"},
}
"""Settings of section train. Under compile, bf16 stays off: `benchmarks.gpu` has it where it counts."""
REPEATS, FRAMES = 5, 64


def make_step(
    net: str, batch: int, section: dict[str, Any], device: str = "cpu", small: bool = False,
    **spec: int,
) -> Callable[[], None]:
    """A function that takes one step of a net's method on made clips, always the same.

    spec: frames and size of the clips; small: the net at the options its class names for tests.
    """
    torch.manual_seed(0)
    module = small_net(net) if small else nets.build(net)
    module.input_spec = module.input_spec.replace(**spec)
    method = methods.build(fitting(net, module)[0], module)
    settings = Train.model_validate({"learning_rate": 1e-4, "scheduler": "constant", **section})
    updater = Updater(method, settings, device, total_steps=10**6, steps_per_epoch=10**6)
    clips = clip_batch(method.input_spec, n=batch).to(torch.device(device))
    if settings.channels_last:
        clips.video = clips.video.contiguous(memory_format=torch.channels_last_3d)
    if settings.compile:
        module.compile(mode="default" if settings.compile is True else settings.compile)
    method.train()

    def step() -> None:
        with updater.autocast():
            method.train_step(clips, updater)
        updater.finish_batch(last=False)

    return step


def small_net(name: str) -> Any:
    """The net at the options its class names for tests."""
    return nets.build(name, **getattr(NETS.get(name), "small_options", {}))


def fitting(name: str, net: Any) -> list[str]:
    """The methods a net can be trained by: its own first, then `supervised`."""
    found = [method for method in methods.names() if METHODS.get(method).trainable
             and net.task in METHODS.get(method).tasks
             and all(hasattr(net, part) for part in METHODS.get(method).needs)]
    return sorted(found, key=lambda method: (method != name, method != "supervised"))


def trainable() -> list[str]:
    """Nets that a method trains by themselves."""
    return [name for name in nets.names() if fitting(name, small_net(name))]


def cpu_s(step: Callable[[], None], repeats: int) -> float:
    """Median processor seconds of a step, after one that is not counted."""
    step()
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        step()
        spent.append(time.process_time() - start)
    return statistics.median(spent)


def flops(step: Callable[[], None]) -> int:
    """Floating-point operations of convolutions and matrix products in a step, both passes."""
    with FlopCounterMode(display=False) as counter:
        step()
    return int(counter.get_total_flops())


def peak_gflops(dtype: torch.dtype, device: str = "cpu", side: int = 1024) -> float:
    """Best of some matrix products and convolutions on this machine, GFLOP per second; one CPU thread.

    Of both, since their libraries differ: on some processors one of them leaves out the widest instructions.
    """
    matrix = torch.randn(side, side, device=device, dtype=dtype)
    maps = torch.randn(1, 64, 8, side // 16, side // 16, device=device, dtype=dtype)
    kernels = torch.randn(64, 64, 3, 3, 3, device=device, dtype=dtype)
    maps, kernels = (t.contiguous(memory_format=torch.channels_last_3d) for t in (maps, kernels))
    work: list[tuple[float, Callable[[], torch.Tensor]]] = [
        (2 * side**3, lambda: matrix @ matrix),
        (2 * kernels.numel() * maps.numel() / 64, lambda: torch.conv3d(maps, kernels, padding=1)),
    ]
    best = 0.0
    for operations, run in work * 8:
        start = time.process_time() if device == "cpu" else time.perf_counter()
        run()
        if device != "cpu":
            torch.cuda.synchronize()
        spent = (time.process_time() if device == "cpu" else time.perf_counter()) - start
        best = max(best, operations / spent / 1e9)
    return best


def small_spec(net: str) -> dict[str, int]:
    """Clip length and size at which every net can be tried in a second."""
    module = small_net(net)
    multiple = module.input_spec.multiple_of
    return {"frames": -(-FRAMES // multiple) * multiple, "size": getattr(module, "small_sizes", (16, 24))[-1]}


def rows(quick: bool) -> Iterator[Row]:
    """A row for every net, then PhysNet's options; one thread, processor time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        peak, bf16 = (peak_gflops(kind, side=256 if quick else 1024)
                      for kind in (torch.float32, torch.bfloat16))
        yield Row("peak of a product or convolution, fp32", peak, "GFLOP/s", "more")
        yield Row("peak of a product or convolution, bf16", bf16, "GFLOP/s", "more")
        for name in ["physnet", "deepphys"] if quick else trainable():
            spec = small_spec(name)
            step = make_step(name, 2, {}, small=True, **spec)
            work, spent = flops(step) / 1e9, cpu_s(step, 1 if quick else REPEATS)
            note = f"2x{spec['frames']}x{spec['size']}x{spec['size']}, {work:.3g} GFLOP, " \
                   f"{100 * work / spent / peak:.0f} % of the fp32 peak"
            yield Row(f"step, {name}", 1000 * spent, "ms", "less", note)
        yield from _options(quick)
    finally:
        torch.set_num_threads(threads)


def _options(quick: bool) -> Iterator[Row]:
    spec = {"frames": 32, "size": 16} if quick else {"frames": 128, "size": 36}
    plain = None
    for name, section in OPTIONS.items():
        if quick and "compile" in name:
            continue
        try:
            spent = cpu_s(make_step("physnet", 4, section, **spec), 1 if quick else REPEATS)
        except Exception as error:
            if "compile" not in section:
                raise
            # without a compiler, or where it cannot do this net
            said = f"not measured: {type(error).__name__} in torch.compile"
            yield Row(f"physnet, train {name}", None, "ms", "less", said)
            continue
        plain = plain or spent
        yield Row(f"physnet, train {name}", 1000 * spent, "ms", "less", f"{plain / spent:.2f} times plain")


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
    forms = {name: make_step("physnet", batch, section, frames=frames, size=size)
             for name, section in {"plain": PLAIN, "fast": FAST}.items()}
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
