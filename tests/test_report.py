"""Tables, the report and its figures, made from a run folder's files alone."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation import protocols
from evaluation.figures import plot_prediction
from evaluation.report import read_curves, write_report
from evaluation.table import metrics_markdown, runs_table
from evaluation.waveforms import RecordingWaveform, write_waveforms
from utils.errors import UserError
from utils.files import write_json

FPS = 30.0


def run_folder(folder: Path, n: int = 9, dataset: str = "ubfc_rppg_2") -> Path:
    """A small run folder: n test recordings, two harder ones, one without a pulse."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    time_s, waves = np.arange(300) / FPS, []
    for index in range(n + 3):
        rate = 60 + 60 * index / (n + 3)
        label = np.sin(2 * np.pi * rate / 60 * time_s)
        part = "test" if index < n else "hard" if index < n + 2 else "control"
        waves.append(RecordingWaveform(
            key=f"{dataset}.subject{index}", subject=f"subject{index}", dataset=dataset, fps=FPS,
            time_s=time_s, label=label if part != "control" else np.full(300, np.nan), part=part,
            predictions={"physnet": label + 0.3 * rng.standard_normal(300),
                         "pos": label + 2 * rng.standard_normal(300)},
        ))
    waves[0].predictions = {**waves[0].predictions, "pos": np.zeros(300, np.float32)}
    write_waveforms(folder / "waveforms.h5", waves, {"constant_bpm": 85.0})
    metrics = protocols.score(folder / "waveforms.h5", bootstrap=100,
                              missing={"test": [f"{dataset}.lost<b>"]})
    protocols.write_windows(folder / "windows.csv", metrics.pop("windows"))
    write_json(folder / "metrics.json", metrics)
    write_json(folder / "params.json", {"net": {"name": "physnet"}, "train": {"epochs": 2}})
    write_json(folder / "environment.json", {"python": "3.11", "packages": {"torch": "2"}})
    write_json(folder / "split.json", {"hash": "abc", "by": "subject", "scheme": "lists", "parts": {
        "train": {"subjects": ["a"], "recordings": [f"{dataset}.a"]}}})
    lines = [{"event": "step", "epoch": step // 5, "step": step, "terms": {"loss": 1 / step}}
             for step in range(1, 11)]
    lines += [{"event": "validation", "epoch": epoch, "metrics": {"loss": 0.5, "mae_bpm": None}}
              for epoch in (0, 1)]
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"event": "st')
    return folder


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with its report."""
    folder = run_folder(tmp_path_factory.mktemp("report") / "demo")
    write_report(folder)
    return folder


def test_report_stands_alone(reported: Path) -> None:
    """The report names no address and loads nothing: every picture is inside it, no script."""
    text = (reported / "report.html").read_text()
    assert not re.search(r"https?:|//[a-z]|<script|<link|@import|url\(", re.sub(r"base64,[^\"]+", "", text))
    sources = re.findall(r'src="([^"]{0,25})', text)
    assert len(sources) >= 6 and all(source.startswith("data:image/png;base64,") for source in sources)


def test_report_holds_tables_settings_and_warnings(reported: Path) -> None:
    """Main, extra and control tables, settings, environment, missing and failed recordings are in it."""
    text = (reported / "report.html").read_text()
    for words in ("test: heart rate", "hard: heart rate", "control: is there a pulse", "train.epochs",
                  "packages.torch", "1 recording missing", "pos failed on 1 unit,", "constant",
                  "filter_order", "95 % CI"):
        assert words in text, words


def test_report_escapes_names(reported: Path) -> None:
    """A recording's name cannot put markup into the page."""
    text = (reported / "report.html").read_text()
    assert "lost&lt;b&gt;" in text and "lost<b>" not in text


def test_figures_are_files_too(reported: Path) -> None:
    """Each figure of the report is a PNG in figures/ that opens and is not blank."""
    names = {path.stem for path in (reported / "figures").glob("*.png")}
    assert names == {"methods", "scatter", "bland_altman", "subjects", "waveforms", "training"}
    for path in (reported / "figures").glob("*.png"):
        with Image.open(path) as picture:
            assert np.asarray(picture.convert("L")).std() > 5


def test_report_of_many_recordings_stays_small(tmp_path: Path) -> None:
    """With 150 recordings the report is made, limits its panels and stays under 3 MB."""
    folder = run_folder(tmp_path / "many", n=150)
    write_report(folder)
    assert (folder / "report.html").stat().st_size < 3_000_000
    assert "The worst 30 of 150" not in (folder / "report.html").read_text()  # drawn, not text
    with Image.open(folder / "figures" / "subjects.png") as picture:
        assert picture.height < 1500


def test_report_without_optional_files(tmp_path: Path) -> None:
    """A folder with waveforms, windows and metrics alone, as anyone's file gives, has a report as well."""
    folder = run_folder(tmp_path / "bare")
    for name in ("params.json", "environment.json", "split.json", "log.jsonl"):
        (folder / name).unlink()
    write_report(folder)
    assert "test: heart rate" in (folder / "report.html").read_text()


def test_report_of_nothing_but_failures(tmp_path: Path) -> None:
    """When every prediction failed there is still a report, and its numbers are dashes."""
    folder = tmp_path / "failed"
    folder.mkdir()
    time_s = np.arange(300) / FPS
    wave = RecordingWaveform("a.r", "s", "a", FPS, time_s, np.sin(7 * time_s), {"net": np.zeros(300)})
    write_waveforms(folder / "waveforms.h5", [wave])
    metrics = protocols.score([wave])
    protocols.write_windows(folder / "windows.csv", metrics.pop("windows"))
    write_json(folder / "metrics.json", metrics)
    write_report(folder)
    assert "– bpm" in (folder / "report.html").read_text()


def test_report_needs_metrics(tmp_path: Path) -> None:
    """A folder that was not evaluated is refused with the file that is missing."""
    with pytest.raises(UserError, match=r"no metrics\.json"):
        write_report(tmp_path)


def test_curves_survive_a_kill_and_a_resume(tmp_path: Path) -> None:
    """A cut last line is skipped, and a step logged twice counts with its later value."""
    events = [{"event": "step", "epoch": 1, "step": s, "terms": {"loss": v}} for s, v in ((1, 3.0), (2, 2.0))]
    events += [{"event": "resumed"}, {"event": "step", "epoch": 1, "step": 2, "terms": {"loss": 1.0}},
               {"event": "validation", "epoch": 1, "metrics": {"mae_bpm": 4.0}}]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, events)) + '\n{"eve')
    steps, epochs = read_curves(tmp_path / "log.jsonl")
    assert steps["loss"].tolist() == [3.0, 1.0]
    assert (epochs["step"].tolist(), epochs["mae_bpm"].tolist()) == ([2.0], [4.0])


def test_markdown_lines_up(reported: Path) -> None:
    """The table reads in a terminal: all lines of a table have one width, and n of N counts the missing."""
    text = metrics_markdown(json.loads((reported / "metrics.json").read_text()))
    first = [line for line in text.split("\n\n")[1].splitlines() if line.startswith("|")]
    assert len({len(line) for line in first}) == 1 and len(first) == 2 + 3
    assert first[2].split("|")[-2].strip() == "9 of 10" and first[3].split("|")[-2].strip() == "8 of 10"


def test_runs_stand_beside_published_numbers(tmp_path: Path) -> None:
    """A run on UBFC layout shows the published POS and PhysNet lines, marked as not comparable."""
    table = runs_table([run_folder(tmp_path / "demo")])
    rows = {row[1]: row for row in table.rows}
    assert "4.00/–/– [" in rows["pos"][-1] and "≠n" in rows["pos"][-1] and "≠p" in rows["pos"][-1]
    assert "2.95/3.67/–" in rows["physnet"][-1] and rows["physnet"][2] == "ubfc_rppg_2"
    assert rows["constant"][-1] == "–" and rows["pos"][9] == "8 of 10"
    assert any("NeurIPS 2023" in note for note in table.notes)


def test_other_datasets_have_no_published_numbers(tmp_path: Path) -> None:
    """Numbers of one dataset are never shown beside another one."""
    table = runs_table([run_folder(tmp_path / "own", dataset="folder")])
    assert {row[-1] for row in table.rows} == {"–"}


def test_a_leaking_split_is_marked_in_the_table_of_runs(tmp_path: Path) -> None:
    """A run that was tested on people it was trained on says so beside every number."""
    run = run_folder(tmp_path / "demo")
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps({**metrics, "split": {"leaks": True}}))
    assert {row[0] for row in runs_table([run]).rows} == {"demo (LEAKS)"}


def test_table_as_csv_and_latex(tmp_path: Path) -> None:
    """CSV reads back to the same cells; LaTeX escapes underscores and has one line per row."""
    table = runs_table([run_folder(tmp_path / "demo_1")])
    assert list(csv.reader(io.StringIO(table.csv()))) == [table.columns, *table.rows]
    latex = table.latex()
    assert r"demo\_1" in latex and latex.count(r"\\") == 1 + len(table.rows) and r"$\neq$n" in latex


def test_published_facts_are_sourced() -> None:
    """Every published row names a source that exists, and a CHROM slip is flagged."""
    path = Path(__file__).parent.parent / "evaluation" / "published.json"
    facts = json.loads(path.read_text())
    assert {row["source"] for row in facts["rows"]} == set(facts["sources"])
    assert all(row["test"] in facts["datasets"].values() for row in facts["rows"])
    assert any("slip" in row.get("note", "") for row in facts["rows"])


@pytest.mark.parametrize("rate", [71.5, None])
def test_prediction_plot(tmp_path: Path, rate: float | None) -> None:
    """plot.png of predict is drawn with and without a heart rate."""
    time_s = np.arange(300) / FPS
    rates = [(5.0, 71.0, 3.0), (6.0, 72.0, 3.0)] if rate else []
    summary = {"method": "pos", "heart_rate_bpm": rate, "quality": 0.8, "snr_db": None}
    plot_prediction(tmp_path / "plot.png", np.sin(7 * time_s), time_s, rates, summary)
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.width > 800
