"""What a run's net has learned from: its own training part, and that of the weights it starts from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commands import zoo
from commands.imported import read_about
from commands.starting import EARLIER, texts
from dataset.index import RecordingInfo
from dataset.split import Part, Parts
from nets.methods import METHODS
from utils.errors import UserError
from utils.files import read_json
from utils.settings import RunConfig

KEY = "learned_from"
"""Where split.json holds it, so that a run that starts from this one knows it too."""
UNSTATED = "not stated"


@dataclass(frozen=True)
class Learned:
    """datasets and origins of training parts; people ("dataset/subject"), those of validation parts, too.

    elsewhere: weights of which nobody here knows whom they saw, with the data they are said to come from.
    """

    datasets: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    people: frozenset[str] = frozenset()
    elsewhere: frozenset[str] = frozenset()

    def __or__(self, other: Learned) -> Learned:
        return Learned(*(getattr(self, name) | getattr(other, name) for name in self.__dataclass_fields__))

    def to_json(self) -> dict[str, list[str]]:
        """For split.json."""
        return {name: sorted(getattr(self, name)) for name in self.__dataclass_fields__}

    @property
    def names(self) -> list[str]:
        """What a table calls the data that was trained on."""
        return sorted(self.datasets | self.elsewhere)


def learned(config: RunConfig, infos: Mapping[str, RecordingInfo], parts: Parts) -> Learned:
    """Everything that the net of a finished run has learned from."""
    return of_start(config) | _own(config, infos, parts)


def is_trained(config: RunConfig) -> bool:
    """Whether the run, or a training before it, makes steps."""
    stages = [(config.method, config.train), *((stage.method, stage.train) for stage in config.run.before)]
    return any(METHODS.get(method.name).trainable and train.epochs > 0 for method, train in stages)


def _own(config: RunConfig, infos: Mapping[str, RecordingInfo], parts: Parts) -> Learned:
    if not is_trained(config):
        return Learned()
    used = parts.select(infos.values(), "train")
    origins = {info.conditions["origin"] for info in used if "origin" in info.conditions}
    return Learned(frozenset(info.dataset for info in used), frozenset(origins), _people(parts.parts))


def _people(parts: Mapping[str, Part]) -> frozenset[str]:
    """Who was trained on, and who chose the epoch."""
    return frozenset(name for part in ("train", "valid") if part in parts for name in parts[part].subjects)


def of_start(config: RunConfig) -> Learned:
    """What is known of everything that the run's nets start from: weights, and what was found by a search."""
    found = Learned()
    for net in (config.net, *(stage.net for stage in config.run.before)):
        for word in _words(net.init_from):
            found |= _of_weights(word)
        for word in _words(net.options):
            if (Path(word) / "split.json").is_file():
                found |= _of_run(Path(word))
    return found


def warnings(start: Learned, parts: Parts) -> list[str]:
    """Who of the people tested is known to the weights a run starts from, or may be."""
    told = []
    for name in parts.test_names():
        both = start.people & set(parts.parts[name].subjects)
        if both:
            told.append(f"LEAKS: the weights it starts from know {len(both)} subjects of {name}")
        told += [f"MAY LEAK: the weights it starts from may know subjects of {name}; trained on: {text}"
                 for text in sorted(start.elsewhere) if _may_know(text, parts.parts[name].subjects)]
    return told


def _may_know(elsewhere: str, subjects: Iterable[str]) -> bool:
    """Whether data that is not stated, or of the same dataset, may be those people's."""
    told = _plain(elsewhere.partition(" (")[0])
    sets = {_plain(name.partition("/")[0]) for name in subjects}
    return told == _plain(UNSTATED) or any(name.startswith(told) or told.startswith(name) for name in sets)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _words(value: Any) -> Iterator[str]:
    """All texts in a setting that name something outside the run itself."""
    return (word for word in texts(value) if not word.startswith(EARLIER))


def _of_weights(word: str) -> Learned:
    """What weights were trained on; a file says so itself where it was imported."""
    path = zoo.named(word)
    if path.is_dir():
        return _of_run(path)
    about = read_about(path) if path.is_file() else None
    told = about[1].trained_on if about else None
    source = about[1].zoo if about and about[1].zoo else path.name
    return Learned(elsewhere=frozenset([f"{told or UNSTATED} ({source})".replace(",", ";")]))


def _of_run(folder: Path) -> Learned:
    """What a run was trained on, and what the weights were that it started from."""
    run = folder.parent.parent if folder.parent.name == EARLIER.removesuffix(":") else folder
    path = run / "split.json"
    if not path.is_file():
        return Learned(elsewhere=frozenset([f"{UNSTATED} ({folder.name})"]))
    stored = read_json(path)
    told = stored.get(KEY) if isinstance(stored, dict) else None
    if told is not None:
        try:
            return Learned(**{name: frozenset(values) for name, values in told.items()})
        except (TypeError, AttributeError):
            raise UserError(f"{path}: {KEY} is damaged; finish that run again") from None
    parts = Parts.from_json(stored, str(path))
    datasets = frozenset(key.partition(".")[0] for key in parts.keys("train"))
    return Learned(datasets, people=_people(parts.parts))
