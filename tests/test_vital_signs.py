"""Vital signs of recordings are compared with their references; what failed or is missing is named."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from evaluation import vital_presets
from evaluation.vital_presets import VitalSettings
from evaluation.vital_signs import QUANTITIES, agreement, attach, by_part, vital_signs
from evaluation.waveforms import RecordingWaveform
from preprocessing.synthetic import LongSignal
from tests.vital_toys import at_30
from utils.errors import UserError


def recording(index: int, wave: LongSignal, predictions: dict, **more: Any) -> RecordingWaveform:
    return RecordingWaveform(
        key=f"set.s{index}", subject=f"s{index}", dataset="set", fps=30.0, time_s=wave.time_s,
        label=more.pop("label", wave.pulse), predictions=predictions, **more,
    )


@pytest.fixture(scope="module")
def scored() -> dict[str, Any]:
    """Four recordings: a good method, one that fails on the third and is missing in the fourth."""
    waves = [at_30(seed, depth=0.1) for seed in range(4)]
    rng = np.random.default_rng(0)
    good = [wave.pulse + 0.05 * rng.standard_normal(len(wave.pulse)) for wave in waves]
    poor = [good[0], good[1], np.full(len(waves[2].pulse), np.nan)]
    recordings = [recording(i, wave, {"good": good[i], **({"poor": poor[i]} if i < 3 else {})})
                  for i, wave in enumerate(waves)]
    return vital_signs(recordings, missing=["set.s2", "set.s9"])


def test_the_result_is_json_with_every_setting(scored: dict[str, Any]) -> None:
    """It can be written, and holds every field of the settings."""
    again = json.loads(json.dumps(scored, allow_nan=False))
    assert set(again["settings"]) == {field.name for field in dataclasses.fields(VitalSettings)}
    assert [row["method"] for row in again["rows"]] == ["good", "poor"]
    assert set(QUANTITIES) <= set(again["rows"][0])


def test_statistics_are_those_of_the_recordings_listed(scored: dict[str, Any]) -> None:
    """ME, SD, RMSE, MAE and r of a row follow from per_recording by their definitions."""
    lines = scored["per_recording"]
    for name in QUANTITIES[:-1]:
        truth = np.array([line[name] for line in lines if line["method"] == "reference"])
        error = np.array([line[name] for line in lines if line["method"] == "good"]) - truth
        cell = scored["rows"][0][name]
        assert cell["n"] == 4 and cell["n_failed"] == 0
        assert cell["me"] == pytest.approx(error.mean()) and cell["sd"] == pytest.approx(error.std())
        assert cell["mae"] == pytest.approx(np.abs(error).mean())
        assert cell["rmse"] ** 2 == pytest.approx(cell["me"] ** 2 + cell["sd"] ** 2)
        assert cell["pearson_r"] == pytest.approx(np.corrcoef(truth + error, truth)[0, 1])


def test_lf_and_hf_columns_are_equal(scored: dict[str, Any]) -> None:
    """SD, RMSE and r of LF n.u. and HF n.u. are the same, and ME has the other sign."""
    low, high = scored["rows"][0]["lf_nu"], scored["rows"][0]["hf_nu"]
    for name in ("sd", "rmse", "mae", "pearson_r"):
        assert low[name] == pytest.approx(high[name], abs=1e-12)
    assert low["me"] == pytest.approx(-high["me"], abs=1e-12)


def test_a_failed_or_missing_prediction_is_counted(scored: dict[str, Any]) -> None:
    """NaN and absence are failures of that method with a reason, and no statistic of two is an r."""
    cell = scored["rows"][1]["sdnn_ms"]
    assert (cell["n"], cell["n_failed"], cell["pearson_r"]) == (2, 2, None)
    assert "3 recordings" in cell["reason"]
    reasons = {line["recording"]: line["reasons"]["sdnn_ms"] for line in scored["per_recording"]
               if line["method"] == "poor" and line["reasons"]}
    assert "not finite" in reasons["set.s2"] and reasons["set.s3"] == "no waveform by this method"


def test_a_recording_that_should_be_there_is_missing_by_name(scored: dict[str, Any]) -> None:
    """Only those without a waveform are missing."""
    assert scored["n_recordings"] == 4 and scored["n_missing"] == 1
    assert scored["missing_reasons"] == {"set.s9": "failed before it could be predicted"}


def test_the_interval_error_is_a_mean_of_magnitudes(scored: dict[str, Any]) -> None:
    """ibi_mae_4hz has a mean and a spread, and says why it has nothing else."""
    cell = scored["rows"][0]["ibi_mae_4hz"]
    values = [line["ibi_mae_4hz"] for line in scored["per_recording"] if line["method"] == "good"]
    assert cell["mae"] == pytest.approx(np.mean(values)) and 0 < cell["mae"] < 20
    assert cell["me"] is None and cell["pearson_r"] is None and "no sign" in cell["reason"]


def test_a_perfect_prediction_has_no_error() -> None:
    """The label as its own prediction is right in everything."""
    waves = [at_30(seed) for seed in range(3)]
    row = vital_signs([recording(i, w, {"net": w.pulse}) for i, w in enumerate(waves)])["rows"][0]
    for name in QUANTITIES:
        assert row[name]["mae"] == pytest.approx(0.0, abs=1e-9)
    assert row["sdnn_ms"]["pearson_r"] == pytest.approx(1.0)


@pytest.mark.parametrize(("duration_s", "warned"), [(59.0, True), (61.0, False)])
def test_less_than_a_minute_is_warned_of(duration_s: float, warned: bool) -> None:
    """Below 60 s the result says that LF cannot be resolved."""
    wave = at_30(1, duration_s=duration_s)
    warnings = vital_signs([recording(0, wave, {"net": wave.pulse})])["warnings"]
    assert any("LF (0.04-0.15 Hz) cannot be resolved" in text for text in warnings) == warned


def test_many_dropped_intervals_are_warned_of() -> None:
    """A method whose beats had to be cleaned is named, as its variability flatters it."""
    wave = at_30(1, noise=0.8)
    warnings = vital_signs([recording(0, at_30(1), {"net": wave.pulse})])["warnings"]
    assert any(text.startswith("net: ") and "dropped as outliers" in text for text in warnings)


def test_respiration_is_compared_with_the_sensor_where_there_is_one() -> None:
    """The sensor's rate is the reference; mains hum at 500 samples a second does not fold into the band."""
    wave = at_30(1, depth=0.1)
    time_s = np.arange(0, 60, 1 / 500)
    sensor = np.sin(2 * np.pi * 0.4 * time_s) + 3 * np.sin(2 * np.pi * 60.2 * time_s)
    found = vital_signs([recording(0, wave, {"net": wave.pulse}, resp=sensor, resp_time_s=time_s),
                         recording(1, wave, {"net": wave.pulse})])
    truth = [line["resp_bpm"] for line in found["per_recording"] if line["method"] == "reference"]
    assert truth[0] == pytest.approx(24.0, abs=0.2)
    assert truth[1] == pytest.approx(60 * wave.rhythm.respiration_hz, abs=0.5)
    assert found["references"]["resp_bpm"] == {"label": 1, "sensor": 1}


def test_a_sensor_that_stops_gives_no_reference() -> None:
    """A belt over half of the recording is not compared with, and the reason says so."""
    wave = at_30(1)
    time_s = np.arange(0, 30, 1 / 50)
    line = vital_signs([recording(0, wave, {"net": wave.pulse}, resp=np.sin(time_s), resp_time_s=time_s)]
                       )["per_recording"][0]
    assert line["resp_bpm"] is None and "covers 50 % of the recording" in line["reasons"]["resp_bpm"]


def test_a_label_with_holes_is_no_reference_and_short_ones_are_bridged() -> None:
    """Two per cent of unknown samples are interpolated; with a tenth the recording is missing, with why."""
    wave = at_30(1)
    label = wave.pulse.copy()
    label[300:320] = np.nan
    found = vital_signs([recording(0, wave, {"net": wave.pulse}, label=label)])
    assert found["n_missing"] == 0
    label[300:500] = np.nan
    assert vital_signs([recording(0, wave, {"net": wave.pulse}, label=label)])["missing_reasons"] == {
        "set.s0": "11 % of the label are unknown"}


def test_every_part_has_its_own_vital_signs() -> None:
    """They are attached to the main part and to the others; a part without any reference has none."""
    wave = at_30(1)
    blind = np.full(len(wave.pulse), np.nan)
    made = by_part([
        recording(0, wave, {"net": wave.pulse}), recording(1, wave, {"net": wave.pulse}, part="hard"),
        recording(2, wave, {"net": wave.pulse}, part="control", label=blind),
    ], missing={"hard": ["set.s7", "set.s1"]})
    metrics: dict[str, Any] = {"parts": {"hard": {}, "control": {}}}
    attach(metrics, made)
    assert metrics["vital_signs"]["n_recordings"] == 1
    assert list(metrics["parts"]["hard"]["vital_signs"]["missing_reasons"]) == ["set.s7"]
    assert metrics["parts"]["control"] == {}


def test_agreement_of_five_pairs_by_hand() -> None:
    """Errors 1, -1, 2, 0, 3: ME 1, SD sqrt 2, RMSE sqrt 3, MAE 1.4."""
    found = agreement([11.0, 19.0, 32.0, 40.0, 53.0], [10.0, 20.0, 30.0, 40.0, 50.0])
    assert found["me"] == 1.0 and found["mae"] == pytest.approx(1.4)
    assert found["sd"] == pytest.approx(2**0.5) and found["rmse"] == pytest.approx(3**0.5)
    assert found["pearson_r"] == pytest.approx(1050 / 1110000**0.5)
    assert agreement([1.0, 2.0, 3.0], [5.0, 5.0, 5.0])["pearson_r"] is None
    assert agreement([], [])["mae"] is None


def test_an_unknown_preset_names_the_known_ones() -> None:
    """The message has a suggestion."""
    with pytest.raises(UserError, match=r"contrastfys.*did you mean.*contrastphys.*known"):
        vital_presets.get("contrastfys")


@pytest.mark.slow
def test_42_recordings_of_a_minute_and_four_methods_take_two_seconds() -> None:
    """Vital signs are as quick as they must be to be computed with every evaluation."""
    import time

    waves = [at_30(seed, 0.05) for seed in range(42)]
    recordings = [recording(i, w, {f"m{k}": w.pulse for k in range(4)}) for i, w in enumerate(waves)]
    start = time.process_time()
    vital_signs(recordings)
    assert time.process_time() - start < 4.0  # twice of what a core needs
