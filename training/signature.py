"""Options from params against the signature of a class of torch."""

from __future__ import annotations

import collections.abc
import inspect
import re
import typing
from typing import Any

from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError

from utils.registry import did_you_mean

Problem = tuple[str, str]
_TYPES = ConfigDict(strict=True, arbitrary_types_allowed=True)


def option_problems(
    cls: type, options: Any, given: dict[str, str], path: str, filled: tuple[str, ...] = ()
) -> list[Problem]:
    """Problems of `options` against the signature of `cls`, as (path, message).

    given: arguments that params may not set, with the reason; filled: required arguments that get a
    value anyway. Options that are no object are left to the check of types.
    """
    if not isinstance(options, dict):
        return []
    hints = _hints(cls)
    known = [key for key in hints if key not in given]
    problems = []
    for key, value in options.items():
        if key in given:
            problems.append((f"{path}.{key}", given[key]))
        elif key not in hints:
            text = f"unknown option of {cls.__name__}{did_you_mean(key, known)}  known: {', '.join(known)}"
            problems.append((f"{path}.{key}", text))
        elif not _fits(value, hints[key]):
            problems.append((f"{path}.{key}", f"{_words(hints[key])} is expected (got {value!r})"))
    missing = _required(cls) - set(options) - set(given) - set(filled)
    return problems + [(f"{path}.{key}", f"{cls.__name__} needs this option") for key in sorted(missing)]


def tuples(options: dict[str, Any]) -> dict[str, Any]:
    """Lists of JSON as the tuples torch wants."""
    return {key: tuple(v) if isinstance(v, list) else v for key, v in options.items()}


def _required(cls: type) -> set[str]:
    parameters = inspect.signature(cls).parameters.values()
    return {p.name for p in parameters if p.default is inspect.Parameter.empty}


def _hints(cls: type) -> dict[str, Any]:
    """Type of every argument; torch imports some of its own names for type checkers only."""
    names = {**vars(typing), **vars(collections.abc), **vars(inspect.getmodule(cls))}
    hints = typing.get_type_hints(vars(cls)["__init__"], names)
    hints.pop("return", None)
    return hints


def _fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value is of the type; a list may stand for a tuple."""
    if typing.get_origin(hint) is collections.abc.Iterable:
        hint = list[typing.get_args(hint)[0]]  # type: ignore[misc]
    try:
        adapter = TypeAdapter(hint, config=_TYPES)
    except PydanticSchemaGenerationError:
        return True
    for form in [value, tuple(value)] if isinstance(value, list) else [value]:
        try:
            adapter.validate_python(form)
        except ValidationError:
            continue
        return True
    return False


def _words(hint: Any) -> str:
    """A type as a user reads it."""
    text = inspect.formatannotation(hint)
    for pattern in (r"\| torch\.Tensor|\| Tensor", r"collections\.abc\.|typing\."):
        text = re.sub(pattern, "", text)
    return re.sub(r"\s+([,\]])|\s+$", r"\1", text)
