"""The learning rate of one optimiser over a run."""

from __future__ import annotations

from typing import Any, Literal

from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from utils.errors import UserError

Each = Literal["step", "epoch"]


class Schedule:
    """The learning rate of one optimiser over the run; `each` says what advances it."""

    def __init__(
        self, scheduler: LRScheduler | None, each: Each, total_steps: int, is_laid_out: bool = False
    ) -> None:
        """scheduler: None keeps the rate; each: "step" or "epoch"; total_steps: of the optimiser.

        is_laid_out: its shape follows from total_steps, so that a run cannot go on with another number.
        """
        self._scheduler, self._each, self._total, self._taken = scheduler, each, total_steps, 0
        self._is_laid_out = is_laid_out

    def after_step(self) -> None:
        """Advance a schedule that counts steps of the optimiser.

        Not after the last one: torch's one-cycle would turn upwards behind its end.
        """
        self._taken += 1
        if self._scheduler is not None and self._each == "step" and self._taken < self._total:
            self._scheduler.step()

    def after_epoch(self, monitored: float | None) -> None:
        """Advance a schedule that counts epochs; `monitored` (lower is better) feeds the plateau."""
        if self._scheduler is None or self._each != "epoch":
            return
        if not isinstance(self._scheduler, ReduceLROnPlateau):
            self._scheduler.step()
        elif monitored is not None:
            self._scheduler.step(monitored)

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        inner = None if self._scheduler is None else self._scheduler.state_dict()
        return {"taken": self._taken, "total": self._total, "scheduler": inner}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; UserError when the run's length no longer fits."""
        if self._is_laid_out and state["total"] != self._total:
            raise UserError(
                f"train.epochs: this run began with a schedule over {state['total']} steps, now it has "
                f"{self._total}; keep the number of epochs, or choose another run.name"
            )
        self._taken = state["taken"]
        if self._scheduler is not None:
            self._scheduler.load_state_dict(state["scheduler"])
