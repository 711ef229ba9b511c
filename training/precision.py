"""Where and how precisely a method computes: device, memory layout, mixed precision, loss scale."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from utils.autocast import Amp
from utils.errors import UserError


def resolve_amp(amp: str, device: torch.device | str) -> Amp:
    """The precision used: "auto" becomes bf16 where the hardware computes with it, else off.

    UserError for fp16 on the CPU.
    """
    kind = torch.device(device).type
    if amp == "fp16" and kind != "cuda":
        raise UserError(f'train.amp = "fp16" needs a CUDA device, this is "{kind}"; use "bf16" or "off"')
    if amp != "auto":
        return amp  # type: ignore[return-value]
    if kind == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "off"
    has_bf16: Callable[[], bool] = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16" if kind == "cpu" and has_bf16() else "off"


def place(method: nn.Module, device: torch.device | str, channels_last: bool) -> None:
    """Move a method to its device, the weights of 3D convolutions to the faster memory layout.

    Before the optimisers are made: some of them build their state from the weights at once.
    """
    method.to(device)
    if channels_last:
        for parameter in method.parameters():
            if parameter.dim() == 5:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)


class LossScale:
    """Factor on the loss that keeps fp16 gradients off zero: halved on overflow, doubled when quiet.

    Own, since gradients are unscaled at once here: the guard, clipping and accumulation read them.
    """

    LOWEST, GROWTH_EVERY = 2.0**-10, 2000

    def __init__(self) -> None:
        """Starts at 2**16."""
        self.factor, self.quiet = 2.0**16, 0

    def overflow(self) -> bool:
        """Halve the factor; False when that does not help any more."""
        self.factor, self.quiet = self.factor / 2, 0
        return self.factor >= self.LOWEST

    def good(self) -> None:
        """Count a step, and double the factor after many in a row."""
        self.quiet += 1
        if self.quiet == self.GROWTH_EVERY:
            self.factor, self.quiet = self.factor * 2, 0
