"""Tables beside the main one: by condition, methods compared, further metrics, vital signs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evaluation.cells import Table, counted, number

FURTHER = {"ccc": ("CCC", 3), "max_bpm": ("max [bpm]", 2), "within_2_5_percent": ("within 2.5 bpm [%]", 1),
           "within_5_percent": ("within 5 bpm [%]", 1)}
ERRORS = {"mae_bpm": "MAE", "rmse_bpm": "RMSE", "mape_percent": "MAPE", "pearson_r": "r"}
SE_NOTE = ("SE: by the formulas of rPPG-Toolbox, in the unit of what they belong to; its SE of the RMSE, "
           "sqrt(std(e^2) / sqrt n), is no standard error of the RMSE and can exceed it")
MAX_NAMED = 20
SIGNS_DIGITS = {"ms": 1, "breaths/min": 2}
QUANTITIES = {"rf_hz": "RF", "lf_nu": "LF n.u.", "hf_nu": "HF n.u.", "lf_hf": "LF/HF", "sdnn_ms": "SDNN",
              "rmssd_ms": "RMSSD", "resp_bpm": "respiration", "ibi_mae_4hz": "IBI error"}


def condition_tables(name: str, part: Mapping[str, Any]) -> list[Table]:
    """One table per condition of the recordings: values down, MAE and r of every method across."""
    tables = []
    for condition, values in part.get("conditions", {}).items():
        methods = list(dict.fromkeys(row["method"] for each in values.values() for row in each["rows"]))
        columns = [condition, "subjects", "recordings"]
        columns += [text for method in methods for text in (f"{method} MAE", f"{method} r")]
        rows, notes = [], []
        for value, each in values.items():
            by_method = {row["method"]: row for row in each["rows"]}
            cells = [cell for method in methods for cell in _pair(by_method.get(method, {}))]
            total = each["n_recordings"] + each["n_missing"]
            rows.append([value, str(each["n_subjects"]), f"{each['n_recordings']} of {total}", *cells])
            notes += [f"{value}: {row['method']} failed on {row['n_failed']}" for row in each["rows"]
                      if row.get("n_failed")]
        unplaced = part["test"]["n_missing"] - sum(each["n_missing"] for each in values.values())
        if unplaced > 0:
            notes.append(f"{counted(unplaced, 'more recording')} missing, {condition} not known here")
        tables.append(Table(f"{name}: by {condition}, MAE in bpm", columns, rows, notes))
    return tables


def _pair(row: Mapping[str, Any]) -> tuple[str, str]:
    return number(row.get("mae_bpm")), number(row.get("pearson_r"), 3)


def further_table(name: str, part: Mapping[str, Any]) -> Table:
    """CCC, largest error, shares within limits, and standard errors as the protocol defines them."""
    columns = ["method", *(title for title, _ in FURTHER.values())]
    columns += [f"SE {text}" for text in ERRORS.values()]
    rows = [
        [row["method"], *(number(row.get(key), digits) for key, (_, digits) in FURTHER.items()),
         *(number((row.get("se") or {}).get(key), 3) for key in ERRORS)]
        for row in part["rows"]
    ]
    notes = [SE_NOTE] if any(row.get("se") for row in part["rows"]) else []
    return Table(f"{name}: further metrics", columns, rows, notes + _missing(part))


def _missing(part: Mapping[str, Any]) -> list[str]:
    n = part["test"]["n_missing"]
    return [f"{counted(n, 'recording')} missing"] if n else []


def paired_table(name: str, part: Mapping[str, Any]) -> list[Table]:
    """Differences between methods over the same draws of subjects; nothing where none were computed."""
    pairs: Sequence[Mapping[str, Any]] = part.get("paired") or ()
    columns = ["method", "against", "MAE difference", "95 % CI", "RMSE difference", "better in [%]", "units"]
    rows = []
    for pair in pairs:
        limits, share = (pair["ci95"] or {}).get("mae_bpm"), (pair["share_better"] or {}).get("mae_bpm")
        rows.append([
            pair["method"], pair["against"], number(pair["mae_bpm"]),
            "–" if limits is None else f"{limits[0]:.2f} to {limits[1]:.2f}", number(pair["rmse_bpm"]),
            number(None if share is None else 100 * share, 1), str(pair["n"]),
        ])
    notes = ["differences in bpm, on the units that both could be scored in: below 0 the first method is "
             "better; better in: share of the draws of subjects in which its MAE is lower"]
    why = {pair["reasons"]["ci95"] for pair in pairs if "ci95" in pair["reasons"]}
    notes += [*(f"no interval: {reason}" for reason in sorted(why)), *_missing(part)]
    return [Table(f"{name}: methods compared on the same units", columns, rows, notes)] if rows else []


def vital_signs_tables(name: str, part: Mapping[str, Any]) -> list[Table]:
    """Respiration frequency, variability, respiration rate: errors over recordings, as papers print them."""
    signs: Mapping[str, Any] = part.get("vital_signs") or {}
    if not signs or not signs["rows"]:
        return []
    columns = ["quantity", "method", "SD", "RMSE", "MAE", "r", "n of N", "reference mean ± SD"]
    rows, unknown = [], []
    for key, title in QUANTITIES.items():
        counts = [row[key]["n"] + row[key]["n_failed"] for row in signs["rows"] if key in row]
        if not any(counts):
            unknown += [title] if counts else []
            continue
        held = signs["reference_values"].get(key, {})
        unit = signs["units"].get(key, "1")
        digits = SIGNS_DIGITS.get(unit, 3)
        mean, sd = (number(held.get(name), digits) for name in ("mean", "sd"))
        spread = f"{mean} ± {sd}" if held.get("n") else "–"
        for row in signs["rows"]:
            found = row.get(key)
            if found is None:
                continue
            total = found["n"] + found["n_failed"]
            rows.append([title if unit == "1" else f"{title} [{unit}]", row["method"],
                         *(number(found.get(stat), digits) for stat in ("sd", "rmse", "mae")),
                         number(found.get("pearson_r"), 3),
                         f"{found['n']} of {total}", spread])
    notes = [f"{', '.join(unknown)}: no recording has a reference"] if unknown else []
    notes += signs_notes(signs)
    return [Table(f"{name}: vital signs beyond the heart rate", columns, rows, notes)]


def signs_notes(signs: Mapping[str, Any]) -> list[str]:
    """What a reader must know of vital signs: warnings, reference of the respiration, what is missing."""
    notes = list(signs.get("warnings", ()))
    cells = [cell for row in signs.get("rows", ()) for cell in row.values() if isinstance(cell, Mapping)]
    if any(cell["n"] and cell["n_failed"] for cell in cells):
        notes.append("n of N: recordings with a number, of those with a reference; a recording for which a "
                     "method gave none is in no error of it")
    counts = signs.get("references", {}).get("resp_bpm", {})
    if counts.get("label"):
        where = f" in {counts['label']} recordings, in the others" if counts.get("sensor") else ","
        notes.append("respiration: the reference is read from the pulse of the label"
                     f"{where} {'from' if counts.get('sensor') else 'not from'} a sensor")
    missing = [f"missing: {key} ({why})" for key, why in signs.get("missing_reasons", {}).items()]
    rest = [f"and {len(missing) - MAX_NAMED} more missing"] if len(missing) > MAX_NAMED else []
    return [*notes, *missing[:MAX_NAMED], *rest]
