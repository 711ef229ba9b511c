"""What a net looks at: how each pixel moves the predicted waveform.

Both maps start from the gradient of the waveform's energy, half the sum of (y - mean y)^2, by the frames:
with J the derivative of the waveform by the frames it is J'y, the change of each pixel that moves the
waveform along itself (gradient maps, Simonyan et al. 2014, for a regression). `sensitivity` is its size;
`contribution` multiplies it by how the pixel really changes in the clip, which is to first order the part
of the waveform that comes from this pixel. A pixel to which the net is sensitive but which holds
nothing that moves the waveform has the first and not the second. Neither needs a label, a change of the
net, or anything of its architecture.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from utils.contracts import ClipBatch

Array = NDArray[np.float64]


MAPS = ("sensitivity", "contribution")


@dataclass(frozen=True)
class Attention:
    """One recording's maps.

    key: of the recording. maps: by name of MAPS (H, W), each pixel's share, sums to 1. face: (H, W, 3) mean
    picture of the clip, 0..255. regions: name -> (H, W) share of each pixel that belongs to it; none where
    no face mesh is known.
    """

    key: str
    maps: Mapping[str, Array]
    face: Array
    regions: Mapping[str, Array] = field(default_factory=dict)


def look(waveforms: Callable[[ClipBatch], Tensor], batch: ClipBatch) -> dict[str, Array]:
    """The maps of every clip: name of MAPS -> (B, H, W), each map sums to 1.

    waveforms: a batch to its waveforms (B, T), differentiable. sensitivity: root mean square of the gradient
    over channels and time. contribution: size of the sum, over channels and time, of the gradient times the
    pixel less its mean over the clip. Nothing of the net is changed, its gradients included. ValueError
    when there is no waveform, or it does not depend on the frames, or a gradient is not finite.
    """
    video = batch.video.detach().requires_grad_(True)
    with torch.enable_grad():
        signal = waveforms(dataclasses.replace(batch, video=video)).double()
        if signal.dim() != 2:
            raise ValueError(f"an answer of shape {tuple(signal.shape)} is no waveform (B, T)")
        energy = (signal - signal.mean(-1, keepdim=True)).square().sum() / 2
        if not energy.requires_grad:
            raise ValueError("the waveform does not depend on the frames")
        gradient, = torch.autograd.grad(energy, video, allow_unused=True)
    if gradient is None:
        raise ValueError("the waveform does not depend on the frames")
    gradient, still = gradient.double(), video.detach().double().mean(2, keepdim=True)
    return {
        "sensitivity": _shares(gradient.square().mean((1, 2)).sqrt()),
        "contribution": _shares((gradient * (video.detach() - still)).sum((1, 2)).abs()),
    }


def _shares(strength: Tensor) -> Array:
    """(B, H, W), not negative -> the same with a sum of 1; ValueError where that cannot be."""
    total = strength.sum((1, 2), keepdim=True)
    if not bool(torch.isfinite(total).all()) or not bool((total > 0).all()):
        raise ValueError("the gradient of the waveform is zero or not finite")
    return np.asarray((strength / total).cpu().numpy(), dtype=np.float64)


def without_fused_recurrence(net: nn.Module) -> AbstractContextManager[None]:
    """A context in which recurrent layers in evaluation mode have a gradient (cuDNN's have none there)."""
    if any(isinstance(module, nn.RNNBase) for module in net.modules()):
        context: AbstractContextManager[None] = torch.backends.cudnn.flags(enabled=False)
        return context
    return nullcontext()


def region_table(weight: Array, regions: Mapping[str, Array]) -> dict[str, dict[str, float | None]]:
    """By region: "share" of the map's weight, "area" of the picture, and "density", share over area.

    A density of 1 is the average of the picture; null for a region without area.
    """
    table: dict[str, dict[str, float | None]] = {}
    for name, mask in regions.items():
        share, area = float((weight * mask).sum()), float(mask.mean())
        table[name] = {"share": share, "area": area, "density": share / area if area > 0 else None}
    return table


def summary(found: Sequence[Attention], method: str) -> dict[str, Any]:
    """attention.json: for each of MAPS, by region the means over recordings; and each recording's own."""
    tables = {one.key: {name: region_table(one.maps[name], one.regions) for name in MAPS} for one in found}
    with_regions = [tables[one.key] for one in found if one.regions]
    names = list(with_regions[0][MAPS[0]]) if with_regions else []
    return {
        "method": method, "n_recordings": len(found), "n_with_regions": len(with_regions),
        "reason": None if with_regions else "no face mesh is stored for these recordings",
        "regions": {which: {name: {key: _mean([table[which][name][key] for table in with_regions])
                                   for key in ("share", "area", "density")} for name in names}
                    for which in MAPS},
        "recordings": tables,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
