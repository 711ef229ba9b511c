"""Pooling of clips, with a deterministic backward pass on every device.

CUDA refuses the backward passes of torch's 3D mean pools in deterministic mode, and refused those of the max
pools before torch 2.13, which documents them as deterministic. There, the same values and gradients are made
from element-wise steps (against 2.13's own max pool not measured, for want of a card); elsewhere torch's
kernels are used, which on a CPU are an order of magnitude faster (`benchmarks/training_step.py`).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Sizes = tuple[int, int, int]


def max_pool(video: Tensor, time: int, space: int) -> Tensor:
    """Largest value of each block: (B, C, T, H, W) -> (B, C, T//time, H//space, W//space).

    An incomplete last block is dropped. Where several elements of a block share the maximum, the first
    one gets the gradient.
    """
    if _element_wise(video):
        pooled: Tensor = FirstMax.apply(video, time, space)
        return pooled
    return F.max_pool3d(video, (time, space, space))


def mean_pool(video: Tensor, time: int, space: int) -> Tensor:
    """Mean of each block: (B, C, T, H, W) -> (B, C, T//time, H//space, W//space)."""
    if _element_wise(video):
        return blocks(video, time, space).mean(dim=(3, 5, 7))
    return F.avg_pool3d(video, (time, space, space))


def halving_max_pool(video: Tensor, halve_time: bool) -> Tensor:
    """Largest value of 3 x 3 pixels, with `halve_time` of 3 frames too, around every second place.

    (B, C, T, H, W) -> (B, C, T or ceil(T/2), ceil(H/2), ceil(W/2)). Windows overlap and end at the border;
    the first maximum of a window gets its gradient.
    """
    kernel, stride, padding = (
        ((3, 3, 3), (2, 2, 2), (1, 1, 1)) if halve_time else ((1, 3, 3), (1, 2, 2), (0, 1, 1))
    )
    if _element_wise(video):
        pooled: Tensor = FirstOverlappingMax.apply(video, kernel, stride, padding)
        return pooled
    return F.max_pool3d(video, kernel, stride, padding)


def _element_wise(video: Tensor) -> bool:
    """Whether torch would refuse the backward pass of its own pools."""
    return video.is_cuda and torch.are_deterministic_algorithms_enabled()


def blocks(video: Tensor, time: int, space: int) -> Tensor:
    """(B, C, T, H, W) -> (B, C, T', time, H', space, W', space), a view without incomplete blocks."""
    t, h, w = video.shape[2] // time, video.shape[3] // space, video.shape[4] // space
    whole = video[:, :, : t * time, : h * space, : w * space]
    return whole.unflatten(4, (w, space)).unflatten(3, (h, space)).unflatten(2, (t, time))


class PooledReLU(nn.Module):
    """Max pooling, then ReLU: the same values and gradients as ReLU first, on fewer elements."""

    def __init__(self, time: int, space: int) -> None:
        """time, space: frames and pixels in a block."""
        super().__init__()
        self.time, self.space = time, space

    def forward(self, video: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T//time, H//space, W//space)."""
        return max_pool(video, self.time, self.space).relu_()

    def extra_repr(self) -> str:
        """The block, for the printed net."""
        return f"time={self.time}, space={self.space}"


class FirstMax(torch.autograd.Function):
    """Max pooling whose backward pass is written block element by block element."""

    @staticmethod
    def forward(ctx: Any, video: Tensor, time: int, space: int) -> Tensor:
        """Keep, beside the maxima, the number of the element that was the first maximum of its block."""
        pooled, index = F.max_pool3d(video, (time, space, space), return_indices=True)
        height, width = video.shape[3:]
        t, h, w = index // (height * width), index // width % height, index % width
        number = ((t % time) * space + h % space) * space + w % space
        ctx.save_for_backward(number.to(torch.uint8))
        ctx.sizes = (video.shape, time, space)
        return pooled

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """Each gradient to the element that was its block's maximum, 0 to all others."""
        (number,), (grad,) = ctx.saved_tensors, grads
        shape, time, space = ctx.sizes
        full = grad.new_zeros(shape)
        if grad.is_contiguous(memory_format=torch.channels_last_3d):
            full = full.contiguous(memory_format=torch.channels_last_3d)
        parts = blocks(full, time, space)
        for k in range(time * space * space):
            t, h, w = k // space**2, k // space % space, k % space
            parts[:, :, :, t, :, h, :, w] = torch.where(number == k, grad, torch.zeros_like(grad))
        return full, None, None


class FirstOverlappingMax(torch.autograd.Function):
    """Max pooling with overlapping windows whose backward pass adds up place of the window by place."""

    @staticmethod
    def forward(ctx: Any, video: Tensor, kernel: Sizes, stride: Sizes, padding: Sizes) -> Tensor:
        """Keep, beside the maxima, which element of its window each one was."""
        pooled, index = F.max_pool3d(video, kernel, stride, padding, return_indices=True)
        height, width = video.shape[3:]
        places = index // (height * width), index // width % height, index % width
        number = torch.zeros_like(index)
        for axis, place in enumerate(places):
            first = torch.arange(index.shape[axis + 2], device=index.device) * stride[axis] - padding[axis]
            shape = [-1 if dim == axis + 2 else 1 for dim in range(5)]
            number = number * kernel[axis] + place - first.view(shape)
        ctx.save_for_backward(number.to(torch.uint8))
        ctx.sizes = (video.shape, kernel, stride, padding)
        return pooled

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        """Each gradient to the element that was its window's first maximum; shared ones are summed."""
        (number,), (grad,) = ctx.saved_tensors, grads
        shape, kernel, stride, padding = ctx.sizes
        padded = [n + 2 * pad for n, pad in zip(shape[2:], padding, strict=True)]
        full = grad.new_zeros(*shape[:2], *padded)
        for k in range(math.prod(kernel)):
            offsets = k // (kernel[1] * kernel[2]), k // kernel[2] % kernel[1], k % kernel[2]
            where = [slice(offset, offset + step * (n - 1) + 1, step)
                     for offset, step, n in zip(offsets, stride, grad.shape[2:], strict=True)]
            full[:, :, where[0], where[1], where[2]] += torch.where(number == k, grad, torch.zeros_like(grad))
        t, h, w = (slice(pad, pad + n) for pad, n in zip(padding, shape[2:], strict=True))
        return full[:, :, t, h, w], None, None, None
