"""The lag between label and skin, its drift and a label on its head are measured, or null with the reason."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from commands.audit import skin_waveforms
from evaluation.audit.examine import examine
from preprocessing.synthetic.layouts.base import frame_times
from tests.audit_toys import FRAME_S, SKIN, STATED, flags, lag_ms, put, signals, take

DATA = os.environ.get("RPPG_REAL_DATA")


def test_a_good_recording_has_no_findings() -> None:
    """Nothing is said against a recording with which nothing is wrong."""
    part, _ = examine(signals())
    assert part.findings == [] and part.values["polarity"] == "upright"
    assert part.values["rate_bpm"] == pytest.approx(58, abs=1)
    assert part.values["skin_bpm"] == pytest.approx(58, abs=1)


@pytest.mark.parametrize("planted_s", [0.0, 0.033, -0.033, 0.1, -0.2, 0.5])
def test_a_planted_lag_comes_back_with_its_sign(planted_s: float) -> None:
    """The lag of a label is found within a third of a frame, and flagged above 133 ms."""
    part, _ = examine(signals(lambda t: planted_s + 0 * t))
    assert lag_ms(part) == pytest.approx(1000 * planted_s, abs=1000 * FRAME_S / 3)
    assert ("lag" in flags(part)) == (abs(planted_s) > 0.133)
    assert "drift" not in flags(part)


@pytest.mark.parametrize(("fps", "rate_bpm"), [(20.0, 75.0), (61.0, 52.0)])
def test_the_lag_does_not_depend_on_the_frame_rate(fps: float, rate_bpm: float) -> None:
    """At 20 and at 61 frames a second a lag of 80 ms is found within a third of a frame of 30."""
    made = signals(lambda t: 0.08 + 0 * t, rate_bpm=rate_bpm)
    time_s = frame_times(1, fps, 30.0)
    rgb = np.stack([np.interp(time_s, made.frame_time_s, row) for row in made.rgb.T], axis=1)
    other = dataclasses.replace(
        made, frame_time_s=time_s, rgb=rgb, pulse=np.interp(time_s, made.label_time_s, made.label),
        skin=skin_waveforms(rgb, time_s), box=made.box[:1].repeat(len(time_s), 0))
    assert lag_ms(examine(other)[0]) == pytest.approx(80, abs=11)


def test_an_inverted_label_is_told_from_half_a_beat() -> None:
    """A label on its head is named as that, with its own lag, because systole is steeper."""
    part, _ = examine(signals(lambda t: 0.02 + 0 * t, sign=-1))
    assert part.values["polarity"] == "inverted" and "inverted_label" in flags(part)
    assert lag_ms(part) == pytest.approx(20, abs=11) == part.values["inverted_lag_ms"]
    assert "lag" not in flags(part)


def test_an_inverted_label_is_followed_as_one() -> None:
    """The drift of a label on its head is that of the label, not of its half beat."""
    part, found = examine(signals(lambda t: 0.3 * (t / 60 - 0.5), seconds=60.0, sign=-1))
    assert part.values["polarity"] == "inverted"
    assert found is not None and np.abs(found.track_s).max() < 0.2
    assert part.values["drift_ms"] == pytest.approx(300, abs=40)


def test_masked_stretches_of_a_label_are_not_judged() -> None:
    """Where a reader masked the label nothing is flat, noisy or out of step; only the gap is named."""
    made = signals()
    label, pulse = put(600, 1200, np.nan)(made.label.copy()), put(300, 600, np.nan)(made.pulse.copy())
    part, found = examine(dataclasses.replace(made, label=label, pulse=pulse))
    assert flags(part) == {"label_missing"} and part.values["missing_share"] == pytest.approx(1 / 3, abs=1e-3)
    assert found is not None and found.r > 0.9


def test_a_coarse_label_is_not_called_clipped() -> None:
    """A label in the 100 whole steps of an oximeter rests on its highest value for some samples: no fault."""
    made = signals()
    part, _ = examine(dataclasses.replace(made, label=np.round(50 + 50 * made.label)))
    assert part.findings == []


def test_a_sine_cannot_be_told_from_its_inverse() -> None:
    """Half a beat of lag and a flip are the same in a sinusoid: the audit says so, and flags the lag."""
    part, _ = examine(signals(lambda t: 0.5 + 0 * t, wave=lambda t: 0.5 * np.sin(2 * np.pi * t)))
    assert part.values["polarity"] == "undecided"
    (text,) = [finding.text for finding in part.findings if finding.flag == "lag"]
    assert "cannot be told apart" in text
    part, _ = examine(signals(wave=lambda t: 0.5 * np.sin(2 * np.pi * t)))
    assert part.findings == [] and any("would fit as well" in note for note in part.notes)


@pytest.mark.parametrize("drift_s", [0.3, -0.3, 1.2])
def test_a_clock_that_drifts_is_flagged(drift_s: float) -> None:
    """A lag that grows over the recording is measured, also over more than half a beat."""
    part, _ = examine(signals(lambda t: drift_s * (t / 60 - 0.5), seconds=60.0))
    assert part.values["drift_ms"] == pytest.approx(1000 * drift_s, rel=0.15, abs=20)
    assert "drift" in flags(part)


def test_skin_without_a_pulse_has_no_lag() -> None:
    """Where the skin shows nothing of the label the lag is null with a reason, never a number."""
    made = signals()
    rgb = SKIN + np.random.default_rng(5).normal(0, 0.3, made.rgb.shape)
    part, _ = examine(dataclasses.replace(made, rgb=rgb, skin=skin_waveforms(rgb, made.frame_time_s)))
    assert part.values["lag_ms"] is None and "no pulse" in part.reasons["lag_ms"]
    assert "lag_unknown" in flags(part)


def test_another_persons_label_is_found_by_its_rate() -> None:
    """A label of another rate than the skin's is flagged, and gets no lag."""
    mine, other = signals(rate_bpm=58.0), signals(rate_bpm=80.0)
    part, _ = examine(dataclasses.replace(mine, label=other.label, pulse=other.pulse, hr_bpm=other.hr_bpm))
    assert {"skin_disagrees", "lag_unknown"} <= flags(part)


def test_an_ecg_is_judged_by_its_beats() -> None:
    """Heart rate and lag of an ECG come from its R peaks; the travel of the pulse is no fault."""
    made, person = signals(), take()
    time_s = np.arange(0, 30, 1 / 256)
    ecg = person.ecg(time_s)
    part, _ = examine(dataclasses.replace(
        made, label=ecg, label_time_s=time_s, pulse=np.full(len(made.pulse), np.nan),
        stated={**STATED, "label_kind": "ecg", "label_rate_hz": 256.0}))
    assert part.values["rate_bpm"] == pytest.approx(58, abs=1) and part.findings == []
    assert -700 < lag_ms(part) < -200


@pytest.mark.skipif(not DATA, reason="RPPG_REAL_DATA does not name the folder with real data")
def test_a_real_label_lies_within_two_frames_of_the_skin() -> None:
    """On the real clip the contact PPG lags by less than two frames and is not taken for inverted."""
    folder = Path(DATA or ".") / "fixtures"
    rows = np.genfromtxt(folder / "vitallens_sample_1_rgb_traces.csv", delimiter=",", names=True)
    time_s, names = rows["t_s"], rows.dtype.names or ()
    rgb = np.stack([rows[name] for name in names[1:4]], axis=1)
    made = dataclasses.replace(
        signals(), frame_time_s=time_s, pulse=rows["ppg"], label=rows["ppg"], label_time_s=time_s, rgb=rgb,
        skin=skin_waveforms(rgb, time_s), hr_bpm=np.empty(0), box=np.empty((0, 4)),
        stated={**STATED, "fps_declared": 30.098, "label_rate_hz": 30.0})
    part, _ = examine(made)
    assert abs(lag_ms(part)) < 67 and part.values["polarity"] != "inverted" and part.findings == []
