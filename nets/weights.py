"""Weights from a file into a net: verified, and never partly."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from utils.errors import UserError

SHOWN = 5
WRAPPERS = ("state_dict", "model")
"""Keys under which programs put the state dict beside other things."""
_CULPRIT = re.compile(r"GLOBAL ([\w.]+)")  # in the message of torch.load


def load_weights(net: nn.Module, path: Path | str) -> None:
    """Load a bare state dict into `net`, all of it or nothing.

    The file's checksums are verified, nothing in it is executed, and "module." prefixes are dropped. A
    net class may have a classmethod `rename(state) -> state` that knows the names of released files.
    UserError lists missing, unexpected and misshapen keys.
    """
    put_weights(net, read_state(Path(path)), Path(path))


def put_weights(net: nn.Module, state: dict[str, Tensor], origin: Path) -> None:
    """Give `net` the weights of a state dict, renamed as its class knows; origin: for the UserError."""
    rename = getattr(type(net), "rename", None)
    state = rename(state) if rename else state
    problems = differences(net, state)
    if problems:
        raise UserError(f"{origin} does not fit {type(net).__name__}: {'; '.join(problems)}")
    net.load_state_dict(state)


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a state-dict file by name, on the CPU; UserError says what is wrong with the file."""
    content = read_content(path)
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path}: not a state dict (tensors by name)")
    if {"identity", "method"} <= content.keys():
        where = path.parent.parent if path.parent.name == "checkpoints" else "it was made in"
        raise UserError(f"{path}: a checkpoint of a run, not bare weights; give the run folder {where}")
    if any(not isinstance(v, Tensor) or not isinstance(k, str) for k, v in content.items()):
        strange = [str(k) for k, v in content.items() if not isinstance(v, Tensor)]
        raise UserError(f"{path}: not a bare state dict; no tensors: {_some(strange)}")
    return {key.removeprefix("module."): value for key, value in content.items()}


def read_content(path: Path) -> Any:
    """`torch.load` of plain data on the CPU, after the checksums of the archive were found right."""
    try:
        damaged = _damaged_member(path)
        if damaged:
            raise UserError(f"{path}: damaged, the checksum of {damaged} is wrong; copy the file again")
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    except UserError:
        raise
    except Exception as error:
        # torch raises many kinds for a file it cannot or will not read (truncated, code inside).
        text = str(error).strip()
        reason = f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"
        if "weights_only" in text:  # its advice: let the file execute what it likes
            named = _CULPRIT.search(text)
            reason = "it must hold tensors and plain values only" + (f", not {named[1]}" if named else "")
        raise UserError(f"{path}: not a readable weights file ({reason})") from None


def _damaged_member(path: Path) -> str | None:
    """Name of the first member whose CRC is wrong; None where all are right or there is no archive."""
    with open(path, "rb") as handle:
        if not zipfile.is_zipfile(handle):
            return None
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip()
    except (zipfile.BadZipFile, EOFError) as error:
        return str(error)


def differences(net: nn.Module, state: dict[str, Tensor]) -> list[str]:
    """What keeps `state` from being the weights of `net`, a sentence each; [] when it fits."""
    wanted = net.state_dict()
    missing = [key for key in wanted if key not in state]
    unexpected = [key for key in state if key not in wanted]
    misshapen = [
        f"{key} is {tuple(state[key].shape)}, not {tuple(value.shape)}"
        for key, value in wanted.items() if key in state and state[key].shape != value.shape
    ]
    not_finite = [key for key, value in state.items() if not bool(torch.isfinite(value).all())]
    kinds = {"missing": missing, "unexpected": unexpected, "shape": misshapen, "not finite": not_finite}
    return [f"{kind}: {_some(keys)}" for kind, keys in kinds.items() if keys]


def _some(keys: list[str]) -> str:
    """The first few keys and the number of the others."""
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return ", ".join(keys[:SHOWN]) + more
