"""Which labels of a training part a method may see."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dataset.index import RecordingInfo
from utils.errors import UserError
from utils.files import natural_key
from utils.seeding import sample_rng

_LABEL_STREAM = 6


def without_label(infos: Sequence[RecordingInfo], share: float, seed: int) -> frozenset[str]:
    """Keys of the recordings whose labels are kept from a method that reads `share` of them, 0 to 1.

    Of those that have a label, share times their number, rounded, at least 1 unless the share is 0, keep
    it: a function of the seed and of which recordings there are. What a smaller share reads, a larger one
    reads too. With 1 nothing is kept back. UserError when labels are to be read and none is there.
    """
    if share >= 1:
        return frozenset()
    labelled = sorted((info.key for info in infos if info.has_label), key=natural_key)
    if share > 0 and not labelled:
        raise UserError(f"the method reads {share:g} of the labels, and no training recording has one; "
                        "set this share to 0")
    n_read = max(1, math.floor(share * len(labelled) + 0.5)) if share > 0 else 0
    order = sample_rng(seed, _LABEL_STREAM).permutation(len(labelled))
    return frozenset(info.key for info in infos) - {labelled[place] for place in order[:n_read]}
