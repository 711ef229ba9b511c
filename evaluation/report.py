"""report.html and figures/ of a run folder, made from the files of that folder alone."""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from evaluation import figures
from evaluation.heart_rate import estimate
from evaluation.presets import Protocol
from evaluation.table import counted, expected_units, metrics_tables, number
from evaluation.waveforms import RecordingWaveform, read_waveforms
from utils.errors import UserError
from utils.files import natural_key, read_json, write_text
from utils.signal import fill_gaps, to_uniform

Array = NDArray[np.float64]
SHOWN_S = 15.0
N_BEST, N_WORST = 2, 4
CSS_PX_PER_INCH = 108


def write_report(folder: Path) -> None:
    """Write `report.html` and `figures/*.png` into a run folder.

    Needs metrics.json, windows.csv and waveforms.h5; params.json, environment.json, split.json and
    log.jsonl are shown where they exist. UserError names what is missing.
    """
    for name in ("metrics.json", "windows.csv", "waveforms.h5"):
        if not (folder / name).exists():
            raise UserError(f"{folder}: no {name}; evaluate the run first")
    metrics = read_json(folder / "metrics.json")
    rows = _read_windows(folder / "windows.csv")
    waveforms, _ = read_waveforms(folder / "waveforms.h5")
    optional = {name: _optional(folder / f"{name}.json") for name in ("params", "environment", "split")}
    sections = _sections(folder, metrics, rows, waveforms)
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    template = jinja2.Environment(loader=loader, autoescape=True).get_template("report.html.j2")
    text = template.render(
        name=folder.resolve().name, lead=_lead(metrics), cards=_cards(metrics),
        warnings=_warnings(metrics), tables=metrics_tables(metrics), sections=sections,
        blocks=_blocks(metrics, optional),
    )
    write_text(folder / "report.html", text)


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _read_windows(path: Path) -> list[dict[str, Any]]:
    """Rows of windows.csv with numbers as floats, NaN where empty."""
    numeric = {"start_s", "stop_s", "reference_bpm", "predicted_bpm", "error_bpm", "snr_db", "macc"}
    with open(path, newline="", encoding="utf-8") as handle:
        return [
            {key: float(value or "nan") if key in numeric else value for key, value in row.items()}
            for row in csv.DictReader(handle)
        ]


def _main_part(metrics: Mapping[str, Any], waveforms: Sequence[RecordingWaveform]) -> str:
    """Name of the part of the main table: the one that has no table of its own."""
    others = set(metrics["parts"])
    return next((wave.part for wave in waveforms if wave.part not in others), "test")


def _sections(
    folder: Path, metrics: Mapping[str, Any], rows: Sequence[Mapping[str, Any]],
    waveforms: Sequence[RecordingWaveform],
) -> list[dict[str, Any]]:
    """Every section with its figures, which are written into figures/ on the way."""
    (folder / "figures").mkdir(exist_ok=True)
    main = _main_part(metrics, waveforms)
    scored = [row for row in rows if row["part"] == main and np.isfinite(row["error_bpm"])]
    methods = [row["method"] for row in metrics["rows"] if "mae_bpm" in row]
    agreement = "Agreement with the reference"
    plans: list[tuple[str, str, str, Figure | None]] = [
        (agreement, "methods", "Mean absolute error of the methods of the table.",
         figures.method_bars(metrics["rows"]) if scored else None),
        (agreement, "bland_altman", "Bland-Altman plot with bias and 95 % limits of agreement.",
         _bland_altman(scored, methods)),
        (agreement, "scatter", "Predicted over reference rate; dashed: equality.",
         _scatter(metrics, scored, methods)),
        (agreement, "subjects", "Error of each subject, the worst first.", _subjects(scored, methods)),
        ("Waveforms", "waveforms", "The worst and the best recordings: prediction over label as they were "
         "scored, spectra beside them (grey: label), predicted / reference rate above.",
         _waveforms(metrics, scored, waveforms, methods)),
        ("Training", "training", "Loss over steps (thick: running mean), and the validation part.",
         _training(folder / "log.jsonl")),
    ]
    sections: dict[str, list[dict[str, str]]] = {}
    for title, name, caption, figure in plans:
        if figure is None:
            continue
        path = folder / "figures" / f"{name}.png"
        figures.save(figure, path)
        data = base64.b64encode(path.read_bytes()).decode()
        width = str(round(figure.get_figwidth() * CSS_PX_PER_INCH))
        sections.setdefault(title, []).append({"caption": caption, "data": data, "width": width})
    return [{"title": title, "figures": made} for title, made in sections.items()]


def _pair(scored: Sequence[Mapping[str, Any]], method: str) -> tuple[Array, Array]:
    """Reference and predicted rates of one method."""
    mine = [row for row in scored if row["method"] == method]
    return (np.array([row["reference_bpm"] for row in mine]),
            np.array([row["predicted_bpm"] for row in mine]))


def _scatter(
    metrics: Mapping[str, Any], scored: Sequence[Mapping[str, Any]], methods: Sequence[str]
) -> Figure | None:
    rows = {row["method"]: row for row in metrics["rows"]}
    groups = {name: _pair(scored, name) for name in methods if name != "constant"}
    groups = {name: pair for name, pair in groups.items() if len(pair[0])}
    notes = {name: f"MAE {number(rows[name]['mae_bpm'])}\nr {number(rows[name]['pearson_r'], 3)}\n"
             f"n {rows[name]['n']}" for name in groups}
    return figures.scatter(groups, notes) if groups else None


def _bland_altman(scored: Sequence[Mapping[str, Any]], methods: Sequence[str]) -> Figure | None:
    reference, predicted = _pair(scored, methods[0]) if methods else (np.empty(0), np.empty(0))
    return figures.bland_altman(methods[0], reference, predicted) if len(reference) else None


def _subjects(scored: Sequence[Mapping[str, Any]], methods: Sequence[str]) -> Figure | None:
    gathered: dict[str, dict[str, list[float]]] = {}
    for row in scored:
        gathered.setdefault(row["subject"], {}).setdefault(row["method"], []).append(abs(row["error_bpm"]))
    errors = {
        subject: {method: float(np.mean(values)) for method, values in found.items()}
        for subject, found in gathered.items()
    }
    return figures.subject_errors(errors, methods) if errors else None


def _waveforms(
    metrics: Mapping[str, Any], scored: Sequence[Mapping[str, Any]],
    waveforms: Sequence[RecordingWaveform], methods: Sequence[str],
) -> Figure | None:
    """Panels of the worst and best recordings of the first method that have a label."""
    if not methods:
        return None
    worst: dict[str, float] = {}
    for row in scored:
        if row["method"] == methods[0] and row["reference"] == "label":
            worst[row["recording"]] = max(worst.get(row["recording"], 0.0), abs(row["error_bpm"]))
    ordered = sorted(worst, key=lambda key: (-worst[key], natural_key(key)))
    chosen = ordered if len(ordered) <= N_WORST + N_BEST else ordered[:N_WORST] + ordered[-N_BEST:]
    fields = {key: value for key, value in metrics["protocol"].items() if key in Protocol.model_fields}
    protocol = Protocol.model_validate(fields)
    known = {wave.key: wave for wave in waveforms}
    panels = [_panel(known[key], methods[0], protocol) for key in chosen if key in known]
    panels = [{**panel, "title": f"{panel['title']}, error {worst[panel['title']]:.2f} bpm"}
              for panel in panels if panel]
    return figures.waveforms(panels, methods[0]) if panels else None


def _panel(wave: RecordingWaveform, method: str, protocol: Protocol) -> dict[str, Any]:
    """What one row of the waveform figure shows: the middle seconds, filtered as they were scored."""
    pair = [fill_gaps(wave.label), np.asarray(wave.predictions[method], dtype=np.float64)]
    grid = np.stack([to_uniform(row, wave.time_s)[0] for row in pair])
    fs = (grid.shape[1] - 1) / float(wave.time_s[-1] - wave.time_s[0])
    found = estimate(grid, fs, protocol)
    if any(found.failed):
        return {}
    length = min(grid.shape[1], int(SHOWN_S * fs))
    start = (grid.shape[1] - length) // 2
    shown = found.filtered[:, start : start + length]
    shown = shown / shown.std(axis=1, keepdims=True)
    bpm = found.frequency_hz * 60
    inside = (bpm >= 36) & (bpm <= 220)
    power = found.power[:, inside] / found.power[:, inside].max(axis=1, keepdims=True)
    return {
        "title": wave.key, "time_s": (start + np.arange(length)) / fs, "label": shown[0],
        "prediction": shown[1], "frequency_bpm": bpm[inside], "label_power": power[0], "power": power[1],
        "reference_bpm": float(found.rate_bpm[0]), "predicted_bpm": float(found.rate_bpm[1]),
    }


def _training(path: Path) -> Figure | None:
    """Curves from the events of log.jsonl; None where nothing was trained."""
    steps, epochs = read_curves(path)
    return figures.training_curves(steps, epochs) if len(steps["step"]) > 1 else None


def read_curves(path: Path) -> tuple[dict[str, Array], dict[str, Array]]:
    """(step and loss of every logged step), (step and the measures of every validation) of a log.jsonl.

    Lines that were cut off by a kill are skipped; a step repeated after a resume counts once.
    """
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    trained: dict[int, float] = {}
    measured: dict[int, dict[str, float]] = {}
    epoch_end: dict[int, int] = {}
    for line in lines:
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            continue
        if event.get("event") == "step":
            loss = event["terms"].get("loss")
            trained[event["step"]] = np.nan if loss is None else float(loss)
            epoch_end[event["epoch"]] = event["step"]
        elif event.get("event") == "validation":
            measured[event["epoch"]] = {
                name: np.nan if value is None else float(value) for name, value in event["metrics"].items()
            }
    order = [epoch for epoch in sorted(measured) if epoch in epoch_end]
    names = list(dict.fromkeys(name for epoch in order for name in measured[epoch]))
    steps = {"step": np.array(sorted(trained), dtype=np.float64),
             "loss": np.array([trained[step] for step in sorted(trained)], dtype=np.float64)}
    epochs = {name: np.array([measured[epoch].get(name, np.nan) for epoch in order]) for name in names}
    return steps, {"step": np.array([epoch_end[epoch] for epoch in order], dtype=np.float64), **epochs}


def _lead(metrics: Mapping[str, Any]) -> str:
    header, protocol = metrics["test"], metrics["protocol"]
    unit = "whole recordings" if protocol["window_s"] is None else f"windows of {protocol['window_s']:g} s"
    return (f"{counted(header['n_recordings'], 'recording')} of {counted(header['n_subjects'], 'subject')}, "
            f"protocol “{protocol['name']}”, {unit}")


def _cards(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    """The few numbers that are looked at first."""
    rows = [row for row in metrics["rows"] if "mae_bpm" in row]
    cards = []
    for row in rows[:1] + [row for row in rows[1:] if row["method"] == "constant"]:
        limits = (row["ci95"] or {}).get("mae_bpm")
        span = f" (95 % CI {limits[0]:.2f}–{limits[1]:.2f})" if limits else ""
        cards.append({"value": f"{number(row['mae_bpm'])} bpm", "text": f"MAE of {row['method']}{span}"})
    if rows:
        cards.append({"value": number(rows[0]["pearson_r"], 3), "text": f"Pearson r of {rows[0]['method']}"})
        of = expected_units(metrics, metrics["protocol"])
        cards.append({"value": f"{rows[0]['n']} of {of}", "text": "units scored"})
    return cards


def _warnings(metrics: Mapping[str, Any]) -> list[str]:
    """What must not be overlooked: missing and failed recordings, leaks."""
    found = []
    for name, part in {"test": metrics, **metrics["parts"]}.items():
        missing = part["test"]["missing"]
        if missing:
            shown = ", ".join(missing[:20]) + (" …" if len(missing) > 20 else "")
            text = f"{name}: {counted(len(missing), 'recording')} missing from the numbers: {shown}"
            found.append(text)
        for row in part["rows"]:
            if row.get("n_failed"):
                failed = counted(row["n_failed"], "unit")
                found.append(f"{name}: {row['method']} failed on {failed}, which no mean includes")
    if metrics.get("split", {}).get("leaks"):
        found.append("subjects of the test part are also in the training part (split.by = recording)")
    return found


def _blocks(metrics: Mapping[str, Any], optional: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Protocol, settings, environment and split as key-value tables."""
    split = optional["split"]
    parts = {name: f"{len(part.get('subjects', []))} subjects, {len(part.get('recordings', []))} recordings"
             for name, part in split.get("parts", {}).items()}
    content = {
        "Protocol": metrics["protocol"], "Settings": optional["params"],
        "Environment": optional["environment"],
        "Split": {key: split[key] for key in ("scheme", "by", "hash") if key in split} | parts,
    }
    return [{"title": title, "rows": _flat(value)} for title, value in content.items() if value]


def _flat(value: Any, path: str = "") -> list[tuple[str, str]]:
    """Nested settings as (dotted path, text) pairs."""
    if isinstance(value, Mapping) and value:
        inside = ((f"{path}.{key}" if path else str(key), inner) for key, inner in value.items())
        return [pair for where, inner in inside for pair in _flat(inner, where)]
    if isinstance(value, list):
        return [(path, ", ".join(str(item) for item in value))]
    return [(path, "–" if value is None else str(value))]
