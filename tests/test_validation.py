"""What chooses the best epoch is the number that the test reports."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from commands import learning
from evaluation import protocols
from evaluation.waveforms import RecordingWaveform
from utils.config import validate

TIME_S = np.arange(1800) / 30
LABEL = np.sin(2 * np.pi * 1.2 * TIME_S)


def judged(waves: list[RecordingWaveform], monkeypatch: pytest.MonkeyPatch, **evaluation: Any) -> float:
    """The error by which an epoch with these answers is judged."""
    monkeypatch.setattr(learning, "infer", lambda *_, **__: waves)
    monkeypatch.setattr(learning, "validation_loss", lambda *_: 0.0)
    config = validate({"data": {"sets": [{"name": "pure", "root": "x"}]}, "net": {"name": "physnet"},
                       "evaluation": evaluation}, "test")
    method = SimpleNamespace(drawn_loss=False, input_spec=None)
    return learning.validation(config, method, [])(0)["mae_bpm"]  # type: ignore[arg-type]


def wave(name: str, answer: np.ndarray) -> RecordingWaveform:
    """60 s with a pulse of 72 bpm."""
    return RecordingWaveform(f"pure.{name}", name, "pure", 30.0, TIME_S, LABEL, {"physnet": answer})


@pytest.mark.parametrize("window_s", [None, 10.0])
def test_validation_scores_in_the_windows_of_the_test(
    window_s: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A waveform that is wrong for the first 25 s of 60 is right as a whole and wrong in windows."""
    one = wave("r", np.where(TIME_S < 25, 0.6 * np.sin(2 * np.pi * 2.2 * TIME_S), LABEL))
    found = judged([one], monkeypatch, window_s=window_s)
    tested = protocols.score([one], protocols.get("default"), window_s=window_s, bootstrap=0)["rows"][0]
    assert found == tested["mae_bpm"]
    assert (found > 10) == (window_s is not None)


def test_a_failed_recording_does_not_make_the_others_look_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error is unknown, and so is that of the epoch."""
    assert judged([wave("a", LABEL)], monkeypatch) < 0.1
    assert math.isnan(judged([wave("a", LABEL), wave("b", np.zeros(1800))], monkeypatch))
