"""Recordings of the store, read clip by clip."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dataset import contour, statistics
from dataset.colours import crop_means
from dataset.frames import FROM_STORE, Frames
from dataset.index import RecordingInfo, recording_key
from dataset.maps import face_boxes, region_means
from dataset.rates import spectral_rate_bpm, usable_rates
from dataset.targets import DIFFERENCES, label_statistics, longest_run, target_form
from dataset.transforms import (
    RELATIVE,
    UNCHANGED,
    Change,
    FrameStatistics,
    area_resize,
    erased,
    resample_time,
    single_thread,
    span_at_speed,
    video_form,
)
from preprocessing.store import StoredRecording
from utils import signal
from utils.contracts import ST_MAP, ClipBatch, InputSpec
from utils.errors import UserError

BLOCK_FRAMES = 32


@dataclass
class Clip:
    """One clip as read: video (T, S, S, C) and pulse (T,) in the asked forms; see ClipBatch."""

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
    device_rate and respiration give what the set's meters recorded over time.
    """

    def __init__(
        self, info: RecordingInfo, spec: InputSpec, stored: StoredRecording | None = None,
        frames: Frames = FROM_STORE,
    ) -> None:
        """Reads the small arrays; frames are read when clips are asked for.

        stored: the one at info.path; frames: where its frames come from, and the device of the videos.
        """
        self.info, self.spec, self._source = info, spec, frames
        self.key, self.dataset, self.recording = info.key, info.dataset, info.recording
        self.subject, self.people, self.conditions = info.subject, info.people, info.conditions
        self.n_frames, self.fps = info.n_frames, info.fps
        self._stored = stored or StoredRecording(info.path)
        self._frames_name = _quality_name(spec.quality, "frames")
        for name in (spec.quality, *spec.qualities):
            self._require_quality(name)
        self.time_s = self._floats("frame_time_s", torch.float64)
        self.label = self._floats("pulse", torch.float32)
        self._hr_bpm, self._hr_time_s = usable_rates(self._stored)
        self.reference_hr_bpm = float(self._hr_bpm.mean()) if len(self._hr_bpm) else None
        self._label_statistics = label_statistics(self.label)
        self._run = longest_run(self.label.isfinite().numpy())
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
        name = _quality_name(self.spec.quality, "roi_rgb")
        return torch.from_numpy(self._stored.array(name)) if name in self._stored else None

    @functools.cached_property
    def crop_rgb(self) -> Tensor:
        """Mean RGB of the whole crop over time, float32 (T, 3); the frames are read through once."""
        return crop_means(self._blocks())

    @property
    def device_rate(self) -> tuple[Tensor, Tensor] | None:
        """Usable samples of the device's heart rate, float32 (M,) in bpm, and their times, float64 (M,)."""
        if not len(self._hr_bpm):
            return None
        return torch.from_numpy(self._hr_bpm).float(), torch.from_numpy(self._hr_time_s).double()

    @property
    def respiration(self) -> tuple[Tensor, Tensor] | None:
        """The respiration sensor's signal, float32 (N,), and its times, float64 (N,), where it is stored."""
        if "resp" not in self._stored or "resp_time_s" not in self._stored:
            return None
        signal_, time_s = (torch.from_numpy(self._stored.array(name)) for name in ("resp", "resp_time_s"))
        return (signal_.float(), time_s.double()) if len(signal_) else None

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
        self, start: int, frames: int, change: Change = UNCHANGED, copy: int | None = None
    ) -> Clip:
        """The clip of `frames` frames from `start` on; past the end the last one is repeated, without label.

        copy: which of spec.qualities it brings; None: they take turns along the recording. UserError when
        an array of spec.extras is not stored.
        """
        spec, speed = self.spec, change.speed
        wanted = frames + max(RELATIVE.get(spec.video, 0), DIFFERENCES.get(spec.target, 0))
        there = min(wanted, int((self.n_frames - 1 - start) / speed + 1e-9) + 1)
        stop = min(self.n_frames, start + span_at_speed(there, speed))

        def in_time(values: Tensor) -> Tensor:
            return _extended(resample_time(values, speed, there), frames)

        def picture(name: str) -> Tensor:
            resized = in_time(self._at_size(self._frames(self._source, start, stop, name), start, stop))
            turned = resized.flip(2) if change.flip else resized
            return erased(video_form(turned, spec.video, frames, self._statistics()), change.erased)

        label = in_time(self.label[start:stop])
        label[there:] = math.nan  # nobody measured what the repeated frames stand for
        extras = {name: self._extra(name, start, stop, change, in_time)[:frames] for name in spec.extras}
        if spec.qualities:
            index = start // frames % len(spec.qualities) if copy is None else copy
            degraded = picture(_quality_name(spec.qualities[index], "frames"))
            extras |= {"degraded": degraded.permute(3, 0, 1, 2), "level": torch.tensor(index + 1)}
        pulse = target_form(label, spec.target, frames, self._label_statistics)
        return Clip(
            video=picture(self._frames_name), pulse=pulse, start=start, extras=extras,
            has_label=self.info.has_label and bool(pulse.isfinite().all()),
            hr_bpm=self.rate_bpm(start, stop, speed),
        )

    def labelled_run(self, frames: int) -> tuple[int, int]:
        """First frame and length of the longest stretch with a label.

        The whole recording where that stretch is shorter than `frames` or where there is no label.
        """
        return self._run if self._run[1] >= frames else (0, self.n_frames)

    def _require_quality(self, name: str | None) -> None:
        """UserError when a compressed copy that is wanted is not stored."""
        if name is not None and _quality_name(name, "frames") not in self._stored:
            raise UserError(
                f"{self.info.path}: no compressed copy {name}; add it to preprocessing.qualities and "
                "preprocess again"
            )

    def _frames(self, source: Frames, start: int, stop: int, name: str) -> Tensor:
        return source.read(self._stored, name, start, stop, self.info.size)

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

    def rate_bpm(self, start: int, stop: int, speed: float = 1.0) -> float:
        """Mean reference rate between two frames, times the speed: the device's, else the label's.

        NaN where neither is there.
        """
        time_s, margin_s = self.time_s[start:stop].numpy(), 0.5 / self.fps
        inside = (self._hr_time_s >= time_s[0] - margin_s) & (self._hr_time_s <= time_s[-1] + margin_s)
        if inside.any():
            return float(self._hr_bpm[inside].mean()) * speed
        return spectral_rate_bpm(self.label[start:stop].numpy(), time_s) * speed

    def _extra(self, name: str, start: int, stop: int, change: Change, in_time: Any) -> Tensor:
        """Rows of a further stored array, as float32 at the clip's frames; masks turn with the picture."""
        array = self._wanted(contour.LANDMARKS if name == contour.NAME else name, start, stop)
        made = contour.masks(array, self.info.size, self.spec.size) if name == contour.NAME else array
        values = in_time(torch.from_numpy(made).float())
        return values.flip(-1) if change.flip and name in ("skin", contour.NAME) else values

    def _wanted(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows of a stored array that the net cannot do without."""
        if name not in self._stored:
            raise UserError(
                f"{self.info.path}: the net asks for {name!r}, which is not stored; switch it on in section "
                "preprocessing and preprocess again"
            )
        return self._stored.array(name, start, stop)

    def _at_size(self, frames: Tensor, start: int, stop: int) -> Tensor:
        """Frames at the asked size; for spatio-temporal maps, the means of a grid over the face."""
        if self.spec.video != ST_MAP:
            return area_resize(frames, self.spec.size)
        boxes = face_boxes(self._wanted(contour.LANDMARKS, start, stop), self.info.size)
        return region_means(frames, boxes, self.spec.size)

    def _statistics(self) -> FrameStatistics | None:
        """The recording's frame statistics, for the forms that need them: kept, cached or measured."""
        if self.spec.video not in RELATIVE:
            return None
        if self._frame_statistics is None:
            cache = statistics.beside(self.info.path.parent) if self.info.sha256 else None
            content = _quality_name(self.spec.quality, self.info.sha256)
            known = cache.get(content, self.spec.size) if cache else None
            if known is None:
                with single_thread():
                    known = statistics.measure(self._blocks(), self.spec.size)
                if cache:
                    cache.put(content, self.spec.size, known)
            self._frame_statistics = known
        return self._frame_statistics

    def _blocks(self) -> Iterator[Tensor]:
        step = BLOCK_FRAMES
        for start in range(0, self.n_frames, step):
            yield self._frames(FROM_STORE, start, min(start + step, self.n_frames), self._frames_name)


def _quality_name(quality: str | None, name: str) -> str:
    """Where the stored array `name` lies for a compressed copy, or for the original (None)."""
    return name if quality is None else f"quality/{quality}/{name}"


def _extended(values: Tensor, n: int) -> Tensor:
    """At least n entries: the last one repeated where there are fewer."""
    missing = n - len(values)
    return values if missing <= 0 else torch.cat([values, values[-1:].expand(missing, *values.shape[1:])])


def collate(clips: Sequence[Clip], sources: Sequence[StoreClips]) -> ClipBatch:
    """Clips of one shape as a ClipBatch, its video where theirs are; sources: their recordings."""
    n_frames, size, _, channels = clips[0].video.shape
    video = torch.empty(len(clips), channels, n_frames, size, size, device=clips[0].video.device)
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
