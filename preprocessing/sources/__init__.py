"""The raw datasets: one file each, found by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from preprocessing.sources import bp4d as bp4d
from preprocessing.sources import cohface as cohface
from preprocessing.sources import ecg_fitness as ecg_fitness
from preprocessing.sources import folder as folder
from preprocessing.sources import ibvp as ibvp
from preprocessing.sources import lgi_ppgi as lgi_ppgi
from preprocessing.sources import mahnob_hci as mahnob_hci
from preprocessing.sources import mmpd as mmpd
from preprocessing.sources import mr_nirp as mr_nirp
from preprocessing.sources import pure as pure
from preprocessing.sources import scamps as scamps
from preprocessing.sources import ubfc_phys as ubfc_phys
from preprocessing.sources import ubfc_rppg_1 as ubfc_rppg_1
from preprocessing.sources import ubfc_rppg_2 as ubfc_rppg_2
from preprocessing.sources import v4v as v4v
from preprocessing.sources import vipl_hr as vipl_hr
from preprocessing.sources.base import SOURCES, FrameReader, Labels, RawRecording, Source
from preprocessing.sources.unsupported import UNSUPPORTED

__all__ = ["SOURCES", "FrameReader", "Labels", "RawRecording", "Source", "build", "names"]

SOURCES.refused.update(UNSUPPORTED)


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
