"""Confidence intervals by resampling subjects, never windows: windows of one face are not independent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics import RESAMPLED, USUAL, Statistics, from_sums

Array = NDArray[np.float64]
MIN_SUBJECTS = 8
LEVEL = 0.95


def resamplings(n_subjects: int, n: int, seed: int) -> Array:
    """How often each subject is drawn: (n, n_subjects); rows sum to n_subjects.

    One matrix serves all methods of a table, so that their intervals are paired.
    """
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_subjects, np.full(n_subjects, 1 / n_subjects), size=n).astype(np.float64)


def subject_sums(unit_sums: Array, subjects: Sequence[str] | NDArray[np.str_]) -> Array:
    """Sums of the units of each subject, subjects in sorted order: (n, C) -> (S, C)."""
    _, index = np.unique(np.array(subjects), return_inverse=True)
    sums = np.zeros((int(index.max()) + 1, unit_sums.shape[1]))
    np.add.at(sums, index, unit_sums)
    return sums


def intervals(
    sums: Array, counts: Array, choices: Statistics = USUAL, metrics: Sequence[str] = RESAMPLED
) -> dict[str, list[float] | None]:
    """Percentile interval of metrics: subject sums (S, C), draws (B, S) -> metric -> [low, high].

    None for a metric that exists in fewer than nine in ten draws.
    """
    drawn = from_sums(counts @ sums, choices)
    return dict(zip(metrics, percentiles(np.stack([drawn[name] for name in metrics])), strict=True))


def percentiles(drawn: Array) -> list[list[float] | None]:
    """The interval of each row of draws (M, B), of those that are finite; None below nine in ten."""
    tails = [50 * (1 - LEVEL), 50 * (1 + LEVEL)]
    finite = np.isfinite(drawn)
    whole = finite.all(axis=1)
    found: list[list[float] | None] = [None] * len(drawn)
    if whole.any():
        limits = np.percentile(drawn[whole], tails, axis=1)
        for index, low, high in zip(np.flatnonzero(whole).tolist(), *limits.tolist(), strict=True):
            found[index] = [low, high]
    for index in np.flatnonzero(~whole & (finite.mean(axis=1) >= 0.9)).tolist():
        found[index] = [float(x) for x in np.percentile(drawn[index][finite[index]], tails)]
    return found


def paired(first: Array, second: Array, counts: Array) -> dict[str, dict[str, Any]]:
    """How much less the first of two methods errs on the same units, in MAE and RMSE.

    first, second: subject sums (S, C) of matched units; counts: draws (B, S). `ci95` of the difference first
    minus second, and `share_better`, the share of draws in which the first one errs less (ties count half).
    """
    drawn = [from_sums(counts @ sums) for sums in (first, second)]
    found: dict[str, dict[str, Any]] = {"ci95": {}, "share_better": {}}
    for name in ("mae_bpm", "rmse_bpm"):
        differences = drawn[0][name] - drawn[1][name]
        known = differences[np.isfinite(differences)]
        found["ci95"][name] = percentiles(differences[None])[0]
        found["share_better"][name] = (
            float(((known < 0) + 0.5 * (known == 0)).mean()) if len(known) else None
        )
    return found
