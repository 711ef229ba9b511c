"""Parts of a net that learn while the rest stays as it is."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def train_only(net: nn.Module, parts: Sequence[str]) -> None:
    """Freeze every weight but those whose names begin with one of `parts`, such as "head" or "experts.head".

    ValueError for a part that the net has not got, naming those it has.
    """
    names = [name for name, _ in net.named_parameters()]
    unknown = [part for part in parts if not any(_within(name, part) for name in names)]
    if unknown or not parts:
        has = ", ".join(dict.fromkeys(name.partition(".")[0] for name in names))
        raise ValueError(f"{type(net).__name__} has no part {', '.join(map(repr, unknown))}; it has {has}")
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(any(_within(name, part) for part in parts))


def hold_frozen(net: nn.Module) -> None:
    """Evaluation mode for every module whose weights are all frozen: its batch statistics must not drift."""
    for module in net.modules():
        weights = list(module.parameters())
        if weights and not any(weight.requires_grad for weight in weights):
            module.eval()


def _within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")
