"""HDF5 files from anywhere: opened and read only when they hold what they claim, and nothing else."""

from __future__ import annotations

import contextlib
import errno
import io
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from utils.errors import UserError

BOMB_BYTES = 4 << 30
BOMB_RATIO = 1000
MAX_CHUNK_BYTES = 64 << 20
"""A chunk is unpacked as a whole, however little of it is asked for."""
_DAMAGED = (OSError, RuntimeError, KeyError, ValueError, TypeError)
"""What h5py raises for a file whose parts contradict each other."""
_KNOWN_FILTERS = {
    h5py.h5z.FILTER_DEFLATE: "gzip",
    h5py.h5z.FILTER_SHUFFLE: "shuffle",
    h5py.h5z.FILTER_FLETCHER32: "fletcher32",
}


def open_untrusted(path: Path) -> h5py.File:
    """Open an HDF5 file for reading; UserError says why it cannot be.

    Read its parts with `dataset`, `group` and `names`, which follow no link out of the file.
    """
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path}: {_reason(path, error)}") from None


def _reason(path: Path, error: OSError) -> str:
    if not path.exists():
        return "no such file"
    if not path.is_file():
        return "not a file"
    if path.stat().st_size == 0:
        return "an empty file, not HDF5"
    text = str(error)
    if "truncated" in text:
        return "truncated: shorter than the HDF5 file it was; make or copy it again"
    if "signature not found" in text:
        return "not an HDF5 file"
    return f"cannot be read as HDF5 ({text})"


def group(parent: h5py.Group, path: str) -> h5py.Group:
    """The group at `path`, reached over hard links only; UserError otherwise."""
    with _named(_place(parent, path)):
        found = _follow(parent, path)
    if not isinstance(found, h5py.Group):
        raise UserError(f"{_place(parent, path)}: not a group")
    return found


def dataset(parent: h5py.Group, path: str) -> h5py.Dataset:
    """The numeric dataset at `path`, checked before anything of it is read.

    Refused with UserError: a missing part, external and soft links at any part of the path,
    external storage, virtual datasets, filters other than gzip, shuffle and fletcher32, types that
    are not numbers, a shape over 4 GiB that is over 1000 times what is stored, and chunks over 64 MiB.
    """
    place = _place(parent, path)
    with _named(place):
        return _checked(_follow(parent, path), place)


def attribute(parent: h5py.Group, name: str) -> Any:
    """The attribute `name` of a group; None where it is not there, or damaged."""
    try:
        return parent.attrs.get(name)
    except _DAMAGED:
        return None


@contextlib.contextmanager
def _named(place: str) -> Iterator[None]:
    """Errors of h5py over a damaged file become UserError with the place."""
    try:
        yield
    except _DAMAGED as error:
        raise UserError(f"{place}: cannot be read, the file is damaged ({error})") from None


def _checked(found: Any, place: str) -> h5py.Dataset:
    """The object itself, when it is a dataset as `dataset` accepts it."""
    if not isinstance(found, h5py.Dataset):
        raise UserError(f"{place}: not a dataset")
    creation = found.id.get_create_plist()
    if creation.get_external_count():
        raise UserError(f"{place}: its data lie in another file (external storage), not read")
    if creation.get_layout() == h5py.h5d.VIRTUAL:
        raise UserError(f"{place}: a virtual dataset, its data lie elsewhere, not read")
    for index in range(creation.get_nfilters()):
        number = creation.get_filter(index)[0]
        if number not in _KNOWN_FILTERS:
            accepted = ", ".join(_KNOWN_FILTERS.values())
            raise UserError(f"{place}: foreign filter {number}; accepted: {accepted}")
    if found.dtype.kind not in "biuf":
        raise UserError(f"{place}: type {found.dtype} is not a number")
    _refuse_bomb(found, place)
    return found


def chunk_offsets(found: h5py.Dataset) -> list[int] | None:
    """Where in the file each chunk of whole, plain rows begins, in row order.

    None where rows cannot be read straight from the file: filters, other layouts, missing chunks.
    """
    chunks = found.chunks
    if chunks is None or chunks[1:] != found.shape[1:] or found.id.get_create_plist().get_nfilters():
        return None
    offsets: dict[int, int] = {}

    def note(chunk: Any) -> None:
        offsets[chunk.chunk_offset[0] // chunks[0]] = chunk.byte_offset

    found.id.chunk_iter(note)
    expected = range(-(-found.shape[0] // chunks[0]))
    return [offsets[index] for index in expected] if set(expected) <= set(offsets) else None


def names(parent: h5py.Group) -> list[str]:
    """Names of the members of a group, sorted."""
    return sorted(parent.keys())


def _follow(parent: h5py.Group, path: str) -> Any:
    """The object at `path`, walking over hard links only."""
    here: Any = parent
    for part in path.split("/"):
        if not isinstance(here, h5py.Group) or part in ("", ".") or not here.id.links.exists(part.encode()):
            raise UserError(f"{_place(parent, path)}: not in the file")
        kind = here.id.links.get_info(part.encode()).type
        if kind != h5py.h5l.TYPE_HARD:
            word = {h5py.h5l.TYPE_SOFT: "a soft link", h5py.h5l.TYPE_EXTERNAL: "an external link"}
            raise UserError(f"{_place(parent, path)}: {word.get(kind, 'a foreign link')}, not followed")
        here = here[part]
    return here


def _place(parent: h5py.Group, path: str) -> str:
    return f"{_file_name(parent)}: {parent.name.rstrip('/')}/{path}"


def _file_name(parent: h5py.Group) -> str:
    name = parent.file.filename
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


def _refuse_bomb(found: h5py.Dataset, place: str) -> None:
    chunk_bytes = math.prod(found.chunks or (0,)) * found.dtype.itemsize
    if chunk_bytes > MAX_CHUNK_BYTES:
        raise UserError(f"{place}: lies in pieces of {chunk_bytes:,} bytes, not read; save it anew")
    claimed = math.prod(found.shape or (0,)) * found.dtype.itemsize
    stored = found.id.get_storage_size()
    if claimed > BOMB_BYTES and claimed > BOMB_RATIO * stored:
        raise UserError(f"{place}: claims {claimed:,} bytes but stores {stored:,}, not read")


class SafeFile(io.RawIOBase):
    """A file that HDF5 writes to, which never tells HDF5 that the disk is full.

    HDF5 does not survive a failed write: closing fails as well, and at exit the interpreter aborts.
    So the first error is kept in `error`, what follows is dropped, and the owner, who looks at
    `error` after every step, closes the file in peace and throws it away.
    """

    def __init__(self, path: Path) -> None:
        """Create or empty the file at `path`."""
        super().__init__()
        self.error: OSError | None = None
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        self._handle = os.open(path, flags, 0o644)
        self._position = 0
        self._end = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to `offset`; the end is the one HDF5 believes in, written or not."""
        self._position = offset + (0, self._position, self._end)[whence]
        return self._position

    def tell(self) -> int:
        """The position in bytes."""
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` from the file; returns the bytes read."""
        read = os.preadv(self._handle, [buffer], self._position)
        self._position += read
        return read

    def write(self, data: Any) -> int:
        """Write all of `data`, or remember why not; returns its length either way."""
        view = memoryview(data).cast("B")
        done = 0
        while self.error is None and done < len(view):
            try:
                done += os.pwrite(self._handle, view[done:], self._position + done)
            except OSError as error:
                self.error = error
        self._position += len(view)
        self._end = max(self._end, self._position)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Cut or extend the file to `size` bytes."""
        self._end = self._position if size is None else size
        if self.error is None:
            try:
                os.ftruncate(self._handle, self._end)
            except OSError as error:
                self.error = error
        return self._end

    def sync(self) -> None:
        """Wait until the content is on the disk; a failure is kept in `error` as well."""
        try:
            os.fsync(self._handle)
        except OSError as error:
            self.error = self.error or error

    def close(self) -> None:
        """Close the file; twice does no harm."""
        if not self.closed:
            os.close(self._handle)
        super().close()

    @property
    def is_full(self) -> bool:
        """Whether the error was a disk or a quota without room."""
        return self.error is not None and self.error.errno in (errno.ENOSPC, errno.EDQUOT)


def read_array(parent: h5py.Group, path: str) -> np.ndarray:
    """The whole of a small checked dataset, any shape; UserError as `dataset` raises it."""
    found = dataset(parent, path)
    with _named(_place(parent, path)):
        return found[()]
