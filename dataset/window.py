"""Frames that are held in memory, read as a stored recording is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset.index import RecordingInfo, recording_key
from dataset.reader import StoreClips
from preprocessing.stored import StoredRecording
from utils.contracts import InputSpec

Array = NDArray[Any]
Seconds = NDArray[np.float64]

UNEVEN = 0.1
"""Part of a step by which frames may lie off even times before they are put on them."""


class HeldRecording(StoredRecording):
    """Arrays in memory behind the interface of a stored recording, at evenly spaced times.

    Where frames were dropped or the camera's rate wavers, every array is interpolated in time; frames
    one by one, as they are read.
    """

    def __init__(
        self, name: str, time_s: Seconds, arrays: Mapping[str, list[Array]], attributes: dict[str, Any]
    ) -> None:
        """time_s: (T,) increasing; arrays: name -> T arrays, one a frame, as the store has them."""
        super().__init__(Path(name))
        self._arrays, self._attributes = arrays, attributes
        self.time_s = np.linspace(time_s[0], time_s[-1], len(time_s))
        step = (time_s[-1] - time_s[0]) / (len(time_s) - 1)
        if np.abs(self.time_s - time_s).max() <= UNEVEN * step:
            self.time_s, self._left = time_s, np.arange(len(time_s))
            self._share = np.zeros(len(time_s))
        else:
            self._left = np.clip(np.searchsorted(time_s, self.time_s, "right") - 1, 0, len(time_s) - 2)
            self._share = (self.time_s - time_s[self._left]) / np.diff(time_s)[self._left]

    @property
    def n_frames(self) -> int:
        """Number of frames T."""
        return len(self.time_s)

    @property
    def attributes(self) -> dict[str, Any]:
        """What was given."""
        return self._attributes

    def __contains__(self, name: str) -> bool:
        """Whether the array `name` is held."""
        return name == "frame_time_s" or name in self._arrays

    def read_frames(
        self, start: int, stop: int, out: Array | None = None, name: str = "frames"
    ) -> Array:
        """Frames start..stop-1 as uint8 (n, H, W, 3), into `out` where it is given."""
        made = self.array(name, start, stop)
        if out is None:
            return made
        out[:] = made
        return out

    def array(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """The array `name`, or its rows start..stop-1, of the type its parts have."""
        if name == "frame_time_s":
            return self.time_s[start:stop]
        rows = self._arrays[name]
        made = [self._between(rows, int(i), float(s))
                for i, s in zip(self._left[start:stop], self._share[start:stop], strict=True)]
        return np.stack(made)

    def _between(self, rows: list[Array], left: int, share: float) -> Array:
        """A frame's part at its even time: between its neighbours, of flags where both are set."""
        here = np.asarray(rows[left])
        if share <= 0:
            return here
        there = np.asarray(rows[left + 1])
        if here.dtype == np.bool_:
            return np.asarray(here & there)
        mixed = here * (1 - share) + there * share
        return np.asarray((np.rint(mixed) if here.dtype == np.uint8 else mixed).astype(here.dtype))


def held_clips(held: HeldRecording, spec: InputSpec) -> StoreClips:
    """The recording in memory as a method reads it, without a label."""
    times, name = held.time_s, held.path.name
    return StoreClips(RecordingInfo(
        key=recording_key("camera", name), dataset="camera", subject=name, recording=name, path=held.path,
        n_frames=held.n_frames, fps=(len(times) - 1) / float(times[-1] - times[0]),
        size=int(held.read_frames(0, 1).shape[1]), has_label=False,
    ), spec, held)
