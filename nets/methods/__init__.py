"""How nets learn and answer, by name: one file each, and one import line here."""

from __future__ import annotations

from typing import Any

from torch import nn

from nets.methods import (  # noqa: F401
    adaptive,
    autohr_search,
    classical,
    contrast_phys,
    meta_rppg,
    physformer,
    rhythmnet,
    rppgnet,
    ssl_lfa_rea,
    stven,
    stven_rppgnet,
    supervised,
)
from nets.methods.base import Method
from nets.methods.registry import METHODS


def build(name: str, net: nn.Module, **options: Any) -> Method:
    """The method of that name around `net`; `options` are the keyword arguments of its class.

    KeyError for an unknown name, ValueError for options that do not fit.
    """
    method: Method = METHODS.build(name, net, **options)
    return method


def names() -> list[str]:
    """Names of all registered methods, sorted."""
    return METHODS.names()
