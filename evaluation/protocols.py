"""Named protocols and the function that scores waveforms under one of them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation import presets
from evaluation.detection import detect
from evaluation.presets import PRESETS, Protocol, ProtocolError
from evaluation.tally import Tally, by_condition, doubtful, paired, tally
from evaluation.units import CONSTANT, Scored, score_recording
from evaluation.waveforms import RecordingWaveform, read_waveforms
from evaluation.window_rows import rows_of, write_windows
from utils.errors import UserError
from utils.files import natural_key
from utils.settings import Protocol as OwnProtocol

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
    with_windows: bool = True,
) -> dict[str, Any]:
    """Score waveforms, given as a list or as a waveform file, under one protocol.

    window_s: windows of this length instead of what the protocol says. bootstrap: resamplings of the
    subjects for ci95, drawn from `seed`. part: the part the main table is about; every other part has a
    table of its own under "parts", and a part without any reference has detection rows (`detect`).
    missing: recordings that each part should hold; those without a waveform are counted and named.
    constant_bpm: the training part's mean rate, which gets the row "constant"; a waveform file gives it
    as an attribute. Returns the content of metrics.json: "protocol", "test" (counts), "rows" (`Tally.row`),
    "paired" (`tally.paired`), "conditions" (`tally.by_condition`), "parts" (the same for other parts), and,
    unless `with_windows` is false, "windows", the rows of windows.csv.
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
    if window_s is not None and chosen.estimator != "rate_head":  # whose windows are the net's clips
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
    if with_windows:
        pairs = [pair for _, found in results.values() for pair in found]
        metrics["windows"] = [row for pair in pairs for row in rows_of(*pair)]
    return metrics


def _described(options: _Options) -> dict[str, Any]:
    """Every choice the numbers depend on, as JSON."""
    return {
        **options.protocol.model_dump(), "bootstrap": options.bootstrap, "seed": options.seed,
        "constant_bpm": None if options.constant_bpm is None else float(options.constant_bpm),
    }


def _score_part(
    recordings: list[RecordingWaveform], options: _Options, expected: Sequence[str]
) -> tuple[dict[str, Any], list[tuple[RecordingWaveform, Scored]]]:
    """Header, rows, pairs and conditions of one part, and its recordings as they were scored."""
    methods = list(dict.fromkeys(name for wave in recordings for name in wave.methods))
    absent = sorted(set(expected) - {wave.key for wave in recordings}, key=natural_key)
    missing = {key: "failed before it could be predicted" for key in absent}
    if recordings and not any(wave.has_label or wave.has_device_rate for wave in recordings):
        return _detection_part(recordings, methods, missing, options.seed), []
    scored = [score_recording(wave, options.protocol, methods, options.constant_bpm) for wave in recordings]
    missing |= {wave.key: one.reason for wave, one in zip(recordings, scored, strict=True) if one.reason}
    rows_of = [*methods, *([CONSTANT] if options.constant_bpm is not None else [])]
    found = tally(recordings, scored, rows_of, options.protocol, options.bootstrap, options.seed)
    result = {
        "test": {**_header(found, scored, missing), **doubtful(scored, options.protocol),
                 "origins": _origins(recordings)},
        "rows": [found.row(name) for name in rows_of],
        "paired": paired(found, options.bootstrap, options.seed),
        "conditions": by_condition(found, recordings, options.bootstrap, options.seed),
    }
    return result, list(zip(found.waves, found.scored, strict=True))


def _origins(recordings: list[RecordingWaveform]) -> list[str]:
    """Where recordings come from that only have the layout of their dataset, such as "synthetic"."""
    return sorted({wave.conditions["origin"] for wave in recordings if "origin" in wave.conditions})


def _header(found: Tally, scored: Sequence[Scored], missing: Mapping[str, str]) -> dict[str, Any]:
    units = {kind: sum(len(one.unit_window) for one in scored if one.reference == kind)
             for kind in ("label", "device")}
    return {
        "datasets": sorted({wave.dataset for wave in found.waves}),
        "n_subjects": len(set(found.subjects.tolist())),
        "n_recordings": len(found.waves),
        "n_windows": int(found.n_units.sum()),
        "n_unlabelled_windows": sum(one.n_unlabelled for one in scored),
        "bin_bpm": max((one.bin_bpm for one in scored), default=0.0),
        "n_missing": len(missing),
        "missing": sorted(missing, key=natural_key),
        "missing_reasons": dict(sorted(missing.items(), key=lambda item: natural_key(item[0]))),
        "references": units,
    }


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
        "n_subjects": len({wave.person for wave in recordings}),
        "n_recordings": len(recordings), "n_missing": len(missing), "missing": sorted(missing),
        "missing_reasons": dict(missing),
    }
    return {"kind": "detection", "test": header, "rows": rows}
