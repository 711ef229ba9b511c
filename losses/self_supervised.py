"""Losses of LFA/REA (Yue, Shi, Ding, arXiv 2210.15401): pulses compared by their spectra, without labels.

Waveforms of an anchor's two views are p1, p2 (B, T), those of its K frequency-augmented negatives
(B, K, T), of its J neighbours in time (B, J, T). The form "paper" is differentiable and treats every item on
its own; "release" is what the published code computes: logarithm to base 10, distances averaged over the
batch before anything else, the mean of the whole batch taken off, and a ratio loss without gradient.
Scalars, float32 whatever comes in.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Form = Literal["paper", "release"]
Distance = Literal["mean", "sum"]
Band = tuple[float, float] | None

TAU = 0.08
RATE_BAND_HZ = (0.25, 5.0)
SHARPNESS = 4.0
RELEASED_BAND_BPM = (40.0, 180.0)
RELEASED_PADDING = 50
_FINE, _FLOOR = 8, 1e-9


def shares(
    waveform: Tensor, form: Form = "paper", fps: Tensor | None = None, band_hz: Band = None
) -> Tensor:
    """Power of each frequency over the power of all: (B, ..., T) -> (B, ..., T // 2 + 1) float32.

    The mean over time is taken off each waveform; in the release that over the batch, too. With band_hz,
    frequencies outside do not count, at the frame rates fps (B,). Zeros for a waveform without power.
    """
    with torch.autocast(waveform.device.type, enabled=False):
        x = waveform.float()
        dims = (0, -1) if form == "release" else (-1,)
        power = torch.fft.rfft(x - x.mean(dims, keepdim=True)).abs().square()
        if band_hz is not None:
            if fps is None:
                raise ValueError("a band in Hz needs the frame rates")
            inside = _inside(torch.arange(power.shape[-1], device=x.device) / x.shape[-1], fps, band_hz)
            power = power * inside.view(len(x), *[1] * (x.dim() - 2), -1)
        total = power.sum(-1, keepdim=True)
        # Rounding leaves some power in a flat waveform: it must not be blown up into a spectrum.
        floor = x.shape[-1] * (1e-6 * x.detach().abs().amax(-1, keepdim=True)).square()
        return power / torch.where(total > floor, total, torch.inf)


def _inside(cycles: Tensor, fps: Tensor, band_hz: tuple[float, float]) -> Tensor:
    """Which of the frequencies (F,) in cycles a frame lie in the band: (B, F) bool."""
    frequency_hz = cycles * fps.to(cycles)[:, None]
    return (frequency_hz >= band_hz[0]) & (frequency_hz <= band_hz[1])


def distance(first: Tensor, second: Tensor, over: Distance = "mean") -> Tensor:
    """Squared difference of two spectra: (B, ..., F) twice -> (B, ...), averaged or summed over bins."""
    squared = (first - second).square()
    return squared.mean(-1) if over == "mean" else squared.sum(-1)


def reconstruction(made: Tensor, anchor: Tensor) -> Tensor:
    """Mean squared error of the K made clips: (B, K, C, T, H, W), (B, C, T, H, W) -> ()."""
    return (made.float() - anchor.float()[:, None]).square().mean()


def contrast(
    p1: Tensor, p2: Tensor, negatives: Tensor, form: Form = "paper", over: Distance = "mean", tau: float = TAU
) -> Tensor:
    """log(1 + exp(d(p1, p2) / tau) / sum_k (exp(d(p1, n_k) / tau) + exp(d(p2, n_k) / tau))), of spectra.

    (B, F), (B, F), (B, K, F) -> (): small when the views agree and the negatives differ from both.
    """
    near = distance(p1, p2, over)
    far = torch.cat([distance(p[:, None], negatives, over) for p in (p1, p2)], dim=1)
    if form == "release":
        near, far = near.mean(0), far.mean(0)
    value = F.softplus(near / tau - torch.logsumexp(far / tau, dim=-1)).mean()
    return value / math.log(10) if form == "release" else value


def agreement(p1: Tensor, p2: Tensor, neighbours: Tensor, over: Distance = "mean") -> Tensor:
    """Mean distance of both views' spectra from the neighbours': (B, F), (B, F), (B, J, F) -> ()."""
    both = torch.stack([distance(p[:, None], neighbours, over) for p in (p1, p2)])
    return both.mean()


def ratio_consistency(
    p1: Tensor, p2: Tensor, negatives: Tensor, ratio: Tensor, fps: Tensor, form: Form = "paper",
    band_hz: Band = None,
) -> Tensor:
    """Mean of |P(n_k) / P(p) - r_k| over negatives and views, P a waveform's rate; waveforms, not spectra.

    (B, T), (B, T), (B, K, T), (B, K), (B,) -> (). In the paper's form P is `soft_rate_hz`, and an item's mean
    is over the terms whose target r_k P(p) lies within 0.25 to 5 Hz; with none it is 0. band_hz: where P(p)
    is sought, if not there. P(p) is what the negatives are measured by and gets no gradient: with one, an
    estimator learnt to read slow pulses at twice their rate, of which slower ones are easier made. In the
    release's form P is `released_rate_bpm` and the value has no gradient.
    """
    views = torch.stack([p1, p2], dim=1)
    if form == "release":
        mine, made = (released_rate_bpm(x.detach(), fps) for x in (views, negatives))
    else:
        mine, made = soft_rate_hz(views, fps, band_hz or RATE_BAND_HZ), soft_rate_hz(negatives, fps)
    with torch.autocast(p1.device.type, enabled=False):
        wanted, mine = ratio.float()[:, None], mine.detach()[:, :, None]
        error = (made[:, None] / mine - wanted).abs()
        if form == "release":
            return error.mean()
        low, high = RATE_BAND_HZ
        target = wanted * mine
        top = fps.to(target).clamp(max=2 * high)[:, None, None] / 2
        reachable = (target >= low) & (target <= top)
        each = (error * reachable).sum((1, 2)) / reachable.sum((1, 2)).clamp_min(1)
        return each.mean()


def soft_rate_hz(waveform: Tensor, fps: Tensor, band_hz: tuple[float, float] = RATE_BAND_HZ) -> Tensor:
    """The mean frequency in Hz weighted by the power to the 4th: (B, ..., T), (B,) -> (B, ...) float32.

    The softmax of log-power with temperature 1 / 4, over band_hz and on a grid 8 times as fine as the
    transform's own; differentiable, with a pure sine's rate for a pure sine, and between them where two
    peaks are about as high.
    """
    with torch.autocast(waveform.device.type, enabled=False):
        x = waveform.float()
        x = x - x.mean(-1, keepdim=True)
        n = _FINE * x.shape[-1]
        power = torch.fft.rfft(x, n).abs().square()
        cycles = torch.arange(power.shape[-1], device=x.device) / n
        shape = (len(x), *[1] * (x.dim() - 2), -1)
        inside = _inside(cycles, fps, band_hz).view(shape)
        frequency_hz = (cycles * fps.to(cycles)[:, None]).view(shape)
        highest = (power.detach() * inside).amax(-1, keepdim=True)
        logs = (power / torch.where(highest > 0, highest, torch.ones_like(highest)) + _FLOOR).log()
        weight = (SHARPNESS * logs).masked_fill(~inside, -torch.inf).softmax(-1)
        return (weight * frequency_hz).sum(-1)


def released_rate_bpm(waveform: Tensor, fps: Tensor) -> Tensor:
    """The published code's rate: (B, ..., T), (B,) in Hz -> (B, ...) float32, in bpm, without gradient.

    The highest bin of 40 to 180 bpm after 50 lengths of zeros on both sides, moved towards the neighbour with
    the smaller drop by one minus the ratio of the drops (of a whole bin); between the two bins at the band's
    end by their powers where it is the first or last. NaN where fewer than three bins lie in the band.
    """
    x = waveform.detach().double()
    x = x - x.mean(-1, keepdim=True)
    n = (2 * RELEASED_PADDING + 1) * x.shape[-1]
    power = torch.fft.rfft(x, n).abs().square()
    rates = torch.empty(x.shape[:-1], dtype=torch.float64, device=x.device)
    for item, rate in enumerate(fps.double().tolist()):
        bins_bpm = 60 * rate / n * torch.arange(power.shape[-1], dtype=torch.float64, device=x.device)
        inside = (bins_bpm >= RELEASED_BAND_BPM[0]) & (bins_bpm <= RELEASED_BAND_BPM[1])
        rates[item] = _refined(bins_bpm[inside], power[item][..., inside])
    return rates.float()


def _refined(bins_bpm: Tensor, power: Tensor) -> Tensor:
    """The refined peak of each row: (F,), (..., F) -> (...)."""
    last = len(bins_bpm) - 1
    if last < 2:
        return power.new_full(power.shape[:-1], torch.nan)
    step = bins_bpm[1] - bins_bpm[0]
    peak = power.argmax(-1, keepdim=True)
    centre = peak.clamp(1, last - 1)
    before, at, after = (power.gather(-1, centre + side).squeeze(-1) for side in (-1, 0, 1))
    u, v = at - before, at - after
    share = 1 - torch.minimum(u, v) / torch.maximum(u, v).clamp_min(torch.finfo(power.dtype).tiny)
    inner = torch.where(v > u, -share, share)
    peak, centre = peak.squeeze(-1), centre.squeeze(-1)
    start = at / (before + at).clamp_min(torch.finfo(power.dtype).tiny) - 1
    end = after / (at + after).clamp_min(torch.finfo(power.dtype).tiny)
    offset = torch.where(peak == 0, start, torch.where(peak == last, end, inner))
    return bins_bpm[centre] + offset * step
