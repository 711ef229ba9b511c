"""Every source of randomness, in one place."""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int, deterministic: bool = True) -> None:
    """Seed python, numpy and torch, and choose torch's deterministic algorithms.

    With `deterministic` the same machine kind, versions and thread count give the same bits;
    without it cuDNN may choose faster kernels whose results differ between runs.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    full_precision()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
    # what a step does not write it does not read, and filling it first takes 3 % of the time
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def full_precision() -> None:
    """float32 is float32: without this, convolutions on a GPU round their input to 10 bits (TF32)."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def sample_rng(*key: int) -> np.random.Generator:
    """A generator that is a function of the key alone, for example (seed, epoch, index)."""
    return np.random.default_rng(np.random.SeedSequence([int(k) for k in key]))


def rng_state() -> dict[str, Any]:
    """The state of every global generator, in types that `torch.load(weights_only=True)` takes.

    Of several GPUs that of the present one.
    """
    kind, keys, position, has_gauss, cached = np.random.get_state()  # type: ignore[misc]
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": [kind, torch.from_numpy(np.asarray(keys, dtype=np.int64)), int(position),
                  int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: dict[str, Any]) -> None:
    """Restore what `rng_state` returned."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
