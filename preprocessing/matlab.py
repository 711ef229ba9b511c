"""MATLAB files of all versions as a dataset needs them: small variables, and a video larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from preprocessing.mat5 import Mat5File
from preprocessing.scratch import ScratchFrames, VideoShape
from utils import hdf5
from utils.errors import UserError

BLOCK_BYTES = 24 << 20
"""What is read at once; some four times as much is held while it is turned into grey levels."""
_HDF5_MARK, _HDF5_START = b"\x89HDF\r\n\x1a\n", (0, 512)
_MAX_EMPTINESS = 1000

Array = NDArray[Any]


class MatFile:
    """One file; opened anew for each reading, so nothing needs closing."""

    def __init__(self, path: Path) -> None:
        """Find out what `path` is and holds; UserError for a damaged, cut or foreign file."""
        self.path = path
        try:
            self.version = 7.3 if _is_hdf5(path) else 5
            self._old = Mat5File(path) if self.version == 5 else None
        except OSError as error:
            raise UserError(f"{path}: {error.strerror or error}") from None

    def dims(self, name: str) -> tuple[int, ...]:
        """MATLAB's dimensions of a variable; UserError when there is none of that name."""
        if self._old is not None:
            return self._old.variable(name).dims
        with hdf5.open_untrusted(self.path) as handle:
            return tuple(reversed(self._dataset(handle, name).shape))

    def __contains__(self, name: str) -> bool:
        if self._old is not None:
            return name in self._old.variables
        with hdf5.open_untrusted(self.path) as handle:
            return name in hdf5.names(handle)

    def series(self, name: str, max_values: int) -> NDArray[np.float64]:
        """A row or column of real numbers as (N,) float64.

        UserError when it is missing, too long, or has more than one dimension.
        """
        values = self._small(name, max_values)
        if isinstance(values, str) or sum(n != 1 for n in values.shape) > 1:
            raise UserError(f"{self.path}: {name} is not a row or column of numbers")
        return np.asarray(values, dtype=np.float64).reshape(-1)

    def text(self, name: str, max_values: int = 200) -> str:
        """A row of text, or a single number as text: whole numbers without a point."""
        value = self._small(name, max_values)
        if isinstance(value, str):
            return value
        if value.size != 1:
            raise UserError(f"{self.path}: {name} is neither text nor a single number")
        return f"{float(value.item()):g}"

    def _small(self, name: str, max_values: int) -> Array | str:
        if self._old is not None:
            return self._old.read(name, max_values)
        with hdf5.open_untrusted(self.path) as handle:
            found = self._dataset(handle, name)
            if found.size > max_values:
                raise UserError(
                    f"{self.path}: {name} has {found.size:,} values, at most {max_values:,} expected"
                )
            values = hdf5.read_array(handle, name).T
            if found.attrs.get("MATLAB_class") == b"char":
                return "".join(chr(int(code)) for code in values.reshape(-1))
        return values

    def video(self, name: str, fps_declared: float) -> ScratchFrames:
        """A variable (t, h, w, 3) or (h, w, 3, t) of MATLAB as frames, `fps_declared` a second.

        Nothing is read before the first frame is asked for; then all of it, once, in blocks, into a
        temporary file without a name. UserError when the variable is no video.
        """
        shape = VideoShape.from_dims(self.dims(name), f"{self.path}: {name}")
        if self._old is not None:
            self._old.check(name)
            fill = self._fill_old
        else:
            self._check_storage(name)
            fill = self._fill_hdf5
        return ScratchFrames(
            shape, lambda beat: fill(name, shape, beat), f"{self.path}: {name}", fps_declared
        )

    def _fill_old(
        self, name: str, shape: VideoShape, beat: Callable[[], None]
    ) -> Iterator[tuple[tuple[slice, ...], Array]]:
        """Blocks of version 5: along the columns, so all times of some pixels, or some whole frames."""
        assert self._old is not None
        line, n_lines = (shape.frames, shape.pixels) if shape.time_is_first else (shape.pixels, shape.frames)
        n = max(1, BLOCK_BYTES // (8 * line))
        start = 0
        for block in self._old.blocks(name, n * line, beat):
            lines = block.reshape(-1, line)
            place = slice(start, start + len(lines))
            if shape.time_is_first:
                yield (slice(None), place), lines.T
            else:
                yield (place, slice(None)), lines
            start += len(lines)
        if start != n_lines:
            raise UserError(f"{self.path}: {name} ends after {start} of {n_lines} columns")

    def _fill_hdf5(
        self, name: str, shape: VideoShape, beat: Callable[[], None]
    ) -> Iterator[tuple[tuple[slice, ...], Array]]:
        """Boxes of version 7.3, made of whole chunks; its arrays lie transposed in the file."""
        with hdf5.open_untrusted(self.path) as handle:
            found = self._dataset(handle, name)
            for box in boxes(found.shape, found.chunks, found.dtype.itemsize):
                try:
                    block = found[box]
                except OSError as error:
                    raise UserError(f"{self.path}: {name}: damaged data ({error}); copy it again") from None
                beat()
                if shape.time_is_first:
                    yield (box[3], *box[:3]), np.moveaxis(block, 3, 0)
                else:
                    yield box, block

    def _check_storage(self, name: str) -> None:
        with hdf5.open_untrusted(self.path) as handle:
            found = self._dataset(handle, name)
            is_empty = found.nbytes > _MAX_EMPTINESS * found.id.get_storage_size()
        if is_empty:
            raise UserError(f"{self.path}: {name} claims far more than the file stores, not read")

    def _dataset(self, handle: h5py.File, name: str) -> h5py.Dataset:
        if name not in handle:
            listed = ", ".join(hdf5.names(handle)[:20])
            raise UserError(f"{self.path}: no variable {name!r}; it holds {listed or 'none'}")
        return hdf5.dataset(handle, name)


def _is_hdf5(path: Path) -> bool:
    """Whether the HDF5 signature stands at the beginning or behind MATLAB's own header."""
    with open(path, "rb") as handle:
        for start in _HDF5_START:
            handle.seek(start)
            if handle.read(8) == _HDF5_MARK:
                return True
    return False


def boxes(
    shape: tuple[int, ...], chunks: tuple[int, ...] | None, itemsize: int
) -> Iterator[tuple[slice, ...]]:
    """Boxes that cover an array of `shape`, of whole chunks each, in the order of storage.

    A box grows from one chunk along the fastest axis first, while it stays below BLOCK_BYTES.
    """
    size = list(np.minimum(chunks, shape)) if chunks else [1] * len(shape)
    for axis in reversed(range(len(shape))):
        room = BLOCK_BYTES // (int(np.prod(size, dtype=np.int64)) * itemsize)
        size[axis] = int(min(shape[axis], size[axis] * max(1, room)))
        if size[axis] < shape[axis]:
            break
    counts = [-(-n // step) for n, step in zip(shape, size, strict=True)]
    for index in np.ndindex(*counts):
        yield tuple(slice(i * step, min(n, (i + 1) * step))
                    for i, step, n in zip(index, size, shape, strict=True))
