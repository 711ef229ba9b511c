"""Figures of a report and of `predict`: plain matplotlib figures, no global state."""

from evaluation.figures.agreement import bland_altman, error_over_rate, error_shares, scatter
from evaluation.figures.errors import condition_errors, method_bars, paired_differences, subject_errors
from evaluation.figures.learning import training_curves
from evaluation.figures.quality import detections, error_over_snr, snr_distribution
from evaluation.figures.style import DPI, GREY, LABEL, PALETTE, colours, save, styled
from evaluation.figures.waveform import plot_prediction, waveforms

__all__ = [
    "DPI", "GREY", "LABEL", "PALETTE", "bland_altman", "colours", "condition_errors", "detections",
    "error_over_rate", "error_over_snr", "error_shares", "method_bars", "paired_differences",
    "plot_prediction", "save", "scatter", "snr_distribution", "styled", "subject_errors",
    "training_curves", "waveforms",
]
