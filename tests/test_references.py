"""References that are known only in part, of some clips, for some frames, or of too short a waveform."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from evaluation import protocols
from evaluation.aggregate import results
from evaluation.references import device_rates
from evaluation.table import part_table
from evaluation.waveforms import RecordingWaveform, read_waveforms, write_waveforms
from tests.run_folders import row, run_folder

FPS = 25.0
NOTHING = np.full(1500, np.nan)
DEVICE = protocols.get("own", {"own": {"base": "default", "changes": {"ground_truth": "device"}}})


def beat(rate_bpm: float | np.ndarray, seconds: float = 60.0) -> np.ndarray:
    """A sinusoid of that rate, or of a rate per frame."""
    n = int(seconds * FPS)
    return np.sin(2 * np.pi * np.cumsum(np.broadcast_to(rate_bpm, n)) / 60 / FPS).astype(np.float32)


def wave(label: np.ndarray, key: str = "any.r", subject: str = "s", **fields: object) -> RecordingWaveform:
    """A recording whose method "net" errs by 5 bpm from 60."""
    given = {"predictions": {"net": beat(65.0, len(label) / FPS)}, **fields}
    time_s = np.arange(len(label)) / FPS
    return RecordingWaveform(key, subject, key.partition(".")[0], FPS, time_s, label, **given)  # type: ignore[arg-type]


def meter(rates: np.ndarray | list[float], times: np.ndarray | list[float]) -> dict[str, np.ndarray]:
    return {"hr_bpm": np.asarray(rates, dtype=np.float32), "hr_time_s": np.asarray(times, dtype=np.float64)}


# Devices that are silent for a while


@pytest.mark.parametrize(("known_s", "scored"), [(1, False), (6, False), (55, False), (58, True), (60, True)])
def test_a_device_has_to_be_known_as_long_as_a_label(known_s: int, scored: bool) -> None:
    """A rate a second for less than 95 % of a recording is no reference of it: the recording is missing."""
    found = protocols.score([wave(NOTHING, **meter(np.full(known_s, 60.0), np.arange(known_s)))], bootstrap=0)
    assert found["rows"][0]["n"] == int(scored) and found["test"]["n_missing"] == int(not scored)
    if scored:
        assert found["rows"][0]["mae_bpm"] == pytest.approx(5.0, abs=0.05)
    else:
        assert "the device's rate is unknown" in found["test"]["missing_reasons"]["any.r"]


def test_windows_in_which_the_device_fell_silent_are_not_scored() -> None:
    """One sample at a window's end, or the half of its seconds, does not stand for ten seconds."""
    times = np.r_[np.arange(10, 16), np.arange(29, 60)]
    found = protocols.score([wave(NOTHING, **meter(np.full(len(times), 60.0), times))], DEVICE,
                            window_s=10.0, bootstrap=0)
    assert [line["start_s"] for line in found["windows"]] == [30.0, 40.0, 50.0]
    assert found["test"]["n_unlabelled_windows"] == 3


def test_what_is_known_of_a_device_is_what_lies_within_a_step_of_its_samples() -> None:
    """Gaps, doubled stamps, disorder: as a fine grid says, a span is known to 95 % or has no rate."""
    rng, spans = np.random.default_rng(4), np.arange(0.0, 50.0, 2.5)[:, None] + [0.0, 8.0]
    decided = []
    for _ in range(12):
        times = (np.arange(120) / 2 + rng.uniform(0, 0.2, 120))[rng.random(120) < 0.7].repeat(3)
        step = np.median(np.diff(np.unique(times)))
        fields = meter(np.full(len(times), 60.0), times[rng.permutation(len(times))])
        found = device_rates(wave(NOTHING, **fields), spans, whole=False)
        for (start, stop), rate in zip(spans, found, strict=True):
            grid = np.linspace(start, stop, 1001)
            share = (np.abs(grid[:, None] - np.unique(times)).min(axis=1) <= step).mean()
            if abs(share - 0.95) > 0.005:
                assert np.isfinite(rate) == (share > 0.95)
                decided.append(bool(np.isfinite(rate)))
    assert 20 < sum(decided) < len(decided) - 20


def test_the_label_serves_where_the_device_is_hardly_known() -> None:
    """Under device_or_label six seconds of a device are none: the label is the recording's reference."""
    one = wave(beat(60.0), **meter(np.full(6, 100.0), np.arange(6)))
    found = protocols.score([one], "physformer", bootstrap=0)
    assert found["test"]["references"] == {"label": 1, "device": 0}
    assert found["rows"][0]["mae_bpm"] == pytest.approx(5.0, abs=0.5)


# Heart-rate heads


def head(times: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rates of clips that are those of the second at their middles."""
    return np.interp(times, np.arange(len(truth)), truth), times


def test_a_heads_clips_without_a_reference_do_not_count() -> None:
    """A head that is right in every clip errs by nothing, though the device fell silent after 20 of 60 s."""
    truth = np.r_[np.full(10, 60.0), np.full(50, 110.0)]
    rates = {"head": head(np.arange(5, 55, 0.5), truth)}
    one = wave(NOTHING, rates=rates, **meter(truth[:20], np.arange(20)))
    found = protocols.score([one], "stmap", bootstrap=0)
    line = next(line for line in found["rows"] if line["method"] == "head")
    assert line["n"] == 1 and line["mae_bpm"] == pytest.approx(0.0, abs=1e-4)


def test_every_head_is_compared_at_its_own_clips() -> None:
    """Two heads with clips at other times are both right; the constant stands beside the first."""
    truth = 60.0 + np.arange(60)
    rates = {"early": head(np.arange(2.0, 20), truth), "late": head(np.arange(40.0, 58), truth)}
    one = wave(NOTHING, predictions={}, rates=rates, **meter(truth, np.arange(60)))
    found = protocols.score([one], "stmap", bootstrap=0, constant_bpm=60.0)
    lines = {line["method"]: line for line in found["rows"]}
    assert lines["early"]["max_bpm"] == lines["late"]["max_bpm"] == pytest.approx(0.0, abs=1e-4)
    assert lines["constant"]["me_bpm"] == pytest.approx(-10.5)
    references = {line["method"]: line["reference_bpm"] for line in found["windows"]}
    assert (references["early"], references["late"]) == (pytest.approx(70.5), pytest.approx(108.5))
    assert [pair["against"] for pair in found["paired"]] == ["late", "constant"]
    assert found["paired"][0]["mae_bpm"] == pytest.approx(0.0, abs=1e-4)


def test_a_head_without_a_clip_of_known_reference_fails_alone() -> None:
    """Where the device spoke at the clips of one head only, the other failed there, with that reason."""
    truth = np.full(20, 60.0)
    rates = {"late": head(np.arange(40.0, 58), truth), "early": head(np.arange(2.0, 18), truth)}
    found = protocols.score([wave(NOTHING, rates=rates, **meter(truth, np.arange(20)))], "stmap", bootstrap=0)
    lines = {line["method"]: line for line in found["rows"]}
    assert lines["early"]["n"] == 1 and lines["late"]["n"] == 0
    assert "the device is unknown at the middle of every clip" in lines["late"]["failed"][0]


def test_a_head_is_compared_with_a_label_where_there_is_one() -> None:
    """A label of the first 20 of 60 s: only the clips in it count."""
    label = beat(60.0)
    label[500:] = np.nan
    rates = {"head": head(np.arange(5.0, 55), np.r_[np.full(21, 60.0), np.full(39, 110.0)])}
    found = protocols.score([wave(label, rates=rates)], "stmap", bootstrap=0)
    assert found["test"]["references"] == {"label": 1, "device": 0}
    line = next(line for line in found["rows"] if line["method"] == "head")
    assert line["mae_bpm"] == pytest.approx(0.0, abs=0.1)


# Frames


def test_frames_without_a_label_are_not_their_neighbours() -> None:
    """20 of 60 s without a label are 500 frames less, not 500 more of the window before them."""
    label, rates = beat(60.0), np.full(1500, 60.0)
    label[500:1000], rates[250:500] = np.nan, 180.0
    found = protocols.score([wave(label, predictions={"net": beat(rates)})], "v4v", bootstrap=0)
    assert (found["rows"][0]["n"], found["test"]["n_unlabelled_windows"]) == (1000, 500)
    assert [line["n_units"] for line in found["windows"]] == [250] * 4
    assert found["rows"][0]["mae_bpm"] == pytest.approx(120 / 4, abs=0.1)


def test_frames_before_and_after_the_label_are_counted() -> None:
    """The last rate is held to the end of the label, not of the video; every other frame is told of."""
    label = beat(60.0)
    label[:100], label[900:] = np.nan, np.nan
    header = protocols.score([wave(label)], "v4v", bootstrap=0)["test"]
    assert (header["n_windows"], header["n_unlabelled_windows"]) == (800, 700)


# Too little for a spectrum


@pytest.mark.parametrize("preset", ["default", "gideon", "lfa_rea", "iphys"])
def test_less_than_three_seconds_have_no_rate(preset: str) -> None:
    """Where in a beat so short a waveform begins decides on the highest bin: missing, with both lengths."""
    short, long = (protocols.score([wave(beat(75.0, s))], preset, bootstrap=0) for s in (2.8, 3.0))
    assert short["rows"][0]["mae_bpm"] is None and long["rows"][0]["n"] == 1
    assert "frames (2.8 s) are less than 3.0 s" in short["test"]["missing_reasons"]["any.r"]


def test_windows_that_are_too_short_have_no_rate_either() -> None:
    """evaluation.window_s = 2 leaves nothing to score; a band that begins below 20 bpm asks for a beat."""
    header = protocols.score([wave(beat(75.0))], window_s=2.0, bootstrap=0)["test"]
    assert "50 frames (2.0 s) are less than 3.0 s" in header["missing_reasons"]["any.r"]
    low = {"base": "default", "changes": {"peak_low_hz": 0.2}}
    header = protocols.score([wave(beat(75.0, 4.0))], protocols.get("low", {"low": low}), bootstrap=0)["test"]
    assert "are less than 5.0 s, too few for a rate of 12 bpm" in header["missing_reasons"]["any.r"]


@pytest.mark.parametrize("preset", ["toolbox", "toolbox2023"])
def test_a_tool_that_scores_short_tails_is_reproduced(preset: str) -> None:
    """rPPG-Toolbox scores whatever has nine samples."""
    assert protocols.score([wave(beat(75.0, 1.0))], preset, bootstrap=0)["rows"][0]["n"] == 1


# People whom datasets share


def shared(people: str) -> list[RecordingWaveform]:
    """Four people in each of two datasets."""
    return [wave(beat(60.0, 20.0), f"{dataset}.F{i}_T1", f"F{i}", people=people)
            for dataset in ("v4v", "bp4d") for i in range(4)]


def test_people_in_two_datasets_are_drawn_once(tmp_path: Path) -> None:
    """Four people of V4V and BP4D+ are four, also from a file and in windows.csv; else they are eight."""
    write_waveforms(tmp_path / "w.h5", shared("bp4d"))
    found = protocols.score(tmp_path / "w.h5", bootstrap=50)
    assert found["test"]["n_subjects"] == 4 and found["rows"][0]["ci95"] is None
    assert {line["subject"] for line in found["windows"]} == {f"bp4d.F{i}" for i in range(4)}
    apart = protocols.score(shared(""), bootstrap=50)
    assert apart["test"]["n_subjects"] == 8 and apart["rows"][0]["ci95"] is not None


def test_files_that_do_not_speak_of_shared_people_are_read(tmp_path: Path) -> None:
    """Without the attribute a subject is the dataset's own, and nothing is written for it."""
    write_waveforms(tmp_path / "w.h5", shared(""))
    with h5py.File(tmp_path / "w.h5") as handle:
        assert all("people" not in place.attrs for place in handle.values())
    assert {one.person for one in read_waveforms(tmp_path / "w.h5")[0]} >= {"v4v.F0", "bp4d.F0"}


def test_a_file_without_any_prediction_has_no_rows() -> None:
    """Labels alone are counted, in one window or several, and nothing is made of them."""
    one = wave(beat(60.0), predictions={})
    for window_s, n in ((None, 1), (10.0, 6)):
        found = protocols.score([one], window_s=window_s, bootstrap=0)
        assert found["rows"] == found["windows"] == [] and found["test"]["n_windows"] == n


# References that deserve a look


def test_references_at_the_ends_of_the_band_and_apart_are_counted(tmp_path: Path) -> None:
    """A device below 42 bpm, a label at 240, and label and device 40 bpm apart are told under both tables."""
    low, high = (meter(np.full(60, rate), np.arange(60)) for rate in (38.0, 100.0))
    waves = [wave(NOTHING, "any.r0", **low), wave(beat(240.0), "any.r1"), wave(beat(60.0), "any.r2", **high),
             wave(beat(60.0), "any.r3")]
    found = protocols.score(waves, bootstrap=0)
    assert (found["test"]["n_edge_references"], found["test"]["n_apart_references"]) == (2, 1)
    told = ["2 units with a reference at an end of the band that is searched, or beyond it",
            "1 unit with more than 5 bpm between the label's rate and the device's"]
    assert set(told) <= set(part_table("test", found, found["protocol"]).notes)
    counts = {name: found["test"][name] for name in ("n_edge_references", "n_apart_references")}
    folder = run_folder(tmp_path / "run", [row("physnet", 3, mae_bpm=1.0)], ["a", "b", "c"])
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["test"] |= counts
    (folder / "metrics.json").write_text(json.dumps(metrics))
    assert {f"run: {text}" for text in told} <= set(results([folder])[0].notes)
    quiet = protocols.score(waves[3:], bootstrap=0)
    assert not any("with" in note for note in part_table("test", quiet, quiet["protocol"]).notes)
