"""AutoHR's supernet, small."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import nets

SMALL: dict[str, Any] = {"stem_channels": 2, "node_channels": 4, "partial": 2}


def supernet(**options: Any) -> nn.Module:
    """The supernet of two stem and four node channels, with the same weights every time."""
    torch.manual_seed(0)
    return nets.build("autohr_supernet", **{**SMALL, **options})
