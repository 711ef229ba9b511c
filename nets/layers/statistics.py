"""Normalisation by the statistics of what comes in, with nothing remembered of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _NormBase


def forget_running(net: nn.Module) -> None:
    """Take the running statistics from every batch norm of `net`, in place.

    In evaluation mode it then normalises by the batch, and there is nothing left to update.
    """
    for norm in _norms(net):
        norm.running_mean = norm.running_var = None


@contextlib.contextmanager
def batch_statistics(net: nn.Module) -> Iterator[None]:
    """Inside, the batch norms of `net` in evaluation mode normalise by the batch; the buffers stay."""
    kept = [(norm, norm.running_mean, norm.running_var) for norm in _norms(net)]
    forget_running(net)
    try:
        yield
    finally:
        for norm, mean, var in kept:
            norm.running_mean, norm.running_var = mean, var


def _norms(net: nn.Module) -> list[_NormBase]:
    return [module for module in net.modules() if isinstance(module, _NormBase)]
