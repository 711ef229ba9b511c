"""Recordings of the store, read clip by clip."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dataset import statistics
from dataset.index import (
    FailedRecording,
    RecordingInfo,
    load_failed,
    load_infos,
    mean_rate_bpm,
    recording_key,
)
from dataset.transforms import (
    UNCHANGED,
    Change,
    FrameStatistics,
    area_resize,
    label_statistics,
    resample_time,
    single_thread,
    span_at_speed,
    target_form,
    video_form,
)
from preprocessing.store import StoredRecording
from utils import signal
from utils.contracts import ClipBatch, InputSpec
from utils.errors import UserError

__all__ = [
    "Clip", "FailedRecording", "RecordingInfo", "StoreClips", "collate", "load_failed", "load_infos",
    "mean_rate_bpm", "recording_key", "spectral_rate_bpm",
]

STATISTICS_BLOCK_FRAMES = 32
PULSE_BAND_HZ = (0.6, 4.0)
SHORTEST_FOR_RATE_S = 3.0


@dataclass
class Clip:
    """One clip as read: video (T, S, S, 3) and pulse (T,) in the asked forms; see ClipBatch."""

    video: Tensor
    pulse: Tensor
    has_label: bool
    hr_bpm: float
    start: int
    extras: dict[str, Tensor]


class StoreClips:
    """One stored recording, read in clips; implements utils.contracts.RecordingClips.

    Further attributes: key; dataset; conditions; label, the pulse at the frames, float32 (T,), NaN where
    there is none; reference_hr_bpm, the mean of the device's heart rate or None; time_s is float64 (T,).
    """

    def __init__(self, info: RecordingInfo, spec: InputSpec) -> None:
        """Reads the small arrays; frames are read when clips are asked for."""
        self.info, self.spec = info, spec
        self.key, self.dataset, self.recording = info.key, info.dataset, info.recording
        self.subject, self.conditions = info.subject, info.conditions
        self.n_frames, self.fps = info.n_frames, info.fps
        self._stored = StoredRecording(info.path)
        self.time_s = self._floats("frame_time_s", torch.float64)
        self.label = self._floats("pulse", torch.float32)
        self._hr_bpm, self._hr_time_s = self._device_rate()
        self.reference_hr_bpm = float(self._hr_bpm.mean()) if len(self._hr_bpm) else None
        self._label_statistics = label_statistics(self.label)
        self._run = _longest_run(self.label.isfinite().numpy())
        self._frame_statistics: FrameStatistics | None = None

    @classmethod
    def from_file(cls, path: Path, spec: InputSpec) -> StoreClips:
        """A stored file that stands in no manifest, described by its own attributes."""
        stored = StoredRecording(path)
        told, pulse = stored.attributes, stored.array("pulse") if "pulse" in stored else np.empty(0)
        dataset, recording = str(told.get("dataset", "folder")), str(told.get("recording", path.stem))
        conditions = {k.partition(".")[2]: str(v) for k, v in told.items() if k.startswith("condition.")}
        times = stored.array("frame_time_s")
        return cls(RecordingInfo(
            key=recording_key(dataset, recording), dataset=dataset, recording=recording, path=path,
            subject=str(told.get("subject", recording)), n_frames=stored.n_frames,
            fps=float(told["fps"]) if "fps" in told else signal.sample_rate(times),
            size=int(stored.read_frames(0, 1).shape[1]), has_label=bool(np.isfinite(pulse).any()),
            conditions=conditions,
        ), spec)

    @property
    def region_names(self) -> tuple[str, ...]:
        """Names of the skin regions of `roi_rgb`, in its order."""
        return tuple(self._stored.attributes.get("region_names", ()))

    @property
    def face_found(self) -> Tensor:
        """Whether a face was seen, bool (T,); false where it is not stored."""
        if "face_found" not in self._stored:
            return torch.zeros(self.n_frames, dtype=torch.bool)
        return torch.from_numpy(self._stored.array("face_found")).bool()

    @property
    def roi_rgb(self) -> Tensor | None:
        """Mean RGB of the skin regions over time, float32 (T, R, 3), None where it is not stored."""
        return torch.from_numpy(self._stored.array("roi_rgb")) if "roi_rgb" in self._stored else None

    def batches(self, size: int) -> Iterator[ClipBatch]:
        """Consecutive clips of spec.frames frames, at most `size` at a time; see RecordingClips."""
        frames = self.spec.frames
        last = max(0, self.n_frames - frames)
        starts = [min(start, last) for start in range(0, self.n_frames, frames)]
        for first in range(0, len(starts), size):
            with single_thread():
                clips = [self.clip(start, frames) for start in starts[first : first + size]]
                batch = collate(clips, [self] * len(clips))
            yield batch

    def clip(
        self, start: int, frames: int, change: Change = UNCHANGED, buffer: np.ndarray | None = None
    ) -> Clip:
        """The clip of `frames` frames whose first is `start`; past the end the last frame is repeated.

        buffer: uint8 (n, H, W, 3), reused for reading where it is long enough. UserError when an array
        of spec.extras is not stored.
        """
        spec, speed = self.spec, change.speed
        wanted = frames + ("diff_normalised" in (spec.video, spec.target))
        there = min(wanted, int((self.n_frames - 1 - start) / speed + 1e-9) + 1)
        stop = min(self.n_frames, start + span_at_speed(there, speed))

        def in_time(values: Tensor) -> Tensor:
            return _extended(resample_time(values, speed, there), frames)

        video = in_time(area_resize(self._frames(start, stop, buffer), spec.size))
        label = in_time(self.label[start:stop])
        extras = {name: self._extra(name, start, stop, change, in_time)[:frames] for name in spec.extras}
        pulse = target_form(label, spec.target, frames, self._label_statistics)
        return Clip(
            video=video_form(video.flip(2) if change.flip else video, spec.video, frames, self._statistics()),
            pulse=pulse, has_label=self.info.has_label and bool(pulse.isfinite().all()),
            hr_bpm=self._rate_bpm(start, stop, speed), start=start, extras=extras,
        )

    def labelled_run(self, frames: int) -> tuple[int, int]:
        """First frame and length of the longest stretch with a label.

        The whole recording where that stretch is shorter than `frames` or where there is no label.
        """
        return self._run if self._run[1] >= frames else (0, self.n_frames)

    def _frames(self, start: int, stop: int, buffer: np.ndarray | None) -> Tensor:
        fits = buffer is not None and len(buffer) >= stop - start and buffer.shape[1] == self.info.size
        out = buffer[: stop - start] if fits and buffer is not None else None
        return torch.from_numpy(self._stored.read_frames(start, stop, out=out))

    def _floats(self, name: str, kind: torch.dtype) -> Tensor:
        """A stored array of length T; NaN where it is not stored."""
        if name not in self._stored:
            return torch.full((self.n_frames,), math.nan, dtype=kind)
        values = torch.from_numpy(self._stored.array(name)).to(kind)
        if len(values) != self.n_frames:
            raise UserError(
                f"{self.info.path}: {name} has {len(values)} samples for {self.n_frames} frames; "
                f"delete the file and preprocess again"
            )
        return values

    def _device_rate(self) -> tuple[np.ndarray, np.ndarray]:
        """The usable samples of the device's heart rate, and their times."""
        if "hr_bpm" not in self._stored or "hr_time_s" not in self._stored:
            return np.empty(0), np.empty(0)
        rate, time_s = self._stored.array("hr_bpm").astype(np.float64), self._stored.array("hr_time_s")
        good = np.isfinite(rate) & (rate > 0)
        return rate[good], time_s[good]

    def _rate_bpm(self, start: int, stop: int, speed: float) -> float:
        """Mean reference rate between two frames, times the speed: the device's, else the label's."""
        time_s, margin_s = self.time_s[start:stop].numpy(), 0.5 / self.fps
        inside = (self._hr_time_s >= time_s[0] - margin_s) & (self._hr_time_s <= time_s[-1] + margin_s)
        if inside.any():
            return float(self._hr_bpm[inside].mean()) * speed
        return spectral_rate_bpm(self.label[start:stop].numpy(), time_s) * speed

    def _extra(self, name: str, start: int, stop: int, change: Change, in_time: Any) -> Tensor:
        """Rows of a further stored array, as float32 at the clip's frames; masks turn with the picture."""
        if name not in self._stored:
            raise UserError(
                f"{self.info.path}: the net asks for {name!r}, which is not stored; "
                f"switch it on in section preprocessing and preprocess again"
            )
        values = in_time(torch.from_numpy(self._stored.array(name, start, stop)).float())
        return values.flip(-1) if change.flip and name == "skin" else values

    def _statistics(self) -> FrameStatistics | None:
        """The recording's frame statistics, for the forms that need them: kept, cached or measured."""
        if self.spec.video not in ("standardised", "diff_normalised"):
            return None
        if self._frame_statistics is None:
            cache = statistics.beside(self.info.path.parent) if self.info.sha256 else None
            known = cache.get(self.info.sha256, self.spec.size) if cache else None
            if known is None:
                with single_thread():
                    known = statistics.measure(self._blocks(), self.spec.size)
                if cache:
                    cache.put(self.info.sha256, self.spec.size, known)
            self._frame_statistics = known
        return self._frame_statistics

    def _blocks(self) -> Iterator[Tensor]:
        step = STATISTICS_BLOCK_FRAMES
        buffer = np.empty((step, self.info.size, self.info.size, 3), np.uint8)
        for start in range(0, self.n_frames, step):
            yield self._frames(start, min(start + step, self.n_frames), buffer)


def spectral_rate_bpm(label: np.ndarray, time_s: np.ndarray) -> float:
    """Rate of the strongest peak of a label (n,) between 0.6 and 4 Hz; NaN where there is none to read."""
    n = len(label)
    if n < 4 or time_s[-1] - time_s[0] < SHORTEST_FOR_RATE_S or not np.isfinite(label).all():
        return math.nan
    uniform, fs = signal.to_uniform(label, time_s)
    frequency_hz, power = signal.power_spectrum(
        signal.detrend(uniform, signal.strength_at(100.0, fs)), fs, bin_hz=0.02)
    band = np.flatnonzero((frequency_hz >= PULSE_BAND_HZ[0]) & (frequency_hz <= PULSE_BAND_HZ[1]))
    if len(band) == 0 or not power[band].max() > 0:
        return math.nan
    peak = int(band[power[band].argmax()])
    return 60.0 * float(frequency_hz[1]) * signal.parabolic_peak(power, peak)


def _longest_run(known: np.ndarray) -> tuple[int, int]:
    """First index and length of the longest stretch of True in (T,); (0, 0) where there is none."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], known.astype(np.int8), [0]])))
    starts, lengths = edges[::2], edges[1::2] - edges[::2]
    longest = int(lengths.argmax()) if len(lengths) else -1
    return (int(starts[longest]), int(lengths[longest])) if longest >= 0 else (0, 0)


def _extended(values: Tensor, n: int) -> Tensor:
    """At least n entries: the last one repeated where there are fewer."""
    missing = n - len(values)
    return values if missing <= 0 else torch.cat([values, values[-1:].expand(missing, *values.shape[1:])])


def collate(clips: Sequence[Clip], sources: Sequence[StoreClips]) -> ClipBatch:
    """Clips of one shape as a ClipBatch; sources: the recording each one comes from."""
    n_frames, size = clips[0].video.shape[:2]
    video = torch.empty(len(clips), 3, n_frames, size, size)
    for target, clip in zip(video, clips, strict=True):
        target.copy_(clip.video.permute(3, 0, 1, 2))
    return ClipBatch(
        video=video,
        pulse=torch.stack([clip.pulse for clip in clips]),
        has_label=torch.tensor([clip.has_label for clip in clips]),
        fps=torch.tensor([source.fps for source in sources], dtype=torch.float32),
        hr_bpm=torch.tensor([clip.hr_bpm for clip in clips], dtype=torch.float32),
        recording=[source.key for source in sources],
        start=[clip.start for clip in clips],
        extras={name: torch.stack([clip.extras[name] for clip in clips]) for name in clips[0].extras},
    )
