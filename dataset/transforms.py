"""What happens to frames and labels when a clip is read: torch functions that run on any device."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dataset.maps import to_yuv
from utils.contracts import ST_MAP
from utils.settings import Augment

EPSILON = 1e-7
RELATIVE = {"standardised": 0, "diff_normalised": 1, "diff_standardised": 1}
"""Forms that need the whole recording's statistics, and how many frames after the clip they read."""
_BLOCK_FRAMES = 16
_BLOCK_PIXELS = 32


@contextlib.contextmanager
def single_thread() -> Iterator[None]:
    """Run torch on one CPU thread, so that the bits do not depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _area_weights(n_in: int, n_out: int) -> Tensor:
    """Share of each input pixel in each output pixel: (n_out, n_in) float64, rows sum to 1."""
    edges = torch.arange(n_out + 1, dtype=torch.float64) * n_in / n_out
    pixel = torch.arange(n_in, dtype=torch.float64)
    upper = torch.minimum(edges[1:, None], pixel + 1)
    lower = torch.maximum(edges[:-1, None], pixel)
    return (upper - lower).clamp_min(0) * n_out / n_in


def _bilinear_weights(n_in: int, n_out: int) -> Tensor:
    """Linear interpolation between pixel centres, edges held: (n_out, n_in) float64."""
    centre = (torch.arange(n_out, dtype=torch.float64) + 0.5) * n_in / n_out - 0.5
    distance = (centre.clamp(0, n_in - 1)[:, None] - torch.arange(n_in, dtype=torch.float64)).abs()
    return (1 - distance).clamp_min(0)


@functools.lru_cache(maxsize=64)
def _axis_weights(n_in: int, n_out: int) -> tuple[Tensor, int]:
    """Weights of one axis as a block (float32) and how often it repeats along the diagonal.

    Area weights repeat every n_in / gcd pixels, so most of the full matrix is zero and is left out.
    """
    if n_out > n_in:
        return _bilinear_weights(n_in, n_out).float(), 1
    repeats = math.gcd(n_in, n_out)
    wide = [r for r in range(1, repeats + 1) if repeats % r == 0 and n_in // r >= min(n_in, _BLOCK_PIXELS)]
    blocks = max(wide)
    return _area_weights(n_in // blocks, n_out // blocks).float(), blocks


@functools.lru_cache(maxsize=64)
def _resize_weights(
    shape: tuple[int, int, int], size: int, device: torch.device
) -> tuple[Tensor, int, Tensor, int]:
    """Weights on the device for rows, and for columns with their channels side by side; blocks of each."""
    height, width, channels = shape
    rows, row_blocks = _axis_weights(height, size)
    columns, column_blocks = _axis_weights(width, size)
    mix = torch.kron(columns, torch.eye(channels)).T.contiguous()
    return rows.to(device), row_blocks, mix.to(device), column_blocks


def area_resize(video: Tensor, size: int) -> Tensor:
    """Frames at size x size: uint8 (T, H, W, 3) to float32 (T, size, size, 3), values 0..255.

    Each output pixel is the exact area mean of what it covers, fractional factors included, and is
    not rounded to 8 bits. An axis that must grow is interpolated linearly.
    """
    n, height, width, channels = video.shape
    if (height, width) == (size, size):
        return video.float()
    rows, row_blocks, mix, column_blocks = _resize_weights((height, width, channels), size, video.device)
    made = torch.empty(n, size, size, channels, device=video.device)
    for start in range(0, n, _BLOCK_FRAMES):
        block = video[start : start + _BLOCK_FRAMES].float()
        block = block.reshape(-1, height // row_blocks, width * channels)
        block = torch.matmul(rows, block).view(-1, width // column_blocks * channels) @ mix
        made[start : start + _BLOCK_FRAMES] = block.view(-1, size, size, channels)
    return made


@dataclass(frozen=True)
class FrameStatistics:
    """Mean and standard deviation of a recording's pixels, and of its normalised differences."""

    mean: float
    std: float
    diff_std: float


class StatisticsSum:
    """Gathers FrameStatistics block by block, in memory that does not grow with the recording."""

    def __init__(self) -> None:
        self._sums = np.zeros(6)
        self._last: Tensor | None = None

    def add(self, frames: Tensor) -> None:
        """Take the next frames, float (n, S, S, 3), in time order."""
        self._sums[:3] += _moments(frames)
        joined = frames if self._last is None else torch.cat([self._last, frames])
        if len(joined) > 1:
            self._sums[3:] += _moments(normalised_difference(joined))
        self._last = frames[-1:].clone()

    def result(self) -> FrameStatistics:
        """The statistics of all frames taken so far (population standard deviations)."""
        mean, std = _mean_std(*self._sums[:3])
        return FrameStatistics(mean, std, _mean_std(*self._sums[3:])[1])


def _moments(values: Tensor) -> list[float]:
    """Count, sum and sum of squares of the finite values, summed in float64."""
    values = torch.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    total, squares = values.sum(dtype=torch.float64), values.square().sum(dtype=torch.float64)
    return [float(values.numel()), float(total), float(squares)]


def _mean_std(count: float, total: float, squares: float) -> tuple[float, float]:
    if count == 0:
        return 0.0, 0.0
    mean = total / count
    return float(mean), math.sqrt(max(0.0, squares / count - mean * mean))


def normalised_difference(frames: Tensor) -> Tensor:
    """(X(t+1) - X(t)) / (X(t+1) + X(t) + 1e-7) (Chen & McDuff 2018, eq. 8): (n, ...) to (n - 1, ...)."""
    before, after = frames[:-1], frames[1:]
    return (after - before) / (after + before).add_(EPSILON)


def over(values: Tensor, scale: float) -> Tensor:
    """values / scale; what is not finite becomes 0 (a still picture has a scale of 0)."""
    return torch.nan_to_num(values / scale, nan=0.0, posinf=0.0, neginf=0.0)


def video_form(frames: Tensor, form: str, n_frames: int, statistics: FrameStatistics | None) -> Tensor:
    """Frames in one of VIDEO_FORMS: float (n, S, S, 3), values 0..255, to (n_frames, S, S, C).

    Differences use n = n_frames + 1 frames; with n = n_frames the clip ends the recording, and their last
    frame is zero. "diff_standardised" has C = 6, the difference first (Liu et al., NeurIPS 2020); all
    others have 3. `statistics` are the recording's, for the forms that need them.
    """
    if form == "raw":
        return frames[:n_frames]
    if form == ST_MAP:
        return to_yuv(frames[:n_frames])
    if form == "unit":
        return frames[:n_frames] / 255
    if form == "centred":
        return (frames[:n_frames] - 127.5) / 128
    if statistics is None:
        raise ValueError(f"video form {form!r} needs the recording's statistics")
    if form == "standardised":
        return over(frames[:n_frames] - statistics.mean, statistics.std)
    if form == "diff_standardised":
        both = ("diff_normalised", "standardised")
        return torch.cat([video_form(frames, part, n_frames, statistics) for part in both], dim=-1)
    changes = over(normalised_difference(frames[: n_frames + 1]), statistics.diff_std)
    return end_with_zeros(changes, n_frames)


def end_with_zeros(values: Tensor, n_frames: int) -> Tensor:
    """(n, ...) extended by zeros to (n_frames, ...)."""
    missing = n_frames - len(values)
    return values if missing <= 0 else torch.cat([values, values.new_zeros(missing, *values.shape[1:])])


@dataclass(frozen=True)
class Tube:
    """A box of pixels over some frames, in shares of the clip: first and length on each axis, 0 to 1."""

    time: tuple[float, float]
    rows: tuple[float, float]
    columns: tuple[float, float]


@dataclass(frozen=True)
class Change:
    """What augmentation does to a clip: the speed it is played at, whether it is mirrored, what is erased."""

    speed: float = 1.0
    flip: bool = False
    erased: Tube | None = None


UNCHANGED = Change()
HALF, DOUBLE = 0.5, 2.0


def draw_change(
    rng: np.random.Generator, augment: Augment, frames: int, available: int, rate_bpm: float = math.nan
) -> Change:
    """Draw the change of one training clip of `frames` frames of a recording with `available`.

    rate_bpm: of the clip, which the tempo depends on; NaN leaves that alone. The number of draws does not
    depend on their outcome. A speed for which the recording is too short is lowered to the highest that
    fits; a doubled tempo is left out.
    """
    flip, fast = rng.random(), rng.random()
    speed = float(rng.uniform(augment.speed_low, augment.speed_high))
    tempo, erase = rng.random(), rng.random()
    tube = _draw_tube(rng, augment)
    highest = (available - 1) / (frames - 1)
    played = min(speed, highest) if fast < augment.speed else 1.0
    if tempo < augment.tempo:
        changed = _tempo(rate_bpm, augment)
        played = changed if 1.0 != changed <= highest else played
    return Change(played, flip < augment.flip, tube if erase < augment.erase else None)


def _tempo(rate_bpm: float, augment: Augment) -> float:
    """The speed that brings a rate towards the middle and beyond (Yu et al., AutoHR, SPL 2020)."""
    if rate_bpm > augment.tempo_high_bpm:
        return HALF
    return DOUBLE if rate_bpm < augment.tempo_low_bpm else 1.0


def _draw_tube(rng: np.random.Generator, augment: Augment) -> Tube:
    """A tube anywhere, of any area and length up to the allowed ones, at most twice as wide as high."""
    area, length, aspect, *places = rng.random(6)
    side = math.sqrt(area * augment.erase_area)
    stretch = math.sqrt(2.0 ** (2 * aspect - 1))
    sizes = [length * augment.erase_length, min(1.0, side * stretch), min(1.0, side / stretch)]
    time, rows, columns = (
        (float(place * (1 - size)), float(size)) for place, size in zip(places, sizes, strict=True)
    )
    return Tube(time, rows, columns)


def erased(video: Tensor, tube: Tube | None) -> Tensor:
    """(T, H, W, C) with the tube set to 0, changed in place; parts of pixels and frames stay."""
    if tube is None:
        return video
    spans = zip(video.shape, (tube.time, tube.rows, tube.columns), strict=False)
    t, h, w = (slice(round(first * n), round(first * n) + int(length * n)) for n, (first, length) in spans)
    video[t, h, w] = 0
    return video


def span_at_speed(frames: int, speed: float) -> int:
    """Source frames that `frames` frames at `speed` reach over, both ends included."""
    return math.ceil((frames - 1) * speed - 1e-9) + 1


def resample_time(values: Tensor, speed: float, n: int) -> Tensor:
    """Linear interpolation at the positions 0, speed, 2 speed, ...: (m, ...) to (n, ...)."""
    if speed == 1.0:
        return values[:n]
    position = torch.arange(n, dtype=torch.float64, device=values.device) * speed
    before = position.floor().long().clamp_max(len(values) - 1)
    share = position - before
    after = torch.where(share > 0, before + 1, before).clamp_max(len(values) - 1)
    share = share.to(values.dtype).view(-1, *[1] * (values.dim() - 1))
    return values[before].lerp_(values[after], share)
