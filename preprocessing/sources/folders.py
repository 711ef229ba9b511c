"""Folders of datasets: searched through links, and what in them a reader passed over."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from utils.files import natural_key

_NAMED = 5
_JUNK = ("__MACOSX", "System Volume Information", "$RECYCLE.BIN")


def walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """As `os.walk` from the top, names sorted, hidden ones left out, links to folders followed.

    A folder that several links lead to is visited once, so links in a circle end.
    """
    seen = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith(".") and name not in _JUNK)
        yield Path(folder), subfolders, sorted(name for name in names if not name.startswith("."))


def counted(n: int, whole: int, what: str) -> list[str]:
    """A sentence where a copy has not the number of recordings that the dataset has."""
    if n > whole:
        return [f"{n} {what}, more than the dataset's {whole}; are they of this dataset?"]
    return [] if n == whole else [f"{n} of {whole} {what}"]


def passed_over(root: Path, read: Collection[str], known: Collection[str] = ()) -> list[str]:
    """A sentence naming the folders in `root` that are not read; nothing where there are none.

    known: folders that the dataset has beside its recordings.
    """
    expected = {*read, *known, *_JUNK}
    others = sorted(
        (path.name for path in root.iterdir() if path.name not in expected and path.is_dir()
         and not path.name.startswith(".")), key=natural_key,
    )
    if not others:
        return []
    more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
    listed = ", ".join(others[:_NAMED])
    return [f"folders that are not read, as their names are not the dataset's: {listed}{more}"]
