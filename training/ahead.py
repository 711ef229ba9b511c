"""Batches on the device, the next one brought there while the device works on this one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from training.faults import memory_advice
from utils.autocast import autocast
from utils.contracts import ClipBatch
from utils.errors import Interrupted


class Ahead:
    """Iterates over batches moved to a device; `fetch` makes the next one before it is asked for."""

    def __init__(
        self, batches: Iterable[ClipBatch], device: torch.device | str, channels_last: bool = False
    ) -> None:
        """batches: on any device; channels_last: videos are laid out for 3D convolutions."""
        self._batches = iter(batches)
        self._device, self._channels_last = torch.device(device), channels_last
        self._next: ClipBatch | None = None
        self._error: BaseException | None = None

    def fetch(self) -> None:
        """Make the next batch, unless it is there; what goes wrong is raised when the batch is asked for."""
        if self._next is not None or self._error is not None:
            return
        try:
            # it may be the middle of a step, and clips are not made in its precision
            with memory_advice("preparing a batch"), torch.no_grad(), autocast(self._device, "off"):
                self._next = self._moved(next(self._batches))
        except (Exception, Interrupted) as error:  # the batch before it comes first
            self._error = error

    def __iter__(self) -> Iterator[ClipBatch]:
        """Every batch in order."""
        while True:
            self.fetch()
            if isinstance(self._error, StopIteration):
                return
            if self._error is not None:
                raise self._error
            batch, self._next = self._next, None
            if batch is not None:
                yield batch

    def _moved(self, batch: ClipBatch) -> ClipBatch:
        moved = batch.to(self._device)
        if self._channels_last and moved.video.dim() == 5:
            video = moved.video.contiguous(memory_format=torch.channels_last_3d)
            moved = dataclasses.replace(moved, video=video)
        return moved


def settled(flag: Tensor, meanwhile: Callable[[], None]) -> bool:
    """Whether a flag (bool, one element) is set; `meanwhile` is called while a GPU still works towards it.

    What it asks of the device comes after the flag, so that the device has work when the flag arrives here.
    """
    if not flag.is_cuda:
        return bool(flag)
    here = torch.empty_like(flag, device="cpu", pin_memory=True)
    here.copy_(flag, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record(torch.cuda.current_stream(flag.device))  # not the one of the first card
    meanwhile()
    arrived.synchronize()
    return bool(here)
