"""How the net learned: loss, error of the validation part, learning rate."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from evaluation.figures.style import GREY, LABEL, PALETTE, Array, new, styled

TRAIN, VALID = PALETTE[0], LABEL


@styled
def training_curves(
    steps: Mapping[str, Array], epochs: Mapping[str, Array], best_step: float | None = None
) -> Figure:
    """Loss over steps, what was measured after epochs, and the learning rate where it was logged.

    steps: "step" and "loss" (N,), perhaps "term/<name>" and "lr/<name>" (N,); epochs: "step" (M,) and one
    array per measure of the validation part; best_step: where the best checkpoint was taken.
    """
    measures = [name for name in epochs if name != "step" and np.isfinite(epochs[name]).any()]
    drawn = [(_losses, [name for name in measures if name.endswith("loss")])]
    bpm = [name for name in measures if name.endswith("_bpm")]
    drawn += [(_errors, bpm)] if bpm else []
    ratios = [name for name in measures if name.endswith("_ratio")]
    drawn += [(_ratios, ratios)] if ratios else []
    terms = [name for name in steps if name.startswith("term/") and np.isfinite(steps[name]).any()]
    drawn += [(_terms, terms)] if terms else []
    rates = [name for name in steps if name.startswith("lr/") and np.isfinite(steps[name]).any()]
    drawn += [(_rates, rates)] if rates else []
    columns = min(len(drawn), 3)
    rows = -(-len(drawn) // columns)
    figure, axes = new(1.1 + 2.55 * columns, 2.7 * rows, rows, columns)
    for axis in axes.flat[len(drawn):]:
        axis.set_visible(False)
    for axis, (draw, names) in zip(axes.flat, drawn, strict=False):
        draw(axis, names, steps, epochs)
        axis.set_xlabel("step")
        axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        if best_step is not None and draw in (_losses, _errors, _ratios):
            axis.axvline(best_step, color=GREY, linewidth=0.8, linestyle=":", label="best checkpoint")
        if axis.get_legend_handles_labels()[0]:
            axis.legend()
    return figure


def _losses(axis: Axes, names: list[str], steps: Mapping[str, Array], epochs: Mapping[str, Array]) -> None:
    axis.plot(steps["step"], steps["loss"], color=TRAIN, alpha=0.3, linewidth=0.9)
    axis.plot(steps["step"], running_mean(steps["loss"]), color=TRAIN, label="training")
    for name in names:
        axis.plot(epochs["step"], epochs[name], "o-", ms=3, color=VALID, label="validation")
    axis.set(ylabel="loss", title="Loss")


def _errors(axis: Axes, names: list[str], steps: Mapping[str, Array], epochs: Mapping[str, Array]) -> None:
    for name, dash in zip(names, ["-", "--", ":", "-."] * len(names), strict=False):
        axis.plot(epochs["step"], epochs[name], f"o{dash}", ms=3, color=VALID,
                  label=name.removesuffix("_bpm").upper())
    top = max(float(np.nanmax(epochs[name])) for name in names)
    axis.set(ylabel="error [bpm]", title="Validation heart rate", ylim=(0, 1.15 * top or 1))


def _ratios(axis: Axes, names: list[str], steps: Mapping[str, Array], epochs: Mapping[str, Array]) -> None:
    for name in names:
        axis.plot(epochs["step"], epochs[name], "o-", ms=3, color=VALID, label=name.replace("_", " "))
    axis.set(ylabel="ratio", title="Validation without labels", ylim=(0, 1))


def _terms(axis: Axes, names: list[str], steps: Mapping[str, Array], epochs: Mapping[str, Array]) -> None:
    for index, name in enumerate(names):
        axis.plot(steps["step"], running_mean(steps[name]), color=PALETTE[index % len(PALETTE)],
                  label=name.removeprefix("term/"))
    axis.set(ylabel="value", title="Further terms")


def _rates(axis: Axes, names: list[str], steps: Mapping[str, Array], epochs: Mapping[str, Array]) -> None:
    for index, name in enumerate(names):
        axis.plot(steps["step"], steps[name], color=PALETTE[index % len(PALETTE)],
                  label=name.removeprefix("lr/") if len(names) > 1 else None)
    axis.set(ylabel="learning rate", title="Learning rate")
    axis.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=False)
    axis.set_ylim(bottom=0)


def running_mean(values: Array) -> Array:
    """Centred mean over a twentieth of the curve (N,), so that the trend of a noisy one is seen."""
    width = max(1, len(values) // 40) * 2 + 1
    known = np.isfinite(values)
    window = np.ones(width)
    total = np.convolve(np.where(known, values, 0.0), window, "same")[: len(values)]
    count = np.convolve(known, window, "same")[: len(values)]
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
