"""Which recordings the store holds, read from the manifests alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from preprocessing.manifest import NAME as MANIFEST
from preprocessing.manifest import Manifest
from utils.errors import UserError
from utils.files import natural_key
from utils.registry import did_you_mean

Read = Callable[[Path], Manifest]


@dataclass(frozen=True)
class RecordingInfo:
    """One usable recording as its manifest describes it; the file itself is not opened."""

    key: str
    dataset: str
    subject: str
    recording: str
    path: Path
    n_frames: int
    fps: float
    size: int
    has_label: bool
    conditions: dict[str, str] = field(default_factory=dict)
    hr_mean_bpm: float | None = None
    face_found_share: float | None = None
    sha256: str = ""
    people: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class FailedRecording:
    """One recording that preprocessing could not use, or that was left out, and why."""

    key: str
    dataset: str
    subject: str
    recording: str
    reason: str
    people: str = ""


def recording_key(dataset: str, recording: str) -> str:
    """The name of a recording across datasets: "<dataset>.<recording>"."""
    return f"{dataset}.{recording}"


def load_infos(
    store: Path, names: Sequence[str], exclude: Mapping[str, Sequence[str]] | None = None,
    read: Read = Manifest,
) -> list[RecordingInfo]:
    """The usable recordings of the named datasets, in natural order, from the manifests alone.

    exclude: recording ids left out, by dataset. read: opens a manifest, here and below. UserError for a
    dataset without a manifest and for an excluded id that nobody knows.
    """
    infos = []
    for name, recording, entry in _entries(store, names, exclude or {}, "done", read):
        infos.append(RecordingInfo(
            key=recording_key(name, recording), dataset=name, subject=entry["subject"], recording=recording,
            path=Path(store) / name / entry["file"], n_frames=entry["n_frames"], fps=float(entry["fps"]),
            size=entry["size"], has_label=entry["has_label"], conditions=dict(entry["conditions"]),
            hr_mean_bpm=entry["hr_mean_bpm"], face_found_share=entry["face_found_share"],
            sha256=entry["sha256"], people=str(entry.get("people", "")),
            warnings=tuple(map(str, entry["warnings"])),
        ))
    return infos


def load_failed(
    store: Path, names: Sequence[str], exclude: Mapping[str, Sequence[str]] | None = None,
    read: Read = Manifest,
) -> list[FailedRecording]:
    """The recordings of the named datasets that failed in preprocessing, in natural order."""
    return [_unusable(name, recording, entry)
            for name, recording, entry in _entries(store, names, exclude or {}, "failed", read)]


def load_left_out(
    store: Path, reasons: Mapping[str, Mapping[str, str]], read: Read = Manifest
) -> list[FailedRecording]:
    """Those of the recordings left out by the params, a reason by dataset and id, that the data holds."""
    found = []
    for name in sorted(reasons, key=natural_key):
        entries = read(Path(store) / name / MANIFEST).entries
        held = sorted((key for key in reasons[name] if key in entries), key=natural_key)
        found += [_unusable(name, key, {**entries[key], "reason": reasons[name][key]}) for key in held]
    return found


def _unusable(name: str, recording: str, entry: Mapping[str, Any]) -> FailedRecording:
    return FailedRecording(
        recording_key(name, recording), name, entry.get("subject", recording), recording, entry["reason"],
        str(entry.get("people", "")),
    )


def _entries(
    store: Path, names: Sequence[str], exclude: Mapping[str, Sequence[str]], status: str, read: Read
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name in sorted(names, key=natural_key):
        path = Path(store) / name / MANIFEST
        if not path.exists():
            raise UserError(f"{path}: no such file; run `python main.py preprocess` for {name} first")
        entries = read(path).entries
        left_out = set(exclude.get(name, ()))
        for recording in exclude.get(name, ()):
            if recording not in entries:
                hint = did_you_mean(recording, list(entries))
                raise UserError(f"data.sets: {name} has no recording {recording!r} to exclude{hint}")
        for recording in sorted(entries, key=natural_key):
            if entries[recording]["status"] == status and recording not in left_out:
                yield name, recording, entries[recording]


def mean_rate_bpm(infos: Sequence[RecordingInfo]) -> float | None:
    """Mean of the recordings' mean heart rates: what the constant predictor answers; None without any."""
    rates = [info.hr_mean_bpm for info in infos if info.hr_mean_bpm is not None]
    return math.fsum(rates) / len(rates) if rates else None
