"""What the trained net looks at on a few test recordings: figures/attention.png and attention.json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dataset.index import RecordingInfo
from dataset.reader import StoreClips
from evaluation.attention import Attention, look, summary, without_fused_recurrence
from evaluation.figures.attention import attention as draw
from evaluation.figures.style import save
from nets.methods.base import Method, evaluating
from preprocessing.defects import hidden
from preprocessing.facial_regions import facial_regions
from preprocessing.stored import StoredRecording
from utils import interrupt
from utils.files import write_json
from utils.runlog import warn

N_RECORDINGS = 4
"""Recordings that are looked at, spread evenly over the test part; one clip of each."""


def write_attention(folder: Path, method: Method, name: str, infos: Sequence[RecordingInfo]) -> None:
    """Write the maps into `folder`/figures; where there can be none, attention.json says why.

    name: of the method in tables. A method that is not trained reads no frames and has none. People
    whom their dataset asks not to show are left out.
    """
    if not method.trainable or not infos:
        return
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    infos = [info for info in infos if info.recording not in hidden(info.dataset)]
    if not infos:
        write_json(figures / "attention.json", {"method": name, "reason": "nobody here may be pictured"})
        return
    places = np.unique(np.linspace(0, len(infos) - 1, min(N_RECORDINGS, len(infos))).round().astype(int))
    try:
        found = [look_at(method, infos[place]) for place in places]
    except (ValueError, TypeError, RuntimeError) as error:  # maps that fail must not cost the results
        warn(f"no map of what the net looks at: {error}")
        (figures / "attention.png").unlink(missing_ok=True)
        write_json(figures / "attention.json", {"method": name, "reason": f"{error}"})
        return
    about = summary(found, name)
    write_json(figures / "attention.json", about)
    drawn = draw(found, about)
    for kind in ("png", "pdf"):
        save(drawn, figures / f"attention.{kind}")


def look_at(method: Method, info: RecordingInfo) -> Attention:
    """The maps of a recording's first clip, with the face and its regions at their size."""
    interrupt.check()
    batch = next(iter(StoreClips(info, method.input_spec).batches(1)))
    with evaluating(method), without_fused_recurrence(method):
        maps = {which: made[0] for which, made in look(method.waveforms, batch).items()}
    stored = StoredRecording(info.path)
    start = batch.start[0]
    stop = min(info.n_frames, start + batch.video.shape[2])
    side = batch.video.shape[-1]
    mean = stored.read_frames(start, stop).mean(axis=0, dtype=np.float64)
    return Attention(info.key, maps, _resized(mean, side), _regions(stored, start, stop, info.size, side))


def _regions(
    stored: StoredRecording, start: int, stop: int, size: int, side: int
) -> dict[str, NDArray[np.float64]]:
    """Facial regions by the median mesh of the clip, at the size of the maps; none without a mesh."""
    if "landmarks" not in stored:
        return {}
    points = stored.array("landmarks", start, stop).astype(np.float64)
    points = points[np.isfinite(points).all(axis=(1, 2))]
    if not len(points):
        return {}
    masks = facial_regions(np.median(points, axis=0), size)
    return {name: _resized(mask.astype(np.float64), side) for name, mask in masks.items()}


def _resized(picture: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Mean over the area of each new pixel: (S, S, ...) to (side, side, ...)."""
    growing = side > picture.shape[0]
    rule = cv2.INTER_LINEAR if growing else cv2.INTER_AREA
    return np.asarray(cv2.resize(picture, (side, side), interpolation=rule), dtype=np.float64)
