"""Weights of other programs: read, matched key by key with a net of ours, and never partly loaded.

Two kinds of files are read: state dicts of PyTorch and weight files of Keras (HDF5). Of the latter only
keys and arrays are used: a layer's variables lie under `<path>/vars/0`, `1`, ..., in the order in which Keras
creates them: kernel, bias; gamma, beta, moving mean, moving variance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import torch
from torch import Tensor, nn

from nets.weights import read_state
from utils.errors import UserError

IGNORABLE = ("total_ops", "total_params")
"""Last parts of keys that profilers leave in a state dict; they are no weights."""
COUNTER = "num_batches_tracked"
"""How many batches a batch norm has seen: old files lack it, and only a momentum of None reads it."""
HDF5 = b"\x89HDF\r\n\x1a\n"
MAX_VALUES = 10**9
KERAS_EPSILON = 1e-3
"""Of BatchNormalization and LayerNormalization; the files do not state it."""
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class KerasFile:
    """What a net class knows of Keras weight files of its architecture.

    layers: path of a layer in the file -> name of the module here. options: of the net, without which these
    weights do not fit. flattened: modules that read flattened maps -> channels of these maps, as Keras
    flattens (H, W, C) and torch (C, H, W). source: the program that writes such files.
    """

    source: str
    layers: Mapping[str, str]
    options: Mapping[str, Any] = field(default_factory=dict)
    flattened: Mapping[str, int] = field(default_factory=dict)


def norms_of_keras(net: nn.Module) -> None:
    """Give every norm of `net`, in place, the epsilon that Keras takes where none is asked for."""
    for module in net.modules():
        if isinstance(module, (*_NORMS, nn.LayerNorm)):
            module.eps = KERAS_EPSILON


@dataclass(frozen=True)
class Row:
    """One line of the report: what became of a tensor of the source, or of one of ours."""

    source: str | None
    source_shape: tuple[int, ...] | None
    ours: str | None
    our_shape: tuple[int, ...] | None
    done: str


@dataclass
class Match:
    """The state for our net, the report, and what forbids loading it; [] where nothing does."""

    state: dict[str, Tensor] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def take(self, net: nn.Module, source: str, value: Tensor, ours: str, made: Tensor, done: str) -> None:
        """Enter `made`, from the source's `value`, as our tensor of that name; problems are noted."""
        target = net.state_dict().get(ours)
        shape = None if target is None else tuple(target.shape)
        if shape is None:
            problem = f"{source}: {type(net).__name__} has no {ours}"
        elif ours in self.state:
            problem = f"{source}: {ours} is there twice"
        elif tuple(made.shape) != shape:
            problem = f"{source}: {ours} is {tuple(made.shape)}, not {shape}"
        elif not bool(torch.isfinite(made).all()):
            problem = f"{source}: values that are not finite"
        else:
            problem = ""
            self.state[ours] = made.contiguous()
        if problem:
            self.problems.append(problem)
        told = f"refused: {problem}" if problem else done
        self.rows.append(Row(source, tuple(value.shape), ours, shape, told))

    def skip(self, source: str, value: Tensor, reason: str) -> None:
        """Leave a tensor of the source out, which is said."""
        self.rows.append(Row(source, tuple(value.shape), None, None, f"skipped: {reason}"))


def is_hdf5(path: Path) -> bool:
    """Whether a file begins as HDF5; UserError where it cannot be read."""
    try:
        with open(path, "rb") as handle:
            return handle.read(len(HDF5)) == HDF5
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None


def match(net: nn.Module, path: Path) -> Match:
    """Match a PyTorch state dict or a Keras weight file with `net`; nothing is loaded.

    UserError where the file cannot be read or is of a kind that the net's class does not know.
    """
    made = _from_keras(net, path) if is_hdf5(path) else _from_torch(net, path)
    _finish(net, made)
    return made


def _finish(net: nn.Module, made: Match) -> None:
    """Name what the source lacks; counters begin at 0."""
    for name, target in net.state_dict().items():
        if name in made.state or any(row.ours == name for row in made.rows):
            continue
        shape = tuple(target.shape)
        if name.rpartition(".")[2] == COUNTER:
            made.state[name] = torch.zeros_like(target)
            made.rows.append(Row(None, None, name, shape, "set to 0: a counter, not read in prediction"))
        else:
            made.problems.append(f"{name} {shape} is missing in the source")
            made.rows.append(Row(None, None, name, shape, "missing"))


def _from_torch(net: nn.Module, path: Path) -> Match:
    """Rename with the class's `rename`, one key at a time, so that the report says what became what."""
    made = Match()
    rename = getattr(type(net), "rename", dict)
    state = read_state(path)
    weights = {key: value for key, value in state.items() if key.rpartition(".")[2] not in IGNORABLE}
    # A class may look at all keys to know whose names they are, so it gets them at once: order is kept.
    renamed = list(rename(weights).items())
    sources = list(weights)
    if len(renamed) != len(sources):
        raise UserError(f"{path}: {type(net).__name__} takes {len(renamed)} of {len(sources)} keys: some "
                        "mean the same, or belong to other parts; give the file of this net alone")
    for key in state.keys() - weights.keys():
        made.skip(key, state[key], "of a profiler, no weight")
    for source, (ours, value) in zip(sources, renamed, strict=True):
        made.take(net, source, weights[source], ours, value, "copied")
    return made


def _from_keras(net: nn.Module, path: Path) -> Match:
    """Bring every variable of a Keras file into torch's layout."""
    told: KerasFile | None = getattr(type(net), "keras", None)
    if told is None:
        raise UserError(f"{path}: no Keras files of {type(net).__name__} are known; a state dict of PyTorch "
                        "(.pth) can be imported")
    made, variables = Match(), _read_keras(path)
    for key, value in variables.items():
        layer, _, number = key.rpartition("/vars/")
        if layer not in told.layers:
            made.problems.append(f"{key} {tuple(value.shape)} is not known in files of {told.source}")
            made.rows.append(Row(key, tuple(value.shape), None, None, "refused: not known"))
            continue
        name = told.layers[layer]
        try:
            module = net.get_submodule(name)
        except AttributeError:
            module = nn.Identity()
        leaf, tensor, done = _converted(module, int(number), value, told.flattened.get(name))
        made.take(net, key, value, f"{name}.{leaf}", tensor, done)
    return made


def _read_keras(path: Path) -> dict[str, Tensor]:
    """The variables of a Keras weight file by their path, as float32 on the CPU."""
    found: dict[str, Tensor] = {}
    total = 0

    def visit(key: str, item: h5py.Group | h5py.Dataset) -> None:
        nonlocal total
        if not isinstance(item, h5py.Dataset):
            return
        layer, _, number = key.rpartition("/vars/")
        if not layer or not number.isdigit() or item.dtype.kind != "f":
            raise UserError(f"{path}: {key} is no variable of a Keras layer; only files that "
                            "save_weights of Keras 3 wrote are read")
        total += item.size
        if total > MAX_VALUES:
            raise UserError(f"{path}: more than {MAX_VALUES:,} numbers")
        found[key] = torch.from_numpy(item[()].astype("float32"))

    try:
        with h5py.File(path, "r") as handle:
            handle.visititems(visit)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path}: not a readable HDF5 file ({error})") from None
    if not found:
        raise UserError(f"{path}: no weights in it")
    return found


def _converted(
    module: nn.Module, number: int, value: Tensor, channels: int | None
) -> tuple[str, Tensor, str]:
    """Variable `number` of a Keras layer -> the name of our tensor, the tensor, what was done.

    Kernels of Keras are (..., in, out), of transposed convolutions (..., out, in); torch has the two channel
    axes first and swapped: (out, in, ...), and (in, out, ...).
    """
    if isinstance(module, (*_NORMS, nn.LayerNorm)):
        leaves = ("weight", "bias", "running_mean", "running_var")
        return (leaves[number] if number < len(leaves) else str(number)), value, "copied"
    if number or value.dim() < 2:
        return ("bias" if number == 1 else f"vars/{number}"), value, "copied"
    done = "transposed"
    if isinstance(module, nn.Linear) and channels:
        value, done = _channels_first(value, channels), "transposed, flattened with the channels first"
    # The same permutation does for both: the last axis of Keras is the first one of torch.
    axes = (value.dim() - 1, value.dim() - 2, *range(value.dim() - 2))
    return "weight", value.permute(axes), done


def _channels_first(kernel: Tensor, channels: int) -> Tensor:
    """Rows of a dense kernel (H * W * C, out) in the order (C, H, W); as it is where maps are not square."""
    side = round((kernel.shape[0] / channels) ** 0.5)
    if side * side * channels != kernel.shape[0]:
        return kernel
    return kernel.unflatten(0, (side * side, channels)).transpose(0, 1).flatten(0, 1)
