"""A recording with a sinusoid for a label and a method that is off by a known rate."""

from __future__ import annotations

import numpy as np

from evaluation.waveforms import RecordingWaveform

FPS = 30.0


def recording(index: int, shift_bpm: float = 0.0, **fields: object) -> RecordingWaveform:
    """Twenty seconds of a sinusoid as label; the method "net" is off by `shift_bpm`."""
    time_s = np.arange(600) / FPS
    rate = 60.0 + 5 * index
    given = {
        "key": f"any.r{index}", "subject": f"s{index}", "dataset": "any", "fps": FPS, "time_s": time_s,
        "label": np.sin(2 * np.pi * rate / 60 * time_s),
        "predictions": {"net": np.sin(2 * np.pi * (rate + shift_bpm) / 60 * time_s)},
    }
    return RecordingWaveform(**{**given, **fields})  # type: ignore[arg-type]
