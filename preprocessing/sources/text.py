"""Small text files of numbers, read strictly: what is wrong is named by file, line and word."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from preprocessing.frames import Series
from utils.errors import UserError

MAX_BYTES, MAX_CELLS = 20_000_000, 4_000_000
"""Half an hour at 1 kHz; read as words it takes fifteen times as much memory."""
LOWEST_BPM, HIGHEST_BPM = 30.0, 220.0
_SEPARATORS = " \t,;\n"
_SEVEN_BITS, _FAR_BPM = 127.0, 20.0


def read_text(path: Path, remedy: str = "copy the recording again") -> str:
    """The content of a text file, line ends and byte order mark made plain; UserError otherwise."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path}: larger than {MAX_BYTES // 10**6} MB, not read; {remedy}")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {remedy}") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; {remedy}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file; {remedy}") from None
    if sum(map(text.count, _SEPARATORS)) > MAX_CELLS:  # a word takes some 60 bytes, however short it is
        raise UserError(f"{path}: more than {MAX_CELLS:,} values, not read; divide the file")
    if not text.strip():
        raise UserError(f"{path}: empty; {remedy}")
    return text


def numbers(words: list[str], where: str) -> Series:
    """The words as float64 (N,); UserError names the first that is no number (nan and inf are)."""
    try:
        return np.array([float(word) for word in words], dtype=np.float64)
    except ValueError:
        index, word = next((i, word) for i, word in enumerate(words) if not _is_number(word))
        raise UserError(f"{where}: value {index + 1}, {word[:40]!r}, is not a number") from None


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def read_column(path: Path, remedy: str = "copy the recording again") -> Series:
    """A file of one number a line, without header, as float64 (N,)."""
    return numbers(read_text(path, remedy).split(), str(path))


def read_table(path: Path, columns: tuple[str, ...], delimiter: str = ",") -> dict[str, Series]:
    """A table without header: at least these columns in each line, further ones ignored.

    Returns each as float64 (N,). UserError names the line that is too short or holds a word.
    """
    rows = [line for line in read_text(path).splitlines() if line.strip()]
    cells = [row.split(delimiter) for row in rows]
    short = next((i for i, row in enumerate(cells) if len(row) < len(columns)), None)
    if short is not None:
        raise UserError(
            f"{path} line {short + 1}: {len(cells[short])} columns; needed: {', '.join(columns)}"
        )
    return {
        name: numbers([row[index] for row in cells], f"{path}, column {name}")
        for index, name in enumerate(columns)
    }


def read_named_table(path: Path, needed: str, delimiters: str = ",;\t") -> dict[str, list[str]]:
    """A table with a header as lists of words by column, all of one length.

    The delimiter is the one that makes a column `needed` of the header. UserError for a header
    without it, a column named twice, and lines of another number of cells.
    """
    lines = [line for line in read_text(path).splitlines() if line.strip()]
    headers = {sign: [name.strip() for name in lines[0].split(sign)] for sign in delimiters}
    sign = next((sign for sign, names in headers.items() if needed in names), None)
    if sign is None:
        raise UserError(f"{path}: no column {needed!r} in the header {lines[0][:80]!r}")
    names = headers[sign]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{path}: two columns are called {twice!r}")
    rows = [[cell.strip() for cell in line.split(sign)] for line in lines[1:]]
    odd = next((i for i, row in enumerate(rows) if len(row) != len(names)), None)
    if odd is not None:
        raise UserError(f"{path} line {odd + 2}: {len(rows[odd])} cells, the header has {len(names)}")
    return {name: [row[index] for row in rows] for index, name in enumerate(names)}


def device_rate(rate_bpm: Series, what: str) -> tuple[Series, list[str]]:
    """A meter's heart rates (N,) with NaN where it gave none, and a warning that counts them.

    None are those outside 30..220 bpm (0 and 255 are codes), and 127, the highest seven-bit number,
    where the others' median is more than 20 bpm away.
    """
    missing = ~((rate_bpm >= LOWEST_BPM) & (rate_bpm <= HIGHEST_BPM))
    is_code = rate_bpm == _SEVEN_BITS
    others = rate_bpm[~missing & ~is_code]
    if is_code.any() and (not len(others) or abs(float(np.median(others)) - _SEVEN_BITS) > _FAR_BPM):
        missing |= is_code
    if not missing.any():
        return rate_bpm, []
    text = f"{what}: {int(missing.sum())} of {len(rate_bpm)} device heart rates are missing"
    return np.where(missing, np.nan, rate_bpm), [text]


def safe_id(name: str) -> str:
    """A name in characters that may stand in a file's name: a recording's id from a folder's or a video's."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".")[:150] or "recording"


def folder_of(root: Path, dataset: str, expected: str) -> None:
    """UserError unless `root` is a folder; `expected`: what it should hold."""
    if not root.is_dir():
        raise UserError(
            f"{root}: no such folder; set root in data.sets to {dataset} ({expected}), for example by "
            f"--set data.sets.0.root=FOLDER"
        )


def nothing_found(root: Path, expected: str) -> UserError:
    """The error for a folder that holds no recording."""
    return UserError(f"{root}: no recordings; looked for {expected} (check root in data.sets of the params)")
