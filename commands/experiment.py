"""run, train and preprocess: the stages of one experiment in order."""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from commands.building import resolve_device
from commands.lineage import learned
from commands.params import load_config
from commands.recordings import divide, fill, keep_split
from commands.runfolder import RunFolder
from commands.starting import try_start
from dataset.index import RecordingInfo
from dataset.split import Parts
from utils import interrupt
from utils.errors import RecordingsFailed
from utils.runlog import RunLog, say, silence
from utils.settings import RunConfig

if TYPE_CHECKING:
    import torch


@dataclass
class Stage:
    """What the stages of a run share."""

    config: RunConfig
    folder: Path
    log: RunLog

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Log how long a stage takes; print it when logging.timings is on."""
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        self.log.write("stage", name=name, seconds=round(seconds, 2))
        if self.config.logging.timings:
            say(f"{name}: {seconds:.1f} s")


def preprocess(args: argparse.Namespace) -> int:
    """Only fill the store."""
    config = load_config(args.params, args.overrides)
    with interrupt.listening():
        report = fill(config)
    report.raise_if_failed(config.preprocessing.allow_failed)
    return 0


def train(args: argparse.Namespace) -> int:
    """Preprocess, split and train; no test recording is read."""
    return _experiment(args, evaluate=False)


def run(args: argparse.Namespace) -> int:
    """The whole experiment, from what is there to the report."""
    return _experiment(args, evaluate=True)


def _experiment(args: argparse.Namespace, evaluate: bool) -> int:
    config = load_config(args.params, args.overrides)
    if config.run.verify:
        from commands.verify import verify

        return verify(config)
    device = resolve_device(config.run.device)
    try_start(config)
    with together(device) as first:
        return _lead(config, args.resume, evaluate) if first else _follow(config)


@contextmanager
def together(device: torch.device) -> Iterator[bool]:
    """Whether this process is the only or the first one of those that torchrun started."""
    from training import ranks

    ranks.start(device)
    try:
        yield ranks.rank() == 0
    finally:
        ranks.stop()


def _follow(config: RunConfig) -> int:
    """What the other processes do: wait for the store and the split, then help to train."""
    from commands.earlier import help_earlier
    from commands.learning import help_to_learn
    from commands.starting import resolved
    from training import ranks

    silence()
    with interrupt.listening():
        folder = ranks.from_first()
        if folder is None:
            return 0
        infos, parts = divide(config)
        help_earlier(config, folder, infos, parts)
        help_to_learn(resolved(config, folder), infos, parts)
    return 0


def _lead(config: RunConfig, resume: bool, evaluate: bool) -> int:
    run_folder = RunFolder(config)
    with interrupt.listening(), _others_sent_home() as call, run_folder.opened(must_exist=resume) as folder:
        if run_folder.finished:
            say(f"finished: {folder} (report.html, table.md, metrics.json)")
            return 0
        stage = Stage(config, folder, RunLog(folder / "log.jsonl"))
        with stage.timed("preprocessing"):
            report = fill(config)
        infos, parts = divide(config)
        keep_split(infos, parts, folder / "split.json", learned(config, infos, parts))
        call(folder)
        scored = _learn_and_test(stage, infos, parts, evaluate)
        if evaluate:
            run_folder.finish(split=parts.hash, failed=sorted(report.failed))
            if not config.run.save_model:  # last: a run killed in between could not go on without them
                for kept in (folder / "checkpoints", *folder.glob("before/*/checkpoints")):
                    shutil.rmtree(kept, ignore_errors=True)
    report.raise_if_failed(config.preprocessing.allow_failed)
    if not scored:
        raise RecordingsFailed(f"{run_folder.path}: {config.net.name} could not be scored on any test "
                               "recording; why stands in table.md")
    return 0


@contextmanager
def _others_sent_home() -> Iterator[Callable[[Path], None]]:
    """Gives what calls the other processes to training; they end where it was not called in the end."""
    from training import ranks

    called: list[Path] = []

    def call(folder: Path) -> None:
        called.append(folder)
        ranks.from_first(folder)

    try:
        yield call
    finally:
        if not called:
            ranks.from_first(None)


def _learn_and_test(
    stage: Stage, infos: dict[str, RecordingInfo], parts: Parts, evaluate: bool
) -> bool:
    """The stages that need torch; False where no test recording could be scored."""
    from commands.earlier import learn_earlier
    from commands.learning import learn
    from commands.starting import resolved
    from commands.testing import test

    with stage.timed("training"):
        learn_earlier(stage.config, stage.folder, infos, parts)
        method = learn(resolved(stage.config, stage.folder), stage.folder, stage.log, infos, parts)
    if evaluate:
        with stage.timed("evaluation"):
            return test(stage.config, stage.folder, method, infos, parts)
    return True
