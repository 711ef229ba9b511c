"""Losses without labels: against slow versions in python loops and the sheet's check values."""

from __future__ import annotations

import cmath
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from evaluation import protocols
from evaluation.heart_rate import estimate
from losses.self_supervised import (
    agreement,
    contrast,
    distance,
    ratio_consistency,
    reconstruction,
    released_rate_bpm,
    shares,
    soft_rate_hz,
)

FPS = 30.0
CHECKED = [(50.4, 50.2681), (72.0, 71.7613), (108.0, 107.8642), (120.0, 119.7693), (150.0, 149.9251),
           (36.0, 40.0982)]


def sines(rates_bpm: list[float], frames: int = 150, fps: float = FPS, phase: float = 0.0) -> Tensor:
    time_s = torch.arange(frames, dtype=torch.float64) / fps
    angle = 2 * math.pi * torch.tensor(rates_bpm, dtype=torch.float64)[:, None] / 60 * time_s + phase
    return angle.sin().float()


def fps_of(waveforms: Tensor, fps: float = FPS) -> Tensor:
    return torch.full((len(waveforms),), fps)


def some(batch: int = 3, frames: int = 20, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """p1, p2 (B, T), negatives (B, 4, T), neighbours (B, 3, T), ratios (B, 4)."""
    generator = torch.Generator().manual_seed(seed)
    p1, p2 = torch.randn(2, batch, frames, generator=generator)
    negatives = torch.randn(batch, 4, frames, generator=generator)
    neighbours = torch.randn(batch, 3, frames, generator=generator)
    return p1, p2, negatives, neighbours, 0.3 + torch.rand(batch, 4, generator=generator)


def slow_shares(x: list[float], mean: float | None = None) -> list[float]:
    """Share of each bin's power, by the transform's definition."""
    mean = sum(x) / len(x) if mean is None else mean
    power = []
    for k in range(len(x) // 2 + 1):
        terms = [(v - mean) * cmath.exp(-2j * math.pi * k * n / len(x)) for n, v in enumerate(x)]
        power.append(abs(sum(terms)) ** 2)
    return [p / sum(power) for p in power]


def slow_distance(u: list[float], v: list[float], over: str) -> float:
    squares = [(a - b) ** 2 for a, b in zip(u, v, strict=True)]
    return sum(squares) / (len(squares) if over == "mean" else 1)


@pytest.mark.parametrize("over", ["mean", "sum"])
def test_paper_losses_equal_a_slow_version(over: str) -> None:
    """Contrast with natural logarithm per item, and agreement: python loops give the same values."""
    p1, p2, negatives, neighbours, _ = some()
    contrasts, agreements = [], []
    for i in range(3):
        a, b = (slow_shares(p[i].tolist()) for p in (p1, p2))
        far = [slow_shares(n.tolist()) for n in negatives[i]]
        below = sum(math.exp(slow_distance(p, n, over) / 0.08) for p in (a, b) for n in far)
        contrasts.append(math.log(1 + math.exp(slow_distance(a, b, over) / 0.08) / below))
        near = [slow_shares(n.tolist()) for n in neighbours[i]]
        agreements.append(sum(slow_distance(p, n, over) for p in (a, b) for n in near) / 6)
    s = [shares(x) for x in (p1, p2, negatives, neighbours)]
    assert contrast(s[0], s[1], s[2], "paper", over).item() == pytest.approx(np.mean(contrasts), rel=1e-5)
    assert agreement(s[0], s[1], s[3], over).item() == pytest.approx(np.mean(agreements), rel=1e-5)


def test_release_losses_equal_a_slow_version() -> None:
    """The batch's mean is taken off, distances are averaged over it first, the logarithm is to base 10."""
    p1, p2, negatives, neighbours, _ = some()

    def of_batch(rows: Tensor) -> list[list[float]]:
        return [slow_shares(row.tolist(), float(rows.double().mean())) for row in rows]

    def between(u: list[list[float]], v: list[list[float]]) -> float:
        return float(np.mean([slow_distance(a, b, "mean") for a, b in zip(u, v, strict=True)]))

    a, b = of_batch(p1), of_batch(p2)
    far = [of_batch(negatives[:, k]) for k in range(4)]
    below = sum(math.exp(between(p, n) / 0.08) for p in (a, b) for n in far)
    expected = math.log10(1 + math.exp(between(a, b) / 0.08) / below)
    s = [shares(x, "release") for x in (p1, p2, negatives, neighbours)]
    assert contrast(s[0], s[1], s[2], "release").item() == pytest.approx(expected, rel=1e-5)
    near = [of_batch(neighbours[:, j]) for j in range(3)]
    expected = sum(between(p, n) for p in (a, b) for n in near) / 6
    assert agreement(s[0], s[1], s[3]).item() == pytest.approx(expected, rel=1e-5)


def test_reconstruction_is_the_mean_over_negatives() -> None:
    """Mean of the K squared errors from the anchor."""
    made, anchor = torch.randn(2, 4, 3, 5, 6, 6), torch.randn(2, 3, 5, 6, 6)
    expected = torch.stack([(made[:, k] - anchor).square().mean() for k in range(4)]).mean()
    torch.testing.assert_close(reconstruction(made, anchor), expected)


def test_published_contrast_is_nearly_inert() -> None:
    """With mean distances over 76 bins the value lies within 0.086 and 0.160 whatever comes in."""
    one = torch.zeros(2, 76)
    one[0, 5], one[1, 30] = 1.0, 1.0
    same, other = one[:1], one[1:]
    means, sums = (
        [contrast(a, b, c[:, None].expand(-1, 4, -1), "paper", over).item()
         for a, b, c in ((same, same, other), (same, other, same), (same, same, same))]
        for over in ("mean", "sum")
    )
    assert min(means) > 0.086 and max(means) < 0.160
    assert sums[0] < 1e-9 and sums[1] == pytest.approx(math.log(1.25), rel=1e-3)


@pytest.mark.parametrize("form", ["paper", "release"])
def test_ratio_loss_equals_a_slow_version(form: str) -> None:
    """Mean of |P(n) / P(p) - r| over negatives and both views, P of the form; far targets do not count."""
    p1, p2, negatives, _, ratio = some(frames=90)
    fps = fps_of(p1)

    def rate(x: Tensor) -> float:
        found = soft_rate_hz if form == "paper" else released_rate_bpm
        return float(found(x[None], fps[:1]))

    items = []
    for i in range(3):
        terms = []
        for p in (p1[i], p2[i]):
            for k in range(4):
                target = float(ratio[i, k]) * rate(p)
                if form == "release" or 0.25 <= target <= 5:
                    terms.append(abs(rate(negatives[i, k]) / rate(p) - float(ratio[i, k])))
        items.append(np.mean(terms))
    value = ratio_consistency(p1, p2, negatives, ratio, fps, form)
    assert value.item() == pytest.approx(np.mean(items), rel=1e-4)


def test_released_ratio_loss_is_a_number_only() -> None:
    """In the release's form no gradient reaches anything; in the paper's it reaches the negatives."""
    p1, p2, negatives = (x.requires_grad_() for x in some(frames=90)[:3])
    ratio = torch.full((3, 4), 0.7)
    assert not ratio_consistency(p1, p2, negatives, ratio, fps_of(p1), "release").requires_grad
    ratio_consistency(p1, p2, negatives, ratio, fps_of(p1)).backward()
    assert negatives.grad.abs().max() > 0 and negatives.grad.isfinite().all()


def test_ratio_loss_does_not_move_the_views() -> None:
    """The views' rate is what negatives are measured by: it is not made to fit them."""
    p1, p2, negatives = (x.requires_grad_() for x in some(frames=90)[:3])
    ratio_consistency(p1, p2, negatives, torch.full((3, 4), 0.7), fps_of(p1)).backward()
    assert p1.grad is None and p2.grad is None


def test_targets_out_of_reach_do_not_count() -> None:
    """A term whose target lies beyond 5 Hz is left out, and an item with no other gives 0, not NaN."""
    p = sines([200.0])
    negatives = sines([200.0, 120.0])[None]
    ratio = torch.tensor([[1.7, 0.6]])
    value = ratio_consistency(p, p, negatives, ratio, fps_of(p))
    assert value.item() == pytest.approx(0, abs=0.01)
    assert ratio_consistency(p, p, negatives, torch.full((1, 2), 1.7), fps_of(p)).item() == 0


def test_views_rate_is_sought_in_the_band() -> None:
    """With a band, a strong slow wave beside the pulse does not pass for the views' rate."""
    p = sines([84.0]) + 3 * sines([18.0])
    negatives, ratio = sines([0.5 * 84, 1.5 * 84])[None], torch.tensor([[0.5, 1.5]])
    free, held = (ratio_consistency(p, p, negatives, ratio, fps_of(p), band_hz=band)
                  for band in (None, (0.67, 4.0)))
    assert held.item() < 0.05 < 1 < free.item()


@pytest.mark.parametrize("name", ["contrast", "agreement", "ratio"])
def test_items_do_not_touch_each_other(name: str) -> None:
    """In the paper's form the gradient of an item is the same whatever the others of the batch are."""
    values = some(frames=60)

    def gradient(rows: slice) -> Tensor:
        p1, p2, negatives, neighbours, ratio = (x[rows].clone().requires_grad_() for x in values)
        if name == "ratio":
            loss = ratio_consistency(p1, p2, negatives, ratio.detach(), fps_of(p1))
        elif name == "contrast":
            loss = contrast(shares(p1), shares(p2), shares(negatives), over="sum")
        else:
            loss = agreement(shares(p1), shares(p2), shares(neighbours), "sum")
        (loss * len(p1)).backward()
        return (negatives if name == "ratio" else p1).grad[0]

    torch.testing.assert_close(gradient(slice(0, 1)), gradient(slice(0, 3)), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("rate_bpm", "expected"), CHECKED)
def test_released_rate_has_the_checked_values(rate_bpm: float, expected: float) -> None:
    """Pure sines of 150 frames at 30 fps give the published code's rates, below the band included."""
    wave = sines([rate_bpm])
    assert released_rate_bpm(wave, fps_of(wave)).item() == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize(("rate_bpm", "expected"), CHECKED)
def test_preset_has_the_same_rate(rate_bpm: float, expected: float) -> None:
    """The evaluation preset lfa_rea estimates as the released code does."""
    wave = sines([rate_bpm]).double().numpy()
    found = estimate(wave, FPS, protocols.get("lfa_rea")).rate_bpm[0]
    assert found == pytest.approx(expected, abs=2e-3)


def test_released_rate_at_the_upper_end() -> None:
    """Above the band the rate lies between its two last bins, by their powers."""
    wave = sines([184.0])
    x = wave[0].double().numpy()
    power = np.abs(np.fft.rfft(x - x.mean(), 101 * 150)) ** 2
    bins = 60 * np.fft.rfftfreq(101 * 150, 1 / FPS)
    low, high = np.flatnonzero((bins >= 40) & (bins <= 180))[-2:]
    expected = bins[low] + power[high] / (power[low] + power[high]) * (bins[high] - bins[low])
    assert released_rate_bpm(wave, fps_of(wave)).item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("fps", [20.0, 30.0, 61.0])
def test_soft_rate_is_the_rate_of_a_sine(fps: float) -> None:
    """Within 1 bpm from 45 to 280 bpm at any frame rate, several waveforms an item."""
    rates = [45.0, 72.0, 110.0, 180.0, 280.0]
    wave = sines(rates, int(5 * fps), fps, phase=0.4)[None].expand(2, -1, -1)
    found = 60 * soft_rate_hz(wave, fps_of(wave, fps))
    torch.testing.assert_close(found, torch.tensor([rates, rates]), rtol=0, atol=1.0)


def test_soft_rate_ignores_gain_and_offset() -> None:
    """Neither scale nor mean changes the rate."""
    wave = torch.randn(2, 150, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(soft_rate_hz(wave, fps_of(wave)), soft_rate_hz(3e-3 * wave + 5, fps_of(wave)),
                               rtol=1e-3, atol=1e-3)


def test_soft_rate_can_be_learnt() -> None:
    """Its gradient moves a waveform's rate from 60 to 120 bpm."""
    wave = (sines([60.0]) + 0.3 * sines([120.0])).requires_grad_()
    optimizer = torch.optim.Adam([wave], 0.05)
    for _ in range(400):
        loss = (soft_rate_hz(wave, fps_of(wave)) - 2.0).abs().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert 60 * soft_rate_hz(wave, fps_of(wave)).item() == pytest.approx(120, abs=3)


def test_shares_sum_to_one_and_flat_is_nothing() -> None:
    """Shares of any waveform sum to 1; a flat one has none, with finite gradients."""
    waves = torch.randn(2, 3, 51)
    torch.testing.assert_close(shares(waves).sum(-1), torch.ones(2, 3))
    flat = torch.full((1, 50), 3.1, requires_grad=True)
    assert shares(flat).abs().max() == 0
    distance(shares(flat), shares(sines([60.0], 50))).sum().backward()
    assert flat.grad.isfinite().all()


def test_band_leaves_out_what_is_beyond_it() -> None:
    """With a band only frequencies inside count, by each clip's own frame rate."""
    wave = sines([60.0, 60.0]) + sines([240.0, 240.0])
    found = shares(wave, fps=torch.tensor([30.0, 15.0]), band_hz=(0.6, 3.0))
    assert found[0, 5] == pytest.approx(1, abs=1e-3)
    assert found[1, 20] == pytest.approx(1, abs=1e-3)
    with pytest.raises(ValueError, match="frame rates"):
        shares(wave, band_hz=(0.6, 3.0))
