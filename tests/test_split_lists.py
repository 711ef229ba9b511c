from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset.index import FailedRecording, RecordingInfo, recording_key
from dataset.lists import read_folds, read_lists
from dataset.split import make_split
from utils.errors import UserError
from utils.settings import Split

QUICK = settings(database=None, deadline=None, max_examples=60)
SPLITS = Path(__file__).resolve().parent.parent / "params" / "splits"
# How each dataset names its people: the keys that published lists must hit.
SUBJECTS = {
    "ubfc": [f"subject{n}" for n in (1, 3, 4, 5, *range(8, 19), 20, *range(22, 28), *range(30, 50))],
    "pure": [f"{n:02d}" for n in range(1, 11)], "vipl": [f"p{n}" for n in range(1, 108)],
    "cohface": [str(n) for n in range(1, 41)], "ubfc_phys": [f"s{n}" for n in range(1, 57)],
    "mmpd": [f"subject{n}" for n in range(1, 34)], "ecg_fitness": [f"{n:02d}" for n in range(17)],
}


def info(dataset, subject, recording, people=""):
    return RecordingInfo(recording_key(dataset, recording), dataset, subject, recording,
                         f"{recording}.h5", 300, 30.0, 128, True, people=people)


def cohort(name):
    """The recordings of a dataset as its reader names them, a few each."""
    if name == "pure":
        return [info(name, s, f"{s}-{t:02d}") for s in SUBJECTS[name] for t in range(1, 7)
                if (s, t) != ("06", 2)]
    return [info(name, s, f"{s}-{k}") for s in SUBJECTS[name] for k in range(2)]


def set_of(path):
    return next(name for name in sorted(SUBJECTS, key=len, reverse=True) if path.name.startswith(name))


@pytest.mark.parametrize("path", sorted(SPLITS.glob("*.json")), ids=lambda path: path.stem)
def test_published_splits_fit_their_datasets(path):
    """Each shipped file names people that exist; who is on two sides is marked, and only then allowed."""
    content = json.loads(path.read_text())
    about = content["about"]
    folds = len(content.get("folds", [None]))
    for fold in range(folds):
        chosen = Split(scheme="folds" if "folds" in content else "lists", file=str(path), by=about["by"],
                       fold=fold, valid=0.0)
        made = make_split(cohort(set_of(path)), chosen, 0)
        assert made.source == about["source"]
        assert made.leaks == (about.get("leaks") is True) == bool(made.leak_details)
        test = set(made.parts["test"].subjects)
        assert test and not test & set(made.parts["train"].subjects)


def test_folds_of_a_file_test_everybody_once():
    """Over the five folds of VIPL-HR every subject is tested exactly once and never trained on then."""
    tested = []
    for fold in range(5):
        made = make_split(cohort("vipl"), Split(
            scheme="folds", file=str(SPLITS / "vipl_rs_rppg_folds.json"), fold=fold, valid=0.1), 3)
        parts = {name: set(part.subjects) for name, part in made.parts.items()}
        assert len(parts["train"] | parts["valid"] | parts["test"]) == 107 == sum(map(len, parts.values()))
        tested += parts["test"]
    assert len(tested) == len(set(tested)) == 107


def test_official_folds_are_read_from_mat_files(tmp_path):
    """fold1.mat ... with vectors of numbers mean the subjects of those numbers, p1 never p10."""
    for k, numbers in enumerate([[1, 10], [2, 11], [3, 100]], 1):
        scipy.io.savemat(tmp_path / f"fold{k}.mat", {f"fold{k}": np.array([numbers], dtype=np.uint8)})
    infos = [info("vipl_hr", f"p{n}", f"p{n}-v1-source1") for n in (1, 2, 3, 10, 11, 100)]
    made = make_split(infos, Split(scheme="folds", file=str(tmp_path), fold=0, valid=0.0), 0)
    assert made.parts["test"].subjects == ["vipl_hr/p1", "vipl_hr/p10"]
    assert made.parts["train"].subjects == [f"vipl_hr/p{n}" for n in (2, 3, 11, 100)]


@pytest.mark.parametrize(("content", "says"), [
    ({"fold2": [1, 2]}, "variable fold1"), ({"fold1": [1.5, 2.0]}, "vector of subject numbers"),
    ({"fold1": "abc"}, "vector of subject numbers"),
])
def test_wrong_mat_fold_is_refused(tmp_path, content, says):
    """A .mat file without its fold is refused, naming the file."""
    scipy.io.savemat(tmp_path / "fold1.mat", content)
    with pytest.raises(UserError, match=says) as error:
        read_folds(tmp_path, "subject")
    assert "fold1.mat" in str(error.value)


def test_damaged_mat_fold_is_refused(tmp_path):
    """A file that is no MATLAB file is refused, too, and so is an empty folder."""
    with pytest.raises(UserError, match=r"holds no fold1\.mat"):
        read_folds(tmp_path, "subject")
    (tmp_path / "fold1.mat").write_bytes(b"nonsense" * 40)
    with pytest.raises(UserError, match="not a MATLAB file"):
        read_folds(tmp_path, "subject")


def test_leave_one_subject_out_tests_each_alone():
    """With loso, fold i tests subject i in natural order, all its recordings, and nobody else."""
    infos = [info("a", f"s{n}", f"s{n}-{k}") for n in (1, 2, 10) for k in range(2)]
    for fold, subject in enumerate(["a/s1", "a/s2", "a/s10"]):
        made = make_split(infos, Split(scheme="loso", fold=fold, valid=0.0), 0)
        assert made.parts["test"].subjects == [subject] and len(made.keys("test")) == 2
        assert len(made.parts["train"].subjects) == 2
    with pytest.raises(UserError, match=r"split.fold = 3, but there are only 3 subjects"):
        make_split(infos, Split(scheme="loso", fold=3), 0)


@QUICK
@given(st.integers(3, 15), st.integers(2, 9), st.integers(0, 99))
def test_cross_dataset_trains_on_one_and_tests_on_the_other(n_one, n_other, seed):
    """Scheme fractions with a listed test set draws train and valid, all of the rest, from the others."""
    infos = [info("one", f"s{i}", f"s{i}") for i in range(n_one)]
    infos += [info("other", f"s{i}", f"s{i}") for i in range(n_other)]
    made = make_split(infos, Split(train=0.8, valid=0.2, test=0.0, lists={"test": ["other/*"]}), seed)
    assert {key.split(".")[0] for key in made.keys("test")} == {"other"} and not made.unused
    assert {key.split(".")[0] for key in made.keys("train") + made.keys("valid")} == {"one"}
    assert abs(len(made.keys("valid")) - 0.2 * n_one) <= 1 and not made.leaks


def test_train_on_two_validate_and_test_on_others():
    """Lists of whole datasets: train on A and B, validate on C, test on D."""
    infos = [info(d, f"s{i}", f"s{i}") for d in "abcd" for i in range(2)]
    made = make_split(infos, Split(scheme="lists", lists={
        "train": ["a/*", "b/*"], "valid": ["c/*"], "test": ["d/*"]}), 0)
    assert [len(made.keys(part)) for part in ("train", "valid", "test")] == [4, 2, 2]


@QUICK
@given(st.integers(4, 12), st.integers(0, 99), st.sampled_from(["fractions", "kfold", "loso"]))
def test_people_of_related_datasets_stay_on_one_side(n, seed, scheme):
    """A person who is in two datasets under one number is never trained on in one and tested in the other."""
    infos = [info(d, f"F{i:03d}", f"F{i:03d}_{d}", "bp4d") for d in ("v4v", "bp4d") for i in range(n)]
    made = make_split(infos, Split(scheme=scheme, folds=2), seed)
    sides = [{key.split(".")[1][:4] for key in part.recordings} for part in made.parts.values()]
    assert sum(map(len, sides)) == len(set().union(*sides)) == n


def test_lists_that_part_related_people_are_refused():
    """Training on all of V4V and testing on all of BP4D+ is refused, as they show the same people."""
    infos = [info(d, "F001", f"F001_{d}", "bp4d") for d in ("v4v", "bp4d")]
    with pytest.raises(UserError, match="bp4d/F001 is also in train"):
        make_split(infos, Split(scheme="lists", lists={"train": ["v4v/*"], "test": ["bp4d/*"]}), 0)


def test_leaking_list_must_say_so(tmp_path):
    """A repeated entry is refused in a list file, unless the file says that it leaks."""
    infos = [info("a", f"s{i}", f"s{i}") for i in range(4)]
    lists = {"train": ["s0", "s1"], "valid": ["s1"], "test": ["s2"]}
    path = tmp_path / "lists.json"
    path.write_text(json.dumps(lists))
    with pytest.raises(UserError, match="s1 is also in train"):
        make_split(infos, Split(scheme="lists", file=str(path)), 0)
    path.write_text(json.dumps({"about": {"leaks": True, "source": "somebody"}, **lists}))
    made = make_split(infos, Split(scheme="lists", file=str(path)), 0)
    assert made.leaks and made.leak_details == ["train and valid share 1 subjects"]
    assert made.about()["source"] == "somebody" and made.about()["leak_details"]


def test_lists_of_recordings_need_a_split_by_recording():
    """The HR-CNN lists are of recordings, and a split by subject says so."""
    with pytest.raises(UserError, match=r'set split\.by = "recording"'):
        read_lists(SPLITS / "pure_hr_cnn.json", "subject")


def test_absent_people_are_an_error_or_named():
    """A listed person whom the data lacks is an error, or, where asked, named in the result."""
    infos = [info("a", f"s{i}", f"s{i}") for i in range(3)]
    lists = {"train": ["s0", "s9"], "test": ["s1"]}
    with pytest.raises(UserError, match=r"there is no subject 's9'.*split\.absent"):
        make_split(infos, Split(scheme="lists", lists=lists), 0)
    made = make_split(infos, Split(scheme="lists", lists=lists, absent="name"), 0)
    assert made.absent == ["train: s9"] and made.about()["absent"] == ["train: s9"]
    assert made.unused == ["a.s2"]


def test_excluded_people_may_be_listed():
    """Somebody whom the user left out may stand in a published list: no error, and noted as excluded."""
    infos = [info("a", f"s{i}", f"s{i}") for i in range(3)]
    gone = [FailedRecording("a.s7", "a", "s7", "s7", "left out")]
    made = make_split(infos, Split(scheme="lists", lists={"train": ["s0", "s7"], "test": ["s1"]}), 0,
                      excluded=gone)
    assert made.excluded == ["a.s7"] and made.keys("train") == ["a.s0"] and not made.absent


def test_misspelt_people_are_an_error_beside_excluded_ones():
    """Leaving somebody out does not make other unknown names acceptable."""
    infos = [info("a", f"s{i}", f"s{i}") for i in range(3)]
    gone = [FailedRecording("a.s7", "a", "s7", "s7", "left out")]
    with pytest.raises(UserError, match="there is no subject 's8'"):
        make_split(infos, Split(scheme="lists", lists={"train": ["s0", "s8"], "test": ["s1"]}), 0,
                   excluded=gone)


def test_a_dataset_listed_whole_brings_no_recordings_of_another():
    """bp4d/* is tested on BP4D+ alone, though V4V shows the same people; those recordings are in no part."""
    infos = [info(d, f"F{i:03d}", f"F{i:03d}_{d}", "bp4d") for d in ("v4v", "bp4d") for i in range(3)]
    infos += [info("ubfc", f"s{i}", f"s{i}") for i in range(2)]
    lists = {"train": ["ubfc/*"], "test": ["bp4d/*"]}
    made = make_split(infos, Split(scheme="lists", lists=lists), 0)
    assert made.keys("test") == [f"bp4d.F{i:03d}_bp4d" for i in range(3)]
    assert made.unused == [f"v4v.F{i:03d}_v4v" for i in range(3)]
    both = make_split(infos, Split(scheme="lists", lists={**lists, "test": ["bp4d/*", "v4v/*"]}), 0)
    assert len(both.keys("test")) == 6 and not both.unused
    person = make_split(infos, Split(scheme="lists", lists={**lists, "test": ["bp4d/F001"]}), 0)
    assert person.keys("test") == ["bp4d.F001_bp4d", "v4v.F001_v4v"], "a person is listed with all recordings"


def test_a_dataset_listed_twice_is_refused():
    """The same dataset twice in one part is a slip of the pen."""
    infos = [info("a", "s1", "s1"), info("b", "s2", "s2")]
    with pytest.raises(UserError, match="a/s1 is also in train"):
        make_split(infos, Split(scheme="lists", lists={"train": ["a/*", "a/*"], "test": ["b/*"]}), 0)


def test_a_leaking_list_takes_a_recording_once_a_part(tmp_path):
    """An entry that a leaking list repeats within a part adds no recording twice."""
    infos = [info("a", f"s{i}", f"s{i}") for i in range(4)]
    path = tmp_path / "lists.json"
    path.write_text(json.dumps({"about": {"leaks": True}, "train": ["s0", "s1", "a/s0"], "valid": ["s1"],
                                "test": ["s2"]}))
    made = make_split(infos, Split(scheme="lists", file=str(path)), 0)
    assert made.keys("train") == ["a.s0", "a.s1"] and made.keys("valid") == ["a.s1"] and made.leaks
