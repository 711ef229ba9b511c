from __future__ import annotations

import re

import pytest

from preprocessing import defects
from preprocessing.sources import names
from utils.errors import UserError
from utils.files import safe_name
from utils.settings import RawSet

FILES = sorted(defects._FOLDER.glob("*.txt"))


def raw_set(**changes):
    return RawSet(**{"name": "made_up", "root": "nowhere", **changes})


@pytest.fixture
def lists(tmp_path, monkeypatch):
    """Two lists of a made-up dataset."""
    monkeypatch.setattr(defects, "_FOLDER", tmp_path)
    (tmp_path / "made_up.rates.txt").write_text("# from somewhere\nr1\tno rate\nr2\tno rate\n\n")
    (tmp_path / "made_up.do_not_show.txt").write_text("r3\tasked not to be shown\n")
    return tmp_path


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_lists_are_well_formed(path):
    """Each shipped list belongs to a dataset; each line is an id and its reason, no id twice."""
    dataset, name = path.stem.split(".")
    assert dataset in names() and re.fullmatch(r"[a-z0-9_]+", name)
    pairs = defects._read(path)
    assert pairs and all(reason for _, reason in pairs)
    assert len({safe_name(recording) for recording, _ in pairs}) == len(pairs)
    assert path.read_text(encoding="utf-8").startswith("#"), "the first line says where it is from"


def test_nothing_is_left_out_unless_asked(lists):
    """A known defect alone excludes nothing; it is known, though."""
    assert defects.left_out(raw_set()) == {}
    assert defects.known("made_up") == {"r1": "rates: no rate", "r2": "rates: no rate"}


def test_lists_are_left_out_with_their_reasons(lists):
    """An asked list leaves its recordings out, each with the list's name and reason."""
    gone = defects.left_out(raw_set(exclude=["r9"], exclude_lists=["rates"]))
    assert gone == {
        "r9": "left out by data.sets exclude",
        "r1": "left out by data.sets exclude_lists rates: no rate",
        "r2": "left out by data.sets exclude_lists rates: no rate",
    }


def test_unknown_list_is_refused(lists):
    """A list that does not exist is refused, naming those that do."""
    with pytest.raises(UserError, match=r"no list 'rate' of known defects.*rates"):
        defects.left_out(raw_set(exclude_lists=["rate"]))


def test_people_who_must_not_be_shown_are_no_defect(lists):
    """The list of people not to be pictured hides them and nothing else."""
    assert defects.hidden("made_up") == {"r3"}
    assert "r3" not in defects.known("made_up")
