"""Finished runs: their folders, what distinguishes one experiment from another, what a run may be called."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.split_notes import split_facts
from utils.errors import UserError
from utils.files import digest, read_json, safe_name

FOLDED = ("kfold", "loso", "folds")
# What may differ between runs of one experiment: where and how it ran, its seed and its fold.
NOT_THE_EXPERIMENT = (
    "run", "logging", "data.store", "data.workers", "data.keep", "preprocessing.enabled",
    "preprocessing.workers", "preprocessing.cluster", "preprocessing.timeout_s", "preprocessing.allow_failed",
    "preprocessing.verify", "train.checkpoint_steps", "split.fold", "evaluation.batch",
)


@dataclass(frozen=True)
class Run:
    """A run folder: its params and split ({} where it has none) and its metrics."""

    folder: Path
    params: Mapping[str, Any]
    split: Mapping[str, Any]
    metrics: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def seed(self) -> int:
        """Seed of everything random."""
        return int(self.params.get("run", {}).get("seed", 0))

    @property
    def fold(self) -> int | None:
        """The tested fold; None where the split has no folds."""
        settings = self.params.get("split", {})
        return int(settings.get("fold", 0)) if settings.get("scheme") in FOLDED else None

    @property
    def id(self) -> str:
        """Eight characters that change with the experiment and with who is tested."""
        return digest({"params": experiment(self.params), "seed": self.seed,
                       "split": self.split.get("hash")})[:8]

    @property
    def net(self) -> str:
        """Name of the run's own row; empty where it is not known."""
        return str(self.params.get("net", {}).get("name", ""))

    @property
    def leaks(self) -> tuple[str, ...]:
        """Which parts share subjects, or know them from the weights they start from, in words."""
        about = self.metrics.get("split", {})
        start = tuple(about.get("start_leaks", ()))
        if not about.get("leaks"):
            return start
        return (*(about.get("leak_details") or ["train and test share subjects"]), *start)

    @property
    def notes(self) -> tuple[str, ...]:
        """What its split means for its numbers, under the name that its folds and seeds have in common."""
        name = common_name([self])
        return tuple(f"{name}: {note}" for note in split_facts(self.metrics.get("split", {})))

    @property
    def training(self) -> Mapping[str, Sequence[str]]:
        """Datasets and origins that the run's own method learned from; none where it has no weights."""
        told: Mapping[str, Sequence[str]] | None = self.metrics.get("training")
        return {"datasets": self.datasets("train"), "origins": ()} if told is None else told

    def part(self, name: str) -> Mapping[str, Any]:
        """One part of the split: subjects, recordings and missing."""
        empty: dict[str, list[str]] = {"subjects": [], "recordings": [], "missing": []}
        return {**empty, **self.split.get("parts", {}).get(name, {})}

    def datasets(self, part: str) -> tuple[str, ...]:
        """Datasets of a part of the split."""
        return tuple(sorted({key.partition(".")[0] for key in self.part(part)["recordings"]}))


def load_run(folder: Path, protocol: str | None = None) -> Run:
    """A run folder with its metrics, or those that `evaluate` wrote for another protocol.

    UserError names what is missing or is not what a run writes.
    """
    path = folder / (f"metrics.{safe_name(protocol)}.json" if protocol else "metrics.json")
    if not path.exists():
        todo = f"`python main.py evaluate {folder} --protocol {protocol}`" if protocol else "finish the run"
        raise UserError(f"{folder}: no {path.name}; {todo} first")
    metrics = read_json(path)
    if not isinstance(metrics, dict) or not {"protocol", "test", "rows"} <= set(metrics):
        raise UserError(f"{path}: not the metrics of a run; write it again with `python main.py run`")
    files = {name: folder / f"{name}.json" for name in ("params", "split")}
    known = {name: read_json(file) if file.exists() else {} for name, file in files.items()}
    return Run(folder, known["params"], known["split"], metrics)


def experiment(params: Mapping[str, Any]) -> dict[str, Any]:
    """Params without what may differ between runs of one experiment."""
    kept = copy.deepcopy(dict(params))
    for path in NOT_THE_EXPERIMENT:
        *sections, key = path.split(".")
        holder = kept
        for section in sections:
            holder = holder.get(section, {})
        holder.pop(key, None)
    for entry in kept.get("data", {}).get("sets", []):
        entry.pop("root", None)
    return kept


def run_names(run: Run, method: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names a row may be published under, and the datasets it was trained on (none for other methods).

    A run of an earlier version does not say under which.
    """
    if method != run.net:
        return (method,), ()
    told = run.metrics.get("published_as")
    names = (str(run.params.get("method", {}).get("name", "")), run.net) if told is None else (told,)
    return names, tuple(run.training["datasets"])


def common_name(runs: Sequence[Run]) -> str:
    """The name of the first run without its seed and fold."""
    return re.sub(r"([_-](seed|fold)\d+)+$", "", runs[0].name)
