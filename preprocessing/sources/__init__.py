"""The raw datasets: one file each, found by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from preprocessing.sources import ubfc_rppg_2 as ubfc_rppg_2
from preprocessing.sources.base import SOURCES, FrameReader, Labels, RawRecording, Source

__all__ = ["SOURCES", "FrameReader", "Labels", "RawRecording", "Source", "build", "names"]


def build(name: str, root: str | Path, **options: Any) -> Source:
    """The dataset `name` in the folder `root`; options are the reader's keyword arguments.

    KeyError for an unknown name, ValueError for wrong options, UserError when `root` does not
    hold the dataset.
    """
    source: Source = SOURCES.build(name, Path(root), **options)
    return source


def names() -> list[str]:
    """Registered datasets, sorted."""
    return SOURCES.names()
