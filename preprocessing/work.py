"""What a worker does: one recording from its source files to a published file and a manifest line."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from preprocessing import freshness
from preprocessing.extract import Extracted, ExtractSettings, extract
from preprocessing.manifest import SCHEMA_VERSION, missing_fields
from preprocessing.sources import RawRecording
from preprocessing.store import RecordingWriter, estimate_bytes
from utils import files, signal
from utils.errors import Stopped, UserError

Beat = Callable[[], None]
RATE_HZ = (0.65, 3.5)
"""Where the mean heart rate of a label is looked for."""
RATE_WINDOW_S = 10.0
FRAME_BYTES = 16
"""Less than a frame takes in any container; what declares more frames is damaged."""


@dataclass(frozen=True)
class Task:
    """One recording to make: where from, where to, how, and what its sources were when it was planned."""

    recording: RawRecording
    root: Path
    target: Path
    settings: ExtractSettings
    content: dict[str, Any]
    identity: dict[str, Any]

    def description(self) -> dict[str, Any]:
        """The part of the manifest line that is known before the work."""
        recording = self.recording
        return {
            "subject": recording.subject, "recording": recording.recording, "dataset": recording.dataset,
            "people": recording.people, "conditions": dict(recording.conditions), "settings": self.content,
            "settings_hash": files.digest(self.content), "identity": self.identity, "schema": SCHEMA_VERSION,
        }


class Extract(Protocol):
    """The signature of `preprocessing.extract.extract`."""

    def __call__(
        self, recording: RawRecording, settings: ExtractSettings, sink: RecordingWriter, beat: Beat
    ) -> Extracted:
        """Stream the frames into `sink` and return the rest."""
        ...


def make_recording(task: Task, beat: Callable[[int], None], extractor: Extract = extract) -> dict[str, Any]:
    """Make and publish one recording; returns its manifest line.

    UserError when the recording cannot be used, or when its files changed while they were read;
    Stopped when the disk is full. Nothing is left behind then.
    """
    cv2.setNumThreads(1)
    settings, recording = task.settings, task.recording
    expected = _expected_bytes(task)
    with RecordingWriter(task.target, settings.size, expected) as writer:
        extracted = extractor(recording, settings, writer, lambda: beat(writer.n_frames))
        whole = "whole" in task.identity
        now = freshness.identity(recording, task.root, whole, lambda: beat(writer.n_frames))
        if now != task.identity:
            raise UserError("its files changed while they were read; run again when they are complete")
        attributes = _attributes(task, extracted)
        n_bytes, checksum = writer.finish(extracted.arrays, attributes, lambda: beat(writer.n_frames))
    line = _line(task, extracted, writer.n_frames, n_bytes, checksum)
    wrong = missing_fields(recording.recording, line)
    if wrong:
        raise ValueError(f"the manifest has no place for it: {', '.join(wrong)}")
    files.to_json(line)  # here it costs this recording, in the manifest it would cost all
    return line


def make_as_planned(
    task: Task, beat: Callable[[int], None], work: Callable[[Task, Callable[[int], None]], dict[str, Any]]
) -> dict[str, Any]:
    """`work(task, beat)` on a machine that may differ; Stopped where it would make something else."""
    here = freshness.content_settings(task.settings, task.content["options"], type(task.recording))
    differing = freshness.differing_keys(task.content, here)
    if differing:
        raise Stopped(f"the worker on {socket.gethostname()} would make other recordings: it differs in "
                      f"{', '.join(differing)}; give every worker this project and its packages")
    return work(task, beat)


def _expected_bytes(task: Task) -> int:
    """Disk space the recording will take by its declared length; 0 where that is not known."""
    settings = task.settings
    declared = task.recording.open_frames().n_declared or 0
    source_bytes = task.identity["bytes"]
    if declared * FRAME_BYTES > source_bytes:
        raise UserError(f"declares {declared:,} frames in {source_bytes:,} bytes; the video is damaged")
    return estimate_bytes(
        declared, settings.size, settings.landmarks, settings.skin_mask, len(settings.qualities)
    )


def _attributes(task: Task, extracted: Extracted) -> dict[str, Any]:
    """The attributes of the file: who, under which conditions, made how and from what."""
    recording = task.recording
    fixed = {
        "dataset": recording.dataset, "subject": recording.subject, "recording": recording.recording,
        "schema": SCHEMA_VERSION, "settings": files.to_json(task.content),
        "settings_hash": files.digest(task.content), "identity": files.to_json(task.identity),
    }
    conditions = {f"condition.{key}": value for key, value in recording.conditions.items()}
    return {**extracted.attributes, **conditions, **fixed}


def _line(
    task: Task, extracted: Extracted, n_frames: int, n_bytes: int, checksum: str
) -> dict[str, Any]:
    """The manifest line of a recording that was made."""
    arrays, attributes = extracted.arrays, extracted.attributes
    fps = float(str(attributes["fps"]))
    pulse = arrays.get("pulse")
    label_rate, device_rate = mean_rate_bpm(pulse, fps), _mean(arrays.get("hr_bpm"))
    return {
        "status": "done", "reason": "", **task.description(),
        "n_frames": n_frames, "fps": fps, "duration_s": (n_frames - 1) / fps, "size": task.settings.size,
        "label_kind": str(attributes["label_kind"]),
        "has_label": pulse is not None and bool(np.isfinite(pulse).any()),
        "hr_mean_bpm": label_rate if device_rate is None else device_rate,
        "hr_mean_label_bpm": label_rate, "hr_mean_device_bpm": device_rate,
        "face_found_share": _mean(arrays.get("face_found")),
        "quality_kbps": {name: attributes[f"quality.{name}.kbps"] for name in task.settings.qualities},
        "warnings": list(extracted.warnings), "file": task.target.name, "bytes": n_bytes, "sha256": checksum,
    }


def _mean(values: np.ndarray | None) -> float | None:
    """Mean of the finite values; None where there is none."""
    if values is None:
        return None
    numbers = values.astype(np.float64)
    numbers = numbers[np.isfinite(numbers)]
    return float(numbers.mean()) if len(numbers) else None


def mean_rate_bpm(pulse: np.ndarray | None, fps: float) -> float | None:
    """Mean heart rate of a label, in beats a minute: the mean of the spectral peaks of 10 s windows.

    pulse: (T,) at `fps`; windows with NaN are left out, None where none is left.
    """
    n = int(RATE_WINDOW_S * fps)
    if pulse is None or not 2 <= n <= len(pulse):
        return None
    windows = np.stack([pulse[start : start + n] for start in range(0, len(pulse) - n + 1, n)])
    windows = windows[np.isfinite(windows).all(axis=1) & (np.ptp(windows, axis=1) > 0)]
    if not len(windows):
        return None
    frequency_hz, power = signal.power_spectrum(
        signal.detrend(windows, signal.strength_at(100.0, fps)), fps, bin_hz=0.005)
    power[:, (frequency_hz < RATE_HZ[0]) | (frequency_hz > RATE_HZ[1])] = 0
    return float(60 * frequency_hz[power.argmax(axis=1)].mean())
