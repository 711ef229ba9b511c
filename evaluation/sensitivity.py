"""One set of waveforms under several protocols: how much of a number is the way of counting."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.cells import Table, counted, number
from evaluation.presets import shown_name
from evaluation.table import bins_bpm, expected_units

COLUMNS = ("method", "protocol", "MAE [bpm]", "RMSE", "r", "n of N", "reference", "unit", "filter",
           "band [Hz]", "spectrum", "peak")
DIGITS = {"mae_bpm": 2, "rmse_bpm": 2, "pearson_r": 3}


def sensitivity_table(scored: Mapping[str, Mapping[str, Any]], part: str = "test") -> Table:
    """Methods in blocks, a row per protocol: MAE, RMSE, r and the scored units, then its choices.

    scored: metrics as `protocols.score` returns them, by name of the protocol. part: the part of the
    split. A number that a protocol cannot give is an en dash, with the reason in the notes. N counts
    recordings that are missing.
    """
    parts = {name: metrics if part == "test" else metrics["parts"][part] for name, metrics in scored.items()}
    parts = {name: found for name, found in parts.items() if found.get("kind") != "detection"}
    methods = list(dict.fromkeys(row["method"] for found in parts.values() for row in found["rows"]))
    rows, notes = [], []
    for method in methods:
        for name, found in parts.items():
            protocol = scored[name]["protocol"]
            row: Mapping[str, Any] = next((r for r in found["rows"] if r["method"] == method), {})
            numbers = [number(row.get(key), digits) for key, digits in DIGITS.items()]
            n = f"{row.get('n', 0)} of {expected_units(found, protocol)}"
            rows.append([method, shown_name(protocol), *numbers, n, _reference(found), *choices(protocol)])
            notes += _why(name, method, row)
    return Table(f"{part}: one set of waveforms under {len(parts)} protocols", list(COLUMNS), rows,
                 [*dict.fromkeys(notes), *_bins(scored, parts), *_missing(parts)])


def _reference(found: Mapping[str, Any]) -> str:
    """Whether rates were compared with the label's, the device's, or here one and there the other."""
    return " and ".join(kind for kind, n in found["test"].get("references", {}).items() if n) or "–"


def _why(name: str, method: str, row: Mapping[str, Any]) -> list[str]:
    """Why a row has no MAE, or fewer units than others."""
    if not row:
        return [f"{name}: {method} has no row"]
    notes = []
    if row["mae_bpm"] is None:
        failed = row["failed"][0].partition(": ")[2] if row.get("failed") else ""
        notes.append(f"{name}: {method}: {failed or row['reasons']['mae_bpm']}")
    elif row["n_failed"]:
        notes.append(f"{name}: {method} failed on {row['n_failed']}")
    return notes


def _bins(scored: Mapping[str, Mapping[str, Any]], parts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """How wide the bins are that rates fall on."""
    widths = {name: bins_bpm(scored[name]["protocol"], found["test"]) for name, found in parts.items()}
    texts = [f"{name} {width:.2f}" for name, width in widths.items() if width]
    return [f"rates fall on bins of up to so many bpm: {', '.join(texts)}; an error of 0 means the same bin, "
            "no more"] if texts else []


def _missing(parts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Recordings that a protocol could not score at all."""
    notes = []
    for name, found in parts.items():
        reasons: dict[str, list[str]] = {}
        for key, reason in found["test"]["missing_reasons"].items():
            reasons.setdefault(re.sub(r"[\d.]+", "", reason), []).append(f"{key} ({reason})")
        notes += [f"{name}: {len(keys)} missing, such as {keys[0]}" for keys in reasons.values()]
    return notes


def choices(protocol: Mapping[str, Any]) -> list[str]:
    """Unit, filter, band, spectrum and peak of a protocol, in few words each."""
    band = f"{protocol['peak_low_hz']:.3g}–{protocol['peak_high_hz']:.3g}"
    return [_unit(protocol), _filter(protocol), band, _spectrum(protocol),
            str(protocol["peak"]).replace("_", " ")]


def _filter(protocol: Mapping[str, Any]) -> str:
    kind = str(protocol["filter"])
    if kind == "none":
        return "none"
    order = protocol.get("filter_order")
    name = kind.replace("_", " ") + (f" {order}" if order and kind == "butterworth" else "")
    way = ", one way" if protocol.get("filter_passes") == "one_way" else ""
    return f"{name}, {protocol['filter_low_hz']:.3g}–{protocol['filter_high_hz']:.3g} Hz{way}"


def _unit(protocol: Mapping[str, Any]) -> str:
    window, unit = protocol["window_s"], protocol.get("unit", "window")
    thirds = f", mean of {protocol['parts']} parts" if protocol.get("parts", 1) > 1 else ""
    if window is None:
        return "recording" + thirds
    hop = f", hop {protocol['hop_s']:g} s" if protocol.get("hop_s") else ""
    hop = f", hop {counted(protocol['hop_frames'], 'frame')}" if protocol.get("hop_frames") else hop
    held = {"recording": ", mean per recording", "frame": ", held to frames"}.get(unit, "")
    return f"{window:g} s{hop}{thirds}{held}"


def _spectrum(protocol: Mapping[str, Any]) -> str:
    estimator = str(protocol["estimator"])
    if not estimator.endswith("_peak"):
        return estimator.replace("_", " ")
    length = str(protocol["n_fft"]).replace("_", " ")
    value = protocol.get("bin_bpm") or protocol.get("n_fft_value")
    return f"{estimator.removesuffix('_peak')}, {protocol['spectrum_window']}, {length}" + (
        f" {value:g}" if value else "")


def as_json(scored: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What sensitivity.json holds: every protocol with its choices, test counts and rows."""
    return {name: {key: metrics[key] for key in ("protocol", "test", "rows", "parts")}
            for name, metrics in scored.items()}


def tables(scored: Mapping[str, Mapping[str, Any]]) -> Sequence[Table]:
    """A table for the test part, and one for every further part that has a reference."""
    first = next(iter(scored.values()))
    further = [name for name, part in first["parts"].items() if part.get("kind") != "detection"]
    return [sensitivity_table(scored, name) for name in ("test", *further)]
