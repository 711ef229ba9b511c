"""Waveform losses: against slow references, closed forms, and what must and must not change them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from losses.waveform import LOSSES, UNSUITABLE, huber, l1, loss_name, mse, neg_pearson, pearson, smooth_l1
from tests.fakes import pulse_wave

EACH = pytest.mark.parametrize("name", list(LOSSES))


def pair(rows: int = 3, frames: int = 50, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, frames, generator=generator), torch.randn(rows, frames, generator=generator)


def sum_form(x: Tensor, y: Tensor) -> float:
    """The published sum form, per clip, in float64 and python loops."""
    total = 0.0
    for a, b in zip(x.double().tolist(), y.double().tolist(), strict=True):
        n, sa, sb = len(a), math.fsum(a), math.fsum(b)
        ab = math.fsum(p * q for p, q in zip(a, b, strict=True))
        aa, bb = math.fsum(p * p for p in a), math.fsum(q * q for q in b)
        total += 1 - (n * ab - sa * sb) / math.sqrt((n * aa - sa**2) * (n * bb - sb**2))
    return total / len(x)


SLOW: dict[str, Callable[[float], float]] = {
    "mse": lambda e: e * e, "l1": abs,
    "smooth_l1": lambda e: 0.5 * e * e if abs(e) < 1 else abs(e) - 0.5,
    "huber": lambda e: 0.5 * e * e if abs(e) < 1 else abs(e) - 0.5,
}


def test_neg_pearson_is_the_published_sum_form() -> None:
    """The centred form and the paper's sums agree to 1e-5, with offsets that would cost digits."""
    for seed in range(5):
        x, y = pair(seed=seed)
        assert float(neg_pearson(3 * x + 100, y - 7)) == pytest.approx(sum_form(3 * x + 100, y - 7), abs=1e-5)


def test_neg_pearson_correlates_over_time_not_over_the_batch() -> None:
    """It equals the mean over clips of 1 - numpy's correlation of the clip's own two rows."""
    x, y = pair(4)
    expected = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(x.numpy(), y.numpy(), strict=True)])
    assert float(neg_pearson(x, y)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", list(SLOW))
def test_pointwise_losses_equal_their_definition(name: str) -> None:
    """The mean over samples of the textbook formula."""
    x, y = pair()
    expected = np.mean([SLOW[name](e) for e in (2 * x - y).flatten().tolist()])
    assert float(LOSSES[name](2 * x, y)) == pytest.approx(expected, rel=1e-5)


def test_quarter_period_gives_one() -> None:
    """Sine against cosine over whole periods is uncorrelated; sine against itself negated gives 2."""
    phase = torch.arange(120) * (2 * math.pi * 5 / 120)
    sine, cosine = phase.sin()[None], phase.cos()[None]
    assert float(neg_pearson(sine, cosine)) == pytest.approx(1, abs=1e-6)
    assert float(neg_pearson(sine, -sine)) == pytest.approx(2, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(gain=st.floats(1e-3, 1e3), offset=st.floats(-100, 100))
def test_perfect_waveform_is_the_optimum_under_any_gain_and_offset(gain: float, offset: float) -> None:
    """neg_pearson is 0 for a positively scaled and shifted copy of the label."""
    pulse = pulse_wave(128)[None]
    tolerance = 1e-5 + 1e-5 * (offset / gain) ** 2 / 100
    assert float(neg_pearson(gain * pulse + offset, pulse)) == pytest.approx(0, abs=tolerance)


@EACH
def test_perfect_prediction_has_no_loss(name: str) -> None:
    """A prediction equal to the label costs nothing."""
    pulse = pulse_wave(128)[None]
    assert float(LOSSES[name](pulse, pulse)) == pytest.approx(0, abs=1e-6)


@EACH
def test_shuffled_time_changes_the_loss(name: str) -> None:
    """The order of samples in one argument matters."""
    pulse = pulse_wave(128)[None]
    mixed = pulse[:, torch.randperm(128, generator=torch.Generator().manual_seed(0))]
    assert float(LOSSES[name](mixed, pulse)) > 0.1


@EACH
def test_order_of_clips_does_not_matter(name: str) -> None:
    """Permuting the batch leaves the loss as it is."""
    x, y = pair(5)
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(LOSSES[name](x, y), LOSSES[name](x[order], y[order]))


@EACH
def test_single_clip_has_a_gradient(name: str) -> None:
    """With a batch of one the gradient is finite and not zero."""
    x, y = pair(1)
    x.requires_grad_()
    LOSSES[name](x, y).backward()
    assert x.grad is not None and x.grad.isfinite().all() and x.grad.abs().max() > 0


@EACH
def test_half_precision_is_lifted(name: str) -> None:
    """bf16 predictions are compared in float32, and the loss is a float32 scalar."""
    x, y = pair()
    loss = LOSSES[name](x.bfloat16(), y)
    assert loss.dtype == torch.float32 and loss.shape == ()
    torch.testing.assert_close(loss, LOSSES[name](x.bfloat16().float(), y))


@EACH
def test_nan_label_is_not_swallowed(name: str) -> None:
    """An unlabelled clip in the batch makes the loss NaN: it cannot pass for a good one."""
    x, y = pair()
    y[1] = torch.nan
    assert LOSSES[name](x, y).isnan()


@pytest.mark.parametrize("level", [0.0, 1.0, 1000.1, -3e-7])
def test_flat_prediction_costs_one(level: float) -> None:
    """A row without variance gives 1 with a finite gradient, and does not disturb its neighbour."""
    x, y = pair(2)
    x[0] = level
    x.requires_grad_()
    loss = neg_pearson(x, y)
    loss.backward()
    assert loss.item() == pytest.approx((1 + neg_pearson(x[1:], y[1:]).item()) / 2, abs=1e-6)
    assert x.grad is not None and x.grad.isfinite().all()
    assert x.grad[1].abs().max() > 0


def test_flat_label_costs_one() -> None:
    """A label without variance gives 1, never NaN."""
    x, _ = pair(1)
    assert float(neg_pearson(x, torch.full_like(x, 5.0))) == pytest.approx(1)


def test_tiny_signals_count_in_full() -> None:
    """An amplitude of 1e-6 is not mistaken for no variation."""
    x, y = pair(1)
    assert float(pearson(1e-6 * x, y)[0]) == pytest.approx(float(pearson(x, y)[0]), abs=1e-2)


def test_gradient_is_the_numerical_one() -> None:
    """The gradient of the correlation agrees with finite differences."""
    x, y = pair(1, 12)
    x.requires_grad_()
    neg_pearson(x, y).backward()
    assert x.grad is not None
    for i in range(12):
        step = torch.zeros_like(x)
        step[0, i] = 1e-2
        with torch.no_grad():
            slope = float(neg_pearson(x + step, y) - neg_pearson(x - step, y)) / 2e-2
        assert float(x.grad[0, i]) == pytest.approx(slope, abs=2e-4)


@pytest.mark.parametrize("name", list(UNSUITABLE))
def test_unsuitable_losses_say_why(name: str) -> None:
    """A torch loss that does not suit waveforms is refused with the reason and the alternatives."""
    with pytest.raises(ValueError, match=f"{name}.*does not suit waveforms.*neg_pearson"):
        loss_name(name)


def test_every_loss_of_the_notes_is_known() -> None:
    """Each name users know from elsewhere is either offered or refused with a reason."""
    known = {*LOSSES, *UNSUITABLE}
    assert known >= {
        "mse", "l1", "neg_pearson", "bce", "bce_with_logits", "huber", "smooth_l1", "cosine_embedding",
        "cross_entropy", "ctc", "gaussian_nll", "hinge_embedding", "kl_div", "margin_ranking",
        "multi_margin", "multi_label_margin", "multi_label_soft_margin", "nll", "nll2d", "pairwise",
        "poisson_nll", "soft_margin", "triplet_margin", "triplet_margin_distance",
    }
    assert LOSSES["mse"] is mse and LOSSES["l1"] is l1
    assert LOSSES["huber"] is huber and LOSSES["smooth_l1"] is smooth_l1


def test_unknown_loss_lists_the_known_ones() -> None:
    """A misspelt name is answered with what exists."""
    with pytest.raises(ValueError, match="unknown loss 'neg_person'.*neg_pearson"):
        loss_name("neg_person")
