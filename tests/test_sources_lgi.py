"""LGI-PPGI's quirks: XML that is not trusted, an oximeter that starts early, two kinds of times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from preprocessing import sources
from preprocessing.sources.lgi_ppgi import read_values
from tests.made_sets import make
from utils.errors import UserError


def test_surplus_samples_at_the_start_are_left_out(tmp_path: Path) -> None:
    """The oximeter's samples end with the video; those before the first frame are counted and dropped."""
    labels = make(tmp_path / "raw", "lgi_ppgi", people=1, seconds=3.0).recordings[0].labels()
    assert labels.time_s[-1] == labels.frame_time_s[-1]
    assert -1 / 60 <= labels.time_s[0] < 1 / 60
    assert any("samples before the first frame are left out" in text for text in labels.warnings)


def test_both_kinds_of_times_are_the_same(tmp_path: Path) -> None:
    """A timer that holds the milliseconds of each frame gives the times of one that counts from the start."""
    since_start = make(tmp_path / "a", "lgi_ppgi", people=1, seconds=3.0)
    of_each = make(tmp_path / "b", "lgi_ppgi", people=1, seconds=3.0, defects=("durations",))
    resting = [its.recordings[1].labels() for its in (since_start, of_each)]
    np.testing.assert_allclose(resting[0].frame_time_s, resting[1].frame_time_s, atol=1e-9)


def test_device_codes_are_missing(tmp_path: Path) -> None:
    """127 and 0 are no rates of a heart that beats at 62."""
    its = make(tmp_path / "raw", "lgi_ppgi", people=1, seconds=3.0, defects=("rate_codes",))
    labels = its.recordings[1].labels()
    assert np.isnan(labels.hr_bpm[-40:]).all() and np.isfinite(labels.hr_bpm[:-40]).all()


def test_only_the_persons_own_activities_count(tmp_path: Path) -> None:
    """alex_gym is read in alex; bob_gym in alex and alex_sleeping are no recordings."""
    for name in ("alex_gym", "bob_gym", "alex_sleeping"):
        (tmp_path / "alex" / name).mkdir(parents=True)
    assert [item.recording for item in sources.build("lgi_ppgi", tmp_path)] == ["alex_gym"]


@pytest.mark.parametrize("text, message", [
    ('<!DOCTYPE s [<!ENTITY a "b"><!ENTITY c "&a;&a;">]><s><value1>&c;</value1></s>', "a document type"),
    ('<!DOCTYPE s SYSTEM "/etc/hostname"><s/>', "defines a document type"),
    ("<s><value1>1</value1>", "not an XML file"),
    ("", "not an XML file"),
    ("<s><value1>one</value1></s>", "value 1, 'one', is not a number"),
    ("<s><value1/></s>", "value 1, '', is not a number"),
])
def test_xml_is_not_trusted(text: str, message: str, tmp_path: Path) -> None:
    """Entities, document types, cut files and words are refused by the file's name."""
    path = tmp_path / "odd.xml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"odd\.xml") as caught:
        read_values(path, ("value1",))
    caught.match(message)


def test_large_xml_is_not_read(tmp_path: Path) -> None:
    """A file over 12 MiB is refused before it is read."""
    path = tmp_path / "large.xml"
    with open(path, "wb") as handle:
        handle.truncate((12 << 20) + 1)
    with pytest.raises(UserError, match="larger than 12 MiB"):
        read_values(path, ("value1",))


@pytest.mark.parametrize("values", ["3 2 1 5000 4 3", "5", "nan 1 2"])
def test_times_that_are_neither_are_refused(values: str, tmp_path: Path) -> None:
    """A timer that neither rises nor holds durations is an error of that recording."""
    its = make(tmp_path / "raw", "lgi_ppgi", people=1, seconds=2.0)
    path = its.recordings[0].files()[1]
    path.write_text(f"<s>{''.join(f'<value1>{word}</value1>' for word in values.split())}</s>")
    with pytest.raises(UserError, match="value1"):
        its.recordings[0].labels()
