"""One HDF5 file per recording: its layout, and how it is written and published."""

from __future__ import annotations

import errno
import os
import re
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from preprocessing.manifest import SCHEMA_VERSION, Manifest
from preprocessing.stored import StoredRecording
from utils import files, hdf5

__all__ = ["SCHEMA_VERSION", "Manifest", "RecordingWriter", "StoredRecording", "estimate_bytes"]

CHUNK_FRAMES = 32
N_LANDMARKS = 468
SKIN_SIZE = 64

STREAMS: dict[str, tuple[str, tuple[int, ...] | None]] = {
    "frames": ("uint8", None),
    "landmarks": ("float16", (N_LANDMARKS, 2)),
    "skin": ("uint8", (SKIN_SIZE, SKIN_SIZE)),
}
"""Arrays written piece by piece: type, and shape of one frame's part (None: the crop's)."""

ARRAYS: dict[str, str] = {
    "frame_time_s": "float64", "pulse": "float32", "box": "float32", "face_found": "bool",
    "roi_rgb": "float32", "label": "float32", "label_time_s": "float64", "hr_bpm": "float32",
    "hr_time_s": "float64", "resp": "float32", "resp_time_s": "float64",
}
"""Arrays written whole at the end, with their types."""

PER_FRAME = ("frame_time_s", "pulse", "box", "face_found", "roi_rgb")
_QUALITY = re.compile(r"quality/[A-Za-z0-9_]+/(frames|roi_rgb)")


def estimate_bytes(
    n_frames: int, size: int, landmarks: bool = True, skin: bool = False, n_copies: int = 0
) -> int:
    """Bytes a recording of `n_frames` crops of `size` x `size` pixels takes on disk, slightly more.

    n_copies: compressed copies, whose crops take as much as the original ones.
    """
    pictures = (1 + n_copies) * (size * size * 3 + 128)
    per_frame = pictures + landmarks * N_LANDMARKS * 4 + skin * SKIN_SIZE**2
    n_chunks = -(-n_frames // CHUNK_FRAMES)
    return n_chunks * CHUNK_FRAMES * per_frame + files.MIB


class RecordingWriter:
    """Writes one recording beside its final name and publishes it whole, or not at all.

    Memory does not grow with the length of the recording; the same content gives the same bytes.
    Used as a context manager, it leaves nothing behind unless `finish` was reached.
    """

    def __init__(self, path: Path, size: int, expected_bytes: int = 0) -> None:
        """path: the final name; size: side of the crops in pixels; expected_bytes: to check the space."""
        files.require_space(path, expected_bytes)
        self.path, self.n_frames = path, 0
        self._size, self._expected, self._written = size, expected_bytes, 0
        self._temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        self._raw: hdf5.SafeFile | None = self._begin()
        self._file = h5py.File(self._raw, "w")
        self._buffers: dict[str, np.ndarray] = {}
        self._lengths: dict[str, int] = {}

    def append(self, name: str, block: np.ndarray) -> None:
        """Add frames n >= 1 of the stream `name`: (n, ...) of the type and shape in `STREAMS`.

        Raises Stopped when the disk is full.
        """
        dtype, shape = self._spec(name)
        if block.dtype != dtype or block.shape[1:] != shape:
            raise ValueError(f"{name}: {block.dtype} {block.shape} given, {dtype} (n, {shape}) expected")
        if name not in self._buffers:
            self._create(name, dtype, shape)
        buffer, done = self._buffers[name], 0
        while done < len(block):
            filled = self._lengths[name] % CHUNK_FRAMES
            n = min(CHUNK_FRAMES - filled, len(block) - done)
            buffer[filled : filled + n] = block[done : done + n]
            self._lengths[name] += n
            done += n
            if filled + n == CHUNK_FRAMES:
                self._flush(name)
        self.n_frames = self._lengths.get("frames", 0)

    def finish(
        self,
        arrays: Mapping[str, np.ndarray],
        attributes: Mapping[str, Any],
        beat: Callable[[], None] | None = None,
    ) -> tuple[int, str]:
        """Write what remains, sync and rename; returns the file's size in bytes and its SHA-256.

        ValueError when an array's length does not fit the frames; Stopped when the disk is full.
        """
        self._check_lengths(arrays)
        for name, length in self._lengths.items():
            if length % CHUNK_FRAMES:
                self._buffers[name][length % CHUNK_FRAMES :] = 0
                self._flush(name)
            self._file[name].resize(length, axis=0)
        for name in sorted(arrays):
            self._file.create_dataset(name, data=np.asarray(arrays[name], dtype=_plain_type(name)))
        for name in sorted(attributes):
            self._file.attrs[name] = _storable(attributes[name])
        self._close()
        n_bytes, checksum = self._temporary.stat().st_size, files.file_sha256(self._temporary, beat)
        os.replace(self._temporary, self.path)
        files.sync_folder(self.path.parent)
        return n_bytes, checksum

    def abort(self) -> None:
        """Close and remove the unfinished file; does nothing after `finish`."""
        if self._raw is not None:
            self._file.close()
            self._raw.close()
            self._raw = None
        self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> RecordingWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def _begin(self) -> hdf5.SafeFile:
        try:
            return hdf5.SafeFile(self._temporary)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise files.disk_full(self.path, self._expected) from error
            raise

    def _spec(self, name: str) -> tuple[str, tuple[int, ...]]:
        dtype, shape = STREAMS["frames" if _QUALITY.fullmatch(name) else name]
        return dtype, shape or (self._size, self._size, 3)

    def _create(self, name: str, dtype: str, shape: tuple[int, ...]) -> None:
        self._file.create_dataset(
            name, shape=(0, *shape), maxshape=(None, *shape), chunks=(CHUNK_FRAMES, *shape), dtype=dtype
        )
        self._buffers[name] = np.zeros((CHUNK_FRAMES, *shape), dtype=dtype)
        self._lengths[name] = 0

    def _flush(self, name: str) -> None:
        """Write the buffer as the last chunk of the stream."""
        target, buffer = self._file[name], self._buffers[name]
        first = (self._lengths[name] - 1) // CHUNK_FRAMES * CHUNK_FRAMES
        target.resize(first + CHUNK_FRAMES, axis=0)
        target.id.write_direct_chunk((first, *[0] * (buffer.ndim - 1)), buffer)
        self._written += buffer.nbytes
        self._raise_if_broken()

    def _raise_if_broken(self) -> None:
        raw = self._raw
        if raw is None or raw.error is None:
            return
        self.abort()
        if raw.is_full:
            raise files.disk_full(self.path, max(self._expected, self._written)) from raw.error
        raise raw.error

    def _check_lengths(self, arrays: Mapping[str, np.ndarray]) -> None:
        lengths = self._lengths | {name: len(arrays[name]) for name in PER_FRAME if name in arrays}
        if self.n_frames < 1 or set(lengths.values()) != {self.n_frames}:
            raise ValueError(f"{self.path.name}: lengths differ: {lengths}")
        lengths |= {name: len(arrays[name]) for name in arrays if _QUALITY.fullmatch(name)}
        unknown = sorted(name for name in arrays if _plain_type(name) is None)
        if unknown:
            raise ValueError(f"{self.path.name}: no place for {', '.join(unknown)}")

    def _close(self) -> None:
        """Close and sync; from here on the temporary file is whole."""
        raw = self._raw
        if raw is None:
            raise ValueError(f"{self.path.name}: already finished or aborted")
        self._file.close()
        raw.sync()
        self._raise_if_broken()
        raw.close()
        self._raw = None


def _plain_type(name: str) -> str | None:
    """The type an array is stored as; None where there is no place for it."""
    return ARRAYS.get(name.rpartition("/")[2] if _QUALITY.fullmatch(name) else name)


def _storable(value: Any) -> Any:
    """Lists of text as variable-length strings, everything else as it is."""
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return np.array(value, dtype=h5py.string_dtype())
    return value
