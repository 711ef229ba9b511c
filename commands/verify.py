"""run.verify: train several times from the same seed and say whether the curves are the same."""

from __future__ import annotations

import tempfile
from pathlib import Path

from commands.learning import prepare, train_once
from commands.recordings import divide, fill
from training.tracking import NullTracker
from utils import interrupt
from utils.errors import UserError
from utils.files import write_json
from utils.runlog import RunLog, say
from utils.settings import RunConfig


def verify(config: RunConfig) -> int:
    """Repeat the training `run.verify` times; writes `<run.name>.verify.json` beside the runs."""
    if config.train.epochs == 0:
        raise UserError("run.verify repeats a training, and train.epochs is 0")
    if config.run.before:
        raise UserError("run.verify repeats one training: leave run.before empty")
    with interrupt.listening():
        report = fill(config)
        infos, parts = divide(config)
        curves = []
        for repeat in range(config.run.verify):
            device, settings, method = prepare(config)
            if not method.trainable:
                raise UserError(f"run.verify repeats a training, and method {config.method.name!r} has none")
            with tempfile.TemporaryDirectory() as scratch:
                result = train_once(config, settings, device, method, infos, parts, checkpoints=None,
                                    log=RunLog(Path(scratch) / "log.jsonl"), tracker=NullTracker())
            curves.append(result.step_losses)
            say(f"training {repeat + 1} of {config.run.verify}: last loss {curves[-1][-1]!r}")
    facts = compare(curves)
    facts["deterministic"] = config.train.deterministic
    target = Path(config.run.output) / f"{config.run.name}.verify.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_json(target, facts | {"losses": curves})
    if facts["identical"]:
        say(f"identical: {len(curves)} trainings of {facts['steps']} steps gave the same losses, bit for bit")
    else:
        say(f"different: first at step {facts['first_difference']}, largest gap {facts['largest_gap']:.3g}, "
            f"last losses {facts['last']} (train.deterministic = {config.train.deterministic})")
    say(f"curves: {target}")
    report.raise_if_failed(config.preprocessing.allow_failed)
    return 0 if facts["identical"] or not config.train.deterministic else 1


def compare(curves: list[list[float]]) -> dict:
    """Whether loss curves (one list of floats a training) are equal, and if not how far apart."""
    gaps = [max(values) - min(values) for values in zip(*curves, strict=False)]
    same_length = len({len(curve) for curve in curves}) == 1
    differing = [step for step, gap in enumerate(gaps) if gap != 0]
    return {
        "trainings": len(curves), "steps": len(gaps), "identical": same_length and not differing,
        "first_difference": differing[0] if differing else None,
        "largest_gap": max(gaps, default=0.0), "last": [curve[-1] for curve in curves if curve],
    }
