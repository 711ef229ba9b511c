"""Vital signs beyond the heart rate, over recordings: what the field's tables print.

`vital_signs` returns, ready for JSON:

    {"settings": {every field of VitalSettings},
     "warnings": [sentences that belong under every table],
     "n_recordings": recordings with a reference, "n_missing": .., "missing_reasons": {key: why},
     "references": {"<quantity>": {"label": n, "sensor": n}},
     "reference_values": {"<quantity>": {"mean": .., "sd": .., "n": ..}},
     "units": {"<quantity>": "Hz" | "ms" | "1" | "breaths/min"},
     "rows": [{"method": .., "n_recordings": with any number,
               "<quantity>": {"me", "sd", "rmse", "mae", "pearson_r", "n", "n_failed", "reason"?}}],
     "per_recording": [{"recording", "subject", "part", "method", "duration_s", "n_beats", "n_dropped",
                        "<quantity>": number or null, .., "lf_ms2", "hf_ms2", "reasons": {quantity: why}}]}

The quantities are QUANTITIES: rf_hz, lf_nu, hf_nu, lf_hf, sdnn_ms, rmssd_ms, resp_bpm and ibi_mae_4hz.
The errors are prediction less reference over recordings; SD has ddof 0; r needs three recordings. A
statistic that cannot be had is null, and "reason" says why. n_failed counts recordings whose reference is
known but whose prediction gave nothing: they are in no mean, so a row must be read with it. ibi_mae_4hz is
the mean absolute difference, in ms, of both interval series at 4 Hz: its "mae" is the mean over recordings,
its "sd" their spread, and the other statistics do not exist. In per_recording the method "reference" is
the label's waveform, with resp_bpm of the sensor where there is one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from evaluation import vital_presets
from evaluation.vital_presets import VitalSettings
from evaluation.vital_waveforms import QUANTITIES, REFERENCE, recording_lines
from evaluation.waveforms import RecordingWaveform
from utils.files import natural_key

__all__ = ["QUANTITIES", "UNITS", "attach", "by_part", "vital_signs"]

UNITS = dict(zip(QUANTITIES, ("Hz", "1", "1", "1", "ms", "ms", "breaths/min", "ms"), strict=True))
STATISTICS = ("me", "sd", "rmse", "mae", "pearson_r")
INTERVAL_ERROR = "ibi_mae_4hz"
"""The only quantity that is an error already."""
SHORT_S = 60.0
"""A recording below this length does not resolve the LF band, of which one period takes 25 s."""
MANY_DROPPED = 0.05
"""Share of intervals dropped as outliers that is worth a warning."""


def vital_signs(
    recordings: Sequence[RecordingWaveform], settings: VitalSettings | str = "default", *,
    missing: Iterable[str] = (),
) -> dict[str, Any]:
    """Beats, variability and respiration of every method against the reference.

    settings: VitalSettings, or the name of a preset. missing: keys of recordings that should be there; those
    without a waveform are counted and named. The result is described at the top of this file.
    """
    chosen = vital_presets.get(settings) if isinstance(settings, str) else settings
    ordered = sorted(recordings, key=lambda wave: natural_key(wave.key))
    methods = list(dict.fromkeys(name for wave in ordered for name in wave.methods))
    absent = set(missing) - {wave.key for wave in ordered}
    reasons = dict.fromkeys(absent, "failed before it could be predicted")
    lines: list[dict[str, Any]] = []
    sources = {name: {"label": 0, "sensor": 0} for name in QUANTITIES}
    for wave in ordered:
        found, breathing = recording_lines(wave, methods, chosen)
        reference = found[0]
        if all(reference.get(name) is None for name in QUANTITIES):
            reasons[wave.key] = reference["reasons"]["sdnn_ms"]
            continue
        lines += found
        for name in QUANTITIES:
            known = reference["n_beats"] > 0 if name == INTERVAL_ERROR else reference[name] is not None
            sources[name][breathing if name == "resp_bpm" else "label"] += known
    references = [line for line in lines if line["method"] == REFERENCE]
    return {
        "settings": chosen.as_json(), "warnings": _warnings(lines, references, methods, chosen),
        "n_recordings": len(references), "n_missing": len(reasons),
        "missing_reasons": dict(sorted(reasons.items(), key=lambda item: natural_key(item[0]))),
        "references": sources, "reference_values": _reference_values(references), "units": UNITS,
        "rows": [_row(method, lines, references) for method in methods], "per_recording": lines,
    }


def by_part(
    recordings: Sequence[RecordingWaveform], settings: VitalSettings | str = "default", *,
    missing: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, dict[str, Any]]:
    """`vital_signs` of every part of the split; a part in which nobody has a reference has none.

    missing: by part the keys of the recordings that it should hold.
    """
    made = {}
    for part in dict.fromkeys(wave.part for wave in recordings):
        mine = [wave for wave in recordings if wave.part == part]
        if any(wave.has_label or wave.resp is not None for wave in mine):
            made[part] = vital_signs(mine, settings, missing=(missing or {}).get(part, ()))
    return made


def attach(metrics: dict[str, Any], made: Mapping[str, Any], part: str = "test") -> None:
    """Put what `by_part` made under "vital_signs" of the content of metrics.json, and of its parts."""
    if part in made:
        metrics["vital_signs"] = made[part]
    for name, other in metrics.get("parts", {}).items():
        if name in made:
            other["vital_signs"] = made[name]


def _warnings(
    lines: list[dict[str, Any]], references: list[dict[str, Any]], methods: Sequence[str],
    settings: VitalSettings,
) -> list[str]:
    """Sentences that belong under every table of these numbers."""
    made = []
    n_short = sum(line["duration_s"] < SHORT_S for line in references)
    if n_short:
        low, high = settings.lf_hz
        made.append(f"{n_short} of {len(references)} recordings are shorter than {SHORT_S:g} s: LF "
                    f"({low}-{high} Hz) cannot be resolved there, so LF, HF and LF/HF say little")
    for method in (REFERENCE, *methods):
        mine = [line for line in lines if line["method"] == method]
        n, dropped = (sum(counts) for counts in ([max(line["n_beats"] - 1, 0) for line in mine],
                                                 [line["n_dropped"] for line in mine]))
        if dropped > MANY_DROPPED * n:
            made.append(f"{method}: {dropped} of {n} intervals between beats were dropped as outliers")
    return made


def _reference_values(references: list[dict[str, Any]]) -> dict[str, dict[str, float | int | None]]:
    """Mean and spread of the references: an RMSE near the spread is no better than a constant."""
    made: dict[str, dict[str, float | int | None]] = {}
    for name in QUANTITIES:
        values = [line[name] for line in references if line.get(name) is not None]
        if name != INTERVAL_ERROR:
            made[name] = {"mean": float(np.mean(values)) if values else None,
                          "sd": float(np.std(values)) if len(values) > 1 else None, "n": len(values)}
    return made


def _row(method: str, lines: list[dict[str, Any]], references: list[dict[str, Any]]) -> dict[str, Any]:
    """One method's line of the table."""
    mine = [line for line in lines if line["method"] == method]
    predicted = sum(any(line.get(name) is not None for name in QUANTITIES) for line in mine)
    row: dict[str, Any] = {"method": method, "n_recordings": predicted}
    for name in QUANTITIES:
        if name == INTERVAL_ERROR:
            row[name] = _interval_cell(mine, references)
        else:
            row[name] = _cell(name, mine, references)
    return row


def _cell(name: str, mine: list[dict[str, Any]], references: list[dict[str, Any]]) -> dict[str, Any]:
    """The statistics of one quantity over recordings."""
    pairs = [(line[name], truth[name]) for line, truth in zip(mine, references, strict=True)
             if truth[name] is not None]
    both = [(p, t) for p, t in pairs if p is not None]
    cell = {**agreement([p for p, _ in both], [t for _, t in both]), "n": len(both),
            "n_failed": len(pairs) - len(both)}
    why = []
    if not pairs:
        why.append(f"no reference: {_commonest(name, references)}")
    elif not both:
        why.append(_commonest(name, mine))
    elif len(both) < 3:
        why.append("pearson_r needs 3 recordings" + (", sd 2" if len(both) < 2 else ""))
    elif cell["pearson_r"] is None:
        why.append("predicted or reference values do not vary")
    return {**cell, "reason": why[0]} if why else cell


def _interval_cell(mine: list[dict[str, Any]], references: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and spread over recordings of a quantity that is an error already."""
    known = [line for line, truth in zip(mine, references, strict=True) if truth["n_beats"] > 0]
    values = [line[INTERVAL_ERROR] for line in known if line[INTERVAL_ERROR] is not None]
    cell: dict[str, Any] = dict.fromkeys(STATISTICS)
    cell |= {"n": len(values), "n_failed": len(known) - len(values)}
    if values:
        cell["mae"] = float(np.mean(values))
        cell["sd"] = float(np.std(values)) if len(values) > 1 else None
    reason = "an absolute error: it has no sign and no correlation"
    return {**cell, "reason": reason if values else _commonest(INTERVAL_ERROR, known or references)}


def _commonest(name: str, lines: list[dict[str, Any]]) -> str:
    """The reason most of these entries give for having no such quantity."""
    found = Counter(line["reasons"][name] for line in lines if name in line["reasons"])
    return found.most_common(1)[0][0] if found else "no recording"


def agreement(predicted: Sequence[float], reference: Sequence[float]) -> dict[str, float | None]:
    """me, sd (ddof 0), rmse, mae and Pearson's r of errors over recordings (n,); None what does not exist.

    So rmse^2 = me^2 + sd^2. r needs three recordings and a spread in both.
    """
    p, t = np.asarray(predicted, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if not len(p):
        return dict.fromkeys(STATISTICS)
    error = p - t
    varied = len(p) > 2 and min(float(np.std(x)) / max(float(np.abs(x).max()), 1e-300) for x in (p, t)) > 1e-9
    return {
        "me": float(error.mean()), "sd": float(error.std()) if len(p) > 1 else None,
        "rmse": float(np.sqrt(np.mean(error**2))), "mae": float(np.abs(error).mean()),
        "pearson_r": float(np.corrcoef(p, t)[0, 1]) if varied else None,
    }
