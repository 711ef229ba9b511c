"""What a stored recording depends on: settings, code and source files, so that nothing stale is used."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib.metadata
import inspect
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from preprocessing.extract import ExtractSettings
from preprocessing.manifest import SCHEMA_VERSION
from preprocessing.sources import RawRecording
from utils import files
from utils.errors import UserError

MAX_HASHED = 8
"""Files of one suffix a recording may have before only the first, middle and last are hashed."""
_LIBRARIES = ("mediapipe", "opencv-contrib-python-headless")
_NOT_CONTENT = (
    "__init__", "cluster", "freshness", "manifest", "plan", "pool", "report", "run", "sightings", "store",
    "stored", "work",
)


def content_settings(
    settings: ExtractSettings, options: dict[str, Any], recording_class: type | None
) -> dict[str, Any]:
    """Everything but the source files that decides about the content, as JSON values by key.

    The code is left out where the recording's class is None. UserError without the model file.
    """
    found: dict[str, Any] = dict(dataclasses.asdict(settings))
    if found.get("face_model"):
        found["face_model"] = _content(Path(found["face_model"]))
    found["options"] = options
    found["schema"] = SCHEMA_VERSION
    if recording_class is not None:
        found["code"] = _code_digest(recording_class)
    for library in _LIBRARIES:
        found[library] = _version(library)
    as_stored: dict[str, Any] = json.loads(json.dumps(found))
    return as_stored


def _content(path: Path) -> str:
    try:
        return files.file_sha256(path)
    except OSError as error:
        raise UserError(f"preprocessing.face_model: {path}: {error.strerror}") from None


@functools.cache
def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def _code_digest(recording_class: type) -> str:
    """SHA-256 of the code that makes a recording's content, without comments and docstrings."""
    folder = Path(__file__).parent
    paths = [path for path in sorted(folder.glob("*.py")) if path.stem not in _NOT_CONTENT]
    paths.append(folder.parent / "utils" / "signal.py")
    for parent in inspect.getmro(recording_class):
        paths += _origins(sys.modules.get(parent.__module__))
    return files.digest([_code(path) for path in dict.fromkeys(paths)])


def _origins(module: ModuleType | None) -> list[Path]:
    """The files of a module of ours and of the project's modules it takes names from."""
    names = {value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", None) or ""
             for value in vars(module).values()} if module else set()
    own = {name for name in names if name.startswith("preprocessing.sources")}
    if module and module.__name__.partition(".")[0] not in sys.stdlib_module_names:
        own.add(module.__name__)
    found = [getattr(sys.modules.get(name), "__file__", None) for name in sorted(own)]
    return [Path(origin) for origin in found if origin and Path(origin).stem != "__init__"]


def _code(path: Path) -> str:
    """A file's statements, whatever its comments and docstrings say."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            node.body = [line for line in node.body if not _is_text(line)] or [ast.Pass()]
    return ast.unparse(tree)


def _is_text(line: ast.stmt) -> bool:
    value = line.value if isinstance(line, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def identity(
    recording: RawRecording, root: Path, whole: bool = False, beat: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """What the recording's files are: names, sizes, times, and hashes of parts of them.

    Where a recording has many files of one kind (a folder of pictures), the content of the first,
    middle and last is hashed, names, sizes and times of all. whole: all content as well. UserError
    when a file is missing.
    """
    paths = recording.files()
    stats: list[tuple[str, int, int]] = []
    for path in paths:
        stat = file_stat(path)
        stats.append((os.path.relpath(path, root), stat.st_size, stat.st_mtime_ns))
    parts = []
    for path in _sample(paths):
        parts.append(files.source_identity(path))
        beat()
    found = {
        "files": len(paths), "bytes": sum(size for _, size, _ in stats),
        "names": files.digest(stats), "parts": files.digest(parts),
    }
    if whole:
        found["whole"] = files.digest([files.file_sha256(path, beat) for path in paths])
    return found


def file_stat(path: Path) -> os.stat_result:
    """`stat` of a source file; UserError when it is missing."""
    try:
        return path.stat()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def _sample(paths: list[Path]) -> list[Path]:
    """All of few files of a kind; the first, middle and last of many."""
    kinds: dict[str, list[Path]] = {}
    for path in paths:
        kinds.setdefault(path.suffix.lower(), []).append(path)
    chosen: list[Path] = []
    for kind in kinds.values():
        chosen += kind if len(kind) <= MAX_HASHED else [kind[0], kind[len(kind) // 2], kind[-1]]
    return chosen


def same_source(stored: Any, found: dict[str, Any]) -> bool:
    """Whether a recording was made from these files; a whole hash that was asked for must be there."""
    return isinstance(stored, dict) and {key: stored.get(key) for key in found} == found


def differing_keys(stored: Any, found: dict[str, Any]) -> list[str]:
    """The settings that are not what they were when the recording was made."""
    stored = stored if isinstance(stored, dict) else {}
    return sorted(key for key in {*stored, *found} if stored.get(key) != found.get(key))
