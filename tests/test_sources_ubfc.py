"""Quirks of UBFC-rPPG DATASET_1 and 2 and of UBFC-Phys."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprocessing import defects, sources
from preprocessing.sources import Labels
from preprocessing.sources.text import device_rate
from preprocessing.sources.ubfc_phys import WithoutDamagedEnd
from preprocessing.video import VideoReader
from tests.made_sets import SETTINGS, extracted, label_rate_bpm, make
from utils.errors import UserError


def first_labels(name: str, root: Path, **options: Any) -> Labels:
    return sources.build(name, root, **options).recordings()[0].labels()


# UBFC-rPPG DATASET_2


@pytest.mark.parametrize("change", [
    lambda text: text.replace("\n", "\r\n"),
    lambda text: text.replace("   ", "\t"),
    lambda text: "\n" + text.replace("\n", " \n\n"),
    lambda text: text.rstrip("\n"),
], ids=["CRLF", "tabs", "blank lines", "no last line end"])
def test_white_space_does_not_matter(change: Any, tmp_path: Path) -> None:
    """Other line ends, tabs and blank lines in ground_truth.txt give the same labels."""
    its = make(tmp_path / "raw", "ubfc_rppg_2", people=1, seconds=2.0)
    before = its.recordings[0].labels()
    path = its.root / "subject1" / "ground_truth.txt"
    path.write_bytes(change(path.read_text()).encode())
    after = its.recordings[0].labels()
    np.testing.assert_array_equal(after.samples, before.samples)
    np.testing.assert_array_equal(after.frame_time_s, before.frame_time_s)


def test_the_last_twelve_are_those_of_the_highest_numbers(tmp_path: Path) -> None:
    """Sorted as numbers, the last 12 of the 42 subjects are 38 to 49."""
    numbers = [1, 3, 4, 5, *range(8, 19), 20, *range(22, 28), *range(30, 50)]
    for number in reversed(numbers):
        (tmp_path / f"subject{number}").mkdir()
    found = [item.subject for item in sources.build("ubfc_rppg_2", tmp_path)]
    assert len(found) == 42
    assert found[-12:] == [f"subject{number}" for number in range(38, 50)]


def test_half_the_device_rates_missing_leave_the_pulse(tmp_path: Path) -> None:
    """A device rate of zeros is missing, with a warning; the pulse (of 11, 18, 20 and 24) is usable."""
    its = make(tmp_path / "raw", "ubfc_rppg_2", people=1, seconds=4.0, defects=("zero_device_rate",))
    labels = its.recordings[0].labels()
    assert np.isnan(labels.hr_bpm).sum() == len(labels.hr_bpm) // 2
    assert labels.kind == "ppg" and "device heart rates are missing" in labels.warnings[0]
    assert set(defects.known("ubfc_rppg_2")) == {f"subject{number}" for number in (11, 18, 20, 24)}


# UBFC-rPPG DATASET_1


def test_milliseconds_become_seconds(tmp_path: Path) -> None:
    """gtdump.xmp counts in milliseconds, step 16: 62.5 samples a second, at their own times."""
    its = make(tmp_path / "raw", "ubfc_rppg_1", people=1, seconds=4.0)
    labels = its.recordings[0].labels()
    np.testing.assert_allclose(np.diff(labels.time_s), 0.016, atol=1e-12)
    assert labels.frame_time_s is None
    assert labels.samples.max() > 60 and 60 < np.nanmean(labels.hr_bpm) < 64


def test_any_name_of_the_video_will_do(tmp_path: Path) -> None:
    """The folder's only .avi is the video whatever it is called; two of them are an error by name."""
    its = make(tmp_path / "raw", "ubfc_rppg_1", seconds=2.0)
    assert [item.files()[0].name for item in its.recordings] == ["vid.avi", "vid_5gt.avi"]
    doubled = make(tmp_path / "two", "ubfc_rppg_1", people=1, seconds=2.0, defects=("two_videos",))
    with pytest.raises(UserError, match=r"5-gt: exactly one \.avi .* found: copy_of_vid\.avi, vid\.avi"):
        doubled.recordings[0].files()


def test_twin_videos_are_one_subject(tmp_path: Path) -> None:
    """7-gt and 12-gt with the same video get one subject and a warning each; nobody else is touched."""
    its = make(tmp_path / "raw", "ubfc_rppg_1", seconds=2.0, defects=("twin",))
    subjects = {item.recording: item.subject for item in its.recordings}
    assert subjects == {"5-gt": "5-gt", "7-gt": "7-gt", "10-gt": "10-gt", "12-gt": "7-gt"}
    warned = {item.recording: item.labels().warnings for item in its.recordings}
    assert "same file as that of 7-gt" in warned["12-gt"][0] and "that of 12-gt" in warned["7-gt"][0]
    assert warned["5-gt"] == warned["10-gt"] == ()
    assert its.root / "7-gt" / "vid-007.avi" in its.recordings[3].files(), "its going must be noticed"


def test_videos_of_equal_length_only_are_not_twins(tmp_path: Path) -> None:
    """Uncompressed videos of as many frames have as many bytes; content decides."""
    its = make(tmp_path / "raw", "ubfc_rppg_1", seconds=2.0)
    sizes = {item.files()[0].stat().st_size for item in its.recordings}
    assert len(sizes) == 1 and len({item.subject for item in its.recordings}) == 2


def test_a_folder_without_labels_is_a_failure(tmp_path: Path) -> None:
    """A folder with a video and no gtdump.xmp is a recording that fails by name, not one less."""
    its = make(tmp_path / "raw", "ubfc_rppg_1", seconds=2.0)
    (its.root / "5-gt" / "gtdump.xmp").unlink()
    found = sources.build("ubfc_rppg_1", its.root).recordings()
    assert [item.recording for item in found] == ["5-gt", "10-gt"]
    with pytest.raises(UserError, match=r"5-gt/gtdump\.xmp: no such file"):
        found[0].labels()


def test_the_label_is_stretched_only_when_asked(tmp_path: Path) -> None:
    """A label 0.8 s longer than its video keeps its rate; stretched over the frames it is faster."""
    its = make(tmp_path / "raw", "ubfc_rppg_1", people=1, seconds=8.0)
    rates = []
    for align in ("timestamps", "stretch"):
        got = extracted(its.recordings[0], replace(SETTINGS, align=align))
        rates.append(label_rate_bpm(got.arrays["pulse"], got.arrays["frame_time_s"]))
    assert rates[0] == pytest.approx(its.truths[0].rate_bpm, abs=1.0)
    assert rates[1] == pytest.approx(its.truths[0].rate_bpm * 8.8 / 8, abs=1.5)


def test_a_short_line_of_gtdump_is_named(tmp_path: Path) -> None:
    """A line that was cut off is an error with its number."""
    its = make(tmp_path / "raw", "ubfc_rppg_1", people=1, seconds=2.0)
    path = its.root / "5-gt" / "gtdump.xmp"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(UserError, match=r"gtdump\.xmp line 175: \d columns; needed: time in ms"):
        its.recordings[0].labels()


def test_codes_of_the_meter_are_missing() -> None:
    """0 and 255 are no rates; 127 is one where the heart really beats so fast."""
    rate, warnings = device_rate(np.array([0.0, 72, 74, 127, 255, 29, np.nan]), "meter")
    assert np.isfinite(rate).tolist() == [False, True, True, False, False, False, False]
    assert warnings == ["meter: 5 of 7 device heart rates are missing"]
    fast, warnings = device_rate(np.array([124.0, 127, 129]), "meter")
    assert fast.tolist() == [124, 127, 129] and warnings == []
    assert np.isnan(device_rate(np.full(3, 127.0), "meter")[0]).all()


# UBFC-Phys


def test_the_wrist_pulse_has_64_samples_a_second(tmp_path: Path) -> None:
    """One value a line at 64 Hz from the video's start, whatever the number of frames."""
    its = make(tmp_path / "raw", "ubfc_phys", people=1, seconds=4.0)
    labels = its.recordings[0].labels()
    assert labels.time_s[64] == 1.0 and labels.time_s[0] == 0.0
    assert len(labels.samples) == round(4.4 * 64)
    assert extracted(its.recordings[0]).attributes["fps"] == pytest.approx(35.14, abs=1e-3)


def test_tasks_and_sex_are_conditions(tmp_path: Path) -> None:
    """The task is in the name, the sex in line 2 of the info; s2 comes before s10."""
    its = make(tmp_path / "raw", "ubfc_phys", seconds=2.0)
    assert [item.recording for item in its.recordings] == [
        f"{subject}_T{task}" for subject in ("s2", "s10") for task in (1, 2, 3)
    ]
    assert its.recordings[1].conditions == {"task": "speech", "sex": "m"}
    (its.root / "s2" / "info_s2.txt").unlink()
    assert sources.build("ubfc_phys", its.root).recordings()[1].conditions == {"task": "speech"}


def test_a_damaged_last_frame_is_left_out(tmp_path: Path) -> None:
    """A last frame that has nothing to do with the one before is dropped with a warning, only then."""
    its = make(tmp_path / "raw", "ubfc_phys", people=1, seconds=2.0, defects=("damaged_last_frame",))
    damaged, whole = (extracted(item) for item in its.recordings[:2])
    assert len(damaged.arrays["frame_time_s"]) == len(whole.arrays["frame_time_s"]) - 1
    text = "the last frame is damaged and left out"
    assert text in damaged.warnings and text not in whole.warnings
    path = its.recordings[0].files()[0]
    assert len(list(WithoutDamagedEnd(VideoReader(path)))) == len(list(VideoReader(path))) - 1


def test_a_missing_label_fails_that_recording_alone(tmp_path: Path) -> None:
    """A task without its bvp file is a recording that fails with the file's name."""
    its = make(tmp_path / "raw", "ubfc_phys", people=1, seconds=2.0, defects=("missing_label",))
    assert len(its.recordings) == 3
    with pytest.raises(UserError, match=r"bvp_s2_T1\.csv: no such file"):
        its.recordings[0].labels()
    assert len(its.recordings[1].labels().samples)


def test_s1_is_not_s10(tmp_path: Path) -> None:
    """A subject's files are its own: s1 takes nothing from s10."""
    for name in ("s1", "s10"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"bvp_{name}_T1.csv").write_text("1\n2\n" if name == "s1" else "7\n8\n9\n")
    found = {item.recording: item.labels().samples.tolist() for item in sources.build("ubfc_phys", tmp_path)}
    assert found == {"s1_T1": [1, 2], "s10_T1": [7, 8, 9]}


def test_the_toolbox_leaves_67_out() -> None:
    """The shipped list has 14 + 30 + 23 recordings, each with an id as the reader makes it."""
    listed = defects.lists_of("ubfc_phys")["toolbox"]
    assert [sum(name.endswith(task) for name in listed) for task in ("T1", "T2", "T3")] == [14, 30, 23]
    assert "s4_T2" in listed and "s4_T1" not in listed
