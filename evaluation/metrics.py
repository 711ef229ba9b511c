"""Agreement of rates over units, and means of what was measured on waveforms, from sums over units.

Everything but the largest error follows from sums, so that subjects can be resampled by a matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RATE_METRICS = (
    "mae_bpm", "rmse_bpm", "sd_bpm", "me_bpm", "mape_percent", "pearson_r", "ccc", "max_bpm",
    "within_2_5_percent", "within_5_percent",
)
SIGNAL_METRICS = ("snr_db", "macc", "ipr", "waveform_r", "waveform_lag_s", "waveform_mae")
METRICS = RATE_METRICS + SIGNAL_METRICS
RESAMPLED = tuple(name for name in METRICS if name != "max_bpm")
"""Metrics with an interval; the largest error of a resampling says nothing on that of other subjects."""
ERROR_METRICS = ("mae_bpm", "rmse_bpm", "mape_percent", "pearson_r", "snr_db", "macc")
"""Metrics with a standard error."""
CENTRE_BPM = 80.0
_N_RATE_SUMS = 14


@dataclass(frozen=True)
class Statistics:
    """Choices of a protocol in the formulas.

    ddof: of the standard deviation; mape_offset_bpm: added to the reference that MAPE divides by;
    pearson_offset: added to the product of norms that r divides by.
    """

    ddof: int = 0
    mape_offset_bpm: float = 0.0
    pearson_offset: float = 0.0


USUAL = Statistics()


def unit_sums(
    predicted: Array, reference: Array, signals: Array | None = None, choices: Statistics = USUAL
) -> Array:
    """Sums from which every metric follows, one row per unit: (n,), (n,), (n, 6) -> (n, C).

    signals: columns in the order of SIGNAL_METRICS, NaN where there is none; None: none anywhere. Units
    with a NaN prediction or reference add nothing; signal metrics have counts of their own. Rates are
    taken relative to 80 bpm so that second moments keep their digits.
    """
    good = np.isfinite(predicted) & np.isfinite(reference)
    p, t = (np.where(good, x, CENTRE_BPM) - CENTRE_BPM for x in (predicted, reference))
    e = p - t
    size = np.abs(e)
    share = np.where(good, size / np.where(good, reference + choices.mape_offset_bpm, 1.0), 0.0)
    columns = [
        good, size, e, e * e, share, p, t, p * p, t * t, p * t, good & (size < 2.5), good & (size < 5.0),
        e**4, share**2,
    ]
    measured = np.full((len(p), len(SIGNAL_METRICS)), np.nan) if signals is None else signals
    has = good[:, None] & np.isfinite(measured)
    values = np.where(has, measured, 0.0)
    rates = np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)
    return np.concatenate([rates, has, values, values**2], axis=1)


def from_sums(sums: Array, choices: Statistics = USUAL) -> dict[str, Array]:
    """Every metric of RESAMPLED from summed `unit_sums` (..., C); NaN where it does not exist.

    With e = prediction - reference over n units: MAE = mean |e|, ME = mean e, RMSE = sqrt(mean e^2),
    SD = sqrt(sum (e - ME)^2 / (n - ddof)), MAPE = 100 mean(|e| / reference), r Pearson's, ccc Lin's (1989,
    population moments), within_x the share of |e| < x bpm; so RMSE^2 = ME^2 + SD^2 for ddof 0. SD needs two
    units; r and ccc need three, as r is always +-1 for two, and a spread in both rates.
    """
    n, abs_e, e, e2, share, p, t, p2, t2, pt, near, close, *_ = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        me, mean_e2 = e / n, e2 / n
        spread = np.maximum(mean_e2 - me**2, 0.0)
        var_p, var_t = (np.maximum(x / n, 0) for x in (p2 - p**2 / n, t2 - t**2 / n))
        covariance = pt / n - p * t / n**2
        r = covariance / (np.sqrt(var_p * var_t) + choices.pearson_offset / n)
        exists = (n >= 3) & (var_p > 1e-9) & (var_t > 1e-9)
        found = {
            "mae_bpm": abs_e / n,
            "rmse_bpm": np.sqrt(mean_e2),
            "sd_bpm": np.where(n > 1, np.sqrt(spread * n / np.maximum(n - choices.ddof, 1)), np.nan),
            "me_bpm": me,
            "mape_percent": 100 * share / n,
            "pearson_r": np.where(exists, np.clip(r, -1, 1), np.nan),
            "ccc": np.where(exists, 2 * covariance / (var_p + var_t + me**2), np.nan),
            "within_2_5_percent": 100 * near / n,
            "within_5_percent": 100 * close / n,
        }
        counts, totals, _ = _signal_sums(sums)
        means = totals / counts
    return found | {name: means[..., index] for index, name in enumerate(SIGNAL_METRICS)}


def _signal_sums(sums: Array) -> tuple[Array, Array, Array]:
    """Count, sum and sum of squares of each signal metric: (..., C) -> three of (..., 6)."""
    width = len(SIGNAL_METRICS)
    first, second, third = (sums[..., start : start + width] for start in
                            range(_N_RATE_SUMS, _N_RATE_SUMS + 3 * width, width))
    return first, second, third


def standard_errors(sums: Array, choices: Statistics = USUAL) -> dict[str, Array]:
    """Standard errors as rPPG-Toolbox prints them, from summed `unit_sums` (C,); NaN where there is none.

    MAE and MAPE: std / sqrt n of |e| and of 100 |e| / reference; RMSE: sqrt(std(e^2) / sqrt n), which is no
    standard error of it but is what its tables hold; r: sqrt((1 - r^2) / (n - 2)); SNR and MACC: std / sqrt
    n. Standard deviations with ddof 0.
    """
    n, size, _, e2, share, *_ = sums
    e4, share2 = sums[12], sums[13]
    counts, totals, squares = _signal_sums(sums)

    def deviation(total: Array, square: Array, count: Array) -> Array:
        return np.sqrt(np.maximum(square / count - (total / count) ** 2, 0.0))

    with np.errstate(divide="ignore", invalid="ignore"):
        r = from_sums(sums, choices)["pearson_r"]
        found = {
            "mae_bpm": deviation(size, e2, n) / np.sqrt(n),
            "rmse_bpm": np.sqrt(deviation(e2, e4, n) / np.sqrt(n)),
            "mape_percent": 100 * deviation(share, share2, n) / np.sqrt(n),
            "pearson_r": np.sqrt((1 - r**2) / (n - 2)),
        }
        for name in ("snr_db", "macc"):
            index = SIGNAL_METRICS.index(name)
            found[name] = deviation(totals[index], squares[index], counts[index]) / np.sqrt(counts[index])
    return found


def missing_reason(metric: str, n: int) -> str:
    """Why a metric is null for a row with n scored units."""
    if n == 0:
        return "no unit could be scored"
    if metric in SIGNAL_METRICS:
        return "no waveform or no label waveform to compute it from, or a window under 3 s"
    needed = 3 if metric in ("pearson_r", "ccc") else 2
    if n < needed:
        return f"needs at least {needed} scored units"
    return "predicted or reference rates do not vary"
