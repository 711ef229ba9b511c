"""The parts of a MATLAB variable of version 5 to 7, read in order from a plain or a compressed element."""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from utils.errors import UserError

_PIECE = 1 << 18
_MAX_DIMS, _MAX_NAME = 8, 256
_INT8, _INT32, _UINT32 = 1, 5, 6
_DTYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_CHAR_CLASS, _NUMERIC_CLASSES = 4, range(6, 16)
_COMPLEX, _LOGICAL = 0x0800, 0x0200


@dataclass(frozen=True)
class Variable:
    """A variable's header: its name, MATLAB dimensions, and kind ("number", "logical", "text", "other")."""

    name: str
    dims: tuple[int, ...]
    kind: str
    start: int
    """Where in the file its element begins."""
    n_bytes: int
    """Size of the element in the file, without its tag."""
    is_compressed: bool

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.dims)


class Stream(Protocol):
    """Bytes of one element, in order."""

    def read(self, n: int) -> bytes | bytearray:
        """Exactly `n` bytes; UserError when there are fewer."""
        ...

    def finish(self) -> None:
        """Look at what is left, as far as it shows damage."""
        ...


class Plain:
    """An element as it lies in the file."""

    def __init__(self, handle: BinaryIO, n_bytes: int, path: Path) -> None:
        self._handle, self._left, self._path = handle, n_bytes, path

    def read(self, n: int) -> bytes:
        """Exactly `n` bytes; UserError when the element has fewer."""
        data = self._handle.read(n) if n <= self._left else b""
        if len(data) != n:
            raise UserError(f"{self._path}: damaged: a variable ends before its data do")
        self._left -= n
        return data

    def finish(self) -> None:
        """Nothing is known of what is left."""


class Inflated:
    """An element inside a zlib stream, inflated as it is read."""

    def __init__(self, handle: BinaryIO, n_bytes: int, path: Path) -> None:
        self._handle, self._left, self._path = handle, n_bytes, path
        self._zlib = zlib.decompressobj()

    def read(self, n: int) -> bytearray:
        """Exactly `n` bytes; UserError when the stream has fewer or is damaged."""
        data = bytearray()
        while len(data) < n:
            piece = self._inflate(n - len(data))
            if not piece:
                raise UserError(f"{self._path}: damaged: a compressed variable ends before its data do")
            data += piece
        return data

    def finish(self) -> None:
        """Inflate the rest, whose last bytes are the checksum of the whole."""
        while self._inflate(_PIECE):
            pass
        if not self._zlib.eof:
            raise UserError(f"{self._path}: damaged: a compressed variable has no end")

    def _inflate(self, n: int) -> bytes:
        """Some bytes, at most `n`; none at the end."""
        try:
            while not self._zlib.eof:
                source = self._zlib.unconsumed_tail
                if not source and self._left:
                    source = self._handle.read(min(_PIECE, self._left))
                    self._left -= len(source)
                piece = self._zlib.decompress(source, min(n, _PIECE))
                if piece or not source:
                    return piece
        except zlib.error as error:
            raise UserError(f"{self._path}: damaged compressed data ({error}); copy it again") from None
        return b""


class Elements:
    """Reads the parts of a variable one after the other."""

    def __init__(self, stream: Stream, order: str, path: Path) -> None:
        self.stream, self._order, self._path = stream, order, path
        self.limit = 0
        """Bytes that no part can have more of."""
        self._small = b""

    def tag(self) -> tuple[int, int]:
        """Type and bytes of the next part; up to four bytes of data may stand in the tag itself."""
        self._small = b""
        head = bytes(self.stream.read(8))
        kind, n_bytes = struct.unpack(f"{self._order}2I", head)
        if kind >> 16:
            kind, n_bytes = kind & 0xFFFF, kind >> 16
            self._small = head[4 : 4 + n_bytes]
            if n_bytes > 4:
                raise self._damaged("a part in short form has more than 4 bytes")
        if n_bytes > self.limit:
            raise self._damaged(f"a part claims {n_bytes:,} bytes")
        return kind, n_bytes

    def part(self, most: int) -> tuple[int, bytes]:
        """Type and data of the next part, with at most `most` bytes."""
        kind, n_bytes = self.tag()
        if n_bytes > most:
            raise self._damaged(f"{n_bytes:,} bytes where at most {most:,} belong")
        if self._small:
            return kind, self._small
        data = bytes(self.stream.read(n_bytes))
        self.stream.read(-n_bytes % 8)
        return kind, data

    def header(self, place: Variable) -> Variable:
        """Array flags, dimensions and name."""
        kind, flags = self.part(16)
        if kind != _UINT32 or len(flags) != 8:
            raise self._damaged("a variable without flags")
        word = struct.unpack(f"{self._order}I", flags[:4])[0]
        kind, dims = self.part(4 * _MAX_DIMS)
        if kind != _INT32 or len(dims) < 8 or len(dims) % 4:
            return Variable("", (0, 0), "other", place.start, place.n_bytes, place.is_compressed)
        shape = struct.unpack(f"{self._order}{len(dims) // 4}i", dims)
        if min(shape) < 0:
            raise self._damaged(f"dimensions {shape}")
        kind, name = self.part(_MAX_NAME)
        if kind != _INT8:
            raise self._damaged("a variable without a name")
        text = name.rstrip(b"\0").decode("ascii", errors="replace")
        return Variable(text, shape, _kind(word), place.start, place.n_bytes, place.is_compressed)

    def numbers(self, variable: Variable) -> tuple[np.dtype[Any], int]:
        """Type and bytes of the real part; the data come next in the stream."""
        kind, n_bytes = self.tag()
        dtype = np.dtype(self._order + _DTYPES[kind]) if kind in _DTYPES else None
        if dtype is None or n_bytes != variable.size * dtype.itemsize:
            size = "x".join(map(str, variable.dims))
            raise self._damaged(f"{variable.name} is {size} but has {n_bytes:,} bytes of type {kind}")
        if self._small:
            self.stream = Bytes(self._small, self.stream)
        return dtype, n_bytes

    def text(self, variable: Variable) -> str:
        """The characters of one row of text."""
        kind, data = self.part(4 * max(variable.size, 1))
        if kind not in _TEXTS or (variable.size and variable.dims[0] != 1):
            raise self._damaged(f"{variable.name} is not one row of text")
        suffix = {"<": "-le", ">": "-be"}[self._order] if _TEXTS[kind] in ("utf-16", "utf-32") else ""
        self.stream.finish()
        return data.decode(_TEXTS[kind] + suffix, errors="replace").rstrip("\0")

    def _damaged(self, what: str) -> UserError:
        return UserError(f"{self._path}: damaged: {what}")


class Bytes:
    """Data that stood in a tag, before the rest of its stream."""

    def __init__(self, data: bytes, rest: Stream) -> None:
        self._data, self._rest = data, rest

    def read(self, n: int) -> bytes:
        """The first `n` bytes of what is left."""
        data, self._data = self._data[:n], self._data[n:]
        return data

    def finish(self) -> None:
        """Look at the rest of the stream."""
        self._rest.finish()


def _kind(flags: int) -> str:
    """What the class byte and the bits of the array flags say."""
    number = flags & 0xFF
    if number == _CHAR_CLASS:
        return "text"
    if number not in _NUMERIC_CLASSES or flags & _COMPLEX:
        return "other"
    return "logical" if flags & _LOGICAL else "number"
