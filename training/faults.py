"""What ends a training with a named cause: values that are not finite, memory that is not there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from utils.contracts import ClipBatch
from utils.errors import Stopped

_NO_MEMORY = ("can't allocate memory", "ALLOC_FAILED", "CUDA error: out of memory")
"""What the CPU's allocator, cuBLAS and cuDNN, and the driver say; torch has no class of error for these."""


class NonFinite(Stopped):
    """A loss, gradient or weight is NaN or infinite; nothing was stepped with it."""

    def __init__(self, term: str, detail: str = "") -> None:
        """term: what is not finite; detail: where it was met."""
        self.term = term
        super().__init__(f"{term} is not finite{detail}")


def name_clips(batch: ClipBatch) -> str:
    """The clips of a batch; those whose own data is not finite are marked."""
    parts = []
    for index, (recording, start) in enumerate(zip(batch.recording, batch.start, strict=True)):
        labelled = bool(batch.has_label[index])
        fine = bool(torch.isfinite(batch.video[index]).all()) and (
            not labelled or bool(torch.isfinite(batch.pulse[index]).all()))
        parts.append(f"{recording} from frame {start}" + ("" if fine else " (its data is not finite)"))
    return ", ".join(parts)


@contextlib.contextmanager
def memory_advice(place: str, n_clips: int | None = None, shape: tuple[int, ...] = ()) -> Iterator[None]:
    """Turn running out of memory into advice."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        told = any(words in str(error) for words in _NO_MEMORY)
        if not (told or isinstance(error, MemoryError | torch.OutOfMemoryError)):
            raise
        of = f", {n_clips} clips of {'x'.join(map(str, shape))}" if n_clips else ""
        raise Stopped(
            f"out of memory in {place}{of}: use a smaller train.batch (with train.accumulate), "
            'train.amp = "bf16", data.keep = "store", or smaller net.input.frames or net.input.size; with '
            "more memory free, run again to go on from the last checkpoint") from error
