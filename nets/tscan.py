"""TS-CAN: DeepPhys with channels shifted over time (Liu, Fromm, Patel, McDuff, NeurIPS 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from nets.foreign import KerasFile
from nets.layers.attention import FLATTENED, WIDTH, flat_width
from nets.layers.two_branch import TwoBranchNet
from nets.registry import NETS

_ELSEWHERE = "it answers for respiration, which no loss here asks for"


KERAS = {
    **{f"inner/{letter}{pair}/layers/{layer}": f"{branch}_conv{2 * pair - 1 + i}"
       for letter, branch in (("d", "motion"), ("g", "appearance")) for pair in (1, 2)
       for i, layer in enumerate(("conv2d", "conv2d_1"))},
    **{f"inner/attn{i}/layers/conv2d": f"appearance_att_conv{i}" for i in (1, 2)},
    "inner/d/layers/dense": "final_dense_1", "inner/d/layers/dense_1": "final_dense_2",
}
"""Layers in the Keras files of open-rppg; those of branch d come with shifts, so that it sees the motion."""


@NETS.register("tscan")
class TSCAN(TwoBranchNet):
    """TS-CAN, DeepPhys with temporal shifts before its motion convolutions: 2,228,643 parameters.

    At 72 pixels; 532,899 at 36, 4,096,419 at 96: the shift has no weights. Every frame has an appearance
    frame of its own, as in rPPG-Toolbox. It puts out the derivative of the pulse.
    """

    parameter_count = 2_228_643
    # Groups of 10 frames, the toolbox's, leave a beat of fps / 10 in the answer of these weights.
    keras: ClassVar[KerasFile] = KerasFile(
        "open-rppg", KERAS, {"size": 36, "frame_depth": 180}, flattened=FLATTENED)

    def __init__(self, *, size: int = 72, frame_depth: int = 10, respiration: bool = False) -> None:
        """size: side of the picture in pixels. frame_depth: frames that are shifted among each other; clips
        are a multiple of it. respiration: the second head of MTTS-CAN (4,326,052 parameters at 72 pixels),
        for weights that have it: `both` gives its signal, and no method here trains it.
        """
        super().__init__(size, frame_depth)
        self.respiration = respiration
        if respiration:
            self.respiration_dense_1 = nn.Linear(flat_width(size), WIDTH)
            self.respiration_dense_2 = nn.Linear(WIDTH, 1)
            self.no_gradient = {
                f"respiration_dense_{i}.{kind}": _ELSEWHERE for i in (1, 2) for kind in ("weight", "bias")
            }

    def both(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 6, T, S, S) -> derivatives of pulse and respiration, (B, T) float32 each.

        ValueError where the net was built without respiration.
        """
        if not self.respiration:
            raise ValueError("this TS-CAN has no respiration; build it with respiration = true")
        maps = self.maps(video)
        pulse = self.answer(maps, self.final_dense_1, self.final_dense_2, len(video))
        return pulse, self.answer(maps, self.respiration_dense_1, self.respiration_dense_2, len(video))

    @classmethod
    def rename(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dict of rPPG-Toolbox, TS-CAN or MTTS-CAN, in the names of this class."""
        heads = {f"final_dense_{i}_{task}": f"{name}_dense_{i}"
                 for task, name in (("y", "final"), ("r", "respiration")) for i in (1, 2)}
        told = super().rename(state).items()
        return {f"{heads.get(layer, layer)}.{leaf}": value
                for (layer, _, leaf), value in ((key.rpartition("."), value) for key, value in told)}
