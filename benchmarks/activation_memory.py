"""Memory a forward pass keeps for the backward pass: `python -m benchmarks.activation_memory`.

Counted, not measured: clips pass as shapes only, and the bytes of all tensors saved for the backward pass
are added up, with and without activation checkpointing, in fp32 and under bf16 autocast. With checkpointing
the inputs of the stages are kept, and the largest stage once more while it is computed again. Weights,
gradients and Adam's two moments are 16 bytes a parameter. Workspaces of kernels and fragments of the
allocator are not counted, and no GPU was used. The losses of STVEN pass a clip four times, the joint stage
passes STVEN and rPPGNet once each, and rPPGNet once more without gradients.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import nets
from benchmarks.machine import RESULTS, machine
from nets.layers import recompute
from utils.files import write_json
from utils.runlog import say

GIB = 2**30
CASES: list[tuple[str, dict[str, Any], int]] = [
    ("rppgnet", {}, 1), ("stven", {}, 4), ("stven", {"blocks": 4, "levels": 5}, 4), ("stven_rppgnet", {}, 1),
]
"""Net, options, and how often a step of its method passes a clip."""


class Saved:
    """Collects the storages saved for the backward pass inside `with`."""

    def __init__(self) -> None:
        self.bytes: dict[int, int] = {}
        self._held: list[Tensor] = []
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self.add, lambda tensor: tensor)

    def add(self, tensor: Tensor) -> Tensor:
        """Count a tensor's storage, once; held, so that no other takes its place."""
        storage = tensor.untyped_storage()
        if not isinstance(tensor, nn.Parameter):
            self.bytes[storage._cdata] = storage.nbytes()
        self._held.append(tensor)
        return tensor

    def __enter__(self) -> Saved:
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._hooks.__exit__(*error)

    @property
    def total(self) -> int:
        """Bytes of all distinct storages."""
        return sum(self.bytes.values())


def kept_bytes(net: nn.Module, batch: int, bf16: bool, again: bool) -> tuple[int, int]:
    """Bytes a forward pass of `batch` clips of the net's own shape keeps, and those of its largest stage."""
    spec: Any = net.input_spec
    video = torch.empty(batch, 3, spec.frames, spec.size, spec.size)
    outer, largest = Saved(), 0

    def staged(owner: nn.Module, stage: recompute.Stage, x: Tensor, checkpointing: bool) -> Tensor:
        nonlocal largest
        with Saved() as inner:
            result = stage(x)
        largest = max(largest, inner.total)
        outer.add(x)
        return result

    plain = recompute.run
    recompute.run = staged if again else plain
    try:
        with outer, torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            net(video)
    finally:
        recompute.run = plain
    return outer.total, largest


def main() -> int:
    """Print and keep one line per net, precision and checkpointing."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "activation_memory.json")
    args = parser.parse_args()
    rows = []
    for name, options, passes in CASES:
        for bf16, again in itertools.product((False, True), repeat=2):
            with FakeTensorMode():
                net = nets.build(name, **options).train()
                of_a_pass, largest = kept_bytes(net, args.batch, bf16, again)
            kept = passes * of_a_pass + largest
            state = 16 * sum(p.numel() for p in net.parameters())
            rows.append({
                "net": name, "options": options, "clips": args.batch, "passes": passes, "bf16": bf16,
                "checkpointing": again, "kept_gib": kept / GIB, "state_gib": state / GIB,
                "total_gib": (kept + state) / GIB,
            })
            say(f"{name} {options or ''}: {'bf16' if bf16 else 'fp32'}, checkpointing {again}: "
                f"{kept / GIB:.2f} GiB kept + {state / GIB:.2f} GiB weights and optimiser")
    write_json(args.out, {"machine": machine("torch"), "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
