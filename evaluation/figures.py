"""Figures of a report and of `predict`: plain matplotlib figures, no global state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator
from numpy.typing import NDArray

from utils.files import atomic

Array = NDArray[np.float64]
P = ParamSpec("P")

LABEL, BAND, GREY = "#3b3b3b", "#dfe7ef", "#9a9a9a"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#8c6d31")
STYLE: Any = {
    "font.size": 9, "axes.titlesize": 9.5, "axes.labelsize": 9, "legend.fontsize": 8,
    "xtick.labelsize": 8, "ytick.labelsize": 8, "axes.spines.top": False, "axes.spines.right": False,
    "axes.linewidth": 0.8, "legend.frameon": False, "lines.linewidth": 1.3, "axes.titlelocation": "left",
}
DPI = 150
MAX_SUBJECTS = 30


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw under the house style without touching matplotlib's own settings."""

    @wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context({**dict(matplotlib.rcParamsDefault), **STYLE, "backend": "agg"}):
            figure = draw(*args, **kwargs)
            FigureCanvasAgg(figure).draw()
            return figure

    return wrapper


def save(figure: Figure, path: Path) -> None:
    """Write a PNG atomically, without a time stamp."""
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})


def colours(methods: Sequence[str]) -> dict[str, str]:
    """One colour per method, in order; `constant` is grey."""
    named = [method for method in methods if method != "constant"]
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(named)} | {"constant": GREY}


def _figure(width: float, height: float, rows: int = 1, columns: int = 1, **grid: Any) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **grid)


@styled
def training_curves(steps: Mapping[str, Array], epochs: Mapping[str, Array]) -> Figure:
    """Loss over steps, and what was measured after epochs.

    steps: "step" and "loss" (N,); epochs: "step" (M,) and one array per measure of the validation part.
    """
    measures = [name for name in epochs if name != "step" and np.isfinite(epochs[name]).any()]
    rates = [name for name in measures if name.endswith("_bpm")]
    figure, axes = _figure(7.2, 2.8, 1, 2 if rates else 1)
    axis = axes[0][0]
    axis.plot(steps["step"], steps["loss"], color=PALETTE[0], alpha=0.35, linewidth=0.9)
    axis.plot(steps["step"], _running_mean(steps["loss"]), color=PALETTE[0], label="training")
    for name in measures:
        if name.endswith("loss"):
            axis.plot(epochs["step"], epochs[name], "o-", ms=3, color=PALETTE[1], label="validation")
    axis.set(xlabel="step", ylabel="loss", title="Loss")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend()
    for index, name in enumerate(rates):
        axes[0][1].plot(epochs["step"], epochs[name], "o-", ms=3, color=PALETTE[1 + index],
                        label=name.removesuffix("_bpm").upper())
    if rates:
        axes[0][1].set(xlabel="step", ylabel="error [bpm]", title="Heart rate of the validation part")
        axes[0][1].set_ylim(0, 1.15 * max(np.nanmax(epochs[name]) for name in rates))
        axes[0][1].xaxis.set_major_locator(MaxNLocator(integer=True))
        axes[0][1].legend()
    return figure


def _running_mean(values: Array) -> Array:
    """Centred mean over a twentieth of the curve, so that the trend of a noisy one is seen."""
    width = max(1, len(values) // 40) * 2 + 1
    padded = np.pad(values, width // 2, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, width)
    return np.array([np.nanmean(window) if np.isfinite(window).any() else np.nan for window in windows])


@styled
def waveforms(panels: Sequence[Mapping[str, Any]], method: str) -> Figure:
    """Prediction over label, and both spectra, a row per recording.

    panels: title, time_s (n,), label (n,), prediction (n,), frequency_bpm (F,), label_power (F,),
    power (F,), reference_bpm, predicted_bpm.
    """
    figure, axes = _figure(7.4, 0.5 + 1.35 * len(panels), len(panels), 2, width_ratios=(3, 1))
    for (left, right), panel in zip(axes, panels, strict=True):
        left.plot(panel["time_s"], panel["label"], color=LABEL, linewidth=1.0, label="label")
        left.plot(panel["time_s"], panel["prediction"], color=PALETTE[0], label=method)
        left.set_title(panel["title"])
        left.set_yticks([])
        left.set_xlim(panel["time_s"][0], panel["time_s"][-1])
        right.fill_between(panel["frequency_bpm"], panel["label_power"], color=GREY, alpha=0.5, lw=0)
        right.plot(panel["frequency_bpm"], panel["power"], color=PALETTE[0], linewidth=1.1)
        right.axvline(panel["reference_bpm"], color=LABEL, linewidth=0.8, linestyle=":")
        right.set_yticks([])
        right.set_xlim(panel["frequency_bpm"][0], panel["frequency_bpm"][-1])
        right.set_title(f"{panel['predicted_bpm']:.1f} / {panel['reference_bpm']:.1f} bpm")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    axes[-1][0].set_xlabel("time [s]")
    axes[-1][1].set_xlabel("frequency [bpm]")
    return figure


@styled
def scatter(groups: Mapping[str, tuple[Array, Array]], notes: Mapping[str, str]) -> Figure:
    """Predicted over reference rate, a panel per method: method -> (reference, predicted) in bpm."""
    n_columns = min(len(groups), 4)
    n_rows = -(-len(groups) // n_columns)
    size = (1.9 * n_columns + 0.5, 2.1 * n_rows + 0.2)
    figure, axes = _figure(*size, n_rows, n_columns, sharex=True, sharey=True)
    everything = np.concatenate([np.concatenate(pair) for pair in groups.values()])
    low, high = float(everything.min()) - 5, float(everything.max()) + 5
    tint = colours(list(groups))
    for axis in axes.flat[len(groups):]:
        axis.set_visible(False)
    for axis, (method, (reference, predicted)) in zip(axes.flat, groups.items(), strict=False):
        axis.plot([low, high], [low, high], color=GREY, linewidth=0.8, linestyle="--")
        axis.scatter(reference, predicted, s=14, color=tint[method], alpha=0.75, linewidths=0)
        axis.set(xlim=(low, high), ylim=(low, high), title=method, aspect="equal")
        axis.text(0.97, 0.04, notes[method], transform=axis.transAxes, ha="right", fontsize=7.5)
        axis.yaxis.set_major_locator(MultipleLocator(50 if high - low > 150 else 20))
        axis.xaxis.set_major_locator(MultipleLocator(50 if high - low > 150 else 20))
    for axis in axes[:, 0]:
        axis.set_ylabel("predicted [bpm]")
    for axis in axes[-1]:
        axis.set_xlabel("reference [bpm]")
    return figure


@styled
def bland_altman(method: str, reference: Array, predicted: Array) -> Figure:
    """Difference over mean of both rates, with bias and 95 % limits of agreement written in.

    Bland & Altman (1986): limits are bias +- 1.96 sample standard deviations of the difference.
    """
    figure, axes = _figure(4.6, 2.9)
    axis: Axes = axes[0][0]
    mean, difference = (reference + predicted) / 2, predicted - reference
    bias = float(difference.mean())
    spread = 1.96 * float(difference.std(ddof=1)) if len(difference) > 1 else 0.0
    axis.axhspan(bias - spread, bias + spread, color=BAND, linewidth=0)
    axis.scatter(mean, difference, s=16, color=PALETTE[0], alpha=0.8, linewidths=0)
    axis.axhline(0, color=GREY, linewidth=0.7)
    for value, name in ((bias, "bias"), (bias + spread, "+1.96 SD"), (bias - spread, "−1.96 SD")):
        axis.axhline(value, color=PALETTE[1], linewidth=0.9, linestyle="-" if name == "bias" else "--")
        axis.text(1.01, value, f"{name} {value:+.2f}".replace("-", "−"), va="center", fontsize=7.5,
                  transform=axis.get_yaxis_transform(), color=PALETTE[1])
    reach = max(float(np.abs(difference).max()), abs(bias) + spread, 0.05) * 1.4
    axis.set(xlabel="mean of prediction and reference [bpm]", ylabel="prediction − reference [bpm]",
             title=f"{method}, n = {len(difference)}", ylim=(-reach, reach))
    return figure


@styled
def subject_errors(errors: Mapping[str, Mapping[str, float]], methods: Sequence[str]) -> Figure:
    """Mean absolute error of every subject: subject -> method -> bpm; the worst MAX_SUBJECTS."""
    first = methods[0]
    ordered = sorted(errors, key=lambda subject: -errors[subject].get(first, float("inf")))
    shown = ordered[:MAX_SUBJECTS][::-1]
    figure, axes = _figure(7.0, 0.9 + 0.19 * len(shown))
    axis: Axes = axes[0][0]
    tint = colours(methods)
    for rank, method in enumerate(reversed(methods)):
        values = [errors[subject].get(method, np.nan) for subject in shown]
        is_first = method == first
        axis.scatter(values, range(len(shown)), s=30 if is_first else 16, color=tint[method], label=method,
                     marker="o" if is_first else "D", alpha=1 if is_first else 0.7, linewidths=0,
                     zorder=3 + rank)
        if is_first:
            axis.hlines(range(len(shown)), 0, values, color=tint[first], linewidth=1.2)
    axis.set_yticks(range(len(shown)), _without_common_prefix(shown))
    hidden = len(ordered) - len(shown)
    axis.set(xlabel="mean absolute error [bpm]", ylim=(-0.7, len(shown) - 0.3),
             title=f"The worst {len(shown)} of {len(ordered)} subjects" if hidden else "Error by subject")
    axis.set_xlim(left=0)
    axis.grid(axis="x", color="#eeeeee")
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside right center")
    return figure


def _without_common_prefix(names: Sequence[str]) -> list[str]:
    """Names without the dataset that all of them begin with."""
    sets = {name.partition(".")[0] for name in names}
    return [name.partition(".")[2] or name for name in names] if len(sets) == 1 else list(names)


@styled
def method_bars(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """MAE of every method with its confidence interval; rows as in metrics.json."""
    rows = [row for row in rows if row["mae_bpm"] is not None]
    figure, axes = _figure(4.6, 0.8 + 0.3 * len(rows))
    axis: Axes = axes[0][0]
    tint = colours([row["method"] for row in rows])
    for place, row in enumerate(reversed(rows)):
        value, limits = row["mae_bpm"], (row["ci95"] or {}).get("mae_bpm")
        axis.barh(place, value, color=tint[row["method"]], height=0.62, alpha=0.85)
        if limits:
            axis.plot(limits, [place, place], color=LABEL, linewidth=1.4, solid_capstyle="butt")
        axis.text(max(value, limits[1] if limits else 0), place, f"  {value:.2f}", va="center", fontsize=8)
    axis.set_yticks(range(len(rows)), [row["method"] for row in reversed(rows)])
    interval = " and 95 % interval over subjects" if any(row["ci95"] for row in rows) else ""
    axis.set(xlabel=f"MAE{interval} [bpm]")
    axis.margins(x=0.15)
    return figure


@styled
def _prediction(waveform: Array, time_s: Array, rates: Array, summary: Mapping[str, Any]) -> Figure:
    """Waveform above, heart rate over time below."""
    figure, axes = _figure(8.0, 4.2, 2, 1, sharex=True)
    top, bottom = axes[0][0], axes[1][0]
    top.plot(time_s, waveform, color=PALETTE[0], linewidth=0.9)
    rate = summary["heart_rate_bpm"]
    shown = "no heart rate" if rate is None else f"{rate:.1f} bpm"
    snr = summary["snr_db"]
    clear = "" if snr is None else f", SNR {snr:.1f} dB"
    title = f"{summary['method']}: {shown}, quality {summary['quality']:.2f}{clear}"
    top.set(title=title, ylabel="pulse [a.u.]")
    top.set_yticks([])
    if len(rates):
        bottom.plot(rates[:, 0], rates[:, 1], "o-", ms=3, color=PALETTE[1])
        middle = float(np.median(rates[:, 1]))
        reach = max(15.0, 1.2 * float(np.abs(rates[:, 1] - middle).max()))
        bottom.set_ylim(middle - reach, middle + reach)
    bottom.set(xlabel="time [s]", ylabel="heart rate [bpm]")
    bottom.grid(color="#eeeeee")
    return figure


def plot_prediction(
    path: Path, waveform: Any, time_s: Any, rates: Sequence[Sequence[float]], summary: Mapping[str, Any]
) -> None:
    """plot.png of `predict`: waveform (T,) at time_s (T,) and rates as (time, bpm, SNR) rows."""
    table = np.array(rates, dtype=np.float64).reshape(-1, 3)
    save(_prediction(np.asarray(waveform), np.asarray(time_s), table, summary), path)
