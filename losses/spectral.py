"""Losses on the spectrum of a predicted waveform: scalars, float32 whatever comes in."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from losses.waveform import unit_norm

LOW_BPM, HIGH_BPM = 40, 180
"""Classes are the whole rates from 40 to 179 bpm."""
FLOOR = 1e-4
KL_FLOOR = 1e-15


def rate_power(waveform: Tensor, fps: Tensor) -> Tensor:
    """Power at 40, 41, ... 179 bpm after a symmetric Hann window: (B, T), (B,) in Hz -> (B, 140) float32.

    P_b = (sum_n y_n sin(2 pi f n))^2 + (sum_n y_n cos(2 pi f n))^2 with f = b / 60 / fps, not rounded to a
    bin: the frame rate is each clip's own.
    """
    n = waveform.shape[-1]
    with torch.autocast(waveform.device.type, enabled=False):
        windowed = waveform.float() * torch.hann_window(n, periodic=False, device=waveform.device)
        cycles_hz = torch.arange(LOW_BPM, HIGH_BPM, device=waveform.device, dtype=torch.float64) / 60
        time_s = torch.arange(n, device=waveform.device) / fps.double()[:, None]
        angle = 2 * math.pi * cycles_hz[:, None] * time_s[:, None]
        sine, cosine = angle.sin().float(), angle.cos().float()
        column = windowed[:, :, None]
        power: Tensor = torch.matmul(sine, column).square() + torch.matmul(cosine, column).square()
    return power.squeeze(-1)


def rate_class(hr_bpm: Tensor) -> Tensor:
    """The class of each rate, rounded down, the nearest one outside 40 to 180 bpm: (B,) -> (B,) int64."""
    whole = torch.nan_to_num(hr_bpm.double(), nan=float(LOW_BPM)).floor()
    return (whole.clamp(LOW_BPM, HIGH_BPM - 1) - LOW_BPM).long()


def log_power(waveform: Tensor, fps: Tensor) -> Tensor:
    """Log-probabilities of the rates, from the power over its sum: (B, T), (B,) -> (B, 140).

    The waveform is centred and scaled to unit norm before, so that neither its mean nor its gain matters; a
    floor keeps a waveform without power at equal probabilities and every gradient finite.
    """
    power = rate_power(unit_norm(waveform.float()), fps) + FLOOR
    return power.log() - power.sum(-1, keepdim=True).log()


def released(waveform: Tensor, fps: Tensor) -> Tensor:
    """The power over its sum used as logits themselves: (B, T), (B,) -> (B, 140) log-probabilities.

    As the author's other released code has it. The logits lie within 0 and 1 and sum to 1, so that the cross
    entropy stays near ln 140 = 4.94 for any waveform and hardly any gradient is left.
    """
    power = rate_power(waveform, fps)
    total = power.sum(-1, keepdim=True)
    share = power / torch.where(total > 0, total, torch.ones_like(total))
    return share.log_softmax(-1)


SPECTRAL: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"log_power": log_power, "released": released}


def frequency_cross_entropy(
    waveform: Tensor, fps: Tensor, hr_bpm: Tensor, form: str = "log_power"
) -> Tensor:
    """Cross entropy of the rate (AutoHR, Yu et al. 2020): (B, T), (B,) in Hz, (B,) in bpm -> ().

    form: one of SPECTRAL. Mean over the clips whose rate is known; NaN where none is.
    """
    logs = SPECTRAL[form](waveform, fps)
    known = hr_bpm.isfinite()
    picked = logs.gather(1, rate_class(hr_bpm)[:, None]).squeeze(1)
    return -torch.where(known, picked, torch.zeros_like(picked)).sum() / known.sum()


def gaussian_rates(hr_bpm: Tensor) -> Tensor:
    """A Gaussian of deviation 1 bpm about each rate's class, at the 140 classes: (B,) -> (B, 140) float32.

    Values of the density, floored at 1e-15 and not made to sum to 1, as in PhysFormer (Yu et al. 2022).
    """
    classes = torch.arange(HIGH_BPM - LOW_BPM, device=hr_bpm.device)
    distance = (classes - rate_class(hr_bpm)[:, None]).float()
    return ((-0.5 * distance.square()).exp() / math.sqrt(2 * math.pi)).clamp_min(KL_FLOOR)


def rate_divergence(waveform: Tensor, fps: Tensor, hr_bpm: Tensor, form: str = "log_power") -> Tensor:
    """Kullback-Leibler divergence of the spectrum from a Gaussian about the rate: (B, T), (B,), (B,) -> ().

    Sum over classes of target (log target - log spectrum), PhysFormer's label distribution loss. form: how
    the spectrum becomes probabilities, one of SPECTRAL. Mean over the clips whose rate is known; NaN where
    none is.
    """
    logs, target = SPECTRAL[form](waveform, fps), gaussian_rates(hr_bpm)
    known = hr_bpm.isfinite()
    each = (target * (target.log() - logs)).sum(-1)
    return torch.where(known, each, torch.zeros_like(each)).sum() / known.sum()
