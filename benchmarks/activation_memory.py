"""Memory a forward pass keeps for the backward pass: `python -m benchmarks.activation_memory`.

Counted, not measured: clips pass as shapes only, and the bytes of all tensors saved for the backward pass
are added up, with and without activation checkpointing, in fp32 and under bf16 autocast. With checkpointing
the inputs of the stages are kept, and the largest stage once more while it is computed again. Weights,
gradients and Adam's two moments are 16 bytes a parameter. Workspaces of kernels and fragments of the
allocator are not counted, and no GPU was used. The losses of STVEN pass a clip four times, the joint stage
passes STVEN and rPPGNet once each, and rPPGNet once more without gradients. A step of LFA/REA makes four
clips of each anchor and passes REA nine times; each of these passes is computed again as a whole, and then
its stages once more: kept are the clips and, one pass at a time, its stages.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable
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
NEGATIVES, PASSES = 4, 9
"""Of an LFA/REA step: clips made of each anchor; passes through REA (two views, these, three neighbours)."""


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


def kept_bytes(step: Callable[[], object], bf16: bool, again: bool) -> tuple[int, int]:
    """Bytes that `step` keeps, and those its largest stage keeps while it is computed again.

    again: whether stages are, also stages within stages.
    """
    open_stages, largest = [Saved()], [0]

    def staged(owner: nn.Module, stage: recompute.Stage, x: Tensor, checkpointing: bool) -> Tensor:
        open_stages[-1].add(x)
        largest.append(0)
        with Saved() as inner:
            open_stages.append(inner)
            result = stage(x)
            open_stages.pop()
        deeper = largest.pop()
        largest[-1] = max(largest[-1], inner.total + deeper)
        return result

    plain = recompute.run
    recompute.run = staged if again else plain
    try:
        with open_stages[0], torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            step()
    finally:
        recompute.run = plain
    return open_stages[0].total, largest[0]


def forward_pass(net: nn.Module, batch: int) -> Callable[[], object]:
    """A forward pass of `batch` clips of the net's own shape."""
    spec: Any = net.input_spec
    return lambda: net(torch.empty(batch, 3, spec.frames, spec.size, spec.size))


def without_labels(net: nn.Module, batch: int, whole: bool) -> Callable[[], object]:
    """What a step of LFA/REA with `batch` items passes through both nets; whole: passes are stages, too."""
    spec: Any = net.input_spec
    rea: Any = net.rea

    def step() -> object:
        clips = [torch.empty(batch, 3, spec.frames, spec.size, spec.size) for _ in range(PASSES - NEGATIVES)]
        made = net.lfa.augmented(clips[0], torch.ones(batch, NEGATIVES))  # type: ignore[union-attr, operator]
        passes = (*clips, *made.unbind(1))
        if whole:
            return [recompute.run(rea, rea.estimate, clip, False) for clip in passes]
        return [rea.estimate(clip) for clip in passes]

    return step


def main() -> int:
    """Print and keep one line per net, precision and checkpointing."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "activation_memory.json")
    args = parser.parse_args()
    cases: list[tuple[str, dict[str, Any], int, int, bool | None]]
    cases = [(*case, args.batch, None) for case in CASES]
    cases += [("lfa_rea", {"experts": experts}, 1, items, whole)
              for experts, items in ((4, 1), (4, 4), (9, 4)) for whole in (False, True)]
    rows = []
    for (name, options, passes, clips, whole), (bf16, again) in itertools.product(
        cases, itertools.product((False, True), repeat=2)
    ):
        if whole and not again:
            continue
        with FakeTensorMode():
            net = nets.build(name, **options).train()
            step = forward_pass(net, clips) if whole is None else without_labels(net, clips, whole)
            of_a_pass, largest = kept_bytes(step, bf16, again)
        kept = passes * of_a_pass + largest
        state = 16 * sum(p.numel() for p in net.parameters())
        rows.append({
            "net": name, "options": options, "clips": clips, "passes": passes, "bf16": bf16,
            "checkpointing": again, "whole_passes": bool(whole), "kept_gib": kept / GIB,
            "state_gib": state / GIB, "total_gib": (kept + state) / GIB,
        })
        say(f"{name} {options or ''}, {clips} clips: {'bf16' if bf16 else 'fp32'}, checkpointing {again}"
            f"{' of whole passes too' if whole else ''}: {kept / GIB:.2f} GiB kept + {state / GIB:.2f} GiB "
            "weights and optimiser")
    write_json(args.out, {"machine": machine("torch"), "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
