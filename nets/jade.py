"""JADE: independent sources by joint diagonalisation of fourth-order cumulants, many mixtures at once."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RANK = 1e-12
"""Share of the largest variance below which a direction is rounding noise."""
SMALLEST_TURN, MOST_SWEEPS = 1e-10, 100


def jade(mixtures: Array) -> Array:
    """Sources of unit variance of K centred mixtures: (n, K, T) -> (n, K, T).

    Cardoso & Souloumiac 1993, for real signals: the mixtures are whitened, then turned until the cumulant
    matrices are jointly as diagonal as they get. Order and signs are arbitrary. Where the mixtures span
    fewer than K directions, the sources that do not exist are 0.
    """
    white = whitened(mixtures)
    return np.swapaxes(_diagonaliser(_cumulants(white)), 1, 2) @ white


def whitened(mixtures: Array) -> Array:
    """Principal components of unit variance, weakest first: (n, K, T) -> (n, K, T); 0 where none is left."""
    covariance = mixtures @ np.swapaxes(mixtures, 1, 2) / mixtures.shape[2]
    variance, direction = np.linalg.eigh(covariance)
    is_there = variance > RANK * variance[:, -1:]
    scale = np.where(is_there, 1 / np.sqrt(np.where(is_there, variance, 1.0)), 0.0)
    return np.swapaxes(direction * scale[:, None], 1, 2) @ mixtures


def _cumulants(white: Array) -> Array:
    """Fourth-order cumulant matrices of white signals: (n, K, T) -> (n, M, K, K), M = K (K + 1) / 2.

    Matrix ij holds cum(z_i, z_j, z_a, z_b) at (a, b); those of i < j stand for two, and weigh sqrt 2.
    """
    n_signals, n_samples = white.shape[1:]
    first, second = np.triu_indices(n_signals)
    products = white[:, first] * white[:, second]
    fourth = products @ np.swapaxes(products, 1, 2) / n_samples
    place = np.empty((n_signals, n_signals), dtype=int)
    place[first, second] = place[second, first] = np.arange(len(first))
    cumulants = fourth[:, :, place]
    r = white @ np.swapaxes(white, 1, 2) / n_samples
    cumulants -= r[:, first, second][:, :, None, None] * r[:, None]
    cumulants -= r[:, first, :, None] * r[:, second, None, :]
    cumulants -= r[:, second, :, None] * r[:, first, None, :]
    weight: Array = np.where(first == second, 1.0, np.sqrt(2.0))
    return cumulants * weight[:, None, None]


def _diagonaliser(matrices: Array) -> Array:
    """Rotations that make sets of symmetric matrices jointly diagonal: (n, M, K, K) -> (n, K, K).

    Jacobi: each pair of axes is turned by the angle that leaves the least off the diagonal, in sweeps
    over all pairs until none turns any more.
    """
    n_sets, _, size, _ = matrices.shape
    rotation = np.tile(np.eye(size), (n_sets, 1, 1))
    for _ in range(MOST_SWEEPS):
        largest = 0.0
        for p, q in itertools.combinations(range(size), 2):
            angle = _angle(matrices, p, q)
            largest = max(largest, float(np.abs(angle).max()))
            turn = np.tile(np.eye(size), (n_sets, 1, 1))
            turn[:, p, p] = turn[:, q, q] = np.cos(angle)
            turn[:, q, p] = np.sin(angle)
            turn[:, p, q] = -turn[:, q, p]
            rotation = rotation @ turn
            matrices = np.swapaxes(turn, 1, 2)[:, None] @ matrices @ turn[:, None]
        if largest < SMALLEST_TURN:
            break
    return rotation


def _angle(matrices: Array, p: int, q: int) -> Array:
    """The best turn of axes p and q for each set: (n, M, K, K) -> (n,), within -pi/4 and pi/4."""
    apart = matrices[:, :, p, p] - matrices[:, :, q, q]
    off = matrices[:, :, p, q] + matrices[:, :, q, p]
    on_axis = (apart**2 - off**2).sum(axis=1)
    across = 2 * (apart * off).sum(axis=1)
    return 0.5 * np.arctan2(across, on_axis + np.hypot(on_axis, across))
