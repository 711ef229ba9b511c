"""Several processes that train one method together, as torchrun starts them.

Every process draws the same batches, takes its share of the clips of each, and averages gradients, loss
terms and buffers with the others, weighted by the clips behind them. It is data parallelism without a wrapper
around the net, so that it holds for methods with several optimisers and for those that read gradients.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.distributed as dist

# Imported after joining, its default arguments would hold the group, whose threads then outlive stop().
import torch.distributed.nn
from torch import Tensor, nn

from utils import interrupt
from utils.errors import Interrupted, UserError
from utils.seeding import sample_rng

# Preprocessing and validation are the first process's work, and the others wait for it.
PATIENCE = datetime.timedelta(hours=24)
_RANK_STREAM = 6


def start(device: torch.device) -> torch.device:
    """Join the processes that torchrun started; returns the device of this one.

    Where torchrun has not started this program nothing happens. Over CUDA devices NCCL is used, or gloo
    where processes share a card, which NCCL refuses.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or dist.is_initialized():
        return own_device(device)
    if device.type == "cuda" and device.index is not None:
        raise UserError(f"run.device: {device} is one card, and torchrun started several processes, each of "
                        "which takes its own; use cuda")
    cards = torch.cuda.device_count() if device.type == "cuda" else 0
    alone = cards >= int(os.environ["LOCAL_WORLD_SIZE"])
    dist.init_process_group("nccl" if alone else "gloo", timeout=PATIENCE)
    return own_device(device)


def own_device(device: torch.device) -> torch.device:
    """The card of this process where there are several processes."""
    if count() == 1 or device.type != "cuda":
        return device
    own = torch.device("cuda", int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    torch.cuda.set_device(own)
    return own


def count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this one, from 0."""
    return dist.get_rank() if count() > 1 else 0


def stop() -> None:
    """Leave the others, and end the threads that spoke to them; nothing happens where there are none.

    A thread of the group that still let go of a tensor while Python ends would abort the process.
    """
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def from_first(value: Any = None) -> Any:
    """What the first process gives, in every process; the others' values are not looked at."""
    if count() == 1:
        return value
    held = [value]
    dist.broadcast_object_list(held, src=0)
    return held[0]


def mean_(tensors: Iterable[Tensor], share: float) -> None:
    """Replace each tensor by its mean over the processes, in place; share: this one's weight, 0..1.

    A share of 1 in every process gives the sum.
    """
    if count() == 1:
        return
    kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    for group in kinds.values():
        flat = torch.cat([tensor.reshape(-1) for tensor in group]).mul_(share)
        dist.all_reduce(flat)
        for tensor, piece in zip(group, flat.split([t.numel() for t in group]), strict=True):
            tensor.copy_(piece.view(tensor.shape))


def mean_buffers(module: nn.Module, share: float) -> None:
    """Average what a module keeps beside its weights; whole numbers count the same steps everywhere."""
    mean_((b for b in module.buffers() if b.is_floating_point()), share)


def mean_terms(terms: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Means of scalar loss terms over the processes: what one process with all clips would log."""
    if count() == 1:
        return terms
    together = torch.stack([terms[name].detach().double() for name in terms])
    mean_([together], share)
    return dict(zip(terms, together, strict=True))


def stop_if_asked(due: bool = True) -> None:
    """Raise Interrupted where a process was asked to stop; all of them call it at the same place.

    due: whether it is time for several processes to ask each other, which waits for the slowest.
    """
    if count() == 1:
        return interrupt.check()
    if not due:
        return None
    codes: list[Any] = [None] * count()
    dist.all_gather_object(codes, interrupt.code())
    if any(codes):
        raise Interrupted(max(codes))
    return None


def measured(validate: Callable[[int], dict[str, float]], epoch: int) -> dict[str, float]:
    """What validation gives in the first process, for all: the others would only repeat it."""
    answer: tuple[dict[str, float], int] = {}, 0
    if rank() == 0:
        try:
            answer = validate(epoch), 0
        except Interrupted as stop:
            answer = {}, stop.exit_code
    metrics, code = from_first(answer)
    if code:
        raise Interrupted(code)
    result: dict[str, float] = metrics
    return result


def share_norms(method: nn.Module, device: torch.device) -> None:
    """Every batch norm over the clips of all processes; UserError on a CPU, where torch has no such layer."""
    if device.type != "cuda":
        raise UserError("train.sync_batch_norm needs GPUs; on a CPU batch statistics are each process's own")
    for name, part in method.named_children():
        setattr(method, name, nn.SyncBatchNorm.convert_sync_batchnorm(part))


def draw_apart(seed: int, step: int) -> None:
    """Random numbers of this process's own from here on, a function of (seed, step, its number)."""
    if count() > 1:
        torch.manual_seed(int(sample_rng(seed, step, rank(), _RANK_STREAM).integers(2**62)))


def require_clips(batch: int) -> None:
    """UserError where a batch cannot be shared out."""
    if batch < count():
        raise UserError(f"train.batch = {batch} is the whole batch, shared out over {count()} processes: it "
                        "must be at least as large")
