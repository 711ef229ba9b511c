"""What was odd about recordings reaches who runs and who reads: when made, when reused, in the report."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dataset.index import load_infos
from dataset.split import Parts, make_split
from evaluation.report.page import _warnings
from preprocessing.report import Announcer, warnings_in_words, warnings_line
from tests.fake_source import NAME, fill, good_store, write_raw
from utils.files import read_json, write_json
from utils.settings import Split

LINE = (f"warning: store {NAME}: 3 recordings have warnings (such as {NAME}.p1: a word of warning); all: "
        "python main.py audit, or the store's manifest.json")


@pytest.fixture
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three good recordings, each with a warning, and their store, which no test may change."""
    return good_store(tmp_path_factory.getbasetemp())


def test_a_recording_with_warnings_is_named_when_it_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two new recordings are two lines, and there is nothing left for a third one to count."""
    write_raw(tmp_path / "raw", {"a": "good", "b": "good", "c": "refuse"})
    fill(tmp_path / "raw", tmp_path / "store")
    lines = [line for line in capsys.readouterr().err.splitlines() if "a word" in line or "have warn" in line]
    assert sorted(lines) == [f"warning: {NAME}.{key}: a word of warning" for key in "ab"]


def test_a_reused_store_says_in_a_line_what_it_holds(
    filled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is made, and still the warnings are counted and one of them is told."""
    fill(filled / "raw", filled / "store")
    assert capsys.readouterr().err.splitlines() == [LINE]


def test_what_is_left_out_or_failed_is_not_counted(
    filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the recordings that can be used are warned of."""
    shutil.copytree(filled, tmp_path / "copy")
    fill(tmp_path / "copy" / "raw", tmp_path / "copy" / "store", exclude=["p1", "p2"])
    assert f"1 recording has warnings (such as {NAME}.p10: a word" in capsys.readouterr().err


def test_many_recordings_do_not_flood(capsys: pytest.CaptureFixture[str]) -> None:
    """Ten lines of one kind; a new kind still gets its line after them, but never more than twenty lines."""
    announcer, warned = Announcer(), {f"a.r{n}": [f"r{n}: {n} frames lie there"] for n in range(30)}
    for key, warnings in warned.items():
        announcer.made(key, warnings)
    announcer.made("a.odd", ["odd: 3 frames lie there", "odd: the face is black"])
    announcer.made("a.fine", [])
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["warning: a.r0: 0 frames lie there", "warning: a.r1: 1 frames lie there"]
    assert len(lines) == 11 and lines[-1] == "warning: a.odd: the face is black (and 1 more)"
    for letter in "bcdefghijklmnopqrst":
        announcer.made(f"a.rec_{letter}", [f"of {letter} kind", f"{letter}{letter}"])
    assert len(capsys.readouterr().err.splitlines()) == 20 - 11
    assert warnings_line(warned, announcer.named).startswith("30 recordings have warnings (such as a.r0: 0 ")


def test_the_line_shows_the_rarest_kind() -> None:
    """What every recording of a set has does not hide what one has; without warnings there is no line."""
    common = {f"a.{n}": ["no face mesh"] for n in range(9)}
    line = warnings_line({**common, "a.7": ["no face mesh", "7: 12.5 s are dark"]}, set())
    assert line.startswith("9 recordings have warnings (such as a.7: 12.5 s are dark)")
    assert warnings_line(common, set(common)) == "" and warnings_line({"a.0": []}, set()) == ""


def test_sentences_are_by_kind_and_few() -> None:
    """One sentence a kind, the rarest first; names and kinds beyond ten are counted."""
    warned = {f"a.{n}": [f"{n}: {n} frames are black"] for n in range(12)}
    warned["a.3"] = ["3: 3 frames are black", "3: it is dark"]
    assert warnings_in_words(warned) == [
        "preprocessing: it is dark (a.3)",
        "preprocessing: 0 frames are black (this or alike in 12 recordings: "
        + ", ".join(f"a.{n}" for n in range(10)) + " and 2 more)",
    ]
    kinds = warnings_in_words({"a.r": [f"of kind {letter}" for letter in "abcdefghijkl"]})
    assert len(kinds) == 11 and kinds[-1].startswith("preprocessing: warnings of 2 more kinds; all: ")
    assert warnings_in_words({"a.r": []}) == []


def test_the_report_tells_the_warnings_of_a_run(filled: Path, tmp_path: Path) -> None:
    """From the manifest over the split and metrics.json to what stands above the numbers of the page."""
    infos = load_infos(filled / "store", [NAME])
    parts = make_split(infos, Split(scheme="lists", lists={"train": ["p1"], "test": ["p2"]}), 0)
    warned = {info.key: info.warnings for name in parts.parts for info in parts.select(infos, name)}
    parts.preprocessing_warnings = warnings_in_words(warned)
    write_json(tmp_path / "split.json", parts.to_json())
    again = Parts.from_json(read_json(tmp_path / "split.json"))
    sentence = f"preprocessing: a word of warning (this or alike in 2 recordings: {NAME}.p1, {NAME}.p2)"
    assert _warnings({"split": again.about()}, []) == ["in no part: 1 recording: made_up.p10", sentence]
