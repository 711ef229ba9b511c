"""LFA and REA side by side: what is trained without labels (Yue, Shi, Ding 2022)."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, nn

from nets.lfa import LFA
from nets.rea import REA
from nets.registry import NETS
from utils.contracts import InputSpec


@NETS.register("lfa_rea")
class LFAREA(nn.Module):
    """The pulse estimator with its frequency augmentation: 5,588,327 parameters; REA alone answers."""

    task = "pulse"
    default_method = "ssl_lfa_rea"
    parameter_count = 5_588_327
    small_sizes = (8, 12)
    small_options: ClassVar[dict[str, int]] = {"width": 4, "lfa_width": 4}

    def __init__(
        self, *, experts: int = 4, width: int = 64, relative: int = 0,
        ends: Literal["zeros", "held"] = "zeros", lfa_width: int = 64, learned_down: bool = False,
        bidirectional: bool = False, hidden: int = 1, final: Literal["prelu", "none"] = "prelu",
        checkpointing: bool = False,
    ) -> None:
        """experts, width, relative, ends: of REA; lfa_width (width there), learned_down, bidirectional,
        hidden, final: of LFA; checkpointing: of both."""
        super().__init__()
        self.input_spec = InputSpec(frames=150, size=64, video="unit", target="standardised")
        self.lfa = LFA(
            width=lfa_width, learned_down=learned_down, bidirectional=bidirectional, hidden=hidden,
            final=final, checkpointing=checkpointing,
        )
        self.rea = REA(
            experts=experts, width=width, relative=relative, ends=ends, checkpointing=checkpointing
        )
        self.no_gradient = {f"lfa.{name}": "it makes clips for training; REA alone answers"
                            for name, _ in self.lfa.named_parameters()}

    def forward(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W), 0..1 -> (B, T) float32: REA's signal."""
        waveform: Tensor = self.rea(video)
        return waveform
