"""Named protocols and the function that scores waveforms under one of them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation import bootstrap, presets
from evaluation.detection import detect
from evaluation.metrics import METRICS, SIGNAL_METRICS, from_sums, missing_reason, unit_sums
from evaluation.presets import PRESETS, Protocol, ProtocolError
from evaluation.units import (
    CONSTANT,
    Scored,
    Unit,
    as_row,
    score_recording,
    write_windows,
)
from evaluation.waveforms import RecordingWaveform, read_waveforms
from utils.errors import UserError
from utils.files import natural_key
from utils.settings import Protocol as OwnProtocol

MAX_NAMED = 50
__all__ = ["Protocol", "ProtocolError", "describe", "get", "names", "score", "write_windows"]


def names(own: Mapping[str, Any] | None = None) -> list[str]:
    """Presets, then own protocols."""
    return [*PRESETS, *(name for name in own or {} if name not in PRESETS)]


def describe(name: str) -> str:
    """One line on a preset."""
    return str(PRESETS[name]["description"])


def get(name: str, own: Mapping[str, OwnProtocol | Mapping[str, Any]] | None = None) -> Protocol:
    """The protocol of that name; an own one (evaluation.protocols) comes before a preset of its name.

    ProtocolError, a UserError and a ValueError, lists everything that is wrong with an own protocol, or
    the names that are close to an unknown one.
    """
    mine = (own or {}).get(name)
    return presets.build(name, mine, others=list(own or {}))


@dataclass(frozen=True)
class _Options:
    protocol: Protocol
    bootstrap: int
    seed: int
    constant_bpm: float | None


def score(
    waveforms: Path | str | Sequence[RecordingWaveform], protocol: Protocol | str = "default", *,
    window_s: float | None = None, bootstrap: int = 1000, seed: int = 0, part: str = "test",
    missing: Mapping[str, Sequence[str]] | None = None, constant_bpm: float | None = None,
) -> dict[str, Any]:
    """Score waveforms, given as a list or as a waveform file, under one protocol.

    window_s: windows of this length instead of what the protocol says. bootstrap: resamplings of the
    subjects for ci95, drawn from `seed`. part: the part the main table is about; every other part has a
    table of its own under "parts", and a part without any reference has detection rows (`detect`).
    missing: recordings that each part should hold; those without a waveform are counted and named.
    constant_bpm: the training part's mean rate, which gets the row "constant"; a waveform file gives it
    as an attribute. Returns the content of metrics.json and, under "windows", the rows of windows.csv.
    """
    if isinstance(waveforms, str | Path):
        recordings, about = read_waveforms(Path(waveforms))
        constant_bpm = about.get("constant_bpm") if constant_bpm is None else constant_bpm
    else:
        recordings = sorted(waveforms, key=lambda wave: natural_key(wave.key))
    if constant_bpm is not None and not (isinstance(constant_bpm, int | float) and 0 < constant_bpm < 400):
        raise UserError(f"constant_bpm = {constant_bpm!r} is not a heart rate; leave it out where unknown")
    doubled = sorted(key for key, n in Counter(wave.key for wave in recordings).items() if n > 1)
    if doubled:
        raise UserError(f"recordings that appear twice: {', '.join(doubled)}")
    chosen = get(protocol) if isinstance(protocol, str) else protocol
    if window_s is not None:
        chosen = Protocol.model_validate({**chosen.model_dump(), "window_s": float(window_s)})
    absent = {name: keys for name, keys in (missing or {}).items() if keys}
    present = sorted({wave.part for wave in recordings} | set(absent), key=lambda name: (name != part, name))
    if part not in present:
        raise UserError(f'no recording belongs to the part "{part}"; parts here: {", ".join(present)}')
    options = _Options(chosen, bootstrap, seed, constant_bpm)
    results = {
        name: _score_part([w for w in recordings if w.part == name], options, absent.get(name, ()))
        for name in present
    }
    metrics = {"protocol": _described(options), **results[part][0]}
    metrics["parts"] = {name: result for name, (result, _) in results.items() if name != part}
    metrics["windows"] = [as_row(unit) for _, units in results.values() for unit in units]
    return metrics


def _described(options: _Options) -> dict[str, Any]:
    """Every choice the numbers depend on, as JSON."""
    return {
        **options.protocol.model_dump(), "bootstrap": options.bootstrap, "seed": options.seed,
        "constant_bpm": None if options.constant_bpm is None else float(options.constant_bpm),
    }


def _score_part(
    recordings: list[RecordingWaveform], options: _Options, expected: Sequence[str]
) -> tuple[dict[str, Any], list[Unit]]:
    """Header and rows of one part, and its units."""
    methods = _methods(recordings)
    absent = sorted(set(expected) - {wave.key for wave in recordings}, key=natural_key)
    missing = {key: "failed before it could be predicted" for key in absent}
    if recordings and not any(wave.has_label or wave.reference_hr_bpm for wave in recordings):
        return _detection_part(recordings, methods, missing, options.seed), []
    scored: dict[str, Scored] = {}
    for wave in recordings:
        scored[wave.key] = score_recording(wave, options.protocol, methods, options.constant_bpm)
        if scored[wave.key].reason:
            missing[wave.key] = scored[wave.key].reason
    units = [unit for one in scored.values() for unit in one.units]
    rows_of = [*methods, *([CONSTANT] if options.constant_bpm is not None else [])]
    n_subjects = len({unit.subject for unit in units})
    counts = _draws(n_subjects, options)
    result = {
        "test": {**_header(units, scored, missing, n_subjects), "origins": _origins(recordings)},
        "rows": [_row(name, units, counts, options.protocol.ddof) for name in rows_of],
    }
    return result, units


def _methods(recordings: list[RecordingWaveform]) -> list[str]:
    """Every method that predicted anything, in the order of the waveforms."""
    return list(dict.fromkeys(name for wave in recordings for name in wave.predictions))


def _origins(recordings: list[RecordingWaveform]) -> list[str]:
    """Where recordings come from that only have the layout of their dataset, such as "synthetic"."""
    return sorted({wave.conditions["origin"] for wave in recordings if "origin" in wave.conditions})


def _header(
    units: list[Unit], scored: Mapping[str, Scored], missing: Mapping[str, str], n_subjects: int
) -> dict[str, Any]:
    cuts = {(unit.recording, unit.start_s): unit.reference for unit in units}
    return {
        "datasets": sorted({unit.subject.partition(".")[0] for unit in units}),
        "n_subjects": n_subjects,
        "n_recordings": len({unit.recording for unit in units}),
        "n_windows": len(cuts),
        "n_unlabelled_windows": sum(one.n_unlabelled for one in scored.values()),
        "bin_bpm": max((one.bin_bpm for one in scored.values()), default=0.0),
        "n_missing": len(missing),
        "missing": sorted(missing, key=natural_key),
        "missing_reasons": dict(sorted(missing.items(), key=lambda item: natural_key(item[0]))),
        "references": {kind: sum(found == kind for found in cuts.values()) for kind in ("label", "device")},
    }


def _draws(n_subjects: int, options: _Options) -> NDArray[np.float64] | str:
    """The resamplings of the subjects, or the reason for having none."""
    if not options.bootstrap:
        return "evaluation.bootstrap is 0"
    if n_subjects < bootstrap.MIN_SUBJECTS:
        return f"an interval over subjects needs {bootstrap.MIN_SUBJECTS} of them, here are {n_subjects}"
    return bootstrap.resamplings(n_subjects, options.bootstrap, options.seed)


def _row(method: str, units: list[Unit], counts: NDArray[np.float64] | str, ddof: int) -> dict[str, Any]:
    """One line of the table: every metric, or null with its reason."""
    mine = [unit for unit in units if unit.method == method]
    failed = [unit for unit in mine if unit.failed]
    columns = [[getattr(unit, name) for unit in mine]
               for name in ("predicted_bpm", "reference_bpm", "snr_db", "macc")]
    sums = unit_sums(*(np.array(column, dtype=np.float64) for column in columns))
    n = len(mine) - len(failed)
    values = {name: float(value) for name, value in from_sums(sums.sum(axis=0), ddof).items()}
    reasons = {name: missing_reason(name, n) for name in METRICS if not np.isfinite(values[name])}
    if method == CONSTANT:
        reasons |= dict.fromkeys(SIGNAL_METRICS, "a constant rate has no waveform")
    row: dict[str, Any] = {"method": method}
    row |= {name: None if name in reasons else values[name] for name in METRICS}
    row |= {"n": n, "n_failed": len(failed), "failed": _named(failed)}
    if isinstance(counts, str) or not mine:
        reasons["ci95"] = counts if isinstance(counts, str) else "no unit could be scored"
        row["ci95"] = None
    else:
        found = bootstrap.intervals(bootstrap.subject_sums(sums, [u.subject for u in mine]), counts, ddof)
        row["ci95"] = {name: None if name in reasons else found[name] for name in METRICS}
    return {**row, "reasons": reasons}


def _named(failed: list[Unit]) -> list[str]:
    """Which units failed and why, the first MAX_NAMED by name."""
    texts = [f"{unit.recording} at {unit.start_s:.1f}-{unit.stop_s:.1f} s: {unit.failed}" for unit in failed]
    rest = len(texts) - MAX_NAMED
    return [*texts[:MAX_NAMED], *([f"and {rest} more in windows.csv"] if rest > 0 else [])]


def _detection_part(
    recordings: list[RecordingWaveform], methods: list[str], missing: Mapping[str, str], seed: int
) -> dict[str, Any]:
    """Without any reference there is one question left: is there a pulse."""
    rows = [
        {"method": method, "recording": wave.key,
         **dataclasses.asdict(detect(wave.predictions[method], wave.time_s, seed=seed))}
        for method in methods for wave in recordings if method in wave.predictions
    ]
    header = {
        "n_subjects": len({(wave.dataset, wave.subject) for wave in recordings}),
        "n_recordings": len(recordings), "n_missing": len(missing), "missing": sorted(missing),
        "missing_reasons": dict(missing),
    }
    return {"kind": "detection", "test": header, "rows": rows}
