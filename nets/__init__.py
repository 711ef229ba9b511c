"""Architectures by name: one file each, and one import line here."""

from __future__ import annotations

from typing import Any

from torch import nn

from nets import (  # noqa: F401
    autohr,
    autohr_supernet,
    classical,
    classical_whole,
    contrast_phys,
    deepphys,
    efficientphys,
    lfa,
    lfa_rea,
    meta_rppg,
    physformer,
    physnet,
    physnet_variants,
    rea,
    rhythmnet,
    rppgnet,
    stven,
    stven_rppgnet,
    transrppg,
    tscan,
)
from nets.registry import NETS


def build(name: str, **options: Any) -> nn.Module:
    """The net of that name; `options` are the keyword arguments of its class.

    Its `input_spec` says what it is fed. KeyError for an unknown name, ValueError for options that do not
    fit.
    """
    net: nn.Module = NETS.build(name, **options)
    return net


def names(task: str | None = None) -> list[str]:
    """Names of all registered nets, sorted; with `task` only those with that tag, such as "classical"."""
    return [name for name in NETS.names() if task is None or NETS.get(name).task == task]
