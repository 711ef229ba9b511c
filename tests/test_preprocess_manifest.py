"""What a filled store holds agrees with its manifest, however many workers filled it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from preprocessing import run
from preprocessing.manifest import Manifest
from preprocessing.store import StoredRecording
from preprocessing.work import mean_rate_bpm
from tests import fake_source
from tests.fake_source import NAME, checksums, fill, good_store, manifest_of, registered, write_raw
from utils.errors import UserError
from utils.settings import RawSet


@pytest.fixture
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three good recordings and their store, which no test may change."""
    return good_store(tmp_path_factory.getbasetemp())


def test_lines_are_kept_one_by_one(filled: Path, tmp_path: Path) -> None:
    """A program that ends while it fills a store loses no line that was added; a torn one is left out."""
    entries = manifest_of(filled / "store")
    manifest = Manifest(tmp_path / "manifest.json")
    for key in ("p1", "p2"):
        manifest.add(key, entries[key])
    assert Manifest(tmp_path / "manifest.json").entries == {key: entries[key] for key in ("p1", "p2")}
    journal = tmp_path / "manifest.journal"
    journal.write_text(journal.read_text() + '["p10", {"status": "do')
    again = Manifest(tmp_path / "manifest.json")
    assert list(again.entries) == ["p1", "p2"] and not again.is_published()
    again.write()
    assert not journal.exists() and again.is_published()
    assert Manifest(tmp_path / "manifest.json").entries == again.entries


@pytest.mark.parametrize("line", ["[]", '["p1"]', '["../p1", {"status": "failed", "reason": ""}]', "["])
def test_a_damaged_journal_is_named(tmp_path: Path, line: str) -> None:
    """A whole line that is none of a manifest is refused by the file's name."""
    (tmp_path / "manifest.journal").write_text(line + "\n")
    with pytest.raises(UserError, match="manifest.journal"):
        Manifest(tmp_path / "manifest.json")


def test_the_line_describes_the_recording(filled: Path) -> None:
    """What split and table need stands in the manifest, and agrees with the file."""
    entry = manifest_of(filled / "store")["p1"]
    expected = {
        "subject": "p1", "recording": "p1", "dataset": NAME, "conditions": {"light": "dim"}, "n_frames": 40,
        "fps": 30.0, "duration_s": 1.3, "size": 16, "label_kind": "ppg", "has_label": True,
        "hr_mean_bpm": 72.0, "warnings": ["a word of warning"], "file": "p1.h5",
    }
    assert {key: entry[key] for key in expected} == expected
    attributes = StoredRecording(filled / "store" / NAME / "p1.h5").attributes
    assert attributes["settings_hash"] == entry["settings_hash"]
    assert json.loads(attributes["settings"]) == entry["settings"]
    assert json.loads(attributes["identity"]) == entry["identity"]
    assert (attributes["condition.light"], attributes["region_names"]) == ("dim", ["chin"])


def test_the_number_of_workers_does_not_change_a_byte(filled: Path, tmp_path: Path) -> None:
    """One worker and two make the same files and the same manifest."""
    fill(filled / "raw", tmp_path / "store", workers=1)
    assert checksums(tmp_path / "store") == checksums(filled / "store")
    assert manifest_of(tmp_path / "store") == manifest_of(filled / "store")


def test_the_true_extraction_fills_the_store(tmp_path: Path) -> None:
    """Crops by declaration go through the project's own extraction into the store unchanged."""
    write_raw(tmp_path / "raw", {"a": "good"}, n_frames=70)
    sets = [RawSet(name=NAME, root=str(tmp_path / "raw"))]
    with registered():
        report = run.preprocess(sets, tmp_path / "store", fake_source.settings(), progress=False)
    assert report.done == [f"{NAME}.a"]
    stored = StoredRecording(tmp_path / "store" / NAME / "a.h5")
    assert np.array_equal(stored.read_frames(0, 70), np.load(tmp_path / "raw" / "a.npy"))
    assert stored.array("frame_time_s").shape == (70,)
    entry = manifest_of(tmp_path / "store")["a"]
    assert (entry["has_label"], entry["label_kind"], entry["hr_mean_bpm"]) == (False, "none", None)


@pytest.mark.parametrize("rate_bpm", [48.0, 72.5, 150.0])
def test_the_mean_rate_of_a_label_is_right(rate_bpm: float) -> None:
    """Within half a beat, with a harmonic and NaN at the start; unlabelled recordings have none."""
    time_s = np.arange(900) / 30
    phase = 2 * np.pi * rate_bpm / 60 * time_s
    pulse = np.sin(phase) + 0.4 * np.sin(2 * phase)
    pulse[:20] = np.nan
    assert mean_rate_bpm(pulse, 30.0) == pytest.approx(rate_bpm, abs=0.5)
    assert mean_rate_bpm(np.full(900, np.nan), 30.0) is None
    assert mean_rate_bpm(np.zeros(900), 30.0) is None
    assert mean_rate_bpm(None, 30.0) is None
