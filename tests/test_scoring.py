"""What counts as a unit, what it is compared with, and what is made of the units of a part."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evaluation import protocols
from evaluation.infer import infer
from evaluation.metrics import SIGNAL_METRICS
from evaluation.presets import PRESETS
from evaluation.waveforms import RecordingWaveform, read_waveforms, write_waveforms
from utils.errors import UserError

FPS = 30.0


def sine(rate_bpm: float, seconds: float = 20.0) -> np.ndarray:
    """A sinusoid of that rate at 30 frames a second."""
    return np.sin(2 * np.pi * rate_bpm / 60 * np.arange(int(seconds * FPS)) / FPS)


def recording(
    index: int, truth_bpm: float = 72.0, seconds: float = 20.0, fields: dict | None = None, **predicted: float
) -> RecordingWaveform:
    """Sinusoids: the label at `truth_bpm`, each method at its own rate."""
    time_s = np.arange(int(seconds * FPS)) / FPS + 5.0
    waves = {name: sine(rate, seconds) for name, rate in predicted.items()}
    label = sine(truth_bpm, seconds)
    return RecordingWaveform(f"any.r{index}", f"s{index}", "any", FPS, time_s, label, waves, **(fields or {}))


def device(rates: list[float] | np.ndarray, step_s: float = 1.0, first_s: float = 5.0) -> dict:
    """Fields of a device that told these rates, `step_s` apart."""
    return {"hr_bpm": np.array(rates), "hr_time_s": first_s + step_s * np.arange(len(rates))}


def rows_of(metrics: dict, method: str) -> list[dict]:
    return [row for row in metrics["windows"] if row["method"] == method]


# Reference rates


def test_device_windows_are_compared_with_their_own_seconds() -> None:
    """Each window is compared with the mean of the device's rates inside it, not with the recording's."""
    one = recording(0, net=75.0, fields=device([70.0] * 10 + [80.0] * 10))
    own = protocols.get("own", {"own": {"base": "default", "changes": {"ground_truth": "device"}}})
    found = protocols.score([one], own, window_s=10.0)
    assert [row["reference_bpm"] for row in rows_of(found, "net")] == [70.0, 80.0]
    assert found["test"]["references"] == {"label": 0, "device": 2}
    assert found["rows"][0]["mae_bpm"] == pytest.approx(5.0, abs=0.05)


def test_a_mean_device_rate_is_no_reference_for_windows() -> None:
    """A recording of which only the mean rate is known is missing where windows are the unit."""
    one = recording(0, net=75.0, fields={"reference_hr_bpm": 70.0})
    one.label[:] = np.nan
    whole, cut = protocols.score([one]), protocols.score([one], window_s=10.0)
    assert whole["rows"][0]["mae_bpm"] == pytest.approx(5.0, abs=0.05)
    assert "only the device's mean rate" in cut["test"]["missing_reasons"]["any.r0"]


def test_windows_fall_back_to_the_label_where_the_device_has_a_mean_only() -> None:
    """Under device_or_label a mean device rate serves the whole recording; frames take the label's rates."""
    one = recording(0, 72.0, net=75.0, fields={"reference_hr_bpm": 70.0})
    assert protocols.score([one], "physformer")["test"]["references"] == {"label": 0, "device": 1}
    frames = protocols.score([one], "v4v")
    assert frames["test"]["references"] == {"label": 600, "device": 0}
    assert frames["rows"][0]["mae_bpm"] == pytest.approx(3.0, abs=0.05)


def test_both_references_are_told() -> None:
    """windows.csv holds the rate of the label and of the device, whichever the protocol compared with."""
    one = recording(0, 72.0, net=75.0, fields=device([70.0] * 20))
    for kind, reference in (("label", 72.0), ("device", 70.0)):
        own = protocols.get("own", {"own": {"base": "default", "changes": {"ground_truth": kind}}})
        (row,) = protocols.score([one], own)["windows"]
        assert row["label_bpm"] == pytest.approx(72.0, abs=0.05) and row["device_bpm"] == 70.0
        assert row["reference"] == kind and row["reference_bpm"] == pytest.approx(reference, abs=0.05)


def test_snr_is_about_the_reference_that_was_used() -> None:
    """A waveform at the label's rate has its power where the label says, and none where the device says."""
    one = recording(0, 72.0, net=72.0, fields=device([100.0] * 21))
    snr_db = {}
    for kind in ("label", "device"):
        own = protocols.get("own", {"own": {"base": "default", "changes": {"ground_truth": kind}}})
        snr_db[kind] = protocols.score([one], own)["rows"][0]["snr_db"]
    assert snr_db["label"] > 20 and snr_db["device"] < -20


def test_device_or_label_takes_the_device_first() -> None:
    """Under device_or_label a recording without a device rate is compared with its label."""
    metrics = protocols.score([recording(0, net=75.0, fields=device([70.0] * 20)), recording(1, net=75.0)],
                              "physformer")
    assert metrics["test"]["references"] == {"label": 1, "device": 1}


def test_windows_without_a_device_rate_are_not_scored() -> None:
    """Where the device said nothing in a window, the window is no unit and is counted."""
    one = recording(0, net=75.0, fields=device([70.0] * 10))
    own = protocols.get("own", {"own": {"base": "default", "changes": {"ground_truth": "device"}}})
    header = protocols.score([one], own, window_s=5.0)["test"]
    assert (header["n_windows"], header["n_unlabelled_windows"]) == (2, 2)


# Units


def test_rates_are_held_to_frames() -> None:
    """v4v counts frames, each against the device's rate at its time; the tail holds the last rate."""
    one = recording(0, net=75.0, seconds=25.0, fields=device(70.0 + np.arange(26.0)))
    found = protocols.score([one], "v4v")
    truth = 70.0 + np.arange(750) / FPS
    assert found["rows"][0]["n"] == found["test"]["n_windows"] == 750
    assert found["rows"][0]["mae_bpm"] == pytest.approx(np.abs(75.0 - truth).mean(), abs=0.05)
    assert [row["n_units"] for row in rows_of(found, "net")] == [300, 450]


def test_frames_without_a_device_rate_are_counted() -> None:
    """Frames after the device's last sample are no units, and the header says how many there were."""
    header = protocols.score([recording(0, net=75.0, fields=device([70.0] * 11))], "v4v")["test"]
    assert (header["n_windows"], header["n_unlabelled_windows"]) == (316, 284)


def test_frames_in_a_pause_of_the_device_are_no_units() -> None:
    """Between two samples 11 s apart nobody knows the rate: no straight line is drawn through it."""
    fields = {name: series[np.r_[0:6, 16:21]] for name, series in device([70.0] * 21).items()}
    header = protocols.score([recording(0, net=75.0, fields=fields)], "v4v")["test"]
    assert header["n_unlabelled_windows"] == 11 * 30 - 1


def test_a_device_that_speaks_rarely_still_serves_every_frame() -> None:
    """A window without a sample of its own keeps its prediction: frames between samples have a rate."""
    one = recording(0, net=75.0, seconds=30.0, fields=device([70.0, 70.0, 70.0], step_s=15.0))
    found = protocols.score([one], "v4v")
    assert [row["n_units"] for row in rows_of(found, "net")] == [300, 300, 300]


def test_held_label_rates_stand_for_their_frames() -> None:
    """Without a device the label's rate of a window is held like the prediction's."""
    found = protocols.score([recording(0, 72.0, net=75.0, seconds=12.0)], "v4v")
    assert found["rows"][0]["n"] == 360 and found["rows"][0]["mae_bpm"] == pytest.approx(3.0, abs=0.05)


def test_the_mean_of_a_recording_is_one_unit() -> None:
    """With unit = recording, the windows' rates are averaged before they are compared."""
    one = recording(0, 72.0, net=72.0)
    one.predictions = {"net": np.r_[sine(66.0, 10.0), sine(78.0, 10.0)].astype(np.float32)}
    own = protocols.get("own", {"own": {"base": "default", "changes": {"unit": "recording"}}})
    found = protocols.score([one], own, window_s=10.0)
    assert found["rows"][0]["n"] == 1 and found["rows"][0]["mae_bpm"] == pytest.approx(0.0, abs=0.1)
    assert protocols.score([one], window_s=10.0)["rows"][0]["mae_bpm"] == pytest.approx(6.0, abs=0.1)


def test_the_largest_error_is_that_of_any_window() -> None:
    """max_bpm is the largest error over all windows of all recordings, and has no interval."""
    one = recording(0, 72.0, net=72.0)
    one.predictions = {"net": np.r_[sine(66.0, 10.0), sine(82.0, 10.0)].astype(np.float32)}
    others = [recording(i, 72.0, net=74.0) for i in range(1, 9)]
    row = protocols.score([one, *others], window_s=10.0)["rows"][0]
    assert row["max_bpm"] == pytest.approx(10.0, abs=0.1) and row["ci95"]["max_bpm"] is None


def test_a_mean_with_a_failed_window_has_failed() -> None:
    """A method that is constant in one of two windows has no mean rate, and says in which share it failed."""
    one = recording(0, 72.0, net=72.0)
    one.predictions = {"net": np.r_[sine(72.0, 10.0), np.zeros(300)].astype(np.float32)}
    own = protocols.get("own", {"own": {"base": "default", "changes": {"unit": "recording"}}})
    row = protocols.score([one], own, window_s=10.0)["rows"][0]
    assert (row["n"], row["n_failed"]) == (0, 1) and "in 1 of 2 windows" in row["failed"][0]


def test_segments_shorter_than_a_beat_have_no_rate() -> None:
    """Twelve segments of six seconds hold no beat of 42 bpm: missing with that reason, not an agreement."""
    header = protocols.score([recording(0, net=75.0, seconds=6.0)], "bob")["test"]
    assert "segments of 0.9 s" in header["missing_reasons"]["any.r0"]
    assert protocols.score([recording(0, net=72.0, seconds=12.0)], "bob")["rows"][0]["n"] == 1


# Heart-rate heads


def test_stmap_scores_the_mean_of_a_heads_rates() -> None:
    """The mean over clips is compared with the device's mean at those clips; a waveform is not looked at."""
    rates = {"head": (np.array([70.0, 74.0]), np.array([10.0, 20.0]))}
    one = recording(0, wave=90.0, fields={**device([60.0] * 10 + [80.0] * 11), "rates": rates})
    metrics = protocols.score([one], "stmap")
    rows = {row["method"]: row for row in metrics["rows"]}
    assert rows["head"]["me_bpm"] == pytest.approx(72.0 - 70.0, abs=0.1)
    assert rows["wave"]["mae_bpm"] is None and "heart-rate head" in rows["wave"]["reasons"]["mae_bpm"]
    assert "heart-rate head" in rows["wave"]["failed"][0]


def test_rates_of_a_head_are_read_by_every_protocol() -> None:
    """Rates without a waveform are scored as rates under each preset; what needs a waveform is null."""
    rates = {"head": (np.array([75.0, 75.0]), np.array([5.0, 35.0]))}
    one = recording(0, seconds=40.0, net=72.0, fields={**device([72.0] * 40), "rates": rates})
    for name in PRESETS:
        row = next(row for row in protocols.score([one], name)["rows"] if row["method"] == "head")
        assert row["n"] > 0 and row["me_bpm"] == pytest.approx(3.0, abs=3.6), name  # bins of up to 3.5 bpm
        assert all(row[metric] is None for metric in SIGNAL_METRICS), name
        assert "waveform" in row["reasons"]["snr_db"]


def test_a_clip_without_a_rate_fails_the_recording() -> None:
    """NaN among a head's rates is a failure, not a mean over the rest."""
    rates = {"head": (np.array([70.0, np.nan]), np.array([10.0, 15.0]))}
    row = protocols.score([recording(0, fields={**device([70.0] * 20), "rates": rates})], "stmap")["rows"][0]
    assert row["n"] == 0 and "1 of 2 clips have no rate" in row["failed"][0]


def test_a_window_of_the_settings_does_not_reach_a_head() -> None:
    """evaluation.window_s leaves stmap alone, whose windows are the net's clips."""
    rates = {"head": (np.array([70.0]), np.array([10.0]))}
    one = recording(0, fields={**device([70.0] * 20), "rates": rates})
    assert protocols.score([one], "stmap", window_s=10.0)["protocol"]["window_s"] is None


def test_nest_adds_a_hundredth_where_it_divides() -> None:
    """stmap's MER divides by the reference plus 0.01, and its deviation is that of a sample."""
    def one(index: int, rate: float) -> RecordingWaveform:
        return recording(index, fields={**device([70.0] * 21), "rates": {"h": ([rate], [10.0])}})

    row = protocols.score([one(0, 75.0), one(1, 66.0)], "stmap")["rows"][0]
    assert row["mape_percent"] == pytest.approx(100 * (5 + 4) / 2 / 70.01, rel=1e-6)
    assert row["sd_bpm"] == pytest.approx(np.std([5.0, -4.0], ddof=1), rel=1e-6)


def test_a_failed_method_has_no_signal_metrics() -> None:
    """Where a method failed, windows.csv holds no SNR of it, not even the 0 of a rule for silence."""
    one = recording(0, net=72.0, flat=72.0)
    one.predictions = {**one.predictions, "flat": np.zeros(600, np.float32)}
    (flat,) = rows_of(protocols.score([one], "toolbox"), "flat")
    assert flat["failed"] and flat["snr_db"] is flat["macc"] is flat["ipr"] is None


def test_a_label_without_a_pulse_is_not_correlated_with() -> None:
    """A label that is a straight line gives no MACC and no lag, while the device's rate still counts."""
    one = recording(0, net=72.0, fields=device([72.0] * 21))
    one.label = np.linspace(0, 1, 600).astype(np.float32)
    own = protocols.get("own", {"own": {"base": "default", "changes": {"ground_truth": "device"}}})
    row = protocols.score([one], own)["rows"][0]
    assert row["n"] == 1 and row["snr_db"] is not None and row["ipr"] is not None
    assert row["macc"] is row["waveform_r"] is row["waveform_lag_s"] is None


# Pairs and conditions


def test_pairs_are_compared_on_the_same_units() -> None:
    """A unit that the other method failed in does not count for either side of a pair."""
    waves = [recording(i, 72.0, net=72.0 + i, pos=72.0 + 2 * i) for i in range(10)]
    waves[9].predictions = {**waves[9].predictions, "pos": np.zeros(600, np.float32)}
    (pair,) = protocols.score(waves)["paired"]
    assert (pair["method"], pair["against"], pair["n"], pair["n_subjects"]) == ("net", "pos", 9, 9)
    assert pair["mae_bpm"] == pytest.approx(-4.0, abs=0.1)
    low, high = pair["ci95"]["mae_bpm"]
    assert low < pair["mae_bpm"] < high < 0 and pair["share_better"]["mae_bpm"] == 1.0


def test_equal_methods_are_even() -> None:
    """A method against its own copy differs by nothing and is better in half of the draws."""
    waves = [recording(i, 72.0, net=72.0 + i, copy=72.0 + i) for i in range(8)]
    pair = protocols.score(waves, constant_bpm=72.0)["paired"][0]
    assert pair["mae_bpm"] == 0 and pair["ci95"]["rmse_bpm"] == [0, 0]
    assert pair["share_better"]["mae_bpm"] == 0.5


def test_pairs_of_few_subjects_have_no_interval() -> None:
    """Below eight subjects the difference is given, its interval is null with the reason."""
    waves = [recording(i, 72.0, net=72.0, pos=74.0) for i in range(7)]
    (pair,) = protocols.score(waves)["paired"]
    assert pair["mae_bpm"] == pytest.approx(-2.0, abs=0.1)
    assert pair["ci95"] is None and pair["share_better"] is None and "needs 8" in pair["reasons"]["ci95"]


def test_pairing_narrows_the_interval() -> None:
    """Where two methods share their errors, the interval of the difference is narrower than either's."""
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 8, 20)
    waves = [recording(i, 90.0, net=90 + e, pos=90 + e + np.sign(e) * 2) for i, e in enumerate(shared)]
    metrics = protocols.score(waves)
    low, high = metrics["paired"][0]["ci95"]["mae_bpm"]
    alone = metrics["rows"][0]["ci95"]["mae_bpm"]
    assert high - low < 0.5 * (alone[1] - alone[0]) and high < 0


def conditioned(index: int, light: str | None, off: float) -> RecordingWaveform:
    conditions = {} if light is None else {"light": light}
    return recording(index, 72.0, net=72.0 + off, fields={"conditions": conditions})


def test_conditions_have_rows_of_their_own() -> None:
    """Each value of a condition has counts and errors; what has no value is not stated, not lost."""
    waves = [conditioned(0, "dim", 4.0), conditioned(1, "dim", 2.0), conditioned(2, "bright", 1.0),
             conditioned(3, None, 0.0), conditioned(4, "dim", 0.0)]
    waves[4].label = np.full(600, np.nan, np.float32)
    found = protocols.score(waves)["conditions"]["light"]
    assert list(found) == ["bright", "dim", "not stated"]
    dim = found["dim"]
    assert (dim["n_subjects"], dim["n_recordings"], dim["n_missing"]) == (2, 2, 1)
    assert dim["rows"][0]["method"] == "net" and dim["rows"][0]["mae_bpm"] == pytest.approx(3.0, abs=0.05)
    assert dim["rows"][0]["n"] == 2 and dim["rows"][0]["ci95"] is None


def test_a_condition_with_one_value_has_no_table() -> None:
    """A condition that does not vary, or names every recording, makes no table."""
    waves = [recording(i, net=72.0, fields={"conditions": {"light": "dim", "id": str(i)}}) for i in range(51)]
    assert protocols.score(waves, bootstrap=0)["conditions"] == {}


def test_failures_are_counted_by_condition() -> None:
    """A method that failed under one light has a smaller n there, and none of the others."""
    waves = [conditioned(0, "dim", 4.0), conditioned(1, "dim", 2.0), conditioned(2, "bright", 1.0)]
    waves[1].predictions = {"net": np.zeros(600, np.float32)}
    found = protocols.score(waves)["conditions"]["light"]
    rows = [found[value]["rows"][0] for value in ("bright", "dim")]
    assert [(row["n"], row["n_failed"]) for row in rows] == [(1, 0), (1, 1)]


# Files


def series() -> dict:
    return {**device([70.0, 71.0, 72.0]), "resp": np.sin(np.arange(40.0)), "resp_time_s": np.arange(40.0) / 2,
            "rates": {"zeta": (np.array([70.0, 71.0]), np.array([10.0, 12.0])), "a": ([60.0], [4.0])}}


def test_optional_series_come_back_as_written(tmp_path: Path) -> None:
    """Device rates, respiration and rates of heads survive the file; a recording without them has none."""
    write_waveforms(tmp_path / "w.h5", [recording(0, net=72.0, fields=series()), recording(1, net=72.0)])
    (one, other), _ = read_waveforms(tmp_path / "w.h5")
    for name, value in series().items():
        if name != "rates":
            np.testing.assert_allclose(getattr(one, name), value, rtol=1e-6)
            assert getattr(other, name) is None
    assert list(one.rates) == ["zeta", "a"] and one.rates["zeta"][1].tolist() == [10.0, 12.0]
    assert not other.rates and not other.has_device_rate and one.methods == ["net", "zeta", "a"]


def replaced(name: str, value: object) -> Callable[[h5py.Group], None]:
    def change(group: h5py.Group) -> None:
        del group[name]
        group[name] = value

    return change


@pytest.mark.parametrize(("change", "words"), [
    (lambda g: g.__delitem__("hr_time_s"), "hr_time_s"),
    (lambda g: g.__delitem__("hr_bpm"), "hr_bpm"),
    (replaced("hr_bpm", np.zeros(3)), "no heart rates"),
    (replaced("hr_time_s", np.zeros(2)), "hr_bpm has shape (3,), but its times have (2,)"),
    (replaced("resp_time_s", np.full(40, np.nan)), "times of resp hold 40 values"),
    (lambda g: g.__delitem__("rate_time_s/a"), "rate_time_s/a"),
    (replaced("rate/a", np.zeros(2)), "rate/a has shape (2,)"),
])
def test_malformed_series_are_named(tmp_path: Path, change: Callable, words: str) -> None:
    """A series without its times, or of another length, is refused with file, recording and name."""
    write_waveforms(tmp_path / "w.h5", [recording(0, net=72.0, fields=series())])
    with h5py.File(tmp_path / "w.h5", "r+") as handle:
        change(handle["any.r0"])
    with pytest.raises(UserError) as caught:
        read_waveforms(tmp_path / "w.h5")
    assert words.rpartition("/")[2] in str(caught.value) and "any.r0" in str(caught.value)


def test_windows_csv_reads_back(tmp_path: Path) -> None:
    """Every row has every column; rates read back as written, and what does not exist is empty."""
    metrics = protocols.score([recording(0, net=75.0)], window_s=10.0, constant_bpm=70.0)
    protocols.write_windows(tmp_path / "windows.csv", metrics["windows"])
    with open(tmp_path / "windows.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["method"] for row in rows] == ["net", "constant"] * 2
    assert float(rows[0]["predicted_bpm"]) == pytest.approx(75.0, abs=0.1) and rows[0]["failed"] == ""
    assert rows[1]["snr_db"] == rows[1]["device_bpm"] == "" and rows[1]["n_units"] == "1"


def test_windows_are_left_out_on_request() -> None:
    """A caller that writes no windows.csv does not pay for its rows."""
    assert "windows" not in protocols.score([recording(0, net=72.0)], with_windows=False)


# Inference


class Clips:
    """A recording of 60 frames whose set has a meter and a respiration belt."""

    key, recording, subject, dataset, fps, n_frames = "any.r0", "r0", "s0", "any", FPS, 60
    reference_hr_bpm, conditions, people = 71.0, {}, "ours"
    time_s, label = torch.arange(60, dtype=torch.float64) / FPS, torch.sin(torch.arange(60) / 3.0)
    device_rate = torch.tensor([70.0, 72.0]), torch.tensor([0.0, 1.0], dtype=torch.float64)
    respiration = torch.zeros(8), torch.arange(8, dtype=torch.float64) / 4


class Head(nn.Module):
    """Gives a waveform, and rates of two clips."""

    def predict(self, clips: object, batch_size: int = 8) -> Tensor:
        return torch.sin(torch.arange(60) / 4.0)

    def predict_rates(self, clips: object, batch_size: int = 8) -> tuple[Tensor, Tensor]:
        assert not self.training and not torch.is_grad_enabled()
        return torch.tensor([70.0, 71.0]), torch.tensor([0.5, 1.5])


class Refusing(Head):
    def predict_rates(self, clips: object, batch_size: int = 8) -> tuple[Tensor, Tensor]:
        raise UserError("too short for a map")


def test_infer_keeps_what_the_meters_recorded() -> None:
    """What the meters recorded, a head's rates and who is seen reach the waveform; a refusal is no rate."""
    (one,) = infer({"head": Head(), "none": Refusing()}, [Clips()])  # type: ignore[list-item, dict-item]
    assert one.hr_bpm is not None and one.hr_bpm.tolist() == [70.0, 72.0]
    assert one.person == "ours.s0"
    assert one.resp is not None and len(one.resp) == len(one.resp_time_s) == 8  # type: ignore[arg-type]
    assert one.rates["head"][0].tolist() == [70.0, 71.0]
    assert [len(series) for series in one.rates["none"]] == [0, 0]


def test_a_head_that_refuses_every_recording_has_a_row_of_failures(tmp_path: Path) -> None:
    """Also after writing and reading back; without a row, validation would have nothing to judge."""

    class RatesOnly(Refusing):
        waveform_from_rates = True

    waves = infer({"none": RatesOnly()}, [Clips()])  # type: ignore[list-item, dict-item]
    write_waveforms(tmp_path / "w.h5", waves, {})
    for held in (waves, read_waveforms(tmp_path / "w.h5")[0]):
        rows = protocols.score(held, "toolbox", bootstrap=0)["rows"]
        (row,) = [row for row in rows if row["method"] == "none"]
        assert (row["n"], row["n_failed"]) == (0, 1)
