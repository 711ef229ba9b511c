"""Memory of reading the largest recordings: `python -m benchmarks.reading_memory`.

Makes, one after the other, a MATLAB 5 video of 2 GB as MMPD has them (t x h x w x 3 doubles, plain and
compressed), a MATLAB 7.3 one as SCAMPS has them, and three minutes of Motion JPEG of 1024x1024 pixels at
35 frames a second as UBFC-Phys has them. Each is preprocessed by its dataset's reader in a process of its
own, the store's file included. Peak memory is that of the whole process, imports and face mesh included
(`rest`: after the imports); anonymous memory is what no file stands behind. Needs 5 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import shutil
import struct
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np

from benchmarks.machine import RESULTS, machine
from benchmarks.preprocessing import Rows, in_process, peak_mb
from preprocessing.synthetic.avi import write_avi

FRAMES, HIGH = 1800, 240
FPS, SIDE = 35.14, 1024
NEEDS_BYTES = 5_000_000_000
COLUMNS = 1024
CONDITIONS = {
    "light": "LED-low", "motion": "Rotation", "exercise": "False", "gender": "male", "glasser": "False",
    "hair_cover": "False", "makeup": "False", "skin_color": "3",
}


def columns(n_pixels: int) -> Iterator[np.ndarray]:
    """All times of some pixels after the others: noise of whole grey levels, (n, FRAMES) from 0 to 1."""
    noise = np.random.default_rng(0).integers(0, 256, (COLUMNS, FRAMES)) / 255
    for start in range(0, n_pixels, COLUMNS):
        yield np.roll(noise, start, axis=1)[: n_pixels - start]


def element(kind: int, data: bytes) -> bytes:
    """A part of a MATLAB 5 file: type, size, data filled up to eight bytes."""
    return struct.pack("<2I", kind, len(data)) + data + bytes(-len(data) % 8)


def header(name: str, array_class: int, dims: tuple[int, ...]) -> bytes:
    """Flags, dimensions and name of a variable."""
    return (element(6, struct.pack("<2I", array_class, 0)) + element(5, struct.pack(f"<{len(dims)}i", *dims))
            + element(1, name.encode()))


def write_mmpd(root: Path, n_bytes: int, compress: bool) -> Path:
    """root/subject1/p1_0.mat with a video of about `n_bytes`, written piece by piece."""
    path = root / "subject1" / "p1_0.mat"
    path.parent.mkdir(parents=True)
    width = n_bytes // (FRAMES * HIGH * 3 * 8)
    dims = (FRAMES, HIGH, width, 3)
    size = 8 * FRAMES * HIGH * width * 3
    head = header("video", 6, dims) + struct.pack("<2I", 9, size)
    with open(path, "wb") as handle:
        handle.write(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM")
        start = handle.tell()
        packer = zlib.compressobj(1)
        pack: Callable[[bytes], bytes] = packer.compress if compress else bytes
        handle.write(bytes(8) + pack(struct.pack("<2I", 14, len(head) + size) + head if compress else head))
        for block in columns(HIGH * width * 3):
            handle.write(pack(block.tobytes()))
        handle.write(packer.flush() if compress else b"")
        end = handle.tell()
        handle.seek(start)
        handle.write(struct.pack("<2I", 15 if compress else 14, end - start - 8))
        handle.seek(end)
        pulse = np.sin(np.arange(FRAMES) / 4)
        handle.write(element(14, header("GT_ppg", 6, (1, FRAMES)) + element(9, pulse.tobytes())))
        for key, word in CONDITIONS.items():
            handle.write(element(14, header(key, 4, (1, len(word))) + element(16, word.encode())))
    return path


def write_scamps(root: Path, n_bytes: int) -> Path:
    """root/P000001.mat with RawFrames of about `n_bytes` in compressed chunks, written by columns."""
    path = root / "P000001.mat"
    root.mkdir(parents=True)
    width = n_bytes // (FRAMES * HIGH * 3 * 8)
    with h5py.File(path, "w", userblock_size=512) as handle:
        video = handle.create_dataset(
            "RawFrames", (3, width, HIGH, FRAMES), "f8", chunks=(1, 1, 60, FRAMES), compression=1
        )
        noise = next(columns(HIGH))
        for colour in range(3):
            for column in range(width):
                video[colour, column] = np.roll(noise, column, axis=1)
        handle["d_ppg"] = np.sin(np.arange(FRAMES) / 4)[:, None]
    return path


def write_ubfc_phys(root: Path, seconds: float) -> Path:
    """root/s1 with a face that moves to and fro, and its label."""
    import matplotlib.cbook

    folder = root / "s1"
    folder.mkdir(parents=True)
    photo = cv2.imread(str(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    photo = cv2.resize(photo, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    rng = np.random.default_rng(0)
    pictures = []
    for index in range(16):
        move = np.array([[1, 0, 6 * np.sin(np.pi * index / 8)], [0, 1, 0]])
        moved = cv2.warpAffine(photo, move, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
        pictures.append(np.clip(moved + rng.normal(0, 2, moved.shape), 0, 255).astype(np.uint8))
    n = round(seconds * FPS)
    path = folder / "vid_s1_T1.avi"
    write_avi(path, (pictures[i // 4 % 16] for i in range(n)), fps=FPS, codec="mjpeg", quality=75)
    samples = np.sin(2 * np.pi * 1.2 * np.arange(round(64 * seconds)) / 64)
    (folder / "bvp_s1_T1.csv").write_text("\n".join(f"{value:.4f}" for value in samples) + "\n")
    return path


def anonymous_mb() -> float:
    """Anonymous memory of this process in MB, at this moment."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1]) / 1000


def measure(name: str, root: Path, finder: str, answer: Any) -> None:
    """Preprocess the one recording of a set; send time, frames and memory."""
    from preprocessing import sources
    from preprocessing.extract import ExtractSettings, extract

    (recording,) = sources.build(name, root).recordings()
    settings = ExtractSettings(face_finder=finder)
    rest, seen, start = peak_mb(), [0.0], time.perf_counter()
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            seen[0] = max(seen[0], anonymous_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    with tempfile.TemporaryDirectory(dir=root) as folder:
        sink = Rows(Path(folder) / "r.h5", settings.size)
        got = extract(recording, settings, sink, lambda: None)
        assert sink.writer is not None
        sink.writer.finish(got.arrays, {})
    done.set()
    watcher.join()
    answer.send({
        "source_mb": round(sum(path.stat().st_size for path in recording.files()) / 1e6),
        "n_frames": got.attributes["n_frames"], "rest_mb": round(rest), "peak_mb": round(peak_mb()),
        "peak_anonymous_mb": round(seen[0]), "wall_s": round(time.perf_counter() - start, 1),
    })


def main() -> None:
    """Measure and write `benchmarks/results/reading_memory.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bytes", type=int, default=2_000_000_000, help="size of the MATLAB 5 video")
    parser.add_argument("--seconds", type=float, default=180.0, help="length of the Motion JPEG video")
    parser.add_argument("--out", type=Path, default=RESULTS / "reading_memory.json")
    options = parser.parse_args()
    if shutil.disk_usage("/var/tmp").free < NEEDS_BYTES:
        raise SystemExit(f"/var/tmp: {NEEDS_BYTES / 1e9:.0f} GB of disk are needed")
    n, seconds = options.bytes, options.seconds
    cases: dict[str, tuple[str, str, Callable[[Path], Path]]] = {
        "MMPD, plain": ("mmpd", "none", lambda root: write_mmpd(root, n, False)),
        "MMPD, compressed": ("mmpd", "none", lambda root: write_mmpd(root, n, True)),
        "SCAMPS": ("scamps", "none", lambda root: write_scamps(root, n // 2)),
        "UBFC-Phys": ("ubfc_phys", "mediapipe_mesh", lambda root: write_ubfc_phys(root, seconds)),
    }
    rows: dict[str, dict[str, Any]] = {}
    for title, (name, finder, write) in cases.items():
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            write(Path(folder) / "set")
            rows[title] = in_process(measure, name, Path(folder) / "set", finder)
    found = {"machine": machine("numpy", "h5py", "opencv-contrib-python-headless"), "rows": rows}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    from utils.runlog import say

    say(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
