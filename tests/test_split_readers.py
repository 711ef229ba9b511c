"""Nobody is ever on two sides: the recordings of every reader, by every splitter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset.index import FailedRecording, RecordingInfo, recording_key
from dataset.shares import subject_name
from dataset.split import Parts, make_split
from preprocessing import sources
from preprocessing.sources import RawRecording
from tests import made_sets
from tests.made_sets import Made
from utils.errors import UserError
from utils.settings import Split

QUICK = settings(database=None, deadline=None, max_examples=25)
PEOPLE = 3
RELATED = ("v4v", "bp4d")
SCHEMES = ("fractions", "kfold", "loso", "lists")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """A made set with its reader's recordings, written once."""
    known: dict[str, Made] = {}

    def get(name: str) -> Made:
        if name not in known:
            root = tmp_path_factory.mktemp(name) / "raw"
            known[name] = made_sets.make(root, name, people=PEOPLE, seconds=2.0)
        return known[name]

    return get


def infos_of(recordings: list[RawRecording]) -> list[RecordingInfo]:
    return [
        RecordingInfo(recording_key(item.dataset, item.recording), item.dataset, item.subject, item.recording,
                      Path("x"), 300, 30.0, 64, True, people=item.people)
        for item in recordings
    ]


def who_is_seen(made: Made) -> dict[str, str]:
    """By key the person that the writer filmed, whatever the reader says."""
    group = made.recordings[0].people or made.recordings[0].dataset
    return {recording_key(item.dataset, item.recording): f"{group}/{truth.subject}"
            for item, truth in zip(made.recordings, made.truths, strict=True)}


def lost(info: RecordingInfo) -> FailedRecording:
    return FailedRecording(info.key, info.dataset, info.subject, info.recording, "broken", info.people)


def divided(infos: list[RecordingInfo], scheme: str, seed: int, fold: int, broken: set[int]) -> Parts | None:
    """The split with some recordings failed; None where it is refused, as when a whole part failed."""
    failed = [lost(info) for i, info in enumerate(infos) if i in broken]
    good = [info for i, info in enumerate(infos) if i not in broken]
    names = list(dict.fromkeys(map(subject_name, infos)))
    cut = 1 + seed % max(1, len(names) - 1)
    lists = {"train": names[:cut], "test": names[cut:]} if scheme == "lists" else {}
    wanted = Split.model_validate({"scheme": scheme, "folds": 2, "fold": fold, "lists": lists})
    try:
        return make_split(good, wanted, seed, failed=failed)
    except UserError:
        return None


def check(parts: Parts, who: dict[str, str]) -> None:
    sides = [{who[key] for key in (*part.recordings, *part.missing)} for part in parts.parts.values()]
    assert sum(map(len, sides)) == len(set().union(*sides)), "somebody is on two sides"
    placed = [key for part in parts.parts.values() for key in (*part.recordings, *part.missing)]
    assert sorted([*placed, *parts.unused]) == sorted(who), "every recording is in one part, or unused"
    assert not parts.leaks


@pytest.mark.parametrize("name", sources.names())
def test_people_of_a_dataset_stay_on_one_side(name: str, made: Callable[[str], Made]) -> None:
    """All cameras, takes and tasks of a person go together, whichever recordings failed."""
    infos, who = infos_of(made(name).recordings), who_is_seen(made(name))
    assert len(set(who.values())) >= 2

    @QUICK
    @given(st.sampled_from(SCHEMES), st.integers(0, 999), st.integers(0, 1),
           st.sets(st.integers(0, len(infos) - 1), max_size=2))
    def holds(scheme: str, seed: int, fold: int, broken: set[int]) -> None:
        parts = divided(infos, scheme, seed, fold, broken)
        if parts is not None:
            check(parts, who)

    holds()


def test_people_of_all_datasets_together_stay_on_one_side(made: Callable[[str], Made]) -> None:
    """With every dataset in one experiment, too; those of V4V and BP4D+ with one number are one person."""
    infos = [info for name in sources.names() for info in infos_of(made(name).recordings)]
    who = {key: person for name in sources.names() for key, person in who_is_seen(made(name)).items()}
    people = [{info.subject for info in infos if info.dataset == name} for name in RELATED]
    assert people[0] & people[1], "the made sets must have somebody in common"

    @QUICK
    @given(st.sampled_from(SCHEMES), st.integers(0, 999), st.integers(0, 1),
           st.sets(st.integers(0, len(infos) - 1), max_size=4))
    def holds(scheme: str, seed: int, fold: int, broken: set[int]) -> None:
        parts = divided(infos, scheme, seed, fold, broken)
        assert parts is not None
        check(parts, who)
        for subject in people[0] & people[1]:
            assert sum(f"bp4d/{subject}" in part.subjects for part in parts.parts.values()) <= 1

    holds()
