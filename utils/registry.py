"""Names to classes: one small registry serves nets, methods, datasets and face finders."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import ConfigDict, ValidationError, create_model

T = TypeVar("T")
_MODEL = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)


def did_you_mean(word: str, known: list[str]) -> str:
    """A suffix such as '; did you mean "epochs"?', empty when nothing is close."""
    close = difflib.get_close_matches(word, known, n=1)
    return f'; did you mean "{close[0]}"?' if close else ""


class Registry:
    """Maps a name to a class whose keyword-only arguments are its options."""

    def __init__(self, kind: str) -> None:
        """`kind` is the word used in messages, for example "net"."""
        self.kind = kind
        self._entries: dict[str, type] = {}
        self.refused: dict[str, str] = {}
        """Names that are known and not supported, each with the reason."""

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Class decorator. A second class under one name is an error naming both modules."""

        def add(cls: type[T]) -> type[T]:
            other = self._entries.get(name)
            if other is not None:
                raise ValueError(
                    f"{self.kind} {name!r} is registered twice: "
                    f"in {other.__module__} and in {cls.__module__}"
                )
            self._entries[name] = cls
            return cls

        return add

    def names(self) -> list[str]:
        """All registered names, sorted."""
        return sorted(self._entries)

    def get(self, name: str) -> Any:
        """The class of that name; KeyError with the close names otherwise."""
        if name not in self._entries:
            raise KeyError(self.unknown(name))
        return self._entries[name]

    def unknown(self, name: str) -> str:
        """The message for a name nobody registered."""
        if name in self.refused:
            return f"{self.kind} {name!r} is not supported: {self.refused[name]}"
        hint = did_you_mean(name, self.names())
        return f"unknown {self.kind} {name!r}{hint}  known: {', '.join(self.names())}"

    def describe(self, name: str) -> str:
        """The first line of the class's docstring."""
        return (inspect.getdoc(self.get(name)) or "").partition("\n")[0]

    def options(self, name: str) -> dict[str, inspect.Parameter]:
        """The keyword-only parameters of the class: what params may set."""
        parameters = inspect.signature(self.get(name)).parameters.values()
        return {p.name: p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}

    def check(self, name: str, options: dict[str, Any]) -> list[tuple[str, str]]:
        """Problems of `options` against the signature, as (option, message); [] when it fits."""
        known = self.options(name)
        hints = inspect.get_annotations(self.get(name).__init__, eval_str=True)
        fields: dict[str, Any] = {}
        for key, parameter in known.items():
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[key] = (hints.get(key, Any), default)
        problems = [
            (key, f"unknown option of {self.kind} {name!r}{did_you_mean(key, list(known))}"
             f"  known: {', '.join(known) or 'none'}")
            for key in options if key not in known
        ]
        model = create_model(f"{name}_options", __config__=_MODEL, **fields)
        try:
            model(**{key: value for key, value in options.items() if key in known})
        except ValidationError as error:
            for item in error.errors():
                where = ".".join(str(part) for part in item["loc"])
                came = "" if item["type"] == "missing" else f" (got {item['input']!r})"
                problems.append((where, f"{item['msg']}{came}"))
        return problems

    def build(self, name: str, *args: Any, **options: Any) -> Any:
        """Construct the class; ValueError listing every problem of the options first."""
        problems = self.check(name, options) if name in self._entries else []
        if problems:
            text = "; ".join(f"{key}: {message}" for key, message in problems)
            raise ValueError(f"{self.kind} {name!r}: {text}")
        return self.get(name)(*args, **options)
