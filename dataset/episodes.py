"""Episodes: different recordings from the same frame on, the next batch a step later."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dataset.samplers import Batches, Sample, register
from utils.errors import UserError
from utils.seeding import sample_rng

_PLAN_STREAM = 1


@register("episodes")
def episodes(
    lengths: list[int], frames: int, batch: int, clips_per_recording: int | None, seed: int, epoch: int,
    people: Sequence[str] = (), step: int | None = None,
) -> Batches:
    """Each batch: `batch` recordings drawn without replacement, all from one start, which moves on.

    `frames` are those of a whole episode, support and query windows back to back. Starts go from 0 as far as
    `batch` recordings are long enough for, in steps of `step` frames; where step is None, as many as
    clips_per_recording asks for, evenly spread, or every one where that is None too.
    """
    width = min(batch, len(lengths))
    room = np.array(lengths) - frames
    last = int(np.sort(room)[-width])
    starts = _starts(last, step, clips_per_recording, len(lengths), width)
    rng = sample_rng(seed, epoch, _PLAN_STREAM)
    rows = [rng.permutation(np.flatnonzero(room >= start))[:width] for start in starts]
    return [
        [Sample(int(recording), start, number * width + place) for place, recording in enumerate(row)]
        for number, (start, row) in enumerate(zip(starts, rows, strict=True))
    ]


def _starts(last: int, step: int | None, clips_per_recording: int | None, n: int, width: int) -> list[int]:
    """First frames of the episodes, 0 to `last`."""
    if step is not None and step < 1:
        raise UserError(f"method.options.step = {step}: at least 1 frame between the starts of episodes")
    if step is None and clips_per_recording is not None:
        count = -(-clips_per_recording * n // width)
        return [round(start) for start in np.linspace(0, last, count)]
    return list(range(0, last + 1, step or 1))
