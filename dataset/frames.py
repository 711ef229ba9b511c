"""Where the frames of clips come from: the store anew each time, or a device's memory that keeps them."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dataset.index import RecordingInfo
from preprocessing.store import StoredRecording
from utils.contracts import InputSpec
from utils.errors import UserError
from utils.files import MIB

MOST = {"auto": 0.5, "device": 0.9}
"""Share of a device's free memory that frames may take; the training needs some, too."""


class Frames:
    """Frames as uint8 tensors on one device, where clips are then cropped, resized and normalised.

    With `keep`, a recording's frames are brought there whole when they are first asked for, and stay.
    """

    def __init__(self, device: torch.device | str = "cpu", keep: bool = False) -> None:
        self.device, self.keep = torch.device(device), keep
        self._kept: dict[tuple[Path, str], Tensor] = {}
        self._buffer = np.empty(0, np.uint8)

    def read(self, stored: StoredRecording, name: str, start: int, stop: int, side: int) -> Tensor:
        """Frames start..stop-1 of the stored array `name`, uint8 (n, side, side, 3).

        Good until the next read. They may be what is kept itself: nobody writes into them.
        """
        if not self.keep:
            return self._fresh(stored, name, start, stop, side)
        if (stored.path, name) not in self._kept:
            whole = torch.from_numpy(stored.read_frames(0, stored.n_frames, name=name))
            self._kept[stored.path, name] = whole.to(self.device)
        return self._kept[stored.path, name][start:stop]

    def _fresh(self, stored: StoredRecording, name: str, start: int, stop: int, side: int) -> Tensor:
        """From the store, by a buffer that is reused: fresh memory costs more than the reading."""
        shape = (stop - start, side, side, 3)
        if self.device.type == "cuda":
            # torch hands pinned memory out again only when the copy from it is done
            pinned = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
            stored.read_frames(start, stop, out=pinned.numpy(), name=name)
            return pinned.to(self.device, non_blocking=True)
        if self._buffer.size < math.prod(shape):
            self._buffer = np.empty(math.prod(shape), np.uint8)
        out = self._buffer[: math.prod(shape)].reshape(shape)
        return torch.from_numpy(stored.read_frames(start, stop, out=out, name=name)).to(self.device)


FROM_STORE = Frames()
"""Frames read anew into main memory: what every reader without wishes of its own uses."""


def choose(
    keep: str, device: torch.device, infos: Sequence[RecordingInfo], spec: InputSpec, workers: int = 0
) -> Frames:
    """Where the frames of clips of these recordings come from, by the setting data.keep.

    "device" keeps them in the memory of `device`, UserError where they do not fit; "store" reads them
    anew; "auto" keeps them on a GPU that has twice the room. Workers prepare clips on the CPU.
    """
    wanted = n_bytes(infos, spec)
    free = free_bytes(device) if keep == "device" or (keep == "auto" and device.type == "cuda") else 0
    room = int(free * MOST.get(keep, 0))
    if keep == "device" and wanted > room:
        raise UserError(
            f'data.keep = "device": the frames take {wanted // MIB:,} MiB and {device} has room for '
            f'{room // MIB:,} MiB beside a training; set data.keep to "store", or preprocessing.size lower'
        )
    if wanted <= room:
        return Frames(device, keep=True)
    return Frames("cpu" if workers else device)


def n_bytes(infos: Sequence[RecordingInfo], spec: InputSpec) -> int:
    """What the frames that clips are made of take in memory; compressed copies count too."""
    return sum(info.n_frames * info.size**2 * 3 for info in infos) * (1 + len(spec.qualities))


def free_bytes(device: torch.device) -> int:
    """Free memory of a device, a GPU's shared out evenly over the processes of this machine."""
    if device.type == "cuda":
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        sharing = math.ceil(processes / torch.cuda.device_count())
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return (int(torch.cuda.mem_get_info(device)[0]) + unused) // sharing
    told = Path("/proc/meminfo")
    if not told.exists():
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    values = dict(line.split(":", 1) for line in told.read_text().splitlines())
    return int(values["MemAvailable"].split()[0]) * 1024
