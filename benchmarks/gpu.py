"""PhysNet's training steps on a GPU, for `benchmarks.bench`: clips a second, memory, what determinism costs.

Steps are those of the loop, with the clips on the device already. The share of time in which a kernel runs
is the sum of the kernels' times by device events over the time of the steps. An epoch is that of UBFC-rPPG:
about 650 clips of 128 frames. The peak of the memory is that after the first step, in which cuDNN tries its
algorithms. Where there is no GPU, every row says that it was not measured.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.machine import Row
from benchmarks.training_step import FAST, PLAIN, flops, make_step, peak_gflops
from utils.seeding import seed_everything

BATCHES, SIZES, FRAMES = (4, 8, 16, 32, 64), (72, 128), 128
EPOCH_CLIPS = 650
GROUPS, STEPS, WARM = 3, 10, 3
ABSENT = "not measured: no CUDA device"


def rows(quick: bool) -> Iterator[Row]:
    """The GPU's rows; with nothing but names where there is none."""
    if not torch.cuda.is_available():
        yield Row("gpu: PhysNet's steps, memory, kernels, determinism", None, "clips/s", "more", ABSENT)
        return
    seed_everything(0, deterministic=False)
    peak = peak_gflops(torch.bfloat16, "cuda", side=8192)
    yield Row("gpu: peak of a product or convolution, bf16", peak / 1000, "TFLOP/s", "more")
    for size in SIZES[:1] if quick else SIZES:
        for batch in BATCHES[:1] if quick else BATCHES:
            yield from of_form("cuda", size, batch, peak)
    size, batch = SIZES[-1], 8
    yield from forms("cuda", size, batch)


def of_form(device: str, size: int, batch: int, peak: float, frames: int = FRAMES) -> Iterator[Row]:
    """Clips a second, share of the peak, memory and epoch at one size and batch; peak: in GFLOP/s."""
    step = make_step("physnet", batch, FAST, device, frames=frames, size=size)
    work, name = flops(step) / 1e9, f"gpu: physnet {frames}x{size}x{size}, batch {batch}"
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    spent, memory = seconds(step, device), 0.0
    if device == "cuda":
        memory = torch.cuda.max_memory_allocated() / 2**30
    yield Row(name, batch / spent, "clips/s", "more", f"{100 * work / spent / peak:.1f} % of the bf16 peak")
    yield Row(f"{name}, memory", memory, "GiB", "less")
    yield Row(f"{name}, epoch of {EPOCH_CLIPS} clips", EPOCH_CLIPS * spent / batch, "s", "less")
    busy = kernel_share(step, device)
    yield Row(f"{name}, kernels run", busy and 100 * busy, "%", "more", "" if busy else ABSENT)


def forms(device: str, size: int, batch: int, frames: int = FRAMES) -> Iterator[Row]:
    """The same step in other forms, and with determinism, as clips a second and against the plain one."""
    sections: dict[str, dict[str, Any]] = {
        "plain fp32": PLAIN, "bf16 and channels_last": FAST,
        "the same, fused optimiser": {**FAST, "optimizer_options": {"fused": True}},
        "the same, deterministic": FAST,
        "the same, compile": {**FAST, "compile": True},
        "the same, compile reduce-overhead": {**FAST, "compile": "reduce-overhead"},
    }
    plain = None
    for name, section in sections.items():
        if device == "cpu" and "compile" in section:
            continue
        title = f"gpu: physnet {frames}x{size}x{size}, batch {batch}, {name}"
        seed_everything(0, deterministic="deterministic" in name)
        try:
            spent = seconds(make_step("physnet", batch, section, device, frames=frames, size=size), device)
        except Exception as error:
            if "compile" not in section:
                raise
            yield Row(title, None, "clips/s", "more", f"{type(error).__name__} in torch.compile")
            continue
        plain = plain or spent
        yield Row(title, batch / spent, "clips/s", "more", f"{plain / spent:.2f} times plain")


def seconds(step: Callable[[], None], device: str) -> float:
    """Wall seconds of a step, the median of groups of steps between two waits for the device.

    Within a group, steps follow each other as in a training.
    """
    for _ in range(WARM):
        step()
    spent = []
    for _ in range(GROUPS):
        _wait(device)
        start = time.perf_counter()
        for _ in range(STEPS):
            step()
        _wait(device)
        spent.append((time.perf_counter() - start) / STEPS)
    return statistics.median(spent)


def kernel_share(step: Callable[[], None], device: str) -> float | None:
    """Share of the time of some steps in which a kernel of the device ran, 0 to 1; None on a CPU."""
    if device == "cpu":
        return None
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        start = time.perf_counter()
        for _ in range(STEPS):
            step()
        _wait(device)
        spent = time.perf_counter() - start
    kernels_us = sum(event.self_device_time_total for event in profile.key_averages())
    return min(1.0, kernels_us / 1e6 / spent)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
