"""Trainings made before a run's own: a search before the net it finds, stages before a joint training."""

from __future__ import annotations

from pathlib import Path

from commands.learning import Infos, help_to_learn, learn
from commands.starting import earlier_folder, resolved
from dataset.split import Parts
from utils.runlog import RunLog, say
from utils.settings import Earlier, RunConfig


def learn_earlier(config: RunConfig, folder: Path, infos: Infos, parts: Parts) -> None:
    """Make (or continue, or find finished) every training of run.before in its folder.

    They see the training and validation parts of the run that they belong to, so that nothing of its test
    part can enter through them.
    """
    for stage in config.run.before:
        own = earlier_folder(folder, stage.name)
        own.mkdir(parents=True, exist_ok=True)
        say(f"before the run's own training: {stage.name}")
        learn(resolved(of_stage(config, stage), folder), own, RunLog(own / "log.jsonl"), infos, parts)


def help_earlier(config: RunConfig, folder: Path, infos: Infos, parts: Parts) -> None:
    """The part in `learn_earlier` of a process that is not the first."""
    for stage in config.run.before:
        help_to_learn(resolved(of_stage(config, stage), folder), infos, parts)


def of_stage(config: RunConfig, stage: Earlier) -> RunConfig:
    """The config of one earlier training: its net, method, loop and augmentation, all else the run's."""
    return config.model_copy(update={
        "net": stage.net, "method": stage.method, "train": stage.train,
        "data": config.data.model_copy(update={"augment": stage.augment}),
        "run": config.run.model_copy(update={"before": [], "name": f"{config.run.name}.{stage.name}"}),
    })
