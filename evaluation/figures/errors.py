"""Whose errors they are: by method, by subject, by condition, and between methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evaluation.figures.style import (
    GREY,
    GRID,
    LABEL,
    SMALL,
    legend,
    new,
    short,
    signed,
    styled,
    without_common_prefix,
)

MAX_SUBJECTS = 30
MAX_VALUES = 20


@styled
def method_bars(rows: Sequence[Mapping[str, Any]], tint: Mapping[str, str]) -> Figure:
    """MAE of every method with its confidence interval, and RMSE as a mark; rows as in metrics.json."""
    rows = [row for row in rows if row["mae_bpm"] is not None]
    figure, axes = new(4.9, 0.9 + 0.3 * len(rows))
    axis: Axes = axes[0][0]
    for place, row in enumerate(reversed(rows)):
        value, limits = row["mae_bpm"], (row["ci95"] or {}).get("mae_bpm")
        axis.barh(place, value, color=tint[row["method"]], height=0.62, alpha=0.85)
        if limits:
            axis.plot(limits, [place, place], color=LABEL, linewidth=1.4, solid_capstyle="butt")
        axis.plot(row["rmse_bpm"], place, "D", ms=4, mfc="white", mec=LABEL, mew=0.9)
        end = max(value, row["rmse_bpm"], limits[1] if limits else 0)
        axis.text(end, place, f"   {value:.2f} / {row['rmse_bpm']:.2f}", va="center", fontsize=SMALL)
    axis.set_yticks(range(len(rows)), [short(row["method"]) for row in reversed(rows)])
    interval = "; line: 95 % interval of the MAE" if any(row["ci95"] for row in rows) else ""
    axis.set(xlabel=f"MAE (bar) / RMSE (diamond) [bpm]{interval}")
    axis.margins(x=0.2)
    axis.set_xlim(left=0)
    return figure


@styled
def subject_errors(
    errors: Mapping[str, Mapping[str, float]], tint: Mapping[str, str], mark: Mapping[str, str]
) -> Figure:
    """Mean absolute error of every subject: subject -> method -> bpm; the worst MAX_SUBJECTS by name.

    Methods in the order of `tint`; the first one orders the subjects. The others are one line: their median.
    """
    methods = [method for method in tint if any(method in found for found in errors.values())]
    first = methods[0]
    ordered = sorted(errors, key=lambda subject: -errors[subject].get(first, float("inf")))
    cut = len(ordered) if len(ordered) <= MAX_SUBJECTS + 1 else MAX_SUBJECTS
    lines = {name: errors[subject] for name, subject in
             zip(without_common_prefix(ordered)[:cut], ordered, strict=False)}
    if cut < len(ordered):
        rest = [errors[subject] for subject in ordered[cut:]]
        lines[f"median of the other {len(rest)}"] = {
            method: float(np.median([found[method] for found in rest if method in found]))
            for method in methods if any(method in found for found in rest)
        }
    figure, axes = new(7.2, max(0.9 + 0.2 * len(lines), 0.5 + 0.19 * len(methods)))
    axis: Axes = axes[0][0]
    handles = _dots(axis, list(lines.values()), {name: tint[name] for name in methods}, mark)
    axis.set_yticks(range(len(lines))[::-1], list(lines))
    axis.set(xlabel="mean absolute error [bpm]", ylim=(-0.7, len(lines) - 0.3))
    axis.set_xlim(left=0)
    if cut < len(ordered):
        axis.set_title(f"The worst {cut} of {len(ordered)} subjects")
    legend(figure, handles, loc="outside right center")
    return figure


def _dots(
    axis: Axes, lines: Sequence[Mapping[str, float]], tint: Mapping[str, str], mark: Mapping[str, str]
) -> dict[str, Any]:
    """A dot per line (from the top) and method, a stem for the first method; returns the legend's handles."""
    places = np.arange(len(lines))[::-1]
    first = next(iter(tint))
    handles: dict[str, Any] = {}
    for rank, method in enumerate(tint):
        values = [line.get(method, np.nan) for line in lines]
        is_first = method == first
        style = {"linewidths": 1.8} if mark[method] == "|" else {"linewidths": 0}
        handles[method] = axis.scatter(
            values, places, s=70 if mark[method] == "|" else 34 if is_first else 22, color=tint[method],
            marker=mark[method], alpha=1 if is_first else 0.75, zorder=3 + len(tint) - rank, **style,
        )
        if is_first:
            axis.hlines(places, 0, values, color=tint[method], linewidth=1.2)
    axis.grid(axis="x", color=GRID)
    return handles


@styled
def condition_errors(
    conditions: Mapping[str, Mapping[str, Any]], tint: Mapping[str, str], mark: Mapping[str, str]
) -> Figure:
    """MAE under each value of each condition; conditions as in metrics.json, value -> rows of methods."""
    tables = {name: _values(values) for name, values in conditions.items()}
    counts = [len(lines) for lines in tables.values()]
    found = {method for lines in tables.values() for line in lines.values() for method in line}
    heights = [0.55 + 0.23 * n for n in counts]
    figure, axes = new(7.2, max(0.6 + sum(heights), 0.5 + 0.19 * len(found)), len(tables), 1, sharex=True,
                       height_ratios=heights)
    handles: dict[str, Any] = {}
    for axis, (name, lines) in zip(axes[:, 0], tables.items(), strict=True):
        handles |= _dots(axis, list(lines.values()), {m: c for m, c in tint.items() if m in found}, mark)
        _intervals(axis, conditions[name], tint)
        axis.set_yticks(range(len(lines))[::-1], list(lines))
        hidden = len(conditions[name]) - len(lines)
        axis.set(title=f"{name}, the {len(lines)} largest of {len(conditions[name])}" if hidden else name,
                 ylim=(-0.6, len(lines) - 0.4))
    axes[-1][0].set_xlabel("MAE [bpm]")
    axes[-1][0].set_xlim(left=0)  # last, as it ends the fitting of the axis that all share
    legend(figure, handles, loc="outside right center")
    return figure


def _values(values: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Line -> method -> MAE, for the values with the most recordings, in their own order."""
    return {
        f"{short(value)} (n = {values[value]['n_recordings']})": {
            row["method"]: row["mae_bpm"] for row in values[value]["rows"] if row["mae_bpm"] is not None
        } for value in _largest(values)
    }


def _largest(values: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The MAX_VALUES values with the most recordings, in their own order."""
    by_size = sorted(values, key=lambda value: -values[value]["n_recordings"])[:MAX_VALUES]
    return [value for value in values if value in by_size]


def _intervals(axis: Axes, values: Mapping[str, Mapping[str, Any]], tint: Mapping[str, str]) -> None:
    """A broad bar from end to end of the first method's interval, where there is one."""
    first = next(iter(tint))
    for place, value in enumerate(reversed(_largest(values))):
        found = [row.get("ci95") for row in values[value]["rows"] if row["method"] == first]
        limits = (found[0] or {}).get("mae_bpm") if found else None
        if limits:
            axis.plot(limits, [place, place], color=tint[first], linewidth=6, alpha=0.25,
                      solid_capstyle="butt")


@styled
def paired_differences(
    first: str, differences: Mapping[str, tuple[float, tuple[float, float] | None]], tint: Mapping[str, str]
) -> Figure:
    """Difference of MAE between the first method and each other, with its interval over subjects.

    differences: other method -> (difference in bpm, 95 % limits or None).
    """
    figure, axes = new(4.9, 1.0 + 0.3 * len(differences))
    axis: Axes = axes[0][0]
    axis.axvline(0, color=GREY, linewidth=0.9)
    for place, (method, (value, limits)) in enumerate(reversed(list(differences.items()))):
        if limits:
            axis.plot(limits, [place, place], color=tint[method], linewidth=2, solid_capstyle="butt")
        axis.plot(value, place, "o", ms=5, color=tint[method])
        axis.annotate(signed(value), (value, place), (0, 6), textcoords="offset points", ha="center",
                      fontsize=SMALL)
    axis.set_yticks(range(len(differences)), [short(method) for method in reversed(list(differences))])
    axis.set(xlabel=f"MAE of {short(first)} minus MAE of the other [bpm]\nbelow 0: {short(first)} is better",
             ylim=(-0.6, len(differences) - 0.2))
    axis.margins(x=0.12)
    axis.grid(axis="x", color=GRID)
    return figure
