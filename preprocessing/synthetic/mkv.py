"""Matroska files with the same bytes for the same frames: Motion JPEG, without a count or a duration."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError

_HEAD, _SEGMENT, _INFO, _TRACKS, _CLUSTER = (
    b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x15\x49\xa9\x66", b"\x16\x54\xae\x6b", b"\x1f\x43\xb6\x75",
)
_TRACK, _BLOCK, _CLUSTER_TIME = b"\xae", b"\xa3", b"\xe7"
_UNKNOWN_SIZE = b"\x01" + b"\xff" * 7
_KEY_FRAME = b"\x81\x00\x00\x80"
"""A simple block of track 1, at the cluster's time, that is a key frame."""


def write_mkv(path: Path, frames: Iterable[NDArray[np.uint8]], *, fps: float, quality: int) -> int:
    """Write frames, uint8 (H, W, 3) BGR of one size, and return their number.

    quality: of the JPEG coding, 1..100. Stamps are in milliseconds, as Matroska has them.
    """
    n = 0
    with open(path, "wb") as handle:
        handle.write(_element(_HEAD, _element(b"\x42\x82", b"matroska") + _whole(b"\x42\x87", 4)
                              + _whole(b"\x42\x85", 2)))
        handle.write(_SEGMENT + _UNKNOWN_SIZE)
        for frame in frames:
            if n == 0:
                handle.write(_description(frame.shape[1], frame.shape[0], fps))
            whole, data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])
            if not whole:
                raise UserError(f"{path}: a frame of {frame.shape} cannot be coded as JPEG")
            time = _whole(_CLUSTER_TIME, round(1000 * n / fps))
            handle.write(_element(_CLUSTER, time + _element(_BLOCK, _KEY_FRAME + data.tobytes())))
            n += 1
    return n


def _description(width: int, height: int, fps: float) -> bytes:
    """Info and Tracks: one video track whose clock ticks in milliseconds."""
    names = _element(b"\x4d\x80", b"rppg") + _element(b"\x57\x41", b"rppg")
    picture = _whole(b"\xb0", width) + _whole(b"\xba", height)
    track = (
        _whole(b"\xd7", 1) + _whole(b"\x73\xc5", 1) + _whole(b"\x83", 1) + _whole(b"\x9c", 0)
        + _element(b"\x86", b"V_MJPEG") + _whole(b"\x23\xe3\x83", round(1e9 / fps))
        + _element(b"\xe0", picture)
    )
    info = _element(_INFO, _whole(b"\x2a\xd7\xb1", 1_000_000) + names)
    return info + _element(_TRACKS, _element(_TRACK, track))


def _element(identity: bytes, content: bytes) -> bytes:
    """An EBML element; sizes take eight bytes."""
    return identity + (len(content) | 1 << 56).to_bytes(8, "big") + content


def _whole(identity: bytes, value: int) -> bytes:
    return _element(identity, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))
