"""From raw files to the page, the command names every planted defect and shows nobody it must not show."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from preprocessing.synthetic import layouts
from tests.audit_toys import FRAME_S
from tests.browser import opened

PLANTED = {
    "zero_device_rate": {"device_dropouts"}, "late_label": {"lag"}, "repeated_stamps": {"repeated_stamps"},
    "flat_label": {"failed"}, "cut_video": {"failed"},
}


def write_params(folder: Path, dataset: str, **preprocessing: Any) -> Path:
    settings = {"face_finder": "none", "landmarks": False, "workers": 1, "size": 64, **preprocessing}
    value = {
        "data": {"sets": [{"name": dataset, "root": str(folder / "raw")}], "store": str(folder / "store")},
        "net": {"name": "physnet"}, "preprocessing": settings, "logging": {"progress": False},
    }
    path = folder / "params.json"
    path.write_text(json.dumps(value))
    return path


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any], int]:
    """A set with every defect of its layout, audited: its folder, the truth, the exit code."""
    import main

    folder = tmp_path_factory.mktemp("audit")
    (folder / "raw").mkdir()
    truth = []
    for number, defect in enumerate([None, *PLANTED], 1):
        made = folder / f"only{number}"
        (one,) = layouts.build("ubfc_rppg_2").write(
            made, people=1, seconds=12.0, seed=number, defects=[defect] if defect else [])
        (made / one.recording).rename(folder / "raw" / f"subject{number}")
        truth.append(dataclasses.replace(one, recording=f"subject{number}"))
    code = main.main(["audit", str(write_params(folder, "ubfc_rppg_2"))])
    return folder, truth, code


def audited_rows(folder: Path) -> dict[str, dict[str, Any]]:
    whole = json.loads((folder / "store" / "audit" / "audit.json").read_text())
    return {entry["recording"].partition(".")[2]: entry for entry in whole["recordings"]}


def test_every_planted_defect_is_named_by_the_command(planted: tuple[Path, list[Any], int]) -> None:
    """From raw files on, each planted defect has its flag, and what is well is called so; exit code 3."""
    folder, truth, code = planted
    rows = audited_rows(folder)
    assert code == 3 and set(rows) == {one.recording for one in truth}
    for one in truth:
        expected = PLANTED[one.defect] if one.defect else set()
        assert set(rows[one.recording]["flags"]) == expected, (one, rows[one.recording]["findings"])
        value = rows[one.recording]["values"].get("lag_ms")
        assert value is None or value == pytest.approx(1000 * one.lag_s, abs=1000 * FRAME_S)
    assert {one.defect for one in truth} == {"", *PLANTED}


def test_the_page_is_whole_and_loads_nothing(planted: tuple[Path, list[Any], int]) -> None:
    """audit.html has pictures of the flagged recordings within it and asks for nothing from elsewhere."""
    folder, _, _ = planted
    text = (folder / "store" / "audit" / "audit.html").read_text()
    assert "data:image/jpeg" in text and "<polyline" in text
    assert not re.search(r"(src|href)\s*=\s*[\"'](?!data:)", text) and "http" not in text


def test_failures_that_are_allowed_do_not_change_the_code(
    planted: tuple[Path, list[Any], int], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """With preprocessing.allow_failed the code is 0; the table still names them; --out is respected."""
    import main

    folder, _, _ = planted
    code = main.main(["audit", str(folder / "params.json"), "--out", str(tmp_path / "out"),
                      "--set", "preprocessing.allow_failed=true"])
    assert code == 0 and {path.name for path in (tmp_path / "out").iterdir()} == {
        "audit.csv", "audit.html", "audit.json"}
    assert "unusable" in capsys.readouterr().out
    assert (tmp_path / "out/audit.json").read_bytes() == (folder / "store/audit/audit.json").read_bytes()


def test_a_stored_file_that_cannot_be_read_costs_itself_only(tmp_path: Path) -> None:
    """A recording whose stored file is no HDF5 is unusable with the reason; the audit goes on."""
    from commands.audit import Entry, examine_all

    (tmp_path / "a.h5").write_bytes(b"no HDF5")
    line = {"status": "done", "subject": "a", "warnings": [], "fps": 30.0}
    (item,) = examine_all([Entry("set.a", "set", "a", line, tmp_path / "a.h5")], False)
    assert item.verdict == "unusable" and "not an HDF5 file" in item.part.findings[0].text


def test_people_who_must_not_be_shown_are_not(
    planted: tuple[Path, list[Any], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recording of the do-not-show list is examined like the others, but not pictured."""
    import main
    from commands import audit

    folder, truth, _ = planted
    monkeypatch.setattr(audit, "hidden", lambda dataset: {one.recording for one in truth})
    main.main(["audit", str(folder / "params.json"), "--out", str(tmp_path)])
    text = (tmp_path / "audit.html").read_text()
    assert "data:image" not in text and "Not pictured" in text and "<polyline" in text


@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium to open the page in")
def test_the_page_works_in_a_browser(planted: tuple[Path, list[Any], int], tmp_path: Path) -> None:
    """Chromium opens the page without an error in its console, and the script has counted the rows."""
    folder, truth, _ = planted
    done = opened((folder / "store/audit/audit.html").as_uri(), tmp_path)
    assert "CONSOLE" not in done.stderr
    assert f"{len(truth)} of {len(truth)}</span>" in done.stdout


# What a reader copes with, so that the recording is as good as any other.
HARMLESS = {
    "millisecond_times", "nested_copy", "durations", "grey_levels", "milliseconds", "no_header",
    "short_stamps", "no_respiration", "half_nested",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", layouts.names())
def test_every_defect_of_every_layout_is_caught(tmp_path: Path, name: str) -> None:
    """Whatever a fixture writer can plant is flagged, refused, or read as if it were not there."""
    import main

    for defect in layouts.build(name).defects:
        folder = tmp_path / defect
        folder.mkdir()
        truth = layouts.build(name).write(folder / "raw", people=2, seconds=16.0, defects=[defect])
        main.main(["audit", str(write_params(folder, name))])
        rows = audited_rows(folder)
        for one in truth:
            row = rows[one.recording]
            assert (row["verdict"] == "unusable") == (not one.usable), (one, row["findings"])
            if one.defect and one.usable and defect not in HARMLESS:
                assert row["flags"], one
            found = row["values"].get("lag_ms")
            if found is not None and row["values"]["label_kind"] != "ecg":
                beat_ms = 60_000 / one.rate_bpm
                off = (found - 1000 * one.lag_s + beat_ms / 2) % beat_ms - beat_ms / 2
                assert abs(off) < 1000 * FRAME_S, (one, found)
        shutil.rmtree(folder)
