"""Optimisers and schedules of torch by name, their options checked before any work starts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from training.schedule import Each, Schedule
from training.signature import option_problems, tuples
from utils.errors import ParamsError
from utils.registry import did_you_mean
from utils.settings import Train

Problem = tuple[str, str]
CONSTANT = "constant"
# Arguments that torch takes and params may not give, with the reason shown.
_OPTIMIZER_GIVEN = {
    "params": "is the net's", "lr": "is set by train.learning_rate",
    "differentiable": "is not for training", "capturable": "is not supported",
}
_SCHEDULE_GIVEN = {
    "optimizer": "is made by train.optimizer", "last_epoch": "is kept by the checkpoint",
    "scale_fn": "needs a Python function; use mode",
}
_BY_ITSELF = {
    "one_cycle": {
        "max_lr": "is train.learning_rate", "total_steps": "follows from train.epochs",
        "epochs": "is train.epochs", "steps_per_epoch": "follows from the training part",
    },
    "cyclic": {"max_lr": "is train.learning_rate"},
}
_EACH_STEP = ("one_cycle", "cyclic")
_LENGTH = {"cosine_annealing": "T_max", "polynomial": "total_iters"}
_FUNCTIONS = ("lambda", "multiplicative")
_NESTED = ("sequential", "chained")


def optimizer_names() -> list[str]:
    """Every optimiser of torch.optim, in lower case."""
    return sorted(_optimizers())


def scheduler_names() -> list[str]:
    """Every schedule of torch in snake case (the ending _lr may be left out), and "constant"."""
    return sorted([CONSTANT, *_schedulers()])


def make_optimizer(params: Iterable[nn.Parameter], settings: Train, **overrides: Any) -> Optimizer:
    """The optimiser of the params section over `params`.

    overrides: `lr` and options of the optimiser, before those of the section; `optimizer` names
    another one, and the section's options, which belong to the section's, then do not apply.
    ParamsError lists what does not fit.
    """
    name = _canonical(overrides.pop("optimizer", settings.optimizer))
    rate = overrides.pop("lr", settings.learning_rate)
    shared = settings.optimizer_options if name == _canonical(settings.optimizer) else {}
    options = {**shared, **overrides}
    problems = _optimizer_problems(name, options)
    parameters = list(params)
    if name == "muon" and any(p.dim() != 2 for p in parameters):
        problems.append(("train.optimizer", "muon takes only matrices; this net has other weights too"))
    if problems:
        raise ParamsError("params", problems)
    try:
        made: Optimizer = _optimizers()[name](parameters, lr=rate, **tuples(options))
    except (ValueError, TypeError) as error:
        raise ParamsError("params", [("train.optimizer_options", f"{name}: {error}")]) from None
    return made


def make_scheduler(
    optimizer: Optimizer, settings: Train, total_steps: int, steps_per_epoch: int, **overrides: Any
) -> Schedule:
    """The schedule of the params section for `optimizer`.

    total_steps, steps_per_epoch: steps of the optimiser, not batches. The one-cycle takes its peak
    from each group's rate. overrides: `scheduler`, `scheduler_options`. ParamsError when unfit.
    """
    name = _canonical(overrides.pop("scheduler", settings.scheduler))
    options = overrides.pop("scheduler_options", settings.scheduler_options)
    problems = _scheduler_problems(name, options, "train.scheduler_options")
    if problems:
        raise ParamsError("params", problems)
    build = _Builder(optimizer, max(1, total_steps), max(1, total_steps // max(1, steps_per_epoch)))
    try:
        return Schedule(*build(name, options), max(1, total_steps), _follows_length(name, options))
    except (ValueError, TypeError, IndexError, KeyError) as error:
        raise ParamsError("params", [("train.scheduler_options", f"{name}: {error}")]) from None


def _follows_length(name: str, options: dict[str, Any]) -> bool:
    """Whether the schedule's shape follows from the length of the run."""
    if name in _NESTED:
        parts = [(_canonical(part["name"]), part.get("options", {})) for part in options["schedulers"]]
        return any(_follows_length(*part) for part in parts)
    return name == "one_cycle" or (name in _LENGTH and _LENGTH[name] not in options)


def check_train(section: dict[str, Any]) -> list[Problem]:
    """Problems of a raw `train` section that types cannot see, as (path, message)."""
    typed = ("learning_rate", "epochs", "amp", "accumulate", "clip_norm")
    try:
        plain = Train.model_validate({key: section[key] for key in typed if key in section})
    except ValidationError:
        plain = Train.model_validate({})
    name = _canonical(section.get("optimizer", plain.optimizer))
    options = section.get("optimizer_options", {})
    plan = _canonical(section.get("scheduler", plain.scheduler))
    plan_options = section.get("scheduler_options", {})
    problems = _optimizer_problems(name, options) + _lbfgs_problems(name, plain)
    problems += _scheduler_problems(plan, plan_options, "train.scheduler_options")
    return problems or _trial(plain.model_copy(update={
        "optimizer": name, "optimizer_options": options,
        "scheduler": plan, "scheduler_options": plan_options}))


def _trial(settings: Train) -> list[Problem]:
    """What torch itself says about the values, on one small matrix."""
    try:
        optimizer = make_optimizer([nn.Parameter(torch.zeros(1, 1))], settings)
        make_scheduler(optimizer, settings, max(1, settings.epochs), 1)
    except ParamsError as error:
        return error.problems
    return []


def _lbfgs_problems(name: str, settings: Train) -> list[Problem]:
    """What the line search of LBFGS, which evaluates the loss itself, cannot be combined with."""
    if name != "lbfgs":
        return []
    clashes = {
        "train.accumulate": settings.accumulate > 1, "train.clip_norm": settings.clip_norm is not None,
        "train.amp": settings.amp == "fp16",
    }
    return [(key, "cannot be combined with lbfgs; leave it at its default")
            for key, clash in clashes.items() if clash]


def _optimizer_problems(name: str, options: Any) -> list[Problem]:
    if name not in _optimizers():
        return [("train.optimizer", _unknown("optimiser", name, optimizer_names()))]
    if name == "sparse_adam":
        return [("train.optimizer", "sparse_adam takes only sparse gradients, and those of video nets are "
                 "dense; use adam")]
    return option_problems(_optimizers()[name], options, _OPTIMIZER_GIVEN, "train.optimizer_options")


def _scheduler_problems(name: str, options: Any, path: str) -> list[Problem]:
    if name == CONSTANT:
        return [(path, "constant takes no options")] if options else []
    if name not in _schedulers():
        return [("train.scheduler", _unknown("scheduler", name, scheduler_names()))]
    if name in _FUNCTIONS:
        return [("train.scheduler", f"{name} needs a Python function; use multi_step or sequential")]
    if name in _NESTED:
        return _nested_problems(name, options, path)
    given = {**_SCHEDULE_GIVEN, **_BY_ITSELF.get(name, {})}
    return option_problems(_schedulers()[name], options, given, path, (_LENGTH.get(name, ""),))


def _nested_problems(name: str, options: Any, path: str) -> list[Problem]:
    """Problems of schedules made of others: {"schedulers": [{"name", "options"}, ...], "milestones"}."""
    parts = options.get("schedulers") if isinstance(options, dict) else None
    form = '"schedulers": [{"name": "linear", "options": {}}, ...]'
    if not isinstance(parts, list) or len(parts) < 2:
        return [(path, f"{name} needs {form}, two or more")]
    wanted = {"schedulers", "milestones"} if name == "sequential" else {"schedulers"}
    problems = [(f"{path}.{key}", f"{name} takes exactly {', '.join(sorted(wanted))}")
                for key in sorted(wanted ^ set(options))]
    each = set()
    for index, part in enumerate(parts):
        where = f"{path}.schedulers.{index}"
        if not isinstance(part, dict) or "name" not in part or set(part) - {"name", "options"}:
            problems.append((where, f"expected an entry of {form}"))
            continue
        inner = _canonical(part["name"])
        each.add(inner in _EACH_STEP)
        if inner in (*_NESTED, CONSTANT, "reduce_on_plateau"):
            problems.append((where, f"{inner} cannot be a part of {name}"))
        else:
            problems += _scheduler_problems(inner, part.get("options", {}), f"{where}.options")
    if len(each) > 1:
        problems.append((path, "parts that advance by step and by epoch cannot be mixed"))
    return problems


class _Builder:
    """Builds schedules over one optimiser, nested ones included."""

    def __init__(self, optimizer: Optimizer, total_steps: int, epochs: int) -> None:
        self.optimizer, self.total_steps, self.epochs = optimizer, total_steps, epochs

    def __call__(self, name: str, options: dict[str, Any]) -> tuple[LRScheduler | None, Each]:
        """The schedule and what advances it."""
        if name == CONSTANT:
            return None, "epoch"
        if name in _NESTED:
            return self._nested(name, options)
        made = _schedulers()[name](self.optimizer, **{**self._defaults(name), **tuples(options)})
        return made, "step" if name in _EACH_STEP else "epoch"

    def _nested(self, name: str, options: dict[str, Any]) -> tuple[LRScheduler, Each]:
        parts = [self(_canonical(p["name"]), p.get("options", {})) for p in options["schedulers"]]
        schedulers = [part for part, _ in parts]
        each = parts[0][1]
        if name == "chained":
            return lr_scheduler.ChainedScheduler(schedulers, self.optimizer), each  # type: ignore[arg-type]
        return lr_scheduler.SequentialLR(
            self.optimizer, schedulers, milestones=options["milestones"]), each  # type: ignore[arg-type]

    def _defaults(self, name: str) -> dict[str, Any]:
        """What follows from the other settings; momentum is cycled where the optimiser has it."""
        rates = [group["lr"] for group in self.optimizer.param_groups]
        if name in _LENGTH:
            return {_LENGTH[name]: self.epochs}
        if name not in _EACH_STEP:
            return {}
        momentum = bool({"momentum", "betas"} & set(self.optimizer.defaults))
        own = {"total_steps": self.total_steps} if name == "one_cycle" else {}
        return {"max_lr": rates, "cycle_momentum": momentum, **own}


def _optimizers() -> dict[str, Any]:
    """Classes by their name in lower case; SparseAdam is the one with two words."""
    found = {c.__name__.lower(): c for c in vars(torch.optim).values()
             if isinstance(c, type) and issubclass(c, Optimizer) and c is not Optimizer}
    found["sparse_adam"] = found.pop("sparseadam")
    return found


def _schedulers() -> dict[str, Any]:
    """Classes by snake case; ConstantLR keeps its ending, since "constant" means no schedule."""
    found = {}
    for cls in vars(lr_scheduler).values():
        if isinstance(cls, type) and issubclass(cls, LRScheduler) and cls.__name__[0] != "_":
            name = re.sub(r"LR|Scheduler", "", cls.__name__)
            found[re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()] = cls
    found.pop("", None)
    found["constant_lr"] = found.pop(CONSTANT)
    return found


def _canonical(name: Any) -> str:
    """One spelling: sparseadam is sparse_adam, step_lr is step."""
    text = str(name)
    if text == "sparseadam":
        return "sparse_adam"
    short = text.removesuffix("_lr")
    return short if short in _schedulers() else text


def _unknown(kind: str, name: str, known: list[str]) -> str:
    return f"unknown {kind} {name!r}{did_you_mean(name, known)}  known: {', '.join(known)}"
