"""VIPL-HR's quirks: true times, the phone without stamps, codes, takes, cameras, and what is missing."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprocessing import defects, plan, sources
from preprocessing.extract import extract
from preprocessing.resample import align
from preprocessing.sources import vipl_hr
from preprocessing.sources.base import ORIGIN_FILE
from tests.made_sets import SETTINGS, NoSink, extracted, make
from utils.errors import UserError
from utils.settings import Preprocessing, RawSet

SECONDS = 4.0


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One person, never changed by a test."""
    return make(tmp_path_factory.mktemp("vipl") / "raw", "vipl_hr", people=1, seconds=SECONDS).root


@pytest.fixture
def root(shared: Path, tmp_path: Path) -> Path:
    """One person, free to be changed."""
    return Path(shutil.copytree(shared, tmp_path / "raw"))


def one(root: Path, key: str = "p1-v1-source1", **options: Any) -> sources.RawRecording:
    return next(item for item in sources.build("vipl_hr", root, **options) if item.recording == key)


def folders(root: Path, *names: str) -> None:
    for name in names:
        (root / name).mkdir(parents=True)


def test_times_are_those_of_time_txt(shared: Path) -> None:
    """Frames have the milliseconds of time.txt, line by line, and not the container's 25 a second."""
    recording = one(shared)
    lines = (shared / "data/p1/v1/source1/time.txt").read_bytes()
    stated = [int(line) / 1000 for line in lines.split(b"\r\n") if line]
    np.testing.assert_allclose(recording.labels().frame_time_s, stated)
    got = extracted(recording)
    assert recording.open_frames().fps_declared == pytest.approx(25)
    assert got.attributes["fps"] == pytest.approx((len(stated) - 1) / stated[-1])
    assert got.attributes["frame_times"] == "dataset"


@pytest.mark.parametrize("option, fps", [("hr_rows", 30.0), ("30", 30.0), ("container", 25.0)])
def test_the_phone_has_its_rate_from_elsewhere(shared: Path, option: str, fps: float) -> None:
    """source2 has no time.txt: frames over the seconds of gt_HR.csv, the nominal rate, or the container's."""
    assert not (shared / "data/p1/v1/source2/time.txt").exists()
    labels = one(shared, "p1-v1-source2", source2_time=option).labels()
    np.testing.assert_allclose(np.diff(labels.frame_time_s), 1 / fps)
    assert len(labels.frame_time_s) == round(SECONDS * 30)
    assert not any("doubtful" in text for text in labels.warnings)


def test_a_phone_off_its_nominal_rate_is_flagged(tmp_path: Path) -> None:
    """24 frames a second by the labels are used, with a warning that says what speaks against it."""
    made = make(tmp_path / "raw", "vipl_hr", people=1, seconds=SECONDS, defects=("slow_phone",))
    labels = one(made.root, "p1-v1-source2").labels()
    np.testing.assert_allclose(np.diff(labels.frame_time_s), 1 / 24)
    assert any(re.search(r"96 frames in the 4 s of gt_HR.csv are 24.00 a second.*doubtful", text)
               for text in labels.warnings)


def test_labels_of_another_video_are_refused(root: Path) -> None:
    """A number of rates that makes an impossible frame rate does not become a clock."""
    path = root / "data/p1/v1/source2/gt_HR.csv"
    path.write_text("HR\n" + "70\n" * 200)
    with pytest.raises(UserError, match="120 frames in the 199 s .* do not belong to this video"):
        one(root, "p1-v1-source2").labels()


def test_the_wave_keeps_the_meters_rate(shared: Path) -> None:
    """By default the wave runs at 60 Hz from the first frame on, longer than the video, and says so."""
    labels = one(shared).labels()
    np.testing.assert_allclose(np.diff(labels.time_s), 1 / 60)
    assert labels.time_s[-1] > labels.frame_time_s[-1] + 1
    assert "wave.csv: 5.6 s at 60 Hz, the video 4.0 s" in labels.warnings


def test_stretching_is_asked_for_and_named(shared: Path) -> None:
    """wave_time "stretch" spreads the wave over the video, and warns where that changes its rate."""
    labels = one(shared, wave_time="stretch").labels()
    assert labels.time_s[0] == 0 and labels.time_s[-1] == labels.frame_time_s[-1]
    assert any("were spread over the video's 4.0 s" in text for text in labels.warnings)
    phone = one(shared, "p1-v1-source2", wave_time="stretch").labels()
    assert not any("spread" in text for text in phone.warnings)


def test_codes_of_the_meter_are_missing(tmp_path: Path) -> None:
    """A rate of 255 is NaN with a warning, and codes of the saturation are named."""
    made = make(tmp_path / "raw", "vipl_hr", people=1, seconds=8.0, defects=("hr_codes",))
    labels = one(made.root).labels()
    assert np.isnan(labels.hr_bpm).tolist() == [False] * 3 + [True] * 3 + [False] * 2
    assert "gt_HR.csv: 3 of 10 device heart rates are missing" in labels.warnings
    assert "gt_SpO2.csv: 3 values are codes (44, 127); was the meter loose?" in labels.warnings


def test_rates_are_a_second_apart_and_end_with_the_video(shared: Path) -> None:
    """gt_HR.csv holds a rate a second from 0; those after the last frame are not the video's."""
    labels = one(shared).labels()
    assert labels.hr_time_s.tolist() == [0, 1, 2, 3]
    assert len(labels.hr_bpm) == 4
    assert labels.hr_time_s[-1] <= labels.frame_time_s[-1]


def test_infrared_is_left_out(shared: Path) -> None:
    """source4 is in the copy and not among the recordings."""
    assert (shared / "data/p1/v1/source4/video.avi").is_file()
    found = [item.recording for item in sources.build("vipl_hr", shared)]
    assert found == ["p1-v1-2-source1", "p1-v1-source1", "p1-v1-source2", "p1-v1-source3", "p1-v9-source2"]


@pytest.mark.parametrize("options, expected", [
    ({"scenarios": ["v9"]}, ["p1-v9-source2"]),
    ({"sources": ["source3"]}, ["p1-v1-source3"]),
    ({"scenarios": ["v1"], "sources": ["source1"]}, ["p1-v1-2-source1", "p1-v1-source1"]),
])
def test_scenarios_and_sources_are_chosen(shared: Path, options: dict, expected: list[str]) -> None:
    """Options choose scenarios, a second take with its first, and cameras."""
    assert [item.recording for item in sources.build("vipl_hr", shared, **options)] == expected


def test_conditions_are_named(shared: Path) -> None:
    """Scenario by its name, camera, and take; all of a subject under one key."""
    second = one(shared, "p1-v1-2-source1")
    assert second.conditions == {"scenario": "stable", "source": "source1", "take": "2"}
    assert second.subject == one(shared).subject == "p1"
    assert one(shared, "p1-v9-source2").conditions["scenario"] == "phone with motion"


@pytest.mark.parametrize("option", ["v10", "v0", "source1"])
def test_unknown_scenarios_are_refused(shared: Path, option: str) -> None:
    """A scenario that is none is an error before anything is read."""
    with pytest.raises(ValueError, match=r"scenarios\.0"):
        sources.build("vipl_hr", shared, scenarios=[option])


@pytest.mark.parametrize("place", ["", "data", "data/p1-5"])
def test_people_are_found_where_zip_files_leave_them(tmp_path: Path, place: str) -> None:
    """In the root, in data, and in folders named as the zip files; p1 is not p10, and 2 comes before 10."""
    for name in ("p10", "p2", "p1", "p1-notes", "px"):
        folders(tmp_path / place, f"{name}/v1/source1")
    assert [item.subject for item in sources.build("vipl_hr", tmp_path)] == ["p1", "p2", "p10"]


def test_a_wrong_root_says_what_was_looked_for(tmp_path: Path) -> None:
    """A folder with the zip files only, and one that is not there, are refused with what is needed."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "p1-5.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match="the zip files unpacked"):
        sources.build("vipl_hr", tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        sources.build("vipl_hr", tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["wave.csv", "gt_HR.csv", "time.txt", "video.avi"])
def test_what_lacks_a_file_fails_by_name(root: Path, name: str) -> None:
    """A recording without one of its files is still listed; it is refused, the others are read."""
    (root / "data/p1/v1/source1" / name).unlink()
    recording = one(root)
    with pytest.raises(UserError, match=re.escape(f"source1/{name}")):
        extracted(recording)
    assert any(path.name == name for path in recording.files())
    assert len(one(root, "p1-v1-source3").labels().samples)


@pytest.mark.parametrize("name, text, message", [
    ("gt_HR.csv", "HR\n", "nothing below its header"),
    ("gt_HR.csv", "HR\n70\nx\n", "value 2, 'x', is not a number"),
    ("wave.csv", "", "empty"), ("time.txt", "0\r\nsoon\r\n", "value 2, 'soon', is not a number"),
])
def test_malformed_files_are_named(root: Path, name: str, text: str, message: str) -> None:
    """Each malformed text file is an error with its name and the word."""
    (root / "data/p1/v1/source1" / name).write_text(text)
    with pytest.raises(UserError, match=rf"{re.escape(name)}.*{message}"):
        one(root).labels()


def test_lost_stamps_are_not_made_up(root: Path) -> None:
    """Three stamps fewer than frames cut the surplus with a warning; a tenth fewer is refused."""
    path = root / "data/p1/v1/source1/time.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-3]))
    got = extracted(one(root))
    assert len(got.arrays["frame_time_s"]) == len(lines) - 3
    assert any(f"{len(lines)} frames but {len(lines) - 3} frame times" in text for text in got.warnings)
    path.write_text("\n".join(lines[: int(0.9 * len(lines))]))
    with pytest.raises(UserError, match="frames but .* frame times"):
        extracted(one(root))


def test_the_picture_is_the_crop(shared: Path) -> None:
    """No face is looked for, whatever finder is asked for: the source is the crop by declaration."""
    recording = one(shared)
    assert recording.is_crop
    settings = type(SETTINGS)(face_finder="haar", size=48, landmarks=False)
    got = extract(recording, settings, NoSink(), lambda: None)
    assert not got.arrays["face_found"].any()
    assert got.attributes["face_finder"] == "none"


def test_the_label_is_as_fast_as_it_was_made(shared: Path) -> None:
    """At 50 Hz, as one reader takes the wave, the known rate would be missed by a sixth."""
    truth = make_truth(shared)
    labels = one(shared).labels()
    pulse = align(labels, labels.frame_time_s, "timestamps", "x").pulse.astype(float)
    np.testing.assert_allclose(
        np.corrcoef(pulse, truth.pulse(labels.frame_time_s))[0, 1], 1, atol=0.02)


def make_truth(root: Path) -> Any:
    from preprocessing.synthetic.layouts import make_take

    return make_take(0, 0, 0, SECONDS)


def test_a_whole_copy_has_2378_recordings() -> None:
    """The table of counts adds up to the set's RGB recordings, and by source to the published sums."""
    by_source = np.array(list(vipl_hr.COUNTS.values())).sum(axis=0)
    assert by_source.tolist() == [662, 965, 751]
    assert by_source.sum() == 2378


def test_the_count_is_held_against_a_whole_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a copy lacks is told by scenario and source; of a whole one, or a chosen part, nothing is."""
    monkeypatch.setattr(vipl_hr, "N_SUBJECTS", 2)
    monkeypatch.setattr(vipl_hr, "COUNTS", {"v1": (1, 2, 2), "v8": (0, 1, 0)})
    folders(tmp_path, "p1/v1/source1", "p1/v1/source2", "p1/v1/source3", "p2/v1/source2", "p2/v1/source3")
    assert sources.build("vipl_hr", tmp_path).notes() == [
        "2 of 2 subjects, 5 of 6 recordings: v8 source2 0 of 1"]
    assert sources.build("vipl_hr", tmp_path, scenarios=["v1"]).notes() == []
    folders(tmp_path, "p1/v8/source2")
    assert sources.build("vipl_hr", tmp_path).notes() == []
    monkeypatch.setattr(vipl_hr, "N_SUBJECTS", 107)
    folders(tmp_path, "p1/v9/source2")
    assert sources.build("vipl_hr", tmp_path).notes() == ["2 of 107 subjects, 7 of 6 recordings"]


def test_known_defects_name_recordings() -> None:
    """The shipped lists hold ids as the reader makes them: 67 of RS-rPPG, and those that lack a file."""
    lists = defects.lists_of("vipl_hr")
    assert len(lists["rs_rppg"]) == 67
    assert {"p32-v7-source3", "p45-v1-source2"} <= set(lists["incomplete"])
    for entries in lists.values():
        assert all(re.fullmatch(r"p\d+-v[1-9]-source[1-3]", key) for key in entries)
        assert all(entries.values())


def test_what_is_missing_is_told_before_the_work(shared: Path, capsys: pytest.CaptureFixture) -> None:
    """Planning warns of what a copy lacks; of a made-up set, which is small on purpose, it does not."""
    sets, store = [RawSet(name="vipl_hr", root=str(shared))], shared.parent / "store"
    plan.make(sets, store, Preprocessing(), False)
    assert capsys.readouterr().err == ""
    origin = shared / ORIGIN_FILE
    aside = origin.rename(shared.parent / "aside.json")
    try:
        plan.make(sets, store, Preprocessing(), False)
    finally:
        aside.rename(origin)
    assert "warning: vipl_hr: 1 of 107 subjects, 5 of 2378 recordings" in capsys.readouterr().err
