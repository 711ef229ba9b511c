"""Time of the metrics of one recording of 60 s at 30 fps: `python -m benchmarks.metrics`.

Per recording: both rates, SNR and MACC of one prediction against its label under each preset, and the
same for a waveform file of 42 recordings under all presets. The exit code is 1 when the target is missed.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import RESULTS, machine
from evaluation import presets, protocols
from evaluation.units import score_recording
from evaluation.waveforms import RecordingWaveform, write_waveforms
from utils.files import write_json
from utils.runlog import say

FPS, SECONDS, REPEATS = 30.0, 60, 50
TARGET_MS = 3.0


def recording(index: int) -> RecordingWaveform:
    """A pulse with variability as label, the same in noise as prediction."""
    rng = np.random.default_rng(index)
    time_s = np.arange(int(FPS * SECONDS)) / FPS
    rate_hz = rng.uniform(0.8, 2.0) * (1 + 0.02 * np.sin(2 * np.pi * 0.25 * time_s))
    label = np.cos(2 * np.pi * np.cumsum(rate_hz) / FPS)
    noisy = label + rng.standard_normal(len(label))
    return RecordingWaveform(f"set.r{index}", f"s{index}", "set", FPS, time_s, label, {"net": noisy})


def milliseconds(work: Callable[[], object]) -> float:
    """Median time of `work` after one warm call."""
    work()
    spent = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
    return 1000 * statistics.median(spent)


def measure() -> dict[str, Any]:
    """Milliseconds per recording and preset, and seconds for 42 recordings under all presets."""
    wave = recording(0)
    found: dict[str, Any] = {}
    for name in protocols.names():
        work = functools.partial(score_recording, wave, presets.build(name), ["net"])
        found[name] = round(milliseconds(work), 3)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "waveforms.h5"
        write_waveforms(path, [recording(index) for index in range(42)])
        start = time.perf_counter()
        for name in protocols.names():
            protocols.score(path, name)
        whole = round(time.perf_counter() - start, 3)
    return {
        "machine": machine("numpy", "scipy"),
        "what": f"HR of prediction and label, SNR and MACC of one {SECONDS} s recording",
        "target_ms": TARGET_MS, "median_ms": found, "files_of_42_recordings_all_presets_s": whole,
    }


def main() -> int:
    """Measure, print, and write the result beside the others; 1 when the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS / "metrics.json")
    args = parser.parse_args()
    result = measure()
    for name, spent in result["median_ms"].items():
        say(f"{name:14} {spent:7.2f} ms per recording (target {TARGET_MS:g})")
    say(f"42 recordings, all presets: {result['files_of_42_recordings_all_presets_s']:.2f} s")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(args.out, result)
    return 0 if max(result["median_ms"].values()) <= TARGET_MS else 1


if __name__ == "__main__":
    sys.exit(main())
