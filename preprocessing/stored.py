"""Reads the store's recordings: lazily, in each process anew, in pieces."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from utils import hdf5
from utils.errors import UserError

MAX_OPEN = 64


def _plain(value: Any) -> Any:
    """An attribute as Python's own type: str, int, float, bool or a list."""
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()]
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value.item() if isinstance(value, np.generic) else value


class _Opened:
    """An open file with the datasets already checked, and where their chunks lie."""

    def __init__(self, path: Path) -> None:
        self.file = hdf5.open_untrusted(path)
        self._handle = os.open(path, os.O_RDONLY)
        self._datasets: dict[str, h5py.Dataset] = {}
        self._offsets: dict[str, list[int] | None] = {}

    def close(self) -> None:
        self.file.close()
        os.close(self._handle)

    def dataset(self, name: str) -> h5py.Dataset:
        if name not in self._datasets:
            self._datasets[name] = hdf5.dataset(self.file, name)
        return self._datasets[name]

    def read(self, name: str, start: int, out: np.ndarray) -> None:
        """Rows from `start` on into `out`: straight from the chunks, in half of HDF5's time."""
        stored = self.dataset(name)
        if name not in self._offsets:
            self._offsets[name] = hdf5.chunk_offsets(stored)
        offsets = self._offsets[name]
        if offsets is None:
            stored.read_direct(out, np.s_[start : start + len(out)])
            return
        rows, row_bytes, done = stored.chunks[0], out[0].nbytes, 0
        while done < len(out):
            chunk, first = divmod(start + done, rows)
            part = out[done : done + rows - first]
            read = os.preadv(self._handle, [part.data], offsets[chunk] + first * row_bytes)
            if read != part.nbytes:
                raise UserError(f"{self.file.filename}: {name} is cut short; make the recording again")
            done += len(part)


class _OpenFiles:
    """The last `MAX_OPEN` files this process used; a forked child starts with none."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._files: OrderedDict[tuple[str, int, int], _Opened] = OrderedDict()

    def get(self, path: Path) -> _Opened:
        """The open file at `path`, opened anew when another was published there since."""
        if self._pid != os.getpid():
            self._pid, self._files = os.getpid(), OrderedDict()
        try:
            stat = os.stat(path)
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from None
        key = (str(path), stat.st_ino, stat.st_mtime_ns)
        if key not in self._files:
            self._files[key] = _Opened(path)
            if len(self._files) > MAX_OPEN:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(key)
        return self._files[key]


_OPEN = _OpenFiles()


class StoredRecording:
    """A recording of the store: opened on first use, in each process anew; can be pickled."""

    def __init__(self, path: Path) -> None:
        """`path`: the HDF5 file; nothing is opened yet."""
        self.path = Path(path)

    @property
    def n_frames(self) -> int:
        """Number of frames T."""
        return int(_OPEN.get(self.path).dataset("frames").shape[0])

    @property
    def attributes(self) -> dict[str, Any]:
        """All attributes; texts, numbers and lists of texts."""
        return {key: _plain(value) for key, value in _OPEN.get(self.path).file.attrs.items()}

    def __contains__(self, name: str) -> bool:
        """Whether the array `name` is stored; groups are separated by /."""
        *groups, leaf = name.split("/")
        here = _OPEN.get(self.path).file
        for part in groups:
            if part not in hdf5.names(here):
                return False
            here = hdf5.group(here, part)
        return leaf in hdf5.names(here)

    def read_frames(
        self, start: int, stop: int, out: np.ndarray | None = None, name: str = "frames"
    ) -> np.ndarray:
        """Frames start..stop-1 as uint8 (n, H, W, 3), into `out` where it is given.

        A reused `out` saves most of the time. ValueError outside the recording or for a wrong `out`.
        """
        stored = _OPEN.get(self.path).dataset(name)
        if not 0 <= start < stop <= stored.shape[0]:
            raise ValueError(f"{self.path}: frames {start}..{stop} of {stored.shape[0]}")
        shape = (stop - start, *stored.shape[1:])
        if out is None:
            out = np.empty(shape, dtype=stored.dtype)
        if out.shape != shape or out.dtype != stored.dtype or not out.flags.c_contiguous:
            raise ValueError(f"{name}: out must be {stored.dtype} {shape}, contiguous")
        _OPEN.get(self.path).read(name, start, out)
        return out

    def array(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """The array `name`, or its rows start..stop-1; UserError where it is not stored."""
        return np.asarray(_OPEN.get(self.path).dataset(name)[start:stop])
