"""Confidence intervals by resampling subjects, never windows: windows of one face are not independent."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics import METRICS, from_sums

Array = NDArray[np.float64]
MIN_SUBJECTS = 8


def resamplings(n_subjects: int, n: int, seed: int) -> Array:
    """How often each subject is drawn: (n, n_subjects); rows sum to n_subjects.

    One matrix serves all methods of a table, so that their intervals are paired.
    """
    rng = np.random.default_rng(seed)
    return rng.multinomial(n_subjects, np.full(n_subjects, 1 / n_subjects), size=n).astype(np.float64)


def subject_sums(unit_sums: Array, subjects: list[str]) -> Array:
    """Sums of the units of each subject, subjects in sorted order: (n, C) -> (S, C)."""
    _, index = np.unique(np.array(subjects), return_inverse=True)
    sums = np.zeros((int(index.max()) + 1, unit_sums.shape[1]))
    np.add.at(sums, index, unit_sums)
    return sums


def intervals(
    sums: Array, counts: Array, ddof: int = 0, level: float = 0.95
) -> dict[str, list[float] | None]:
    """Percentile interval of every metric: subject sums (S, C), draws (B, S) -> metric -> [low, high].

    None for a metric that exists in fewer than nine in ten draws.
    """
    drawn = from_sums(counts @ sums, ddof)
    tails = [50 * (1 - level), 50 * (1 + level)]
    found: dict[str, list[float] | None] = {}
    for metric in METRICS:
        values = np.broadcast_to(drawn[metric], (len(counts),))
        enough = np.isfinite(values).mean() >= 0.9
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            found[metric] = [float(x) for x in np.nanpercentile(values, tails)] if enough else None
    return found
