"""Agreement of rates and quality of waveforms; each variant under its own name."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft as sfft

Array = NDArray[np.float64]

RATE_METRICS = ("mae_bpm", "rmse_bpm", "sd_bpm", "me_bpm", "mape_percent", "pearson_r")
SIGNAL_METRICS = ("snr_db", "macc")
METRICS = RATE_METRICS + SIGNAL_METRICS


def unit_sums(predicted: Array, reference: Array, snr_db: Array, macc: Array) -> Array:
    """Sums from which every metric follows, one row per unit: (n,) each -> (n, 14).

    Units with a NaN prediction or reference add nothing; SNR and MACC have counts of their own.
    Rates are taken relative to 80 bpm so that second moments keep their digits.
    """
    good = np.isfinite(predicted) & np.isfinite(reference)
    p, t = (np.where(good, x, 80.0) - 80.0 for x in (predicted, reference))
    e = p - t
    share = np.where(good, np.abs(e) / np.where(good, reference, 1.0), 0.0)
    has_snr, has_macc = good & np.isfinite(snr_db), good & np.isfinite(macc)
    columns = [
        good, np.abs(e), e, e * e, share, p, t, p * p, t * t, p * t,
        has_snr, np.where(has_snr, snr_db, 0.0), has_macc, np.where(has_macc, macc, 0.0),
    ]
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)


def from_sums(sums: Array, ddof: int = 0) -> dict[str, Array]:
    """Every metric of METRICS from summed `unit_sums` (..., 14); NaN where it does not exist.

    With e = prediction - reference over n units: MAE = mean |e|, ME = mean e, RMSE = sqrt(mean e^2),
    SD = sqrt(sum (e - ME)^2 / (n - ddof)), MAPE = 100 mean(|e| / reference), r Pearson's; so
    RMSE^2 = ME^2 + SD^2 for ddof 0. SD needs two units; r needs three, as it is always +-1 for two, and
    a spread in both rates.
    """
    n, abs_e, e, e2, share, p, t, p2, t2, pt, n_snr, snr, n_macc, macc = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        me, mean_e2 = e / n, e2 / n
        spread = np.maximum(mean_e2 - me**2, 0.0)
        var_p, var_t = p2 / n - (p / n) ** 2, t2 / n - (t / n) ** 2
        r = (pt / n - p * t / n**2) / np.sqrt(np.maximum(var_p, 0) * np.maximum(var_t, 0))
        exists = (n >= 3) & (var_p > 1e-9) & (var_t > 1e-9)
        return {
            "mae_bpm": abs_e / n,
            "rmse_bpm": np.sqrt(mean_e2),
            "sd_bpm": np.where(n > 1, np.sqrt(spread * n / np.maximum(n - ddof, 1)), np.nan),
            "me_bpm": me,
            "mape_percent": 100 * share / n,
            "pearson_r": np.where(exists, np.clip(r, -1, 1), np.nan),
            "snr_db": snr / n_snr,
            "macc": macc / n_macc,
        }


def missing_reason(metric: str, n: int) -> str:
    """Why a metric is null for a row with n scored units."""
    if n == 0:
        return "no unit could be scored"
    if metric in SIGNAL_METRICS:
        return "no waveform or no label waveform to compute it from"
    needed = 3 if metric == "pearson_r" else 2
    if n < needed:
        return f"needs at least {needed} scored units"
    return "predicted or reference rates do not vary"


def snr_toolbox(frequency_hz: Array, power: Array, rate_bpm: float, low_hz: float, high_hz: float) -> float:
    """SNR of rPPG-Toolbox in dB: power within 6 bpm of f and of 2f over the rest of the band.

    The windows around f and 2f are not cut at the band's ends; 0 when nothing remains, by its rule.
    """
    f, width = rate_bpm / 60, 6 / 60
    signal = _near(frequency_hz, f, width) | _near(frequency_hz, 2 * f, width)
    rest = (frequency_hz >= low_hz) & (frequency_hz <= high_hz) & ~signal
    noise = power[rest].sum()
    first = power[_near(frequency_hz, f, width)].sum()
    second = power[_near(frequency_hz, 2 * f, width)].sum()
    return 10 * float(np.log10((first + second) / noise)) if noise > 0 else 0.0


def snr_dehaan(frequency_hz: Array, power: Array, rate_bpm: float, low_hz: float, high_hz: float) -> float:
    """SNR of de Haan & Jeanne (2013) in dB, with the widths of iPhys.

    Power within 0.1 Hz of f and 0.2 Hz of 2f over the rest, all inside 0.5-4 Hz whatever band the
    protocol searches; NaN when nothing remains.
    """
    inside = (frequency_hz >= 0.5) & (frequency_hz <= 4.0)
    f = rate_bpm / 60
    signal = (_near(frequency_hz, f, 0.1) | _near(frequency_hz, 2 * f, 0.2)) & inside
    noise, kept = power[inside & ~signal].sum(), power[signal].sum()
    return 10 * float(np.log10(kept / noise)) if noise > 0 and kept > 0 else float("nan")


SNR = {"toolbox": snr_toolbox, "dehaan": snr_dehaan}


def _near(frequency_hz: Array, centre_hz: float, width_hz: float) -> NDArray[np.bool_]:
    return (frequency_hz >= centre_hz - width_hz) & (frequency_hz <= centre_hz + width_hz)


def macc_circular(prediction: Array, label: Array) -> float:
    """Largest |Pearson| of the prediction with the label under circular shifts of 0..T-2 samples.

    prediction, label: (T,). One FFT instead of T correlations; NaN when either is constant.
    """
    p, t = prediction - prediction.mean(), label - label.mean()
    scale = float(np.sqrt((p @ p) * (t @ t)))
    if scale == 0:
        return float("nan")
    n = len(p)
    products = sfft.irfft(sfft.rfft(p) * np.conj(sfft.rfft(t)), n)
    return min(float(np.abs(products[: n - 1]).max()) / scale, 1.0)


MACC = {"circular": macc_circular}
