"""What fails, is missing or has no label is counted and named with its reason, and improves no number."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation import protocols
from evaluation.waveforms import RecordingWaveform
from tests.waves import FPS, recording
from utils.errors import UserError
from utils.signal import sample_rate


@pytest.mark.parametrize(
    "bad", [np.full(600, np.nan), np.zeros(600), np.r_[np.nan, np.sin(np.arange(599.0))]]
)
def test_bad_prediction_is_a_failed_recording(bad: np.ndarray) -> None:
    """A NaN or constant prediction is counted and named as failed and improves no mean."""
    waves = [recording(0, 4.0), recording(1, 2.0), recording(2)]
    waves[2].predictions = {"net": bad.astype(np.float32)}
    row = protocols.score(waves)["rows"][0]
    assert (row["n"], row["n_failed"]) == (2, 1) and "any.r2" in row["failed"][0]
    assert row["mae_bpm"] == pytest.approx(3.0, abs=0.05)


def test_when_all_fail_every_metric_is_null() -> None:
    """A method that failed everywhere has null metrics with a reason, never 0."""
    wave = recording(0, predictions={"net": np.zeros(600)})
    row = protocols.score([wave])["rows"][0]
    assert row["n"] == 0 and all(row[name] is None for name in ("mae_bpm", "rmse_bpm", "snr_db", "macc"))
    assert row["reasons"]["mae_bpm"] == "no unit could be scored: the waveform is constant"


def test_method_without_a_prediction_fails_there() -> None:
    """A method that is absent from one recording has that recording among its failed ones."""
    waves = [recording(0), recording(1)]
    waves[0].predictions = {**waves[0].predictions, "pos": waves[0].label}
    rows = {row["method"]: row for row in protocols.score(waves)["rows"]}
    assert (rows["pos"]["n"], rows["pos"]["n_failed"]) == (1, 1)
    assert "no prediction" in rows["pos"]["failed"][0]


def test_missing_recordings_are_listed() -> None:
    """Recordings that should be there and are not are counted and named with a reason."""
    header = protocols.score([recording(0)], missing={"test": ["any.r7", "any.r0"]})["test"]
    assert (header["n_missing"], header["missing"]) == (1, ["any.r7"])
    assert header["missing_reasons"]["any.r7"]


def test_unlabelled_recording_of_a_labelled_part_is_missing() -> None:
    """A recording without any reference among labelled ones is missing with that reason."""
    waves = [recording(0), recording(1, label=np.full(600, np.nan))]
    header = protocols.score(waves)["test"]
    assert header["missing"] == ["any.r1"] and "no label" in header["missing_reasons"]["any.r1"]


def test_device_rate_stands_in_for_a_label() -> None:
    """Without a label the default protocol takes the device's mean rate and counts it as such."""
    wave = recording(2, shift_bpm=3.0, label=np.full(600, np.nan), reference_hr_bpm=70.0)
    metrics = protocols.score([wave])
    assert metrics["rows"][0]["mae_bpm"] == pytest.approx(3.0, abs=0.05)
    assert metrics["test"]["references"] == {"label": 0, "device": 1}
    assert metrics["rows"][0]["macc"] is None


def test_label_gaps_are_not_scored() -> None:
    """Windows whose label is unknown for longer than 5 % are left out and counted."""
    wave = recording(1)
    wave.label[200:260] = np.nan
    header = protocols.score([wave], window_s=5.0)["test"]
    assert (header["n_windows"], header["n_unlabelled_windows"]) == (3, 1)


def test_a_gap_between_frames_is_not_scored() -> None:
    """Where the camera paused for long, neither rate is known: no straight line is taken for a pulse."""
    whole = recording(0)
    kept = (whole.time_s < 8) | (whole.time_s > 10)
    times = whole.time_s[kept]
    fields = {"time_s": times, "label": whole.label[kept], "fps": sample_rate(times),
              "predictions": {"net": whole.predictions["net"][kept]}}
    scored = protocols.score([recording(0, **fields), recording(1)])
    assert scored["test"]["missing"] == ["any.r0"] and "gaps" in scored["test"]["missing_reasons"]["any.r0"]
    cut = protocols.score([recording(0, **fields)], window_s=4)["test"]
    assert (cut["n_windows"], cut["n_unlabelled_windows"]) == (3, 1)


def test_label_known_in_the_middle_only() -> None:
    """Prediction and label are compared over the labelled span, also when it starts late."""
    wave = recording(1, shift_bpm=2.0)
    wave.label[:100] = np.nan
    wave.label[500:] = np.nan
    (window,) = protocols.score([wave])["windows"]
    assert window["start_s"] == pytest.approx(100 / FPS) and window["error_bpm"] == pytest.approx(2, abs=0.1)


def test_recording_shorter_than_the_window_is_missing() -> None:
    """A recording shorter than the window is missing with both lengths, under a rule that drops tails."""
    header = protocols.score([recording(0)], window_s=30.0)["test"]
    assert "600 frames (20.0 s) are less than 30.0 s" in header["missing_reasons"]["any.r0"]


@pytest.mark.parametrize(("n", "fps", "words"), [(8, 30.0, "8 frames"), (100, 1.0, "1.00 frames a second")])
@pytest.mark.parametrize("protocol", ["default", "toolbox"])
def test_tiny_recordings_are_missing(n: int, fps: float, words: str, protocol: str) -> None:
    """A recording too short or too slow for any rate is missing with that reason, not an error."""
    wave = RecordingWaveform("a.r", "s", "a", fps, np.arange(n) / fps, np.sin(np.arange(n)),
                             {"net": np.sin(np.arange(n))})
    assert words in protocols.score([wave], protocol)["test"]["missing_reasons"]["a.r"]


def test_doubled_recording_is_refused() -> None:
    """The same recording twice is an error: no number could say which one it is about."""
    with pytest.raises(UserError, match=r"twice: any\.r1"):
        protocols.score([recording(1), recording(0), recording(1)])


def test_device_rates_under_a_label_protocol_are_missing() -> None:
    """A part with device rates only, scored by a protocol that wants labels, is missing with that reason."""
    wave = recording(0, label=np.full(600, np.nan), reference_hr_bpm=60.0)
    metrics = protocols.score([wave], "toolbox")
    assert metrics["rows"][0]["mae_bpm"] is None
    assert "no label" in metrics["test"]["missing_reasons"]["any.r0"]
