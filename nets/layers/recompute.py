"""Activation checkpointing: memory for a second forward pass, with running statistics updated once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from utils.autocast import SmallGrids

Stage = Callable[[Tensor], Tensor]


def run(net: nn.Module, stage: Stage, x: Tensor, again: bool) -> Tensor:
    """`stage(x)`; with `again`, only x is kept for the backward pass, which computes the stage anew.

    stage: any part of `net`'s forward pass. Values, gradients and running statistics are the same bits
    either way: the second pass updates no statistics.
    """
    if not again or not torch.is_grad_enabled():
        return stage(x)

    def part(x: Tensor) -> Tensor:
        # entered here, since a mode around both passes does not reach the one that a backward pass calls
        with SmallGrids() if x.device.type == "cpu" else nullcontext():
            return stage(x)

    result: Tensor = checkpoint(
        part, x, use_reentrant=False, context_fn=lambda: (nullcontext(), _untracked(net))
    )
    return result


@contextlib.contextmanager
def _untracked(net: nn.Module) -> Iterator[None]:
    """What happens to the running statistics of `net` inside is undone at the end."""
    kept = [
        (buffer, buffer.clone()) for module in net.modules() if isinstance(module, _NormBase)
        for buffer in module.buffers(recurse=False)
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)
