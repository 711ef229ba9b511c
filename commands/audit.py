"""audit: the health of the raw datasets, recording by recording, before anything is trained on them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import nets
from commands.params import load_config
from commands.recordings import fill
from evaluation.audit import drawing, page
from evaluation.audit.examine import Audited, compare, examine, failed
from evaluation.audit.findings import Signals
from evaluation.audit.twins import Fingerprint, find_twins, fingerprint
from preprocessing.defects import hidden, known
from preprocessing.manifest import NAME as MANIFEST
from preprocessing.manifest import Manifest
from preprocessing.report import StoreReport
from preprocessing.stored import StoredRecording
from utils import interrupt
from utils.errors import RecordingsFailed, UserError
from utils.runlog import say, track
from utils.settings import RunConfig
from utils.signal import sample_rate

METHODS = ("pos", "chrom")
"""What finds the pulse in the skin's colour without having learned it from labels."""
N_CROPS = 16
FACE = 0
"""The region of `roi_rgb` that every recording has."""


@dataclass(frozen=True)
class Entry:
    """A recording to audit: its name, its line in the manifest, its file."""

    key: str
    dataset: str
    recording: str
    line: dict[str, Any]
    path: Path

    @property
    def person(self) -> tuple[str, str]:
        """Whose numbering, and who."""
        return self.line.get("people") or self.dataset, str(self.line.get("subject", self.recording))


def audit(args: argparse.Namespace) -> int:
    """Fill the store, examine every recording, write the audit; RecordingsFailed names what is unusable."""
    config = load_config(args.params, args.overrides)
    folder = Path(args.out) if args.out else Path(config.data.store) / "audit"
    torch.set_num_threads(config.run.threads or 1)
    with interrupt.listening():
        report = fill(config)
        entries = list(_entries(config, report))
        audited = examine_all(entries, config.logging.progress)
        details = _details(entries, audited, config.logging.progress)
        page.write_audit(folder, audited, details, _left_out(config, report))
    say(page.terminal_table(audited))
    say(f"audit: {folder / 'audit.html'} (also audit.csv, audit.json)")
    _raise_if_unusable(audited, config.preprocessing.allow_failed)
    return 0


def _entries(config: RunConfig, report: StoreReport) -> Iterator[Entry]:
    """Every recording that was made or failed, in natural order by dataset."""
    for name, part in report.datasets.items():
        folder = Path(config.data.store) / name
        lines = Manifest(folder / MANIFEST).entries
        for recording in [*part.done, *part.failed]:
            line = lines.get(recording, {"status": "failed", "reason": part.failed.get(recording, "")})
            yield Entry(f"{name}.{recording}", name, recording, line, folder / f"{recording}.h5")


def _left_out(config: RunConfig, report: StoreReport) -> dict[str, str]:
    """What the params leave out, and why."""
    found: dict[str, str] = {}
    for name, part in report.datasets.items():
        lines = Manifest(Path(config.data.store) / name / MANIFEST).entries
        for recording in part.excluded:
            line = lines.get(recording, {})
            found[f"{name}.{recording}"] = str(line.get("reason") or "left out by data.sets")
    return found


def examine_all(entries: list[Entry], progress: bool) -> list[Audited]:
    """The recordings one by one, then what only shows beside the others."""
    audited: list[Audited] = []
    prints: dict[str, Fingerprint] = {}
    defects = {name: known(name) for name in {entry.dataset for entry in entries}}
    for entry in track(entries, "examining", enabled=progress):
        interrupt.check()
        subject = str(entry.line.get("subject", entry.recording))
        try:
            signals = _signals(entry)
        except UserError as error:
            audited.append(failed(entry.key, entry.dataset, entry.recording, subject, str(error)))
        else:
            part, _ = examine(signals)
            prints[entry.key] = fingerprint(signals, entry.person, float(entry.line["fps"]))
            audited.append(Audited(entry.key, entry.dataset, entry.recording, subject, part))
        is_made_up = "origin" in entry.line.get("conditions", {})  # it only bears the dataset's names
        on_list = None if is_made_up else defects[entry.dataset].get(entry.recording)
        audited[-1].part.notes += [f"known: {on_list}"] if on_list else []
    compare(audited, find_twins(prints))
    return audited


def _signals(entry: Entry) -> Signals:
    """The stored series; UserError with the reason where there are none, or where they cannot be read."""
    if entry.line.get("status") != "done":
        raise UserError(str(entry.line.get("reason") or "failed in preprocessing"))
    return read_signals(entry.path, entry.line["warnings"])


def read_signals(path: Path, warnings: list[str]) -> Signals:
    """A stored recording for the audit: all series, a few of the frames."""
    stored = StoredRecording(path)
    places = np.linspace(0, stored.n_frames - 1, min(N_CROPS, stored.n_frames)).round().astype(int)
    time_s = _series(stored, "frame_time_s")
    rgb = stored.array("roi_rgb")[:, FACE].astype(np.float64)
    return Signals(
        frame_time_s=time_s, pulse=_series(stored, "pulse"), box=_series(stored, "box"),
        face_found=stored.array("face_found").astype(np.bool_), rgb=rgb, label=_series(stored, "label"),
        label_time_s=_series(stored, "label_time_s"), hr_bpm=_series(stored, "hr_bpm"),
        skin=skin_waveforms(rgb, time_s), stated=stored.attributes, warnings=tuple(warnings),
        crops=np.concatenate([stored.read_frames(int(place), int(place) + 1) for place in places]),
    )


def _series(stored: StoredRecording, name: str) -> NDArray[np.float64]:
    """A stored array in double precision; empty where there is none."""
    return stored.array(name).astype(np.float64) if name in stored else np.empty(0)


def skin_waveforms(
    rgb: NDArray[np.float64], time_s: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """The pulse in the skin's colour (T, 3) by each method, on the uniform grid over the frames' span."""
    fps = sample_rate(time_s)
    grid = np.linspace(time_s[0], time_s[-1], len(time_s))
    seen = np.isfinite(rgb).all(axis=1)
    if seen.sum() < 2:
        return {}
    uniform = np.stack([np.interp(grid, time_s[seen], channel[seen]) for channel in rgb.T], axis=1)
    return {name: nets.build(name)(torch.from_numpy(uniform[None]), fps)[0].numpy() for name in METHODS}


def _details(entries: list[Entry], audited: list[Audited], progress: bool) -> list[page.Detail]:
    """Pictures of the flagged recordings and of a few good ones; nobody is shown who asked not to be."""
    by_key = {entry.key: entry for entry in entries}
    unseen = {name: hidden(name) for name in {entry.dataset for entry in entries}}
    made = []
    for key in track(page.chosen_for_details(audited), "drawing", enabled=progress):
        interrupt.check()
        entry = by_key[key]
        signals = read_signals(entry.path, [])
        _, found = examine(signals)
        is_hidden = entry.recording in unseen[entry.dataset]
        pictures = [] if is_hidden else drawing.thumbnails(signals.crops)
        made.append(page.Detail(key, pictures, drawing.plots(signals, found), is_hidden))
    return made


def _raise_if_unusable(audited: list[Audited], allow_failed: bool) -> None:
    """Name every unusable recording, unless all that is wrong with it is a failure that is allowed."""
    unusable = [item for item in audited if item.verdict == "unusable"
                and not (allow_failed and item.flags == ["failed"])]
    if unusable:
        fatal = [next(f.text for f in item.part.findings if f.is_fatal) for item in unusable]
        lines = [f"  {item.key}: {text}" for item, text in zip(unusable, fatal, strict=True)]
        title = f"{len(unusable)} of {len(audited)} recordings are unusable:"
        raise RecordingsFailed("\n".join([title, *lines]))
