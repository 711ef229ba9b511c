"""ECG-Fitness' quirks: frames by sample number, rates in a signed byte, NaN, two cameras, subject 11."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from preprocessing import sources
from tests.made_sets import extracted, make
from utils.errors import UserError

SECONDS = 5.0


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("fitness") / "raw", "ecg_fitness", people=2, seconds=SECONDS).root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make(tmp_path / "raw", "ecg_fitness", people=1, seconds=2.0).root


def one(root: Path, **options: str) -> sources.RawRecording:
    return sources.build("ecg_fitness", root, **options).recordings()[0]


def signals(root: Path) -> Path:
    return root / "00/01/viatom-raw.csv"


def test_two_cameras_one_subject(shared: Path) -> None:
    """Both cameras of a session are recordings of one subject, with the same labels."""
    found = sources.build("ecg_fitness", shared).recordings()
    assert [item.recording for item in found] == [
        "00-01-c920-1", "00-01-c920-2", "11-01-c920-1", "11-01-c920-2"]
    assert [item.subject for item in found] == ["00", "00", "11", "11"]
    assert [item.conditions["camera"] for item in found] == ["tripod", "machine"] * 2
    np.testing.assert_array_equal(found[0].labels().samples, found[1].labels().samples)


def test_subject_11_did_it_the_other_way_round(shared: Path) -> None:
    """In session 01 subject 11 rows, where all others talk; light and session stay."""
    conditions = {item.subject: item.conditions for item in sources.build("ecg_fitness", shared)}
    assert conditions["00"]["task"] == "talk"
    assert conditions["11"]["task"] == "row"
    assert conditions["11"]["session"] == "01" and conditions["11"]["light"] == "daylight"


def test_frames_have_their_samples_times(shared: Path) -> None:
    """A frame's time is that of the meter's sample which c920.csv assigns to it."""
    labels = one(shared).labels()
    index = [int(line.split(",")[1]) for line in (shared / "00/01/c920.csv").read_text().split()]
    ms = [float(line.split(",")[0]) for line in signals(shared).read_text().split()]
    expected = (np.array(ms)[index] - ms[index[0]]) / 1000
    np.testing.assert_allclose(labels.frame_time_s, expected, atol=1e-9)
    assert labels.time_s[0] < -2


def test_negative_rates_lack_256(shared: Path) -> None:
    """138 bpm stored in a signed byte is read as 138, not as missing and not as -118."""
    assert ",-118," in signals(shared).read_text()
    labels = one(shared).labels()
    assert np.nanmean(labels.hr_bpm) == pytest.approx(138, abs=2)
    assert len(labels.hr_bpm) == len(labels.hr_time_s)
    assert labels.hr_time_s[0] >= 0 and labels.hr_time_s[-1] <= labels.frame_time_s[-1]


def test_the_tail_of_nan_is_left_out(shared: Path) -> None:
    """The label ends where the signal does, without a warning; it holds no NaN."""
    labels = one(shared).labels()
    assert "nan" in signals(shared).read_text()
    assert np.isfinite(labels.samples).all()
    assert not any("missing samples" in text for text in labels.warnings)


def test_the_meter_may_run_on_for_long(root: Path) -> None:
    """Minutes of signal after the video are no error: c920.csv says which samples are its frames'."""
    lines = signals(root).read_text().splitlines()
    stop_ms, (_, *rest) = float(lines[-1].split(",")[0]), lines[0].split(",")
    more = [",".join([f"{stop_ms + 8 * k:.0f}", *rest]) for k in range(1, 15_000)]
    signals(root).write_text("\n".join([*lines, *more]) + "\n")
    got = extracted(one(root))
    assert got.attributes["duration_label_s"] > 100 and got.attributes["duration_video_s"] < 3


def test_missing_samples_inside_are_a_gap(root: Path) -> None:
    """NaN amid the pulse is no value: the frames there get NaN, and the others keep their times."""
    lines = signals(root).read_text().splitlines()
    for k in range(400, 490):
        lines[k] = lines[k].rpartition(",")[0] + ","
    signals(root).write_text("\n".join(lines))
    labels = one(root).labels()
    assert "viatom-raw.csv: 90 missing samples inside the PPG" in labels.warnings
    got = extracted(one(root))
    inside = (got.arrays["frame_time_s"] > labels.time_s[399] + 0.01) & (
        got.arrays["frame_time_s"] < labels.time_s[400] - 0.01)
    assert inside.any() and np.isnan(got.arrays["pulse"][inside]).all()
    assert np.isfinite(got.arrays["pulse"][~inside]).sum() > 20


def test_the_ecg_is_an_option(shared: Path) -> None:
    """label "ecg" gives the rate of its R peaks and no pulse."""
    labels = one(shared, label="ecg").labels()
    assert labels.kind == "ecg"
    assert np.median(labels.samples) < 0.1 < 0.9 < labels.samples.max() < 1.3, "not the ECG"
    assert np.nanmean(labels.hr_bpm) == pytest.approx(138, abs=1.5)
    assert np.isnan(extracted(one(shared, label="ecg")).arrays["pulse"]).all()


def test_samples_counted_from_one(root: Path) -> None:
    """When the last sample's number is that of the rows, numbers count from 1."""
    n = len(signals(root).read_text().splitlines())
    (root / "00/01/c920.csv").write_text("\n".join(str(k) for k in range(n - 60, n + 1, 4)))
    ms = [float(line.split(",")[0]) for line in signals(root).read_text().split()]
    labels = one(root).labels()
    assert labels.frame_time_s[-1] == pytest.approx((ms[-1] - ms[n - 61]) / 1000)


def test_column_names_are_passed_over(root: Path) -> None:
    """A line of column names at the top of either file changes nothing."""
    before = one(root).labels()
    for path, names in ((signals(root), "ms,ecg,hr,ppg\n"), (root / "00/01/c920.csv", "frame,sample\n")):
        path.write_text(names + path.read_text())
    after = one(root).labels()
    np.testing.assert_array_equal(before.samples, after.samples)
    np.testing.assert_array_equal(before.frame_time_s, after.frame_time_s)


@pytest.mark.parametrize("name, text, message", [
    ("c920.csv", "0,1\n1,99999\n", "whole numbers from 0 to"), ("c920.csv", "0,1.5\n1,3\n", "whole numbers"),
    ("c920.csv", "0,-4\n1,3\n", "whole numbers"),
    ("viatom-raw.csv", "0,1,2\n8,1,2\n", "row 1 lacks some of"),
    ("viatom-raw.csv", "nan,1,2,3\n8,1,2,3\n", "times are missing, 1 of 2"),
    ("viatom-raw.csv", "0,1,x,3\n", r"column 3: value 1, 'x'"),
])
def test_malformed_files_are_named(root: Path, name: str, text: str, message: str) -> None:
    """Each malformed file is an error with its name and what is wrong."""
    (root / "00/01" / name).write_text(text)
    with pytest.raises(UserError, match=rf"{name}.*{message}"):
        one(root).labels()


@pytest.mark.parametrize("name", ["c920-1.avi", "c920.csv", "viatom-raw.csv"])
def test_what_lacks_a_file_fails_by_name(root: Path, name: str) -> None:
    """A session without one of its files is listed and refused."""
    (root / "00/01" / name).unlink()
    with pytest.raises(UserError, match=name):
        extracted(one(root))


def test_the_count_is_held_against_a_whole_copy(root: Path) -> None:
    """What a copy lacks of the 100 sessions is told."""
    assert sources.build("ecg_fitness", root).notes() == ["1 of 100 sessions"]


def test_a_wrong_root_says_what_was_looked_for(tmp_path: Path) -> None:
    """A folder without sessions is refused with what is needed."""
    with pytest.raises(UserError, match="looked for folders 00/01"):
        sources.build("ecg_fitness", tmp_path)
