"""What the page's own table of recordings and its waveform viewer show, as compact JSON."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.report.files import Units
from evaluation.report.parts import Part
from evaluation.report.shown import band_of, shown, worst_units
from evaluation.waveforms import RecordingWaveform
from utils.files import natural_key

Array = NDArray[np.float64]
RATE_HZ = 20.0
MAX_SAMPLES = 1_500_000
SHORTEST_S, LONGEST_S = 12.0, 120.0
MAX_VIEWED = 800
CLIP_SD = 3.5
GAP = 0
"""Value of a sample that is unknown; known ones are 1 to 255, 128 being zero."""


def viewer_data(parts: Sequence[Part]) -> dict[str, Any]:
    """Recordings of all parts with their numbers, and downsampled waveforms of up to MAX_VIEWED of them.

    methods: names with their colours; recordings: one object each, missing ones with the reason; waves: key
    to rate, start in s and samples as base64 of one byte each.
    """
    methods = list(parts[0].tint)
    drawn = [name for part in parts for wave in part.waveforms for name in wave.predictions]
    drawn = [name for name in methods if name in set(drawn)]
    recordings = [row for part in parts for row in _rows(part, methods)]
    chosen = _viewed(parts)
    total = sum(len(waves) for waves in chosen.values())
    seconds = MAX_SAMPLES / (RATE_HZ * (len(drawn) + 1) * max(total, 1))
    seconds = min(max(seconds, SHORTEST_S), LONGEST_S)
    waves = {}
    for part in parts:
        worst = worst_units(part.units.where(part.units.method == part.first))
        for wave in chosen[part.name]:
            unit = worst.get(wave.key)
            middle = float(unit.start_s[0] + unit.stop_s[0]) / 2 if unit else None
            waves[wave.key] = _wave(wave, drawn, band_of(part.protocol), seconds, middle)
    return {
        "methods": [{"name": name, "colour": parts[0].tint[name]} for name in methods],
        "drawn": drawn, "band_hz": list(band_of(parts[0].protocol)), "seconds": round(seconds, 1),
        "recordings": recordings, "waves": waves,
    }


def _viewed(parts: Sequence[Part]) -> dict[str, list[RecordingWaveform]]:
    """Part -> recordings whose waveforms are in the page: all, or the worst of each part."""
    share = MAX_VIEWED / max(sum(len(part.waveforms) for part in parts), 1)
    chosen = {}
    for part in parts:
        worst = worst_units(part.units.where(part.units.method == part.first))
        rank = {key: place for place, key in enumerate(worst)}
        ordered = sorted(part.waveforms, key=lambda wave: rank.get(wave.key, -1))
        limit = len(ordered) if share >= 1 else max(int(share * len(ordered)), 1)
        chosen[part.name] = sorted(ordered[:limit], key=lambda wave: natural_key(wave.key))
    return chosen


def _rows(part: Part, methods: Sequence[str]) -> list[dict[str, Any]]:
    """One object per recording: names, conditions, reference rate, and what each method made of it."""
    of_recording = dict(part.units.by("recording"))
    missing = part.result["test"].get("missing", [])
    reasons = part.result["test"].get("missing_reasons", {})
    rows = []
    for wave in part.waveforms:
        row = {"key": wave.key, "part": part.name, "subject": wave.subject,
               "conditions": ", ".join(f"{name} {value}" for name, value in wave.conditions.items())}
        if wave.key in of_recording:
            row |= _numbers(of_recording[wave.key], methods)
        elif wave.key in missing:
            row["missing"] = reasons.get(wave.key, "missing")
        rows.append(row)
    known = {wave.key for wave in part.waveforms}
    rows += [{"key": key, "part": part.name, "subject": "", "conditions": "",
              "missing": reasons.get(key, "missing")}
             for key in missing if key not in known]
    return rows


def _numbers(units: Units, methods: Sequence[str]) -> dict[str, Any]:
    """Mean reference, and per method [mean rate, mean absolute error, mean SNR, units, failed, reason]."""
    found = dict(units.by("method"))
    values: list[Any] = []
    for name in methods:
        mine = found.get(name)
        if mine is None:
            values.append(None)
            continue
        failed = [text for text in mine.failed.tolist() if text]
        values.append([_mean(mine.predicted_bpm), _mean(np.abs(mine.error_bpm)), _mean(mine.snr_db),
                       len(mine), len(failed), failed[0] if failed else ""])
    return {"reference": _mean(units.reference_bpm), "methods": values}


def _mean(values: Array) -> float | None:
    known = values[np.isfinite(values)]
    return round(float(known.mean()), 2) if len(known) else None


def _wave(
    wave: RecordingWaveform, methods: Sequence[str], band_hz: tuple[float, float], seconds: float,
    middle_s: float | None,
) -> Mapping[str, Any]:
    """Up to `seconds` of a recording around `middle_s` (its own middle where None), one byte a sample."""
    seen = shown(wave, methods, band_hz)
    duration = float(wave.time_s[-1] - wave.time_s[0])
    middle = duration / 2 if middle_s is None else middle_s
    start = min(max(middle - seconds / 2, 0.0), max(duration - seconds, 0.0))
    rate = min(RATE_HZ, seen.fs)
    grid = np.arange(start, min(start + seconds, duration), 1 / rate)
    frames = np.arange(len(wave.time_s)) / seen.fs
    traces = [seen.label, *(seen.predictions[name] for name in methods)]
    coded = [None if trace is None else _coded(np.interp(grid, frames, trace)) for trace in traces]
    return {"rate": round(rate, 4), "start": round(start, 3), "label": coded[0], "traces": coded[1:]}


def _coded(values: Array) -> str:
    """Samples (n,) at unit spread, cut at CLIP_SD, as base64."""
    spread = float(np.nanstd(values)) if np.isfinite(values).any() else 0.0
    scaled = np.clip(values / (spread or 1.0), -CLIP_SD, CLIP_SD) * (127 / CLIP_SD) + 128
    whole = np.where(np.isfinite(scaled), np.round(scaled), GAP).astype(np.uint8)
    return base64.b64encode(whole.tobytes()).decode()
