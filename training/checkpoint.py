"""Checkpoints: whole or absent, checked bit by bit on loading, tensors and plain values only.

A file is what torch.save writes, with a SHA-256 of all bytes before it as the comment of the zip archive:
the checksums inside a zip do not cover its headers and padding, and torch looks at none of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from utils.errors import Stopped, UserError
from utils.files import atomic, disk_full, remove_leftovers, require_space, sync_folder
from utils.runlog import warn

FORMAT = 1
LAST, PREVIOUS, BEST = "last.pt", "previous.pt", "best.pt"
_MARK = b"sha256:"
_CULPRIT = re.compile(r"GLOBAL ([\w.]+)")  # in the message of torch.load
_SEAL_BYTES = len(_MARK) + hashlib.sha256().digest_size


class BadCheckpoint(UserError):
    """A file that is damaged, foreign or refused; the message names it."""


class Checkpoints:
    """The checkpoints of one run: the last two and the best; a kill at any point leaves a good one."""

    def __init__(
        self, folder: Path, identity: dict[str, Any], about: dict[str, Any] | None = None
    ) -> None:
        """Create `folder` where it does not exist.

        identity: what a checkpoint must agree in to be continued (hash of the params, name of the net,
        hash of the split). about: what else describes it (params, environment), kept in every file.
        """
        self.folder, self._identity, self._about = folder, identity, about or {}
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)

    @property
    def best(self) -> Path:
        """The checkpoint chosen on validation."""
        return self.folder / BEST

    def exist(self) -> bool:
        """Whether anything is there to continue from."""
        return any((self.folder / name).exists() for name in (LAST, PREVIOUS))

    def save(self, state: dict[str, Any], best: bool = False) -> None:
        """Write `state` as the last checkpoint; the one before becomes the previous one.

        The best comes first: a run killed in between repeats the steps after the older last
        checkpoint, and makes the same best again. A full disk raises Stopped; the old ones stay.
        """
        versions = {"torch": str(torch.__version__), "numpy": np.__version__}
        content = _sealed({"format": FORMAT, "identity": self._identity, "about": self._about,
                           "versions": versions, **state})
        last = self.folder / LAST
        require_space(last, len(content))
        try:
            with atomic(last) as temporary:
                with open(temporary, "wb") as handle:
                    handle.write(content)
                    handle.flush()
                    os.fsync(handle.fileno())
                if best:
                    _link(temporary, self.best)
                if last.exists():
                    _link(last, self.folder / PREVIOUS)
                sync_folder(self.folder)
        except Stopped as error:
            raise disk_full(last, len(content)) from error

    def load_latest(self) -> dict[str, Any] | None:
        """The newest good checkpoint of this run; None where there is none at all.

        A damaged one is named in a warning, set aside, and the previous one used. BadCheckpoint when
        no good one is left, or when the run was made with other params.
        """
        refused: list[str] = []
        for name in (LAST, PREVIOUS):
            path = self.folder / name
            if not path.exists():
                continue
            try:
                state = read_file(path)
            except BadCheckpoint as error:
                refused.append(str(error))
                continue
            self._check_identity(path, state)
            if refused:
                # Set aside, so that the next save does not put it in the place of the good one.
                warn(f"{refused[0]}; going on from {path}")
                os.replace(self.folder / LAST, self.folder / "damaged.pt")
            return state
        if refused:
            raise BadCheckpoint("no good checkpoint is left: " + "; ".join(refused))
        return None

    def load_best(self) -> dict[str, Any]:
        """The best checkpoint; BadCheckpoint when it is damaged, missing or of another run."""
        state = read_file(self.best)
        self._check_identity(self.best, state)
        return state

    def _check_identity(self, path: Path, state: dict[str, Any]) -> None:
        found = state.get("identity")
        if state.get("format") != FORMAT or not isinstance(found, dict):
            raise BadCheckpoint(f"{path}: not a checkpoint of this program's format {FORMAT}")
        for key in sorted({*found, *self._identity}):
            if found.get(key) != self._identity.get(key):
                raise BadCheckpoint(
                    f"{path}: made with {key} = {found.get(key)!r}, this run has "
                    f"{self._identity.get(key)!r}; use another run.name or the params of that run")


def read_file(path: Path) -> dict[str, Any]:
    """A checkpoint or weights file, checked whole, on the CPU; BadCheckpoint names what is wrong."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadCheckpoint(f"{path}: {error.strerror}") from None
    fault = _fault(content)
    if fault:
        raise BadCheckpoint(f"{path}: {fault}")
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a crafted file can make the reader fail in any way
        named = _CULPRIT.search(str(error))
        raise BadCheckpoint(f"{path}: refused, it must hold tensors and plain values only"
                            + (f", not {named[1]}" if named else "")) from None
    if not isinstance(state, dict):
        raise BadCheckpoint(f"{path}: holds a {type(state).__name__}, not named parts")
    return state


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint by run folder (its best, else its last one), checkpoint file or bare state dict."""
    if path.is_dir():
        folders = (path / "checkpoints", path)
        found = [f / name for f in folders for name in (BEST, LAST, PREVIOUS) if (f / name).exists()]
        if not found:
            raise BadCheckpoint(f"{path}: no {BEST} or {LAST} in it or in its checkpoints folder")
        path = found[0]
    return read_file(path)


def weights_of(state: dict[str, Any], origin: str) -> dict[str, Tensor]:
    """Weights and buffers by name: those of the whole method, or of a bare state dict as it stands."""
    weights = state.get("method", state.get("state_dict", state))
    if not weights or not all(isinstance(v, Tensor) for v in weights.values()):
        raise BadCheckpoint(f"{origin}: holds no weights by name")
    return dict(weights)


def _sealed(state: dict[str, Any]) -> memoryview:
    """What torch.save writes, with the digest as the archive's comment."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(-2, os.SEEK_END)
    buffer.write(struct.pack("<H", _SEAL_BYTES))
    buffer.write(_MARK + hashlib.sha256(buffer.getvalue()).digest())
    return buffer.getbuffer()


def _fault(content: bytes) -> str | None:
    """What is wrong with a file's bytes; files of others have no digest, only the zip's checksums."""
    view = memoryview(content)
    if view[-_SEAL_BYTES:] == _MARK + hashlib.sha256(view[:-_SEAL_BYTES]).digest():
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            bad, comment = archive.testzip(), archive.comment
    except Exception:  # damage can make the reader fail in any way
        return "damaged, or not written by torch.save (torch 1.6 or later)"
    if comment:
        return "damaged (its digest does not fit its content)"
    return f"damaged ({bad})" if bad else None


def _link(source: Path, target: Path) -> None:
    """Let `target` name the content of `source`, in one step; a copy where links do not exist."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
            with open(temporary, "rb") as handle:
                os.fsync(handle.fileno())
        os.replace(temporary, target)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
