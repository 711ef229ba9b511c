"""Files that are whole or absent: atomic writes, strict JSON, digests."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from utils.errors import Stopped, UserError

MAX_JSON_BYTES, FOREIGN_JSON_BYTES = 50_000_000, 12_000_000
MIB = 1 << 20
_SAFE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


@contextlib.contextmanager
def atomic(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; on success it is synced and renamed onto it.

    A full disk raises Stopped with the space needed and left; the temporary file never stays.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, target)
        sync_folder(target.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(target) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def not_left_empty(folder: Path) -> Iterator[None]:
    """Make `folder`; where nothing came into it, it and those made above it are removed again."""
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # not empty
            for place in made:
                place.rmdir()


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def disk_full(target: Path, needs_bytes: int | None = None) -> Stopped:
    """The error for a disk without room for `target`."""
    has = shutil.disk_usage(target.parent).free / MIB
    needs = "" if needs_bytes is None else f"needs {needs_bytes / MIB:.1f} MiB, "
    return Stopped(f"disk full: {target} {needs}has {has:.1f} MiB; free some space and run again")


def require_space(target: Path, needs_bytes: int) -> None:
    """Raise Stopped unless the disk of `target` has room for `needs_bytes`."""
    if shutil.disk_usage(target.parent).free < needs_bytes:
        raise disk_full(target, needs_bytes)


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files that killed writers left in `folder`."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def write_text(target: Path, text: str) -> None:
    """Write `text` atomically."""
    with atomic(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path, value: Any) -> None:
    """Write JSON atomically: readable, keys in the given order, NaN refused."""
    write_text(target, to_json(value))


def to_json(value: Any) -> str:
    """`value` as readable JSON text, keys in the given order; ValueError for NaN."""
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def read_json(path: Path, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Read JSON strictly; UserError names the file and what is wrong with it.

    max_bytes: files from anywhere get less, as a file of brackets takes 25 times its size in memory.
    """
    try:
        if path.stat().st_size > max_bytes:
            raise UserError(f"{path}: larger than {max_bytes // 10**6} MB, not read")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a UTF-8 text file") from None
    return parse_json(text, str(path))


def parse_json(text: str, origin: str) -> Any:
    """Parse JSON; duplicate keys, NaN and Infinity, and bottomless nesting are refused."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                raise UserError(f'{origin}: key "{key[:80]}" appears twice')
            seen[key] = value
        return seen

    def refuse(word: str) -> None:
        raise UserError(f"{origin}: {word} is not a JSON number")

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise UserError(f"{origin} line {error.lineno} column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise UserError(f"{origin}: nested too deeply") from None
    except ValueError:
        raise UserError(f"{origin}: a number of thousands of digits, not read") from None


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, independent of key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path, progress: Callable[[], None] | None = None) -> str:
    """SHA-256 of a whole file, read in pieces; `progress` is called after each."""
    state = hashlib.sha256()
    with open(path, "rb") as handle:
        while piece := handle.read(8 * MIB):
            state.update(piece)
            if progress:
                progress()
    return state.hexdigest()


def source_identity(path: Path, whole: bool = False) -> dict[str, Any]:
    """Size, modification time and SHA-256 of the first, middle and last MiB (or of all)."""
    stat = path.stat()
    if whole or stat.st_size <= 3 * MIB:
        return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": file_sha256(path)}
    state = hashlib.sha256()
    with open(path, "rb") as handle:
        for start in (0, stat.st_size // 2, stat.st_size - MIB):
            handle.seek(start)
            state.update(handle.read(MIB))
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256_parts": state.hexdigest()}


def safe_name(name: str) -> str:
    """`name` when it may become a file name; UserError otherwise (no separators, no leading dot)."""
    if not _SAFE_NAME.fullmatch(name) or len(name) > 200:
        raise UserError(f"{name!r} cannot be a file name: use letters, digits, '.', '_' and '-'")
    return name


def is_plain(text: str) -> bool:
    """Whether `text` fits a line and UTF-8: no control character, no lone surrogate."""
    return not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text)


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key under which subject2 comes before subject10."""
    parts = re.split(r"(\d+)", text)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts if p]
