"""Variability of the heart rate from the intervals between beats.

The tables over recordings are made in `evaluation.vital_signs`, whose docstring names their keys.
"""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray

from evaluation.beats import Intervals
from evaluation.vital_presets import VitalSettings
from utils.signal import parabolic_peak

Array = NDArray[np.float64]
Values = dict[str, float | str]
"""By quantity its value, or the reason why there is none."""

MEASURES = ("sdnn_ms", "rmssd_ms", "lf_ms2", "hf_ms2", "lf_nu", "hf_nu", "lf_hf", "rf_hz")
MIN_INTERVALS = 5
BEYOND_HZ = 0.11
"""A spectrum ends this far above the band, so that a maximum at the edge can be told from a slope."""
AT_HZ = 4.0
"""Rate at which two interval series are compared."""


def measures(found: Intervals, settings: VitalSettings) -> Values:
    """Every one of MEASURES, or why it does not exist.

    sdnn_ms: sample standard deviation (ddof 1) of the kept intervals; rmssd_ms: root mean square of the
    differences of neighbours that were both kept (Task Force 1996). lf_ms2, hf_ms2: power of the intervals
    in settings.lf_hz and hf_hz; lf_nu = LF / (LF + HF), hf_nu = 1 - lf_nu; lf_hf = LF / HF. rf_hz:
    respiration frequency, the highest local maximum of the spectrum in settings.hf_hz.
    """
    fault = interval_fault(found, settings)
    if fault:
        return dict.fromkeys(MEASURES, fault)
    ibi_ms = 1000 * found.ibi_s
    made: Values = {"sdnn_ms": float(np.std(ibi_ms[found.kept], ddof=1))}
    pairs = found.kept[1:] & found.kept[:-1]
    steps = np.diff(ibi_ms)[pairs]
    made["rmssd_ms"] = (float(np.sqrt(np.mean(steps**2))) if len(steps) else
                        "no two neighbouring intervals were kept")
    return made | _spectral(found, settings)


def interval_fault(found: Intervals, settings: VitalSettings) -> str:
    """Why intervals allow no variability; empty when they do."""
    n, kept = len(found.ibi_s), int(found.kept.sum())
    if n and found.n_dropped > settings.most_dropped * n:
        return f"{found.n_dropped} of {n} intervals are outliers: the beats cannot be told from noise"
    return f"{kept} intervals, {MIN_INTERVALS} are needed" if kept < MIN_INTERVALS else ""


def spectrum(found: Intervals, settings: VitalSettings) -> tuple[Array, Array]:
    """Spectrum of the kept intervals: frequencies in Hz (F,), power density in ms^2/Hz (F,)."""
    ibi_ms = 1000 * found.ibi_s[found.kept]
    return lomb_scargle(found.end_s[found.kept], ibi_ms, settings.hf_hz[1] + BEYOND_HZ, settings.oversampling)


def lomb_scargle(time_s: Array, values: Array, top_hz: float, oversampling: float) -> tuple[Array, Array]:
    """Lomb-Scargle periodogram with a floating mean of values (N,) at uneven times (N,), N >= 3.

    Returns evenly spaced frequencies in Hz (F,), `oversampling` in 1/duration, and the density of the power
    in units^2/Hz (F,), scaled so that a sinusoid's density over its peak is its variance.
    """
    n, values = len(values), values - values.mean()
    duration_s = float(time_s[-1] - time_s[0]) * n / (n - 1)
    frequency: Array = np.arange(1, int(top_hz * oversampling * duration_s) + 1) / (oversampling * duration_s)
    power = scipy.signal.lombscargle(time_s - time_s[0], values, 2 * np.pi * frequency, floating_mean=True)
    return frequency, np.maximum(np.asarray(power, dtype=np.float64), 0.0) * 2 * duration_s / n


def _spectral(found: Intervals, settings: VitalSettings) -> Values:
    """LF, HF, their ratios and the respiration frequency."""
    span_s = float(found.end_s[found.kept][-1] - found.end_s[found.kept][0])
    made: Values = {}
    frequency, power = spectrum(found, settings)
    bands = {}
    for name, band in (("lf", settings.lf_hz), ("hf", settings.hf_hz)):
        inside = (frequency >= band[0]) & (frequency < band[1])
        short = _too_short(span_s, band[0], settings)
        bands[name] = short or float(power[inside].sum() * frequency[0])
        made[f"{name}_ms2"] = bands[name]
    made |= shares(bands["lf"], bands["hf"])
    made["rf_hz"] = (_too_short(span_s, settings.hf_hz[0], settings)
                     or highest_peak_hz(frequency, power, settings.hf_hz, settings.parabolic)
                     or f"no local maximum within {settings.hf_hz[0]}-{settings.hf_hz[1]} Hz")
    return made


def shares(lf: float | str, hf: float | str) -> Values:
    """lf_nu, hf_nu and lf_hf of two powers, or the reason that the first one missing gives."""
    names = ("lf_nu", "hf_nu", "lf_hf")
    for power in (lf, hf):
        if isinstance(power, str):
            return dict.fromkeys(names, power)
    low, high = float(lf), float(hf)
    if low + high <= 0:
        return dict.fromkeys(names, "the intervals do not vary in these bands")
    share = low / (low + high)
    return {"lf_nu": share, "hf_nu": 1 - share,
            "lf_hf": low / high if high > 0 else "the intervals do not vary in the HF band"}


def _too_short(span_s: float, lowest_hz: float, settings: VitalSettings) -> str:
    """Why a band cannot be looked at; empty when it can."""
    if span_s * lowest_hz >= settings.min_periods:
        return ""
    return f"{span_s:.1f} s of intervals hold less than {settings.min_periods:g} period of {lowest_hz} Hz"


def highest_peak_hz(
    frequency_hz: Array, power: Array, band_hz: tuple[float, float], refine: bool
) -> float | None:
    """The highest local maximum within a band, refined by a parabola where asked for; None without any.

    frequency_hz, power: (F,), evenly spaced. A slope that is cut by the band's edge is no maximum.
    """
    peaks = scipy.signal.find_peaks(power)[0]
    peaks = peaks[(frequency_hz[peaks] >= band_hz[0]) & (frequency_hz[peaks] <= band_hz[1])]
    if not len(peaks):
        return None
    best = int(peaks[power[peaks].argmax()])
    if not refine:
        return float(frequency_hz[best])
    step = float(frequency_hz[1] - frequency_hz[0])
    return float(frequency_hz[0]) + step * parabolic_peak(power, best)


def ibi_mae_4hz(predicted: Intervals, reference: Intervals) -> float | str:
    """Mean absolute difference in ms of two interval series, interpolated at 4 Hz over the common time.

    Only kept intervals take part. Our own definition; it is not the M_IBI of the RePSS challenge, whose
    formula is not public.
    """
    series = [(each.end_s[each.kept], 1000 * each.ibi_s[each.kept]) for each in (predicted, reference)]
    if min(len(time_s) for time_s, _ in series) < 2:
        return "fewer than two intervals"
    first, last = max(t[0] for t, _ in series), min(t[-1] for t, _ in series)
    if last - first < 1 / AT_HZ:
        return "the beats of both have no time in common"
    grid = np.arange(first, last, 1 / AT_HZ)
    there = [np.interp(grid, time_s, ibi_ms) for time_s, ibi_ms in series]
    return float(np.abs(there[0] - there[1]).mean())
