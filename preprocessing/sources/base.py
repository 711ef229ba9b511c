"""What a raw dataset delivers: recordings with frames, their times, and labels."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from preprocessing.frames import Frame, FrameReader, Series
from utils.files import safe_name
from utils.registry import Registry

__all__ = [
    "ORIGIN_FILE", "SOURCES", "Frame", "FrameReader", "LabelKind", "Labels", "RawRecording", "Series",
    "Source",
]

SOURCES = Registry("dataset")

ORIGIN_FILE = ".origin.json"
"""In the root of a set that only has a dataset's layout: {"origin": "synthetic"}, say."""

LabelKind = Literal["ppg", "ecg", "bp", "none"]


def _empty() -> Series:
    return np.empty(0, dtype=np.float64)


@dataclass(frozen=True)
class Labels:
    """What the sensors on the body said, each series at its own times in seconds.

    Times count from the same zero as `frame_time_s`, or as the container's stamps where that is
    None. Empty arrays where the set has no such series.
    """

    kind: LabelKind = "none"
    samples: Series = field(default_factory=_empty)
    """(N,) in the unit of the sensor; rises at systole; NaN where the reader masked it."""
    time_s: Series = field(default_factory=_empty)
    """(N,) times of the samples."""
    hr_bpm: Series = field(default_factory=_empty)
    """(M,) heart rate of the device in beats a minute; NaN where it gave none."""
    hr_time_s: Series = field(default_factory=_empty)
    resp: Series = field(default_factory=_empty)
    """(K,) respiration in the unit of the sensor."""
    resp_time_s: Series = field(default_factory=_empty)
    frame_time_s: Series | None = None
    """(T,) times of the frames as the dataset states them; None: the container's own stamps."""
    warnings: tuple[str, ...] = ()
    covers_session: bool = False
    """The series may go on long before and after the video, and it is known where in them it lies."""

    def __post_init__(self) -> None:
        """Refuse rates and respiration without a time each: a fault of the reader."""
        for name in ("hr", "resp"):
            values, times = getattr(self, "hr_bpm" if name == "hr" else name), getattr(self, f"{name}_time_s")
            if len(values) != len(times):
                raise ValueError(f"{name}: {len(values)} values at {len(times)} times")


@dataclass(frozen=True, kw_only=True)
class RawRecording(abc.ABC):
    """One video with its labels; small and picklable, nothing is opened before it is asked for."""

    dataset: str
    subject: str
    recording: str
    """Unique in the dataset; becomes a file name."""
    conditions: dict[str, str] = field(default_factory=dict)
    is_crop: bool = False
    """The pictures are face crops by declaration: no face is looked for."""
    people: str = ""
    """Whose numbering `subject` follows, where datasets share people (V4V, BP4D+); empty: its own."""

    def __post_init__(self) -> None:
        safe_name(self.recording)

    @abc.abstractmethod
    def files(self) -> list[Path]:
        """Every input whose content matters, in a fixed order."""

    @abc.abstractmethod
    def open_frames(self) -> FrameReader:
        """A reader at the first frame; UserError when the video cannot be opened."""

    @abc.abstractmethod
    def labels(self) -> Labels:
        """The labels; UserError, naming the file, when they cannot be used."""


class Source(abc.ABC):
    """One raw dataset in a folder. Subclasses register under `name`; options are keyword-only."""

    name: str
    access: str
    """One line: the licence, and where to ask for the data."""

    @abc.abstractmethod
    def __init__(self, root: Path) -> None:
        """`root`: the folder as the dataset's authors ship it; UserError when it is not there."""

    @abc.abstractmethod
    def recordings(self) -> list[RawRecording]:
        """All recordings in natural order of their ids."""

    def notes(self) -> list[str]:
        """What is odd about this copy as a whole, a sentence each: recordings that are not in it."""
        return []

    def __iter__(self) -> Iterator[RawRecording]:
        return iter(self.recordings())
