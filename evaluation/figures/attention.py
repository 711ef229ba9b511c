"""What the net looks at: maps over the face, and how they fall on the facial regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from evaluation.attention import MAPS, Attention
from evaluation.figures.style import GREY, GRID, PALETTE, SMALL, new, short, styled

TITLES = {"sensitivity": "Sensitivity", "contribution": "Contribution"}
HEIGHT = 0.36


@styled
def attention(found: Sequence[Attention], summary: Mapping[str, Any]) -> Figure:
    """The mean maps over the mean face of the recordings, beside their density in every region.

    summary: of `evaluation.attention`; without regions the maps stand alone. The face is the mean of
    the recordings at the size the net sees. A dot is one recording.
    """
    has_regions = bool(summary["n_with_regions"])
    figure, axes = new(7.4 if has_regions else 4.6, 2.75, 1, 3 if has_regions else 2,
                       **({"width_ratios": (1, 1, 1.25)} if has_regions else {}))
    for axis, name in zip(axes[0], MAPS, strict=False):
        _map(figure, axis, found, name)
    if has_regions:
        _bars(axes[0][2], summary)
    title = f"{short(summary['method'])}: mean of {len(found)} recording{'s' if len(found) > 1 else ''}"
    figure.suptitle(title, fontsize=9.5, x=0.01, ha="left")
    return figure


def _map(figure: Figure, axis: Any, found: Sequence[Attention], name: str) -> None:
    """Colour over the grey face, the stronger the more opaque."""
    weight = np.mean([one.maps[name] for one in found], axis=0)
    grey = np.mean([one.face.mean(-1) for one in found], axis=0)
    density = weight * weight.size
    axis.imshow(grey, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    top = max(float(np.percentile(density, 99.5)), 1.5)
    shown = axis.imshow(density, cmap="inferno", vmin=0, vmax=top, interpolation="nearest",
                        alpha=np.clip(density / top, 0, 1) * 0.75)
    below = axis.inset_axes((0.0, -0.1, 1.0, 0.05))  # stays with the picture, whose sides are equal
    bar = figure.colorbar(shown, cax=below, orientation="horizontal")
    bar.set_label("1 = mean of the picture", fontsize=SMALL)
    axis.set(title=TITLES[name], xticks=[], yticks=[])


def _bars(axis: Any, summary: Mapping[str, Any]) -> None:
    """Density of every region in both maps, the highest contribution at the top; a dot a recording."""
    last = summary["regions"][MAPS[-1]]
    names = sorted((name for name in last if last[name]["density"] is not None),
                   key=lambda name: last[name]["density"])
    for index, which in enumerate(MAPS):
        places = np.arange(len(names)) + (0.5 - index) * HEIGHT
        axis.barh(places, [summary["regions"][which][name]["density"] for name in names], height=HEIGHT,
                  color=PALETTE[index], alpha=0.8, label=which)
        for place, name in zip(places, names, strict=True):
            cells = [table[which][name]["density"] for table in summary["recordings"].values()
                     if name in table[which]]
            values = [value for value in cells if value is not None]
            axis.scatter(values, [place] * len(values), s=7, color=GREY, zorder=3, linewidths=0)
    axis.axvline(1, color=GREY, linewidth=0.9, linestyle="--")
    axis.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axis.grid(axis="x", color=GRID)
    axis.set_axisbelow(True)
    axis.legend(loc="lower right", fontsize=SMALL)
    axis.set(xlabel="weight per area, mean = 1", xlim=(0, None), title="By facial region")
