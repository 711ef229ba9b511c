"""A recording without pictures whose label lies where a test wants it, and what an examined one says."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from commands.audit import skin_waveforms
from evaluation.audit.findings import Part, Signals
from preprocessing.synthetic.layouts.base import Take, frame_times, make_take

FRAME_S = 1 / 30
PULSE_RGB = np.array([0.33, 0.77, 0.53])
SKIN = np.array([150.0, 110.0, 90.0])
STATED = {
    "label_kind": "ppg", "label_rate_hz": 60.0, "fps_declared": 30.0, "face_finder": "mediapipe_mesh",
    "frame_times": "dataset",
}


@functools.cache
def take(rate_bpm: float = 58.0, seconds: float = 30.0) -> Take:
    """One person's pulse at that rate."""
    made = make_take(3, 1, seconds=seconds)
    rhythm = dataclasses.replace(made.subject.rhythm, rate_bpm=rate_bpm)
    return Take(dataclasses.replace(made.subject, rhythm=rhythm), seconds)


def signals(
    lag: Callable[[np.ndarray], np.ndarray] = lambda t: 0 * t, wave: Callable | None = None,
    rate_bpm: float = 58.0, seconds: float = 30.0, sign: int = 1, seed: int = 0, noise: float = 0.05,
) -> Signals:
    """A recording without pictures: mean colours that follow the pulse, and a label `lag` seconds later."""
    wave = wave or take(rate_bpm, seconds).pulse
    rng = np.random.default_rng(seed)
    time_s = frame_times(seed, 30.0, seconds)
    label_time_s = np.arange(0, seconds, 1 / 60)
    rgb = SKIN * (1 - 0.02 * wave(time_s)[:, None] * PULSE_RGB)
    rgb += noise * rng.standard_normal(rgb.shape) + 2 * np.sin(2 * np.pi * 0.03 * time_s)[:, None]
    label = sign * wave(label_time_s - lag(label_time_s))
    box = np.tile([200.0, 100.0, 150.0, 150.0], (len(time_s), 1))
    face = rng.integers(0, 256, (9, 9, 3))
    crops = np.kron(face, np.ones((8, 8, 1)))[None] * 0.1 + SKIN + rng.normal(0, 2, (8, 72, 72, 3))
    return Signals(
        frame_time_s=time_s, pulse=np.interp(time_s, label_time_s, label), box=box,
        face_found=np.ones(len(time_s), dtype=bool), rgb=rgb, label=label, label_time_s=label_time_s,
        hr_bpm=np.full(len(label), rate_bpm), skin=skin_waveforms(rgb, time_s), stated=STATED,
        crops=crops.clip(0, 255).astype(np.uint8),
    )


def flags(part: Part) -> set[str]:
    """The flags of a part's findings."""
    return {finding.flag for finding in part.findings}


def lag_ms(part: Part) -> float:
    """The lag, which must have been found."""
    value = part.values["lag_ms"]
    assert isinstance(value, float)
    return value


def put(first: int, last: int, value: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Set a stretch to one value, or to what a function makes of it."""
    def change(row: np.ndarray) -> np.ndarray:
        row[first:last] = value(row[first:last]) if callable(value) else value
        return row
    return change
