"""What a split did is said under every number: leaks, people left out or absent, known defects."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from commands.recordings import divide
from dataset.index import FailedRecording, RecordingInfo
from dataset.split import make_split
from evaluation.report.page import _warnings
from evaluation.runs_table import runs_table
from evaluation.split_notes import MAX_NAMED, split_notes
from evaluation.table import metrics_markdown
from preprocessing.manifest import NAME, Manifest
from tests.run_folders import protocol, row, run_folder
from utils.settings import RawSet, Split

ABOUT = {
    "leaks": True, "leak_details": ["train and valid share 7 subjects"], "by": "subject",
    "source": "a paper's list", "absent": ["test: subject99"],
    "excluded": ["a.r3", "a.r4"],
    "exclusion_reasons": {"a.r3": "left out by data.sets exclude", "a.r4": "left out by data.sets exclude"},
    "known_defects": {"a.r1": "device_rate: drops to zero"},
    "missing_in_training": ["a.r7"], "unused": ["a.r9"],
}
SENTENCES = (
    "LEAKS (published lists that leak): train and valid share 7 subjects",
    "split: a paper's list",
    "listed, but not in the data: test: subject99",
    "left out: 2 recordings (left out by data.sets exclude): a.r3, a.r4",
    "took part in spite of a known defect: 1 recording (device_rate: drops to zero): a.r1",
    "missing in training: 1 recording: a.r7",
    "in no part: 1 recording: a.r9",
)


def info(recording: str, subject: str) -> RecordingInfo:
    return RecordingInfo(f"a.{recording}", "a", subject, recording, Path("x"), 300, 30.0, 64, True)


def test_all_that_matters_is_said() -> None:
    """Every fact of the split is a sentence, in this order."""
    assert split_notes(ABOUT) == list(SENTENCES)


def test_a_plain_split_needs_no_words() -> None:
    """Nothing is said of a split without oddities, nor where there is none."""
    assert split_notes({"leaks": False, "hash": "x", "by": "subject", "known_defects": {}}) == []
    assert split_notes({}) == []


def test_long_lists_are_counted() -> None:
    """Beyond ten names the rest are counted, so that no table drowns in them."""
    keys = [f"a.r{i}" for i in range(MAX_NAMED + 57)]
    (note,) = split_notes({"excluded": keys, "exclusion_reasons": dict.fromkeys(keys, "list toolbox: noisy")})
    assert note.startswith("left out: 67 recordings (list toolbox: noisy): a.r0, ")
    assert note.endswith("a.r9 and 57 more")


def test_a_leak_by_recording_is_told_apart_from_a_published_one() -> None:
    """Which parts share people is said as it is, not guessed."""
    details = ["train and test share 2 subjects"]
    (note,) = split_notes({"leaks": True, "by": "recording", "leak_details": details})
    assert note == "LEAKS (split by recording): train and test share 2 subjects"


@pytest.mark.parametrize("where", ["table", "report", "runs"])
def test_every_result_says_it(where: str, tmp_path: Path) -> None:
    """The run's own table, the report's warnings and the table over runs name what the split did."""
    folder = run_folder(tmp_path / "run", [row("pos", 2, mae_bpm=4.0)], ["subject1", "subject3"],
                        stored=protocol("toolbox2023"))
    metrics = {**json.loads((folder / "metrics.json").read_text()), "split": ABOUT}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    if where == "table":
        text = metrics_markdown(metrics)
    elif where == "report":
        text = "\n".join(_warnings(metrics, []))
    else:
        text = "\n".join(runs_table([folder]).notes)
    for sentence in SENTENCES if where != "runs" else SENTENCES[:5]:
        assert sentence in text


def test_what_a_split_tells_is_what_the_notes_read() -> None:
    """The names under which a split states its facts are those that the sentences are made of."""
    infos = [info(f"r{i}", f"s{i}") for i in range(4)]
    lost = FailedRecording("a.r4", "a", "s4", "r4", "broken")
    left_out = FailedRecording("a.r5", "a", "s5", "r5", "left out by data.sets exclude")
    settings = Split(scheme="lists", absent="name", lists={"train": ["s0", "s4"], "test": ["s1", "s9"]})
    parts = make_split(infos, settings, 0, failed=[lost], excluded=[left_out])
    parts.exclusion_reasons = {left_out.key: left_out.reason}
    parts.known_defects = {"a.r0": "list: bad"}
    assert split_notes(parts.about()) == [
        "listed, but not in the data: test: s9",
        "left out: 1 recording (left out by data.sets exclude): a.r5",
        "took part in spite of a known defect: 1 recording (list: bad): a.r0",
        "missing in training: 1 recording: a.r4",
        "in no part: 2 recordings: a.r2, a.r3",
    ]


def store_with(folder: Path, dataset: str, subjects: list[str]) -> Path:
    """A store's manifest alone, a usable recording a subject."""
    (folder / dataset).mkdir()
    manifest = Manifest(folder / dataset / NAME)
    for subject in subjects:
        manifest.entries[subject] = {
            "status": "done", "reason": "", "subject": subject, "dataset": dataset, "conditions": {},
            "n_frames": 300, "fps": 30.0, "duration_s": 10.0, "size": 64, "label_kind": "ppg",
            "has_label": True, "hr_mean_bpm": 70.0, "face_found_share": 1.0, "warnings": [],
            "file": f"{subject}.h5", "bytes": 1, "sha256": "", "settings": {}, "settings_hash": "",
            "identity": {}, "schema": 1,
        }
    manifest.write()
    return folder


def test_an_experiment_notes_who_was_left_out_and_what_is_known(tmp_path: Path) -> None:
    """Exclusions come with their reasons, by hand and by list; known defects of those that stay are named."""
    store = store_with(tmp_path, "ubfc_rppg_2", ["subject1", "subject3", "subject11", "subject18"])
    chosen = RawSet(name="ubfc_rppg_2", root="x", exclude=["subject3"])
    config = SimpleNamespace(
        data=SimpleNamespace(store=str(store), sets=[chosen]), run=SimpleNamespace(seed=0, before=[]),
        split=Split(scheme="lists", lists={"test": ["subject1", "subject11", "subject18"]}),
        method=SimpleNamespace(name="classical"), net=SimpleNamespace(options={}, init_from=None),
        train=SimpleNamespace(epochs=1),
    )
    _, parts = divide(config)
    assert split_notes(parts.about()) == [
        "left out: 1 recording (left out by data.sets exclude): ubfc_rppg_2.subject3",
        "took part in spite of a known defect: 2 recordings (device_rate: device heart rate drops to zero): "
        "ubfc_rppg_2.subject11, ubfc_rppg_2.subject18",
    ]
    config.data.sets = [chosen.model_copy(update={"exclude_lists": ["device_rate"]})]
    _, parts = divide(config)
    assert parts.keys("test") == ["ubfc_rppg_2.subject1"] and not parts.known_defects
    assert parts.exclusion_reasons["ubfc_rppg_2.subject18"] == (
        "left out by data.sets exclude_lists device_rate: device heart rate drops to zero")
