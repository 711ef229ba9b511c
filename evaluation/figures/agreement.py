"""Predicted against reference rates: scatter, Bland-Altman, shares of small errors, error over rate."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator

from evaluation.figures.style import (
    BAND,
    GREY,
    GRID,
    LABEL,
    MAX_TITLE,
    SMALL,
    Array,
    cloud,
    legend,
    new,
    padded,
    panels,
    short,
    signed,
    styled,
)

Pairs = Mapping[str, tuple[Array, Array]]
"""Method -> (reference, predicted) rates in bpm, each (n,)."""
FLOOR_BPM = 0.1
"""Errors are drawn on a logarithmic axis from here; smaller ones stand at its left or lower end."""
MAX_STEPS = 2000
"""Steps of a curve of shares; overlapping windows make a hundred thousand units."""


@styled
def scatter(pairs: Pairs, notes: Mapping[str, str], tint: Mapping[str, str]) -> Figure:
    """Predicted over reference rate, a panel per method; notes: what is written above each."""
    figure, axes = panels(len(pairs), 1.95, 2.6, 4, sharex=True, sharey=True)
    low, high = padded(np.concatenate([np.concatenate(pair) for pair in pairs.values()]), least=5.0)
    step = 50 if high - low > 150 else 40 if high - low > 110 else 20
    for axis, (method, (reference, predicted)) in zip(axes, pairs.items(), strict=True):
        axis.plot([low, high], [low, high], color=GREY, linewidth=0.8, linestyle="--")
        axis.scatter(reference, predicted, color=tint[method], **cloud(len(reference)))
        axis.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        axis.set_title(f"{short(method, MAX_TITLE)}\n{notes[method]}", fontsize=SMALL)
        axis.yaxis.set_major_locator(MultipleLocator(step))
        axis.xaxis.set_major_locator(MultipleLocator(step))
    figure.supxlabel("reference [bpm]", fontsize=9)
    figure.supylabel("predicted [bpm]", fontsize=9)
    return figure


@styled
def bland_altman(pairs: Pairs, notes: Mapping[str, str], tint: Mapping[str, str]) -> Figure:
    """Difference over mean of both rates, with bias and 95 % limits of agreement written in.

    Bland & Altman (1986): limits are bias +- 1.96 sample standard deviations of the difference. Each panel
    has a scale of its own, as methods may differ a hundredfold; notes: what is written below each title.
    """
    columns, width = (2, 3.7) if len(pairs) in (2, 4) else (3, 3.2 if len(pairs) > 1 else 4.6)
    figure, axes = panels(len(pairs), width, 2.5, columns, sharex=True)
    for axis, (method, (reference, predicted)) in zip(axes, pairs.items(), strict=True):
        _one_bland_altman(axis, reference, predicted, tint[method])
        axis.set_title(f"{short(method)}\n{notes[method]}", fontsize=SMALL + 0.5)
    figure.supxlabel("mean of prediction and reference [bpm]", fontsize=9)
    figure.supylabel("prediction − reference [bpm]", fontsize=9)
    return figure


def limits_of_agreement(reference: Array, predicted: Array) -> tuple[float, float | None]:
    """Bias, and 1.96 sample standard deviations of the difference; None for a single pair."""
    difference = predicted - reference
    spread = 1.96 * float(difference.std(ddof=1)) if len(difference) > 1 else None
    return float(difference.mean()), spread


def _one_bland_altman(axis: Axes, reference: Array, predicted: Array, colour: str) -> None:
    """Draw one panel, as far up as down."""
    difference = predicted - reference
    bias, spread = limits_of_agreement(reference, predicted)
    if spread is not None:
        axis.axhspan(bias - spread, bias + spread, color=BAND, linewidth=0, alpha=0.7)
        for value in (bias - spread, bias + spread):
            axis.axhline(value, color=LABEL, linewidth=0.9, linestyle="--")
    axis.scatter((reference + predicted) / 2, difference, color=colour, **cloud(len(difference)))
    axis.axhline(0, color=GREY, linewidth=0.7)
    axis.axhline(bias, color=LABEL, linewidth=0.9)
    reach = 1.12 * max(float(np.abs(difference).max()), abs(bias) + (spread or 0.0), 0.05)
    axis.set_ylim(-reach, reach)


def agreement_note(reference: Array, predicted: Array, bias_limits: tuple[float, float] | None) -> str:
    """Bias with its interval over subjects, limits of agreement and n, in two lines."""
    bias, spread = limits_of_agreement(reference, predicted)
    interval = f" [{signed(bias_limits[0])}, {signed(bias_limits[1])}]" if bias_limits else ""
    limits = "–" if spread is None else f"{signed(bias - spread)} to {signed(bias + spread)}"
    return f"bias {signed(bias)}{interval} bpm, n = {len(reference)}\nlimits of agreement {limits} bpm"


@styled
def error_shares(pairs: Pairs, tint: Mapping[str, str]) -> Figure:
    """Share of the scored units whose absolute error is at most x, a curve per method."""
    figure, axes = new(4.7, 2.9)
    axis: Axes = axes[0][0]
    top = max(float(np.abs(predicted - reference).max()) for reference, predicted in pairs.values())
    end = max(1.3 * top, 12.0)
    handles = {}
    for method, (reference, predicted) in pairs.items():
        errors = np.sort(np.maximum(np.abs(predicted - reference), FLOOR_BPM))
        shown = np.unique(np.linspace(0, len(errors) - 1, MAX_STEPS).astype(int))
        x = np.concatenate([[FLOOR_BPM], errors[shown], [end]])
        y = 100 * np.concatenate([[0.0], (shown + 1) / len(errors), [1.0]])
        handles[method], = axis.step(x, y, where="post", color=tint[method],
                                     linestyle="--" if method == "constant" else "-")
    for value in (2.5, 5, 10):
        axis.axvline(value, color=GRID, linewidth=1, zorder=0)
    axis.set(xscale="log", xlim=(FLOOR_BPM, end), ylim=(0, 102), xlabel="absolute error [bpm]",
             ylabel="units with at most this error [%]")
    axis.set_xticks([0.1, 1, 2.5, 5, 10, *([50] if end > 60 else [])])
    axis.minorticks_off()
    axis.xaxis.set_major_formatter(lambda value, _: "≤0.1" if value <= FLOOR_BPM else f"{value:g}")
    legend(figure, handles, loc="outside right center")
    return figure


@styled
def error_over_rate(pairs: Pairs, tint: Mapping[str, str], mark: Mapping[str, str]) -> Figure:
    """Mean absolute error within ranges of the reference rate, with the number of units of each range.

    The points are the units of the first method. Ranges are 10 bpm wide, or wider where rates span more.
    """
    figure, axes = new(7.2, 3.4, 2, 1, sharex=True, height_ratios=(4, 1))
    axis, below = axes[0][0], axes[1][0]
    everything = np.concatenate([reference for reference, _ in pairs.values()])
    width = 10.0 * max(1, int(np.ceil((everything.max() - everything.min()) / 150)))
    edges = np.arange(np.floor(everything.min() / width), np.floor(everything.max() / width) + 2) * width
    centres = (edges[1:] + edges[:-1]) / 2
    first = next(iter(pairs))
    handles, tops = {}, [0.5]
    for method, (reference, predicted) in pairs.items():
        error = np.abs(predicted - reference)
        place = np.digitize(reference, edges) - 1
        n = np.bincount(place, minlength=len(centres))
        mean = np.bincount(place, error, len(centres)) / np.where(n, n, np.nan)
        dash = "--" if method == "constant" else "-"
        handles[method], = axis.plot(centres, mean, dash, marker=mark[method], ms=4, color=tint[method],
                                     zorder=4 if method == first else 3)
        tops.append(float(np.nanmax(mean)))
        if method == first:
            axis.scatter(reference, error, color=tint[method], **{**cloud(len(error)), "alpha": 0.3})
            tops.append(float(np.quantile(error, 0.98)))
            below.bar(centres, n, width=0.85 * width, color=GREY)
    axis.set(ylabel="absolute error [bpm]", ylim=(0, 1.1 * max(tops)))
    axis.grid(axis="y", color=GRID)
    below.set(xlabel=f"reference heart rate [bpm], in ranges of {width:g}", ylabel="units")
    below.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    legend(figure, handles, loc="outside right center")
    return figure
