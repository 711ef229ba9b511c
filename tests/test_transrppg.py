"""The liveness classifier after TransRPPG: its maps, tokens and loss; it is not trained."""

from __future__ import annotations

import math

import pytest
import torch

import nets
from nets import methods
from nets.transrppg import TransRPPG


def small(**options: int) -> TransRPPG:
    torch.manual_seed(0)
    return nets.build("transrppg", **{"frames": 75, "layers": 1, **options}).eval()


def test_parameters_are_within_three_per_cent() -> None:
    """Of the 547 thousand that the paper gives."""
    count = sum(p.numel() for p in nets.build("transrppg").parameters())
    assert abs(count / 547_000 - 1) < 0.03


def test_tokens_of_both_branches() -> None:
    """61 x 19 places for the face, 13 x 19 for the background."""
    net = nets.build("transrppg")
    assert net.face.place.shape[:2] == (61, 19) and net.background.place.shape[:2] == (13, 19)


def test_rows_are_means_over_unions() -> None:
    """63 and 15 rows: every union of regions, as the mean over its pixels, scaled over the clip."""
    net, video = small(), 255 * torch.rand(1, 3, 40, 24, 24)
    face, background = net.maps(video)
    assert face.shape == (1, 3, 63, 40) and background.shape == (1, 3, 15, 40)
    whole = video[..., 6:18, 6:18].mean((3, 4))
    corners = torch.stack([video[..., r, c].mean((3, 4)) for r in (slice(0, 6), slice(18, 24))
                           for c in (slice(0, 6), slice(18, 24))]).mean(0)
    for row, mean in ((face[:, :, -1], whole), (background[:, :, -1], corners)):
        low, high = mean.amin(-1, keepdim=True), mean.amax(-1, keepdim=True)
        torch.testing.assert_close(row, 255 * (mean - low) / (high - low), rtol=1e-3, atol=0.5)


def test_brightness_and_contrast_do_not_matter() -> None:
    """Each row is scaled to its own range."""
    net, video = small(), 100 * torch.rand(1, 3, 40, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(net(video), net(1.5 * video + 20), rtol=1e-3, atol=1e-3)


def test_a_still_picture_is_no_error() -> None:
    """Rows without change are 0, and the logit is finite."""
    assert small()(torch.full((1, 3, 40, 16, 16), 90.0)).isfinite().all()


def test_loss_is_the_sum_of_three() -> None:
    """Joint and face against the truth, the background against "not alive"."""
    net = small()
    logits = {name: torch.tensor([0.5, -1.0]) for name in ("joint", "face", "background")}
    found = net.loss(logits, torch.tensor([1.0, 0.0]))
    right = [math.log1p(math.exp(-0.5)), math.log1p(math.exp(-1.0))]
    wrong = [math.log1p(math.exp(0.5)), math.log1p(math.exp(-1.0))]
    assert float(found) == pytest.approx(2 * sum(right) / 2 + sum(wrong) / 2, rel=1e-5)


@pytest.mark.parametrize(("frames", "size"), [(29, 16), (90, 16), (40, 8)])
def test_other_shapes_are_refused(frames: int, size: int) -> None:
    """Too short, longer than there are places for, too small."""
    with pytest.raises(ValueError, match="transrppg takes clips of 30 to 89 frames"):
        small()(torch.zeros(1, 3, frames, size, size))


@pytest.mark.parametrize("name", ["supervised", "rhythmnet"])
def test_no_method_takes_it(name: str) -> None:
    """Nothing here trains a liveness classifier, and nothing reads a heart rate from one."""
    with pytest.raises(ValueError, match="liveness"):
        methods.build(name, small())
