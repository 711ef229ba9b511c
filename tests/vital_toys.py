"""Pulses with known beats, the presets they are measured by, and where real signals lie."""

from __future__ import annotations

import os

from evaluation.vital_presets import PRESETS
from preprocessing.synthetic import LongSignal, long_signal

DEFAULT = PRESETS["default"]
AS_PUBLISHED = PRESETS["contrastphys"]
REAL = os.environ.get("RPPG_REAL_DATA")


def at_30(seed: int, noise: float = 0.0, duration_s: float = 60.0, **rhythm: float) -> LongSignal:
    """A pulse as a camera sees it; without amplitude modulation its maxima are where the truth says."""
    return long_signal(seed, duration_s=duration_s, fs_hz=30.0, noise=noise, **{"depth": 0.0, **rhythm})
