"""sweep: seeds, folds and a grid of settings of one experiment, side by side, then their table."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from commands.experiment import preprocess
from commands.params import load_config
from commands.reproduce import split_folds
from commands.table import print_table
from utils import interrupt
from utils.errors import Interrupted, RecordingsFailed, UserError
from utils.files import parse_json, write_json
from utils.runlog import say, warn

ROOT = Path(__file__).parent.parent
LOOK_S = 0.2
FINISHED = (0, RecordingsFailed.exit_code)
UNFIT = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Job:
    """One run of a sweep: its folder's name, and what is set in it."""

    label: str
    overrides: tuple[str, ...]

    def command(self, params: str) -> list[str]:
        """The words that run it alone."""
        words = [word for text in self.overrides for word in ("--set", text)]
        return ["main.py", "run", params, *words]


@dataclass
class Running:
    """A job at work: its process, its slot, since when."""

    job: Job
    process: subprocess.Popen[bytes]
    slot: int
    log: TextIO
    start: float


def sweep(args: argparse.Namespace) -> int:
    """Run every combination, `--jobs` at a time, and print the table of those that finished.

    What is finished already is not run again, what was interrupted goes on. With --list the commands are
    only printed, one a line, for a cluster's job arrays. Exit code 3 where recordings failed, else that of
    the first run that failed.
    """
    config = load_config(args.params, args.overrides)
    out = Path(args.out or Path(config.run.output) / f"sweep_{config.run.name}")
    jobs = plan(args, config.run.name, out)
    if args.list:
        for job in jobs:
            say(shlex.join(["python", *job.command(args.params)]))
        return 0
    with interrupt.listening():
        _fill_store(args.params, jobs)
    out.mkdir(parents=True, exist_ok=True)
    slots = _slots(args.jobs)
    say(f"{len(jobs)} runs, {len(slots)} at a time; what they say is in {out}/<run>.log")
    with interrupt.listening():
        codes = _work_off(jobs, args.params, out, slots)
    return _finish(jobs, codes, out)


def plan(args: argparse.Namespace, name: str, out: Path) -> list[Job]:
    """Every combination of the grid, the seeds and the folds, in that order; names are unique."""
    grid = [_axis(text) for text in args.grid]
    jobs = []
    for point in itertools.product(*grid):
        chosen = [*args.overrides, *(f"{key}={json.dumps(value)}" for key, value in point)]
        label = "_".join([name, *(f"{key.rpartition('.')[2]}{_word(value)}" for key, value in point)])
        folds = _folds(args, chosen)
        for seed, fold in itertools.product(dict.fromkeys(args.seeds), folds):
            full = f"{label}_seed{seed}" + ("" if fold is None else f"_fold{fold}")
            own = [f"run.seed={seed}", *([] if fold is None else [f"split.fold={fold}"])]
            place = [f"run.name={json.dumps(full)}", f"run.output={json.dumps(str(out))}"]
            jobs.append(Job(full, (*chosen, *own, *place)))
    twice = {job.label for job in jobs if sum(other.label == job.label for other in jobs) > 1}
    if twice:
        raise UserError(f"--grid: several combinations would have the name {sorted(twice)[0]}; their values "
                        "differ only in signs that a folder's name cannot hold")
    return jobs


def _axis(text: str) -> list[tuple[str, Any]]:
    """`section.key=[a, b]` or `section.key=a,b` as pairs of the key and one value."""
    key, equals, given = text.partition("=")
    if not equals or "." not in key or not given:
        raise UserError(f"--grid {text}: use section.key=VALUE,VALUE, for example "
                        "--grid train.learning_rate=1e-3,3e-3")
    values = parse_json(given, f"--grid {key}") if given[0] == "[" else [_value(v) for v in given.split(",")]
    if not values:
        raise UserError(f"--grid {text}: there is no value")
    return [(key, value) for value in values]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _word(value: Any) -> str:
    """A value as part of a folder's name."""
    text = value if isinstance(value, str) else json.dumps(value).replace("+", "")
    return UNFIT.sub("-", text).strip("-")


def _folds(args: argparse.Namespace, overrides: Sequence[str]) -> list[int | None]:
    """The folds asked for: those given, all of the split where --folds has none, else the params' own."""
    if args.folds is None:
        return [None]
    return list(args.folds) or split_folds(load_config(args.params, list(overrides)))


def _fill_store(params: str, jobs: Sequence[Job]) -> None:
    """Preprocess once for all; runs that want one store in different forms are refused."""
    stores: dict[str, tuple[str, Job]] = {}
    for job in jobs:
        config = load_config(params, list(job.overrides))
        form = json.dumps([config.preprocessing.model_dump(mode="json"),
                           [entry.model_dump(mode="json") for entry in config.data.sets]])
        if stores.setdefault(config.data.store, (form, job))[0] != form:
            raise UserError(f"runs of this sweep preprocess differently into one store, {config.data.store}; "
                            "give them data.store of their own, or run them one after another")
    for _, job in stores.values():
        with contextlib.suppress(RecordingsFailed):  # every run says so itself
            preprocess(argparse.Namespace(params=params, overrides=list(job.overrides)))


def _slots(jobs: int | None) -> list[str | None]:
    """Where runs may go at a time: card numbers, or None without cards; by default one run a card."""
    import torch

    cards = torch.cuda.device_count()
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names: list[str | None] = list(given.split(",") if given and cards else map(str, range(cards)))
    if not names:
        return [None] * (jobs or 1)
    return [names[i % len(names)] for i in range(jobs or len(names))]


def _work_off(jobs: Sequence[Job], params: str, out: Path, slots: Sequence[str | None]) -> dict[str, int]:
    """Run all jobs on the slots; exit codes by label. When asked to stop, so are the runs, and it waits."""
    waiting, free = list(jobs), list(range(len(slots)))
    running: list[Running] = []
    codes: dict[str, int] = {}
    while waiting or running:
        if interrupt.requested():
            _stop(running)
            raise Interrupted(interrupt.code(), f"{len(codes)} of {len(jobs)} runs are done")
        while waiting and free:
            running.append(_start(waiting.pop(0), params, out, slots, free.pop(0)))
        for one in [one for one in running if one.process.poll() is not None]:
            running.remove(one)
            free.append(one.slot)
            codes[one.job.label] = _ended(one, len(codes) + 1, len(jobs))
        time.sleep(LOOK_S)
    return codes


def _start(job: Job, params: str, out: Path, slots: Sequence[str | None], slot: int) -> Running:
    """Start a run; what it says goes into its own file, which is closed when it ends."""
    card = slots[slot]
    env = {**os.environ, **({} if card is None else {"CUDA_VISIBLE_DEVICES": card})}
    log = open(out / f"{job.label}.log", "w", encoding="utf-8")  # noqa: SIM115
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "main.py"), *job.command(params)[1:]], stdout=log, stderr=log,
        stdin=subprocess.DEVNULL, env=env, start_new_session=True,
    )
    return Running(job, process, slot, log, time.perf_counter())


def _ended(one: Running, number: int, of: int) -> int:
    """Close a run's books; returns its exit code."""
    one.log.close()
    code = one.process.returncode
    seconds = time.perf_counter() - one.start
    how = "done" if code in FINISHED else f"exit code {code}"
    say(f"[{number}/{of}] {one.job.label}: {how}, {seconds:.0f} s")
    return code


def _stop(running: Sequence[Running]) -> None:
    """Ask every run to save and end, and wait for it."""
    for one in running:
        one.process.terminate()
    for one in running:
        one.process.wait()
        one.log.close()


def _finish(jobs: Sequence[Job], codes: dict[str, int], out: Path) -> int:
    """The table of what finished, the list of all runs, and the exit code."""
    write_json(out / "sweep.json", [
        {"run": job.label, "overrides": list(job.overrides), "exit_code": codes[job.label]} for job in jobs
    ])
    good = [out / job.label for job in jobs if codes[job.label] in FINISHED]
    bad = {job.label: codes[job.label] for job in jobs if codes[job.label] not in FINISHED}
    notes = [f"not finished: {label}, exit code {code}, see {out / label}.log" for label, code in bad.items()]
    for note in notes:
        warn(note)
    if good:
        print_table(good, out, notes=notes)
        say(f"in {out}: table.md, table.csv, table.tex, sweep.json and the run folders")
    return next(iter(bad.values()), max(codes.values(), default=0))
