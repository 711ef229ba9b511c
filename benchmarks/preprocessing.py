"""Speed, memory and accuracy of preprocessing: `python -m benchmarks.preprocessing`.

Makes its own uncompressed 640x480 videos (a photograph of a face moved by a known amount, with
sensor noise), runs each through the extraction in a process of its own, and compares the stored box
with a look at every frame. CPU seconds are user plus system time of that process, the writing of
the HDF5 file included and start-up (imports, models) left out.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.machine import RESULTS, machine
from preprocessing.synthetic.avi import write_avi

FPS, WIDE, HIGH = 30.0, 640, 480
POOL_VIDEOS, REPEATS = 48, 5
MOTIONS = {
    "still": (0.0, 1.0),
    "slow, 8 px in 2 s": (8.0, 2.0),
    "fast, 8 px in 0.5 s": (8.0, 0.5),
    "wide, 20 px in 1 s": (20.0, 1.0),
}
"""Amplitude in pixels and period in seconds of the shift to the side."""


def shift_px(index: int, motion: tuple[float, float]) -> tuple[float, float]:
    """Shift of frame `index` to the right and down."""
    amplitude, period = motion
    phase = 2 * np.pi * index / (FPS * period)
    return amplitude * np.sin(phase), 0.6 * amplitude * np.cos(phase)


def make_video(
    path: Path, motion: tuple[float, float], n_frames: int, codec: str = "uncompressed"
) -> None:
    """Write a video of a face some 250 px high that moves as a sine; codec: as `write_avi`'s, or h264."""
    import matplotlib.cbook

    photo = cv2.imread(str(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    photo = cv2.resize(photo, None, fx=1.23, fy=1.23, interpolation=cv2.INTER_LINEAR)
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 2, (8, HIGH, WIDE, 3)).round().astype(np.int16)

    def frames() -> Iterator[np.ndarray]:
        for index in range(n_frames):
            right, down = shift_px(index, motion)
            move = np.array([[1, 0, 5 + right], [0, 1, -60 + down]])
            frame = cv2.warpAffine(photo, move, (WIDE, HIGH), borderMode=cv2.BORDER_REPLICATE)
            noisy = frame.astype(np.int16) + np.roll(noise[index % 8], index, axis=1)
            yield np.clip(noisy, 0, 255).astype(np.uint8)

    if codec == "h264":
        write_h264(path, frames())
    else:
        write_avi(path, frames(), fps=FPS, codec=codec, quality=0 if codec == "uncompressed" else 95)


def write_h264(path: Path, frames: Iterator[np.ndarray]) -> None:
    """Frames (H, W, 3) BGR as H.264 at x264's constant rate factor 18."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=round(FPS), options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = WIDE, HIGH, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        container.mux(stream.encode(None))


def cpu_s() -> float:
    """User and system seconds of this process."""
    used = os.times()
    return used.user + used.system


def peak_mb() -> float:
    """Most memory this process has held, in MB (getrusage would inherit its parent's)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1000


class Rows:
    """A sink that stores through the project's writer where `path` is given, else drops the rows."""

    def __init__(self, path: Path | None, size: int) -> None:
        from preprocessing.store import RecordingWriter

        self.writer = RecordingWriter(path, size) if path is not None else None

    def append(self, name: str, block: np.ndarray) -> None:
        """Write or drop."""
        if self.writer is not None:
            self.writer.append(name, block)


def measure(video: Path, stride: int, answer: Any) -> None:
    """Extract twice, the first time to start everything; send speed, memory and boxes."""
    from preprocessing.extract import ExtractSettings, extract
    from preprocessing.sources.video_file import video_file

    settings = ExtractSettings(keyframe_stride=stride)
    warm_up = video.with_name("warm_up.avi")
    extract(video_file(warm_up), settings, Rows(None, settings.size), lambda: None)
    with tempfile.TemporaryDirectory() as folder:
        sink = Rows(Path(folder) / "r.h5", settings.size)
        start, wall = cpu_s(), time.perf_counter()
        result = extract(video_file(video), settings, sink, lambda: None)
        assert sink.writer is not None
        sink.writer.finish(result.arrays, {})
        used, wall = cpu_s() - start, time.perf_counter() - wall
    answer.send({
        "cpu_s": used, "wall_s": wall, "n_frames": result.attributes["n_frames"],
        "n_looks": result.attributes["n_looks"], "box": result.arrays["box"],
        "peak_mb": peak_mb(),
    })


def places(video: Path, answer: Any) -> None:
    """Send centre and height of the face of every frame, the mesh looking at each."""
    from preprocessing import face
    from preprocessing.video import VideoReader

    finder = face.build("mediapipe_mesh")
    answer.send(np.array([finder.look(frame).box for frame in VideoReader(video)]))


def in_process(work: Any, *arguments: Any) -> Any:
    """Run `work(*arguments, answer)` in a fresh process and return what it sends."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(*arguments, send))
    process.start()
    send.close()
    try:
        return receive.recv()
    finally:
        process.join()


def pool_speed(folder: Path, n_workers: int, n_videos: int) -> float:
    """Wall seconds of the whole preprocessing of `n_videos` copies by `n_workers` processes."""
    from preprocessing.run import preprocess
    from utils.settings import Preprocessing, RawSet

    root = folder / "set"
    store = folder / f"store{n_workers}"
    sets = [RawSet(name="ubfc_rppg_2", root=str(root))]
    start = time.perf_counter()
    report = preprocess(sets, store, Preprocessing(workers=n_workers), progress=False)
    used = time.perf_counter() - start
    shutil.rmtree(store)
    if len(report.done) != n_videos:
        raise SystemExit(f"{len(report.done)} of {n_videos} recordings were made")
    return used


def make_set(folder: Path, video: Path, n_videos: int, n_frames: int) -> None:
    """A dataset in UBFC's layout with links to one video."""
    time_s = np.arange(n_frames) / FPS
    lines = [np.sin(2 * np.pi * 1.2 * time_s), np.full(n_frames, 72.0), time_s]
    text = "\n".join(" ".join(f"{value:.7e}" for value in line) for line in lines)
    for number in range(1, n_videos + 1):
        subject = folder / "set" / f"subject{number}"
        subject.mkdir(parents=True)
        os.link(video, subject / "vid.avi")
        (subject / "ground_truth.txt").write_text(text + "\n", encoding="utf-8")


def compare(video: Path, motion: tuple[float, float], stride: int, scale: float) -> dict[str, Any]:
    """One row of the table: speed, memory, looks, and the box against a look at every frame.

    Speed is given for the fastest and the middle one of REPEATS fresh processes. Both boxes are also
    held against the truth (the known shift and a face of constant size): a look at every frame errs,
    too, most of all in the height of a face that moves fast.
    """
    tries = sorted((in_process(measure, video, stride) for _ in range(REPEATS)), key=lambda got: got["cpu_s"])
    got, middle = tries[0], tries[REPEATS // 2]
    dense = in_process(places, video)
    box = got.pop("box").astype(np.float64)
    centre, side = box[:, :2] + box[:, 2:] / 2, box[:, 2]
    shift = np.array([shift_px(index, motion) for index in range(len(box))])
    return {
        "frames_per_cpu_s": round(got["n_frames"] / got["cpu_s"]),
        "middle_frames_per_cpu_s": round(middle["n_frames"] / middle["cpu_s"]),
        "frames_per_s": round(got["n_frames"] / got["wall_s"]),
        "looks_share": round(got["n_looks"] / got["n_frames"], 3),
        "peak_mb": round(got["peak_mb"]),
        "centre_rms_px": rms(centre - dense[:, :2]),
        "side_rms_px": rms(side - scale * dense[:, 2]),
        "centre_to_truth_px": rms(centred(centre - shift)),
        "every_frame_centre_to_truth_px": rms(centred(dense[:, :2] - shift)),
        "side_sd_px": rms(centred(side)),
        "every_frame_side_sd_px": rms(centred(scale * dense[:, 2])),
    }


def rms(error: np.ndarray) -> float:
    """Root of the mean square over all values."""
    return round(float(np.sqrt((error**2).mean())), 3)


def centred(values: np.ndarray) -> np.ndarray:
    """Values less their mean over the frames."""
    return values - values.mean(axis=0)


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The rows as Markdown."""
    names = list(next(iter(rows.values())))
    lines = ["| motion | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(str(row[n]) for n in names) + " |" for name, row in rows.items()]
    return "\n".join(lines)


def main() -> None:
    """Measure and write `benchmarks/results/preprocessing.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=900, help="frames of each video")
    parser.add_argument("--stride", type=int, default=8, help="frames between two looks")
    parser.add_argument("--no-pool", action="store_true", help="leave out one against two workers")
    parser.add_argument("--out", type=Path, default=RESULTS / "preprocessing.json")
    options = parser.parse_args()
    from preprocessing.extract import ExtractSettings

    rows: dict[str, dict[str, Any]] = {}
    found: dict[str, Any] = {
        "machine": machine("numpy", "mediapipe", "opencv-contrib-python-headless"),
        "frames": options.frames, "stride": options.stride,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_video(folder / "warm_up.avi", (0.0, 1.0), 40)
        for motion, how in MOTIONS.items():
            video = folder / "video.avi"
            make_video(video, how, options.frames)
            rows[motion] = compare(video, how, options.stride, ExtractSettings().box_scale)
            if motion == "still" and not options.no_pool:
                make_set(folder, video, POOL_VIDEOS, options.frames)
                walls = {n: pool_speed(folder, n, POOL_VIDEOS) for n in (1, 2)}
                found["pool_wall_s"] = {str(n): round(wall, 2) for n, wall in walls.items()}
                found["two_workers_over_one"] = round(walls[1] / walls[2], 2)
                for link in (folder / "set").rglob("*.avi"):
                    link.unlink()
            video.unlink()
    found["rows"] = rows
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    from utils.runlog import say

    say(table(rows))
    say(json.dumps({key: value for key, value in found.items() if key != "rows"}))


if __name__ == "__main__":
    main()
