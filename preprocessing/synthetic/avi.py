"""AVI files with the same bytes for the same frames: Motion JPEG, or raw bottom-up pictures."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError

CODECS = ("mjpeg", "uncompressed")
_LIMIT_BYTES = 2**31 - 2**20  # what a plain AVI holds and every reader accepts
_HEADER_BYTES = 212  # RIFF and LIST hdrl
_HAS_INDEX, _KEY_FRAME = 0x10, 0x10


def write_avi(
    path: Path, frames: Iterable[NDArray[np.uint8]], *, fps: float, codec: str, quality: int
) -> int:
    """Write frames, uint8 (H, W, 3) BGR of one size, and return their number.

    codec: "mjpeg" (JPEG of `quality` 1..100) or "uncompressed" (24-bit DIB, rows from the bottom
    up). UserError for an unknown codec, no frames, or more than an AVI holds.
    """
    if codec not in CODECS:
        raise UserError(f"codec {codec!r} is not one of {', '.join(CODECS)}")
    sizes: list[int] = []
    shape = (0, 0)
    with open(path, "wb") as handle:
        handle.write(bytes(_HEADER_BYTES + 12))
        for frame in frames:
            shape = frame.shape[:2]
            chunk = _jpeg(frame, quality) if codec == "mjpeg" else _dib(frame)
            sizes.append(len(chunk))
            if handle.tell() + len(chunk) + 24 * len(sizes) > _LIMIT_BYTES:
                raise UserError(f"{path}: more than 2 GB in one AVI; ask for fewer seconds")
            handle.write(_chunk(_tag(codec), chunk))
        if not sizes:
            raise UserError(f"{path}: a video needs at least one frame")
        movi_bytes = handle.tell() - _HEADER_BYTES - 8
        _write_index(handle, sizes, codec)
        total = handle.tell()
        handle.seek(0)
        handle.write(_header(shape, sizes, fps, codec, total))
        handle.write(b"LIST" + struct.pack("<I", movi_bytes) + b"movi")
    return len(sizes)


def _tag(codec: str) -> bytes:
    return b"00dc" if codec == "mjpeg" else b"00db"


def _chunk(tag: bytes, data: bytes) -> bytes:
    return tag + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _jpeg(frame: NDArray[np.uint8], quality: int) -> bytes:
    whole, data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not whole:
        raise UserError(f"a frame of {frame.shape} cannot be coded as JPEG")
    return data.tobytes()


def _dib(frame: NDArray[np.uint8]) -> bytes:
    """Rows from the bottom up, each padded to four bytes."""
    rows = frame[::-1].reshape(len(frame), -1)
    return np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4))).tobytes()


def _write_index(handle: IO[bytes], sizes: list[int], codec: str) -> None:
    entries, offset = [], 4
    for size in sizes:
        entries.append(_tag(codec) + struct.pack("<3I", _KEY_FRAME, offset, size))
        offset += 8 + size + size % 2
    handle.write(_chunk(b"idx1", b"".join(entries)))


def _header(shape: tuple[int, int], sizes: list[int], fps: float, codec: str, total: int) -> bytes:
    """RIFF and LIST hdrl: one video stream; a positive height says that rows go upwards."""
    height, width = shape
    n, largest, rate = len(sizes), max(sizes), round(fps * 1000)
    kind = b"MJPG" if codec == "mjpeg" else b"DIB "
    compression = b"MJPG" if codec == "mjpeg" else bytes(4)
    main = struct.pack(
        "<14I", round(1e6 / fps), round(largest * fps), 0, _HAS_INDEX, n, 0, 1, largest, width, height,
        0, 0, 0, 0,
    )
    stream = b"vids" + kind + struct.pack(
        "<I2H8I4H", 0, 0, 0, 0, 1000, rate, 0, n, largest, 0xFFFFFFFF, 0, 0, 0, width, height
    )
    picture = struct.pack("<3I2H", 40, width, height, 1, 24) + compression + struct.pack(
        "<5I", height * (width * 3 + -(width * 3) % 4), 0, 0, 0, 0
    )
    strl = b"strl" + _chunk(b"strh", stream) + _chunk(b"strf", picture)
    hdrl = b"hdrl" + _chunk(b"avih", main) + _chunk(b"LIST", strl)
    return b"RIFF" + struct.pack("<I", total - 8) + b"AVI " + _chunk(b"LIST", hdrl)
