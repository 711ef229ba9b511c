"""How far a predicted waveform can be trusted, without any ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.detection import MIN_FPS, detect, peak_snr_db
from evaluation.heart_rate import estimate
from evaluation.presets import Protocol, build
from evaluation.signal_metrics import irrelevant_power_ratio
from evaluation.waveforms import RecordingWaveform
from utils.signal import detrend, strength_at, to_uniform

Array = NDArray[np.float64]

LUCK_DB, MARGIN_DB = 2.0, 2.0
"""Lead over noise of the same colour that noise itself may reach; and the further lead at which two
thirds of the evidence is there. Calibrated on simulated waveforms of 15 s: of noise, 99 in 100 stay under
0.3; of pulses 6 dB above noise in the band, 95 in 100 reach 0.7."""
DOUBT = 0.2
"""What is left of the evidence when no window and no skin region agrees on the rate. With it every
recording of the demonstration set on which POS errs by less than 1 bpm in easy light reaches 0.8, and the
recordings without a pulse stay under 0.2 for each method; coloured flicker in the band can still deceive."""
AGREE_BPM = 5.0
NOT_FOUND = 0.25
"""Quality cannot exceed this without a detected pulse."""
ENOUGH_FACE = 0.9
WINDOW_S, HOP_S = 10.0, 1.0


@dataclass
class Quality:
    """value: 0..1; heart_rate_bpm: rate of the whole waveform, None where there is none; snr_db: at the
    waveform's own peak; warnings: sentences for the user."""

    value: float
    heart_rate_bpm: float | None
    snr_db: float | None
    warnings: list[str] = field(default_factory=list)


def assess(
    waveform: ArrayLike, time_s: ArrayLike, *, others: Sequence[ArrayLike] = (), face_share: float = 1.0
) -> Quality:
    """Judge one waveform (T,) at `time_s` (T,).

    others: waveforms (T,) from single skin regions; their rates should agree with this one's.
    face_share: share of the frames in which a face was seen, 0 for crops in which none was looked for.

    quality = face * (1 - exp(-margin / MARGIN_DB)) * (DOUBT + (1 - DOUBT) * agreement), where margin is
    the lead in dB over the 95th percentile of noise of the same colour, less LUCK_DB; agreement is the
    smaller one of the share of windows within 2 AGREE_BPM of their median and the share of regions within
    AGREE_BPM; face is the share of frames with one, complete at ENOUGH_FACE. It is at most NOT_FOUND when
    the pulse is not significant.
    """
    found = detect(waveform, time_s)
    if found.snr_db is None or found.surrogate_snr_db_95 is None:
        return Quality(0.0, None, None, [f"no quality: {found.reason}"])
    rate = _rate(waveform, time_s)
    uniform, fs = to_uniform(waveform, time_s)
    snr_db = float(peak_snr_db(detrend(uniform, strength_at(100.0, fs))[None], fs)[0])
    if rate is None:
        return Quality(0.0, None, snr_db, ["no heart rate: nothing is left in the band"])
    windows = [row[1] for row in heart_rate_over_time(waveform, time_s)]
    regions = [_rate(other, time_s) for other in others]
    agreement = min(_share_near(windows, float(np.median(windows or [rate])), 2 * AGREE_BPM),
                    _share_near(regions, rate, AGREE_BPM))
    margin = max(found.snr_db - found.surrogate_snr_db_95 - LUCK_DB, 0.0)
    value = (1 - np.exp(-margin / MARGIN_DB)) * (DOUBT + (1 - DOUBT) * agreement)
    value *= min(face_share / ENOUGH_FACE, 1.0)
    warnings = []
    if not found.found:
        value = min(value, NOT_FOUND)
        warnings.append("no pulse could be told from noise: the heart rate is a guess")
    if face_share < ENOUGH_FACE:
        warnings.append(f"a face was seen in {face_share:.0%} of the frames")
    return Quality(float(value), rate, snr_db, warnings)


def assess_rates(
    drawn: ArrayLike, time_s: ArrayLike, others: Sequence[ArrayLike], face_share: float = 1.0
) -> Quality:
    """Judge rates, given as a sinusoid of them (T,): a drawn wave is always clear, so others are asked.

    others: waveforms (T,) of POS from skin regions, the whole face first. The value is that of the
    first one among them, at most NOT_FOUND where its rate is not within AGREE_BPM of these; 0 without any.
    There is no SNR.
    """
    told = "the net answers with rates: the waveform is drawn from them, the quality is that of POS beside it"
    rate = _rate(drawn, time_s)
    if rate is None or not others:
        return Quality(0.0, rate, None, [told, "nothing to compare the rates with"])
    beside = assess(others[0], time_s, others=others[1:], face_share=face_share)
    warnings = [told, *beside.warnings]
    if beside.heart_rate_bpm is None or abs(beside.heart_rate_bpm - rate) > AGREE_BPM:
        other = "none" if beside.heart_rate_bpm is None else f"{beside.heart_rate_bpm:.1f} bpm"
        warnings.append(f"POS reads {other}")
        return Quality(min(beside.value, NOT_FOUND), rate, None, warnings)
    return Quality(beside.value, rate, None, warnings)


def heart_rate_over_time(
    waveform: ArrayLike, time_s: ArrayLike, window_s: float = WINDOW_S, hop_s: float = HOP_S
) -> list[tuple[float, float, float]]:
    """(centre of the window in s, rate in bpm, SNR in dB at that rate) of overlapping windows.

    A waveform (T,) shorter than a window is one window; windows without a rate are left out.
    """
    times = np.asarray(time_s, dtype=np.float64)
    uniform, fs = to_uniform(waveform, times)
    length = min(int(round(window_s * fs)), len(uniform))
    starts = range(0, len(uniform) - length + 1, max(int(round(hop_s * fs)), 1))
    if length < 9 or fs < MIN_FPS:
        return []
    pieces = np.stack([uniform[start : start + length] for start in starts])
    found = estimate(pieces, fs, _protocol())
    snr_db = peak_snr_db(found.filtered, fs)
    centres = [float(times[0]) + (start + length / 2) / fs for start in starts]
    rows = zip(centres, found.rate_bpm.tolist(), snr_db.tolist(), strict=True)
    return [row for row in rows if np.isfinite(row[1])]


def _protocol() -> Protocol:
    return build("default")


def _rate(waveform: ArrayLike, time_s: ArrayLike) -> float | None:
    """Rate of the whole waveform in bpm, None where there is none."""
    uniform, fs = to_uniform(waveform, time_s)
    rate = float(estimate(uniform[None], fs, _protocol()).rate_bpm[0])
    return rate if np.isfinite(rate) else None


def _share_near(rates: Sequence[float | None], centre: float, width_bpm: float) -> float:
    """Share of rates within `width_bpm` of `centre`; 1 when there are none to disagree."""
    if not rates:
        return 1.0
    return sum(rate is not None and abs(rate - centre) <= width_bpm for rate in rates) / len(rates)


def mean_irrelevant_power(waveforms: Sequence[RecordingWaveform], method: str) -> float:
    """Mean over recordings of a method's irrelevant power ratio, 0 to 1; NaN where one has none.

    What a checkpoint can be chosen by without labels, as Contrast-Phys (Sun & Li, ECCV 2022) does.
    """
    waves = [np.asarray(wave.predictions.get(method, [np.nan]), dtype=np.float64) for wave in waveforms]
    ratios = [float(irrelevant_power_ratio(x, wave.fps)) for x, wave in zip(waves, waveforms, strict=True)]
    return float(np.mean(ratios)) if ratios else float("nan")
