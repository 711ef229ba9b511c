"""evaluate: a waveform file under one protocol or many, without a network."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

import main
from evaluation import presets
from evaluation.waveforms import RecordingWaveform, write_waveforms
from utils.files import read_json

FPS = 30.0


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Anyone's waveform file: three recordings of 40 s, one net."""
    rng, waves = np.random.default_rng(0), []
    time_s = np.arange(1200) / FPS
    for index in range(3):
        label = np.sin(2 * np.pi * (60 + 15 * index) / 60 * time_s)
        waves.append(
            RecordingWaveform(
                key=f"folder.r{index}",
                subject=f"s{index}",
                dataset="folder",
                fps=FPS,
                time_s=time_s,
                label=label,
                predictions={"mine": label + 0.5 * rng.standard_normal(1200)},
            )
        )
    path = tmp_path_factory.mktemp("waves") / "waves.h5"
    write_waveforms(path, waves, {"constant_bpm": 80.0})
    return path


def run(file: Path, out: Path, *words: str) -> int:
    return main.main(["evaluate", str(file), "--out", str(out), *words])


def test_one_protocol_writes_its_metrics(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tables are printed, metrics.<protocol>.json is written, and no sensitivity table."""
    assert run(file, tmp_path, "--protocol", "toolbox") == 0
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.toolbox.json"}
    assert "protocol toolbox" in capsys.readouterr().out


def test_further_metrics_are_printed_where_asked_for(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--full adds the table of CCC, shares within limits and standard errors."""
    assert run(file, tmp_path, "--full") == 0
    assert "further metrics" in capsys.readouterr().out
    assert run(file, tmp_path) == 0
    assert "further metrics" not in capsys.readouterr().out


def test_all_protocols_in_one_table(file: Path, tmp_path: Path) -> None:
    """Every preset is a row per method, with the numbers of its own metrics file; stmap has none here."""
    assert run(file, tmp_path, "--protocol", "all") == 0
    with open(tmp_path / "sensitivity.csv", newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["method"] == "mine"]
    assert [row["protocol"] for row in rows] == list(presets.PRESETS)
    kept = read_json(tmp_path / "sensitivity.json")
    for row in rows:
        own = read_json(tmp_path / f"metrics.{row['protocol']}.json")
        assert own["rows"] == kept[row["protocol"]]["rows"]
        mae = own["rows"][0]["mae_bpm"]
        assert row["MAE [bpm]"] == ("–" if mae is None else f"{mae:.2f}")
    assert [row["protocol"] for row in rows if row["MAE [bpm]"] == "–"] == ["stmap"]
    assert "stmap: mine: " in (tmp_path / "sensitivity.md").read_text()


def test_protocols_are_scored_once_each(file: Path, tmp_path: Path) -> None:
    """A protocol that is named twice is one row."""
    assert run(file, tmp_path, "--protocol", "default", "toolbox", "default") == 0
    assert set(read_json(tmp_path / "sensitivity.json")) == {"default", "toolbox"}


def test_unknown_protocols_and_files_are_refused(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both are exit code 2, with what there is; nothing is written."""
    assert run(file, tmp_path / "out", "--protocol", "toolbx") == 2
    assert "did you mean" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert run(tmp_path / "none.h5", tmp_path / "out") == 2
    assert "not there" in capsys.readouterr().err


def test_report_is_renewed_for_a_run_folder_only(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--report writes the report of the run folder after its metrics; for anything else it is refused."""
    renewed: list[Path] = []
    monkeypatch.setattr("evaluation.report.write_report", renewed.append)
    (tmp_path / "waveforms.h5").write_bytes(file.read_bytes())
    assert main.main(["evaluate", str(tmp_path), "--report"]) == 0
    assert renewed == [tmp_path] and (tmp_path / "metrics.default.json").exists()
    assert run(file, tmp_path, "--report") == 2
    assert "only for a run folder" in capsys.readouterr().err and len(renewed) == 1
