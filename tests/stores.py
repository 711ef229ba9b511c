"""Stores of made-up recordings, written as preprocessing writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dataset.index import load_infos
from preprocessing.store import STREAMS, Manifest, RecordingWriter

FPS = 30.0


def write_recording(path, n, size=16, rate_bpm=72.0, seed=0, label=True, hr=None, **arrays):
    """One stored recording: a patch whose brightness beats at `rate_bpm`, with noise."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(n) / FPS + 0.004 * rng.random(n)
    pulse = np.sin(2 * np.pi * rate_bpm / 60 * time_s) if label else np.full(n, np.nan)
    frames = 120 - 8 * np.nan_to_num(pulse)[:, None, None, None] + rng.normal(0, 20, (n, size, size, 3))
    content = {"frame_time_s": time_s, "pulse": pulse.astype(np.float32),
               "roi_rgb": frames.mean((1, 2))[:, None].astype(np.float32), **arrays}
    streams = {name: content.pop(name) for name in STREAMS if name in content}
    if hr is not None:
        content |= {"hr_bpm": np.asarray(hr, np.float32), "hr_time_s": np.arange(len(hr), dtype=np.float64)}
    with RecordingWriter(path, size) as writer:
        writer.append("frames", frames.clip(0, 255).astype(np.uint8))
        writer.append("skin", rng.integers(0, 2, (n, 64, 64), dtype=np.uint8))
        for name, rows in streams.items():
            writer.append(name, rows)
        told = {"fps": FPS, "region_names": ["face"], "dataset": path.parent.name, "subject": path.stem,
                "recording": path.stem, "condition.motion": "still"}
        return writer.finish(content, told)


def manifest_line(dataset, subject, recording, n, sha256="", size=16, n_bytes=0, has_label=True):
    return {"status": "done", "subject": subject, "dataset": dataset, "conditions": {"motion": "still"},
            "n_frames": n, "fps": FPS, "duration_s": n / FPS, "size": size, "label_kind": "ppg",
            "has_label": has_label, "hr_mean_bpm": 72.0 if has_label else None, "face_found_share": 1.0,
            "warnings": [], "file": f"{recording}.h5", "bytes": n_bytes, "sha256": sha256, "settings": {},
            "settings_hash": "", "identity": {}, "schema": 1}


def make_store(root, lengths, dataset="made", **options):
    """A store of one dataset with recordings r1, r2, ... of the given lengths."""
    folder = Path(root) / dataset
    folder.mkdir(parents=True)
    manifest = Manifest(folder / "manifest.json")
    for i, n in enumerate(lengths, 1):
        n_bytes, sha256 = write_recording(folder / f"r{i}.h5", n, seed=i, **options)
        told = {"size": options.get("size", 16), "has_label": options.get("label", True)}
        told["n_bytes"] = n_bytes
        manifest.entries[f"r{i}"] = manifest_line(dataset, f"p{i}", f"r{i}", n, sha256, **told)
    manifest.write()
    return load_infos(root, [dataset])


def same(first, second):
    """Whether two batches are equal bit for bit, NaN equal to NaN."""
    if (first.start, first.recording) != (second.start, second.recording):
        return False
    names = ("video", "pulse", "has_label", "fps", "hr_bpm")
    pairs = [(getattr(first, name).float(), getattr(second, name).float()) for name in names]
    return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)


def all_same(first, second):
    return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))
