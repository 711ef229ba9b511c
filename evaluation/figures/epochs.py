"""Predicted over true waveforms of a few validation recordings, after an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from evaluation.figures.style import LABEL, PALETTE, SMALL, Array, legend, new, save, short, styled
from evaluation.waveforms import RecordingWaveform
from utils.signal import bandpass, fill_gaps

N_SHOWN, SHOWN_S = 3, 15.0
BAND_HZ = (0.6, 5.0)


def write_epoch_figure(
    folder: Path, epoch: int, waveforms: Sequence[RecordingWaveform], method: str
) -> None:
    """folder/epoch_0005.png: the first recordings of the validation part, always the same ones."""
    folder.mkdir(parents=True, exist_ok=True)
    save(_epoch(waveforms[:N_SHOWN], method, epoch), folder / f"epoch_{epoch:04d}.png")


@styled
def _epoch(waveforms: Sequence[RecordingWaveform], method: str, epoch: int) -> Figure:
    """A row per recording: its first seconds, both waveforms band-passed and standardised over them."""
    figure, axes = new(7.4, 0.8 + 1.2 * len(waveforms), len(waveforms), 1)
    handles = {}
    for axis, wave in zip(axes[:, 0], waveforms, strict=True):
        shown = wave.time_s <= wave.time_s[0] + SHOWN_S
        predicted = wave.predictions.get(method, np.full_like(wave.label, np.nan))
        label, prediction = (_shape(row, wave.fps)[shown] for row in (wave.label, predicted))
        handles["label"], = axis.plot(wave.time_s[shown], label, color=LABEL, linewidth=1.0)
        handles[method], = axis.plot(wave.time_s[shown], prediction, color=PALETTE[0])
        axis.set_title(f"{short(wave.key)}, {_correlation(label, prediction)}", fontsize=SMALL + 0.5)
        axis.set_yticks([])
        axis.set_xlim(wave.time_s[0], wave.time_s[shown][-1])
    axes[-1][0].set_xlabel("time [s]")
    figure.suptitle(f"epoch {epoch}, {BAND_HZ[0]}-{BAND_HZ[1]} Hz", fontsize=9.5, x=0.01, ha="left")
    legend(figure, handles, loc="outside upper right", ncols=2)
    return figure


def _shape(values: ArrayLike, fps: float) -> Array:
    """The pulse band of a waveform (T,) with unit deviation; unknown samples stay unknown."""
    known = np.isfinite(values)
    if not known.any():
        return np.asarray(values, dtype=np.float64)
    band = bandpass(fill_gaps(values), fps, *BAND_HZ)
    return np.where(known, band / (band.std() or 1.0), np.nan)


def _correlation(label: Array, prediction: Array) -> str:
    """r of what is shown, where it exists."""
    both = np.isfinite(label) & np.isfinite(prediction)
    if both.sum() < 3 or min(np.ptp(label[both]), np.ptp(prediction[both])) == 0:
        return "r does not exist"
    return f"r = {np.corrcoef(label[both], prediction[both])[0, 1]:.2f}".replace("-", "−")
