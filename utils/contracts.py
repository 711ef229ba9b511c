"""Where nets, data and the loop meet: what a net wants, what a loader delivers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

ST_MAP = "st_map"
VIDEO_FORMS = ("raw", "unit", "centred", "standardised", "diff_normalised", "diff_standardised", ST_MAP)
_STACKED = ("diff_standardised",)
TARGET_FORMS = ("raw", "standardised", "diff_normalised", "second_derivative")


@dataclass(frozen=True)
class InputSpec:
    """What a net is fed.

    frames: clip length T in frames. size: side of the square picture in pixels. video: one of
    VIDEO_FORMS ("raw" 0..255, "unit" x/255, "centred" (x - 127.5)/128, "standardised" over the
    recording, "diff_normalised" (DeepPhys, Chen & McDuff 2018), "diff_standardised" both, the difference
    in the first three of six channels, "st_map" mean YUV of a grid of size x size cells over the face's
    landmarks (RhythmNet, Niu et al. 2020)). target: form of the label, one of TARGET_FORMS; a net trained
    on "diff_normalised" or "second_derivative" puts out a derivative, which its method integrates.
    train_frames: clip length in training where it differs. plan: how batches are drawn, the name of a
    sampler. step: frames between the starts of its successive batches, for plans that go through recordings
    in order; None: the plan's own. extras: further stored arrays wanted ("roi_rgb", "skin"), and "contour"
    (B, T, size, size), 1 inside the face's outline, drawn from the landmarks. multiple_of: frames must be a
    multiple of this. quality: the stored compressed copy that is read instead of the original crops.
    qualities: compressed copies of which each clip brings one, as the extras "degraded" (B, C, T, H, W), in
    the form of video, and "level" (B,), its place here from 1.
    only_size: the one size that fits the weights of a net whose option `size` they depend on.
    """

    frames: int = 128
    size: int = 128
    video: str = "diff_normalised"
    target: str = "diff_normalised"
    train_frames: int | None = None
    plan: str = "clips"
    extras: tuple[str, ...] = ()
    multiple_of: int = 1
    quality: str | None = None
    qualities: tuple[str, ...] = ()
    step: int | None = None
    only_size: int | None = None

    def __post_init__(self) -> None:
        """Refuse impossible values, naming the field."""
        if self.video not in VIDEO_FORMS:
            raise ValueError(f"video form {self.video!r} is not one of {', '.join(VIDEO_FORMS)}")
        if self.target not in TARGET_FORMS:
            raise ValueError(f"target form {self.target!r} is not one of {', '.join(TARGET_FORMS)}")
        for frames in (self.frames, self.train_frames or self.frames):
            if frames < 2 or frames % self.multiple_of:
                raise ValueError(
                    f"frames = {frames}: this net needs a multiple of {self.multiple_of}, at least 2"
                )
        if self.only_size not in (None, self.size):
            raise ValueError(
                f"size = {self.size}: this net was built for {self.only_size} pixels; set its size with "
                "net.options.size, and leave net.input.size out"
            )

    @property
    def channels(self) -> int:
        """C of the video: 6 where two forms are stacked, else 3."""
        return 6 if self.video in _STACKED else 3

    def replace(self, **changes: Any) -> InputSpec:
        """A copy with the given fields changed; fields given as None keep their value."""
        kept = {key: value for key, value in changes.items() if value is not None}
        return dataclasses.replace(self, **kept)


@dataclass
class ClipBatch:
    """Clips as they reach a method.

    video (B, C, T, H, W) float32; pulse (B, T) float32 in the target form, NaN where unlabelled;
    has_label (B,) bool; fps (B,) float32; hr_bpm (B,) float32, mean reference rate over the clip
    or NaN; extras: name -> (B, T, ...); recording, start: where each clip comes from. epoch: of the
    training it is drawn for, from 0. share: of the clips of the whole batch that are in this one, where
    several processes share it out. A plan that deals clips to sides gives the extra "side" (B,) int64.
    """

    video: Tensor
    pulse: Tensor
    has_label: Tensor
    fps: Tensor
    hr_bpm: Tensor
    recording: list[str]
    start: list[int]
    extras: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    epoch: int = 0
    share: float = 1.0

    def to(self, device: torch.device | str) -> ClipBatch:
        """The same batch on another device."""
        # from a GPU, what is copied without waiting could be read before it is there
        free = torch.device(device).type != "cpu"
        return self._each(lambda tensor: tensor.to(device, non_blocking=free))

    def pin_memory(self) -> ClipBatch:
        """The same batch in page-locked memory, from which a GPU copies while the program goes on."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, change: Callable[[Tensor], Tensor]) -> ClipBatch:
        """A copy with every tensor changed."""
        made: dict[str, Any] = {"extras": {k: change(v) for k, v in self.extras.items()}}
        for field in ("video", "pulse", "has_label", "fps", "hr_bpm"):
            made[field] = change(getattr(self, field))
        return dataclasses.replace(self, **made)

    def select(self, index: list[int]) -> ClipBatch:
        """The clips at these places."""
        chosen: dict[str, Any] = {"extras": {k: v[index] for k, v in self.extras.items()}}
        for field in ("video", "pulse", "has_label", "fps", "hr_bpm"):
            chosen[field] = getattr(self, field)[index]
        return ClipBatch(
            **chosen, recording=[self.recording[i] for i in index], start=[self.start[i] for i in index],
            epoch=self.epoch, share=self.share,
        )

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.start)


class RecordingClips(Protocol):
    """One recording in time order, as `Method.predict` reads it; nothing is held in memory whole.

    `batches` tiles all n_frames frames with clips that follow each other; where the length is not
    a multiple of the clip, the last clip starts earlier and overlaps its neighbour. A recording
    shorter than a clip is extended at its end by repeating the last frame; such a clip has no label there.

    key: "<dataset>.<recording>"; people: the numbering of subjects that datasets share, or ""; fps in
    Hz; time_s (T,) float64; face_found (T,) bool; roi_rgb (T, R, 3) float32 mean RGB of the R regions in
    region_names; crop_rgb (T, 3) float32 that of the whole picture, for which every frame is read; label
    (T,) float32, the pulse at the frames' times, NaN where there is none; reference_hr_bpm: mean rate of
    the meter; device_rate: (rates in bpm, their times in s), (M,) each, of the meter over time;
    respiration: (signal, its times in s), (N,) each, of the sensor; None where there is none, all times
    on the clock of time_s.
    """

    @property
    def key(self) -> str: ...  # noqa: D102
    @property
    def dataset(self) -> str: ...  # noqa: D102
    @property
    def recording(self) -> str: ...  # noqa: D102
    @property
    def subject(self) -> str: ...  # noqa: D102
    @property
    def people(self) -> str: ...  # noqa: D102
    @property
    def conditions(self) -> dict[str, str]: ...  # noqa: D102
    @property
    def n_frames(self) -> int: ...  # noqa: D102
    @property
    def fps(self) -> float: ...  # noqa: D102
    @property
    def time_s(self) -> Tensor: ...  # noqa: D102
    @property
    def face_found(self) -> Tensor: ...  # noqa: D102
    @property
    def roi_rgb(self) -> Tensor | None: ...  # noqa: D102
    @property
    def region_names(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def crop_rgb(self) -> Tensor: ...  # noqa: D102
    @property
    def label(self) -> Tensor: ...  # noqa: D102
    @property
    def reference_hr_bpm(self) -> float | None: ...  # noqa: D102
    @property
    def device_rate(self) -> tuple[Tensor, Tensor] | None: ...  # noqa: D102
    @property
    def respiration(self) -> tuple[Tensor, Tensor] | None: ...  # noqa: D102

    def batches(self, size: int) -> Iterator[ClipBatch]:
        """Consecutive clips, at most `size` at a time, with `start` set."""
        ...


class BatchSource(Protocol):
    """What the training loop iterates over."""

    def __len__(self) -> int:
        """Steps in an epoch."""
        ...

    def epoch(self, epoch: int, first_step: int = 0) -> Iterable[ClipBatch]:
        """The batches of one epoch from `first_step` on; a function of (seed, epoch) alone."""
        ...


class Updater(Protocol):
    """The only one who steps optimisers."""

    def minimise(self, loss: Tensor, *names: str, again: Callable[[], Tensor] | None = None) -> None:
        """Backward pass of `loss`, then one step of the named optimisers.

        again: evaluates the loss anew, for optimisers with a line search; optional.
        """
        ...

    def apply(self, name: str, grads: Iterable[Tensor | None]) -> None:
        """One step of the named optimiser with gradients made elsewhere, in parameter order."""
        ...
