"""What chooses the best epoch is the number that the test reports."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from commands import learning
from evaluation import protocols
from evaluation.waveforms import RecordingWaveform
from utils.config import validate


@pytest.mark.parametrize("window_s", [None, 10.0])
def test_validation_scores_in_the_windows_of_the_test(
    window_s: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A waveform that is wrong for the first 25 s of 60 is right as a whole and wrong in windows."""
    time_s = np.arange(1800) / 30
    label = np.sin(2 * np.pi * 1.2 * time_s)
    answer = np.where(time_s < 25, 0.6 * np.sin(2 * np.pi * 2.2 * time_s), label)
    wave = RecordingWaveform("pure.r", "s", "pure", 30.0, time_s, label, {"physnet": answer})
    monkeypatch.setattr(learning, "infer", lambda *_, **__: [wave])
    monkeypatch.setattr(learning, "validation_loss", lambda *_: 0.0)
    config = validate({"data": {"sets": [{"name": "pure", "root": "x"}]}, "net": {"name": "physnet"},
                       "evaluation": {"window_s": window_s}}, "test")
    method = SimpleNamespace(drawn_loss=False, input_spec=None)
    found = learning.validation(config, method, [])(0)["mae_bpm"]  # type: ignore[arg-type]
    tested = protocols.score([wave], protocols.get("default"), window_s=window_s, bootstrap=0)["rows"][0]
    assert found == tested["mae_bpm"]
    assert (found > 10) == (window_s is not None)
