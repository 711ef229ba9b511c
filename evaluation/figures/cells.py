"""The cells of a genotype as a drawing: nodes from left to right, operations on the edges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.figures.style import GREY, LABEL, PALETTE, SMALL, new, save, styled

PLACES = {"s0": (0.0, 1.6), "s1": (0.0, -1.6), "b1": (2.9, 1.3), "b2": (5.4, -1.3), "b3": (7.9, 1.3),
          "out": (9.9, 0.0)}
CURVE = 0.16
Point = tuple[float, float]


def write_cells(path: Path, genotype: dict[str, Any]) -> None:
    """Write the drawing of a genotype.json's content (`nets.layers.genotype`) to a .png or .pdf."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save(draw_cells(genotype), path)


@styled
def draw_cells(genotype: dict[str, Any], titles: Sequence[str] | None = None) -> Figure:
    """A panel per cell; a colour per kind of operation. titles: of the panels, in place of their blocks."""
    cells = genotype["cells"]
    figure, axes = new(8.4, 3.8 * len(cells), len(cells), 1)
    every = ["the cell of every block"] if len(cells) == 1 else None
    blocks = titles or every or [f"the cells of block {number + 1}" for number in range(len(cells))]
    for axis, cell, title in zip(axes[:, 0], cells, blocks, strict=True):
        _draw_cell(axis, cell, genotype["inputs"])
        axis.set_title(title)
    return figure


def _draw_cell(axis: Axes, cell: dict[str, Any], inputs: int) -> None:
    axis.set_xlim(-0.8, 10.7)
    axis.set_ylim(-2.5, 2.5)
    axis.set_aspect("equal")  # so that labels lie on the bent arrows
    axis.set_axis_off()
    for node, edges in cell.items():
        for place, edge in enumerate(edges):
            _draw_edge(axis, PLACES[edge["from"]], PLACES[node], edge["operation"], place)
        _arrow(axis, PLACES[node], PLACES["out"], GREY, 0.0)
    names = {"s0": "two cells\nbefore", "s1": "the cell\nbefore", "out": "all nodes'\nchannels"}
    for node, (x, y) in PLACES.items():
        if node != "s0" or inputs == 2:
            axis.text(x, y, names.get(node, node), ha="center", va="center", zorder=3, fontsize=SMALL + 1,
                      bbox={"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": LABEL})


def _draw_edge(axis: Axes, start: Point, end: Point, operation: str, place: int) -> None:
    """An arrow with its operation on it; edges into one node bend to different sides."""
    curve = CURVE if place % 2 else -CURVE
    colour = _colour(operation)
    _arrow(axis, start, end, colour, curve)
    (x0, y0), (x1, y1) = start, end
    x, y = (x0 + x1) / 2 + curve / 2 * (y1 - y0), (y0 + y1) / 2 - curve / 2 * (x1 - x0)
    angle = math.degrees(math.atan2(y1 - y0, x1 - x0))
    axis.text(x, y, operation.replace("_", " "), ha="center", va="center", color=colour, fontsize=SMALL,
              rotation=angle, zorder=2, bbox={"boxstyle": "square,pad=0.1", "facecolor": "white",
                                              "edgecolor": "none"})


def _arrow(axis: Axes, start: Point, end: Point, colour: str, curve: float) -> None:
    axis.annotate("", end, start, zorder=1, arrowprops={
        "arrowstyle": "-|>", "color": colour, "shrinkA": 18, "shrinkB": 16,
        "connectionstyle": f"arc3,rad={curve}"})


def _colour(operation: str) -> str:
    """One colour for each of: temporal difference, over time and space, space, time, identity."""
    kind = next((i for i, start in enumerate(("tdc", "conv_3x3x3", "conv_1x", "conv")) if
                 operation.startswith(start)), 4)
    return (PALETTE[1], PALETTE[0], PALETTE[2], PALETTE[3], GREY)[kind]
