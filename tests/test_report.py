"""The report, its figures and its viewer, made from a run folder's files alone."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evaluation import figures, protocols, sensitivity
from evaluation.figures import plot_prediction
from evaluation.figures.agreement import agreement_note, limits_of_agreement
from evaluation.figures.style import short, signed
from evaluation.report import read_curves, write_report
from evaluation.report.files import Units, attention, png_width, read_run, read_units
from evaluation.report.parts import parts_of
from evaluation.report.shown import panel, shown, worst_units
from evaluation.report.viewer import viewer_data
from evaluation.table import metrics_markdown
from evaluation.waveforms import RecordingWaveform, write_waveforms
from tests.browser import in_chromium
from utils.errors import UserError
from utils.files import write_json

FPS = 30.0
EVIL = "</script><b>$x$"


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
            conditions={"light": ["lamp", EVIL][index % 2]},
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
    lines = [{"event": "step", "epoch": step // 5, "step": step, "terms": {"loss": 1 / step, "extra": 0.1},
              "lr": {"net": 0.1 / step}} for step in range(1, 11)]
    lines += [{"event": "validation", "epoch": epoch, "metrics": {"loss": 0.5, "mae_bpm": None}}
              for epoch in (0, 1)]
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"event": "st')
    return folder


def png() -> bytes:
    """A small picture."""
    image = io.BytesIO()
    Image.new("RGB", (25, 20), "red").save(image, "png")
    return image.getvalue()


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with everything a report can show, and its report."""
    folder = run_folder(tmp_path_factory.mktemp("report") / "demo")
    scored = {name: protocols.score(folder / "waveforms.h5", name, bootstrap=0)
              for name in ("default", "toolbox")}
    write_json(folder / "sensitivity.json", sensitivity.as_json(scored))
    (folder / "figures").mkdir()
    (folder / "figures" / "attention.png").write_bytes(png())
    write_report(folder)
    return folder


def test_report_stands_alone(reported: Path) -> None:
    """The report loads nothing: every picture is inside it, and a policy forbids any request."""
    text = (reported / "report.html").read_text()
    plain = re.sub(r"base64,[^\"]+", "", text).replace('"http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?:|\"//|<link|@import|url\(|<script[^>]* src", plain)
    assert "default-src 'none'; img-src data:" in text
    sources = re.findall(r'src="([^"]{0,25})', text)
    assert len(sources) >= 12 and all(source.startswith("data:image/png;base64,") for source in sources)


def test_report_holds_tables_settings_and_warnings(reported: Path) -> None:
    """Main, extra and control tables, settings, environment, missing and failed recordings are in it."""
    text = (reported / "report.html").read_text()
    for words in ("test: heart rate", "hard: heart rate", "control: is there a pulse", "train.epochs",
                  "packages.torch", "1 recording missing", "pos failed on 1 unit,", "constant",
                  "filter_order", "95 % CI", "Under other protocols", "What the net looks at",
                  "units scored, 1 recording missing"):
        assert words in text, words


def test_missing_recordings_stand_above_the_numbers(reported: Path) -> None:
    """Whoever reads the first number has passed the warning."""
    text = (reported / "report.html").read_text()
    assert 0 < text.index("missing from the numbers") < text.index('class="card"') < text.index("<table")


def test_report_escapes_names(reported: Path) -> None:
    """Neither a recording's name nor a condition can put markup into the page or end its script."""
    text = (reported / "report.html").read_text()
    assert "lost&lt;b&gt;" in text and "lost<b>" not in text
    assert EVIL not in text and text.count("</script>") == 2


def test_every_picture_and_table_has_a_text(reported: Path) -> None:
    """Alternative texts, captions and unique anchors: the page can be read without seeing it."""
    text = (reported / "report.html").read_text()
    assert all(len(alt) > 30 for alt in re.findall(r'<img alt="([^"]*)"', text))
    assert text.count("<table") == text.count("<caption")
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(ids)


def test_figures_are_files_too(reported: Path) -> None:
    """Each figure of the report is a PNG that is not blank, and a PDF with scalable text and no date."""
    names = {path.stem for path in (reported / "figures").glob("*.pdf")}
    assert names >= {
        "methods", "error_shares", "scatter", "bland_altman", "error_over_rate", "subjects", "snr",
        "error_over_snr", "waveforms", "hard_scatter", "hard_bland_altman", "hard_subjects",
        "hard_waveforms", "control_detections", "training", "conditions", "paired",
    }
    for name in names:
        with Image.open(reported / "figures" / f"{name}.png") as picture:
            assert np.asarray(picture.convert("L")).std() > 5, name
        data = (reported / "figures" / f"{name}.pdf").read_bytes()
        assert data.startswith(b"%PDF") and b"/Type3" not in data and b"CreationDate" not in data


def test_parts_never_share_a_file(reported: Path) -> None:
    """Parts whose names are no file names keep apart from each other and inside figures/."""
    part = parts_of(read_run(reported))[1]
    names = ("a b", "a/b", "../../a b", "a_b")
    found = {dataclasses.replace(part, name=name).file("scatter") for name in names}
    assert len(found) == 4 and all(re.fullmatch(r"[\w-]+", name) for name in found)


def test_equal_figures_are_equal_bytes(tmp_path: Path) -> None:
    """Drawn twice, a figure is the same file, as PNG and as PDF."""
    for kind in ("png", "pdf"):
        for name in ("a", "b"):
            pair = (np.array([60.0, 70, 80]), np.array([61.0, 69, 84]))
            figures.save(figures.bland_altman({"x": pair}, {"x": "note"}, {"x": "#0072b2"}),
                         tmp_path / f"{name}.{kind}")
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def test_limits_of_agreement_by_hand() -> None:
    """Errors 1, -1, 3: bias 1, sample SD 2, limits -2.92 and 4.92, written into the figure."""
    reference = np.array([60.0, 70.0, 80.0])
    predicted = reference + np.array([1.0, -1.0, 3.0])
    assert limits_of_agreement(reference, predicted) == (1.0, pytest.approx(3.92))
    assert agreement_note(reference, predicted, (0.5, 1.5)) == (
        "bias +1.00 [+0.50, +1.50] bpm, n = 3\nlimits of agreement −2.92 to +4.92 bpm")
    assert limits_of_agreement(reference[:1], predicted[:1]) == (1.0, None)


def test_comparisons_are_those_of_the_metrics(reported: Path) -> None:
    """The paired difference that a figure states is the one of metrics.json, with its sign."""
    metrics = json.loads((reported / "metrics.json").read_text())
    value = {row["against"]: row["mae_bpm"] for row in metrics["paired"]}["pos"]
    assert f"pos {signed(value)}; constant" in (reported / "report.html").read_text() and value < 0


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 150 recordings with waveforms, windows and metrics alone, as older runs left them."""
    folder = run_folder(tmp_path_factory.mktemp("many") / "bare", n=150)
    for name in ("params.json", "environment.json", "split.json", "log.jsonl"):
        (folder / name).unlink()
    metrics = json.loads((folder / "metrics.json").read_text())
    for old in (metrics, *metrics["parts"].values()):
        for key in ("conditions", "paired", "vital_signs"):
            old.pop(key, None)
    write_json(folder / "metrics.json", metrics)
    write_report(folder)
    return folder


def test_report_of_many_recordings_stays_small(many: Path) -> None:
    """With 150 recordings the report is made, limits its panels and stays under 4 MB."""
    assert (many / "report.html").stat().st_size < 4_000_000
    with Image.open(many / "figures" / "subjects.png") as picture:
        assert picture.height < 1500


def test_report_without_optional_files(many: Path) -> None:
    """A folder without params, environment, split, log and the newer keys of metrics has a report as well."""
    text = (many / "report.html").read_text()
    assert "test: heart rate" in text and "Settings" not in text
    assert not {"training", "paired", "conditions"} & {path.stem for path in (many / "figures").iterdir()}


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


def test_why_there_is_no_map_is_said(many: Path) -> None:
    """Where no map of what the net looks at could be made, the page says why."""
    write_json(many / "figures" / "attention.json", {"method": "physnet", "reason": "the gradient is zero"})
    assert attention(many) == (None, "the gradient is zero")
    (many / "figures" / "attention.png").write_bytes(b"no picture")
    assert attention(many)[0] is None


def test_report_needs_metrics(tmp_path: Path) -> None:
    """A folder that was not evaluated is refused with the file that is missing."""
    with pytest.raises(UserError, match=r"no metrics\.json"):
        write_report(tmp_path)


@pytest.mark.parametrize(("damage", "message"), [
    (lambda text: text.replace("error_bpm", "other"), 'no column "error_bpm"'),
    (lambda text: text.replace("label,", "label,x", 1), "could not convert"),
    (lambda text: text + "one,two\n", "has 2 values"),
])
def test_damaged_windows_are_named(reported: Path, tmp_path: Path, damage: Any, message: str) -> None:
    """A windows.csv with a missing column, a word for a number or a short row is refused, not half read."""
    path = tmp_path / "windows.csv"
    path.write_text(damage((reported / "windows.csv").read_text()))
    with pytest.raises(UserError, match=message):
        read_units(path)


def test_curves_survive_a_kill_and_a_resume(tmp_path: Path) -> None:
    """A cut last line is skipped, a step logged twice counts with its later value, the best epoch is kept."""
    events: list[dict[str, Any]] = [
        {"event": "step", "epoch": 1, "step": s, "terms": {"loss": v}, "lr": {"net": 0.1}}
        for s, v in ((1, 3.0), (2, 2.0))]
    events += [{"event": "resumed"}, {"event": "step", "epoch": 1, "step": 2, "terms": {"loss": 1.0}},
               {"event": "validation", "epoch": 1, "metrics": {"mae_bpm": 4.0}},
               {"event": "epoch", "epoch": 1, "best": True}]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, events)) + '\n{"eve')
    curves = read_curves(tmp_path / "log.jsonl")
    assert curves.steps["loss"].tolist() == [3.0, 1.0]
    assert curves.steps["lr/net"][0] == 0.1 and np.isnan(curves.steps["lr/net"][1])
    assert (curves.epochs["step"].tolist(), curves.epochs["mae_bpm"].tolist()) == ([2.0], [4.0])
    assert curves.best_step == 2.0


def units(errors: dict[str, list[float]]) -> Units:
    """Windows of 10 s: recording -> error of each."""
    rows = [(key, place, error) for key, found in errors.items() for place, error in enumerate(found)]
    n = len(rows)
    texts = {name: np.array([value] * n, dtype=object) for name, value in
             {"part": "test", "subject": "s", "method": "m", "reference": "label", "failed": ""}.items()}
    starts = np.array([10.0 * place for _, place, _ in rows])
    error = np.array([error for _, _, error in rows])
    return Units(recording=np.array([key for key, _, _ in rows], dtype=object), start_s=starts,
                 stop_s=starts + 10, reference_bpm=np.full(n, 70.0), predicted_bpm=70 + error,
                 error_bpm=error, snr_db=np.zeros(n), **texts)


def test_the_worst_window_of_each_recording_is_shown() -> None:
    """Recordings come by their mean error, each with the window that is worst, failed windows left out."""
    found = worst_units(units({"a.1": [1, -2, 0], "a.2": [5, -9, np.nan], "a.3": [np.nan]}))
    assert list(found) == ["a.2", "a.1"]
    assert [float(unit.start_s[0]) for unit in found.values()] == [10.0, 10.0]


def test_a_panel_shows_the_seconds_it_names() -> None:
    """The panel of a window lies inside it, and its spectrum has its peak at the window's own rate."""
    time_s = np.arange(900) / FPS
    pulse = np.where(time_s < 20, np.sin(2 * np.pi * 1.0 * time_s), np.sin(2 * np.pi * 2.0 * time_s))
    wave = RecordingWaveform("a.1", "s", "a", FPS, time_s, pulse, {"m": pulse})
    made = panel(wave, "m", units({"a.1": [0, 0, 9]}).where(np.array([2])), (0.7, 4.0))
    assert made["time_s"][0] >= 20 and made["time_s"][-1] <= 30
    assert made["frequency_bpm"][np.argmax(made["power"])] == pytest.approx(120, abs=1)
    assert made["frequency_bpm"][np.argmax(made["label_power"])] == pytest.approx(120, abs=1)


def test_unknown_labels_are_not_drawn() -> None:
    """Where the label is unknown the shown one is a gap, never a made-up line; a flat waveform is none."""
    time_s = np.arange(300) / FPS
    label = np.sin(2 * np.pi * 1.2 * time_s)
    label[100:160] = np.nan
    wave = RecordingWaveform("a.1", "s", "a", FPS, time_s, label, {"m": np.zeros(300)})
    seen = shown(wave, ["m", "absent"], (0.7, 4.0))
    assert seen.label is not None
    assert np.isnan(seen.label[101:159]).all() and np.isfinite(seen.label[:99]).all()
    assert seen.predictions == {"m": None, "absent": None}


def test_viewer_holds_what_was_predicted(reported: Path) -> None:
    """The bytes in the page are the recording's waveform: its rate is found in them again."""
    data = viewer_data(parts_of(read_run(reported)))
    wave = data["waves"]["ubfc_rppg_2.subject4"]
    values = np.frombuffer(base64.b64decode(wave["traces"][data["drawn"].index("physnet")]), np.uint8)
    power = np.abs(np.fft.rfft(values - values.mean(), 4096)) ** 2
    peak_bpm = 60 * wave["rate"] * float(np.argmax(power)) / 4096
    assert peak_bpm == pytest.approx(60 + 60 * 4 / 12, abs=1.5) and values.min() >= 1
    assert data["waves"]["ubfc_rppg_2.subject0"]["traces"][data["drawn"].index("pos")] is None
    assert data["waves"]["ubfc_rppg_2.subject11"]["label"] is None


def test_viewer_lists_every_recording(reported: Path) -> None:
    """Scored, failed, missing and unlabelled recordings are all in the list, with their reasons."""
    rows = {row["key"]: row for row in viewer_data(parts_of(read_run(reported)))["recordings"]}
    assert len(rows) == 13
    assert rows["ubfc_rppg_2.lost<b>"]["missing"] == "failed before it could be predicted"
    assert rows["ubfc_rppg_2.subject0"]["methods"][1][4:] == [1, "the waveform is constant"]
    assert "missing" not in rows["ubfc_rppg_2.subject11"]
    mine = [row for row in rows.values() if row["part"] == "test" and "methods" in row]
    metrics = json.loads((reported / "metrics.json").read_text())
    mean = np.mean([row["methods"][0][1] for row in mine])
    assert mean == pytest.approx(metrics["rows"][0]["mae_bpm"], abs=0.01)


def test_viewer_keeps_the_page_small(reported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many recordings the worst of each part keep their waveforms, and all keep their numbers."""
    monkeypatch.setattr("evaluation.report.viewer.MAX_VIEWED", 6)
    data = viewer_data(parts_of(read_run(reported)))
    assert len(data["waves"]) == 6 and len(data["recordings"]) == 13


def test_the_stored_map_is_shown_at_its_size(reported: Path) -> None:
    """A picture of 25 pixels at 150 a inch is 18 CSS pixels wide in the page."""
    assert png_width(png()) == 25
    assert '<figure style="width: 18px">' in (reported / "report.html").read_text()


def test_the_first_method_keeps_its_colour() -> None:
    """However many methods follow, no other one is drawn in the colour of the first."""
    tint = figures.colours([f"m{i}" for i in range(30)] + ["constant"])
    assert list(tint.values()).count(tint["m0"]) == 1


def test_no_value_lies_outside_its_panel() -> None:
    """Conditions share an axis that reaches to the largest value and interval of all of them."""
    def value(mae_bpm: float) -> dict[str, Any]:
        return {"n_recordings": 2, "rows": [
            {"method": "m", "mae_bpm": mae_bpm, "ci95": {"mae_bpm": [0.5 * mae_bpm, 2 * mae_bpm]}}]}

    drawn = figures.condition_errors({"light": {"a": value(2.0)}, "task": {"b": value(50.0)}},
                                     {"m": "#0072b2"}, {"m": "o"})
    assert all(axis.get_xlim()[0] == 0 and axis.get_xlim()[1] > 100 for axis in drawn.axes)


def test_texts_of_figures() -> None:
    """Names of any length fit, and a rounded zero has no sign."""
    assert len(short("x" * 200)) <= 34 and short("pos") == "pos"
    assert (signed(-0.001), signed(0.001), signed(-1.5)) == ("0.00", "0.00", "−1.50")


DRIVER = """<script>
const all = (selector) => [...document.querySelectorAll(selector)];
function say(name, value) {
  const line = document.createElement("pre");
  line.id = name;
  line.textContent = value;
  document.body.append(line);
}
const click = (element) => element.dispatchEvent(new Event("click", { bubbles: true }));
const names = () => all("#list tbody tr").map((row) => row.dataset.key.split(".")[1]).join(" ");
say("first", all("#traces svg").length + " " + all("#traces path.prediction").length);
click(document.getElementById("next"));
say("second", document.getElementById("about").textContent);
const filter = document.getElementById("filter");
filter.value = "missing"; filter.dispatchEvent(new Event("input"));
say("missing", names());
filter.value = "hard"; filter.dispatchEvent(new Event("input"));
click(all("#list thead button").find((button) => button.textContent.startsWith("reference")));
say("sorted", names());
click(document.querySelector("#list tbody button"));
say("chosen", document.getElementById("pick").value);
</script></body>"""


def test_the_page_works_in_a_browser(reported: Path, tmp_path: Path) -> None:
    """Chromium's console stays empty; the viewer draws, steps on, and the list filters and sorts."""
    page = tmp_path / "driven.html"
    page.write_text((reported / "report.html").read_text().replace("</body>", DRIVER))
    dom, console = in_chromium(page.as_uri(), tmp_path / "profile")
    assert console == []
    said = dict(re.findall(r'<pre id="(\w+)">(.*?)</pre>', dom))
    assert said["first"] == "2 2"  # both methods; of pos, which failed, a text stands for its two lines
    assert said["second"].startswith(
        "ubfc_rppg_2.subject1 · part test · subject subject1 · light &lt;/script&gt;")
    assert said["missing"] == "lost&lt;b&gt;"
    assert said["sorted"] == "subject10 subject9"
    assert said["chosen"] == "ubfc_rppg_2.subject10"


def test_markdown_lines_up(reported: Path) -> None:
    """The table reads in a terminal: all lines of a table have one width, and n of N counts the missing."""
    text = metrics_markdown(json.loads((reported / "metrics.json").read_text()))
    first = [line for line in text.split("\n\n")[1].splitlines() if line.startswith("|")]
    assert len({len(line) for line in first}) == 1 and len(first) == 2 + 3
    assert first[2].split("|")[-2].strip() == "9 of 10" and first[3].split("|")[-2].strip() == "8 of 10"


@pytest.mark.parametrize("rate", [71.5, None])
def test_prediction_plot(tmp_path: Path, rate: float | None) -> None:
    """plot.png of predict is drawn with and without a heart rate."""
    time_s = np.arange(300) / FPS
    rates = [(5.0, 71.0, 3.0), (6.0, 72.0, 3.0)] if rate else []
    summary = {"method": "pos", "heart_rate_bpm": rate, "quality": 0.8, "snr_db": None}
    plot_prediction(tmp_path / "plot.png", np.sin(7 * time_s), time_s, rates, summary)
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.width > 800
