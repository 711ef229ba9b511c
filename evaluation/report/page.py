"""The page itself: what stands at its top, its tables, figures and settings, in one HTML file."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from evaluation import figures, sensitivity
from evaluation.presets import shown_name
from evaluation.report.files import RunFiles, attention, png_width, read_run
from evaluation.report.parts import Part, parts_of
from evaluation.report.sections import Drawing, drawings
from evaluation.report.viewer import viewer_data
from evaluation.split_notes import named, split_notes
from evaluation.table import Table, counted, expected_units, metrics_tables, number
from utils.files import write_text

CSS_PX_PER_INCH = 108
LOOKS = "What the net looks at"
LOOKS_CAPTION = (
    "Sensitivity: how strongly each pixel moves the predicted waveform. Contribution: how much of the "
    "waveform comes from it, to first order. By facial region: weight per area, 1 is the mean of the "
    "picture; dots are recordings."
)


def write_report(folder: Path) -> None:
    """Write `report.html` and `figures/*.png` and `*.pdf` into a run folder.

    Needs metrics.json, windows.csv and waveforms.h5; params.json, environment.json, split.json, log.jsonl,
    sensitivity.json and figures/attention.png are shown where they exist. UserError names what is missing.
    """
    run = read_run(folder)
    parts, tables = parts_of(run), _tables(run.metrics)
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    text = environment.get_template("page.html.j2").render(
        name=folder.resolve().name, lead=_lead(run.metrics), cards=_cards(run.metrics),
        warnings=_warnings(run.metrics, parts), tables=tables[:len(parts)], further=tables[len(parts):],
        sensitivity=sensitivity.tables(run.optional["sensitivity"]) if run.optional["sensitivity"] else [],
        sections=_sections(run, parts), blocks=_blocks(run), data=viewer_data(parts),
    )
    write_text(folder / "report.html", text)


def _tables(metrics: Mapping[str, Any]) -> list[Table]:
    """A table for each part, then every further one; the further metrics only where the run has them."""
    return metrics_tables(metrics, full=any("ccc" in row for row in metrics["rows"]))


def _sections(run: RunFiles, parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Every section with its figures, which are written into figures/ on the way."""
    place = run.folder / "figures"
    place.mkdir(exist_ok=True)
    sections: dict[str, list[dict[str, str]]] = {}
    for drawing in drawings(parts):
        sections.setdefault(drawing.section, []).append(_written(drawing, place))
    picture, reason = attention(run.folder)
    if picture is not None or reason:
        sections[LOOKS] = [] if picture is None else [_embedded(
            picture, LOOKS_CAPTION, LOOKS_CAPTION, png_width(picture) / figures.DPI)]
    curves = run.curves
    if len(curves.steps.get("step", ())) > 1:
        drawing = Drawing("Training", "training", "Loss over steps (thick: running mean), the validation "
                          "part after epochs, and the learning rate.", "Training curves over steps.",
                          lambda: figures.training_curves(curves.steps, curves.epochs, curves.best_step))
        sections[drawing.section] = [_written(drawing, place)]
    return [{"title": title, "figures": made, "text": "" if made else f"No picture: {reason}."}
            for title, made in sections.items()]


def _written(drawing: Drawing, place: Path) -> dict[str, str]:
    """A figure as PNG and PDF in figures/, and its PNG for the page."""
    figure = drawing.draw()
    figures.save(figure, place / f"{drawing.name}.png")
    figure.set_layout_engine("none")  # what was laid out stays where it is, and is not computed twice
    figures.save(figure, place / f"{drawing.name}.pdf")
    data = (place / f"{drawing.name}.png").read_bytes()
    return _embedded(data, drawing.caption, f"{drawing.caption} {drawing.alt}", figure.get_figwidth())


def _embedded(png: bytes, caption: str, alt: str, width_inches: float) -> dict[str, str]:
    return {"caption": caption, "alt": alt, "width": str(round(width_inches * CSS_PX_PER_INCH)),
            "data": base64.b64encode(png).decode()}


def _lead(metrics: Mapping[str, Any]) -> str:
    header, protocol = metrics["test"], metrics["protocol"]
    unit = "whole recordings" if protocol["window_s"] is None else f"windows of {protocol['window_s']:g} s"
    sets = ", ".join([*header.get("datasets", []), *header.get("origins", [])])
    return (f"{counted(header['n_recordings'], 'recording')} of {counted(header['n_subjects'], 'subject')}"
            f"{f' ({sets})' if sets else ''}, protocol “{shown_name(protocol)}”, {unit}")


def _cards(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    """The few numbers that are looked at first."""
    rows = [row for row in metrics["rows"] if "mae_bpm" in row]
    cards = []
    for row in rows[:1] + [row for row in rows[1:] if row["method"] == "constant"]:
        limits = (row["ci95"] or {}).get("mae_bpm")
        span = f", 95 % CI {limits[0]:.2f}–{limits[1]:.2f}" if limits else ""
        cards.append({"value": f"{number(row['mae_bpm'])} bpm", "text": f"MAE of {row['method']}{span}"})
    if rows:
        cards.append({"value": number(rows[0]["pearson_r"], 3), "text": f"Pearson r of {rows[0]['method']}"})
        of = expected_units(metrics, metrics["protocol"])
        n_missing = metrics["test"]["n_missing"]
        lost = f", {counted(n_missing, 'recording')} missing" if n_missing else ""
        cards.append({"value": f"{rows[0]['n']} of {of}", "text": f"units scored{lost}"})
    return cards


def _warnings(metrics: Mapping[str, Any], parts: Sequence[Part]) -> list[str]:
    """What must not be overlooked: missing and failed recordings, leaks, who was left out, what was odd."""
    found = []
    for part in parts:
        missing = part.result["test"].get("missing", [])
        if missing:
            found.append(f"{part.name}: {counted(len(missing), 'recording')} missing from the numbers: "
                         f"{named(missing)}")
        for row in part.result["rows"]:
            if row.get("n_failed"):
                failed = counted(row["n_failed"], "unit")
                found.append(f"{part.name}: {row['method']} failed on {failed}, which no mean includes")
    split = metrics.get("split", {})
    return found + split_notes(split) + split.get("preprocessing_warnings", [])


def _blocks(run: RunFiles) -> list[dict[str, Any]]:
    """Protocol, settings, environment and split as key-value tables."""
    split = run.optional["split"]
    parts = {name: f"{len(part.get('subjects', []))} subjects, {len(part.get('recordings', []))} recordings"
             for name, part in split.get("parts", {}).items()}
    content = {
        "Protocol": run.metrics["protocol"], "Settings": run.optional["params"],
        "Environment": run.optional["environment"],
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
