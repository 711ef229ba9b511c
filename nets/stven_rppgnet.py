"""STVEN before rPPGNet: compressed clips are restored, then read (Yu et al., ICCV 2019)."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, nn

from nets.registry import NETS
from nets.rppgnet import RPPGNet, Signals
from nets.stven import STVEN
from utils.contracts import InputSpec


@NETS.register("stven_rppgnet")
class STVENRPPGNet(nn.Module):
    """Both nets of the paper in a row; each starts from a run of its own (net.init_from by part).

    The level of the input need not be known: the clip is always asked for at level 0.
    """

    task = "pulse"
    default_method = "stven_rppgnet"
    parameter_count = 52_031_419
    small_sizes = (16, 32)
    small_options: ClassVar[dict[str, int]] = {"width": 4, "blocks": 2}

    def __init__(
        self, *, blocks: int = 6, levels: int = 4, width: int = 64,
        build: Literal["fixed", "compat"] = "fixed", checkpointing: bool = False,
    ) -> None:
        """blocks, levels, width: of STVEN; build: of rPPGNet; checkpointing: of both."""
        super().__init__()
        self.input_spec = InputSpec(
            frames=64, size=128, video="centred", target="standardised", multiple_of=2
        )
        self.levels = levels
        self.stven = STVEN(blocks=blocks, levels=levels, width=width, checkpointing=checkpointing)
        self.rppgnet = RPPGNet(build=build, checkpointing=checkpointing)
        self.no_gradient = {f"rppgnet.{name}": why for name, why in self.rppgnet.no_gradient.items()}

    def forward(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W), about -1..1 -> (B, T) float32: the global signal of the restored clip."""
        return self.signals(video).whole

    def signals(self, video: Tensor) -> Signals:
        """Everything rPPGNet says of the restored clip."""
        return self.rppgnet.signals(self.stven(video))
