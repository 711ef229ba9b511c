"""PhysFormer's layers against the sheet and slow versions, its losses and their weights by epoch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import nets
from losses.spectral import (
    LOW_BPM,
    frequency_cross_entropy,
    gaussian_rates,
    log_power,
    rate_divergence,
    rate_power,
)
from losses.waveform import neg_pearson
from nets import methods
from nets.methods.physformer import CURRICULA
from nets.physformer import Attention, PhysFormer
from nets.summary import model_summary
from tests.fakes import FPS, clip_batch
from utils.errors import UserError

SMALL = {"width": 24, "blocks": 2, "feedforward": 32}


def small(**options: object) -> PhysFormer:
    torch.manual_seed(0)
    net = nets.build("physformer", **{**SMALL, **options})
    net.input_spec = net.input_spec.replace(frames=32, size=32)
    return net


def test_submodules_have_the_published_sizes() -> None:
    """Stem, tokens, three groups of four blocks, decoder and head have the sheet's counts."""
    net = nets.build("physformer")
    sizes = {key: sum(p.numel() for p in child.parameters()) for key, child in net.named_children()}
    stem = [sum(p.numel() for p in child.parameters()) for child in net.stem]
    block = {key: sum(p.numel() for p in child.parameters()) for key, child in net.blocks[0].named_children()}
    assert stem == [1_872, 31_248, 124_704]
    assert sizes == {"stem": sum(stem), "tokens": 589_920, "blocks": 3 * 2_197_056, "up1": 27_936,
                     "up2": 13_968, "head": 49}
    assert block == {"norm1": 192, "norm2": 192, "attention": 507_264, "projection": 9_312,
                     "feedforward": 32_304, "dropout": 0}


def test_operations_are_those_of_the_sheet() -> None:
    """51.23 GMAC for a clip of 160 frames at 128 pixels, attention and the TDC's correction included."""
    net = nets.build("physformer")
    assert model_summary(net, net.input_spec)[1]["macs_per_clip"] / 1e9 == pytest.approx(51.23, abs=0.005)


def test_attention_is_the_formula() -> None:
    """Head by head: softmax of q k' / 2.0 times v, with q and k as their layers give them."""
    torch.manual_seed(0)
    layer = Attention(12, 3, 0.7, 2.0, 0.1).eval()
    maps = torch.randn(2, 12, 3, 2, 4)
    q, k, v = (made(maps).flatten(2) for made in (layer.query, layer.key, layer.value))
    expected = torch.empty(2, 24, 12)
    for b in range(2):
        for head in range(3):
            rows = slice(4 * head, 4 * head + 4)
            scores = (q[b, rows].T @ k[b, rows]) / 2.0
            expected[b, :, rows] = scores.softmax(1) @ v[b, rows].T
    torch.testing.assert_close(layer(maps), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96), (40, 72)])
def test_any_grid_of_tokens(height: int, width: int) -> None:
    """The same weights take other sizes than the paper's 128 x 128."""
    with torch.no_grad():
        assert small().eval()(torch.rand(1, 3, 16, height, width)).shape == (1, 16)


@pytest.mark.parametrize(
    ("shape", "words"),
    [((1, 3, 30, 32, 32), "multiple of 4"), ((1, 3, 32, 16, 32), "32 pixels"), ((3, 32, 32, 32), "B, 3, T")],
)
def test_other_shapes_are_refused(shape: tuple[int, ...], words: str) -> None:
    """With what is accepted, and the setting."""
    with pytest.raises(ValueError, match=words):
        small()(torch.zeros(shape))


def test_checkpointing_changes_no_bit() -> None:
    """Gradients and running statistics are the same, dropout included."""
    video, found = torch.randn(2, 3, 16, 32, 32), []
    for again in (False, True):
        net = small(checkpointing=again).train()
        torch.manual_seed(3)
        net(video).square().sum().backward()
        found.append([*(p.grad for p in net.parameters()), *net.buffers()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


# Losses


def waves(*rates_bpm: float, frames: int = 160) -> Tensor:
    t = torch.arange(frames) / FPS
    return torch.stack([torch.sin(2 * math.pi * rate / 60 * t + 0.3) for rate in rates_bpm])


def test_divergence_is_the_formula() -> None:
    """Slow version: Gaussian of 1 bpm about the whole part, floored; softmax of the power's shares."""
    fps, rate = torch.full((1,), FPS), 75.9
    share = rate_power(waves(80.0), fps)[0].double().numpy()
    share = share / share.sum()
    logits = np.exp(share) / np.exp(share).sum()
    total = 0.0
    for place in range(140):
        target = max(math.exp(-0.5 * (place + LOW_BPM - 75) ** 2) / math.sqrt(2 * math.pi), 1e-15)
        total += target * (math.log(target) - math.log(logits[place]))
    found = rate_divergence(waves(80.0), fps, torch.tensor([rate]), "released")
    assert float(found) == pytest.approx(total, rel=1e-4)


def test_target_is_floored_and_not_scaled() -> None:
    """The peak is 1/sqrt(2 pi), far classes 1e-15, the nearest class stands for rates outside."""
    target = gaussian_rates(torch.tensor([72.4, 20.0, 300.0]))
    assert target[0].argmax() == 72 - LOW_BPM and target[1].argmax() == 0 and target[2].argmax() == 139
    assert float(target[0].max()) == pytest.approx(1 / math.sqrt(2 * math.pi))
    assert float(target.min()) == pytest.approx(1e-15)


@pytest.mark.parametrize("form", ["log_power", "released"])
def test_divergence_is_least_at_the_rate(form: str) -> None:
    """A wave of the right rate has less of it than waves 5 and 20 bpm away."""
    fps = torch.full((1,), FPS)
    rate = torch.tensor([72.0])
    values = [float(rate_divergence(waves(72.0 + off), fps, rate, form)) for off in (0, 5, 20)]
    assert values == sorted(values)


def test_unknown_rates_are_left_out() -> None:
    """A clip without a rate changes neither value nor gradient."""
    both = waves(72.0, 90.0).requires_grad_()
    fps = torch.full((2,), FPS)
    found = rate_divergence(both, fps, torch.tensor([75.0, math.nan]))
    alone = rate_divergence(waves(72.0), fps[:1], torch.tensor([75.0]))
    found.backward()
    assert found.item() == pytest.approx(alone.item())
    assert both.grad is not None and both.grad.isfinite().all() and both.grad[1].abs().max() == 0


def test_working_terms_have_a_gradient() -> None:
    """The released form leaves hardly any: less than a hundredth of the working one's."""
    sizes = {}
    for form in ("log_power", "released"):
        noise = torch.randn(1, 160, generator=torch.Generator().manual_seed(0))
        wave = (waves(70.0) + noise).requires_grad_()
        fps, rate = torch.full((1,), FPS), torch.tensor([90.0])
        (frequency_cross_entropy(wave, fps, rate, form) + rate_divergence(wave, fps, rate, form)).backward()
        assert wave.grad is not None
        sizes[form] = float(wave.grad.norm() * wave.detach().std())
    assert sizes["released"] < sizes["log_power"] / 100


@pytest.mark.parametrize(
    ("name", "epoch", "a", "b"),
    [("released", 0, 0.1, 1.0), ("released", 25, 0.1, 5.0), ("released", 40, 0.1, 5.0),
     ("released", 12, 0.1, 5**0.48), ("working", 0, 1.0, 0.1), ("working", 25, 1.0, 0.5),
     ("toolbox", 10, 1.0, 1.0), ("toolbox", 11, 0.05, 5.0)],
)
def test_weights_follow_the_epoch(name: str, epoch: int, a: float, b: float) -> None:
    """a of the waveform, b of the spectrum, over 25 epochs."""
    chosen = CURRICULA[name]
    assert (chosen.time(epoch, 25), chosen.rate(epoch, 25)) == pytest.approx((a, b))


def test_loss_is_the_weighted_sum() -> None:
    """a (1 - r) + b (cross entropy + divergence), with the epoch of the batch."""
    method = methods.build("physformer", small(), curriculum="released").eval()
    batch = clip_batch(method.input_spec)
    batch.epoch = 12
    with torch.no_grad():
        terms, wave = method.loss(batch), method.net(batch.video)
        rate = frequency_cross_entropy(wave, batch.fps, batch.hr_bpm, "released")
        spread = rate_divergence(wave, batch.fps, batch.hr_bpm, "released")
        expected = 0.1 * neg_pearson(wave, batch.pulse) + 5**0.48 * (rate + spread)
    torch.testing.assert_close(terms["loss"], expected)


def test_unlabelled_clips_are_refused() -> None:
    """By the name of their recordings."""
    method = methods.build("physformer", small())
    batch = clip_batch(method.input_spec)
    batch.has_label[0] = False
    with pytest.raises(UserError, match="r0"):
        method.loss(batch)


def test_log_power_sums_to_one() -> None:
    """What the divergence compares with is a distribution."""
    assert float(log_power(waves(72.0), torch.full((1,), FPS)).exp().sum()) == pytest.approx(1.0, abs=1e-5)
