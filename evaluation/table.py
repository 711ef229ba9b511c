"""The tables of a metrics.json: agreement by part, by condition, between methods, and vital signs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evaluation.cells import Table, counted, number
from evaluation.further_tables import condition_tables, further_table, paired_table, vital_signs_tables
from evaluation.presets import shown_name
from evaluation.split_notes import split_notes

__all__ = [
    "Table", "counted", "expected_units", "main_markdown", "metrics_markdown", "metrics_tables", "number",
    "part_table",
]
MAX_DETECTION_ROWS = 60
SNR_NAMES = {
    "dehaan": "SNR de Haan [dB]", "toolbox": "SNR toolbox [dB]", "toolbox_old": "SNR 20 log10 [dB]",
    "contrastphys": "SNR Contrast-Phys [dB]", "pyvhr": "SNR pyVHR [dB]",
}


def metrics_markdown(metrics: Mapping[str, Any], full: bool = False) -> str:
    """Every table of a metrics.json as one Markdown text; `full` adds the further metrics."""
    return "\n\n".join(table.markdown() for table in metrics_tables(metrics, full))


def main_markdown(metrics: Mapping[str, Any]) -> str:
    """The table of every part alone, as Markdown: what a run prints."""
    tables = metrics_tables(metrics)[: 1 + len(metrics.get("parts", {}))]
    return "\n\n".join(table.markdown() for table in tables)


def metrics_tables(metrics: Mapping[str, Any], full: bool = False) -> list[Table]:
    """The main table, one for every further part, then methods compared, conditions and vital signs.

    full: a table of the further metrics of every part as well (standard errors, CCC, shares within limits).
    """
    protocol = metrics["protocol"]
    parts = {"test": metrics, **metrics.get("parts", {})}
    tables = [part_table(name, part, protocol) for name, part in parts.items()]
    tables[0].notes.extend(split_notes(metrics.get("split", {})))
    for name, part in parts.items():
        if full and part.get("kind") != "detection":
            tables.append(further_table(name, part))
        tables += [*paired_table(name, part), *condition_tables(name, part), *vital_signs_tables(name, part)]
    return tables


def part_table(name: str, part: Mapping[str, Any], protocol: Mapping[str, Any]) -> Table:
    """The rows of one part: agreement of rates, or detections where there is no reference."""
    if part.get("kind") == "detection":
        return _detection_table(name, part)
    digits = {"mae_bpm": 2, "rmse_bpm": 2, "me_bpm": 2, "sd_bpm": 2, "mape_percent": 2, "pearson_r": 3,
              "snr_db": 2, "macc": 3}
    columns = ["method", "MAE [bpm]", "95 % CI", "RMSE", "ME", "SD", "MAPE [%]", "r",
               SNR_NAMES.get(protocol["snr"], "SNR [dB]"), "MACC", "n of N"]
    rows = []
    for row in part["rows"]:
        cells = {key: number(row[key], places) for key, places in digits.items()}
        low_high = (row["ci95"] or {}).get("mae_bpm")
        interval = "–" if low_high is None else f"{low_high[0]:.2f}–{low_high[1]:.2f}"
        rows.append([
            row["method"], cells["mae_bpm"], interval, cells["rmse_bpm"], cells["me_bpm"], cells["sd_bpm"],
            cells["mape_percent"], cells["pearson_r"], cells["snr_db"], cells["macc"],
            f"{row['n']} of {expected_units(part, protocol)}",
        ])
    return Table(_title(name, protocol), columns, rows, _notes(part, protocol))


def expected_units(part: Mapping[str, Any], protocol: Mapping[str, Any]) -> int:
    """How many units the part should have; a missing recording counts as one where it is the unit."""
    header = part["test"]
    unit = protocol.get("unit", "window")
    whole = unit == "recording" or (unit == "window" and protocol["window_s"] is None)
    return int(header["n_windows"]) + (int(header["n_missing"]) if whole else 0)


def bins_bpm(protocol: Mapping[str, Any], header: Mapping[str, Any]) -> float:
    """Width of the spectral bins that the rates of a part fall on; 0 where they lie between bins, too."""
    whole = protocol["peak"] in ("argmax", "harmonic_rule") and protocol["estimator"] != "mean_interval"
    return float(header.get("bin_bpm") or 0.0) if whole else 0.0


def doubts(header: Mapping[str, Any]) -> list[str]:
    """Notes on units whose reference deserves a look; metrics of older runs do not count them."""
    edge, apart = (int(header.get(name, 0)) for name in ("n_edge_references", "n_apart_references"))
    at_ends = f"{counted(edge, 'unit')} with a reference at an end of the band that is searched, or beyond it"
    differing = f"{counted(apart, 'unit')} with more than 5 bpm between the label's rate and the device's"
    return [text for n, text in ((edge, at_ends), (apart, differing)) if n]


def references(header: Mapping[str, Any]) -> str:
    """Where the reference rates of a part come from, with counts where there are both kinds."""
    kinds = {"label": "the label's waveform by the same estimator", "device": "the device's rate"}
    counts = {kinds[kind]: n for kind, n in header.get("references", {}).items() if n}
    return ", ".join(text if len(counts) == 1 else f"{text} ({n} units)" for text, n in counts.items())


def _title(name: str, protocol: Mapping[str, Any]) -> str:
    unit = "whole recordings" if protocol["window_s"] is None else f"windows of {protocol['window_s']:g} s"
    held = {"recording": ", a mean per recording", "frame": ", held to frames"}
    unit += held.get(protocol.get("unit", ""), "")
    return f"{name}: heart rate, protocol {shown_name(protocol)}, {unit}"


def _notes(part: Mapping[str, Any], protocol: Mapping[str, Any]) -> list[str]:
    """What a reader must know to judge the table."""
    header = part["test"]
    nouns = {"n_subjects": "subject", "n_recordings": "recording", "n_windows": "scored unit"}
    counts = ", ".join(counted(header[key], noun) for key, noun in nouns.items())
    notes = [f"{counts}, {counted(header['n_missing'], 'recording')} missing"]
    notes += [f"reference: {text}" for text in [references(header)] if text]
    if protocol.get("ddof"):
        notes.append("SD: n - 1 in the denominator")
    if header.get("origins"):
        notes.append(f"{', '.join(header['origins'])} recordings in the layout of a dataset, not the dataset")
    notes += [f"missing: {key} ({reason})" for key, reason in header["missing_reasons"].items()][:20]
    if header["n_missing"] > 20:
        notes.append(f"and {header['n_missing'] - 20} more missing, see metrics.json")
    if header["n_unlabelled_windows"]:
        notes.append(f"{counted(header['n_unlabelled_windows'], 'unit')} without a reference, not scored")
    notes += doubts(header)
    width = bins_bpm(protocol, header)
    if width:
        notes.append(f"rates fall on spectral bins of up to {width:.2f} bpm: an error of 0 means the same "
                     "bin, no more")
    for row in part["rows"]:
        if row["n_failed"]:
            notes.append(f"{row['method']} failed on {row['n_failed']}: {'; '.join(row['failed'][:3])}")
    why = {row["reasons"]["ci95"] for row in part["rows"] if "ci95" in row["reasons"]}
    notes += [f"no confidence interval: {reason}" for reason in sorted(why)]
    if any(row["ci95"] for row in part["rows"]):
        notes.append(f"95 % CI of the MAE: {protocol['bootstrap']} bootstrap draws of subjects")
    if any(row["method"] == "constant" for row in part["rows"]):
        notes.append(f"constant: the training part's mean rate, {protocol['constant_bpm']:.1f} bpm, always")
    return notes


def _detection_table(name: str, part: Mapping[str, Any]) -> Table:
    columns = ["method", "recording", "pulse found", "SNR [dB]", "noise 95 % [dB]", "p"]
    rows = [
        [row["method"], row["recording"], "yes" if row["found"] else "no", number(row["snr_db"]),
         number(row["surrogate_snr_db_95"]), number(row["p_value"], 3)]
        for row in part["rows"]
    ]
    notes = ["no reference here: found means that a periodic signal, a pulse or a disturbance, stands out of "
             "noise of the same colour (p < 0.01)"]
    methods = list(dict.fromkeys(row["method"] for row in part["rows"]))
    for method in methods:
        mine = [row for row in part["rows"] if row["method"] == method]
        notes.append(f"{method}: found in {sum(row['found'] for row in mine)} of {len(mine)}")
    notes += [f"missing: {key} ({why})" for key, why in part["test"]["missing_reasons"].items()][:20]
    if len(rows) > MAX_DETECTION_ROWS:
        notes.append(f"{len(rows) - MAX_DETECTION_ROWS} more rows in metrics.json")
    return Table(f"{name}: is there a pulse", columns, rows[:MAX_DETECTION_ROWS], notes)
