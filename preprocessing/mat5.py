"""MATLAB files of version 5 to 7: what they hold, small variables, and large ones piece by piece.

Own code, because scipy reads a variable in one go, which a video of several gigabytes forbids, and allocates
what a file claims. After MathWorks, "MAT-File Format" (R2024b): a header of 128 bytes, then elements, each a
variable as it is (miMATRIX) or inside a zlib stream (miCOMPRESSED); arrays run down their columns.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from preprocessing.mat5_elements import Elements, Inflated, Plain, Variable
from utils.errors import UserError

_HEADER_BYTES, _MAX_VARIABLES = 128, 1000
_MATRIX, _COMPRESSED = 14, 15
_MAX_INFLATION = 1100
"""zlib cannot shrink data to less than a thousandth."""

Array = NDArray[Any]


class Mat5File:
    """The variables of one file; opened anew for each reading, so nothing needs closing."""

    def __init__(self, path: Path) -> None:
        """Read the headers of all variables; UserError for a damaged, cut or foreign file."""
        self.path = path
        with open(path, "rb") as handle:
            self._n_bytes = os.fstat(handle.fileno()).st_size
            self._order = _byte_order(handle.read(_HEADER_BYTES), path)
            self.variables = self._list(handle)

    def _list(self, handle: BinaryIO) -> dict[str, Variable]:
        """Headers by name; each element is skipped by its size."""
        found: dict[str, Variable] = {}
        position = _HEADER_BYTES
        while position < self._n_bytes:
            handle.seek(position)
            tag = handle.read(8)
            kind, n_bytes = struct.unpack(f"{self._order}2I", tag) if len(tag) == 8 else (0, 0)
            if kind not in (_MATRIX, _COMPRESSED):
                raise UserError(f"{self.path}: damaged at byte {position:,}: no MATLAB variable begins there")
            if position + 8 + n_bytes > self._n_bytes:
                raise UserError(
                    f"{self.path}: cut short: a variable goes on to byte {position + 8 + n_bytes:,}, "
                    f"the file has {self._n_bytes:,}; copy it again"
                )
            variable = self._header(handle, position, n_bytes, kind == _COMPRESSED)
            position += 8 + n_bytes
            if not variable.name:
                continue
            if variable.name in found or len(found) >= _MAX_VARIABLES:
                raise UserError(f"{self.path}: {variable.name!r} appears twice, or too many variables")
            found[variable.name] = variable
        return found

    def _header(self, handle: BinaryIO, start: int, n_bytes: int, is_compressed: bool) -> Variable:
        empty = Variable("", (0, 0), "other", start, n_bytes, is_compressed)
        elements = self._elements(handle, empty)
        return elements.header(empty) if n_bytes else empty

    def _elements(self, handle: BinaryIO, variable: Variable) -> Elements:
        """A reader at the beginning of the variable's array flags."""
        if variable.is_compressed:
            handle.seek(variable.start + 8)
            elements = Elements(Inflated(handle, variable.n_bytes, self.path), self._order, self.path)
            elements.limit = _MAX_INFLATION * variable.n_bytes
            kind, _ = elements.tag() if variable.n_bytes else (_MATRIX, 0)
            if kind != _MATRIX:
                raise UserError(f"{self.path}: a compressed element holds no variable; the file is damaged")
            return elements
        handle.seek(variable.start + 8)
        elements = Elements(Plain(handle, variable.n_bytes, self.path), self._order, self.path)
        elements.limit = variable.n_bytes
        return elements

    def read(self, name: str, max_values: int) -> Array | str:
        """A small variable: numbers in MATLAB's shape, or text.

        UserError when it is missing, larger than `max_values`, or of another kind.
        """
        variable = self.variable(name)
        if variable.size > max_values:
            raise UserError(
                f"{self.path}: {name} has {variable.size:,} values, at most {max_values:,} expected"
            )
        if variable.kind == "other":
            raise UserError(f"{self.path}: {name} is neither numbers nor text")
        with open(self.path, "rb") as handle:
            elements = self._elements(handle, variable)
            elements.header(variable)
            if variable.kind == "text":
                return elements.text(variable)
            dtype, n_bytes = elements.numbers(variable)
            values = np.frombuffer(elements.stream.read(n_bytes), dtype)
            elements.stream.finish()
        return values.reshape(variable.dims, order="F")

    def check(self, name: str) -> None:
        """UserError unless a variable holds numbers, as many as its dimensions say.

        Of a compressed one only what it claims is known before it is inflated.
        """
        with open(self.path, "rb") as handle:
            self._numbers(handle, name)

    def _numbers(self, handle: BinaryIO, name: str) -> tuple[Elements, np.dtype[Any], int]:
        """A reader at the beginning of a variable's numbers, their type and their bytes."""
        variable = self.variable(name)
        if variable.kind != "number":
            raise UserError(f"{self.path}: {name} does not hold numbers")
        elements = self._elements(handle, variable)
        elements.header(variable)
        return elements, *elements.numbers(variable)

    def blocks(self, name: str, n_values: int, beat: Callable[[], None]) -> Iterator[Array]:
        """The values of a variable of numbers in MATLAB's order, `n_values` at a time (the last: fewer).

        `beat` is called after each block. UserError, also in the middle, for damaged data.
        """
        with open(self.path, "rb") as handle:
            elements, dtype, left = self._numbers(handle, name)
            while left:
                piece = elements.stream.read(min(left, n_values * dtype.itemsize))
                left -= len(piece)
                yield np.frombuffer(piece, dtype)
                beat()
            elements.stream.finish()

    def variable(self, name: str) -> Variable:
        """The header of a variable; UserError when there is none of that name."""
        if name not in self.variables:
            listed = ", ".join(sorted(filter(None, self.variables))[:20])
            raise UserError(f"{self.path}: no variable {name!r}; it holds {listed or 'none'}")
        return self.variables[name]


def _byte_order(header: bytes, path: Path) -> str:
    """"<" or ">", from the last four bytes of the header: version 0x0100 and the letters MI."""
    mark = header[124:]
    if mark == b"\x00\x01IM":
        return "<"
    if mark == b"\x01\x00MI":
        return ">"
    raise UserError(f"{path}: not a MATLAB file of version 5 to 7.3; is it whole?")
