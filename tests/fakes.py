"""Stand-ins for the loader and the updater, and small recordings with a known pulse."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dataset.maps import to_yuv
from utils.contracts import ClipBatch, InputSpec

FPS = 30.0
RATE_HZ = 1.25


def pulse_wave(frames: int, fps: float = FPS, rate_hz: float = RATE_HZ) -> Tensor:
    """A pulse of known rate with a second harmonic: (T,) float32."""
    t = torch.arange(frames, dtype=torch.float64) / fps
    phase = 2 * math.pi * rate_hz * t
    return (phase.sin() + 0.3 * (2 * phase + 0.5).sin()).float()


def skin_video(pulse: Tensor, size: int, seed: int = 0, strength: float = 2.0) -> Tensor:
    """Skin that darkens when `pulse` (T,) rises, green most, with noise: (3, T, H, W), 0..255."""
    generator = torch.Generator().manual_seed(seed)
    skin = torch.tensor([170.0, 120.0, 95.0]).view(3, 1, 1, 1)
    colour = torch.tensor([0.33, 0.77, 0.53]).view(3, 1, 1, 1)
    place = 0.5 + torch.rand(1, 1, size, size, generator=generator)
    noise = torch.randn(3, len(pulse), size, size, generator=generator)
    return skin * place - strength * colour * place * pulse.view(1, -1, 1, 1) + 0.5 * noise


def in_form(raw: Tensor, form: str) -> Tensor:
    """Frames 0..255 (C, T, H, W) in the form an InputSpec asks for."""
    if form == "unit":
        return raw / 255
    if form == "centred":
        return (raw - 127.5) / 128
    if form == "standardised":
        return (raw - raw.mean()) / raw.std()
    if form == "diff_normalised":
        step = raw.diff(dim=1) / (raw[:, 1:] + raw[:, :-1] + 1e-7)
        return torch.cat([step / step.std(), torch.zeros_like(raw[:, :1])], dim=1)
    if form == "diff_standardised":
        return torch.cat([in_form(raw, "diff_normalised"), in_form(raw, "standardised")])
    if form == "st_map":
        return to_yuv(raw.movedim(0, -1)).movedim(-1, 0)
    return raw


def target_form(pulse: Tensor, form: str) -> Tensor:
    """A label (T,) in the form an InputSpec asks for."""
    if form == "standardised":
        return (pulse - pulse.mean()) / pulse.std()
    if form == "diff_normalised":
        step = pulse.diff()
        return torch.cat([step / step.std(), torch.zeros(1)])
    if form == "second_derivative":
        step = pulse.diff(n=2)
        return torch.cat([step / step.std(), torch.zeros(2)])
    return pulse


def contour(n: int, frames: int, size: int) -> Tensor:
    """A face that fills the middle of the picture: (n, T, H, W) of 0 and 1."""
    inside = (torch.arange(size) >= size // 8) & (torch.arange(size) < size - size // 8)
    return (inside[:, None] & inside).float().expand(n, frames, size, size)


def clip_batch(spec: InputSpec, n: int = 2, labelled: bool = True) -> ClipBatch:
    """Clips of `n` recordings with pulses of different rates, as a loader would deliver them."""
    rates = [RATE_HZ + 0.2 * i for i in range(n)]
    frames = spec.train_frames or spec.frames
    pulses = [pulse_wave(frames, rate_hz=rate) for rate in rates]
    videos = [in_form(skin_video(p, spec.size, seed=i), spec.video) for i, p in enumerate(pulses)]
    target = torch.stack([target_form(p, spec.target) for p in pulses])
    colours = torch.stack([skin_video(p, 8, seed=i).mean((2, 3)).T for i, p in enumerate(pulses)])
    extras = {"roi_rgb": colours[:, :, None]}
    if "skin" in spec.extras:
        extras["skin"] = 255.0 * (torch.arange(64) < 40).float().expand(n, frames, 64, 64)
    if "contour" in spec.extras:
        extras["contour"] = contour(n, frames, spec.size)
    if spec.qualities:
        coarse = [in_form((skin_video(p, spec.size, seed=i) / 16).round() * 16, spec.video)
                  for i, p in enumerate(pulses)]
        extras |= {"degraded": torch.stack(coarse), "level": torch.arange(n) % len(spec.qualities) + 1}
    if spec.plan == "halves":
        extras["side"] = torch.arange(n) * 2 // max(2, n)
    return ClipBatch(
        video=torch.stack(videos), pulse=target if labelled else torch.full_like(target, torch.nan),
        has_label=torch.full((n,), labelled), fps=torch.full((n,), FPS),
        hr_bpm=torch.tensor([60 * rate for rate in rates]), recording=[f"r{i}" for i in range(n)],
        start=[0] * n, extras=extras, epoch=100,
    )


class FakeClips:
    """A recording as `Method.predict` reads it, tiled as the contract says."""

    def __init__(self, video: Tensor, frames: int, roi_rgb: Tensor | None = None, fps: float = FPS) -> None:
        """video: (C, T, H, W) in the form of the net; frames: length of a clip."""
        self.recording, self.subject, self.people = "s1-a", "s1", ""
        self.video, self.frames, self.fps = video, frames, fps
        self.n_frames = video.shape[1]
        self.time_s = torch.arange(self.n_frames) / fps
        self.roi_rgb, self.region_names = roi_rgb, ("forehead", "face")
        self.frames_read = 0

    @classmethod
    def of_pulse(cls, pulse: Tensor, spec: InputSpec, seed: int = 0) -> FakeClips:
        """A recording of skin with that pulse (T,), in the form `spec` asks for."""
        raw = skin_video(pulse, spec.size, seed)
        colours = raw.mean((2, 3)).T
        return cls(in_form(raw, spec.video), spec.frames, torch.stack([colours.flip(0), colours], dim=1))

    def starts(self) -> list[int]:
        """First frames of the clips; the last one starts earlier where the length is no multiple."""
        last = max(0, self.n_frames - self.frames)
        return [min(start, last) for start in range(0, self.n_frames, self.frames)]

    def batches(self, size: int) -> Iterator[ClipBatch]:
        """Consecutive clips, at most `size` at a time."""
        missing = max(0, self.frames - self.n_frames)
        video = torch.cat([self.video, self.video[:, -1:].expand(-1, missing, -1, -1)], dim=1)
        starts = self.starts()
        for first in range(0, len(starts), size):
            part = starts[first : first + size]
            self.frames_read += self.frames * len(part)
            clips = torch.stack([video[:, s : s + self.frames] for s in part])
            empty = torch.full((len(part), self.frames), torch.nan)
            yield ClipBatch(
                clips, empty, torch.zeros(len(part), dtype=torch.bool), torch.full((len(part),), self.fps),
                torch.full((len(part),), torch.nan), [self.recording] * len(part), part,
                {"contour": contour(len(part), self.frames, video.shape[-1])},
            )


class FakeUpdater:
    """Steps the optimisers of a method, as the training loop's updater does."""

    def __init__(self, optimizers: dict[str, Optimizer]) -> None:
        """optimizers: by name."""
        self.optimizers = optimizers

    def minimise(self, loss: Tensor, *names: str, again: object = None) -> None:
        """Backward pass, then one step of the named optimisers; `again` is not needed for these."""
        for name in names:
            self.optimizers[name].zero_grad()
        loss.backward()
        for name in names:
            self.optimizers[name].step()

    def apply(self, name: str, grads: Iterable[Tensor | None]) -> None:
        """One step of the named optimiser with given gradients."""
        parameters = [p for group in self.optimizers[name].param_groups for p in group["params"]]
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = grad
        self.optimizers[name].step()


def make_adam(params: Iterable[nn.Parameter], **overrides: float) -> Optimizer:
    """The `make` a method's `optimizers` is given."""
    options: dict[str, float] = {"lr": 3e-3, **overrides}
    return torch.optim.Adam(params, lr=options["lr"])
