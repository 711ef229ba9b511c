"""The only one who steps optimisers: backward, accumulation, clipping, precision, schedules, guard."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import LBFGS, Optimizer

from training import ranks
from training.ahead import settled
from training.faults import NonFinite
from training.optim import make_optimizer, make_scheduler
from training.precision import LossScale, place, resolve_amp
from utils.autocast import autocast
from utils.errors import UserError
from utils.settings import Train

__all__ = ["NonFinite", "Updater", "place", "resolve_amp"]


class Updater:
    """Steps the optimisers of one method; see utils.contracts.Updater for what methods call.

    A loss or gradient that is not finite raises NonFinite before anything is stepped.
    """

    def __init__(
        self, method: nn.Module, settings: Train, device: torch.device | str,
        total_steps: int, steps_per_epoch: int,
    ) -> None:
        """Place `method` on `device` and make its optimisers and schedules.

        total_steps, steps_per_epoch: batches of the whole run and of an epoch.
        """
        self.device, self.amp = torch.device(device), resolve_amp(settings.amp, device)
        if self.amp == "fp16" and method.reads_gradients:
            raise UserError(f'{type(method).__name__} reads gradients and cannot run with train.amp = '
                            '"fp16"; use "bf16" or "off"')
        place(method, self.device, settings.channels_last)
        self._settings, self._scale = settings, LossScale() if self.amp == "fp16" else None
        self._names = {id(p): name for name, p in method.named_parameters()}
        self._plans: dict[int, dict[str, Any]] = {}
        self._optimizers: dict[str, Optimizer] = method.optimizers(self._make)  # type: ignore[operator]
        per_epoch = math.ceil(steps_per_epoch / settings.accumulate)
        total = total_steps // max(1, steps_per_epoch) * per_epoch
        self._schedules = {
            name: make_scheduler(optimizer, settings, total, per_epoch, **self._plans[id(optimizer)])
            for name, optimizer in self._optimizers.items()
        }
        self._sums: dict[str, list[Tensor | None]] = {}
        self._counts: dict[str, int] = {}
        self._seen: set[str] = set()
        self._batches, self._share = 0, 1.0
        # What the loop wants done while the guard waits for a GPU.
        self.meanwhile: Callable[[], None] = lambda: None

    def start_batch(self, share: float) -> None:
        """Called by the loop before each batch; share: of its clips that are this process's, 0..1."""
        self._share = share

    def _make(self, params: Iterable[nn.Parameter], **overrides: Any) -> Optimizer:
        """What methods make optimisers with; `scheduler` and `scheduler_options` may be overridden too."""
        plan = {key: overrides.pop(key) for key in list(overrides) if key.startswith("scheduler")}
        optimizer = make_optimizer(params, self._settings, **overrides)
        self._plans[id(optimizer)] = plan
        return optimizer

    def autocast(self, enabled: bool = True) -> AbstractContextManager[None]:
        """Mixed precision inside, where it is switched on."""
        return autocast(self.device, self.amp, enabled)

    def minimise(self, loss: Tensor, *names: str, again: Callable[[], Tensor] | None = None) -> None:
        """Backward pass of `loss` (a scalar), then one step of the named optimisers.

        Only their parameters get gradients. With accumulation the step comes with the last batch of a
        group. again: evaluates the loss anew, for optimisers with a line search (lbfgs).
        """
        optimizers = [self._optimizer(name) for name in names]
        params = [p for optimizer in optimizers for p in _parameters(optimizer)]
        if len({id(p) for p in params}) < len(params):
            raise ValueError(f"optimisers {', '.join(names)} share parameters: minimise them one by one")
        if any(isinstance(optimizer, LBFGS) for optimizer in optimizers):
            return self._search(names, params, again)
        norm = self._guard(self._backward(loss, params), params)
        if norm is not None and self._settings.accumulate == 1:
            self._step(optimizers, params, norm)
        elif norm is not None:
            self._accumulate(names)
        return None

    def apply(self, name: str, grads: Iterable[Tensor | None]) -> None:
        """One step of the named optimiser with gradients made elsewhere, in parameter order."""
        if self._settings.accumulate > 1:
            raise UserError("this method makes its own gradients: train.accumulate must be 1")
        if self._scale is not None:
            raise UserError('this method makes its own gradients: train.amp = "fp16" is not possible')
        if self._settings.sync_batch_norm:
            raise UserError("this method makes its own gradients: train.sync_batch_norm is not possible")
        optimizer = self._optimizer(name)
        if isinstance(optimizer, LBFGS):
            raise UserError("lbfgs needs a loss, and this method makes its own gradients; use another "
                            "train.optimizer")
        params = _parameters(optimizer)
        for parameter, grad in zip(params, grads, strict=True):
            parameter.grad = None if grad is None else grad.detach()
        ranks.mean_(_gradients(params), self._share)
        norm = self._guard(torch.zeros((), device=self.device), params)
        assert norm is not None, "only the loss scale of fp16 lets a step pass"
        self._step([optimizer], params, norm)

    def finish_batch(self, last: bool) -> None:
        """Called by the loop after each batch; `last`: of the epoch, where a started group is stepped."""
        self._seen.clear()
        self._batches += 1
        if last:
            for name in [name for name, count in self._counts.items() if count]:
                self._step_sums([name])
        if last or self._batches % self._settings.accumulate == 0:
            with warnings.catch_warnings():
                # An optimiser that a method has not used yet still follows its schedule.
                warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
                for schedule in self._schedules.values():
                    schedule.after_step()
        if last:
            self._batches = 0

    def finish_epoch(self, monitored: float | None) -> None:
        """Advance the schedules that count epochs; `monitored`: this epoch's value, lower is better."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            for schedule in self._schedules.values():
                schedule.after_epoch(monitored)

    def learning_rates(self) -> dict[str, float]:
        """The present rate of each optimiser."""
        return {name: float(o.param_groups[0]["lr"]) for name, o in self._optimizers.items()}

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        scale = None if self._scale is None else [self._scale.factor, self._scale.quiet]
        return {
            "optimizers": {name: o.state_dict() for name, o in self._optimizers.items()},
            "schedules": {name: s.state_dict() for name, s in self._schedules.items()},
            "sums": self._sums, "counts": self._counts, "batches": self._batches, "scale": scale,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name, optimizer in self._optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
            self._schedules[name].load_state_dict(state["schedules"][name])
        self._sums = {name: [None if g is None else g.to(self.device) for g in grads]
                      for name, grads in state["sums"].items()}
        self._counts, self._batches = dict(state["counts"]), state["batches"]
        if self._scale is not None and state["scale"] is not None:
            self._scale.factor, self._scale.quiet = state["scale"]

    def _optimizer(self, name: str) -> Optimizer:
        if name not in self._optimizers:
            raise KeyError(f"no optimiser {name!r}; this method made {', '.join(self._optimizers)}")
        return self._optimizers[name]

    def _backward(self, loss: Tensor, params: list[nn.Parameter]) -> Tensor:
        """Fresh gradients of `params` alone, and the loss, both those of all processes together.

        The backward pass runs outside autocast. A process weighs its loss, not its gradients: in a batch norm
        over all processes each one's gradient flows through the clips of the others.
        """
        for parameter in params:
            parameter.grad = None
        mine = loss if ranks.count() == 1 else loss * self._share
        with self.autocast(enabled=False):
            scaled = mine if self._scale is None else mine * self._scale.factor
            scaled.backward(inputs=[p for p in params if p.requires_grad])
        whole = mine.detach().clone()
        ranks.mean_([whole, *_gradients(params)], 1.0)
        return whole

    def _guard(self, loss: Tensor, params: list[nn.Parameter]) -> Tensor | None:
        """Norm of the gradients; None where fp16 overflowed; NonFinite otherwise, gradients dropped."""
        grads = _gradients(params)
        if self._scale is not None and grads:
            torch._foreach_mul_(grads, 1.0 / self._scale.factor)
        norm = get_total_norm(grads)
        finite = torch.isfinite(loss.detach()).all() & torch.isfinite(norm).to(loss.device)
        if settled(finite, self.meanwhile):
            if self._scale is not None:
                self._scale.good()
            return norm
        term = self._blame(loss, params)
        for parameter in params:
            parameter.grad = None
        if self._scale is None or term == "loss":
            raise NonFinite(term)
        if not self._scale.overflow():
            raise NonFinite(term, " at any loss scale of fp16")
        return None

    def _blame(self, loss: Tensor, params: list[nn.Parameter]) -> str:
        if not bool(torch.isfinite(loss.detach()).all()):
            return "loss"
        for parameter in params:
            if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
                return f"gradient of {self._names.get(id(parameter), 'a parameter')}"
        return "norm of the gradients"

    def _step(self, optimizers: list[Optimizer], params: list[nn.Parameter], norm: Tensor) -> None:
        """Clip by the norm over all named optimisers together, and step them."""
        if self._settings.clip_norm is not None:
            with_grad = [p for p in params if p.grad is not None]
            clip_grads_with_norm_(with_grad, self._settings.clip_norm, norm)
        for optimizer in optimizers:
            optimizer.step()
        for parameter in params:
            parameter.grad = None
        # Autocast keeps the cast weights; a method that goes on in this batch must see the new ones.
        torch.clear_autocast_cache()

    def _accumulate(self, names: tuple[str, ...]) -> None:
        """Add this batch's gradients to the sums; step when a group is full."""
        for name in names:
            if name in self._seen:
                raise UserError(f"this method steps {name!r} more than once a batch: "
                                "train.accumulate must be 1")
            self._seen.add(name)
            grads = [p.grad for p in _parameters(self._optimizers[name])]
            sums = self._sums.get(name) or [None] * len(grads)
            self._sums[name] = [_added(a, b) for a, b in zip(sums, grads, strict=True)]
            self._counts[name] = self._counts.get(name, 0) + 1
            for parameter in _parameters(self._optimizers[name]):
                parameter.grad = None
        full = [name for name in names if self._counts[name] >= self._settings.accumulate]
        if full:
            self._step_sums(full)

    def _step_sums(self, names: list[str]) -> None:
        """Step with the mean of the gradients summed so far."""
        optimizers = [self._optimizers[name] for name in names]
        for name, optimizer in zip(names, optimizers, strict=True):
            for parameter, total in zip(_parameters(optimizer), self._sums.pop(name), strict=True):
                parameter.grad = None if total is None else total.div_(self._counts[name])
            self._counts[name] = 0
        params = [p for optimizer in optimizers for p in _parameters(optimizer)]
        self._step(optimizers, params, get_total_norm(_gradients(params)))

    def _search(
        self, names: tuple[str, ...], params: list[nn.Parameter], again: Callable[[], Tensor] | None
    ) -> None:
        """One step of an optimiser that evaluates the loss itself; on NonFinite the weights go back."""
        if again is None or len(names) > 1:
            raise UserError("lbfgs evaluates the loss several times in a step, which this method does not "
                            "offer; use another train.optimizer")
        if self._scale is not None or self._settings.accumulate > 1 or self._settings.clip_norm is not None:
            raise UserError("lbfgs works without fp16, train.accumulate and train.clip_norm only")

        def closure() -> Tensor:
            torch.clear_autocast_cache()
            with self.autocast():
                loss = again()
            loss = self._backward(loss, params)
            self._guard(loss, params)
            for parameter in params:  # lbfgs flattens them by view
                parameter.grad = None if parameter.grad is None else parameter.grad.contiguous()
            return loss

        before = [p.detach().clone() for p in params]
        optimizer = self._optimizers[names[0]]
        try:
            optimizer.step(closure)  # type: ignore[arg-type]
            torch.clear_autocast_cache()
        except NonFinite:
            for parameter, value in zip(params, before, strict=True):
                parameter.data.copy_(value)
            optimizer.state.clear()
            raise


def _parameters(optimizer: Optimizer) -> list[nn.Parameter]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _gradients(params: list[nn.Parameter]) -> list[Tensor]:
    return [p.grad for p in params if p.grad is not None]


def _added(total: Tensor | None, grad: Tensor | None) -> Tensor | None:
    """The sum; its first term is a copy, as a CUDA graph makes the next gradient where this one lies."""
    if total is None or grad is None:
        return total if grad is None else grad.clone()
    return total.add_(grad)
