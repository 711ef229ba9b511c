"""Datasets that are not supported are known by name and refused with the reason."""

from __future__ import annotations

import argparse

import pytest

from commands.listing import listing
from commands.params import check_names
from preprocessing import sources
from preprocessing.sources.unsupported import UNSUPPORTED


def test_no_set_is_supported_and_unsupported() -> None:
    """Every reason is a sentence about a set without a reader."""
    assert not set(UNSUPPORTED) & set(sources.names())
    assert {"obf", "deap", "mmvs", "buaa_mihr", "rlap", "physdrive"} <= set(UNSUPPORTED)
    assert all(len(reason) > 30 for reason in UNSUPPORTED.values())


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_asking_for_it_gives_the_reason(name: str) -> None:
    """Reader and params say why, and not that the name is unknown."""
    with pytest.raises(KeyError, match=f"dataset '{name}' is not supported: "):
        sources.build(name, "anywhere")
    problems = check_names({"data": {"sets": [{"name": name, "root": "anywhere"}]}})
    said = next(text for path, text in problems if path == "data.sets.0.name")
    assert UNSUPPORTED[name] in said


def test_the_list_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    """`list` prints each with its reason, and each supported set with where to ask for it."""
    assert listing(argparse.Namespace(params=False, schema=False, zoo=False)) == 0
    shown = capsys.readouterr()
    text = shown.out + shown.err
    assert all(name in text and reason in text for name, reason in UNSUPPORTED.items())
    for name in sources.names():
        assert sources.SOURCES.get(name).access in text
