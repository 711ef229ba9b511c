"""The weights a net starts from: put into it, and whether it is fed here as they were while they learned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

import nets
from commands import zoo
from commands.imported import read_about
from nets.weights import load_weights, put_weights
from training.checkpoint import BEST, LAST, read_checkpoint
from utils.config import validate
from utils.errors import UserError
from utils.files import read_json
from utils.runlog import warn
from utils.settings import RunConfig

FORM = ("video", "target", "multiple_of")
"""Parts of an InputSpec without which weights answer nonsense; at another size they may still answer."""
CROPS = ("face_finder", "box_scale")
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


@dataclass(frozen=True)
class Schooling:
    """How weights were fed: a net built as theirs was, its settings in words, and how crops were made."""

    net: Any
    words: str
    crops: dict[str, Any]


def fed_net(config: RunConfig) -> Any:
    """The net with fresh weights, at the clip length and size that were asked for."""
    net: Any = nets.build(config.net.name, **config.net.options)
    net.input_spec = net.input_spec.replace(**config.net.input.model_dump())
    return net


def try_start(config: RunConfig) -> None:
    """Find weights that are missing, do not fit or learned from other clips before any work begins."""
    words = [*texts(config.net.options), *texts(config.net.init_from)]
    if config.net.init_from is not None and not any(word.startswith(EARLIER) for word in words):
        start(fed_net(config), config, tell=False)


def texts(value: Any) -> Iterator[str]:
    """All texts in a setting, where it may name runs and files."""
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else ():
        yield from texts(inner)


def start(net: nn.Module, config: RunConfig, tell: bool = True) -> None:
    """Load net.init_from into `net`, whole or by its parts.

    Other forms of clips than the weights learned from are said (tell); where nothing is trained
    (train.epochs 0) they are a UserError, as are weights that do not fit.
    """
    given = config.net.init_from
    if isinstance(given, str):
        source = zoo.named(given)
        start_from(net, source)
        different = _difference(net, source, config)
        if different and tell:
            warn(different)
    for name, word in (given.items() if isinstance(given, dict) else ()):
        start_from(_part(net, name), zoo.named(word))


def start_from(net: nn.Module, source: Path) -> None:
    """Load weights of a run folder or of a weights file into `net`.

    A net class may have a classmethod `rename(state) -> state` that finds its own weights in those of another
    net or release.
    """
    if not source.is_dir():
        load_weights(net, source)
        return
    stored = best_weights(source)
    state = {key.removeprefix("net."): value for key, value in stored.items() if key.startswith("net.")}
    put_weights(net, state, source)


def best_weights(run: Path) -> dict[str, Any]:
    """The method's state that validation chose, of a run or of a training before it; UserError without it."""
    folder = run / "checkpoints"
    if (folder / BEST).exists():
        state: dict[str, Any] = read_checkpoint(folder / BEST)["method"]
        return state
    if not (folder / LAST).exists():
        raise UserError(f"{run}: holds no weights; it was not trained to its first checkpoint, or was made "
                        "with run.save_model = false, which removes them")
    marks = [folder, *(path for path in [run / "finished.json"] if path.exists())]
    raise UserError(f"{folder / BEST}: not there, and {LAST} beside it is not what validation chose; delete "
                    f"{' and '.join(map(str, marks))}, then run it again: it is trained anew")


def _part(net: nn.Module, name: str) -> nn.Module:
    """The part of that name; UserError lists those the net has."""
    parts = dict(net.named_children())
    if name not in parts:
        has = ", ".join(parts)
        raise UserError(f"net.init_from: {type(net).__name__} has no part {name!r}; it has {has}")
    return parts[name]


def _difference(net: Any, source: Path, config: RunConfig) -> str:
    """How the net is fed otherwise than the weights were, in words; UserError where that is hopeless."""
    before = _schooling(source)
    if before is None or type(net) is not type(before.net):
        return ""
    pairs = {name: (getattr(net.input_spec, name), getattr(before.net.input_spec, name))
             for name in (*FORM, "size")}
    pairs |= {f"preprocessing.{name}": (getattr(config.preprocessing, name), value)
              for name, value in before.crops.items()}
    other = {name: f"{name} {here} (there {there})" for name, (here, there) in pairs.items() if here != there}
    if not other:
        return ""
    told = (f"{source.name} learned from other clips than this net gets: {', '.join(other.values())}; "
            f"there it was {before.words}")
    if config.train.epochs == 0 and set(other) & set(FORM):
        raise UserError(f"net.init_from: {told}; use the same, or train it (train.epochs) for these")
    return told


def _schooling(source: Path) -> Schooling | None:
    """What is known of how weights were fed; None where they do not tell."""
    if source.is_dir():
        path = source / "params.json"
        if not path.is_file():
            return None
        earlier = resolved(validate(read_json(path), str(path)), source)
        net: Any = fed_net(earlier)
        crops = {name: getattr(earlier.preprocessing, name) for name in CROPS}
        options, fed = earlier.net.options, earlier.net.input.model_dump(exclude_none=True)
    else:
        about = read_about(source)
        if about is None:
            return None
        net, options, fed, crops = about[0].build(), about[0].options, about[0].input, about[0].preprocessing
    return Schooling(net, f"net.options {options}, net.input {fed}, preprocessing {crops}", crops)
