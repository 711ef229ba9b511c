"""Pictures inside a zip file as a video: streamed, never unpacked, and nothing believed unchecked."""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from preprocessing.frames import Frame
from preprocessing.pictures import MAX_BYTES, SUFFIXES, PictureFolder, decode_picture, picture_number
from utils.errors import UserError

_TAIL_BYTES = (1 << 16) + 22 + 76
"""The end of a zip file: comment, end record, and the longer end record of a large one."""
_MOST_INDEX_BYTES = 16 << 20
"""Some 200,000 entries; each takes ten times its size in memory."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DAMAGED = (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError)


class PictureZip(PictureFolder):
    """Reads the pictures `members` of the zip file `archive`, in the order given."""

    def __init__(self, archive: Path, members: list[str], fps_declared: float) -> None:
        """members: as `numbered_members` lists them; fps_declared: their rate, as they carry no times."""
        super().__init__([archive / name for name in members], fps_declared=fps_declared)
        self._archive = archive
        self._names = {archive / name: name for name in members}
        self._zip: zipfile.ZipFile | None = None

    def __iter__(self) -> Iterator[Frame]:
        with open_zip(self._archive) as self._zip:
            yield from super().__iter__()

    def _picture(self, path: Path) -> Frame:
        if self._zip is None:
            raise ValueError("pictures of a zip file are read by iterating")
        return decode_picture(path, _content(self._zip, self._names[path], path))


def open_zip(path: Path) -> zipfile.ZipFile:
    """The zip file, once the size of its index is known to be sane; UserError otherwise."""
    try:
        size = _index_bytes(path)
        if size > _MOST_INDEX_BYTES:
            raise UserError(f"{path}: the zip file states an index of {size:,} bytes, not read")
        return zipfile.ZipFile(path)
    except _DAMAGED as error:
        raise UserError(f"{path}: not a whole zip file ({error}); copy it again") from None


def numbered_members(archive: zipfile.ZipFile, folder: str) -> list[str]:
    """The pictures in a folder of that name, anywhere in the zip file, by the numbers in their names.

    UserError for names that lead out of the archive, for two such folders, and for two pictures of
    one number.
    """
    found: dict[int, str] = {}
    places = set()
    for name in archive.namelist():
        path = PurePosixPath(name)
        if path.suffix.lower() not in SUFFIXES or path.parent.name != folder:
            continue
        if _is_shadow(path):
            continue
        if path.is_absolute() or ".." in path.parts or not re.fullmatch(r"[^\\:\0]+", name):
            raise UserError(f"{archive.filename}: {name[:80]!r} leads out of the archive, not read")
        number = picture_number(Path(path.name))
        if number is None or number in found:
            raise UserError(f"{archive.filename}: {name[:80]!r} has no number, or one of another picture")
        found[number] = name
        places.add(path.parent)
    if len(places) > 1:
        raise UserError(f"{archive.filename}: pictures in {' and '.join(sorted(map(str, places))[:2])}")
    return [found[number] for number in sorted(found)]


def folders_in(archive: zipfile.ZipFile) -> set[str]:
    """Names of the folders that hold pictures."""
    paths = map(PurePosixPath, archive.namelist())
    return {path.parent.name for path in paths if path.suffix.lower() in SUFFIXES and not _is_shadow(path)}


def _is_shadow(path: PurePosixPath) -> bool:
    """Whether a Mac packed it beside the file that is meant."""
    return path.name.startswith("._") or path.parts[0] == "__MACOSX"


def _content(archive: zipfile.ZipFile, name: str, where: Path) -> bytes:
    try:
        info = archive.getinfo(name)
        if info.compress_type not in _METHODS or info.flag_bits & 1:
            raise UserError(f"{where}: encrypted, or packed by an unknown method; unpack the archive by hand")
        if not 0 < info.file_size <= MAX_BYTES:
            raise UserError(f"{where}: {info.file_size:,} bytes; no picture, not read")
        with archive.open(info) as member:
            return member.read(info.file_size)
    except (KeyError, *_DAMAGED) as error:
        raise UserError(f"{where}: cannot be unpacked ({error}); copy the zip file again") from None


def _index_bytes(path: Path) -> int:
    """Size of the index as the end of the zip file states it; 0 where there is no such end."""
    with open(path, "rb") as handle:
        end = handle.seek(0, 2)
        handle.seek(max(0, end - _TAIL_BYTES))
        tail = handle.read()
    large, small = tail.rfind(b"PK\x06\x06"), tail.rfind(b"PK\x05\x06")
    if large >= 0 and large + 48 <= len(tail):
        return int(struct.unpack_from("<Q", tail, large + 40)[0])
    return int(struct.unpack_from("<I", tail, small + 12)[0]) if 0 <= small <= len(tail) - 16 else 0
