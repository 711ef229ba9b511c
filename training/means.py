"""What the loop remembers of the loss terms: means over batches, and the loss of every step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from training.faults import NonFinite


class Means:
    """Means of the loss terms over batches: summed on the device, read only now and then."""

    def __init__(self) -> None:
        """Empty."""
        self._fresh: dict[str, tuple[Tensor, int]] = {}
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, terms: dict[str, Tensor]) -> None:
        """Add one batch's scalar terms."""
        for name, value in terms.items():
            total, n = self._fresh.get(name, (0.0, 0))
            self._fresh[name] = (total + value.detach().double(), n + 1)

    def read(self) -> dict[str, float]:
        """Means since the last reading; NonFinite names a term that went wrong."""
        means = {}
        for name, (total, n) in self._fresh.items():
            value = float(total)
            if not math.isfinite(value):
                raise NonFinite(name)
            before, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = (before + value, count + n)
            means[name] = value / n
        self._fresh = {}
        return means

    def whole(self) -> dict[str, float]:
        """Means over all that was read."""
        return {name: total / n for name, (total, n) in self._sums.items()}

    def state_dict(self) -> dict[str, Any]:
        """Sums and counts."""
        return {"fresh": dict(self._fresh), "sums": dict(self._sums)}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Restore what `state_dict` returned."""
        self._fresh = {name: (total.to(device), n) for name, (total, n) in state["fresh"].items()}
        self._sums = dict(state["sums"])


class Curve:
    """The loss of every step, in order; kept on the device until it is read."""

    def __init__(self) -> None:
        """Empty."""
        self._fresh: list[Tensor] = []
        self._values: list[float] = []

    def add(self, loss: Tensor) -> None:
        """Append one step's loss, a scalar."""
        self._fresh.append(loss.detach().double())

    def read(self) -> list[float]:
        """All values so far."""
        if self._fresh:
            self._values += torch.stack(self._fresh).tolist()
            self._fresh = []
        return self._values

    def state_dict(self) -> Tensor:
        """The values, float64 (steps,)."""
        return torch.tensor(self.read(), dtype=torch.float64)

    def load_state_dict(self, state: Tensor) -> None:
        """Restore what `state_dict` returned."""
        self._fresh, self._values = [], state.tolist()


def plain(metrics: dict[str, float]) -> dict[str, float | None]:
    """JSON has no NaN: null."""
    return {name: value if value is not None and math.isfinite(value) else None
            for name, value in metrics.items()}
