"""PURE's quirks: nanoseconds, order of pictures, two layouts, bad samples."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprocessing import sources
from preprocessing.extract import extract
from tests.made_sets import SETTINGS, NoSink, extracted, make
from utils.errors import UserError


def labels_file(root: Path) -> Path:
    return root / "02-01" / "02-01.json"


def change(root: Path, **changes: Any) -> None:
    content = json.loads(labels_file(root).read_text())
    labels_file(root).write_text(json.dumps({**content, **changes}))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One person, two short recordings."""
    return make(tmp_path / "raw", "pure", people=1, seconds=3.0).root


def first(root: Path) -> Any:
    return sources.build("pure", root).recordings()[0]


def test_the_first_picture_is_the_first_frame(root: Path) -> None:
    """No entry of the folder is skipped: the first frame is the picture of the lowest stamp."""
    recording = first(root)
    pictures = sorted((root / "02-01/02-01").iterdir(), key=lambda path: int(path.stem[5:]))
    frames = list(recording.open_frames())
    assert len(frames) == len(pictures)
    assert recording.files()[1:] == pictures
    assert recording.labels().frame_time_s[0] == 0


def test_stamps_are_exact_nanoseconds(root: Path) -> None:
    """Times are differences of whole numbers: a float of an epoch would round them to 256 ns."""
    recording = first(root)
    stamps = [int(path.stem[5:]) for path in recording.files()[1:]]
    expected = [(stamp - stamps[0]) / 10**9 for stamp in stamps]
    np.testing.assert_allclose(recording.labels().frame_time_s, expected, rtol=0, atol=1e-12)


def test_a_missing_picture_moves_no_other(tmp_path: Path) -> None:
    """With one PNG gone the others keep their times: the gap shows, and the label stays in step."""
    whole = make(tmp_path / "whole", "pure", people=1, seconds=3.0)
    short = make(tmp_path / "short", "pure", people=1, seconds=3.0, defects=("missing_picture",))
    had, has = (its.recordings[0].labels().frame_time_s for its in (whole, short))
    assert len(has) == len(had) - 1
    assert set(np.round(has, 9)) < set(np.round(had, 9))
    got = extracted(short.recordings[0])
    assert any("1 listed pictures are missing, 0 are not listed" in text for text in got.warnings)
    np.testing.assert_allclose(got.arrays["frame_time_s"], has)


def test_many_missing_pictures_fail_the_recording_alone(tmp_path: Path) -> None:
    """More than five and one percent missing is an error of that recording; the other is read."""
    its = make(tmp_path / "raw", "pure", people=1, seconds=3.0, defects=("many_pictures_missing",))
    with pytest.raises(UserError, match=r"02-01\.json: 9 of 90 listed pictures are missing"):
        its.recordings[0].labels()
    assert len(its.recordings[1].labels().samples)


def test_stamps_of_unequal_length_are_in_order(tmp_path: Path) -> None:
    """When the stamps gain a digit in the middle, time goes on rising."""
    its = make(tmp_path / "raw", "pure", people=1, seconds=8.0, defects=("short_stamps",))
    names = [path.stem for path in its.recordings[0].files()[1:]]
    assert {len(name) for name in names} == {len("Image") + 18, len("Image") + 19}
    assert names != sorted(names)
    assert (np.diff(its.recordings[0].labels().frame_time_s) > 0).all()


def test_the_first_two_samples_are_left_out(root: Path) -> None:
    """The label's first two samples, which are bad, are not in the label; the device's rate is whole."""
    package = json.loads(labels_file(root).read_text())["/FullPackage"]
    labels = first(root).labels()
    assert labels.samples.tolist() == [item["Value"]["waveform"] for item in package[2:]]
    assert len(labels.hr_bpm) == len(package)


@pytest.mark.parametrize("is_flat", [True, False])
@pytest.mark.parametrize("is_beside", [True, False])
def test_both_unpackings_are_read(is_flat: bool, is_beside: bool, root: Path) -> None:
    """Pictures nested or flat, the JSON inside or beside the folder: the same recording."""
    expected = first(root).labels()
    inner = root / "02-01" / "02-01"
    if is_flat:
        for path in list(inner.iterdir()):
            shutil.move(path, root / "02-01")
        inner.rmdir()
    if is_beside:
        shutil.move(labels_file(root), root / "02-01.json")
    recording = first(root)
    got = recording.labels()
    np.testing.assert_array_equal(got.samples, expected.samples)
    np.testing.assert_array_equal(got.frame_time_s, expected.frame_time_s)
    assert all(path.is_file() for path in recording.files())


def test_device_rates_of_zero_are_missing(tmp_path: Path) -> None:
    """Pulse rates of 0 become NaN, and a warning counts them."""
    its = make(tmp_path / "raw", "pure", people=1, seconds=3.0, defects=("rate_codes",))
    labels = its.recordings[0].labels()
    assert np.isnan(labels.hr_bpm).sum() == 30
    assert "02-01.json: 30 of 201 device heart rates are missing" in labels.warnings


def test_only_whole_names_are_recordings(root: Path) -> None:
    """01-01 is a recording, 01-011 and x01-01 are not; 06-02 need not exist."""
    for name in ("01-011", "x01-01", "01-1"):
        (root / name).mkdir()
    assert [item.recording for item in sources.build("pure", root)] == ["02-01", "02-02"]


def test_the_second_talking_take_is_talking(root: Path) -> None:
    """07-07 of some copies is subject 07, task talking, and on a list of known defects."""
    (root / "07-07").mkdir()
    taken = sources.build("pure", root).recordings()[-1]
    assert (taken.recording, taken.subject, taken.conditions) == ("07-07", "07", {"task": "talking"})
    with pytest.raises(UserError, match="07-07: no pictures"):
        taken.files()


def test_labels_that_lost_their_folder_are_a_failure(root: Path) -> None:
    """A JSON beside a folder that is gone is a recording that fails by name, not one less."""
    shutil.copyfile(labels_file(root), root / "03-01.json")
    found = {item.recording: item for item in sources.build("pure", root)}
    assert list(found) == ["02-01", "02-02", "03-01"]
    with pytest.raises(UserError, match=r"03-01: .*a folder of pictures is needed"):
        found["03-01"].files()


@pytest.mark.parametrize("changes, message", [
    ({"/Image": None}, "not a PURE label file"),
    ({"/FullPackage": [{"Timestamp": 1.5, "Value": {}}]}, "'1.5' is not a time in nanoseconds"),
    ({"/FullPackage": [{"Timestamp": 1, "Value": {"waveform": 3, "pulseRate": "fast"}}]}, "ValueError"),
    ({"/FullPackage": []}, "0 label samples"),
])
def test_malformed_labels_are_named(changes: dict[str, Any], message: str, root: Path) -> None:
    """A JSON that is not PURE's is refused with its name and what is needed."""
    change(root, **changes)
    with pytest.raises(UserError, match=r"02-01\.json") as caught:
        first(root).labels()
    caught.match(message)


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    """A picture that was cut short fails the recording, by the picture's name."""
    its = make(tmp_path / "raw", "pure", people=1, seconds=3.0, defects=("damaged_picture",))
    with pytest.raises(UserError, match=r"Image\d+\.png"):
        extract(its.recordings[0], SETTINGS, NoSink(), lambda: None)


def test_a_wrong_root_says_what_was_looked_for(tmp_path: Path) -> None:
    """A missing root and an empty one are refused with what was expected."""
    with pytest.raises(UserError, match="no such folder"):
        sources.build("pure", tmp_path / "nowhere")
    with pytest.raises(UserError, match="no recordings; looked for folders such as 01-01"):
        sources.build("pure", tmp_path)
