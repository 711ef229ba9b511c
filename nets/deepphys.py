"""DeepPhys: motion between two frames, weighted by attention to skin (Chen & McDuff, ECCV 2018)."""

from __future__ import annotations

from nets.layers.two_branch import TwoBranchNet
from nets.registry import NETS


@NETS.register("deepphys")
class DeepPhys(TwoBranchNet):
    """DeepPhys, two 2D convolutional branches frame by frame: 2,228,643 parameters at 72 pixels.

    532,899 at 36 pixels (the paper's), 4,096,419 at 96. It puts out the derivative of the pulse.
    """

    parameter_count = 2_228_643

    def __init__(self, *, size: int = 72) -> None:
        """size: side of the picture in pixels; 36 in the paper, 72 in rPPG-Toolbox."""
        super().__init__(size, None)
