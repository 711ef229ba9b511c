"""What a video file says of its own length: enough to tell a whole file from a cut one."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from utils.errors import UserError

_MOVIE_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")


@dataclass(frozen=True)
class Stated:
    """The length a container states; None where it states none that can be relied on."""

    frames_are_exact: bool = False
    """Whether its frame count is a count, not a duration times a rate (AVI)."""
    duration_s: float | None = None
    """Duration of the video track as it is to be shown, after edit lists (MP4, QuickTime)."""


def stated_length(path: Path) -> Stated:
    """Read the container's headers; UserError when an MP4 or QuickTime file is cut short."""
    with open(path, "rb") as handle:
        head = handle.read(12)
        if head[:4] == b"RIFF" and head[8:11] == b"AVI":
            return Stated(frames_are_exact=True)
        if head[4:8] in _MOVIE_BOXES:
            return Stated(duration_s=_movie_duration(handle, path))
    return Stated()


def _boxes(handle: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, first content byte, end) of the boxes in [start, end); a box may claim to end later."""
    while start + 8 <= end:
        handle.seek(start)
        size, kind = struct.unpack(">I4s", handle.read(8))
        content = start + 8
        if size == 1:
            size, content = struct.unpack(">Q", handle.read(8))[0], start + 16
        stop = end if size == 0 else start + size
        if stop < content:
            return
        yield kind, content, stop
        start = stop


def _movie_duration(handle: BinaryIO, path: Path) -> float | None:
    """Seconds of the first video track; None where the header leaves it open (fragments)."""
    size = path.stat().st_size
    movie = None
    for kind, start, end in _boxes(handle, 0, size):
        if end > size:
            raise UserError(f"{path}: the file is cut short, {end - size} bytes are missing; copy it again")
        if kind == b"moov":
            movie = (start, end)
    if movie is None:
        raise UserError(f"{path}: the file has no index (moov), it was not finished or is cut short")
    try:
        return _track_duration(handle, *movie)
    except struct.error:
        raise UserError(f"{path}: the file's index (moov) is damaged") from None


def _track_duration(handle: BinaryIO, start: int, end: int) -> float | None:
    rate = 0
    for kind, first, stop in _boxes(handle, start, end):
        if kind == b"mvhd":
            rate = _field(handle, first, 12, 20, wide=False)
        elif kind == b"trak":
            parts = {k: (a, b) for k, a, b in _boxes(handle, first, stop)}
            if rate and b"tkhd" in parts and _is_video(handle, parts.get(b"mdia")):
                ticks = _field(handle, parts[b"tkhd"][0], 20, 28, wide=True)
                return ticks / rate if 0 < ticks < 0xFFFFFFFF else None
    return None


def _is_video(handle: BinaryIO, media: tuple[int, int] | None) -> bool:
    for kind, first, _ in _boxes(handle, *media) if media else ():
        if kind == b"hdlr":
            handle.seek(first + 8)
            return handle.read(4) == b"vide"
    return False


def _field(handle: BinaryIO, first: int, short_at: int, long_at: int, wide: bool) -> int:
    """A number of a versioned box: 32 bits at one place, or (version 1) 64 bits at another."""
    handle.seek(first)
    is_long = handle.read(1) == b"\x01"
    handle.seek(first + (long_at if is_long else short_at))
    if is_long and wide:
        return int(struct.unpack(">Q", handle.read(8))[0])
    return int(struct.unpack(">I", handle.read(4))[0])
