"""What the page shows, shared between the thread that watches and those that serve."""

from __future__ import annotations

import base64
import json
import threading
import time
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.frames import Frame

WATCHED_S = 3.0
"""A page that has not asked for so long is closed."""
PICTURES_HZ = 10.0
PICTURE_WIDTH, JPEG_QUALITY = 480, 75
HISTORY = 180
"""Estimates of the past that are shown."""


class Board:
    """The newest values by name, as JSON; pictures are made only while somebody looks."""

    def __init__(self, **values: Any) -> None:
        """values: what does not change."""
        self._lock, self._values = threading.Lock(), dict(values)
        self._asked = self._drawn = -np.inf
        self._history: list[tuple[float, float | None, float]] = []

    def show(self, **values: Any) -> None:
        """Replace these values; they must fit into JSON."""
        with self._lock:
            self._values |= values

    def show_estimate(self, made: dict[str, Any]) -> None:
        """Replace the estimate, and add it to the history."""
        with self._lock:
            self._history = [
                *self._history[1 - HISTORY :], (made["time_s"], made["heart_rate_bpm"], made["quality"])
            ]
            self._values |= {"estimate": made, "history": self._history}

    def show_picture(self, frame: Frame, box: NDArray[np.float32] | None, found: bool) -> None:
        """The BGR picture with the face's box as shares of its width and height, some times a second."""
        now = time.monotonic()
        if not self.is_watched or now - self._drawn < 1 / PICTURES_HZ:
            return
        self._drawn = now
        high, wide = frame.shape[:2]
        scale = min(1.0, PICTURE_WIDTH / wide)
        small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        _, data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        shares = None if box is None else (box / [wide, high, wide, high]).round(4).tolist()
        self.show(picture="data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode(),
                  box=shares, face_found=found)

    @property
    def is_watched(self) -> bool:
        """Whether a page asked lately."""
        return time.monotonic() - self._asked < WATCHED_S

    def text(self) -> str:
        """All values as JSON, for a page."""
        self._asked = time.monotonic()
        with self._lock:
            return json.dumps(self._values, allow_nan=False)
