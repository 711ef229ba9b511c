"""Own recordings: names, columns, units, clocks, and what is refused because it could be misread."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from preprocessing import sources
from preprocessing.resample import align
from preprocessing.sources import Labels, RawRecording
from preprocessing.synthetic import avi
from tests.made_sets import extracted
from utils.errors import UserError

N, FPS = 60, 20.0


def video(path: Path, n: int = N) -> Path:
    frames = (np.full((16, 16, 3), 40 + index % 100, dtype=np.uint8) for index in range(n))
    avi.write_avi(path, frames, fps=FPS, codec="mjpeg", quality=90)
    return path


def table(path: Path, header: str = "time_s,pulse", scale: float = 1.0, start: float = 0.0) -> Path:
    """A pulse of 72 bpm, 50 samples a second, for three seconds and a bit."""
    time_s = np.arange(160) / 50
    sign = next(sign for sign in ",;\t" if sign in header)
    rows = [f"{start + scale * t:.16g}{sign}{np.sin(2 * np.pi * 1.2 * t):.6f}" for t in time_s]
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def only(root: Path, **options: Any) -> RawRecording:
    (recording,) = sources.build("folder", root, **options)
    return recording


def labels(root: Path, **options: Any) -> Labels:
    return only(root, **options).labels()


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """ann_rest.avi beside ann_rest.csv."""
    video(tmp_path / "ann_rest.avi")
    table(tmp_path / "ann_rest.csv")
    return tmp_path


def test_a_video_and_a_table_are_a_recording(pair: Path) -> None:
    """NAME.avi beside NAME.csv: the subject stands before the first underscore, times are the video's."""
    recording = only(pair)
    assert (recording.subject, recording.recording) == ("ann", "ann_rest")
    got = extracted(recording)
    assert got.attributes["fps"] == pytest.approx(FPS) and got.attributes["label_kind"] == "ppg"
    assert np.isfinite(got.arrays["pulse"]).all()


@pytest.mark.parametrize("options, header, scale", [
    ({"time_column": "t", "time_unit": "ms", "pulse_column": "ppg"}, "t;ppg", 1e3),
    ({"time_column": "stamp", "time_unit": "us"}, "stamp\tpulse", 1e6),
    ({"time_unit": "ns", "pulse_column": "BVP raw"}, "time_s, BVP raw", 1e9),
])
def test_columns_and_units_can_be_named(
    options: dict[str, Any], header: str, scale: float, pair: Path
) -> None:
    """Other names, delimiters and units of time give the same label."""
    expected = labels(pair)
    table(pair / "ann_rest.csv", header, scale)
    got = labels(pair, **options)
    np.testing.assert_allclose(got.time_s, expected.time_s, atol=1e-9)
    np.testing.assert_allclose(got.samples, expected.samples)


def test_an_inverted_signal_is_turned(pair: Path) -> None:
    """A sensor whose signal falls at systole is turned, so that the pulse rises there."""
    np.testing.assert_allclose(labels(pair, inverted=True).samples, -labels(pair).samples)


def test_empty_cells_are_not_part_of_a_series(pair: Path) -> None:
    """A rate once a second in a table of 50 lines a second has its own times; codes are missing."""
    path = pair / "ann_rest.csv"
    lines = path.read_text().splitlines()
    rates = iter(["72", "0", "74", "73"])
    rows = [f"{line},{next(rates) if index % 50 == 0 else ''}" for index, line in enumerate(lines[1:])]
    path.write_text("\n".join([f"{lines[0]},hr_bpm", *rows]))
    got = labels(pair)
    assert got.hr_time_s.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(got.hr_bpm, [72, np.nan, 74, 73])
    assert len(got.samples) == 160


def test_a_table_of_rates_alone_has_no_waveform(pair: Path) -> None:
    """Heart rates without a pulse are a recording without waveform that keeps its device rate."""
    (pair / "ann_rest.csv").write_text("time_s,hr_bpm\n0,70\n1,71\n2,72\n")
    got = labels(pair)
    assert got.kind == "none" and got.hr_bpm.tolist() == [70, 71, 72]


def test_json_may_hold_other_times_for_the_rate(pair: Path) -> None:
    """NAME.json holds lists under the columns' names; hr_time_s are the rate's own times."""
    (pair / "ann_rest.csv").unlink()
    content = {"time_s": [0.0, 0.5, 1.0], "pulse": [1, 2, 3], "hr_time_s": [0.2], "hr_bpm": [66],
               "resp": [0.1, 0.2, 0.3]}
    (pair / "ann_rest.json").write_text(json.dumps(content))
    got = labels(pair)
    assert got.samples.tolist() == [1, 2, 3]
    assert (got.hr_time_s.tolist(), got.hr_bpm.tolist()) == ([0.2], [66])
    assert got.resp_time_s.tolist() == [0.0, 0.5, 1.0]


def test_the_videos_start_can_be_stated(pair: Path) -> None:
    """video_start is the first frame's time by the label's clock."""
    table(pair / "ann_rest.csv", start=1000.25)
    (pair / "recordings.json").write_text('{"ann_rest": {"video_start": 1000.5}}')
    assert labels(pair).time_s[0] == pytest.approx(-0.25)
    assert pair / "recordings.json" in only(pair).files(), "a change of it must be noticed"


def test_the_first_row_can_be_the_first_frame(pair: Path) -> None:
    """With time_zero "first_row" a clock of its own begins with the video."""
    table(pair / "ann_rest.csv", scale=1e3, start=1.5e12)
    got = labels(pair, time_zero="first_row", time_unit="ms")
    assert got.time_s[0] == 0 and got.time_s[-1] == pytest.approx(159 / 50, abs=1e-2)


def test_a_clock_of_another_day_is_refused(pair: Path) -> None:
    """Times hours away from the first frame are an error that names the settings, not an empty pulse."""
    table(pair / "ann_rest.csv", start=1.5e9)
    with pytest.raises(UserError, match=r"ann_rest\.csv: the first time is .*time_zero.*video_start"):
        labels(pair)


def test_frame_times_go_before_the_containers(pair: Path) -> None:
    """NAME.frames.csv gives each frame's time by the label's clock; its first is zero."""
    table(pair / "ann_rest.csv", start=500.0)
    time_s = 500.1 + np.arange(N) / 19.0
    (pair / "ann_rest.frames.csv").write_text("\n".join(["time_s", *(f"{t:.6f}" for t in time_s)]))
    got = extracted(only(pair))
    assert got.attributes["fps"] == pytest.approx(19.0)
    assert got.arrays["label_time_s"][0] == pytest.approx(-0.1)
    assert pair / "ann_rest.frames.csv" in only(pair).files()


def pictures(folder: Path, n: int = 30) -> None:
    folder.mkdir()
    for index in range(n):
        picture = np.full((16, 16, 3), 60 + index, dtype=np.uint8)
        cv2.imwrite(str(folder / f"img{index}.png"), picture)


def test_pictures_need_times_or_a_stated_rate(tmp_path: Path) -> None:
    """A folder of pictures without times is refused; an fps in recordings.json is enough; none is assumed."""
    pictures(tmp_path / "ann_pictures")
    with pytest.raises(UserError, match="pictures have no times of their own"):
        only(tmp_path).open_frames()
    (tmp_path / "recordings.json").write_text('{"ann_pictures": {"fps": 12.5}}')
    got = extracted(only(tmp_path))
    assert got.attributes["fps"] == pytest.approx(12.5)
    assert "no ann_pictures.csv or ann_pictures.json: a recording without label" in got.warnings


def test_subjects_and_conditions_can_be_stated(tmp_path: Path) -> None:
    """recordings.json tells subject and conditions; unlisted names follow the rule."""
    for name in ("a_1", "a_2", "b-10"):
        video(tmp_path / f"{name}.avi", 2)
    listed = {"a_2": {"subject": "zoe", "conditions": {"light": "dim"}}, "b-10": {"subject": "zoe"}}
    (tmp_path / "recordings.json").write_text(json.dumps(listed))
    found = {item.recording: (item.subject, item.conditions) for item in sources.build("folder", tmp_path)}
    assert found == {"a_1": ("a", {}), "a_2": ("zoe", {"light": "dim"}), "b-10": ("zoe", {})}


def test_unclear_subjects_are_refused(tmp_path: Path) -> None:
    """Names without an underscore could be one person or several: the user has to say."""
    for name in ("rest1", "rest2"):
        video(tmp_path / f"{name}.avi", 2)
    with pytest.raises(UserError, match="who is seen in rest1, rest2"):
        sources.build("folder", tmp_path)
    found = [item.subject for item in sources.build("folder", tmp_path, subject="name")]
    assert found == ["rest1", "rest2"]


def test_names_are_whole_names(tmp_path: Path) -> None:
    """p1 takes nothing from p10, and p2 comes before p10."""
    for name in ("p10_a", "p1_a", "p2_a"):
        video(tmp_path / f"{name}.avi", 2)
    table(tmp_path / "p10_a.csv")
    found = list(sources.build("folder", tmp_path))
    assert [item.subject for item in found] == ["p1", "p2", "p10"]
    assert [item.labels().kind for item in found] == ["none", "none", "ppg"]


@pytest.mark.parametrize("extra, message", [
    ("ann_rest.mp4", r"one video or folder of pictures is needed, found ann_rest\.avi, ann_rest\.mp4"),
    ("ann_rest.json", r"one label file is needed, found ann_rest\.csv, ann_rest\.json"),
])
def test_doubtful_recordings_are_refused(extra: str, message: str, pair: Path) -> None:
    """Two videos or two label files of one name fail that recording by their names."""
    (pair / extra).write_text("{}")
    with pytest.raises(UserError, match=message):
        only(pair).files()


def test_labels_without_a_video_are_named(pair: Path) -> None:
    """A label file whose video is missing is a recording that fails, not one that is passed over."""
    (pair / "ann_rest.avi").unlink()
    with pytest.raises(UserError, match="ann_rest: labels without a video"):
        only(pair).files()


@pytest.mark.parametrize("text, message", [
    ("0,1\n1,2\n", "no column 'time_s' in the header '0,1'"),
    ("time_s,pulse,pulse\n0,1,2\n", "two columns are called 'pulse'"),
    ("time_s,pulse\n0,1\n1\n", r"ann_rest\.csv line 3: 1 cells, the header has 2"),
    ("time_s,pulse\n0,1\n1,high\n", "column pulse: value 2, 'high', is not a number"),
    ("time_s,pulse\nnan,1\n1,2\n", "column time_s: a time is not a number"),
    ("time_s,ppg\n0,1\n", "neither 'pulse' nor 'hr_bpm' has a value"),
    ("", "empty"),
])
def test_malformed_tables_are_named(text: str, message: str, pair: Path) -> None:
    """Each defect of a table is an error with its file and place."""
    (pair / "ann_rest.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        labels(pair)


@pytest.mark.parametrize("content, message", [
    ([], r'must hold \{"time_s"'),
    ({"time_s": [0, 1], "pulse": [1, 2, 3]}, "3 values of 'pulse' but 2 of 'time_s'"),
    ({"time_s": [0, 1], "pulse": [1, "2"]}, "pulse must be a list of numbers"),
    ({"time_s": 3, "pulse": [1]}, "time_s must be a list of numbers"),
])
def test_malformed_json_is_named(content: Any, message: str, pair: Path) -> None:
    """Each defect of a JSON is an error with its file and key."""
    (pair / "ann_rest.csv").unlink()
    (pair / "ann_rest.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        labels(pair)


@pytest.mark.parametrize("content, message", [
    ({"bob": {}}, "no files of bob"),
    ({"ann_rest": {"subjekt": "a"}}, "subjekt: unknown key; known: subject"),
    ({"ann_rest": {"subject": 3}}, "subject: 3 is of the wrong type"),
    ({"ann_rest": {"conditions": {"light": 1}}}, "conditions: must hold texts"),
    ({"ann_rest": {"fps": 0}}, "fps: 0 is not a frame rate"),
    ([], "must hold"),
])
def test_a_wrong_list_is_refused(content: Any, message: str, pair: Path) -> None:
    """recordings.json is checked as a whole before anything is read."""
    (pair / "recordings.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"recordings\.json: .*{message}"):
        sources.build("folder", pair)


def test_names_become_safe_ids(tmp_path: Path) -> None:
    """A name with spaces and signs is a recording under a safe id."""
    video(tmp_path / "Ann B_rest (1).avi", 2)
    assert only(tmp_path).recording == "Ann_B_rest_1_"


@pytest.mark.skipif("RPPG_REAL_DATA" not in os.environ, reason="RPPG_REAL_DATA names no folder of real data")
def test_a_real_smartwatch_with_irregular_stamps(tmp_path: Path) -> None:
    """Twelve minutes of a wrist's PPG at irregular epoch milliseconds keep their rate of about 80 bpm."""
    real = Path(os.environ["RPPG_REAL_DATA"]) / "signal" / "e2eppg_smartwatch_20hz.csv"
    (tmp_path / "wrist_day.csv").write_bytes(real.read_bytes())
    video(tmp_path / "wrist_day.avi", 4)
    got = labels(tmp_path, time_column="timestamp", pulse_column="ppg", hr_column="hrm", time_unit="ms",
                 time_zero="first_row")
    stamps = np.loadtxt(real, delimiter="\t", skiprows=1, usecols=0)
    assert len(got.samples) == len(stamps) == 14401
    np.testing.assert_allclose(got.time_s, (stamps - stamps[0]) / 1000, atol=1e-6)
    frame_time_s = np.arange(0, 700, 1 / 25.0)
    aligned = align(got, frame_time_s, "timestamps", "wrist")
    middle = aligned.pulse[25 * 60 : 25 * 180]
    middle = np.nan_to_num(middle - np.nanmean(middle))
    power = np.abs(np.fft.rfft(middle * np.hanning(len(middle)))) ** 2
    hz = np.fft.rfftfreq(len(middle), 1 / 25.0)
    band = (hz > 0.8) & (hz < 2.5)
    assert 65 < 60 * hz[band][np.argmax(power[band])] < 95


def test_one_person_under_two_spellings_is_asked_about(tmp_path: Path) -> None:
    """P01 and p1 would be two people, on two sides of a split, perhaps; nobody else is suspected."""
    for name in ("P01_rest", "p1_walk", "p11_rest", "p2_rest"):
        (tmp_path / f"{name}.mp4").write_bytes(b"")
    (note,) = sources.build("folder", tmp_path).notes()
    assert note.startswith("subjects P01 and p1 are taken for different people")
