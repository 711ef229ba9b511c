"""Mixed precision, without what torch computes wrongly in it on a CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

Amp = Literal["off", "bf16", "fp16"]
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_CONVOLUTIONS = (
    torch.conv1d, torch.conv2d, torch.conv3d,
    torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d,
)


@contextlib.contextmanager
def autocast(device: torch.device | str, amp: Amp, enabled: bool = True) -> Iterator[None]:
    """Mixed precision inside, where it is switched on; on a CPU with SmallGrids.

    enabled: False for a backward pass, whose checkpointed parts see to the precision they had themselves.
    """
    kind = torch.device(device).type
    careful = SmallGrids() if kind == "cpu" and amp == "bf16" else contextlib.nullcontext()
    with careful, torch.autocast(kind, dtype=_DTYPES.get(amp, torch.bfloat16),
                                 enabled=enabled and amp != "off"):
        yield


class SmallGrids(TorchFunctionMode):
    """Convolutions on grids smaller than their kernel, in float32 instead of bf16.

    There torch 2.13's bf16 weight gradients on a CPU are what the memory held before (seen in two and three
    dimensions, also transposed), and with a stride the process can die. Such grids cost little in float32.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func not in _CONVOLUTIONS or not torch.is_autocast_enabled("cpu"):
            return func(*args, **given)
        video, weight = (*args, *(given[name] for name in ("input", "weight") if name in given))[:2]
        if all(n >= k for n, k in zip(video.shape[2:], weight.shape[2:], strict=False)):
            return func(*args, **given)
        with torch.autocast("cpu", enabled=False):
            return func(*map(_float, args), **{name: _float(value) for name, value in given.items()})


def _float(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) else value
