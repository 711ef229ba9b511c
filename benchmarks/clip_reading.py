"""How fast a random clip comes out of the store, and what a frame costs on disk.

    python -m benchmarks.clip_reading

Writes one recording of 1,800 random 128x128 frames (random: like noise, they do not compress) and reads
160-frame clips at random starts from the page cache into a reused buffer, beside plain h5py; and makes
of them what PhysNet is fed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.machine import RESULTS, machine
from dataset.reader import StoreClips, collate
from preprocessing.store import RecordingWriter, StoredRecording
from utils import runlog
from utils.contracts import InputSpec
from utils.files import write_json

N_FRAMES, SIZE, CLIP, N_CLIPS, ROUNDS = 1800, 128, 160, 60, 5
TARGET_MS = 0.5


def write_recording(path: Path) -> float:
    """Write the recording; returns CPU milliseconds per frame, hashing and syncing included."""
    rng = np.random.default_rng(0)
    blocks = [rng.integers(0, 256, (60, SIZE, SIZE, 3), dtype=np.uint8) for _ in range(N_FRAMES // 60)]
    start = time.process_time()
    with RecordingWriter(path, SIZE) as writer:
        for block in blocks:
            writer.append("frames", block)
        writer.finish({"frame_time_s": np.arange(N_FRAMES) / 30.0}, {"fps": 30.0})
    return 1e3 * (time.process_time() - start) / N_FRAMES


def ms_per_clip(read: Callable[[int], Any], starts: list[int]) -> float:
    """CPU milliseconds of one read, mean over the starts."""
    begin = time.process_time()
    for start in starts:
        read(start)
    return 1e3 * (time.process_time() - begin) / len(starts)


def measure(path: Path, n_clips: int = N_CLIPS, rounds: int = ROUNDS) -> dict[str, float]:
    """Median over interleaved rounds of each way to read, in CPU milliseconds per clip."""
    stored, out = StoredRecording(path), np.empty((CLIP, SIZE, SIZE, 3), np.uint8)
    fed = StoreClips.from_file(path, InputSpec(frames=CLIP, size=SIZE, video="diff_normalised"))
    with h5py.File(path) as file:
        frames = file["frames"]
        ways: dict[str, Callable[[int], Any]] = {
            "store, reused buffer": lambda start: stored.read_frames(start, start + CLIP, out),
            "store, new array": lambda start: stored.read_frames(start, start + CLIP),
            "h5py read_direct, reused buffer": lambda start: frames.read_direct(
                out, np.s_[start : start + CLIP]
            ),
            "h5py slice, new array": lambda start: frames[start : start + CLIP],
            "as PhysNet is fed it": lambda start: collate([fed.clip(start, CLIP)], [fed]),
        }
        rng, times = np.random.default_rng(1), {name: [] for name in ways}  # type: ignore[var-annotated]
        for _ in range(rounds):
            starts = [int(start) for start in rng.integers(0, N_FRAMES - CLIP, n_clips)]
            for name, read in ways.items():
                times[name].append(ms_per_clip(read, starts))
    return {name: round(statistics.median(values), 3) for name, values in times.items()}


def main() -> None:
    """Measure, print, and write the result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=RESULTS / "clip_reading.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recording.h5"
        write_ms = write_recording(path)
        result = {
            "what": f"random {CLIP}-frame clips of {N_FRAMES} frames {SIZE}x{SIZE}, warm, CPU ms per clip",
            "target_ms": TARGET_MS, "clip_ms": measure(path),
            "bytes_per_frame": round(path.stat().st_size / N_FRAMES),
            "write_ms_per_frame": round(write_ms, 4), "machine": machine("numpy", "h5py"),
        }
    for name, value in result["clip_ms"].items():  # type: ignore[attr-defined]
        runlog.say(f"{name:34s} {value:.3f} ms per clip")
    runlog.say(f"{result['bytes_per_frame']} bytes and {write_ms:.3f} CPU ms per frame written")
    write_json(arguments.out, result)


if __name__ == "__main__":
    main()
