"""Contrast between spectra of pieces of waveforms (Sun & Li, ECCV 2022, TPAMI 2024), in float32."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOW_BPM, HIGH_BPM = 40.0, 250.0


def sample_windows(signals: Tensor, length: int, count: int) -> Tensor:
    """`count` random windows of each row: (B, N, T) -> (B, N * count, length).

    Drawn with torch's CPU generator, on any device. Every start that fits is as likely. The windows of a row
    follow each other.
    """
    batch, rows, frames = signals.shape
    if not 2 <= length <= frames:
        raise ValueError(f"windows of {length} samples cannot be drawn from {frames}")
    starts = torch.randint(frames - length + 1, (batch, rows, count)).to(signals.device)
    places = starts[..., None] + torch.arange(length, device=signals.device)
    picked = signals[:, :, None].expand(-1, -1, count, -1).gather(3, places)
    return picked.flatten(1, 2)


def band_grid(length: int, fps: Tensor, low_bpm: float = LOW_BPM, high_bpm: float = HIGH_BPM) -> Tensor:
    """Frequencies in Hz that windows of a batch are compared at: (B,) -> (F,) float64.

    The bins of a Fourier transform of `length` samples within the band, ends included, at the rate of the
    fastest clip: where all have one rate they are everyone's own bins, otherwise the coarsest of them.
    ValueError when fewer than two lie in the band.
    """
    rates = fps.double().tolist()  # at once: every value read by itself would wait for a GPU
    spacing_hz = max(rates) / length
    first = math.ceil(low_bpm / 60 / spacing_hz - 1e-6)
    last = math.floor(min(high_bpm / 60, min(rates) / 2) / spacing_hz + 1e-6)
    if last <= first:
        raise ValueError(
            f"windows of {length} samples at {max(rates):.2f} fps have fewer than 2 frequencies within "
            f"{low_bpm:g} to {high_bpm:g} bpm; set net.input.frames higher"
        )
    return torch.arange(first, last + 1, dtype=torch.float64, device=fps.device) * spacing_hz


def spectra(windows: Tensor, fps: Tensor, grid_hz: Tensor) -> Tensor:
    """Power at `grid_hz` (F,) of mean-free windows, each summing to 1: (B, M, L), (B,) in Hz -> (B, M, F).

    A window without power in the band gives zeros.
    """
    with torch.autocast(windows.device.type, enabled=False):
        centred = windows.float() - windows.float().mean(-1, keepdim=True)
        time_s = torch.arange(windows.shape[-1], device=windows.device) / fps.double()[:, None]
        angle = 2 * math.pi * time_s[:, :, None] * grid_hz
        power = (centred @ angle.cos().float()).square() + (centred @ angle.sin().float()).square()
        total = power.sum(-1, keepdim=True)
        return power / torch.where(total > 0, total, torch.ones_like(total))


def distances(first: Tensor, second: Tensor) -> Tensor:
    """Mean over windows and frequencies of the squared difference, for every pair of clips.

    (A, M, F), (B, N, F) -> (A, B). As E|x|^2 + E|y|^2 - 2 Ex Ey it would lose digits: the differences are
    taken one by one.
    """
    apart = first[:, None, :, None] - second[None, :, None, :]
    return apart.square().mean((2, 3, 4))


def positive_distance(psd: Tensor) -> Tensor:
    """Mean squared difference between distinct windows of one clip, mean over clips: (B, M, F) -> ()."""
    windows = psd.shape[1]
    within = torch.stack([distances(one[None], one[None]).squeeze() for one in psd])
    # a window's distance to itself is 0: leaving it out is a matter of the divisor
    return within.mean() * windows / (windows - 1)


def negative_distance(psd: Tensor) -> Tensor:
    """Mean squared difference between windows of two clips, mean over pairs of clips: (B, M, F) -> ()."""
    return _mean_where(distances(psd, psd), ~torch.eye(len(psd), dtype=torch.bool, device=psd.device))


def label_distances(psd: Tensor, label_psd: Tensor, has_label: Tensor) -> tuple[Tensor, Tensor]:
    """Of predictions to labels: own label, and labels of other clips: (B, M, F), (B, N, F), (B,) -> (), ().

    Means over the clips that have a label; 0 where none has.
    """
    apart = distances(psd, label_psd)
    own = torch.eye(len(psd), dtype=torch.bool, device=psd.device)
    return _mean_where(apart, own & has_label), _mean_where(apart, ~own & has_label)


def _mean_where(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen values; 0 where none is chosen."""
    return torch.where(chosen, values, torch.zeros_like(values)).sum() / chosen.sum().clamp_min(1)
