"""What keeps a number from being read as more than it is: made-up data, missing recordings, bins, windows."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import main
from commands import recordings, testing
from commands.lineage import Learned
from dataset.index import RecordingInfo
from dataset.split import make_split
from evaluation import bootstrap, protocols, vital_signs
from evaluation.aggregate import results
from evaluation.further_tables import condition_tables, further_table, paired_table, vital_signs_tables
from evaluation.metrics import unit_sums
from evaluation.presets import shown_name
from evaluation.runs_table import COLUMNS, runs_table
from evaluation.sensitivity import COLUMNS as SENSITIVITY_COLUMNS
from evaluation.sensitivity import sensitivity_table
from evaluation.table import part_table
from evaluation.waveforms import RecordingWaveform, read_waveforms, training_of, write_waveforms
from tests.run_folders import protocol, row, run_folder, write_windows
from utils.config import validate
from utils.files import read_json
from utils.settings import Split

UBFC = [f"subject{i}" for i in range(42)]
FPS = 30.0


def lines(table: Any) -> list[dict[str, str]]:
    return [dict(zip(table.columns, cells, strict=True)) for cells in table.rows]


def part(*rows: dict[str, Any], n: int = 3, missing: tuple[str, ...] = (), **header: Any) -> dict[str, Any]:
    """One part of a metrics.json with n recordings."""
    test = {
        "datasets": ["pure"], "n_subjects": n, "n_recordings": n, "n_windows": n, "n_missing": len(missing),
        "missing": list(missing), "missing_reasons": dict.fromkeys(missing, "no label"), "origins": [],
        "n_unlabelled_windows": 0, "bin_bpm": 0.1, **header,
    }
    return {"test": test, "rows": list(rows)}


def info(name: str, dataset: str = "ubfc_rppg_2", **conditions: str) -> RecordingInfo:
    key = f"{dataset}.{name}"
    return RecordingInfo(key, dataset, name, name, Path("x"), 300, 30.0, 64, True, conditions=conditions)


# What was trained on


def cross(folder: Path, origins: list[str]) -> Path:
    """A run from PURE to all of UBFC-rPPG whose errors are those that were published."""
    return run_folder(
        folder, [row("physnet", 42, mae_bpm=1.6, rmse_bpm=3.7), row("pos", 42, mae_bpm=4.0)], UBFC,
        trained=["pure.01-01"], stored=protocol("toolbox2023"),
        training={"datasets": ["pure"], "origins": origins},
    )


def test_a_net_trained_on_made_up_recordings_agrees_with_nothing(tmp_path: Path) -> None:
    """Trained on recordings that only have PURE's layout: named as such, and no verdict; POS has its own."""
    real = lines(runs_table([cross(tmp_path / "real", [])]))
    made_up = lines(runs_table([cross(tmp_path / "made_up", ["synthetic"])]))
    assert any(line["verdict"] == "within" for line in real if line["method"] == "PhysNet")
    ours = [line for line in made_up if line["method"] == "physnet"]
    assert ours[0]["trained on"] == "pure, synthetic" and ours[0]["tested on"] == "ubfc_rppg_2"
    beside = [line["verdict"] for line in made_up if line["method"] == "PhysNet" and line["verdict"] != "–"]
    assert beside and all("not comparable" in verdict and "≠d" in verdict for verdict in beside)
    assert any(line["verdict"] == "within" for line in made_up if line["method"] == "POS")


def test_what_has_nothing_to_train_was_trained_on_nothing(tmp_path: Path) -> None:
    """A run of POS beside a training part is compared with the untrained POS of the papers."""
    folder = run_folder(
        tmp_path / "pos", [row("pos", 42, mae_bpm=4.0)], UBFC, trained=["pure.01-01"],
        stored=protocol("toolbox2023"), training={"datasets": [], "origins": []},
    )
    params = read_json(folder / "params.json") | {"net": {"name": "pos"}, "method": {"name": "classical"}}
    (folder / "params.json").write_text(json.dumps(params))
    assert [result.trained for result in results([folder])] == [()]
    assert lines(runs_table([folder]))[0]["verdict"].startswith("1 within")


def test_the_waveform_file_tells_what_was_trained_on(tmp_path: Path) -> None:
    """Datasets and origins come back as written, weights from elsewhere among the datasets."""
    found = Learned(frozenset(["ubfc_rppg_2", "pure"]), frozenset(["synthetic"]), frozenset(["pure/1"]),
                    frozenset(["RLAP (zoo)"]))
    for learned, told in {
        found: {"datasets": ["RLAP (zoo)", "pure", "ubfc_rppg_2"], "origins": ["synthetic"]},
        Learned(): {"datasets": [], "origins": []},
    }.items():
        write_waveforms(tmp_path / "w.h5", [waves(0)], testing._training(learned))
        assert training_of(read_waveforms(tmp_path / "w.h5")[1]) == told
    assert training_of({"net": "physnet"}) is None


def test_known_defects_are_those_of_the_real_recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A made-up recording with the name of a faulty one is not faulty."""
    people = [info("subject1"), info("subject2", origin="synthetic"), info("subject3"), info("subject4")]
    for name, value in {"load_left_out": [], "load_infos": people, "load_failed": []}.items():
        monkeypatch.setattr(recordings, name, lambda *_, found=value: found)
    monkeypatch.setattr(recordings, "known", lambda _: {"subject1": "list: bad", "subject2": "list: bad"})
    config = validate({
        "data": {"sets": [{"name": "ubfc_rppg_2", "root": "x"}]}, "net": {"name": "physnet"},
        "split": {"scheme": "lists", "lists": {"train": ["subject1", "subject2"], "test": ["subject3"]}},
    }, "test")
    assert recordings.divide(config)[1].known_defects == {"ubfc_rppg_2.subject1": "list: bad"}


# What is missing


def test_tables_of_runs_name_missing_recordings_under_windows_as_well(tmp_path: Path) -> None:
    """A lost recording has no windows that n of N could count: it is named, and so are unlabelled windows."""
    folder = run_folder(
        tmp_path / "run", [row("pos", 80, mae_bpm=4.0)], UBFC[:40], missing=["ubfc_rppg_2.lost"],
        stored=protocol("contrastphys"),
    )
    metrics = read_json(folder / "metrics.json")
    metrics["test"] |= {"n_windows": 80, "n_unlabelled_windows": 3, "bin_bpm": 2.0}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    table = runs_table([folder])
    assert table.rows[0][COLUMNS.index("n of N")] == "80 of 80"
    assert "run: missing: 1 recording: ubfc_rppg_2.lost" in table.notes
    assert "run: 3 units without a reference, not scored" in table.notes
    assert "run: rates fall on bins of up to 2.00 bpm: an error of 0 means the same bin" in table.notes


def test_folds_and_seeds_name_what_is_missing_once(tmp_path: Path) -> None:
    """Recordings missing in any fold stand below the common row, those of all seeds once."""
    folders = []
    for fold, subject in enumerate(("a", "b")):
        folders.append(run_folder(
            tmp_path / f"run_fold{fold}", [row("physnet", 2, mae_bpm=1.0)], [subject], trained=["pure.x"],
            split={"scheme": "kfold", "fold": fold}, missing=[f"ubfc_rppg_2.lost{fold}"],
        ))
        write_windows(folders[-1], {subject: [1.0, 1.0]})
    assert any("missing: 2 recordings: ubfc_rppg_2.lost0, ubfc_rppg_2.lost1" in note
               for note in results(folders)[0].notes)
    seeds = [run_folder(tmp_path / f"x_seed{s}", [row("pos", 3, mae_bpm=1.0)], ["a", "b", "c"], seed=s,
                        missing=["ubfc_rppg_2.lost"]) for s in (0, 1)]
    assert results(seeds)[0].notes == ("x: missing: 1 recording: ubfc_rppg_2.lost",)


def test_recordings_without_a_condition_are_counted_under_its_table() -> None:
    """Lost before a waveform was made: no line of the table can count them, so a note does."""
    found = part(row("pos", 3, mae_bpm=1.0), missing=("pure.y", "pure.z"))
    line = {"n_subjects": 1, "n_recordings": 1, "n_missing": 0, "rows": []}
    values = {"steady": line, "talking": {**line, "n_missing": 1}}
    (table,) = condition_tables("test", {**found, "conditions": {"task": values}})
    assert table.notes == ["1 more recording missing, task not known here"]


def test_further_and_paired_tables_count_missing_recordings() -> None:
    """Every table says how many recordings are not in it."""
    found = part(row("pos", 3, mae_bpm=1.0), missing=("pure.y",))
    pair = {"method": "a", "against": "b", "mae_bpm": 1.0, "rmse_bpm": 1.0, "n": 3, "ci95": None,
            "share_better": None, "reasons": {}}
    (paired,) = paired_table("test", {**found, "paired": [pair]})
    assert paired.notes[-1] == "1 recording missing"
    assert further_table("test", found).notes == ["1 recording missing"]


def test_standard_errors_are_explained_where_they_stand() -> None:
    """The toolbox's SE of the RMSE is none, which the table says; without standard errors it does not."""
    blank = {"ccc": 0.9, "max_bpm": 9.0, "within_2_5_percent": 50.0, "within_5_percent": 60.0}
    lines_of = [row("pos", 3) | blank | {"se": se} for se in ({"mae_bpm": 0.1}, None)]
    with_se, without = (further_table("test", part(line)) for line in lines_of)
    assert "no standard error of the RMSE" in with_se.notes[0] and without.notes == []


def test_vital_signs_have_as_many_digits_as_their_unit_bears() -> None:
    """Milliseconds to a tenth, breaths to a hundredth, r to a thousandth."""
    cell = {"sd": 19.0471, "rmse": 76.4462, "mae": 74.0353, "pearson_r": 0.66712, "n": 3, "n_failed": 0}
    signs = {"units": {"sdnn_ms": "ms", "resp_bpm": "breaths/min"}, "warnings": [], "missing_reasons": {},
             "rows": [{"method": "pos", "sdnn_ms": cell, "resp_bpm": cell}],
             "reference_values": {"sdnn_ms": {"mean": 15.089, "sd": 3.599, "n": 3}}}
    (table,) = vital_signs_tables("test", {"vital_signs": signs})
    assert table.rows[0][2:6] == ["19.0", "76.4", "74.0", "0.667"] and table.rows[0][-1] == "15.1 ± 3.6"
    assert table.rows[1][2:6] == ["19.05", "76.45", "74.04", "0.667"]


# Intervals over subjects


def test_recordings_of_one_person_are_drawn_together() -> None:
    """Twelve recordings of six people are six people: no interval; of nine people there is one, over nine."""
    few = [dataclasses.replace(waves(i), subject=f"p{i % 6}") for i in range(12)]
    found = protocols.score(few, bootstrap=50)
    assert found["test"]["n_subjects"] == 6 and found["rows"][0]["ci95"] is None
    assert "here are 6" in found["rows"][0]["reasons"]["ci95"]
    many = [dataclasses.replace(waves(i), subject=f"p{i % 9}") for i in range(12)]
    assert protocols.score(many, bootstrap=50)["rows"][0]["ci95"] is not None


def test_intervals_weigh_subjects_by_their_units() -> None:
    """Subjects with one to four recordings: each draw of subjects pools the units of those drawn, by hand."""
    rng = np.random.default_rng(5)
    names = [f"s{i}" for i in range(9) for _ in range(1 + i % 4)]
    reference = rng.uniform(60, 110, len(names))
    predicted = reference + rng.normal(0, 5, len(names)) + 3 * np.array([int(name[1:]) for name in names])
    other = reference + rng.normal(0, 8, len(names))
    draws = bootstrap.resamplings(9, 200, seed=2)
    mine, theirs = (bootstrap.subject_sums(unit_sums(x, reference), names) for x in (predicted, other))
    found, pair = bootstrap.intervals(mine, draws), bootstrap.paired(mine, theirs, draws)
    slow: dict[str, list[float]] = {"mae_bpm": [], "rmse_bpm": [], "difference": []}
    for draw in draws.astype(int):
        units = [unit for subject, times in enumerate(draw) for _ in range(times)
                 for unit, name in enumerate(names) if name == f"s{subject}"]
        errors, others = (rates[units] - reference[units] for rates in (predicted, other))
        slow["mae_bpm"].append(np.abs(errors).mean())
        slow["rmse_bpm"].append(np.sqrt(np.mean(errors**2)))
        slow["difference"].append(np.abs(errors).mean() - np.abs(others).mean())
    limits = {name: np.percentile(values, [2.5, 97.5]) for name, values in slow.items()}
    assert found["mae_bpm"] == pytest.approx(limits["mae_bpm"])
    assert found["rmse_bpm"] == pytest.approx(limits["rmse_bpm"])
    assert pair["ci95"]["mae_bpm"] == pytest.approx(limits["difference"])
    assert pair["share_better"]["mae_bpm"] == np.mean(np.array(slow["difference"]) < 0)


# What a number was compared with, and how finely


def test_the_reference_is_said() -> None:
    """Label, device, or both with their counts; a sample deviation as well."""
    label = part_table("test", part(references={"label": 3, "device": 0}), protocol())
    both = part_table("test", part(references={"label": 1, "device": 2}), protocol("stmap"))
    assert "reference: the label's waveform by the same estimator" in label.notes
    assert not any("SD" in note for note in label.notes)
    mixed = "reference: the label's waveform by the same estimator (1 units), the device's rate (2 units)"
    assert mixed in both.notes and "SD: n - 1 in the denominator" in both.notes


def test_the_default_compares_with_the_label_where_both_are_known() -> None:
    """The label's rate comes first, the device's serves where there is no label."""
    both = dataclasses.replace(waves(0), reference_hr_bpm=90.0)
    alone = dataclasses.replace(both, key="ubfc_rppg_2.r9", label=np.full(1200, np.nan))
    found = protocols.score([both, alone], bootstrap=0)
    assert found["test"]["references"] == {"label": 1, "device": 1}
    assert [row["reference_bpm"] for row in found["windows"]] == [pytest.approx(60.0, abs=0.1), 90.0]


def test_sensitivity_says_references_and_bins() -> None:
    """One column for the reference, one note for the bins of protocols that take the highest one."""
    rows = row("pos", 3, mae_bpm=0.0)
    scored = {
        "default": {"protocol": protocol(), "parts": {}, **part(rows, references={"label": 3, "device": 0})},
        "toolbox": {"protocol": protocol("toolbox"), "parts": {}, **part(
            rows, references={"label": 1, "device": 2}, bin_bpm=1.757)},
    }
    table = sensitivity_table(scored)
    place = SENSITIVITY_COLUMNS.index("reference")
    assert [line[place] for line in table.rows] == ["label", "label and device"]
    assert [note for note in table.notes if "toolbox 1.76; an error of 0 means the same bin" in note]
    assert not any("default" in note for note in table.notes)


def test_recordings_that_are_too_short_are_one_note() -> None:
    """Reasons that differ in their numbers only are counted together."""
    found = part(row("pos", 0), missing=("pure.a", "pure.b"))
    found["rows"][0]["reasons"] = {"mae_bpm": "no unit could be scored"}
    found["test"]["missing_reasons"] = {
        "pure.a": "602 frames (20.1 s) are less than 30.0 s",
        "pure.b": "595 frames (19.8 s) are less than 30.0 s",
    }
    notes = sensitivity_table({"own": {"protocol": protocol(), "parts": {}, **found}}).notes
    assert notes[-1] == "own: 2 missing, such as pure.a (602 frames (20.1 s) are less than 30.0 s)"


def test_the_reference_of_the_respiration_is_said() -> None:
    """Read from the label's pulse, it is no sensor's."""
    cell = {"me": 0.0, "sd": 0.1, "rmse": 0.1, "mae": 0.1, "pearson_r": 0.5, "n": 3, "n_failed": 0}
    signs = {"units": {}, "reference_values": {}, "rows": [{"method": "pos", "resp_bpm": cell}],
             "warnings": [], "missing_reasons": {}, "references": {"resp_bpm": {"label": 3, "sensor": 0}}}
    (table,) = vital_signs_tables("test", {"vital_signs": signs})
    (note,) = table.notes
    assert note == "respiration: the reference is read from the pulse of the label, not from a sensor"
    signs["references"] = {"resp_bpm": {"label": 0, "sensor": 3}}
    assert vital_signs_tables("test", {"vital_signs": signs})[0].notes == []


# A named protocol is that protocol


def waves(index: int) -> RecordingWaveform:
    """40 s of a sinusoid as the label and, with noise, as a net's answer."""
    rng, time_s = np.random.default_rng(index), np.arange(1200) / FPS
    label = np.sin(2 * np.pi * (60 + 5 * index) / 60 * time_s)
    noisy = label + 0.5 * rng.standard_normal(1200)
    return RecordingWaveform(f"ubfc_rppg_2.r{index}", f"r{index}", "ubfc_rppg_2", FPS, time_s, label,
                             {"physnet": noisy})


def test_a_runs_window_stays_with_its_own_protocol(tmp_path: Path) -> None:
    """evaluation.window_s of the run changes its own protocol; a preset that is asked for is unchanged."""
    parts = make_split([info("t"), *(info(f"r{i}") for i in range(3))],
                       Split(scheme="lists", lists={"train": ["t"], "test": ["r0", "r1", "r2"]}), 0)
    (tmp_path / "split.json").write_text(json.dumps(parts.to_json()))
    (tmp_path / "params.json").write_text(json.dumps({
        "data": {"sets": [{"name": "ubfc_rppg_2", "root": "x"}]}, "net": {"name": "physnet"},
        "evaluation": {"window_s": 10.0, "vital_signs": False, "bootstrap": 0},
    }))
    told = {"train_datasets": "ubfc_rppg_2", "train_origins": "synthetic"}
    write_waveforms(tmp_path / "waveforms.h5", [waves(i) for i in range(3)], told)
    asked = ("default", "contrastphys", "toolbox")
    assert main.main(["evaluate", str(tmp_path), "--protocol", *asked]) == 0
    made = {name: read_json(tmp_path / f"metrics.{name}.json") for name in asked}
    assert {name: found["protocol"]["window_s"] for name, found in made.items()} == {
        "default": 10.0, "contrastphys": 30.0, "toolbox": None}
    assert made["toolbox"]["training"] == {"datasets": ["ubfc_rppg_2"], "origins": ["synthetic"]}


def test_an_own_protocol_under_a_presets_name_is_marked() -> None:
    """Named like a preset, but changed: the table, the rows beside published ones and the report say so."""
    own = {"toolbox": {"base": "toolbox", "changes": {"peak_high_hz": 2.0}}}
    found = protocols.score([waves(i) for i in range(3)], protocols.get("toolbox", own), bootstrap=0)
    assert "protocol toolbox (changed)," in part_table("test", found, found["protocol"]).title
    assert shown_name(protocol("toolbox")) == "toolbox"
    assert shown_name({**found["protocol"], "name": "mine"}) == "mine"


def test_vital_signs_of_a_constant_but_for_rounding_are_none() -> None:
    """A net that has collapsed has no beats, although single precision makes its output tremble."""
    wave = waves(0)
    flat = 1.0 + 1e-7 * np.random.default_rng(0).standard_normal(len(wave.label))
    (row_of,) = vital_signs.vital_signs([dataclasses.replace(wave, predictions={"flat": flat})])["rows"]
    assert row_of["sdnn_ms"]["n"] == 0 and row_of["sdnn_ms"]["n_failed"] == 1
    assert row_of["sdnn_ms"]["reason"] == "the waveform is constant"
