"""synthesise: the demonstration set by default, any dataset's layout when asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

import main
from preprocessing import plan as planning
from preprocessing.synthetic import layouts
from utils.settings import RawSet


def test_a_layout_is_written_and_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """--layout writes a small copy and names each recording, its rate and what was planted in it."""
    words = ["--layout", "pure", "--people", "1", "--seconds", "2", "--defects", "late_label", "no_json"]
    assert main.main(["synthesise", str(tmp_path / "raw"), *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == ("02-01: subject 02, 62.0 bpm, 60 frames at 30.08 fps; planted: late_label, no_json; "
                        "label +250 ms; must fail")
    assert lines[1].startswith("02-02: subject 02, 79.0 bpm") and "planted" not in lines[1]
    assert (tmp_path / "raw/02-02/02-02.json").is_file() and not (tmp_path / "raw/02-01/02-01.json").exists()


@pytest.mark.parametrize("words, message", [
    (["--layout", "pur"], "did you mean \"pure\""),
    (["--people", "3"], "--people: needs --layout"),
    (["--layout", "pure", "--train", "3"], "--train: does not go with --layout"),
    (["--layout", "pure", "--people", "0"], "people = 0 must be 1 to"),
    (["--seconds", "0"], "between 1 and 3600"),
])
def test_wrong_requests_are_named(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """What cannot be made is exit code 2 with a sentence, and nothing is written."""
    assert main.main(["synthesise", str(tmp_path / "raw"), *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "raw").exists() or not list((tmp_path / "raw").iterdir())


def test_layouts_are_named_as_what_they_are(tmp_path, monkeypatch):
    """Recordings that only have a dataset's layout carry their origin into the store, and so into tables."""
    for name in layouts.names():
        layouts.build(name).write(tmp_path / name, 1, 2.0)
        found = planning._recordings(RawSet(name=name, root=str(tmp_path / name)))
        assert found and all(item.conditions["origin"] == "synthetic" for item in found), name
