"""STVEN's training: between the original and compressed copies, there and back (Yu et al., ICCV 2019)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from losses.video import absolute_loss, psnr_db, restoring_loss
from nets.methods.base import Method
from nets.methods.registry import METHODS
from utils.contracts import ClipBatch, InputSpec

ORIGINAL = 0
CENTRED_SPAN = 255 / 128
"""Largest difference of two pictures in the centred form."""

Qualities = Annotated[list[str] | None, Field(min_length=1)]
DEFAULT = ("x264_1000", "x264_500", "x264_250")


@METHODS.register("stven")
class STVENMethod(Method):
    """Restoring, compressing and both cycles, for nets that turn clips into clips of another level."""

    tasks = ("enhancement",)
    needs = ("levels",)
    passes_unlabelled = True
    net_calls = 4

    def __init__(self, net: nn.Module, *, qualities: Qualities = None) -> None:
        """qualities: stored compressed copies, the k-th being level k; each clip draws one of them.

        None: those of x264 at 1000, 500 and 250 kb/s.
        """
        super().__init__(net)
        self.qualities = tuple(qualities or DEFAULT)
        refuse_too_many(net, self.qualities)

    @property
    def input_spec(self) -> InputSpec:
        """The net's, with a compressed copy of each clip."""
        spec: InputSpec = self.net.input_spec  # type: ignore[assignment]
        return spec.replace(qualities=self.qualities)

    def loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        """For an original c0, its copy ck at level k, and the net G(clip, level):

        |c0 - G(ck, 0)|^2 + |ck - G(c0, k)| + |ck - G(G(ck, 0), k)| + |c0 - G(G(c0, k), 0)|, means each.
        """
        original, copy, level = batch.video, batch.extras["degraded"], batch.extras["level"]
        zero = torch.full_like(level, ORIGINAL)
        restored, compressed = self.net(copy, zero), self.net(original, level)
        terms = {
            "restore": restoring_loss(restored, original), "compress": absolute_loss(compressed, copy),
            "cycle_copy": absolute_loss(self.net(restored, level), copy),
            "cycle_original": absolute_loss(self.net(compressed, zero), original),
        }
        gain = psnr_db(restored.detach(), original, CENTRED_SPAN) - psnr_db(copy, original, CENTRED_SPAN)
        return {"loss": torch.stack(list(terms.values())).sum(), **terms, "psnr_gain_db": gain.mean()}

    def answer(self, video: Tensor) -> Tensor:
        """The restored clip's green, averaged over the picture and negated: (B, C, T, H, W) -> (B, T).

        This stage has no pulse signal of its own; the trace shows whether one survives.
        """
        green: Tensor = self.net(video)[:, 1]
        return -green.mean((2, 3))


def refuse_too_many(net: nn.Module, qualities: tuple[str, ...]) -> None:
    """ValueError when the net knows fewer levels than the original and these copies."""
    levels = int(net.levels)  # type: ignore[arg-type]
    if len(qualities) >= levels:
        raise ValueError(
            f"{len(qualities)} qualities and the original need {len(qualities) + 1} levels, the net has "
            f"{levels}; set net.options.levels"
        )
