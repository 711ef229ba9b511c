"""Ways in which wandb fails; apart from the other toys, since its process imports this file."""

from __future__ import annotations

import os
import signal
import time
from typing import Any


class Full:
    """A tracker whose disk is full."""

    def log(self, *_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    finish = log


def wandb_full_disk(_: dict[str, Any]) -> Full:
    """Stands for a wandb that cannot write."""
    return Full()


def wandb_dies(_: dict[str, Any]) -> None:
    """Stands for a wandb whose process is killed."""
    os.kill(os.getpid(), signal.SIGKILL)


def wandb_hangs(_: dict[str, Any]) -> None:
    """Stands for a wandb that waits for a network."""
    time.sleep(600)
