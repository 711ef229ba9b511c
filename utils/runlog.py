"""What a run says: messages, progress bars, and the JSON-lines log."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")


_silent = False


def silence() -> None:
    """From here on this process says nothing but warnings: another one speaks for it."""
    global _silent
    _silent = True


def say(text: str = "") -> None:
    """Print one message on standard output, above any progress bar."""
    if _silent:
        return
    tqdm.write(text, file=sys.stdout)
    sys.stdout.flush()


def warn(text: str) -> None:
    """Print one warning on standard error."""
    tqdm.write(f"warning: {text}", file=sys.stderr)


class Progress:
    """A progress bar that appears only when the work outlasts `delay_s` seconds."""

    def __init__(self, total: int | None, label: str, enabled: bool = True, delay_s: float = 1.0) -> None:
        """total: number of steps, None where it is not known; label: what is being done."""
        self._bar = tqdm(
            total=total, desc=label, disable=not enabled, delay=delay_s, leave=False,
            dynamic_ncols=True, file=sys.stderr, mininterval=0.1 if sys.stderr.isatty() else 2.0,
        )

    def step(self, n: int = 1, **shown: Any) -> None:
        """Advance by n; keyword arguments are shown behind the bar."""
        if shown:
            self._bar.set_postfix(shown, refresh=False)
        self._bar.update(n)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()


def track(items: Iterable[T], label: str, total: int | None = None, enabled: bool = True
          ) -> Iterator[T]:
    """Iterate with a progress bar that appears after a second."""
    n = total if total is not None else len(items)  # type: ignore[arg-type]
    bar = Progress(n, label, enabled)
    try:
        for item in items:
            yield item
            bar.step()
    finally:
        bar.close()


class RunLog:
    """Appends one JSON object a line to `log.jsonl`: event, seconds since the start, values."""

    def __init__(self, path: Path | None) -> None:
        """The file is created, or continued where it exists; None keeps nothing."""
        self._path, self._start = path, time.perf_counter()

    def write(self, event: str, **values: Any) -> None:
        """Append one event. A log that cannot be written warns once and hurts nothing."""
        if self._path is None:
            return
        record = {"event": event, "elapsed_s": round(time.perf_counter() - self._start, 3), **values}
        try:
            with open(self._path, "a", encoding="utf-8") as handle:
                handle.write(json.dumps(record) + "\n")
        except OSError as error:
            warn(f"{self._path}: {error.strerror}; the log is not continued")
            self._path = None
