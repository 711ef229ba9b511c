"""How well skin masks find the skin: `python -m benchmarks.skin_masks`.

Each synthetic face is made twice, as pictures and as the map of the skin that carries its pulse, which is
known exactly. The stored 64x64 masks are compared with that map (intersection over union, and the share of
the mask that is skin), per skin tone, and drawn over the crops.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.machine import RESULTS, machine
from preprocessing import boxes
from preprocessing.crops import ExtractSettings
from preprocessing.extract import extract
from preprocessing.sources.base import FrameReader, Labels, RawRecording
from preprocessing.synthetic import scene
from preprocessing.synthetic.pulse import make_pulse
from preprocessing.synthetic.subjects import SKIN_TONES, Subject, make_subjects
from utils.files import write_json
from utils.runlog import say

FPS, N_FRAMES, SIZE, SIDE = 30.0, 30, 128, 64
Pictures = list[NDArray[np.uint8]]


class Memory(FrameReader):
    """Frames that are there already."""

    def __init__(self, frames: Pictures) -> None:
        self._frames, self.warnings = frames, []

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        yield from (frame.copy() for frame in self._frames)

    @property
    def time_s(self) -> NDArray[np.float64]:
        """(T,) at 30 frames a second."""
        return np.arange(len(self._frames)) / FPS


@dataclass(frozen=True, kw_only=True)
class Made(RawRecording):
    """A recording in memory."""

    frames: Pictures

    def files(self) -> list[Path]:
        """None."""
        return []

    def open_frames(self) -> FrameReader:
        """Its frames."""
        return Memory(self.frames)

    def labels(self) -> Labels:
        """None."""
        return Labels()


class Kept:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.streams: dict[str, Pictures] = {}

    def append(self, name: str, block: NDArray[np.uint8]) -> None:
        """Keep a copy of the rows."""
        self.streams.setdefault(name, []).extend(block.copy())


def faces() -> list[Subject]:
    """Six faces: two photographs in three skin tones."""
    made = make_subjects(3, {"train": 12, "valid": 0, "test": 0, "hard": 0, "control": 0})
    first = {subject.face: subject for subject in reversed(made)}
    return [dataclasses.replace(subject, skin_tone=tone) for subject in first.values() for tone in SKIN_TONES]


def pictures(subject: Subject) -> tuple[Pictures, Pictures]:
    """The frames in RGB, and where in each is skin (255), which moves with the face."""
    time_s = np.arange(N_FRAMES) / FPS
    beats = make_pulse(subject.rhythm, N_FRAMES / FPS, np.random.default_rng(0))
    layers = scene.make_layers(subject, np.random.default_rng(1))
    course = scene.make_course(
        subject, time_s, beats.wave(time_s), beats.respiration(time_s), np.random.default_rng(2)
    )
    white = dataclasses.replace(
        layers, still=np.ascontiguousarray(np.dstack([layers.skin * 255] * 3)), carried=0 * layers.carried
    )
    still = dataclasses.replace(course, light=np.ones_like(course.light))
    shown = scene.render(layers, course, subject.noise, np.random.default_rng(3))
    skin = scene.render(white, still, 0.0, np.random.default_rng(3))
    return [np.ascontiguousarray(frame[..., ::-1]) for frame in shown], [frame[..., 0] for frame in skin]


def compare(subject: Subject) -> tuple[dict[str, float], NDArray[np.uint8]]:
    """Mean agreement over the frames, and a crop with the mask's outline (red) and the truth's (green)."""
    shown, skin = pictures(subject)
    sink = Kept()
    recording = Made(dataset="made", subject=subject.name, recording=subject.name, frames=shown)
    result = extract(recording, ExtractSettings(size=SIZE, skin_mask=True), sink, lambda: None)
    scores = []
    for mask, place, true in zip(sink.streams["skin"], result.arrays["box"], skin, strict=True):
        crop = np.empty((SIDE, SIDE, 3), np.uint8)
        boxes.crop(np.dstack([true] * 3), place, SIDE, crop)
        wanted, found = crop[..., 0] > 127, mask > 127
        both, either = (wanted & found).sum(), (wanted | found).sum()
        scores.append((both / either, both / max(1, found.sum()), both / max(1, wanted.sum())))
    view = sink.streams["frames"][-1].copy()
    for outline, colour in ((wanted, (0, 200, 0)), (found, (230, 30, 30))):
        large = cv2.resize(outline.astype(np.uint8), (SIZE, SIZE), interpolation=cv2.INTER_NEAREST)
        lines, _ = cv2.findContours(large, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(view, lines, -1, colour, 1)
    mean = np.mean(scores, axis=0)
    return {"iou": float(mean[0]), "precision": float(mean[1]), "recall": float(mean[2])}, view


def main() -> int:
    """Compare all faces; write figures and a picture."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    drawn = Figure(figsize=(9, 6.4), layout="constrained")
    rows = []
    for panel, subject in zip(drawn.subplots(2, 3).flat, faces(), strict=True):
        found, view = compare(subject)
        rows.append({"face": subject.face, "skin_tone": subject.skin_tone, **found})
        panel.imshow(view)
        panel.set_axis_off()
        panel.set_title(f"{subject.skin_tone}: IoU {found['iou']:.2f}, precision {found['precision']:.2f}, "
                        f"recall {found['recall']:.2f}", fontsize=8)
        say(f"{subject.face} {subject.skin_tone}: " + ", ".join(f"{k} {v:.2f}" for k, v in found.items()))
    drawn.suptitle("skin masks (red) and the skin that carries the pulse (green)")
    drawn.savefig(args.out / "skin_masks.png", dpi=110, metadata={"Software": None})
    write_json(args.out / "skin_masks.json", {"machine": machine("mediapipe"), "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
