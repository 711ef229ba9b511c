"""The tasks of a pool on the workers of a Dask cluster, in place of processes of this machine.

Scheduler and workers are the user's, started in this project's folder with its packages; the raw data
and the store lie in a file system that all machines see under the same paths. The package distributed
is optional. It moves tasks as Python objects and trusts all who can reach it: closed networks only.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import queue
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preprocessing import pool
from preprocessing.pool import Outcome, Work
from utils import files, interrupt, runlog
from utils.errors import Stopped, UserError

CONNECT_S, STORE_S, LOOK_S, BEAT_S = 10.0, 3.0, 1.0, 0.5
REMEDY = "start workers in the project's folder with `.venv/bin/dask worker ADDRESS --nthreads 1`"


def run(
    tasks: Iterable[tuple[Any, Any]], work: Work, address: str, folder: Path, timeout_s: float,
    done: Callable[[Outcome], None], alive: Callable[[int], None] = lambda units: None,
    most: int | None = None,
) -> None:
    """As `pool.run`, on the Dask workers of the scheduler at `address`, at most so many tasks at a time.

    folder: a place that every worker must see and that nobody else writes to now. A task whose workers
    were lost is first tried again by Dask, then by itself, then it has failed. UserError when the
    scheduler cannot be reached; Stopped when it is lost, or when a worker cannot do the work.
    """
    files.remove_leftovers(folder)  # tasks of runs that are no more see it and end
    flag = folder / f".cluster.{uuid.uuid4().hex}.tmp"
    with _connected(address) as client:
        flag.touch()
        try:
            _Run(client, deque(tasks), work, address, flag, timeout_s, done, alive, most).run()
        finally:
            flag.unlink(missing_ok=True)  # first of all: what still runs must not be published


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Any]:
    try:
        from distributed import Client
    except ImportError:
        raise UserError("preprocessing.cluster needs the package distributed, here and on every worker: "
                        "install it by `pip install distributed`, or set it to null") from None
    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UserError(f"preprocessing.cluster: no Dask scheduler answers at {address} ({error}); start one "
                        "with `.venv/bin/dask scheduler`") from None
    try:
        yield client
    finally:
        client.close(timeout=CONNECT_S)


@dataclass
class _Job:
    """A task that is with the cluster. heard: when it last showed progress; None: not begun."""

    number: int
    key: Any
    task: Any
    units: int = 0
    heard: float | None = None
    worker: str = ""


class _Run:
    """This program's side."""

    def __init__(
        self, client: Any, tasks: deque[tuple[Any, Any]], work: Work, address: str, flag: Path,
        timeout_s: float, done: Callable[[Outcome], None], alive: Callable[[int], None], most: int | None,
    ) -> None:
        self._client, self._queue, self._work, self._address, self._flag = client, tasks, work, address, flag
        self._timeout_s, self._done, self._alive, self._most = timeout_s, done, alive, most
        self._executor = client.get_executor(pure=False)
        self._jobs: dict[concurrent.futures.Future[Any], _Job] = {}
        self._again: deque[tuple[Any, Any]] = deque()
        self._lost: set[Any] = set()
        self._beats: queue.SimpleQueue[tuple[int, int, str]] = queue.SimpleQueue()
        self._n_given, self._places, self._seen = 0, 0, (0, 0)
        self._looked = self._moved = -pool.START_S

    def run(self) -> None:
        """Until every task has its outcome."""
        self._moved = time.monotonic()
        self._client.subscribe_topic(self._flag.name, lambda event: self._beats.put(event[1]))
        try:
            while self._jobs or self._queue or self._again:
                interrupt.check()
                self._look()
                self._submit()
                if not self._jobs:
                    time.sleep(pool.POLL_S)
                for future in concurrent.futures.wait(
                    self._jobs, pool.POLL_S, concurrent.futures.FIRST_COMPLETED
                ).done:
                    self._finish(future, self._jobs.pop(future))
                self._hear()
                self._end_silent()
        finally:
            for future in self._jobs:
                future.cancel()

    def _look(self) -> None:
        """How many tasks the cluster can do at once; Stopped when it is gone or nothing moves any more."""
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        try:
            workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        except (OSError, TimeoutError, ValueError) as error:
            raise self._gone(f"the scheduler was lost ({error})") from None
        places = sum(worker["nthreads"] for worker in workers)
        if (places, len(workers)) != self._seen:
            runlog.say(f"Dask cluster {self._address}: {len(workers)} workers")
            if places > len(workers):
                runlog.warn("Dask workers with several threads share one Python process; "
                            "--nworkers N --nthreads 1 is faster")
        self._seen, self._places = (places, len(workers)), min(places, self._most or places)
        if now - self._moved > max(self._timeout_s, pool.START_S):
            raise self._gone("it has no workers" if not places else "nothing moves any more")

    def _gone(self, what: str) -> Stopped:
        return Stopped(f"preprocessing.cluster {self._address}: {what}; {REMEDY} and run again: what is "
                       "done stays done")

    def _submit(self) -> None:
        """Hand over as many tasks as there are places; those to try again come last and alone."""
        if self._again and not self._queue and not self._jobs:
            self._queue.append(self._again.popleft())
        while self._queue and len(self._jobs) < self._places:
            key, task = self._queue.popleft()
            self._n_given += 1
            future = self._executor.submit(_do, self._work, task, self._n_given, str(self._flag))
            self._jobs[future] = _Job(self._n_given, key, task)

    def _finish(self, future: concurrent.futures.Future[Any], job: _Job) -> None:
        """Take the outcome of a job, or keep it for a second try."""
        from distributed.scheduler import KilledWorker

        self._moved = time.monotonic()
        try:
            kind, value, reason, detail = future.result()
        except KilledWorker as error:
            return self._lose(job, error)
        except concurrent.futures.CancelledError:
            raise self._gone("it let a task go") from None
        except Exception as error:  # the worker could not even unpack the task
            raise self._gone(f"a worker could not take a task ({type(error).__name__}: {error})") from None
        if kind == "stopped":
            raise Stopped(reason)
        return self._done(Outcome(job.key, value, reason, detail))

    def _lose(self, job: _Job, error: Any) -> None:
        self._alive(-job.units)
        if job.key not in self._lost:
            self._lost.add(job.key)
            self._again.append((job.key, job.task))
            return
        n = error.allowed_failures + 1
        reason = f"every Dask worker that had it was lost ({n}, the last {error.last_worker.address}); often"
        self._done(Outcome(job.key, reason=f"{reason} too little memory{pool.AGAIN}", detail=str(error)))

    def _hear(self) -> None:
        """Note the progress that the workers told of."""
        jobs = {job.number: job for job in self._jobs.values()}
        while not self._beats.empty():
            number, units, worker = self._beats.get()
            self._moved = time.monotonic()
            if number in jobs:
                job = jobs[number]
                self._alive(units - job.units)
                job.units, job.heard, job.worker = units, self._moved, worker

    def _end_silent(self) -> None:
        """Restart the workers of tasks that showed no progress for too long; the tasks have failed."""
        now = time.monotonic()
        for future, job in list(self._jobs.items()):
            if job.heard is None or now - job.heard <= self._timeout_s:
                continue
            del self._jobs[future]
            future.cancel()
            reason = f"no progress for {self._timeout_s:g} s; the Dask worker {job.worker} was restarted"
            try:
                self._client.restart_workers([job.worker], timeout=CONNECT_S, raise_for_error=False)
            except (OSError, ValueError) as error:  # lost by now, or nothing watches over it
                reason = f"no progress for {self._timeout_s:g} s; its worker could not be restarted ({error})"
            self._done(Outcome(job.key, reason=reason))


def _do(work: Work, task: Any, number: int, flag: str) -> tuple[str, Any, str | None, str]:
    """On a worker: one task, as `pool.attempt` tells it; it ends when the run that asked for it has."""
    from distributed import get_worker

    worker, mark, last = get_worker(), Path(flag), -BEAT_S
    os.environ.update(dict.fromkeys(pool.ONE_THREAD, "1"))
    end = time.monotonic() + STORE_S
    while not mark.exists():
        if time.monotonic() > end:
            return "stopped", None, f"the Dask worker {worker.address} does not see {mark.parent}: the raw " \
                "data and the store must lie where all machines see them under the same path", ""
        time.sleep(pool.POLL_S)

    def beat(units: int) -> None:
        nonlocal last
        if time.monotonic() - last >= BEAT_S:
            last = time.monotonic()
            if not mark.exists():
                raise UserError("the run that asked for it has ended")
            worker.log_event(mark.name, [number, units, worker.address])

    beat(0)
    return pool.attempt(work, task, beat)
