"""The manifest of one dataset's store: which recordings exist, which failed, and why."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

from utils import files
from utils.errors import UserError

SCHEMA_VERSION = 1
NAME, JOURNAL = "manifest.json", "manifest.journal"
_STATUSES = ("done", "failed", "absent")
_DONE_FIELDS: dict[str, type | tuple[type, ...]] = {
    "subject": str, "dataset": str, "conditions": dict, "n_frames": int, "fps": (int, float),
    "duration_s": (int, float), "size": int, "label_kind": str, "has_label": bool,
    "hr_mean_bpm": (int, float, type(None)), "face_found_share": (int, float, type(None)),
    "warnings": list, "file": str, "bytes": int, "sha256": str, "settings": dict,
    "settings_hash": str, "identity": dict, "schema": int,
}


class Manifest:
    """The lines of `<store>/<dataset>/manifest.json`, by recording id in natural order.

    A line's `status` is "done", "failed" or "absent" (excluded, or its source is no longer there: not
    used); the last two with a `reason`. A file without a line that is "done" does not exist.
    While a store is being filled, new lines go to a journal beside it, so that the n-th costs no more
    than the first; `write` takes them in, and so does reading, whatever ended the program in between.
    """

    def __init__(self, path: Path) -> None:
        """Read the manifest at `path`, empty where there is none; UserError when it is damaged."""
        self.path = path
        self.entries: dict[str, dict[str, Any]] = {}
        if path.exists():
            try:
                self._read()
            except UserError as error:
                raise UserError(f"{error}; delete the file, and what it lists is made again") from None
        self._replay()

    def _read(self) -> None:
        value = files.read_json(self.path)
        if not isinstance(value, dict) or not isinstance(value.get("recordings"), dict):
            raise UserError(f'{self.path}: not a manifest (an object with "recordings" is expected)')
        for recording, entry in value["recordings"].items():
            _check(self.path, recording, entry)
            self.entries[recording] = entry

    def done(self) -> dict[str, dict[str, Any]]:
        """The lines of the recordings that can be used."""
        return {key: entry for key, entry in self.entries.items() if entry["status"] == "done"}

    def file(self, recording: str) -> Path:
        """Where the HDF5 file of a recording lies, whether or not it exists."""
        return self.path.parent / f"{files.safe_name(recording)}.h5"

    def add(self, recording: str, entry: dict[str, Any]) -> None:
        """Set a line and keep it at once, in the journal; Stopped when the disk is full."""
        self.entries[recording] = entry
        line = json.dumps([recording, entry], allow_nan=False) + "\n"
        try:
            with open(self._journal, "a", encoding="utf-8") as handle:
                handle.write(line)
                handle.flush()
                os.fsync(handle.fileno())
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise files.disk_full(self._journal) from error
            raise

    def write(self) -> None:
        """Publish all lines atomically, in natural order; unchanged ones are left alone."""
        if not self.is_published():
            files.write_text(self.path, self._text())
            self._journal.unlink(missing_ok=True)

    def is_published(self) -> bool:
        """Whether the file says what `entries` says."""
        if self._journal.exists() or not self.path.exists():
            return False
        return self.path.read_text(encoding="utf-8") == self._text()

    @property
    def _journal(self) -> Path:
        return self.path.with_name(JOURNAL)

    def _replay(self) -> None:
        """Take in the journal's lines; one without its end was cut off while it was written."""
        if not self._journal.exists():
            return
        *lines, _ = self._journal.read_text(encoding="utf-8", errors="replace").split("\n")
        for number, line in enumerate(lines, 1):
            place = f"{self._journal} line {number}"
            value = files.parse_json(line, place)
            if not isinstance(value, list) or len(value) != 2 or not isinstance(value[0], str):
                raise UserError(f"{place}: not a line of a manifest; delete the file, and what it lists "
                                "is made again")
            _check(self._journal, value[0], value[1])
            self.entries[value[0]] = value[1]

    def _text(self) -> str:
        """JSON with each recording on a line of its own."""
        lines = (f"{json.dumps(key)}: {json.dumps(self.entries[key], allow_nan=False)}"
                 for key in sorted(self.entries, key=files.natural_key))
        return f'{{"schema": {SCHEMA_VERSION}, "recordings": {{\n' + ",\n".join(lines) + "\n}}\n"


def _check(path: Path, recording: str, entry: Any) -> None:
    """Refuse a line that does not have the shape a writer gives it."""
    try:
        files.safe_name(recording)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    place = f"{path}: {recording}"
    if not isinstance(entry, dict) or entry.get("status") not in _STATUSES:
        raise UserError(f'{place}: "status" must be one of {", ".join(_STATUSES)}')
    if entry["status"] == "done":
        wrong = missing_fields(recording, entry)
        if wrong:
            raise UserError(f"{place}: missing or wrong: {', '.join(wrong)}")
    elif not isinstance(entry.get("reason"), str):
        raise UserError(f'{place}: a recording that is {entry["status"]} needs its "reason"')


def missing_fields(recording: str, entry: dict[str, Any]) -> list[str]:
    """The fields of a usable recording's line that are missing, of the wrong type, or unsafe."""
    wrong = []
    for key, kind in _DONE_FIELDS.items():
        value = entry.get(key)
        is_typed = key in entry and isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if not is_typed:
            wrong.append(key)
    if entry.get("file") != f"{recording}.h5":
        wrong.append(f"file (must be {recording}.h5)")
    return wrong
