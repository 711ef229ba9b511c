"""Waveform files, protocols, failed and missing recordings, detection of a pulse, quality, inference."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evaluation import protocols, quality
from evaluation.detection import detect
from evaluation.infer import infer, validation_loss
from evaluation.waveforms import RecordingWaveform, read_waveforms, write_waveforms
from utils.contracts import ClipBatch
from utils.errors import UserError
from utils.settings import Protocol
from utils.signal import bandpass, sample_rate

FPS = 30.0


def pulse(seconds: float, rate_bpm: float, rng: np.random.Generator, snr_db: float = 40.0) -> np.ndarray:
    """A pulse with respiratory variability and a harmonic, in band-limited noise of the stated SNR."""
    time_s = np.arange(int(seconds * FPS)) / FPS
    rate_hz = rate_bpm / 60 * (1 + 0.02 * np.sin(2 * np.pi * 0.25 * time_s + rng.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(rate_hz) / FPS + rng.uniform(0, 6)
    clean = np.cos(phase) + 0.25 * np.cos(2 * phase + 1)
    noise = bandpass(rng.standard_normal(len(time_s) + 200), FPS, 0.7, 4.0)[100:-100]
    return clean / clean.std() * 10 ** (snr_db / 20) + noise / noise.std()


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


# Files


def test_waveforms_come_back_as_written(tmp_path: Path) -> None:
    """Arrays, attributes, conditions, parts and the order of methods survive the file."""
    wave = recording(1, conditions={"light": "dim"}, part="hard", reference_hr_bpm=65.5)
    wave.predictions = {"zeta": wave.label, "alpha": -wave.label}
    path = tmp_path / "waveforms.h5"
    about = {"constant_bpm": 71.5, "net": "zeta", "x": None}
    write_waveforms(path, [recording(10), wave, recording(2)], about)
    read, about = read_waveforms(path)
    assert [w.key for w in read] == ["any.r1", "any.r2", "any.r10"]
    assert about == {"constant_bpm": 71.5, "net": "zeta"}
    assert list(read[0].predictions) == ["zeta", "alpha"]
    assert (read[0].conditions, read[0].part, read[0].reference_hr_bpm) == ({"light": "dim"}, "hard", 65.5)
    np.testing.assert_array_equal(read[0].label, wave.label)
    np.testing.assert_array_equal(read[0].time_s, wave.time_s)


def test_equal_waveforms_give_equal_bytes(tmp_path: Path) -> None:
    """Writing the same content twice, in any order of recordings, gives the same file."""
    for name, order in (("a.h5", (0, 1, 2)), ("b.h5", (2, 0, 1))):
        write_waveforms(tmp_path / name, [recording(i) for i in order], {"net": "net"})
    digests = {hashlib.sha256((tmp_path / name).read_bytes()).digest() for name in ("a.h5", "b.h5")}
    assert len(digests) == 1


def minimal(path: Path, change: Callable[[h5py.Group], None] | None = None) -> Path:
    """A file with the contract's fields only, then changed."""
    with h5py.File(path, "w") as handle:
        group = handle.create_group("mine.r1")
        group.attrs.update(subject="s", dataset="mine", fps=FPS)
        group["time_s"] = np.arange(300) / FPS
        group["label"] = np.sin(np.arange(300) / 4).astype(np.float32)
        group["prediction/own"] = np.sin(np.arange(300) / 4).astype(np.float32)
        if change:
            change(group)
    return path


def test_minimal_file_is_scored(tmp_path: Path) -> None:
    """A file with nothing but the contract's fields is scored, whole and in windows."""
    path = minimal(tmp_path / "own.h5")
    assert protocols.score(path)["rows"][0]["mae_bpm"] == pytest.approx(0, abs=1e-6)
    assert protocols.score(path, "toolbox", window_s=4)["test"]["n_windows"] == 3


def replace(name: str, value: np.ndarray) -> Callable[[h5py.Group], None]:
    """A change that puts another array in the place of `name`."""

    def change(group: h5py.Group) -> None:
        del group[name]
        group[name] = value

    return change


@pytest.mark.parametrize(("change", "words"), [
    (lambda g: g.__delitem__("label"), ["label", "not in the file"]),
    (lambda g: g.__delitem__("time_s"), ["time_s", "not in the file"]),
    (lambda g: g.__delitem__("prediction"), ["prediction", "not in the file"]),
    (lambda g: g.attrs.__delitem__("subject"), ['"subject" is missing']),
    (replace("prediction/own", np.zeros(299, np.float32)), ["prediction/own has shape (299,)", "(300,)"]),
    (replace("label", np.zeros((300, 2), np.float32)), ["label has shape (300, 2)"]),
    (replace("time_s", np.r_[np.arange(299) / FPS, np.nan]), ["1 values that are not finite"]),
    (replace("time_s", np.r_[np.arange(200) / FPS, np.arange(100) / FPS]), ["backwards at sample 200"]),
    (replace("time_s", np.zeros(300)), ["positive duration"]),
    (lambda g: g.attrs.update(fps=25.0), ["fps says 25.000", "30.000"]),
    (lambda g: g.attrs.update(reference_hr_bpm=-3.0), ["reference_hr_bpm = -3.0"]),
])
def test_malformed_file_is_named(tmp_path: Path, change: Callable, words: list[str]) -> None:
    """Each malformed file is refused with the file, the recording and the fault in the message."""
    path = minimal(tmp_path / "own.h5", change)
    with pytest.raises(UserError) as caught:
        read_waveforms(path)
    for word in [str(path), "mine.r1", *words]:
        assert word in str(caught.value)


def test_links_out_of_the_file_are_not_followed(tmp_path: Path) -> None:
    """A label that is an external link to another file is refused."""
    minimal(tmp_path / "other.h5")

    def change(group: h5py.Group) -> None:
        del group["label"]
        group["label"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/mine.r1/label")

    with pytest.raises(UserError, match="external link"):
        read_waveforms(minimal(tmp_path / "own.h5", change))


def test_other_files_are_refused(tmp_path: Path) -> None:
    """A text file, an empty HDF5 file and a missing one are named, without a traceback."""
    (tmp_path / "text.h5").write_text("no HDF5")
    h5py.File(tmp_path / "empty.h5", "w").close()
    for name in ("text.h5", "empty.h5", "absent.h5"):
        with pytest.raises(UserError, match=name):
            read_waveforms(tmp_path / name)


# Protocols


def test_unknown_protocol_is_answered_with_the_close_one() -> None:
    """A misspelt protocol is refused with the name that was meant and those that exist."""
    with pytest.raises(UserError, match=r'did you mean "toolbox"\?.*known: default, toolbox, toolbox2023'):
        protocols.get("toolbx")


def test_own_protocol_changes_a_preset() -> None:
    """An own protocol has its changes, the rest of its base, and says so in metrics.json."""
    own = {"mine": Protocol(base="toolbox", changes={"filter_order": 3, "window_s": 5.0})}
    metrics = protocols.score([recording(1)], protocols.get("mine", own))
    described = metrics["protocol"]
    assert (described["name"], described["filter_order"], described["window_s"]) == ("mine", 3, 5.0)
    assert described["peak_high_hz"] == 3.3 and "toolbox" in described["description"]


def test_every_fault_of_an_own_protocol_is_named() -> None:
    """Unknown fields, wrong values and contradictions of an own protocol are named, fields with a hint."""
    own = {"mine": {"base": "default", "changes": {"filter_ordr": 3, "ddof": 2, "macc": "linear"}}}
    with pytest.raises(ValueError, match="mine") as caught:
        protocols.get("mine", own)
    for words in ('filter_ordr: unknown field; did you mean "filter_order"?', "ddof", "macc"):
        assert words in str(caught.value)
    with pytest.raises(UserError, match="peak_low_hz must be below peak_high_hz"):
        protocols.get("b", {"b": {"base": "default", "changes": {"peak_low_hz": 5.0}}})


def test_protocol_is_written_whole() -> None:
    """metrics.json names every field of the protocol, so that a number can be argued with."""
    described = protocols.score([recording(1)], "toolbox2023")["protocol"]
    assert set(protocols.Protocol.model_fields) <= set(described)


def test_metrics_are_json_and_repeatable() -> None:
    """The same waveforms give the same JSON text, intervals included, and no NaN in it."""
    waves = [recording(i, shift_bpm=i) for i in range(9)]
    texts = [json.dumps(protocols.score(waves, constant_bpm=80.0, seed=5), allow_nan=False) for _ in range(2)]
    assert texts[0] == texts[1]


# Failed, missing and unlabelled recordings


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


def test_uneven_frames_are_scored_by_their_times() -> None:
    """With half the frames of the second half dropped, the default protocol still finds the rate."""
    kept = np.r_[np.arange(300), np.arange(300, 600, 2)]
    whole = recording(3)
    time_s = whole.time_s[kept]
    fps = (len(kept) - 1) / (time_s[-1] - time_s[0])
    wave = recording(3, time_s=time_s, fps=fps, label=np.full(len(kept), np.nan), reference_hr_bpm=75.0,
                     predictions={"net": whole.label[kept]})
    assert protocols.score([wave])["rows"][0]["mae_bpm"] < 0.1


def test_doubled_recording_is_refused() -> None:
    """The same recording twice is an error: no number could say which one it is about."""
    with pytest.raises(UserError, match=r"twice: any\.r1"):
        protocols.score([recording(1), recording(0), recording(1)])


def test_intervals_need_eight_subjects() -> None:
    """Seven subjects have ci95 null and the reason; eight have intervals around the mean."""
    seven = protocols.score([recording(i, i) for i in range(7)])["rows"][0]
    assert seven["ci95"] is None and "needs 8" in seven["reasons"]["ci95"]
    eight = protocols.score([recording(i, i) for i in range(8)])["rows"][0]
    low, high = eight["ci95"]["mae_bpm"]
    assert low < eight["mae_bpm"] < high


def test_constant_row_is_the_mean_rate() -> None:
    """The constant row errs by the distance to the rate given and has no waveform metrics."""
    row = protocols.score([recording(0), recording(4)], constant_bpm=70.0)["rows"][-1]
    assert row["method"] == "constant" and row["mae_bpm"] == pytest.approx(10.0, abs=0.05)
    assert row["snr_db"] is None and "no waveform" in row["reasons"]["snr_db"]


@pytest.mark.parametrize("value", ["fast", -1.0, float("nan")])
def test_constant_that_is_no_rate_is_refused(tmp_path: Path, value: object) -> None:
    """A foreign file whose constant_bpm is no heart rate is refused with the value."""
    write_waveforms(tmp_path / "own.h5", [recording(0)], {"constant_bpm": value})
    with pytest.raises(UserError, match="constant_bpm"):
        protocols.score(tmp_path / "own.h5")


def test_parts_have_tables_of_their_own() -> None:
    """A further labelled part gets rows, one without labels gets detections; the main table has neither."""
    rng = np.random.default_rng(0)
    silent = {"net": rng.standard_normal(600)}
    waves = [recording(0), recording(1, 6.0, part="hard"),
             recording(2, part="still", label=np.full(600, np.nan), predictions=silent)]
    metrics = protocols.score(waves)
    assert metrics["test"]["n_recordings"] == 1 and metrics["rows"][0]["mae_bpm"] < 0.1
    assert metrics["parts"]["hard"]["rows"][0]["mae_bpm"] == pytest.approx(6.0, abs=0.1)
    (found,) = metrics["parts"]["still"]["rows"]
    assert (found["recording"], found["method"], found["found"]) == ("any.r2", "net", False)
    assert found["snr_db"] < found["surrogate_snr_db_95"] and found["p_value"] > 0.01


def test_device_rates_under_a_label_protocol_are_missing() -> None:
    """A part with device rates only, scored by a protocol that wants labels, is missing with that reason."""
    wave = recording(0, label=np.full(600, np.nan), reference_hr_bpm=60.0)
    metrics = protocols.score([wave], "toolbox")
    assert metrics["rows"][0]["mae_bpm"] is None
    assert "no label" in metrics["test"]["missing_reasons"]["any.r0"]


def test_coarse_bins_are_told() -> None:
    """The header says how wide the spectral bins are: 1.76 bpm for 20 s under the toolbox, 0.1 by default."""
    assert protocols.score([recording(0)], "toolbox")["test"]["bin_bpm"] == pytest.approx(30 * 60 / 1024)
    assert protocols.score([recording(0)])["test"]["bin_bpm"] < 0.1001


def test_unknown_part_is_refused() -> None:
    """Asking for a part that is not there names those that are."""
    with pytest.raises(UserError, match='"test".*hard'):
        protocols.score([recording(0, part="hard")])


def test_windows_csv_holds_every_unit(tmp_path: Path) -> None:
    """windows.csv has a line per window and method; what does not exist is an empty cell."""
    metrics = protocols.score([recording(0), recording(1)], window_s=5.0, constant_bpm=60.0)
    protocols.write_windows(tmp_path / "windows.csv", metrics["windows"])
    lines = (tmp_path / "windows.csv").read_text().splitlines()
    assert lines[0].startswith("part,recording,subject,method,start_s,stop_s,reference,reference_bpm")
    assert len(lines) == 1 + 2 * 4 * 2 and ",constant,0,5," in lines[2] and ",,,,,,," in lines[2]


# Is there a pulse


def noise(colour: str, rng: np.random.Generator, seconds: float = 15.0) -> np.ndarray:
    """Gaussian noise: white, pink, brown, or the band 0.7-3 Hz."""
    n = int(seconds * FPS)
    frequency = np.fft.rfftfreq(4 * n, 1 / FPS)
    if colour == "band":
        return bandpass(rng.standard_normal(n + 200), FPS, 0.7, 3.0)[100:-100]
    power = {"white": 0.0, "pink": 0.5, "brown": 1.0}[colour]
    draws = rng.standard_normal((2, len(frequency)))
    return np.fft.irfft((draws[0] + 1j * draws[1]) * np.maximum(frequency, 0.05) ** -power)[:n]


COLOURS = ("white", "pink", "brown", "band")


def found_in(waves: list[np.ndarray]) -> int:
    return sum(detect(wave, np.arange(len(wave)) / FPS, seed=i).found for i, wave in enumerate(waves))


def test_noise_is_rarely_taken_for_a_pulse() -> None:
    """Of 100 noises of 15 s and of four colours, 5 or fewer are called a pulse (2 % expected)."""
    rng = np.random.default_rng(1)
    assert found_in([noise(colour, rng) for colour in COLOURS for _ in range(25)]) <= 5


def test_clear_pulses_are_found() -> None:
    """Of 30 pulses of 15 s, 2 dB above the noise of the band, 28 or more are found."""
    rng = np.random.default_rng(2)
    assert found_in([pulse(15, rng.uniform(48, 130), rng, 2.0) for _ in range(30)]) >= 28


@pytest.mark.slow
@pytest.mark.parametrize("colour", COLOURS)
def test_false_alarm_rate(colour: str) -> None:
    """At most 3 % of 500 noises of each colour are called a pulse."""
    rng = np.random.default_rng(3)
    assert found_in([noise(colour, rng) for _ in range(500)]) <= 15


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "snr_db"), [(15, 1.0), (30, -1.0)])
def test_detection_rate(seconds: float, snr_db: float) -> None:
    """At least 95 % of 200 pulses are found: from 1 dB on in 15 s, from -1 dB on in 30 s."""
    rng = np.random.default_rng(4)
    assert found_in([pulse(seconds, rng.uniform(48, 130), rng, snr_db) for _ in range(200)]) >= 190


def test_detection_is_a_function_of_its_seed() -> None:
    """The same waveform and seed give the same p-value, another seed another draw."""
    rng = np.random.default_rng(2)
    wave, time_s = pulse(15, 70, rng, -3.0), np.arange(450) / FPS
    assert detect(wave, time_s, seed=3) == detect(wave, time_s, seed=3)
    assert detect(wave, time_s, seed=3) != detect(wave, time_s, seed=4)


@pytest.mark.parametrize("bad", [np.full(450, np.nan), np.ones(450)])
def test_nothing_is_found_in_nothing(bad: np.ndarray) -> None:
    """NaN and constant waveforms have no pulse, no numbers, and a reason."""
    found = detect(bad, np.arange(450) / FPS)
    assert not found.found and found.p_value is None and found.reason


# Quality and rate over time


def test_rate_over_time_follows_a_change() -> None:
    """A rate that climbs from 60 to 90 bpm in a minute is followed within 3 bpm, in windows of 10 s."""
    time_s = np.arange(1800) / FPS
    rate_hz = np.linspace(1.0, 1.5, 1800)
    rows = quality.heart_rate_over_time(np.sin(2 * np.pi * np.cumsum(rate_hz) / FPS), time_s)
    assert len(rows) == 51
    for centre, rate, snr in rows:
        assert rate == pytest.approx(60 + 30 * centre / 60, abs=3) and snr > 0


def test_short_recording_is_one_window() -> None:
    """Six seconds give one rate, not none."""
    time_s = np.arange(180) / FPS
    assert len(quality.heart_rate_over_time(np.sin(2 * np.pi * 1.3 * time_s), time_s)) == 1


@pytest.mark.parametrize(("n", "fps"), [(10, 30.0), (100, 2.0)])
def test_quality_of_what_is_too_little(n: int, fps: float) -> None:
    """Too few frames, or too few a second, give no quality and no rate, and no error."""
    wave, time_s = np.sin(np.arange(n)), np.arange(n) / fps
    judged = quality.assess(wave, time_s)
    assert judged.value == 0 and judged.heart_rate_bpm is None and judged.warnings
    assert len(quality.heart_rate_over_time(wave, time_s)) <= 1


def test_quality_separates_pulse_from_noise() -> None:
    """Clear pulses of 20 s score over 0.7 and noise under 0.3, each in at least 19 of 20 cases."""
    rng = np.random.default_rng(5)
    time_s = np.arange(600) / FPS
    good = [quality.assess(pulse(20, rng.uniform(50, 130), rng, 6.0), time_s).value for _ in range(20)]
    bad = [quality.assess(noise("pink", rng, 20), time_s).value for _ in range(20)]
    assert sum(value > 0.7 for value in good) >= 19 and sum(value < 0.3 for value in bad) >= 19


def test_quality_without_a_face_is_low() -> None:
    """The clearest waveform is worth nothing when no face was seen, and less when regions disagree."""
    rng = np.random.default_rng(6)
    wave, time_s = pulse(20, 80, rng, 10.0), np.arange(600) / FPS
    alone = quality.assess(wave, time_s).value
    assert quality.assess(wave, time_s, face_share=0.0).value == 0
    disagreeing = [pulse(20, rate, rng, 10.0) for rate in (60, 100, 120)]
    assert quality.assess(wave, time_s, others=disagreeing).value < 0.5 < 0.7 < alone


# Inference


class Clips:
    """A recording of 60 frames in clips of 20."""

    key, recording, subject, dataset, fps, n_frames = "any.r0", "r0", "s0", "any", FPS, 60
    roi_rgb, region_names = None, ()
    reference_hr_bpm = device_rate = respiration = None

    def __init__(self, labelled: bool = True) -> None:
        self.conditions = {"light": "dim"}
        self.time_s = torch.arange(60, dtype=torch.float64) / FPS
        self.label = torch.sin(torch.arange(60) / 3.0) if labelled else torch.full((60,), float("nan"))

    def batches(self, size: int) -> Iterator[ClipBatch]:
        for start in range(0, 60, 20 * size):
            starts = list(range(start, min(start + 20 * size, 60), 20))
            pulses = torch.stack([self.label[s : s + 20] for s in starts])
            n = len(starts)
            yield ClipBatch(torch.zeros(n, 3, 20, 4, 4), pulses, torch.ones(n, dtype=torch.bool),
                            torch.full((n,), FPS), torch.full((n,), 80.0), ["r0"] * n, starts)


class Constant(nn.Module):
    """Answers with ones; its loss is the largest frame number of the batch and needs evaluation mode."""

    def predict(self, clips: object, batch_size: int = 8) -> Tensor:
        assert not self.training and not torch.is_grad_enabled()
        return torch.ones(60)

    def loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        assert not self.training
        return {"loss": torch.tensor(batch.start, dtype=torch.float32).mean()}


class Refusing(Constant):
    """Cannot answer for this recording."""

    def predict(self, clips: object, batch_size: int = 8) -> Tensor:
        raise UserError("no skin region here")


def test_infer_asks_every_method_in_evaluation_mode() -> None:
    """Methods answer in evaluation mode without gradients, and are left in the mode they were in."""
    method = Constant()
    (wave,) = infer({"a": method, "b": Constant()}, [Clips()], part="hard")
    assert method.training and list(wave.predictions) == ["a", "b"]
    assert (wave.part, wave.conditions, wave.key) == ("hard", {"light": "dim"}, "any.r0")


def test_refused_recording_becomes_a_failed_one() -> None:
    """A method that refuses a recording gives NaN, which the table counts as failed."""
    (wave,) = infer({"bad": Refusing()}, [Clips()])
    assert np.isnan(wave.predictions["bad"]).all()
    assert protocols.score([wave])["rows"][0]["n_failed"] == 1


def test_validation_loss_is_the_mean_over_clips() -> None:
    """Every clip counts once, whatever the batch; recordings without a label are left out."""
    for batch in (1, 2, 3):
        assert validation_loss(Constant(), [Clips(), Clips(False)], batch) == pytest.approx(20.0)
    assert np.isnan(validation_loss(Constant(), [Clips(False)]))


def test_validation_loss_leaves_out_clips_without_a_label() -> None:
    """A label that ends early costs the clips it does not reach, not the training."""
    class Partly(Clips):
        def batches(self, size: int) -> Iterator[ClipBatch]:
            for batch in super().batches(size):
                batch.has_label = torch.tensor([start < 40 for start in batch.start])
                yield batch

    for batch in (1, 2, 3):
        assert validation_loss(Constant(), [Partly()], batch) == pytest.approx(10.0)
