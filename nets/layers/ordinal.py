"""From pairs of outputs to probabilities of levels, and from those to a waveform."""

from __future__ import annotations

from torch import Tensor

SMALLEST, LARGEST = 1e-8, 1e8
HALF = 0.5


def level_probabilities(outputs: Tensor) -> Tensor:
    """(..., 2 K) -> (..., K): P_k = exp(b_k) / (exp(a_k) + exp(b_k)), a_k and b_k outputs 2 k and 2 k + 1.

    Both are held within 1e-8 and 1e8 first, so that a negative output acts as 0 and has no gradient
    (Meta-rPPG, ECCV 2020). Computed as a sigmoid of the difference: the exponentials would overflow.
    """
    first, second = outputs.unflatten(-1, (-1, 2)).clamp(SMALLEST, LARGEST).unbind(-1)
    return (second - first).sigmoid()


def expected_level(probabilities: Tensor) -> Tensor:
    """Sum of the probabilities: (..., K) -> (...), 0 to K."""
    return probabilities.sum(-1)


def decoded_level(probabilities: Tensor) -> Tensor:
    """Number of levels more probable than not: (..., K) -> (...) of the same type, whole, 0 to K."""
    return (probabilities > HALF).sum(-1).to(probabilities.dtype)
