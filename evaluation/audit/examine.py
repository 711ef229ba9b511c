"""All examinations of one recording, its verdict, and what only the whole dataset shows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from evaluation.audit import lag
from evaluation.audit.findings import Array, Finding, Part, Signals, merged
from evaluation.audit.label import (
    DISAGREE_BPM,
    beats_of,
    check_device,
    check_label,
    uniform_label,
    window_rates,
)
from evaluation.audit.pictures import check_face, check_light
from evaluation.audit.timing import check_frames, check_usual_rate
from utils.signal import sample_rate

Verdict = Literal["ok", "suspicious", "unusable"]
VERDICTS: tuple[Verdict, ...] = ("unusable", "suspicious", "ok")

LATE_S = 0.133
"""Four frames at 30 a second: with more, training on the label does not converge."""
DRIFT_S, DRIFT_ERRORS = 0.1, 12.0
"""Over the recording: three frames, and three times the error of a drift, which is four times a lag's."""
ECG_EXPECTED_S = -0.4
"""Of R peaks against the skin's darkest moment: a fifth of a second each to travel and to rise."""
FEWEST_FOR_USUAL = 5
MEASURED = re.compile(
    r"repeated or stepped back|stands still|frames lie |heart rates are missing|more blue than red"
    r"|face is black|frames a second by the time stamps|a gap of|at \d+ Hz, the video"
    "|no pulse waveform|no face mesh|faces in one picture|boxes found by haar|no respiration"
    "|before the first frame are left out"
)
"""Warnings of what is measured here anyway, or of what is no fault; every other one is a finding."""
SKIN_PURITY = 0.75
"""Share of a classical method's power at one rate: .4 to .65 without a pulse or under coloured light."""


@dataclass
class Audited:
    """One recording as the audit sees it."""

    key: str
    dataset: str
    recording: str
    subject: str
    part: Part = field(default_factory=Part)

    @property
    def flags(self) -> list[str]:
        """Short names of the findings, each once."""
        return list(dict.fromkeys(finding.flag for finding in self.part.findings))

    @property
    def verdict(self) -> Verdict:
        """ "unusable" with a fatal finding, "suspicious" with another, else "ok"."""
        if any(finding.is_fatal for finding in self.part.findings):
            return "unusable"
        return "suspicious" if self.part.findings else "ok"

    def row(self) -> dict[str, Any]:
        """All that is known, by column."""
        findings = "; ".join(finding.text for finding in self.part.findings)
        return {
            "recording": self.key, "subject": self.subject, "verdict": self.verdict,
            "flags": " ".join(self.flags), "findings": findings, **self.part.values,
            "notes": "; ".join(self.part.notes),
        }


def failed(key: str, dataset: str, recording: str, subject: str, reason: str) -> Audited:
    """A recording that preprocessing could not use, with its reason."""
    return Audited(key, dataset, recording, subject, Part(findings=[Finding("failed", reason, True)]))


def examine(signals: Signals) -> tuple[Part, lag.Lag | None]:
    """Everything that one recording shows by itself, and its lag for drawing."""
    frames, label = check_frames(signals), check_label(signals)
    rate = label.values.get("rate_bpm")
    rate_bpm = float(rate) if isinstance(rate, (int, float)) else None
    lag_part, found = check_lag(signals, rate_bpm)
    device, face, light = check_device(signals, rate_bpm), check_face(signals), check_light(signals)
    whole = merged([frames, label, device, lag_part, face, light])
    for text in signals.warnings:
        if MEASURED.search(text):
            whole.notes.append(text)
        else:
            whole.flag(True, "reader_warning", text)
    return whole, found


def label_on_frames(signals: Signals) -> tuple[Array, float]:
    """The label on the uniform grid of the frames, NaN where there is none, and that grid's rate in Hz.

    Of an ECG its beats, one hump each.
    """
    time_s = signals.frame_time_s
    grid, fs = np.linspace(time_s[0], time_s[-1], len(time_s)), sample_rate(time_s)
    if signals.stated.get("label_kind") == "ecg" and len(signals.label) > 1:
        uniform, rate_hz = uniform_label(signals.label, signals.label_time_s)
        humps = beats_of(uniform, rate_hz, "ecg")
        at = np.linspace(signals.label_time_s[0], signals.label_time_s[-1], len(humps))
        return np.interp(grid, at, humps, left=np.nan, right=np.nan), fs
    known = np.isfinite(signals.pulse)
    if not known.any():
        return np.full(len(time_s), np.nan), fs
    values = np.interp(grid, time_s[known], signals.pulse[known])
    return np.where(np.interp(grid, time_s, known) > 0.5, values, np.nan), fs


def check_lag(signals: Signals, rate_bpm: float | None) -> tuple[Part, lag.Lag | None]:
    """The lag between label and skin by the classical method that sees the pulse better."""
    part, found = Part(), {}
    is_ecg = signals.stated.get("label_kind") == "ecg"
    if rate_bpm:
        label, fs = label_on_frames(signals)
        for method, skin in signals.skin.items():
            one = lag.measure(skin, label, fs, rate_bpm, ECG_EXPECTED_S if is_ecg else 0.0)
            if one is not None:
                found[method] = one
    _put_skin(part, signals, rate_bpm)
    best = max(found, key=lambda method: (found[method].is_known, found[method].r), default=None)
    reason = "too short for a lag" if signals.skin else "no colour of the face is known"
    _put_lag(part, found.get(best) if best else None, best,
             reason if rate_bpm else "there is no label with a clear pulse")
    if best is None:
        return part, None
    one = found[best]
    if not one.is_known:
        part.flag(True, "lag_unknown", f"no pulse of the label in the skin's colour (r {one.r:.2f})")
    elif is_ecg:
        part.notes.append(f"R peaks come {-1000 * one.lag_s:.0f} ms before the skin is darkest (not judged)")
    else:
        _judge_lag(part, one)
    _judge_drift(part, one)
    return part, one


def _put_skin(part: Part, signals: Signals, label_bpm: float | None) -> None:
    """The heart rate that the skin shows, where it shows one clearly, against the label's."""
    fs = sample_rate(signals.frame_time_s)
    bpm: list[float] = []
    for skin in signals.skin.values():
        rate_bpm, purity = window_rates(skin, fs) if np.isfinite(skin).all() else (np.empty(0), np.empty(0))
        if len(rate_bpm) and np.median(purity) >= SKIN_PURITY:
            bpm.append(float(np.median(rate_bpm)))
    skin_bpm = bpm[0] if bpm and np.ptp(bpm) <= DISAGREE_BPM else None
    part.put("skin_bpm", skin_bpm, "the skin shows no clear heart rate", 2)
    differ = abs(skin_bpm - label_bpm) if skin_bpm is not None and label_bpm else 0.0
    part.flag(differ > DISAGREE_BPM, "skin_disagrees",
              f"the skin says {skin_bpm or 0:.1f} bpm, the label {label_bpm or 0:.1f} bpm: another's label, "
              "or wrong times?")


def _put_lag(part: Part, found: lag.Lag | None, method: str | None, reason: str) -> None:
    """The columns of a lag."""
    known = found if found is not None and found.is_known else None
    why = reason if found is None else "no pulse of the label in the skin's colour"
    part.values["lag_method"] = method
    part.put("lag_ms", None if known is None else 1000 * known.lag_s, why, 1)
    part.put("lag_error_ms", None if known is None else 1000 * known.error_s, why, 1)
    part.put("lag_r", None if found is None else found.r, reason, 3)
    part.values["polarity"] = None if known is None else known.polarity
    for column, value in (("polarity", None if known is None else known.polarity), ("lag_method", method)):
        if value is None:
            part.reasons[column] = why
    part.put("inverted_lag_ms", None if known is None else 1000 * known.inverted_s, why, 1)
    drift = None if known is None or known.drift_s is None else 1000 * known.drift_s
    part.put("drift_ms", drift, why if known is None else "too short, or no pulse in one half", 1)


def _judge_lag(part: Part, found: lag.Lag) -> None:
    """Findings and notes about where the label lies and whether it stands on its head."""
    at = in_words(found.lag_s)
    other = in_words(found.inverted_s)
    if found.polarity == "inverted":
        text = f"the label is inverted, {other} (r {found.inverted_r:.2f}; upright {found.upright_r:.2f})"
        part.flag(True, "inverted_label", text)
        part.flag(abs(found.lag_s) > LATE_S, "lag", f"the inverted label comes {other}")
    elif abs(found.lag_s) > LATE_S:
        beat_ms = 2000 * found.half_beat_s
        text = f"the label comes {at} (r {found.r:.2f}), give or take whole beats of {beat_ms:.0f} ms"
        if found.polarity == "undecided":
            text += f", or is inverted and {other}: half a beat and a flip cannot be told apart in this pulse"
        part.flag(True, "lag", text)
    elif found.polarity == "undecided":
        part.notes.append(f"a label that is inverted and {other} would fit as well (pulse without an edge)")


def in_words(lag_s: float) -> str:
    """'210 ms late', '35 ms early', 'in time'."""
    ms = round(1000 * lag_s)
    return "in time" if ms == 0 else f"{abs(ms)} ms {'late' if ms > 0 else 'early'}"


def _judge_drift(part: Part, found: lag.Lag) -> None:
    drift_s = found.drift_s
    least_s = max(DRIFT_S, DRIFT_ERRORS * found.error_s)
    part.flag(drift_s is not None and abs(drift_s) > least_s, "drift",
              f"the label's lag grows by {1000 * (drift_s or 0):+.0f} ms over the recording")


def compare(audited: Sequence[Audited], twins: Mapping[str, Sequence[Finding]]) -> None:
    """Add to each recording what only shows beside the others: an unusual frame rate, a twin."""
    rates: dict[str, list[float]] = {}
    for item in audited:
        fps = item.part.values.get("fps")
        if isinstance(fps, (int, float)):
            rates.setdefault(item.dataset, []).append(float(fps))
    for item in audited:
        fps, others = item.part.values.get("fps"), rates.get(item.dataset, [])
        if isinstance(fps, (int, float)) and len(others) >= FEWEST_FOR_USUAL:
            item.part.findings += check_usual_rate(float(fps), float(np.median(others))).findings
        item.part.findings += twins.get(item.key, ())
