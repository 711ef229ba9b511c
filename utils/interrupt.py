"""Ctrl-C and SIGTERM: noted at once, acted on where the state is whole."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from utils.errors import Interrupted

_arrived: int | None = None


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Note the first Ctrl-C or SIGTERM for `check`; a second Ctrl-C stops at once."""
    global _arrived
    _arrived = None

    def note(number: int, frame: FrameType | None) -> None:
        global _arrived
        if _arrived is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        _arrived = number

    before = {n: signal.signal(n, note) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        _arrived = None
        for number, handler in before.items():
            signal.signal(number, handler)


def requested() -> bool:
    """Whether someone asked to stop."""
    return _arrived is not None


def code() -> int:
    """The exit code of a stop that was asked for, 0 where none was."""
    return 0 if _arrived is None else 128 + _arrived


def check() -> None:
    """Raise Interrupted when someone asked to stop; call it wherever the state is whole."""
    if _arrived is not None:
        raise Interrupted(code())
