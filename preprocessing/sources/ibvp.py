"""iBVP (Joshi and Cho 2024): pNN_x with a folder of BMP pictures and a table of pulse and its quality."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from preprocessing.frames import Series
from preprocessing.pictures import PictureFolder, numbered_pictures, picture_number
from preprocessing.sources.base import SOURCES, FrameReader, Labels, RawRecording, Source
from preprocessing.sources.text import folder_of, nothing_found, numbers, read_text
from preprocessing.times import tolerated
from utils.errors import UserError
from utils.files import natural_key

_FOLDER = re.compile(r"(p\d+)_([a-z])")
_EXPECTED = "folders such as p01_a with p01_a_rgb and p01_a_bvp.csv"
_RATE_HZ = 30.0
"""Of pictures and table alike, row by row (Joshi and Cho 2024)."""
_COLUMNS = ("BVP", "SQPhysMD", "SQ1", "SQ2", "Perfusion")
_POOR = 0.3
N_RECORDINGS = 124

Quality = Literal["mask", "keep"]


@SOURCES.register("ibvp")
class Ibvp(Source):
    """iBVP: 124 sessions of 3 min in four conditions, BMP pictures, ear PPG with measures of its quality."""

    name = "ibvp"
    access = (
        "Free for research under an end user licence agreement; request form of the Physiological Computing "
        "and Artificial Intelligence group, UCL (https://github.com/PhysiologicAILab/iBVP-Dataset)."
    )

    def __init__(self, root: Path, *, quality: Quality = "mask") -> None:
        """root: the folder with p01_a, p01_b, ...

        quality: "mask" makes samples with SQ2 up to 0.3, as rPPG-Toolbox deletes them, unknown (NaN),
        so that time stays whole; "keep" leaves all.
        """
        folder_of(root, "iBVP", _EXPECTED)
        found = [path for path in root.iterdir() if path.is_dir() and _FOLDER.fullmatch(path.name)]
        if not found:
            raise nothing_found(root, _EXPECTED)
        self._folders = sorted(found, key=lambda path: natural_key(path.name))
        self._quality: Quality = quality

    def recordings(self) -> list[RawRecording]:
        """One recording a folder; the subject is pNN."""
        made: list[RawRecording] = []
        for folder in self._folders:
            subject, _, session = folder.name.partition("_")
            made.append(IbvpRecording(
                dataset=self.name, subject=subject, recording=folder.name, folder=folder,
                conditions={"session": session}, quality=self._quality,
            ))
        return made

    def notes(self) -> list[str]:
        """How many of the set's sessions this copy has, where it has not all."""
        n = len(self._folders)
        return [] if n == N_RECORDINGS else [f"{n} of {N_RECORDINGS} sessions"]


@dataclass(frozen=True, kw_only=True)
class IbvpRecording(RawRecording):
    """One session of one person."""

    folder: Path
    quality: Quality

    def files(self) -> list[Path]:
        """The table and every picture."""
        return [self._table(), *self._pictures()]

    def open_frames(self) -> FrameReader:
        """The pictures, ordered by their numbers."""
        return PictureFolder(self._pictures(), fps_declared=_RATE_HZ)

    def labels(self) -> Labels:
        """Pulse, masked where it is poor, and the times of the pictures."""
        columns = _read(self._table())
        samples = columns["BVP"]
        frame_time_s = self._frame_times(len(samples))
        poor = ~(columns["SQ2"] > _POOR)
        warnings = [f"{self._table().name}: {int(poor.sum())} of {len(poor)} samples have SQ2 up to {_POOR:g}"
                    ] if poor.any() else []
        if len(frame_time_s) != len(samples):
            warnings.append(f"{len(frame_time_s)} pictures for {len(samples)} rows of {self._table().name}")
        if self.quality == "mask":
            samples = np.where(poor, np.nan, samples)
        return Labels(
            kind="ppg", samples=samples, time_s=np.arange(len(samples)) / _RATE_HZ,
            frame_time_s=frame_time_s, warnings=tuple(warnings),
        )

    def _frame_times(self, n_rows: int) -> Series:
        """By the pictures' numbers where they count the rows, so that a missing one moves no other."""
        found = np.array([picture_number(path) or 0 for path in self._pictures()], dtype=np.float64)
        if abs(len(found) - n_rows) > tolerated(n_rows):
            raise UserError(f"{self.folder}: {len(found)} pictures for {n_rows} rows; copy it again")
        places = found - found[0]
        counts_rows = 0 <= n_rows - 1 - places[-1] <= tolerated(n_rows)
        return (places if counts_rows else np.arange(len(found))) / _RATE_HZ

    def _table(self) -> Path:
        return self.folder / f"{self.recording}_bvp.csv"

    def _pictures(self) -> list[Path]:
        folder = self.folder / f"{self.recording}_rgb"
        paths = numbered_pictures(folder, (".bmp",))
        if not paths:
            raise UserError(f"{folder}: no pictures; looked for *.bmp")
        return paths


def _read(path: Path) -> dict[str, Series]:
    """The columns (N,) by name, of a table with or without a header."""
    rows = [line.split(",") for line in read_text(path).splitlines() if line.strip()]
    names = [cell.strip().lower() for cell in rows[0]]
    has_header = any(letter.isalpha() for letter in "".join(names).replace("nan", "").replace("e", ""))
    wanted = {column: column.lower() for column in _COLUMNS}
    if not has_header:
        names = list(wanted.values())
    missing = [column for column, name in wanted.items() if names.count(name) != 1]
    if missing and {"BVP", "SQ2"} & set(missing):
        raise UserError(f"{path}: no column {', '.join(missing)}; needed: {', '.join(_COLUMNS)}")
    cells = rows[1:] if has_header else rows
    odd = next((i for i, row in enumerate(cells) if len(row) != len(names)), None)
    if odd is not None or not cells:
        line = (odd or 0) + 1 + has_header
        raise UserError(f"{path} line {line}: not one value for each of {len(names)} columns")
    return {
        column: numbers([row[names.index(name)] for row in cells], f"{path}, column {column}")
        for column, name in wanted.items() if column not in missing
    }
