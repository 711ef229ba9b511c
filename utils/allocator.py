"""The C library's memory allocator, told to keep what a training step frees for the next one."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3


def keep_freed_memory(mib: int = 1024) -> bool:
    """Keep freed blocks of up to `mib` MiB in the process instead of returning them to the system.

    A training step on a CPU frees and asks for the same large blocks over and over; fresh pages cost a
    fault and a zeroing each time. Changes no result. Returns whether the C library took it (glibc does).
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    wanted = {M_MMAP_THRESHOLD: min(mib << 20, 2**31 - 1), M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 64 << 20}
    return all([bool(mallopt(key, value)) for key, value in wanted.items()])
