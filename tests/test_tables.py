"""Tables of a metrics.json beside the main one, and one run under several protocols."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from evaluation import presets
from evaluation.cells import Table
from evaluation.further_tables import condition_tables, further_table, paired_table, vital_signs_tables
from evaluation.sensitivity import COLUMNS, as_json, choices, sensitivity_table
from evaluation.table import main_markdown, metrics_tables
from tests.run_folders import protocol, row


def part(*rows: dict[str, Any], n: int = 3, missing: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    """One part of a metrics.json with n recordings."""
    test = {
        "datasets": ["pure"],
        "n_subjects": n,
        "n_recordings": n,
        "n_windows": n,
        "n_missing": len(missing),
        "missing": list(missing),
        "missing_reasons": dict.fromkeys(missing, "no label"),
        "origins": [],
        "n_unlabelled_windows": 0,
        "bin_bpm": 0.1,
    }
    return {"test": test, "rows": list(rows), **more}


def test_conditions_show_methods_side_by_side() -> None:
    """A row per value: subjects, recordings with the missing ones, MAE and r of every method; failures."""
    talking = part(
        row("pos", 2, mae_bpm=3.0, pearson_r=0.5), {**row("physnet", 1, mae_bpm=1.0), "n_failed": 1}
    )
    groups = {
        "task": {
            "steady": {
                "n_subjects": 2,
                "n_recordings": 2,
                "n_missing": 0,
                "rows": [row("pos", 2, mae_bpm=1.25)],
            },
            "talking": {"n_subjects": 2, "n_recordings": 2, "n_missing": 1, "rows": talking["rows"]},
        }
    }
    (table,) = condition_tables("test", part(conditions=groups))
    assert table.columns == ["task", "subjects", "recordings", "pos MAE", "pos r", "physnet MAE", "physnet r"]
    assert table.rows == [
        ["steady", "2", "2 of 2", "1.25", "–", "–", "–"],
        ["talking", "2", "2 of 3", "3.00", "0.500", "1.00", "–"],
    ]
    assert table.notes == ["talking: physnet failed on 1"]


def test_conditions_and_vital_signs_come_after_the_main_tables() -> None:
    """metrics_tables: the parts first, then what belongs to them; further metrics only where asked for."""
    groups = {"task": {"steady": {"n_subjects": 1, "n_recordings": 1, "n_missing": 0, "rows": []}}}
    metrics = {"protocol": protocol(), **part(row("pos", 3, mae_bpm=1.0), conditions=groups), "parts": {}}
    assert [table.title.partition(",")[0] for table in metrics_tables(metrics)] == [
        "test: heart rate",
        "test: by task",
    ]
    assert "test: further metrics" in [table.title for table in metrics_tables(metrics, full=True)]


def test_a_run_prints_its_main_tables_only() -> None:
    """A table per part; conditions, pairs and vital signs are in table.md."""
    groups = {"task": {"steady": {"n_subjects": 1, "n_recordings": 1, "n_missing": 0, "rows": []}}}
    other = part(row("pos", 3, mae_bpm=2.0))
    metrics = {
        "protocol": protocol(),
        **part(row("pos", 3, mae_bpm=1.0), conditions=groups),
        "parts": {"hard": other},
    }
    text = main_markdown(metrics)
    assert text.count("## ") == 2 and "hard: heart rate" in text and "by task" not in text


def test_further_metrics_have_columns() -> None:
    """CCC, the largest error, shares within limits and standard errors; an en dash for what is not there."""
    line = row("pos", 3) | {
        "ccc": 0.9,
        "max_bpm": 12.0,
        "within_2_5_percent": 66.7,
        "within_5_percent": None,
        "se": {"mae_bpm": 0.1234},
    }
    table = further_table("test", part(line))
    assert table.rows[0] == ["pos", "0.900", "12.00", "66.7", "–", "0.123", "–", "–", "–"]


def test_no_further_tables_without_content() -> None:
    """A metrics.json without pairs, conditions and vital signs has no empty tables."""
    nothing = part(row("pos", 3))
    assert not [
        *paired_table("test", nothing),
        *condition_tables("test", nothing),
        *vital_signs_tables("test", nothing),
    ]


def test_vital_signs_are_printed_as_papers_do() -> None:
    """SD, RMSE, MAE and r per quantity and method, how many had one, and the warnings below."""
    found = {"me": 0.0, "sd": 0.01, "rmse": 0.02, "mae": 0.015, "pearson_r": 0.4, "n": 2, "n_failed": 1}
    signs = {
        "rows": [{"method": "pos", "n_recordings": 3, "rf_hz": found, "lf_nu": found}],
        "units": {"rf_hz": "Hz", "lf_nu": "1"},
        "reference_values": {"rf_hz": {"mean": 0.25, "sd": 0.05, "n": 3}},
        "warnings": ["short"],
        "missing_reasons": {"pure.x": "no beats"},
    }
    (table,) = vital_signs_tables("test", part(vital_signs=signs))
    assert table.rows[0] == ["RF [Hz]", "pos", "0.010", "0.020", "0.015", "0.400", "2 of 3", "0.250 ± 0.050"]
    assert table.rows[1][0] == "LF n.u." and table.notes[0] == "short"
    assert "gave none is in no error" in table.notes[1] and table.notes[2:] == ["missing: pure.x (no beats)"]


def test_sensitivity_groups_protocols_by_method() -> None:
    """Each method's numbers under all protocols stand in neighbouring rows, with what was chosen."""
    scored = {
        "default": {
            "protocol": protocol(),
            **part(row("pos", 3, mae_bpm=0.39), row("green", 3, mae_bpm=5.0)),
            "parts": {},
        },
        "toolbox": {
            "protocol": protocol("toolbox"),
            **part(row("pos", 3, mae_bpm=7.98), row("green", 2, mae_bpm=6.0)),
            "parts": {},
        },
    }
    table = sensitivity_table(scored)
    lines = [dict(zip(COLUMNS, line, strict=True)) for line in table.rows]
    assert [(line["method"], line["protocol"], line["MAE [bpm]"]) for line in lines] == [
        ("pos", "default", "0.39"),
        ("pos", "toolbox", "7.98"),
        ("green", "default", "5.00"),
        ("green", "toolbox", "6.00"),
    ]
    assert lines[1]["filter"] == "butterworth 1, 0.6–3.3 Hz" and lines[1]["n of N"] == "3 of 3"
    assert list(csv.reader(io.StringIO(table.csv())))[1][1] == "default"
    assert as_json(scored)["toolbox"]["rows"][0]["mae_bpm"] == 7.98


def test_sensitivity_says_why_a_number_is_missing() -> None:
    """A protocol that cannot score a method is a row with a reason, and missing recordings are counted."""
    empty = {
        **row("pos", 0),
        "n_failed": 3,
        "failed": ["pure.a at 0.0-9.0 s: needs a heart-rate head"],
        "reasons": {"mae_bpm": "no unit could be scored"},
    }
    scored = {"default": {"protocol": protocol(), **part(empty, missing=("pure.z",)), "parts": {}}}
    table = sensitivity_table(scored)
    assert table.rows[0][2:6] == ["–", "–", "–", "0 of 4"]
    assert table.notes == [
        "default: pos: needs a heart-rate head",
        "default: 1 missing, such as pure.z (no label)",
    ]


@pytest.mark.parametrize("name", sorted(presets.PRESETS))
def test_every_preset_is_described_in_few_words(name: str) -> None:
    """Unit, filter, band, spectrum and peak of every preset are short texts."""
    texts = choices(protocol(name))
    assert len(texts) == 5 and all(0 < len(text) < 60 for text in texts), texts


def test_means_with_a_spread_count_as_numbers() -> None:
    """Columns with intervals, counts and +- are right-aligned, columns with words are not."""
    table = Table("t", ["a", "b"], [["2.00 ± 1.00", "x"], ["–", "1"], ["3 of 4", "y"]])
    assert table.is_numeric(0) and not table.is_numeric(1)


def test_sensitivity_names_failures() -> None:
    """A method that failed somewhere has a note beside its count."""
    some = {**row("pos", 2, mae_bpm=1.0), "n_failed": 1}
    table = sensitivity_table({"default": {"protocol": protocol(), **part(some), "parts": {}}})
    assert table.notes == ["default: pos failed on 1"] and table.rows[0][5] == "2 of 3"
