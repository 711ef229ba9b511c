"""Weights & Biases when it is switched on; whatever happens to it, the training goes on."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any, Literal, Protocol

from utils.runlog import warn
from utils.settings import Logging

_WAITING = 10_000  # values kept for a tracker that is slow; later ones are dropped with a warning


class Tracker(Protocol):
    """Where numbers go besides the log of the run."""

    def log(self, values: dict[str, float], step: int) -> None:
        """Hand over values of one step; returns at once and never raises."""
        ...

    def finish(self, timeout_s: float = 60.0) -> None:
        """Let what was handed over be written, for at most `timeout_s` seconds."""
        ...


class NullTracker:
    """Keeps nothing."""

    def log(self, values: dict[str, float], step: int) -> None:
        """Nothing happens."""

    def finish(self, timeout_s: float = 60.0) -> None:
        """Nothing happens."""


class WandbTracker:
    """Hands values to wandb in a process of its own: it may fail, hang or die, with one warning.

    A thread would not do: without a network, wandb holds the end of the process it lives in for minutes.
    """

    def __init__(
        self, project: str, name: str, folder: Path, params: dict[str, Any],
        begin: Callable[[dict[str, Any]], Any] | None = None,
    ) -> None:
        """Start wandb in the background; its files go to `folder`. begin: stands in for wandb.init."""
        start = {"project": project, "name": name, "dir": str(folder), "config": params, "mode": _mode()}
        context = multiprocessing.get_context("spawn")
        self._warned = False
        self._values = context.Queue(_WAITING)
        self._values.cancel_join_thread()  # what a dead wandb did not take must not hold our end
        self._faults, faults = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_serve, args=(begin or _begin, start, self._values, faults), daemon=True)
        try:
            self._process.start()
        except OSError as error:
            self._warn(f"could not be started ({error})")
        faults.close()

    def log(self, values: dict[str, float], step: int) -> None:
        """Queue the values; dropped when wandb has failed or does not keep up."""
        self._listen()
        if self._warned:
            return
        try:
            self._values.put_nowait((dict(values), step))
        except queue.Full:
            self._warn("does not keep up; its later values are dropped")

    def finish(self, timeout_s: float = 60.0) -> None:
        """Wait for wandb to write what it has, not longer than `timeout_s`, and end it."""
        self._listen()
        if self._process.pid is None:
            return
        if not self._warned:
            self.log({}, -1)
            self._process.join(timeout_s)
            self._listen(ending=True)
            if self._process.is_alive():
                self._warn(f"is not done after {timeout_s:.0f} s and was stopped; what it wrote can be "
                           "sent with `wandb sync`")
        self._process.kill()
        self._process.join()

    def _listen(self, ending: bool = False) -> None:
        """Note what wandb failed with, or that its process is gone."""
        if self._warned:
            return
        try:
            if self._faults.poll():
                self._warn(f"failed ({self._faults.recv()})")
        except (EOFError, OSError):
            if not ending or self._process.exitcode != 0:
                self._warn("died")

    def _warn(self, what: str) -> None:
        if not self._warned:
            self._warned = True
            warn(f"wandb {what}; the training goes on without it, log.jsonl has everything")


def make_tracker(logging: Logging, folder: Path, name: str, params: dict[str, Any]) -> Tracker:
    """wandb where the section switches it on, else nothing; its files go to `folder`.

    name: of the run; params: what is shown beside the curves.
    """
    if not logging.wandb:
        return NullTracker()
    return WandbTracker(logging.wandb_project, name, folder, params)


def _mode() -> Literal["online", "offline", "disabled"]:
    """WANDB_MODE where it is set; else online with a key, offline without."""
    wished = os.environ.get("WANDB_MODE", "")
    if wished in ("online", "offline", "disabled"):
        return wished  # type: ignore[return-value]
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    try:
        return "online" if netrc().authenticators("api.wandb.ai") else "offline"
    except (OSError, NetrcParseError):
        return "offline"


def _serve(
    begin: Callable[[dict[str, Any]], Any], start: dict[str, Any], values: Any, faults: Connection
) -> None:
    """The other process: log what comes until step -1; tell the first fault and end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the training's to handle
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silence, stream)
    try:
        run = begin(start)
        while (item := values.get())[1] >= 0:
            run.log(item[0], step=item[1])
        run.finish()
    except Exception as error:  # a tracker may raise whatever it likes
        faults.send(f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}")


def _begin(start: dict[str, Any]) -> Any:
    import wandb

    settings = wandb.Settings(console="off", silent=True, x_disable_stats=True, disable_git=True)
    return wandb.init(**start, settings=settings)
