"""What a net consists of and what it costs: layers, parameters, floating-point operations."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from nets.methods.base import evaluating
from utils.contracts import InputSpec


@dataclass
class Layer:
    """One layer: its name in the net, its type, its own parameters and the shape it puts out."""

    name: str
    kind: str
    parameters: int
    output: tuple[int, ...] | None = None


def model_summary(net: nn.Module, spec: InputSpec) -> tuple[str, dict[str, Any]]:
    """A table to print and the same as plain values, for one clip as `spec` describes it.

    Operations of convolutions and matrix products are counted, a multiplication with its addition
    (MAC) as two FLOPs; those of recurrent layers are not. No arithmetic is done and no memory taken: the
    clip passes as shapes only.
    """
    layers = {
        name: Layer(name, type(module).__name__, sum(p.numel() for p in module.parameters(recurse=False)))
        for name, module in net.named_modules() if name and not list(module.children())
    }
    total = sum(p.numel() for p in net.parameters())
    trainable = sum(p.numel() for p in net.parameters() if p.requires_grad)
    flops = _trace(net, spec, layers) if total else 0
    values = {
        "net": type(net).__name__, "input": [1, spec.channels, spec.frames, spec.size, spec.size],
        "layers": [asdict(layer) for layer in layers.values()], "parameters": total,
        "trainable_parameters": trainable, "flops_per_clip": flops, "macs_per_clip": flops // 2,
    }
    return _table(list(layers.values()), values), values


def _trace(net: nn.Module, spec: InputSpec, layers: dict[str, Layer]) -> int:
    """FLOPs of one clip; fills in the shapes the layers put out."""
    handles = [
        module.register_forward_hook(_note(layers[name])) for name, module in net.named_modules()
        if name in layers
    ]
    state = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    try:
        with FakeTensorMode(), evaluating(net), torch.no_grad():
            # on a CPU wherever the net is: cuDNN asks recurrent layers for addresses, which shapes lack
            shapes = {name: torch.empty(value.shape, dtype=value.dtype) for name, value in state.items()}
            clip = torch.empty(1, spec.channels, spec.frames, spec.size, spec.size)
            with FlopCounterMode(display=False) as counter:
                torch.func.functional_call(net, shapes, (clip,))
    finally:
        for handle in handles:
            handle.remove()
    return int(counter.get_total_flops())


def _note(layer: Layer) -> Any:
    """A hook that writes down the shape of what the layer puts out."""

    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        layer.output = tuple(output.shape) if isinstance(output, Tensor) else None

    return hook


def _table(layers: list[Layer], values: dict[str, Any]) -> str:
    """The summary as text, one line a layer."""
    rows = [("layer", "type", "output", "parameters")]
    rows += [
        (x.name, x.kind, "x".join(map(str, x.output[1:])) if x.output else "", f"{x.parameters:,}")
        for x in layers
    ]
    name, kind, output = (max(len(row[i]) for row in rows) for i in range(3))
    lines = [f"{a:<{name}}  {b:<{kind}}  {c:<{output}}  {d:>12}" for a, b, c, d in rows]
    clip = " x ".join(map(str, values["input"][1:]))
    lines.append(
        f"{values['net']}: {values['parameters']:,} parameters, "
        f"{values['flops_per_clip'] / 1e9:.2f} GFLOP ({values['macs_per_clip'] / 1e9:.2f} GMAC) "
        f"a clip of {clip} (channels, frames, height, width)"
    )
    return "\n".join(lines)
