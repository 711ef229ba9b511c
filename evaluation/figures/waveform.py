"""Waveforms over labels with their spectra, and the plot of `predict`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from evaluation.figures.style import (
    GREY,
    GRID,
    LABEL,
    PALETTE,
    SMALL,
    Array,
    legend,
    new,
    save,
    short,
    styled,
)

AXIS_BPM = (40, 200)


@styled
def waveforms(panels: Sequence[Mapping[str, Any]], method: str) -> Figure:
    """Prediction over label, and both spectra, a row per recording.

    panels: title, time_s (n,), label (n,) or None, prediction (n,), frequency_bpm (F,), label_power (F,) or
    None, power (F,), reference_bpm, predicted_bpm.
    """
    figure, axes = new(7.4, 0.6 + 1.38 * len(panels), len(panels), 2, width_ratios=(3, 1))
    handles: dict[str, Any] = {}
    for (left, right), panel in zip(axes, panels, strict=True):
        if panel["label"] is not None:
            handles["label"], = left.plot(panel["time_s"], panel["label"], color=LABEL, linewidth=1.0)
            right.fill_between(panel["frequency_bpm"], panel["label_power"], color=GREY, alpha=0.45, lw=0.8)
        handles[method], = left.plot(panel["time_s"], panel["prediction"], color=PALETTE[0])
        left.set_title(panel["title"], fontsize=SMALL + 0.5)
        left.set_yticks([])
        left.set_xlim(panel["time_s"][0], panel["time_s"][-1])
        right.plot(panel["frequency_bpm"], panel["power"], color=PALETTE[0], linewidth=1.1)
        right.axvline(panel["reference_bpm"], color=LABEL, linewidth=0.9, linestyle=":")
        right.set_yticks([])
        right.set_xlim(max(AXIS_BPM[0], panel["frequency_bpm"][0]),
                       max(AXIS_BPM[1], 1.15 * panel["reference_bpm"], 1.15 * panel["predicted_bpm"]))
        right.set_title(f"{panel['predicted_bpm']:.1f} / {panel['reference_bpm']:.1f} bpm",
                        fontsize=SMALL + 0.5)
    legend(figure, handles, loc="outside upper right", ncols=2)
    axes[-1][0].set_xlabel("time [s]")
    axes[-1][1].set_xlabel("frequency [bpm]")
    return figure


@styled
def _prediction(waveform: Array, time_s: Array, rates: Array, summary: Mapping[str, Any]) -> Figure:
    """Waveform above, heart rate over time below."""
    figure, axes = new(8.0, 4.2, 2, 1, sharex=True)
    top, bottom = axes[0][0], axes[1][0]
    top.plot(time_s, waveform, color=PALETTE[0], linewidth=0.9)
    rate = summary["heart_rate_bpm"]
    shown = "no heart rate" if rate is None else f"{rate:.1f} bpm"
    snr = summary["snr_db"]
    clear = "" if snr is None else f", SNR {snr:.1f} dB"
    title = f"{short(summary['method'])}: {shown}, quality {summary['quality']:.2f}{clear}"
    top.set(title=title, ylabel="pulse [a.u.]")
    top.set_yticks([])
    if len(rates):
        bottom.plot(rates[:, 0], rates[:, 1], "o-", ms=3, color=PALETTE[1])
        middle = float(np.median(rates[:, 1]))
        reach = max(15.0, 1.2 * float(np.abs(rates[:, 1] - middle).max()))
        bottom.set_ylim(middle - reach, middle + reach)
    bottom.set(xlabel="time [s]", ylabel="heart rate [bpm]")
    bottom.grid(color=GRID)
    return figure


def plot_prediction(
    path: Path, waveform: Any, time_s: Any, rates: Sequence[Sequence[float]], summary: Mapping[str, Any]
) -> None:
    """plot.png of `predict`: waveform (T,) at time_s (T,) and rates as (time, bpm, SNR) rows."""
    table = np.array(rates, dtype=np.float64).reshape(-1, 3)
    save(_prediction(np.asarray(waveform), np.asarray(time_s), table, summary), path)
