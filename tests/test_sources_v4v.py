"""V4V's quirks: files of two phases, rates on long lines, pressure at 1 kHz, MKV without a count."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from preprocessing import sources
from preprocessing.sources import v4v
from preprocessing.synthetic.layouts import make_take
from preprocessing.synthetic.mkv import write_mkv
from preprocessing.video import VideoReader
from tests.made_sets import extracted, make
from utils.errors import UserError

SECONDS = 4.0
FIRST = "Phase 1_ Training_Validation sets"
RATES = f"{FIRST}/Ground truth/Physiology/F001_T2.txt"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("v4v") / "raw", "v4v", people=3, seconds=SECONDS).root


@pytest.fixture
def root(shared: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(shared, tmp_path / "raw"))


def one(root: Path, key: str = "F001_T2", **options: str) -> sources.RawRecording:
    return next(item for item in sources.build("v4v", root, **options) if item.recording == key)


def test_recordings_of_both_phases(shared: Path) -> None:
    """Training, validation and test are found and named; T2 comes before T10; people are BP4D+'s."""
    found = sources.build("v4v", shared).recordings()
    assert [item.recording for item in found] == ["F001_T2", "F001_T10", "F012_T1", "M017_T1"]
    assert [item.conditions["part"] for item in found] == ["train", "train", "test", "valid"]
    assert [item.subject for item in found] == ["F001", "F001", "F012", "M017"]
    assert {item.people for item in found} == {"bp4d"}


@pytest.mark.parametrize("key", ["F001_T2", "F012_T1", "M017_T1"])
def test_rates_are_one_a_frame(shared: Path, key: str) -> None:
    """The HR line, never the RR line, at 25 a second; from Physiology or from a release file."""
    labels = one(shared, key).labels()
    assert len(labels.hr_bpm) == SECONDS * 25
    assert labels.hr_bpm.min() > 50
    np.testing.assert_allclose(np.diff(labels.hr_time_s), 0.04)
    np.testing.assert_allclose(labels.frame_time_s, labels.hr_time_s)
    assert len(labels.resp) == 0


def test_the_right_line_of_a_release_file(shared: Path) -> None:
    """A video's rates are those after its own name, also where another's name begins alike."""
    release = shared / "Phase 2_ Testing set" / "test_set_gt_release.txt"
    own = one(shared, "F012_T1").labels().hr_bpm
    text = release.read_text()
    release.write_text("F012_T10.mkv, HR, " + ", ".join(["44"] * 100) + "\n" + text)
    try:
        np.testing.assert_array_equal(one(shared, "F012_T1").labels().hr_bpm, own)
    finally:
        release.write_text(text)


def test_pressure_ends_with_the_video(shared: Path) -> None:
    """The pressure, 1 kHz and longer than the video, is cut where the rates end; it is the true pulse."""
    labels = one(shared).labels()
    assert labels.kind == "bp"
    assert len(labels.samples) == SECONDS * 1000
    true = make_take(0, 0, 0, SECONDS).pulse(labels.time_s)
    assert np.corrcoef(labels.samples, true)[0, 1] > 0.9999


def test_the_container_states_no_count(shared: Path) -> None:
    """A Matroska file's estimate of its length is not taken for a count; stamps are its own."""
    reader = one(shared).open_frames()
    assert reader.n_declared is None
    assert sum(1 for _ in reader) == SECONDS * 25
    np.testing.assert_allclose(reader.time_s, np.arange(100) / 25, atol=1e-6)


def test_mkv_files_are_what_they_claim(tmp_path: Path) -> None:
    """The fixture's writer makes files that the decoder reads back, frame by frame."""
    frames = [np.full((48, 64, 3), 10 * k, dtype=np.uint8) for k in range(12)]
    assert write_mkv(tmp_path / "a.mkv", frames, fps=25.0, quality=95) == 12
    got = [int(frame.mean()) for frame in VideoReader(tmp_path / "a.mkv")]
    assert np.abs(np.array(got) - 10 * np.arange(12)).max() <= 1


def test_a_video_of_another_length_is_refused(tmp_path: Path) -> None:
    """A rate a frame: a video that lacks a fifth is refused, unless the container's stamps are asked for."""
    made = make(tmp_path / "raw", "v4v", people=1, seconds=SECONDS, defects=("short_video",))
    with pytest.raises(UserError, match="80 frames but 100 frame times"):
        extracted(one(made.root))
    got = extracted(one(made.root, time_base="container"))
    assert len(got.arrays["frame_time_s"]) == 80


def test_black_frames_are_named(tmp_path: Path) -> None:
    """Black frames are counted in a warning."""
    made = make(tmp_path / "raw", "v4v", people=1, seconds=SECONDS, defects=("black_frames",))
    assert any("black in 8 frames" in text for text in extracted(one(made.root)).warnings)


def test_missing_labels_fail_by_name(root: Path) -> None:
    """Without its pressure, and without a line of rates, a recording fails; the other is read."""
    (root / f"{FIRST}/Ground truth/BP_raw_1KHz/F001-T2-BP.txt").unlink()
    with pytest.raises(UserError, match="F001_T2: no blood pressure; looked for F001-T2-BP.txt"):
        one(root).labels()
    (root / RATES).write_text("F001_T2.mkv, RR, 14, 15\n")
    (root / f"{FIRST}/Ground truth/BP_raw_1KHz/F001-T2-BP.txt").write_text("90\n91\n")
    with pytest.raises(UserError, match=r"no heart rates; looked for a line 'F001_T2.mkv, HR, ...' in F"):
        one(root).labels()
    assert len(one(root, "F001_T10").labels().samples)


def test_a_word_among_the_rates_is_named(root: Path) -> None:
    """A rate that is no number is named with its file."""
    (root / RATES).write_text("F001_T2.mkv, HR, 70, high\n")
    with pytest.raises(UserError, match=r"F001_T2.txt, HR of F001_T2.mkv: value 2, ' high', is not a number"):
        one(root).labels()


def test_an_endless_line_is_not_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line longer than any recording is refused before it fills the memory."""
    monkeypatch.setattr(v4v, "_LINE_BYTES", 1000)
    (root / RATES).write_text("F001_T2.mkv, HR" + ", 70" * 2000)
    with pytest.raises(UserError, match="a line of more than 1,000 characters"):
        one(root).labels()


def test_labels_without_a_video_are_noted(root: Path) -> None:
    """What has labels but no video is no recording, and is told."""
    assert sources.build("v4v", root).notes() == []
    (root / FIRST / "Videos/train-001_of_002/F001_T10.mkv").unlink()
    assert sources.build("v4v", root).notes() == [
        "1 recordings have labels but no video, the first is F001_T10"]


def test_a_wrong_root_says_what_was_looked_for(tmp_path: Path) -> None:
    """A folder without a video of the set is refused with what is needed."""
    with pytest.raises(UserError, match="looked for F001_T1.mkv"):
        sources.build("v4v", tmp_path)
