"""Mixed precision on a CPU: what torch computes wrongly there is computed in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nets.layers import recompute
from utils.autocast import autocast

Convolution = Callable[..., Tensor]
CASES: list[tuple[Convolution, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    (F.conv3d, (2, 4, 4), (3, 3, 3), {"padding": 1}),
    (F.conv3d, (4, 8, 8), (5, 1, 1), {"padding": (2, 0, 0)}),
    (F.conv3d, (8, 1, 1), (1, 5, 5), {"padding": (0, 2, 2)}),
    (F.conv3d, (8, 1, 1), (1, 3, 3), {"padding": (0, 1, 1), "stride": (1, 2, 2)}),
    (F.conv3d, (2, 4, 4), (3, 3, 3), {"padding": 1, "stride": 2}),
    (F.conv2d, (8, 1), (3, 3), {"padding": 1, "stride": 2}),
    (F.conv_transpose3d, (2, 4, 4), (3, 3, 3), {"padding": 1}),
    (F.conv_transpose3d, (2, 1, 1), (4, 4, 4), {"padding": 1, "stride": 2}),
]


def gradients(run: Convolution, grid: tuple[int, ...], kernel: tuple[int, ...], amp: Any,
              **options: Any) -> tuple[torch.dtype, Tensor]:
    """Type of the output, and the weights' gradient of a loss that weighs its places unevenly."""
    generator = torch.Generator().manual_seed(0)
    video = torch.randn(2, 16, *grid, generator=generator)
    weight = torch.randn(16, 16, *kernel, generator=generator).requires_grad_()
    with autocast("cpu", amp):
        made = run(video, weight, **options)
    (made.float() * torch.randn(made.shape, generator=generator)).sum().backward()
    assert weight.grad is not None
    return made.dtype, weight.grad


@pytest.mark.parametrize(("run", "grid", "kernel", "options"), CASES)
def test_gradients_on_small_grids_are_right(
    run: Convolution, grid: tuple[int, ...], kernel: tuple[int, ...], options: dict[str, Any]
) -> None:
    """On a grid smaller than the kernel, bf16 training computes in float32, and has its gradients."""
    dtype, found = gradients(run, grid, kernel, "bf16", **options)
    _, expected = gradients(run, grid, kernel, "off", **options)
    assert dtype == torch.float32
    torch.testing.assert_close(found, expected)


def test_larger_grids_are_bf16() -> None:
    """Where torch is right, bf16 is used, and the gradient follows that of float32."""
    dtype, found = gradients(F.conv3d, (3, 4, 4), (3, 3, 3), "bf16", padding=1)
    _, expected = gradients(F.conv3d, (3, 4, 4), (3, 3, 3), "off", padding=1)
    assert dtype == torch.bfloat16
    assert float((found - expected).norm() / expected.norm()) < 0.05


def test_layers_and_checkpointed_parts_are_covered() -> None:
    """A convolution called by keyword, or run again in the backward pass, is computed in the same way."""
    layer, video = nn.Conv3d(4, 4, 3, padding=1), torch.randn(1, 4, 2, 3, 3)

    def gradient(kept: bool) -> Tensor:
        layer.weight.grad = None
        with autocast("cpu", "bf16"):
            made = layer(input=video) if kept else recompute.run(layer, layer, video, again=True)
        with autocast("cpu", "bf16", enabled=False):
            made.square().sum().backward()
        assert made.dtype == torch.float32 and layer.weight.grad is not None
        return layer.weight.grad

    assert torch.equal(gradient(True), gradient(False))
