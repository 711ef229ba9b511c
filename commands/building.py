"""From a config to the things it names: device, net, method, starting weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

import nets
from commands import zoo
from commands.imported import read_about
from nets import methods
from nets.methods.base import Method
from nets.weights import differences, load_weights
from training.checkpoint import read_checkpoint
from utils.config import validate
from utils.errors import UserError
from utils.files import read_json
from utils.runlog import warn
from utils.settings import Evaluation, RunConfig


def resolve_device(name: str) -> torch.device:
    """The device of that name; "auto" takes the first GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        index = int(name.partition(":")[2] or 0)
        if index >= count:
            raise UserError(f"run.device: {name} is not there ({count} CUDA devices); use cpu or auto")
    return torch.device(name)


def set_threads(wanted: int | None) -> int:
    """Fix the number of CPU threads, on which the bits of a result depend; returns it."""
    threads = wanted or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    return threads


EARLIER = "before:"


def earlier_folder(run: Path, name: str) -> Path:
    """Where an earlier training (run.before) of a run lies."""
    return run / "before" / name


def resolved(config: RunConfig, run: Path) -> RunConfig:
    """The config with every `before:<name>` of its net replaced by that folder of the run."""

    def place(value: Any) -> Any:
        if isinstance(value, str) and value.startswith(EARLIER):
            return str(earlier_folder(run, value.removeprefix(EARLIER)))
        return {key: place(inner) for key, inner in value.items()} if isinstance(value, dict) else value

    changed = {"options": place(config.net.options), "init_from": place(config.net.init_from)}
    return config.model_copy(update={"net": config.net.model_copy(update=changed)})


def build_method(config: RunConfig) -> Method:
    """The method with its net, at the clip length and size that were asked for."""
    net: Any = nets.build(config.net.name, **config.net.options)
    net.input_spec = net.input_spec.replace(**config.net.input.model_dump())
    start = config.net.init_from
    if isinstance(start, str):
        start_from(net, zoo.named(start))
    for part, source in (start.items() if isinstance(start, dict) else ()):
        start_from(part_of(net, part), zoo.named(source))
    method: Method = methods.build(config.method.name, net, **config.method.options)
    return method


def part_of(net: torch.nn.Module, name: str) -> torch.nn.Module:
    """The part of that name; UserError lists those the net has."""
    parts = dict(net.named_children())
    if name not in parts:
        has = ", ".join(parts)
        raise UserError(f"net.init_from: {type(net).__name__} has no part {name!r}; it has {has}")
    return parts[name]


def start_from(net: torch.nn.Module, source: Path) -> None:
    """Load weights of a run folder or of a weights file into `net`.

    A net class may have a classmethod `rename(state) -> state` that finds its own weights in those of another
    net or release.
    """
    if source.is_dir():
        state = net_weights(source)
        rename = getattr(type(net), "rename", None)
        state = rename(state) if rename else state
        problems = differences(net, state)
        if problems:
            raise UserError(f"{source} does not fit {type(net).__name__}: {'; '.join(problems)}")
        net.load_state_dict(state)
    else:
        load_weights(net, source)
        _compare_inputs(net, source)


def _compare_inputs(net: Any, source: Path) -> None:
    """Say where imported weights learned from another form of clips than `net` is fed."""
    about = read_about(source)
    if about is None or not isinstance(net, nets.NETS.get(about[0].net)):
        return
    learned: Any = about[0].build()
    pairs = {name: (getattr(net.input_spec, name), getattr(learned.input_spec, name))
             for name in ("video", "size", "target", "multiple_of")}
    told = [f"{name} {here} (there {there})" for name, (here, there) in pairs.items() if here != there]
    if told:
        warn(f"{source.name} learned from other clips than this net gets: {', '.join(told)}; see net.options "
             f"{about[0].options} and net.input {about[0].input}")


def net_weights(run: Path) -> dict[str, Any]:
    """The net's part of a run's best checkpoint."""
    state = read_checkpoint(run / "checkpoints" / "best.pt")["method"]
    return {key.removeprefix("net."): value for key, value in state.items() if key.startswith("net.")}


def trained_method(run: Path) -> tuple[Method, RunConfig]:
    """A run's method with its best weights, and the run's params."""
    path = run / "params.json"
    if not path.exists():
        raise UserError(f"{run}: not a run folder (no params.json)")
    config = validate(read_json(path), str(path))
    without_start = config.model_copy(update={"net": config.net.model_copy(update={"init_from": None})})
    method = build_method(resolved(without_start, run))
    if method.trainable:
        method.load_state_dict(read_checkpoint(run / "checkpoints" / "best.pt")["method"])
    return method.eval(), config


def default_method(net: Any) -> Method:
    """The method of a net whose weights come without one: the net's `default_method`, else supervised."""
    try:
        method: Method = methods.build(getattr(net, "default_method", "supervised"), net)
    except ValueError as error:
        raise UserError(f"{type(net).__name__} cannot predict a pulse by itself: {error}") from None
    return method


def classical_methods(settings: Evaluation) -> dict[str, Method]:
    """The methods without training that get rows beside the net's."""
    return {
        name: methods.build("classical", nets.build(name), region=settings.region)
        for name in settings.classical
    }
