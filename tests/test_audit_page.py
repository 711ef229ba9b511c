"""The audit's page, table, csv and JSON hold every recording and every reason, and stay small."""

from __future__ import annotations

import csv
import json

import numpy as np

from evaluation.audit import page
from evaluation.audit.examine import Audited, examine, failed
from evaluation.audit.findings import Finding, Part
from tests.audit_toys import signals


def made_up(n: int) -> list[Audited]:
    """Many audited recordings, a third of them suspicious."""
    rng = np.random.default_rng(0)
    part = examine(signals(seconds=12.0))[0]
    names = ("lag", "gap", "flat_label", "face_lost")
    return [
        Audited(f"set.p{i}-v1", "set", f"p{i}-v1", f"p{i}", Part(
            {**part.values, "lag_ms": round(float(rng.normal(0, 60)), 1)}, part.reasons,
            [Finding(names[i % 4], "a <script>alert(1)</script> & co", i % 90 == 0)] if i % 3 == 0 else []))
        for i in range(n)
    ]


def test_thousands_of_recordings_stay_one_small_page() -> None:
    """A table of 3000 recordings is below 3 MB, with pictures of at most 66 of them; nothing is executed."""
    audited = made_up(3000)
    chosen = page.chosen_for_details(audited)
    assert len(chosen) == page.MOST_DETAILS + page.GOOD_DETAILS
    text = page.html(audited, [page.Detail(key) for key in chosen], {})
    assert len(text) < 3_000_000 and "<script>alert" not in text
    lines = page.terminal_table(audited).splitlines()
    assert len(lines) < 40 and "2970 more" in " ".join(lines)
    assert lines[1].startswith("unusable")


def test_what_is_rounded_to_zero_has_no_sign() -> None:
    """A lag of -0.3 ms reads 0 in the table, not -0."""
    item = Audited("s.r", "s", "r", "r", Part({"lag_ms": -0.3, "lag_r": 0.98}))
    assert " 0  0.98" in page.terminal_table([item])


def test_csv_and_json_hold_every_recording_and_every_reason() -> None:
    """audit.csv has a row each; a failed recording has its reason; JSON refuses NaN."""
    audited = [*made_up(4), failed("set.x", "set", "x", "x", "the video is cut short")]
    rows = {row["recording"]: row for row in csv.DictReader(page.csv_text(audited).splitlines())}
    assert len(rows) == 5 and rows["set.x"]["verdict"] == "unusable" and rows["set.x"]["fps"] == ""
    assert "cut short" in rows["set.x"]["findings"]
    whole = page.as_json(audited, {"set.y": "left out"})
    json.dumps(whole, allow_nan=False)
    for entry in whole["recordings"]:
        for column, value in entry["values"].items():
            assert value is not None or entry["reasons"][column]
    assert whole["summary"]["n_unusable"] == 2 and whole["left_out"] == {"set.y": "left out"}
