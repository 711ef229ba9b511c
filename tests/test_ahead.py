"""The next batch, made while the device works on the one before it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch

from tests.training_toys import Batches, TinyNet, TwoOptimisers, settings
from training.ahead import Ahead, settled
from training.updater import Updater
from utils.autocast import autocast
from utils.contracts import ClipBatch
from utils.errors import Interrupted, Stopped, UserError


def numbered(n: int, error: BaseException | None = None) -> Iterator[ClipBatch]:
    """n batches whose first clip starts at 0, 1, ..., then the error."""
    for number, batch in zip(range(n), itertools.cycle(Batches(steps=1).epoch(0)), strict=False):
        batch.start[0] = number
        yield batch
    if error is not None:
        raise error


def test_batches_come_in_order_however_early_they_are_made() -> None:
    """Asked for once, twice or not at all ahead of time, every batch comes once, in order, and they end."""
    ahead, seen = Ahead(numbered(7), "cpu"), []
    for batch in ahead:
        seen.append(batch.start[0])
        for _ in range(len(seen) % 3):
            ahead.fetch()
    assert seen == list(range(7))


def test_a_batch_made_within_a_step_is_made_in_full_precision() -> None:
    """Neither the mixed precision nor the gradients of the step it is made in reach its clips."""
    seen: list[tuple[bool, bool]] = []

    def noted() -> Iterator[ClipBatch]:
        for batch in numbered(2):
            seen.append((torch.is_autocast_enabled("cpu"), torch.is_grad_enabled()))
            yield batch

    ahead = Ahead(noted(), "cpu")
    with autocast("cpu", "bf16"):
        for _ in ahead:
            ahead.fetch()
            assert torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()
    assert seen == [(False, False)] * 2


@pytest.mark.parametrize("error", [UserError("gone.h5: No such file"), Interrupted(143)])
def test_an_error_comes_after_the_batches_before_it(error: BaseException) -> None:
    """What goes wrong in making a batch is raised when that batch is asked for, not in the step before it."""
    ahead, seen = Ahead(numbered(2, error), "cpu"), 0
    with pytest.raises(type(error)) as raised:
        for _ in ahead:
            ahead.fetch()
            seen += 1
    assert seen == 2 and raised.value is error


def test_no_memory_for_a_batch_is_told_with_the_remedy() -> None:
    """A batch that does not fit is named as such."""
    with pytest.raises(Stopped, match=r"out of memory in preparing a batch: use a smaller train\.batch"):
        list(Ahead(numbered(1, torch.OutOfMemoryError("CUDA out of memory")), "cpu"))


def test_only_videos_are_laid_out_for_convolutions() -> None:
    """channels_last changes the layout of a video, and no value."""
    plain, laid = (next(iter(Ahead(numbered(1), "cpu", layout))) for layout in (False, True))
    assert laid.video.is_contiguous(memory_format=torch.channels_last_3d) and plain.video.is_contiguous()
    assert torch.equal(plain.video, laid.video)


def test_the_guard_has_the_next_batch_made_while_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """At each step's check the next batch is made; on a CPU nothing waits, and nothing is made early."""
    made = []

    def waited(flag: torch.Tensor, meanwhile: object) -> bool:
        assert callable(meanwhile)
        meanwhile()
        return bool(flag)

    method = TwoOptimisers(TinyNet())
    updater = Updater(method, settings(), "cpu", total_steps=1, steps_per_epoch=1)
    updater.meanwhile = lambda: made.append(1)
    batch = next(numbered(1))
    method.train_step(batch, updater)
    assert made == []
    monkeypatch.setattr("training.updater.settled", waited)
    method.train_step(batch, updater)
    assert len(made) == 2
    assert settled(torch.tensor(True), lambda: None) and not settled(torch.tensor(False), lambda: None)
