"""A bounded pool of spawned workers in which a crash, a kill or a hang costs one task only.

A task whose worker was lost (killed, for example for lack of memory, or crashed) is tried once more at
the end, with no other beside it; then it has failed. What hangs or raises is not tried again.

Only `spawn`: a fork after mediapipe was used in the parent ends in a deadlock. Only the standard
library is imported here, so that a worker starts fast and sets its thread limits before the rest.
"""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import signal
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from utils import interrupt
from utils.errors import Stopped, UserError

Work = Callable[[Any, Callable[[int], None]], Any]
POLL_S = 0.2
START_S = 60.0
PAUSE_S = 5.0
LOG_TAIL = 2000
AGAIN = "; so it was when tried again with no other beside it"
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FFMPEG_THREADS")


@dataclass(frozen=True)
class Outcome:
    """How a task ended: its value, or the reason why there is none (with a traceback or a log)."""

    key: Any
    value: Any = None
    reason: str | None = None
    detail: str = ""


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(
    tasks: Iterable[tuple[Any, Any]],
    work: Work,
    n_workers: int,
    timeout_s: float,
    done: Callable[[Outcome], None],
    alive: Callable[[int], None] = lambda units: None,
) -> None:
    """Run `work(task, beat)` for every (key, task) in spawned processes and hand over each outcome.

    work: an importable function; it calls `beat(units)`, units done so far of its task, and is
    killed when it does not for `timeout_s`. done, alive (units done since the last call; negative
    where they were lost): called in this process. Stopped, raised by a task, ends the pool; so do
    Interrupted and Ctrl-C. No worker outlives the call, nor this process.
    """
    with tempfile.TemporaryDirectory(prefix="rppg-pool-") as logs:
        pool = _Pool(deque(tasks), work, timeout_s, done, alive, Path(logs))
        try:
            pool.run(n_workers)
        finally:
            pool.kill_all()


class _Worker:
    """One process, its channel, and the task it is at."""

    def __init__(self, log: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self.channel, theirs = context.Pipe()
        self.log = log
        self.process = context.Process(target=_serve, args=(theirs, str(log)), daemon=True)
        self.process.start()
        theirs.close()
        self.key: Any = None
        self.task: Any = None
        self.has_begun = False
        self.units = 0
        self.heard = time.monotonic()

    def give(self, key: Any, work: Work, task: Any) -> None:
        """Hand over a task; a worker that is already dead shows at the next look."""
        self.key, self.task, self.units, self.heard = key, task, 0, time.monotonic()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.channel.send((work, task))

    def kill(self) -> None:
        self.process.kill()
        self.process.join(PAUSE_S)
        self.channel.close()

    def death(self) -> str:
        """Why the process ended, in words."""
        self.process.join(PAUSE_S)
        code = self.process.exitcode
        if code is None:
            return "the worker closed its channel"
        if code >= 0:
            return f"the worker ended with exit code {code}"
        name = signal.Signals(-code).name
        hint = {"SIGKILL": "; often too little memory", "SIGSEGV": "; a library crashed on this input"}
        return f"the worker was ended by {name}{hint.get(name, '')}"

    def last_words(self) -> str:
        """The crash report on the worker's standard error, or the end of it."""
        text = ""
        with contextlib.suppress(OSError):
            text = self.log.read_text(errors="replace")
        crash = text.rfind("Fatal Python error")
        return text[-LOG_TAIL:] if crash < 0 else text[crash : crash + LOG_TAIL].partition("\nExtension")[0]


class _Pool:
    """The parent's side."""

    def __init__(
        self, queue: deque[tuple[Any, Any]], work: Work, timeout_s: float,
        done: Callable[[Outcome], None], alive: Callable[[int], None], logs: Path,
    ) -> None:
        self._queue, self._work, self._timeout_s = queue, work, timeout_s
        self._done, self._alive, self._logs = done, alive, logs
        self._workers: list[_Worker] = []
        self._n_started = 0
        self._again: deque[tuple[Any, Any]] = deque()
        self._lost: set[Any] = set()

    def run(self, n_workers: int) -> None:
        looked = time.monotonic()
        while self._is_busy() or self._queue or self._again:
            interrupt.check()
            if not self._queue and self._again and not self._is_busy():
                self._queue.append(self._again.popleft())  # alone: the next comes when it is done
            self._employ(n_workers)
            watched = [end for w in self._workers for end in (w.channel, w.process.sentinel)]
            ready = wait(watched, timeout=POLL_S)
            interrupt.check()
            for worker in list(self._workers):
                if worker.channel in ready or worker.process.sentinel in ready:
                    self._listen(worker)
            if time.monotonic() - looked > PAUSE_S:  # we slept ourselves, and so did they
                for worker in self._workers:
                    worker.heard = time.monotonic()
            looked = time.monotonic()
            self._end_silent(looked)

    def _is_busy(self) -> bool:
        return any(worker.key is not None for worker in self._workers)

    def kill_all(self) -> None:
        for worker in self._workers:
            worker.kill()
        self._workers = []

    def _employ(self, n_workers: int) -> None:
        """Give every free worker a task, and hire while there are tasks and places."""
        for worker in self._workers:
            if worker.key is None and self._queue:
                worker.give(*self._order())
        while self._queue and len(self._workers) < n_workers:
            worker = _Worker(self._logs / f"worker-{self._n_started}.log")
            self._n_started += 1
            self._workers.append(worker)
            worker.give(*self._order())

    def _order(self) -> tuple[Any, Work, Any]:
        key, task = self._queue.popleft()
        return key, self._work, task

    def _listen(self, worker: _Worker) -> None:
        """Take what the worker sent; where it is dead, say so for its task."""
        try:
            while worker.channel.poll():
                self._take(worker, worker.channel.recv())
                if worker not in self._workers:
                    return
        except (EOFError, OSError):  # dead, perhaps in the middle of a message
            self._lose(worker)
            return
        if not worker.process.is_alive() and not worker.channel.poll():
            self._lose(worker)

    def _take(self, worker: _Worker, message: tuple[Any, ...]) -> None:
        kind, *content = message
        worker.heard, worker.has_begun = time.monotonic(), True
        if kind == "beat":
            self._alive(content[0] - worker.units)
            worker.units = content[0]
            return
        key, worker.key = worker.key, None
        value, reason, detail = content
        if kind == "stopped":
            raise Stopped(reason)
        if kind == "broken":
            self._workers.remove(worker)
            worker.kill()
        self._done(Outcome(key, value, reason, detail))

    def _end_silent(self, now: float) -> None:
        """Kill the workers that showed no progress for too long."""
        for worker in list(self._workers):
            limit = self._timeout_s if worker.has_begun else max(self._timeout_s, START_S)
            if worker.key is not None and now - worker.heard > limit:
                self._dismiss(worker, f"no progress for {limit:g} s; the worker was stopped")

    def _lose(self, worker: _Worker) -> None:
        """A worker is dead: its task, if any, is kept for a second try, or has failed in it."""
        key = worker.key
        if key is None or key in self._lost:
            return self._dismiss(worker, worker.death() + AGAIN)
        self._lost.add(key)
        self._again.append((key, worker.task))
        self._alive(-worker.units)
        worker.key = None
        return self._dismiss(worker, "")

    def _dismiss(self, worker: _Worker, reason: str) -> None:
        """Remove a worker that is dead or has to be; its task, if any, has failed."""
        self._workers.remove(worker)
        worker.kill()
        if worker.key is not None:
            self._done(Outcome(worker.key, reason=reason, detail=worker.last_words()))


def _serve(channel: Connection, log: str) -> None:
    """The worker's side: one task after the other until the parent is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent decides, and kills
        signal.signal(number, signal.SIG_IGN)
    for name in ONE_THREAD:
        os.environ[name] = "1"
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 2)
    faulthandler.enable()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        _answer(channel)


def _answer(channel: Connection) -> None:
    """Receive one task, do it, send how it went."""
    last = -POLL_S

    def beat(units: int) -> None:
        nonlocal last
        if time.monotonic() - last >= POLL_S:
            last = time.monotonic()
            channel.send(("beat", units))

    try:
        work, task = channel.recv()
        beat(0)
        channel.send(attempt(work, task, beat))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(1)


def attempt(work: Work, task: Any, beat: Callable[[int], None]) -> tuple[str, Any, str | None, str]:
    """How a task went, as (kind, value, reason, detail); kind: done, failed, broken (a bug) or stopped."""
    try:
        return "done", work(task, beat), None, ""
    except Stopped as error:
        return "stopped", None, str(error), ""
    except UserError as error:
        return "failed", None, str(error), ""
    except Exception as error:
        return "broken", None, f"{type(error).__name__}: {error}", traceback.format_exc()


def _end_with_parent() -> None:
    """Leave at once when the parent is gone, however it went."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
