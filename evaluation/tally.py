"""One part of a split, summed up: rows of the table, tables by condition, methods compared in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation import bootstrap
from evaluation.metrics import (
    ERROR_METRICS,
    METRICS,
    RESAMPLED,
    SIGNAL_METRICS,
    Statistics,
    from_sums,
    missing_reason,
    standard_errors,
    unit_sums,
)
from evaluation.presets import Protocol
from evaluation.units import CONSTANT, Scored
from evaluation.waveforms import RecordingWaveform

Array = NDArray[np.float64]
Places = Sequence[int] | slice
MAX_NAMED = 50
MAX_VALUES = 50
NOT_STATED = "not stated"
APART_BPM = 5.0
"""Two references that differ by more than this cannot both be the heart's."""
BY_CONDITION = ("mae_bpm", "rmse_bpm", "sd_bpm", "me_bpm", "pearson_r", "snr_db")


@dataclass
class Tally:
    """Sums over the units of R recordings for M methods, from which every number of a part follows.

    sums (M, R, C) as `unit_sums` makes them; largest (M, R): the largest error, NaN where there is none;
    n_units (R,); subjects (R,); draws: resamplings of the subjects in sorted order, or why there are none.
    """

    methods: list[str]
    waves: list[RecordingWaveform]
    scored: list[Scored]
    sums: Array
    largest: Array
    n_units: NDArray[np.int_]
    subjects: NDArray[np.str_]
    choices: Statistics
    standard_error: str
    draws: Array | str

    def row(self, method: str) -> dict[str, Any]:
        """One line of the table: every metric, or null with its reason."""
        index = self.methods.index(method)
        sums = self.sums[index].sum(axis=0)
        n, total = int(sums[0]), int(self.n_units.sum())
        failed = self._failures(index)
        values = {name: float(value) for name, value in from_sums(sums, self.choices).items()}
        values["max_bpm"] = float(np.nanmax(self.largest[index])) if n else float("nan")
        reasons = {name: missing_reason(name, n) for name in METRICS if not np.isfinite(values[name])}
        if not n and len({text for _, text in failed}) == 1:
            reasons = dict.fromkeys(reasons, f"no unit could be scored: {failed[0][1]}")
        if method == CONSTANT:
            reasons |= dict.fromkeys(SIGNAL_METRICS, "a constant rate has no waveform")
        row: dict[str, Any] = {"method": method}
        row |= {name: None if name in reasons else values[name] for name in METRICS}
        row |= {"n": n, "n_failed": total - n, "failed": _named(failed)}
        row["se"] = self._errors(sums, reasons)
        found = self.intervals(index, slice(None), self.draws, RESAMPLED)
        if isinstance(found, str):
            reasons["ci95"] = found
        row["ci95"] = None if isinstance(found, str) else {
            name: None if name in reasons else found.get(name) for name in METRICS
        }
        return {**row, "reasons": reasons}

    def _errors(self, sums: Array, reasons: dict[str, str]) -> dict[str, float | None] | None:
        """Standard errors by the protocol's formulas; None where it has none."""
        if self.standard_error == "none":
            reasons["se"] = "this protocol defines no standard error"
            return None
        found = standard_errors(sums, self.choices)
        return {name: None if name in reasons or not np.isfinite(found[name]) else float(found[name])
                for name in ERROR_METRICS}

    def _failures(self, index: int) -> list[tuple[str, str]]:
        """Where a method failed, and why: a pair per window that stands for a unit."""
        found = []
        for wave, scored in zip(self.waves, self.scored, strict=True):
            for window in np.unique(scored.unit_window).tolist():
                if scored.failed[index, window]:
                    start_s, stop_s = scored.spans[window]
                    where = f"{wave.key} at {start_s:.1f}-{stop_s:.1f} s"
                    found.append((where, str(scored.failed[index, window])))
        return found

    def intervals(
        self, index: int, places: Places, draws: Array | str, metrics: Sequence[str]
    ) -> dict[str, list[float] | None] | str:
        """Intervals of one method over the subjects of some recordings, or why there are none."""
        if isinstance(draws, str):
            return draws
        if not self.sums[index, places, 0].sum():
            return "no unit could be scored"
        sums = bootstrap.subject_sums(self.sums[index, places], self.subjects[places])
        return bootstrap.intervals(sums, draws, self.choices, metrics)


def tally(
    waves: Sequence[RecordingWaveform], scored: Sequence[Scored], methods: Sequence[str], protocol: Protocol,
    n_draws: int, seed: int,
) -> Tally:
    """Sum up the recordings that have units; all of them were scored for the same methods."""
    kept = [(wave, one) for wave, one in zip(waves, scored, strict=True) if len(one.unit_window)]
    choices = Statistics(protocol.ddof, protocol.mape_offset_bpm, protocol.pearson_offset)
    width = unit_sums(np.empty(0), np.empty(0)).shape[1]
    sums = np.zeros((len(methods), len(kept), width))
    largest = np.full((len(methods), len(kept)), np.nan)
    for place, (_, one) in enumerate(kept):
        predicted, signals = one.predicted_bpm[:, one.unit_window], one.signals[:, one.unit_window]
        for index in range(len(methods)):
            each = unit_sums(predicted[index], one.reference_bpm[index], signals[index], choices)
            sums[index, place] = each.sum(axis=0)
        errors = np.abs(predicted - one.reference_bpm)
        largest[:, place] = np.where(np.isfinite(errors), errors, -1.0).max(axis=1)
    largest[largest < 0] = np.nan
    subjects = np.array([wave.person for wave, _ in kept], dtype=np.str_)
    return Tally(
        list(methods), [wave for wave, _ in kept], [one for _, one in kept], sums, largest,
        np.array([len(one.unit_window) for _, one in kept], dtype=np.int_), subjects, choices,
        protocol.standard_error, draws_of(len(set(subjects.tolist())), n_draws, seed),
    )


def doubtful(scored: Sequence[Scored], protocol: Protocol) -> dict[str, int]:
    """How many units have a reference that deserves a look.

    n_edge_references: within one bin of an end of the band that is searched, or beyond it, where a rate may
    be another's, cut off; n_apart_references: label and device both known, more than APART_BPM apart.
    """
    edge = apart = 0
    searched = protocol.estimator in ("spectral_peak", "welch_peak")
    low, high = 60 * protocol.peak_low_hz, 60 * protocol.peak_high_hz
    for one in scored:
        if not one.reference_bpm.size:
            continue
        reference = one.reference_bpm[0]
        at_edge = (reference <= low + one.bin_bpm) | (reference >= high - one.bin_bpm)
        edge += int(at_edge.sum()) if searched else 0
        differences = np.abs(one.label_bpm - one.device_bpm)[one.unit_window]
        apart += int((differences > APART_BPM).sum())
    return {"n_edge_references": edge, "n_apart_references": apart}


def draws_of(n_subjects: int, n_draws: int, seed: int) -> Array | str:
    """The resamplings of the subjects, or the reason for having none."""
    if not n_draws:
        return "evaluation.bootstrap is 0"
    if n_subjects < bootstrap.MIN_SUBJECTS:
        return f"an interval over subjects needs {bootstrap.MIN_SUBJECTS} of them, here are {n_subjects}"
    return bootstrap.resamplings(n_subjects, n_draws, seed)


def paired(found: Tally, n_draws: int, seed: int) -> list[dict[str, Any]]:
    """The first method against each other one, on the units that both could be scored in.

    mae_bpm, rmse_bpm: first minus other, below 0 where the first is better; ci95 and share_better (the share
    of draws of subjects in which it is) are None with a reason where subjects are too few.
    """
    first = found.methods[0] if found.methods else ""
    return [_pair(found, first, other, n_draws, seed) for other in found.methods[1:]]


def _pair(found: Tally, first: str, other: str, n_draws: int, seed: int) -> dict[str, Any]:
    indices = [found.methods.index(name) for name in (first, other)]
    sums = found.sums[indices].copy()
    if (sums[..., 0] != found.n_units).any():
        for place, one in enumerate(found.scored):
            pair = one.predicted_bpm[indices][:, one.unit_window]
            pair = np.where(np.isfinite(pair).all(axis=0), pair, np.nan)
            against = one.reference_bpm[indices]
            sums[:, place] = [unit_sums(*rates).sum(axis=0) for rates in zip(pair, against, strict=True)]
    both = np.flatnonzero(sums[0, :, 0] > 0)
    subjects = found.subjects[both]
    totals = [from_sums(one[both].sum(axis=0)) for one in sums]
    n = int(sums[0, both, 0].sum())
    result: dict[str, Any] = {
        "method": first, "against": other, "n": n, "n_subjects": len(set(subjects.tolist())),
        **{name: float(totals[0][name] - totals[1][name]) if n else None for name in ("mae_bpm", "rmse_bpm")},
        "ci95": None, "share_better": None, "reasons": {},
    }
    if not n:
        why = "no unit that both could be scored in"
        result["reasons"] = dict.fromkeys(("mae_bpm", "rmse_bpm", "ci95"), why)
        return result
    draws = draws_of(result["n_subjects"], n_draws, seed)
    if isinstance(draws, str):
        result["reasons"]["ci95"] = draws
        return result
    mine, theirs = (bootstrap.subject_sums(one[both], subjects) for one in sums)
    return result | bootstrap.paired(mine, theirs, draws)


def by_condition(
    found: Tally, recordings: Sequence[RecordingWaveform], n_draws: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Rows for every value of every condition that takes 2 to MAX_VALUES values among `recordings`.

    recordings: all of the part, also those that could not be scored, which are counted as missing. A
    recording for which a condition is not given has the value NOT_STATED.
    """
    names = sorted({name for wave in recordings for name in wave.conditions})
    tables: dict[str, dict[str, Any]] = {}
    for name in names:
        values = [wave.conditions.get(name, NOT_STATED) for wave in recordings]
        if 2 <= len(set(values)) <= MAX_VALUES:
            tables[name] = {
                value: _of_value(found, name, value, values.count(value), n_draws, seed)
                for value in sorted(set(values))
            }
    return tables


def _of_value(found: Tally, name: str, value: str, n_all: int, n_draws: int, seed: int) -> dict[str, Any]:
    """Counts and rows of the recordings with one value of a condition."""
    places = [place for place, wave in enumerate(found.waves)
              if wave.conditions.get(name, NOT_STATED) == value]
    n_subjects = len(set(found.subjects[places].tolist()))
    draws = draws_of(n_subjects, n_draws, seed)
    rows = []
    for index, method in enumerate(found.methods):
        sums = found.sums[index, places].sum(axis=0)
        values = from_sums(sums, found.choices)
        interval = found.intervals(index, places, draws, ("mae_bpm", "rmse_bpm"))
        rows.append({
            "method": method,
            **{key: float(values[key]) if np.isfinite(values[key]) else None for key in BY_CONDITION},
            "n": int(sums[0]), "n_failed": int(found.n_units[places].sum() - sums[0]),
            "ci95": None if isinstance(interval, str) else interval,
        })
    n_missing = n_all - len(places)
    return {"n_subjects": n_subjects, "n_recordings": len(places), "n_missing": n_missing, "rows": rows}


def _named(failed: Sequence[tuple[str, str]]) -> list[str]:
    """Which windows failed and why, the first MAX_NAMED by name."""
    rest = len(failed) - MAX_NAMED
    return [*(f"{where}: {why}" for where, why in failed[:MAX_NAMED]),
            *([f"and {rest} more in windows.csv"] if rest > 0 else [])]
