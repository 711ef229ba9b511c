"""Writes a synthetic set in the layout of UBFC-rPPG DATASET_2, one whole folder per subject."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from preprocessing import pool
from preprocessing.synthetic import avi, pulse, scene
from preprocessing.synthetic.subjects import PARTS, Subject, make_subjects
from utils import files, interrupt, runlog
from utils.errors import Stopped, UserError

# Part of every digest: raise it when the same settings give other bytes.
_VERSION = 2
_RATE_WINDOW_S = 4.0
_SILENCE_S = 120.0  # a worker that makes no frame for so long is stopped
_LONGEST_S = {"mjpeg": 1800, "uncompressed": 360}
_BYTES_PER_FRAME = {"mjpeg": 30_000, "uncompressed": scene.SIDE**2 * 3}
Array = np.ndarray


def generate(
    out: Path, *, seed: int, train: int = 16, valid: int = 4, test: int = 8, hard: int = 6, control: int = 2,
    seconds: float = 15.0, codec: str = "mjpeg", workers: int | None = None, progress: bool = True,
    gap: bool = False, flicker: float = 1.0,
) -> dict[str, list[str]]:
    """Make the set in `out` and return (and write to `out/lists.json`) the folder names of each part.

    Each `out/subjectN` holds vid.avi, ground_truth.txt (pulse, rate in bpm, time in s), conditions.json
    and truth.json. The result is a function of the arguments other than `workers` (processes; None: one
    a core) and `progress`. gap, flicker: see `make_subjects`. Whole subjects made with the same settings are
    kept, so a killed call is completed by the next; subjects of other settings are replaced or removed.
    UserError for impossible settings and for folders in the way that were not made here.
    """
    _check(seconds, codec, workers)
    counts = {"train": train, "valid": valid, "test": test, "hard": hard, "control": control}
    subjects = make_subjects(seed, counts, gap, flicker)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    lists = {part: [s.name for s in subjects if s.part == part] for part in PARTS if counts[part]}
    missing = [s for s in subjects if not _is_whole(out / s.name, _digest(s, seconds, codec))]
    _clear(out, {s.name for s in subjects} - {s.name for s in missing})
    if missing:
        (out / "lists.json").unlink(missing_ok=True)
    files.require_space(out / "lists.json", int(len(missing) * seconds * 31 * _BYTES_PER_FRAME[codec]))
    _make_all(out, missing, seconds, codec, workers or pool.usable_cores(), progress)
    files.write_json(out / "lists.json", lists)
    return lists


def _check(seconds: float, codec: str, workers: int | None) -> None:
    """UserError unless the settings are possible; an AVI holds 2 GB."""
    if codec not in avi.CODECS:
        raise UserError(f"synthetic set: codec = {codec!r} must be one of {', '.join(avi.CODECS)}")
    longest = _LONGEST_S[codec]
    if not 1.0 <= seconds <= longest:
        raise UserError(f"synthetic set: seconds = {seconds} must be 1 to {longest} with codec {codec!r}")
    if workers is not None and workers < 1:
        raise UserError(f"synthetic set: workers = {workers} must be at least 1")


def _digest(subject: Subject, seconds: float, codec: str) -> str:
    """What identifies a subject's bytes."""
    described = dataclasses.asdict(subject)
    if subject.gamma == 1:  # as before there were curves: the bytes are the same
        del described["gamma"]
    return files.digest({"version": _VERSION, "seconds": float(seconds), "codec": codec,
                         "subject": described})


def _is_whole(folder: Path, digest: str) -> bool:
    """Whether `folder` holds the subject of that digest, complete."""
    try:
        truth = files.read_json(folder / "truth.json")
        sizes = {name: (folder / name).stat().st_size for name in truth["bytes"]}
    except (UserError, OSError, KeyError, TypeError):
        return False
    return bool(truth.get("digest") == digest and sizes == truth["bytes"])


def _clear(out: Path, keep: set[str]) -> None:
    """Remove leftovers of killed calls and subjects of other settings; refuse what is not ours."""
    for path in out.glob(".subject*.tmp"):
        shutil.rmtree(path)
    stale = [p for p in out.glob("subject*") if p.is_dir() and p.name not in keep]
    foreign = sorted(p.name for p in stale if not _is_ours(p))
    if foreign:
        raise UserError(
            f"{out}: {', '.join(foreign[:5])} {'was' if len(foreign) == 1 else 'were'} not made by the "
            "generator and will not be overwritten; choose another folder"
        )
    for path in stale:
        shutil.rmtree(path)
    if stale:
        runlog.say(f"{out}: {len(stale)} synthetic subjects of other settings removed")


def _is_ours(folder: Path) -> bool:
    """Whether the generator made the folder: its truth.json carries a digest."""
    try:
        return "digest" in files.read_json(folder / "truth.json")
    except (UserError, TypeError):
        return False


def _make_all(
    out: Path, subjects: list[Subject], seconds: float, codec: str, workers: int, progress: bool
) -> None:
    """Make the subjects, in this process or in a pool of spawned ones; Stopped names those that failed."""
    bar = runlog.Progress(len(subjects), "synthetic recordings", progress)
    failed: list[str] = []

    def done(outcome: pool.Outcome) -> None:
        if outcome.reason:
            failed.append(f"{outcome.key}: {outcome.reason}")
        bar.step()

    try:
        if workers == 1:
            for subject in subjects:
                interrupt.check()
                make_recording(out, subject, seconds, codec)
                bar.step()
        else:
            tasks = [(s.name, (out, s, seconds, codec)) for s in subjects]
            pool.run(tasks, _work, min(workers, len(tasks)), _SILENCE_S, done)
    finally:
        bar.close()
    if failed:
        raise Stopped("synthetic recordings failed; run again to complete the set\n" + "\n".join(failed))


def _work(task: tuple[Path, Subject, float, str], beat: Callable[[int], None]) -> None:
    """What a worker of the pool does."""
    cv2.setNumThreads(1)
    make_recording(*task, beat)


def make_recording(
    out: Path, subject: Subject, seconds: float, codec: str, beat: Callable[[int], None] = lambda n: None
) -> None:
    """Write one subject's folder: made under a temporary name and renamed when it is whole.

    beat: called with the number of frames made so far. Stopped on a full disk; nothing stays of an
    unfinished folder.
    """
    target = out / subject.name
    temporary = out / f".{subject.name}.{os.getpid()}.tmp"
    temporary.mkdir()
    try:
        _fill(temporary, subject, seconds, codec, beat)
        for path in temporary.iterdir():
            with open(path, "rb") as handle:
                os.fsync(handle.fileno())
        if not _is_whole(target, _digest(subject, seconds, codec)):
            os.replace(temporary, target)
        files.sync_folder(out)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise files.disk_full(target) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _fill(folder: Path, subject: Subject, seconds: float, codec: str, beat: Callable[[int], None]) -> None:
    """The four files of one subject."""
    rng = np.random.default_rng([*subject.key, 7])
    time_s = _frame_times(subject.fps, seconds, rng)
    beats = pulse.make_pulse(subject.rhythm, seconds, rng)
    layers = scene.make_layers(subject, rng)
    course = scene.make_course(subject, time_s, beats.wave(time_s), beats.respiration(time_s), rng)
    frames = _counted(scene.render(layers, course, subject.noise, rng, gamma=subject.gamma), beat)
    declared = round((len(time_s) - 1) / float(time_s[-1]), 2)
    avi.write_avi(folder / "vid.avi", frames, fps=declared, codec=codec, quality=subject.quality)
    _write_labels(folder, subject, beats, time_s)
    _write_truth(folder, subject, beats, _digest(subject, seconds, codec))


def _counted(frames: Iterable[Array], beat: Callable[[int], None]) -> Iterator[Array]:
    for n, frame in enumerate(frames):
        if n % 100 == 0:
            beat(n)
        yield frame


def _frame_times(fps: float, seconds: float, rng: np.random.Generator) -> Array:
    """Times of the frames (T,) in whole milliseconds from 0, slightly irregular as cameras are."""
    n = max(2, int(seconds * fps))
    times = np.arange(n) / fps + rng.normal(0, 0.0008, n).clip(-0.003, 0.003)
    return np.round(times - times[0], 3)


def _write_labels(folder: Path, subject: Subject, beats: pulse.Pulse, time_s: Array) -> None:
    """ground_truth.txt: a line each of pulse, rate and time; without a pulse NaN, and a rate of 0."""
    wave, rate = beats.wave(time_s), _smoothed_rate(beats, time_s)
    if not subject.green_pp:
        wave, rate = np.full_like(wave, np.nan), np.zeros_like(rate)
    lines = ["   ".join(f"{value:.7e}" for value in line) for line in (wave, rate, time_s)]
    (folder / "ground_truth.txt").write_text("\n".join(lines) + "\n", encoding="ascii")
    files.write_json(folder / "conditions.json", {"conditions": subject.conditions()})


def _smoothed_rate(beats: pulse.Pulse, time_s: Array) -> Array:
    """Rate in bpm as an oximeter shows it: the mean over the seconds around, (T,)."""
    first = np.clip(time_s - _RATE_WINDOW_S / 2, 0, None)
    last = np.clip(time_s + _RATE_WINDOW_S / 2, None, beats.duration_s)
    return 60 * (beats.phase(last) - beats.phase(first)) / (last - first)


def _write_truth(folder: Path, subject: Subject, beats: pulse.Pulse, digest: str) -> None:
    """truth.json: what is known exactly of the recording, and what marks it as whole."""
    has_pulse = bool(subject.green_pp)
    truth: dict[str, Any] = {
        "digest": digest,
        "seed": subject.key[0],
        "rate_bpm": subject.rhythm.rate_bpm if has_pulse else None,
        "respiration_hz": subject.rhythm.respiration_hz,
        "beat_time_s": beats.beat_time_s().tolist() if has_pulse else [],
        "peak_time_s": beats.peak_time_s().tolist() if has_pulse else [],
        "duration_s": beats.duration_s,
        "rate_components": [
            {"hz": hz, "depth": depth, "phase_rad": phase} for hz, depth, phase in beats.components
        ],
        "subject": dataclasses.asdict(subject),
        "bytes": {path.name: path.stat().st_size for path in sorted(folder.iterdir())},
    }
    files.write_json(folder / "truth.json", truth)
