"""How clear the waveforms are: signal-to-noise ratios, and whether there is a pulse at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.figures.agreement import FLOOR_BPM
from evaluation.figures.style import (
    GREY,
    GRID,
    LABEL,
    MAX_TITLE,
    Array,
    cloud,
    legend,
    new,
    panels,
    short,
    styled,
)

MIN_BOX = 8
"""Below so many values a box would pretend to know quartiles; only the points are drawn."""


@styled
def snr_distribution(values: Mapping[str, Array], name: str, tint: Mapping[str, str]) -> Figure:
    """Signal-to-noise ratios of each method: method -> (n,) in dB; name: of the variant.

    Boxes from quartile to quartile with the median, whiskers to the 5th and 95th percentile; the units
    stand below their box.
    """
    figure, axes = new(4.7, 0.9 + 0.46 * len(values))
    axis: Axes = axes[0][0]
    for place, (method, found) in enumerate(reversed(list(values.items()))):
        axis.scatter(found, np.full(len(found), place - 0.3), marker="|", s=24, color=tint[method],
                     alpha=0.5, linewidths=0.8, rasterized=len(found) > 4000)
        if len(found) >= MIN_BOX:
            axis.boxplot(found, positions=[place + 0.08], widths=0.42, whis=(5, 95), showfliers=False,
                         orientation="horizontal", patch_artist=True, manage_ticks=False,
                         boxprops={"facecolor": tint[method], "alpha": 0.75, "linewidth": 0.8},
                         medianprops={"color": LABEL, "linewidth": 1.6})
    axis.axvline(0, color=GREY, linewidth=0.8, zorder=0)
    axis.set_yticks(range(len(values)), [short(method) for method in reversed(list(values))])
    axis.set(xlabel=name, ylim=(-0.6, len(values) - 0.4))
    axis.grid(axis="x", color=GRID)
    return figure


@styled
def error_over_snr(
    points: Mapping[str, tuple[Array, Array]], name: str, tint: Mapping[str, str]
) -> Figure:
    """Absolute error over the signal-to-noise ratio, a panel per method: method -> (SNR in dB, bpm)."""
    figure, axes = panels(len(points), 1.95, 2.0, 4, sharex=True, sharey=True)
    top = max(float(error.max()) for _, error in points.values())
    for axis, (method, (snr, error)) in zip(axes, points.items(), strict=True):
        axis.scatter(snr, np.maximum(error, FLOOR_BPM), color=tint[method], **cloud(len(snr)))
        axis.axvline(0, color=GREY, linewidth=0.8, zorder=0)
        axis.set(yscale="log", ylim=(0.8 * FLOOR_BPM, max(1.5 * top, 12)), title=short(method, MAX_TITLE))
        axis.set_yticks([0.1, 1, 10, *([100] if top > 60 else [])])
        axis.yaxis.set_major_formatter(lambda value, _: "≤0.1" if value <= FLOOR_BPM else f"{value:g}")
        axis.minorticks_off()
        axis.grid(color=GRID)
    figure.supxlabel(name, fontsize=9)
    figure.supylabel("absolute error [bpm]", fontsize=9)
    return figure


@styled
def detections(rows: Sequence[Mapping[str, Any]], tint: Mapping[str, str], mark: Mapping[str, str]) -> Figure:
    """How far each waveform stands out of noise of its colour: SNR above what one noise in twenty exceeds.

    rows: of a part without references as in metrics.json; filled marks: a periodic signal was found.
    """
    methods = [method for method in tint if any(row["method"] == method for row in rows)]
    figure, axes = new(5.4, 1.0 + 0.32 * len(methods))
    axis: Axes = axes[0][0]
    handles: dict[str, Any] = {}
    for place, method in enumerate(reversed(methods)):
        mine = [row for row in rows if row["method"] == method and row["snr_db"] is not None
                and row["surrogate_snr_db_95"] is not None]
        for found in (False, True):
            margin = [row["snr_db"] - row["surrogate_snr_db_95"] for row in mine if row["found"] is found]
            axis.scatter(margin, [place] * len(margin), s=34, marker=mark[method], linewidths=1.1,
                         edgecolors=tint[method], facecolors=tint[method] if found else "none", zorder=3)
    for text, face in (("found", LABEL), ("not found", "none")):
        handles[text] = axis.scatter([], [], s=30, edgecolors=LABEL, facecolors=face, linewidths=1.1)
    axis.axvline(0, color=GREY, linewidth=0.9)
    axis.set_yticks(range(len(methods)), [short(method) for method in reversed(methods)])
    axis.set(xlabel="SNR above the 95th percentile of noise [dB]", ylim=(-0.6, len(methods) - 0.4))
    axis.grid(axis="x", color=GRID)
    legend(figure, handles, loc="outside upper right", ncols=2)
    return figure
