"""From a config to the things it names: device, net, method, starting weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

import nets
from commands.starting import best_weights, fed_net, resolved, start
from nets import methods
from nets.methods.base import Method
from utils.config import validate
from utils.errors import UserError
from utils.files import read_json
from utils.settings import Evaluation, RunConfig


def resolve_device(name: str) -> torch.device:
    """The device of that name, from now on torch's own; "auto" takes the first GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        index = int(name.partition(":")[2] or 0)
        if index >= count:
            raise UserError(f"run.device: {name} is not there ({count} CUDA devices); use cpu or auto")
    device = torch.device(name)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    return device


def set_threads(wanted: int | None) -> int:
    """Fix the number of CPU threads, on which the bits of a result depend; returns it."""
    threads = wanted or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    return threads


def build_method(config: RunConfig) -> Method:
    """The method with its net, at the clip length and size that were asked for."""
    net = fed_net(config)
    start(net, config)
    method: Method = methods.build(config.method.name, net, **config.method.options)
    return method


def trained_method(run: Path) -> tuple[Method, RunConfig]:
    """A run's method with its best weights, and the run's params."""
    path = run / "params.json"
    if not path.exists():
        raise UserError(f"{run}: not a run folder (no params.json)")
    config = validate(read_json(path), str(path))
    without_start = config.model_copy(update={"net": config.net.model_copy(update={"init_from": None})})
    method = build_method(resolved(without_start, run))
    if method.trainable:
        method.load_state_dict(best_weights(run))
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
