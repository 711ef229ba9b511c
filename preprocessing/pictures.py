"""A folder of numbered pictures (PNG, BMP, JPEG) as a video."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from preprocessing.frames import Frame, FrameReader, Series
from utils.errors import UserError

SUFFIXES = (".png", ".bmp", ".jpg", ".jpeg")
MAX_BYTES = 256 << 20
MAX_PIXELS = 1 << 25
_FORMATS = ("PNG", "BMP", "JPEG", "PPM")


def numbered_pictures(folder: Path, suffixes: Iterable[str] = SUFFIXES) -> list[Path]:
    """The pictures in `folder`, ordered by the last whole number in their names.

    Names are compared as numbers, so Image9.png comes before Image10.png. Hidden files, files of
    other kinds and folders are no pictures. UserError for a folder that is not there, pictures
    without a number, and two of one number.
    """
    wanted = {suffix.lower() for suffix in suffixes}
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}; a folder of pictures is needed") from None
    found: dict[int, str] = {}
    for entry in entries:
        if entry.name.startswith(".") or Path(entry.name).suffix.lower() not in wanted or not entry.is_file():
            continue
        number = picture_number(Path(entry.name))
        if number is None:
            raise UserError(f"{entry.path}: no number in the name; the order of the pictures is unknown")
        if number in found:
            raise UserError(f"{folder}: {found[number]} and {entry.name} have the same number")
        found[number] = entry.name
    return [folder / found[number] for number in sorted(found)]


def picture_number(path: Path) -> int | None:
    """The last whole number in the file's stem; None where there is none."""
    digits = re.findall(r"[0-9]+", path.stem)
    return int(digits[-1]) if digits and len(digits[-1]) <= 30 else None


class PictureFolder(FrameReader):
    """Reads a list of pictures one by one; memory does not grow with their number."""

    def __init__(
        self, paths: list[Path], time_s: Series | None = None, fps_declared: float | None = None
    ) -> None:
        """paths: in time order. time_s: (T,) their times in seconds, where the dataset has them.

        fps_declared: without `time_s` the times are the picture's index over it. Without both, the
        labels must state the frames' times. UserError without pictures; ValueError when the times are
        not as many as the pictures.
        """
        if not paths:
            raise UserError("a recording without pictures; looked for " + ", ".join(SUFFIXES))
        if time_s is not None and len(time_s) != len(paths):
            raise ValueError(f"{len(time_s)} times for {len(paths)} pictures")
        self.n_declared, self.fps_declared, self.warnings = len(paths), fps_declared, []
        self._paths, self._time_s = paths, time_s
        self._n_read, self._bgr = 0, False

    @property
    def numbers(self) -> list[int]:
        """The numbers in the pictures' names, in their order."""
        return [picture_number(path) or 0 for path in self._paths]

    def as_bgr(self) -> bool:
        """BGR is what the decoder gives."""
        self._bgr = True
        return True

    def __iter__(self) -> Iterator[Frame]:
        shape: tuple[int, ...] | None = None
        for path in self._paths:
            picture = self._picture(path)
            if shape is not None and picture.shape != shape:
                raise UserError(
                    f"{path}: {picture.shape[1]}x{picture.shape[0]} pixels, the pictures before it "
                    f"{shape[1]}x{shape[0]}"
                )
            shape = picture.shape
            self._n_read += 1
            yield picture if self._bgr else np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)

    @property
    def time_s(self) -> Series:
        """(T,) the times given, or the index of each picture over the declared rate; else UserError."""
        if self._time_s is not None:
            return self._time_s[: self._n_read]
        if self.fps_declared is None:
            raise UserError(f"{self._paths[0].parent}: the pictures state no times, nor does their dataset")
        return np.arange(self._n_read) / self.fps_declared

    def _picture(self, path: Path) -> Frame:
        """The picture at `path`, uint8 (H, W, 3) BGR."""
        return read_picture(path)


def read_picture(path: Path) -> Frame:
    """One picture as uint8 (H, W, 3) BGR, 8 bits a channel; UserError names a file that cannot be read."""
    return decode_picture(path, picture_bytes(path))


def picture_bytes(path: Path) -> bytes:
    """The content of a picture's file; UserError where it is missing, empty or too large."""
    try:
        size = path.stat().st_size
        if not 0 < size <= MAX_BYTES:
            raise UserError(f"{path}: {size:,} bytes; an empty picture, or none at all; copy it again")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; copy the recording again") from None
    return data


def decode_picture(path: Path, data: bytes) -> Frame:
    """The content of a picture's file as uint8 (H, W, 3) BGR; UserError as `read_picture`."""
    return np.asarray(decode_values(path, data, cv2.IMREAD_COLOR), dtype=np.uint8)


def decode_values(path: Path, data: bytes, flags: int = cv2.IMREAD_UNCHANGED) -> NDArray[Any]:
    """The content of a picture's file with the depth and channels it has; UserError as `read_picture`."""
    _check_header(path, data)
    try:
        picture = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error:
        picture = None
    if picture is None:
        raise UserError(f"{path}: the picture cannot be decoded; it is damaged, copy it again")
    return picture


def _check_header(path: Path, data: bytes) -> None:
    """Refuse by its header, before anything is allocated, what is no picture or claims to be vast."""
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as header:
            width, height = header.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise UserError(f"{path}: not a PNG, BMP, JPEG or PGM picture; damaged, copy it again") from None
    if width * height > MAX_PIXELS:
        raise UserError(f"{path}: claims {width}x{height} pixels, not read")
