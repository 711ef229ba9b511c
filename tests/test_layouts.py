"""Every dataset, as made by its fixture writer and read by its reader: people, times, rate and lag."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from preprocessing import sources
from preprocessing.extract import Extracted
from preprocessing.synthetic import layouts
from preprocessing.synthetic.layouts import Truth
from tests import made_sets
from tests.made_sets import Made
from utils.errors import UserError

NAMES = sources.names()
PLANTED = [(name, defect) for name in layouts.names() for defect in layouts.build(name).defects]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """Writes a set once."""
    known: dict[str, Made] = {}

    def get(name: str) -> Made:
        if name not in known:
            known[name] = made_sets.make(tmp_path_factory.mktemp(name) / "raw", name)
        return known[name]

    return get


@pytest.fixture(scope="module")
def results(made: Callable[[str], Made]) -> Callable[[str], list[tuple[Truth, Extracted]]]:
    """Extracts a set once: the truth and the result of each recording."""
    known: dict[str, list[tuple[Truth, Extracted]]] = {}

    def get(name: str) -> list[tuple[Truth, Extracted]]:
        if name not in known:
            its = made(name)
            known[name] = [
                (truth, made_sets.extracted(recording))
                for truth, recording in zip(its.truths, its.recordings, strict=True)
            ]
        return known[name]

    return get


def test_every_reader_has_a_writer() -> None:
    """For each dataset that can be read there is a layout, and no layout without a reader."""
    assert layouts.names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_reader_finds_what_was_written(name: str, made: Callable[[str], Made]) -> None:
    """Exactly the recordings of the truth, in its order, with its subjects and conditions."""
    its = made(name)
    found = [(item.recording, item.subject) for item in its.recordings]
    assert found == [(truth.recording, truth.subject) for truth in its.truths]
    for truth, item in zip(its.truths, its.recordings, strict=True):
        assert truth.conditions.items() <= item.conditions.items()
        assert item.dataset == name
    assert len({truth.subject for truth in its.truths}) == 2


@pytest.mark.parametrize("name", NAMES)
def test_all_inputs_are_named(name: str, made: Callable[[str], Made]) -> None:
    """files() names files that exist, inside the root, the same ones each time."""
    its = made(name)
    for item in its.recordings:
        paths = item.files()
        assert paths and paths == item.files()
        assert all(path.is_file() and its.root in path.parents for path in paths)


@pytest.mark.parametrize("name", NAMES)
def test_frames_and_times_are_the_datasets(name: str, results: Callable) -> None:
    """Number of frames and frame rate are those that were written; the times rise."""
    for truth, got in results(name):
        assert len(got.arrays["frame_time_s"]) == truth.n_frames, truth.recording
        assert got.attributes["fps"] == pytest.approx(truth.fps, rel=1e-3), truth.recording
        assert (np.diff(got.arrays["frame_time_s"]) > 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_label_has_the_known_rate(name: str, results: Callable) -> None:
    """The label at its own rate gives the known mean heart rate within 1 bpm."""
    for truth, got in results(name):
        time_s = got.arrays["label_time_s"]
        inside = (time_s >= -0.1) & (time_s <= got.arrays["frame_time_s"][-1] + 0.1)
        rate = made_sets.label_rate_bpm(got.arrays["label"][inside], time_s[inside])
        assert rate == pytest.approx(truth.rate_bpm, abs=1.0), truth.recording


@pytest.mark.parametrize("name", NAMES)
def test_the_device_rate_is_the_known_one(name: str, results: Callable) -> None:
    """Where the set has a device rate, its mean is the known one within 2 bpm."""
    for truth, got in results(name):
        if "hr_bpm" in got.arrays and np.isfinite(got.arrays["hr_bpm"]).any():
            inside = got.arrays["hr_time_s"] <= got.arrays["frame_time_s"][-1] + 0.1
            assert np.nanmean(got.arrays["hr_bpm"][inside]) == pytest.approx(truth.rate_bpm, abs=2.0)


@pytest.mark.parametrize("name", NAMES)
def test_the_skin_has_the_known_rate_and_lag(name: str, results: Callable) -> None:
    """POS on the frames gives the known rate within 1.5 bpm, and the label its known lag within a frame.

    (The skin's rate is a spectral peak of ten noisy seconds; the label's own is held to 1 bpm above.)
    """
    for truth, got in results(name):
        assert made_sets.skin_rate_bpm(got) == pytest.approx(truth.rate_bpm, abs=1.5), truth.recording
        if np.isfinite(got.arrays["pulse"]).any():
            lag_s = made_sets.lag_s(got)
            assert lag_s == pytest.approx(truth.lag_s, abs=1 / truth.fps), truth.recording


def digest(root: Path) -> str:
    state = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        state.update(str(path.relative_to(root)).encode())
        state.update(path.read_bytes() if path.is_file() else b"")
    return state.hexdigest()


@pytest.mark.parametrize("name", layouts.names())
def test_the_same_seed_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    """Two sets of one seed are the same files byte for byte; another seed gives others."""
    kept = [digest_of(tmp_path / str(index), name, seed) for index, seed in enumerate((0, 0, 1))]
    assert kept[0] == kept[1] != kept[2]


def digest_of(root: Path, name: str, seed: int) -> str:
    layouts.build(name).write(root, 1, 2.0, seed)
    return digest(root)


@pytest.mark.parametrize("name", layouts.names())
def test_wrong_requests_are_refused(name: str, tmp_path: Path) -> None:
    """Unknown defects, impossible numbers and folders that are not empty are refused by name."""
    layout = layouts.build(name)
    with pytest.raises(UserError, match="cannot plant no_such_defect; known: "):
        layout.write(tmp_path, defects=["no_such_defect"])
    with pytest.raises(UserError, match="people = 0 must be 1 to"):
        layout.write(tmp_path, people=0)
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="not empty"):
        layout.write(tmp_path)


def test_truth_can_be_kept(tmp_path: Path) -> None:
    """What is written of the truth is read back."""
    truth = Truth("p1_rest", "p1", 71.5, 300, 29.97, 0.25, {"task": "rest"}, False, "late_label")
    layouts.write_truth(tmp_path / "truth.json", [truth])
    assert layouts.read_truth(tmp_path / "truth.json") == [truth]


@pytest.mark.slow
@pytest.mark.parametrize("name, defect", PLANTED, ids=lambda word: str(word))
def test_a_planted_defect_is_as_the_truth_says(name: str, defect: str, tmp_path: Path) -> None:
    """What is unusable is refused with a sentence; the rest is read, with its frames and its lag."""
    its = made_sets.make(tmp_path / "raw", name, people=2, defects=(defect,))
    assert [item.recording for item in its.recordings] == [truth.recording for truth in its.truths]
    planted = [pair for pair in zip(its.truths, its.recordings, strict=True) if pair[0].defect]
    assert planted, "nothing was planted"
    for truth, recording in planted:
        if not truth.usable:
            with pytest.raises(UserError):
                recording.files()
                made_sets.extracted(recording)
            continue
        got = made_sets.extracted(recording)
        assert len(got.arrays["frame_time_s"]) == truth.n_frames
        upright = "inverted_label" not in truth.defect
        if upright and np.isfinite(got.arrays["pulse"]).any() and np.ptp(np.nan_to_num(got.arrays["pulse"])):
            assert made_sets.lag_s(got) == pytest.approx(truth.lag_s, abs=1 / truth.fps)
