"""COHFACE's quirks: 20 fps, 256 Hz, copies in deeper folders, and HDF5 from anyone."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from preprocessing import sources
from preprocessing.synthetic.avi import write_avi
from preprocessing.synthetic.layouts import make_take
from tests.made_sets import extracted, make
from utils.errors import UserError

SECONDS = 4.0


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("cohface") / "raw", "cohface", people=2, seconds=SECONDS).root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make(tmp_path / "raw", "cohface", people=1, seconds=2.0).root


def one(root: Path) -> sources.RawRecording:
    return sources.build("cohface", root).recordings()[0]


def test_twenty_frames_a_second(shared: Path) -> None:
    """The frames are 1/20 s apart, never 1/30."""
    got = extracted(one(shared))
    assert got.attributes["fps"] == pytest.approx(20.0)
    assert len(got.arrays["frame_time_s"]) == SECONDS * 20


def test_pulse_and_respiration_at_256_hz(shared: Path) -> None:
    """Both series run at 256 Hz from the video's start, and are the true ones."""
    labels = one(shared).labels()
    take = make_take(0, 0, 0, SECONDS)
    np.testing.assert_allclose(np.diff(labels.time_s), 1 / 256)
    assert np.corrcoef(labels.samples, take.pulse(labels.time_s))[0, 1] > 0.9999
    assert np.corrcoef(labels.resp, take.respiration(labels.resp_time_s))[0, 1] > 0.9999
    assert labels.warnings == ()


def test_subjects_and_light(shared: Path) -> None:
    """Subject by session in natural order; sessions 0 and 1 in lamp light, 2 and 3 in natural light."""
    found = sources.build("cohface", shared).recordings()
    assert [item.recording for item in found] == ["1-0", "1-2", "10-0", "10-2"]
    assert [item.subject for item in found] == ["1", "1", "10", "10"]
    assert [item.conditions["light"] for item in found] == ["lamp", "natural"] * 2


def test_copies_in_deeper_folders_are_no_recordings(tmp_path: Path) -> None:
    """A recording that lies in its folder once more is found once; protocols are no people."""
    made = make(tmp_path / "raw", "cohface", people=1, seconds=2.0, defects=("nested_copy",))
    assert len(list(made.root.rglob("data.avi"))) == 3
    assert [item.recording for item in made.recordings] == ["1-0", "1-2"]
    (made.root / "1" / "3").write_text("a file and no session")
    assert len(sources.build("cohface", made.root).recordings()) == 2


def test_a_copy_with_mkv_only(root: Path) -> None:
    """Some copies hold data.mkv instead of data.avi; where both are, data.avi is read."""
    assert one(root).files()[0].name == "data.avi"
    (root / "1/0/data.avi").rename(root / "1/0/data.mkv")
    assert one(root).files()[0].name == "data.mkv"
    assert len(list(one(root).open_frames())) == 40


def test_contradicting_times_are_named(tmp_path: Path) -> None:
    """Times in milliseconds against a stated 256 Hz: the rate is used, with a warning."""
    made = make(tmp_path / "raw", "cohface", people=1, seconds=2.0, defects=("millisecond_times",))
    labels = one(made.root).labels()
    np.testing.assert_allclose(np.diff(labels.time_s), 1 / 256)
    assert labels.warnings == (
        "data.hdf5: 0.256 samples a second by its times, 256 by its rate, which was used",)


def test_times_that_start_late_start_with_the_video(root: Path) -> None:
    """The first sample is the video's start, whatever the clock said."""
    with h5py.File(root / "1/0/data.hdf5", "r+") as opened:
        opened["time"][:] = opened["time"][:] + 1234.5
    labels = one(root).labels()
    assert labels.time_s[0] == 0
    assert labels.warnings == ()


def test_another_container_rate_is_named(root: Path) -> None:
    """A copy whose video says 25 frames a second is read by its stamps, and named."""
    frames = (np.full((48, 48, 3), 90, np.uint8) for _ in range(40))
    write_avi(root / "1/0/data.avi", frames, fps=25.0, codec="mjpeg", quality=90)
    assert "data.avi: the container says 25.00 frames a second, COHFACE has 20" in one(root).labels().warnings


@pytest.mark.parametrize("defect, message", [
    ("external_link", "pulse: an external link, not followed"),
    ("unequal_series", "samples of pulse, .* of respiration, .* must be as many"),
])
def test_wrong_label_files_are_refused(tmp_path: Path, defect: str, message: str) -> None:
    """A link out of the file and series of different lengths are refused by name; the rest is read."""
    made = make(tmp_path / "raw", "cohface", people=1, seconds=2.0, defects=(defect,))
    with pytest.raises(UserError, match=message):
        made.recordings[0].labels()
    assert len(made.recordings[1].labels().samples)


def test_what_is_no_series_is_refused(root: Path) -> None:
    """A missing dataset, one of two dimensions and a file that is no HDF5 are refused by name."""
    path = root / "1/0/data.hdf5"
    with h5py.File(path, "r+") as opened:
        del opened["pulse"]
    with pytest.raises(UserError, match="pulse: not in the file"):
        one(root).labels()
    with h5py.File(path, "r+") as opened:
        opened["pulse"] = np.zeros((4, 4))
    with pytest.raises(UserError, match=r"pulse has shape \(4, 4\)"):
        one(root).labels()
    path.write_bytes(b"pulse")
    with pytest.raises(UserError, match="data.hdf5"):
        one(root).labels()


def test_a_wrong_root_says_what_was_looked_for(tmp_path: Path) -> None:
    """A folder without subjects is refused with what is needed."""
    (tmp_path / "protocols").mkdir()
    with pytest.raises(UserError, match="looked for folders 1/0"):
        sources.build("cohface", tmp_path)


def test_damaged_bytes_never_end_in_a_traceback(root: Path) -> None:
    """Whatever byte of the HDF5 file is wrong, it is read or refused with a sentence."""
    path = root / "1/0/data.hdf5"
    whole = path.read_bytes()
    refused = 0
    for place in range(0, min(len(whole), 3000), 29):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            one(root).labels()
        except UserError:
            refused += 1
    assert refused > 10
