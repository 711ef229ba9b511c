"""How the batches of an epoch are drawn: plans by name, pure functions of (seed, epoch)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from utils.errors import UserError
from utils.registry import did_you_mean
from utils.seeding import sample_rng

_PLAN_STREAM, _SIDE_STREAM = 1, 5


@dataclass(frozen=True)
class Sample:
    """One clip of an epoch: position of its recording in the list, first frame, number in the epoch.

    side: 0 or 1 where the plan deals clips to two sides, else None.
    """

    recording: int
    start: int
    index: int
    side: int | None = None


Batches = list[list[Sample]]


class Plan(Protocol):
    """Draws the batches of one epoch."""

    def __call__(
        self, lengths: list[int], frames: int, batch: int, clips_per_recording: int | None,
        seed: int, epoch: int, people: Sequence[str] = (),
    ) -> Batches:
        """lengths: frames of each recording, none below `frames`; people: who is seen in each.

        As many batches every epoch.
        """
        ...


PLANS: dict[str, Plan] = {}


def register(name: str) -> Callable[[Plan], Plan]:
    """Decorator that makes a plan available as InputSpec.plan."""

    def add(plan: Plan) -> Plan:
        PLANS[name] = plan
        return plan

    return add


def get(name: str, step: int | None = None) -> Plan:
    """The plan of that name; UserError lists the names otherwise.

    step: frames between the starts of successive batches, for plans that take a `step`.
    """
    if name not in PLANS:
        hint = did_you_mean(name, list(PLANS))
        raise UserError(f"unknown batch plan {name!r}{hint}  known: {', '.join(PLANS)}")
    return PLANS[name] if step is None else functools.partial(PLANS[name], step=step)  # type: ignore[call-arg]


def visits(lengths: list[int], frames: int, clips_per_recording: int | None) -> list[int]:
    """Clips each recording gives per epoch: the fixed number, or its length over the clip's."""
    return [clips_per_recording or max(1, length // frames) for length in lengths]


@register("clips")
def clips(
    lengths: list[int], frames: int, batch: int, clips_per_recording: int | None, seed: int, epoch: int,
    people: Sequence[str] = (),
) -> Batches:
    """Clips at random starts, shuffled over all recordings; the last batch may be smaller."""
    rng = sample_rng(seed, epoch, _PLAN_STREAM)
    order = np.repeat(np.arange(len(lengths)), visits(lengths, frames, clips_per_recording))
    rng.shuffle(order)
    return _cut([order[i : i + batch] for i in range(0, len(order), batch)], lengths, frames, rng)


@register("in_order")
def in_order(
    lengths: list[int], frames: int, batch: int, clips_per_recording: int | None, seed: int, epoch: int,
    people: Sequence[str] = (),
) -> Batches:
    """Nothing random: recording after recording, clips evenly spread over each; every epoch the same."""
    counts = visits(lengths, frames, clips_per_recording)
    places = [
        (recording, round(start))
        for recording, (length, n) in enumerate(zip(lengths, counts, strict=True))
        for start in np.linspace(0, length - frames, n)
    ]
    samples = [Sample(recording, start, index) for index, (recording, start) in enumerate(places)]
    return [samples[i : i + batch] for i in range(0, len(samples), batch)]


@register("distinct")
def distinct(
    lengths: list[int], frames: int, batch: int, clips_per_recording: int | None, seed: int, epoch: int,
    people: Sequence[str] = (),
) -> Batches:
    """Like "clips", but no recording is twice in a batch, and all batches are full.

    A batch holds min(batch, number of recordings) clips. Where a few long recordings would be left
    over for the last batches, others are visited more often than their share to fill them.
    """
    width = min(batch, len(lengths))
    if width < 2:
        raise UserError(
            f'batch plan "distinct" contrasts recordings, so it needs at least 2 of them and a batch of '
            f"at least 2; here are {len(lengths)} and train.batch = {batch}"
        )
    rng = sample_rng(seed, epoch, _PLAN_STREAM)
    wanted = np.array(visits(lengths, frames, clips_per_recording))
    n_batches = max(-(-int(wanted.sum()) // width), int(wanted.max()))
    counts = _fill(wanted, n_batches, n_batches * width, rng)
    return _cut(_deal(counts, n_batches, width, rng), lengths, frames, rng)


@register("halves")
def halves(
    lengths: list[int], frames: int, batch: int, clips_per_recording: int | None, seed: int, epoch: int,
    people: Sequence[str] = (),
) -> Batches:
    """Each batch holds `batch` clips of one half of the people, then as many of the other half.

    Who is in which half depends on the seed alone, never on the epoch. The half with fewer clips visits
    recordings again, so that all batches are full.
    """
    side_of = two_sides(lengths, people, seed)
    rng = sample_rng(seed, epoch, _PLAN_STREAM)
    counts = np.array(visits(lengths, frames, clips_per_recording))
    lines = []
    for side in (0, 1):
        members = np.flatnonzero(side_of == side)
        lines.append(rng.permutation(np.repeat(members, counts[members])))
    n_batches = -(-max(map(len, lines)) // batch)
    full = [_refilled(line, n_batches * batch, rng).reshape(n_batches, batch) for line in lines]
    made = _cut(list(np.concatenate(full, axis=1)), lengths, frames, rng)
    return [[replace(sample, side=int(side_of[sample.recording])) for sample in row] for row in made]


def two_sides(lengths: Sequence[int], people: Sequence[str], seed: int) -> np.ndarray:
    """0 or 1 for each recording, nobody on both sides, about as many frames on each: (n,) int64.

    UserError for fewer than two people.
    """
    names = sorted(set(people))
    if len(names) < 2:
        raise UserError(f'batch plan "halves" deals people to two sides, and the training part has '
                        f"{len(names)}; check section split")
    order = sample_rng(seed, _SIDE_STREAM).permutation(len(names))
    frames = dict.fromkeys(names, 0)
    for n, who in zip(lengths, people, strict=True):
        frames[who] += n
    load, side = [0, 0], {}
    for place in order:
        side[names[place]] = int(load[1] < load[0])
        load[side[names[place]]] += frames[names[place]]
    return np.array([side[who] for who in people])


def _refilled(line: np.ndarray, total: int, rng: np.random.Generator) -> np.ndarray:
    """`line` and, behind it, random permutations of it until there are `total` entries."""
    parts = [line]
    while sum(map(len, parts)) < total:
        parts.append(rng.permutation(line))
    return np.concatenate(parts)[:total]


def _fill(counts: np.ndarray, highest: int, total: int, rng: np.random.Generator) -> np.ndarray:
    """Visits added at random until they sum to `total`, no recording above `highest`."""
    counts = counts.copy()
    while (missing := total - int(counts.sum())) > 0:
        free = np.flatnonzero(counts < highest)
        counts[rng.permutation(free)[:missing]] += 1
    return counts


def _deal(counts: np.ndarray, n_batches: int, width: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Deal visits to batches so that no recording meets itself.

    The visits, grouped by recording, fill one column of all batches after another. Only a recording
    whose visits run on into the next column could meet itself there: it takes other batches first.
    """
    order = rng.permutation(len(counts))
    line = np.repeat(order, counts[order])
    table = np.empty((n_batches, width), dtype=np.int64)
    for column in range(width):
        entries = line[column * n_batches : (column + 1) * n_batches]
        rows = rng.permutation(n_batches)
        if column:
            taken = table[rows, column - 1] == entries[0]
            rows = np.concatenate([rows[~taken], rows[taken]])
            head = int((entries == entries[0]).sum())
            rows[head:] = rng.permutation(rows[head:])
        table[rows, column] = entries
    return list(table[rng.permutation(n_batches)])


def _cut(
    batches: list[np.ndarray], lengths: list[int], frames: int, rng: np.random.Generator
) -> Batches:
    """Give every visit a start, uniform over all that fit, and its number in the epoch."""
    flat = np.concatenate(batches)
    starts = rng.integers(0, np.array(lengths)[flat] - frames + 1)
    numbered = iter(zip(flat.tolist(), starts.tolist(), range(len(flat)), strict=True))
    return [[Sample(*next(numbered)) for _ in batch] for batch in batches]
