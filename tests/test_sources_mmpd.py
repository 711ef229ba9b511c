"""MMPD as its reader finds it: conditions in one spelling, labels over the video, wrong files refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io

from preprocessing import sources
from preprocessing.sources import RawRecording
from utils.errors import UserError

T = 60


def write(root: Path, name: str = "subject3/p3_0", **changes: object) -> None:
    """A file of small noise frames; `changes` replace or, as None, remove a field."""
    path = root / f"{name}.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {
        "video": np.random.default_rng(0).integers(0, 255, (T, 4, 6, 3)) / 255, "light": "LED-low",
        "GT_ppg": np.sin(np.arange(T) / 4)[None], "motion": "Rotation", "exercise": "False", "skin_color": 3,
        "gender": "female", "glasser": "False", "hair_cover": "False", "makeup": "True", **changes,
    }
    scipy.io.savemat(path, {key: value for key, value in values.items() if value is not None})


def only(root: Path) -> RawRecording:
    return sources.build("mmpd", root).recordings()[0]


def test_people_and_files_are_sorted_as_numbers(tmp_path: Path) -> None:
    """subject2 comes before subject10, p2_9 before p2_10; other files are none."""
    for name in ("subject10/p10_0", "subject2/p2_10", "subject2/p2_9"):
        write(tmp_path, name)
    (tmp_path / "subject2" / "p2_11.mat.part").write_bytes(b"")
    found = [(item.subject, item.recording) for item in sources.build("mmpd", tmp_path)]
    assert found == [("subject2", "p2_9"), ("subject2", "p2_10"), ("subject10", "p10_0")]


@pytest.mark.parametrize("written, read", [
    ("Watching Videos", "walking"), (" Walking ", "walking"),
    ("Stationary (after exercise)", "stationary (after exercise)"),
])
def test_one_motion_has_one_name(tmp_path: Path, written: str, read: str) -> None:
    """Spaces, capitals and the early releases' name for walking make no other condition."""
    write(tmp_path, motion=written)
    assert only(tmp_path).conditions["motion"] == read


def test_conditions_are_those_of_the_file(tmp_path: Path) -> None:
    """All fields come as conditions; the picture's size tells the full from the mini release."""
    write(tmp_path)
    assert only(tmp_path).conditions == {
        "resolution": "6x4", "light": "led-low", "motion": "rotation", "exercise": "false", "skin_tone": "3",
        "gender": "female", "glasses": "false", "hair_cover": "false", "makeup": "true",
    }


def test_a_missing_condition_is_said(tmp_path: Path) -> None:
    """A field that is not there costs a warning, not the recording."""
    write(tmp_path, makeup=None)
    item = only(tmp_path)
    assert "makeup" not in item.conditions
    assert "condition makeup is unknown" in item.labels().warnings[0]


def test_a_few_samples_more_or_fewer_are_stretched(tmp_path: Path) -> None:
    """The label lasts from the first frame to the last, with a warning where the numbers differ."""
    write(tmp_path, GT_ppg=np.sin(np.arange(T - 3) / 4)[None])
    labels = only(tmp_path).labels()
    assert labels.frame_time_s is not None
    assert labels.time_s[0] == labels.frame_time_s[0] and labels.time_s[-1] == labels.frame_time_s[-1]
    assert labels.warnings == ("p3_0.mat: 57 label samples for 60 frames; stretched over them",)


@pytest.mark.parametrize("n", [1, 25, 120])
def test_another_number_of_samples_is_refused(tmp_path: Path, n: int) -> None:
    """Stretching half a label, or one of another rate, would show another heart rate."""
    write(tmp_path, GT_ppg=np.sin(np.arange(n) / 4)[None])
    with pytest.raises(UserError, match=f"{n} label samples for 60 frames"):
        only(tmp_path).labels()


def test_another_persons_file_is_refused(tmp_path: Path) -> None:
    """A file whose name and folder say two people is not given to either."""
    write(tmp_path, "subject3/p13_0")
    with pytest.raises(UserError, match="a file of subject 13 in the folder of subject 3"):
        only(tmp_path).labels()


def test_a_broken_file_costs_only_itself(tmp_path: Path) -> None:
    """A file that cannot be read is a recording that fails by name; the others are read."""
    write(tmp_path)
    (tmp_path / "subject3" / "p3_1.mat").write_bytes(b"junk" * 50)
    first, second = sources.build("mmpd", tmp_path).recordings()
    assert first.labels().kind == "ppg"
    with pytest.raises(UserError, match=r"p3_1.mat: not a MATLAB file"):
        second.labels()


def test_a_wrong_root_says_what_is_looked_for(tmp_path: Path) -> None:
    """Neither a missing nor an empty folder is a set without recordings."""
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="subject1 with p1_0.mat"):
            sources.build("mmpd", root)


def test_a_part_of_the_set_is_said_to_be_one(tmp_path: Path) -> None:
    """Fewer files than the set has are a note."""
    write(tmp_path)
    assert sources.build("mmpd", tmp_path).notes() == ["1 of 660 recordings"]
