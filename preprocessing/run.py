"""Fills the store: finds what is missing or stale, makes it in a pool, accounts for every recording."""

from __future__ import annotations

import contextlib
import fcntl
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from preprocessing import cluster, pool
from preprocessing import plan as planning
from preprocessing.plan import DatasetPlan
from preprocessing.report import Announcer, DatasetReport, StoreReport, warnings_line
from preprocessing.work import Task, make_as_planned, make_recording
from utils import files, runlog
from utils.errors import UserError
from utils.settings import Preprocessing, RawSet

__all__ = ["DatasetReport", "StoreReport", "preprocess"]

Work = Callable[[Task, Callable[[int], None]], dict[str, Any]]


def preprocess(
    sets: list[RawSet], store: Path, settings: Preprocessing, progress: bool = True,
    work: Work = make_recording,
) -> StoreReport:
    """Bring the store up to date with the raw datasets; a recording that is up to date is not touched.

    A recording that fails costs only itself: it is named in the manifest and in the report, and
    the caller ends with `report.raise_if_failed`. UserError when the store is stale and
    `settings.enabled` is false; Stopped when the disk is full; Interrupted on Ctrl-C and SIGTERM,
    with the manifest whole and no temporary file left. work: makes one recording in a worker.
    """
    store, announcer = Path(store), Announcer()
    with _lock(store) if settings.enabled else contextlib.nullcontext(False) as is_ours:
        plans = planning.make(sets, store, settings, progress)
        if settings.enabled:
            _fill(plans, store, settings, progress, is_ours, work, announcer)
        for plan in plans.values():
            plan.sightings.keep()
    report = StoreReport({name: plan.report.in_order() for name, plan in plans.items()})
    runlog.say(report.summary())
    for key, reason in report.failed.items():
        runlog.warn(f"{key} failed: {reason}")
    for name, plan in plans.items():
        _summarise_warnings(name, plan, announcer)
    return report


def _summarise_warnings(name: str, plan: DatasetPlan, announcer: Announcer) -> None:
    """One line where usable recordings have warnings that were not said while they were made."""
    entries = plan.manifest.entries
    texts = {f"{name}.{key}": [str(text) for text in entries[key]["warnings"]] for key in plan.report.done}
    if line := warnings_line(texts, announcer.named):
        runlog.warn(f"store {name}: {line}")


@contextlib.contextmanager
def _lock(store: Path) -> Iterator[bool]:
    """Hold the store against a second run; yields whether it is ours to write."""
    with contextlib.ExitStack() as stack:
        is_ours = False
        with contextlib.suppress(OSError):
            store.mkdir(parents=True, exist_ok=True)
            handle = stack.enter_context(open(store / ".lock", "w"))
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = True
        yield is_ours


def _fill(
    plans: dict[str, DatasetPlan], store: Path, settings: Preprocessing, progress: bool,
    is_ours: bool, work: Work, announcer: Announcer,
) -> None:
    """Make what the plans ask for; with nothing to do, nothing is written."""
    if not is_ours:
        if any(plan.tasks or not plan.manifest.is_published() for plan in plans.values()):
            raise UserError(
                f"{store}: cannot be written, or another run is filling it; "
                "wait for that run, or choose another data.store"
            )
        return
    for plan in plans.values():
        _clear_stale(plan)
    try:
        _work_through(plans, store, settings, progress, work, announcer)
    finally:
        for plan in plans.values():
            files.remove_leftovers(plan.folder)
            if plan.tasks:
                plan.manifest.write()


def _clear_stale(plan: DatasetPlan) -> None:
    """Remove what killed runs left and what is stale, lines before files, before anything is made."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    files.remove_leftovers(plan.folder)
    for key in plan.tasks:
        plan.manifest.entries.pop(key, None)
    plan.manifest.write()
    for task in plan.tasks.values():
        task.target.unlink(missing_ok=True)
    for why, n in Counter(plan.why.values()).items():
        if why != planning.NEW:
            runlog.say(f"store {plan.folder.name}: {n} {why}: made again")


def _work_through(
    plans: dict[str, DatasetPlan], store: Path, settings: Preprocessing, progress: bool, work: Work,
    announcer: Announcer,
) -> None:
    """Work through all tasks; every outcome is kept by its manifest before the next is waited for."""
    tasks = {(name, key): task for name, plan in plans.items() for key, task in plan.tasks.items()}
    bar = runlog.Progress(len(tasks), "preprocessing", progress)
    n_frames = 0

    def alive(units: int) -> None:
        nonlocal n_frames
        n_frames += units
        bar.step(0, frames=n_frames)

    def done(outcome: pool.Outcome) -> None:
        name, key = outcome.key
        _record(plans[name], key, outcome)
        if outcome.reason is None:
            announcer.made(f"{name}.{key}", outcome.value["warnings"])
        bar.step()

    try:
        if settings.cluster and tasks:
            checked = functools.partial(make_as_planned, work=work)
            cluster.run(tasks.items(), checked, settings.cluster, store, settings.timeout_s, done, alive,
                        settings.workers)
        else:
            n_workers = min(settings.workers or pool.usable_cores(), len(tasks))
            pool.run(tasks.items(), work, n_workers, settings.timeout_s, done, alive)
    finally:
        bar.close()


def _record(plan: DatasetPlan, key: str, outcome: pool.Outcome) -> None:
    """One outcome into report and manifest."""
    task = plan.tasks[key]
    if outcome.reason is None:
        plan.report.made.append(key)
        plan.manifest.add(key, outcome.value)
    else:
        plan.report.failed[key] = outcome.reason
        plan.manifest.add(key, {
            "status": "failed", "reason": outcome.reason, "traceback": outcome.detail, **task.description(),
        })
        for path in plan.folder.glob(f".{task.target.name}.*.tmp"):
            path.unlink(missing_ok=True)
