from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset.index import FailedRecording, RecordingInfo, recording_key
from dataset.split import Parts, make_split
from utils.errors import UserError
from utils.settings import Split

QUICK = settings(database=None, deadline=None, max_examples=60)


def info(dataset, subject, recording):
    return RecordingInfo(recording_key(dataset, recording), dataset, subject, recording,
                         f"{recording}.h5", 300, 30.0, 128, True)


def failure(dataset, subject, recording):
    return FailedRecording(recording_key(dataset, recording), dataset, subject, recording, "no face")


def people(n, per_subject=1, dataset="ubfc"):
    return [info(dataset, f"subject{i}", f"s{i}-{j}") for i in range(1, n + 1) for j in range(per_subject)]


def subjects_of(parts):
    return [set(part.subjects) for part in parts.parts.values()]


@st.composite
def cohorts(draw):
    sets = draw(st.lists(st.tuples(st.integers(2, 12), st.integers(1, 3)), min_size=1, max_size=3))
    return [i for d, (n, k) in enumerate(sets) for i in people(n, k, f"set{d}")]


@QUICK
@given(cohorts(), st.integers(0, 2**32 - 1), st.sampled_from(["fractions", "kfold"]), st.integers(0, 1))
def test_nobody_is_on_two_sides(infos, seed, scheme, fold):
    """No subject is in two parts, and every recording is in exactly one part or unused."""
    made = make_split(infos, Split(scheme=scheme, folds=2, fold=fold), seed)
    sides = subjects_of(made)
    assert sum(len(side) for side in sides) == len(set().union(*sides))
    placed = [key for part in made.parts.values() for key in part.recordings] + made.unused
    assert sorted(placed) == sorted(i.key for i in infos)
    assert not made.leaks


@QUICK
@given(cohorts(), st.integers(0, 2**32 - 1), st.randoms(use_true_random=False))
def test_order_does_not_matter(infos, seed, rng):
    """The same recordings in another order give the same split with the same hash."""
    shuffled = list(infos)
    rng.shuffle(shuffled)
    first, second = make_split(infos, Split(), seed), make_split(shuffled, Split(), seed)
    assert first.to_json() == second.to_json()


@QUICK
@given(st.integers(3, 60), st.integers(0, 1000), *[st.floats(0.05, 0.9)] * 3)
def test_every_asked_part_gets_somebody(n, seed, train, valid, test):
    """With enough subjects no part that was asked for is empty, and sizes follow the shares."""
    total = train + valid + test
    shares = {"train": train / total, "valid": valid / total, "test": test / total}
    made = make_split(people(n), Split(**{k: min(1.0, v) for k, v in shares.items()}), seed)
    sizes = {name: len(part.subjects) for name, part in made.parts.items()}
    assert sum(sizes.values()) == n and min(sizes.values()) >= 1
    assert all(abs(sizes[name] - shares[name] * n) < 2 or sizes[name] == 1 for name in sizes)


def test_seeds_differ():
    """Another seed gives another split."""
    assert make_split(people(20), Split(), 1).hash != make_split(people(20), Split(), 2).hash


def test_parts_are_in_natural_order():
    """subject2 comes before subject10 in every part."""
    made = make_split(people(30), Split(), 0)
    for part in made.parts.values():
        numbers = [int(name.rpartition("subject")[2]) for name in part.subjects]
        assert numbers == sorted(numbers)


def test_first_n_of_a_list_file_is_natural():
    """A file of lists is taken as it stands, its parts in natural order."""
    made = make_split(people(12), Split(scheme="lists", lists={
        "train": ["subject10", "subject2", "subject1"], "test": ["ubfc/subject11"]}), 0)
    assert made.parts["train"].subjects == ["ubfc/subject1", "ubfc/subject2", "ubfc/subject10"]
    assert made.keys("test") == ["ubfc.s11-0"]
    assert made.unused[:2] == ["ubfc.s3-0", "ubfc.s4-0"]


def test_too_few_for_all_leaves_validation_out():
    """Of two subjects one is trained on and one is tested."""
    made = make_split(people(2), Split(), 0)
    assert list(made.parts) == ["train", "test"]


def test_folds_cover_everybody_once():
    """Over all folds every subject is tested exactly once."""
    folds = [make_split(people(23), Split(scheme="kfold", folds=5, fold=fold), 3) for fold in range(5)]
    tested = [subject for made in folds for subject in made.parts["test"].subjects]
    assert len(tested) == 23 and len(set(tested)) == 23


def test_more_folds_than_subjects_is_refused():
    """Five folds of three subjects are refused with both numbers."""
    with pytest.raises(UserError, match=r"split.folds = 5.*only 3 subjects"):
        make_split(people(3), Split(scheme="kfold", folds=5), 0)


def test_wrong_list_entries_are_all_named():
    """Unknown and doubled entries are reported together, with a close name."""
    twice = ["nobody", "subject3", "subject3"]
    lists = {"train": ["subject1", "subjct2"], "valid": ["subject1"], "test": twice}
    with pytest.raises(UserError) as caught:
        make_split(people(4), Split(scheme="lists", lists=lists), 0)
    text = str(caught.value)
    assert "4 problem(s)" in text and "'nobody'" in text
    assert "no subject 'subjct2'; did you mean \"subject2\"?" in text
    assert "valid: ubfc/subject1 is also in train" in text
    assert "test: ubfc/subject3 is also in test" in text


def test_equal_ids_in_two_datasets_are_two_people():
    """A bare id that two datasets have is refused; with its dataset it is accepted."""
    infos = people(3) + people(3, dataset="pure")
    with pytest.raises(UserError, match="several datasets; write one of pure/subject1, ubfc/subject1"):
        make_split(infos, Split(scheme="lists", lists={"train": ["subject1"], "test": ["subject2"]}), 0)
    made = make_split(infos, Split(scheme="lists", lists={"train": ["ubfc/*"], "test": ["pure/subject1"]}), 0)
    assert made.parts["train"].subjects == ["ubfc/subject1", "ubfc/subject2", "ubfc/subject3"]
    assert made.keys("test") == ["pure.s1-0"]


def test_failed_recordings_are_missing_of_their_part():
    """A failed recording is named in the part of its subject, and changes nobody else's place."""
    infos = people(10, per_subject=2)
    whole = make_split(infos, Split(), 5)
    victim = whole.parts["test"].recordings[0]
    lost = next(i for i in infos if i.key == victim)
    failed = [failure(lost.dataset, lost.subject, lost.recording)]
    made = make_split([i for i in infos if i.key != victim], Split(), 5, failed)
    assert made.parts["test"].missing == [victim]
    assert [p.subjects for p in made.parts.values()] == [p.subjects for p in whole.parts.values()]
    assert made.hash != whole.hash


def test_listed_subject_that_failed_is_named():
    """A part whose recordings all failed is refused, naming them; beside others it is only missing."""
    failed = [failure("ubfc", "subject9", "s9-0")]
    with pytest.raises(UserError, match=r"test part .* all of its recordings failed \(ubfc.s9-0\)"):
        lists = {"train": ["subject1"], "test": ["subject9"]}
        make_split(people(2), Split(scheme="lists", lists=lists), 0, failed)
    lists = {"train": ["subject1"], "test": ["subject2", "subject9"]}
    made = make_split(people(2), Split(scheme="lists", lists=lists), 0, failed)
    assert made.parts["test"].missing == ["ubfc.s9-0"]


@pytest.mark.parametrize("part", ["train", "test"])
def test_empty_part_is_refused(part):
    """Without anybody to train on or to test there is no experiment."""
    shares = {"train": 0.7, "valid": 0.1, "test": 0.2, part: 0.0}
    with pytest.raises(UserError, match=f"the {part} part of the split is empty"):
        make_split(people(10), Split(**shares), 0)


def test_recordings_may_be_split_and_are_then_marked():
    """by = "recording" accepts recording ids and says that a subject is on both sides."""
    lists = {"train": ["s1-0"], "test": ["ubfc/s1-1", "ubfc.s2-0"]}
    made = make_split(people(2, 2), Split(scheme="lists", by="recording", lists=lists), 0)
    assert made.leaks and made.to_json()["leaks"] is True
    assert made.keys("test") == ["ubfc.s1-1", "ubfc.s2-0"]
    clean = Split(scheme="lists", by="recording", lists={"train": ["s1-0"], "test": ["s2-0"]})
    assert not make_split(people(2, 2), clean, 0).leaks


def test_extra_lists_are_taken_out_first():
    """A further test list is a part of its own and is in no other part."""
    made = make_split(people(10), Split(extra={"hard": ["subject3", "subject4"]}), 0)
    assert made.parts["hard"].subjects == ["ubfc/subject3", "ubfc/subject4"]
    assert made.test_names() == ["test", "hard"]
    assert sum(len(part.subjects) for part in made.parts.values()) == 10


def test_list_file_with_further_lists(tmp_path):
    """Lists come from a JSON file, further names becoming further test parts."""
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"train": ["subject1"], "test": ["subject2"], "dark": ["subject3"]}))
    made = make_split(people(3), Split(scheme="lists", file=str(path)), 0)
    assert made.test_names() == ["test", "dark"]
    path.write_text(json.dumps({"train": "subject1"}))
    with pytest.raises(UserError, match="split.json: lists of names are expected"):
        make_split(people(3), Split(scheme="lists", file=str(path)), 0)


def test_extra_list_cannot_take_a_main_name():
    """An extra list called train is refused."""
    with pytest.raises(UserError, match=r"split.extra.train: that name is taken"):
        make_split(people(5), Split(extra={"train": ["subject1"]}), 0)


def test_round_trip_through_json():
    """split.json read again is the same split, with its hash."""
    made = make_split(people(10, 2), Split(), 0, excluded=people(10, 2)[2:19:16])
    again = Parts.from_json(json.loads(json.dumps(made.to_json())))
    assert again == made and again.hash == made.to_json()["hash"]
    assert made.excluded == ["ubfc.s2-0", "ubfc.s10-0"]


def test_changed_split_file_is_refused():
    """A split edited by hand, or a file that is none, is refused."""
    value = make_split(people(10), Split(), 0).to_json()
    value["parts"]["test"]["recordings"].append(value["parts"]["train"]["recordings"][0])
    with pytest.raises(UserError, match="was changed after it was made"):
        Parts.from_json(value)
    with pytest.raises(UserError, match="not a split"):
        Parts.from_json({"parts": []})


def test_selection_names_what_is_gone():
    """Recordings of a part come in its order; those the store lost are named."""
    infos = people(10)
    made = make_split(infos, Split(), 0)
    random.Random(0).shuffle(infos)
    assert [i.key for i in made.select(infos, "train")] == made.keys("train")
    assert made.select(infos, "nonexistent") == []
    gone = made.keys("train")[0]
    with pytest.raises(UserError, match=f"does not hold: {gone};"):
        made.select([i for i in infos if i.key != gone], "train")
