"""params.json: read strictly, checked whole, every problem reported at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from utils.errors import ParamsError, UserError
from utils.files import is_plain, parse_json, read_json
from utils.registry import did_you_mean
from utils.settings import RunConfig

Problem = tuple[str, str]
Check = Callable[[dict[str, Any]], list[Problem]]


def load(path: Path, overrides: list[str], checks: list[Check] | None = None) -> RunConfig:
    """Read `path`, apply `--set` overrides, and return the checked config.

    `checks` look at the raw sections for what types cannot say (is there such a net, does it take
    that option) and return (path, message) pairs. ParamsError lists all problems together.
    """
    raw = read_json(path)
    if not isinstance(raw, dict):
        raise ParamsError(str(path), [("", "a JSON object with sections is expected")])
    try:
        raw = _without_comments(raw)
        raw.pop("$schema", None)
        for text in overrides:
            override(raw, text)
        return validate(raw, str(path), checks)
    except RecursionError:
        raise ParamsError(str(path), [("", "nested too deeply")]) from None


def validate(raw: dict[str, Any], origin: str, checks: list[Check] | None = None) -> RunConfig:
    """Check raw params; `origin` names them in messages."""
    problems = _hostile_texts(raw, "")
    if problems:
        raise ParamsError(origin, problems)  # the other checks look for files of these names
    config = None
    try:
        config = RunConfig.model_validate(raw)
    except ValidationError as error:
        problems += [_explain(item) for item in error.errors()]
    for check in [*(checks or []), _cross_checks]:
        problems += check(raw)
    if problems:
        raise ParamsError(origin, sorted(set(problems), key=lambda p: p[0]))
    assert config is not None
    return config


def _hostile_texts(value: Any, path: str) -> list[Problem]:
    """Texts, and names of settings, that no file can be called and no terminal shows as they are."""
    if isinstance(value, str) and not is_plain(value):
        return [(path, f"{value[:60]!a}: holds a control character or a lone surrogate; take it out")]
    inner: list[tuple[str, Any]] = []
    problems: list[Problem] = []
    if isinstance(value, dict):
        problems = [(path, f"the key {key[:60]!a} holds a control character or a lone surrogate")
                    for key in value if not is_plain(key)]
        inner = [(key, item) for key, item in value.items() if is_plain(key)]
    elif isinstance(value, list):
        inner = [(str(index), item) for index, item in enumerate(value)]
    for key, item in inner:
        problems += _hostile_texts(item, f"{path}.{key}" if path else key)
    return problems


def _without_comments(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_comments(v) for k, v in value.items() if not k.endswith("_comment")}
    if isinstance(value, list):
        return [_without_comments(item) for item in value]
    return value


def override(raw: dict[str, Any], text: str) -> None:
    """Apply one `section.key=value`; the value is JSON, or else a plain string."""
    path, equals, value = text.partition("=")
    keys = path.split(".")
    if not equals or len(keys) < 2 or not all(keys):
        raise UserError(f"--set {text}: use section.key=value, for example --set train.epochs=5")
    try:
        parsed = parse_json(value, f"--set {path}")
    except UserError:
        if value[:1] in ("[", "{"):
            raise
        parsed = value
    target: Any = raw
    for key in keys[:-1]:
        if isinstance(target, list) and key.isdigit() and int(key) < len(target):
            target = target[int(key)]
        elif isinstance(target, dict):
            target = target.setdefault(key, {})
        else:
            raise UserError(f"--set {text}: {key!r} is not a section or a list index")
    if isinstance(target, list) and keys[-1].isdigit() and int(keys[-1]) < len(target):
        target[int(keys[-1])] = parsed
    elif isinstance(target, dict):
        target[keys[-1]] = parsed
    else:
        raise UserError(f"--set {text}: {'.'.join(keys[:-1])} holds a value, not a section")


def _explain(item: ErrorDetails) -> Problem:
    """One pydantic error as (path, sentence with the value and what is accepted)."""
    location = [part for part in item["loc"] if part != "[key]"]
    path = ".".join(str(part) for part in location)
    if item["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        hint = did_you_mean(str(location[-1]), known)
        return path, f"unknown key{hint}  known: {', '.join(known)}"
    if item["type"] == "missing":
        return path, "is required"
    return path, f"{item['msg']} (got {_shorten(item['input'])})"


def _shorten(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _known_keys(location: list[Any]) -> list[str]:
    """The field names of the model at `location`."""
    model: Any = RunConfig
    for part in location:
        if isinstance(part, int):
            continue
        annotation = model.model_fields[part].annotation
        nested = [a for a in (annotation, *getattr(annotation, "__args__", ())) if _is_model(a)]
        model = nested[0]
    return list(model.model_fields)


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _cross_checks(raw: dict[str, Any]) -> list[Problem]:
    """Combinations that cannot work, found even where other sections are wrong."""
    problems = _split_checks(_part(raw, "split"))
    names = [s.get("name") for s in _part(raw, "data").get("sets", []) if isinstance(s, dict)]
    for name in {n for n in names if names.count(n) > 1}:
        problems.append(("data.sets", f"{name!r} is listed twice; give each dataset once"))
    return problems


def _split_checks(split: dict[str, Any]) -> list[Problem]:
    """Settings of the split that contradict its scheme."""
    problems: list[Problem] = []
    scheme = split.get("scheme", "fractions")
    if scheme == "fractions":
        shares = [split.get("train", 0.7), split.get("valid", 0.1), split.get("test", 0.2)]
        if all(isinstance(s, int | float) for s in shares) and sum(shares) > 1 + 1e-9:
            problems.append(("split", f"train + valid + test = {sum(shares):g}; at most 1 is possible"))
        if "train" in _part(split, "lists"):
            problems.append(("split.lists", 'train is drawn with scheme "fractions"; "lists" is meant?'))
    if scheme == "lists" and not split.get("lists") and not split.get("file"):
        problems.append(("split.lists", 'scheme "lists" needs split.lists or split.file'))
    if scheme == "folds" and not split.get("file"):
        problems.append(("split.file", 'scheme "folds" needs split.file: a JSON file or a folder'))
    for key, schemes in {"lists": ("lists", "fractions"), "file": ("lists", "folds")}.items():
        if scheme not in schemes and split.get(key):
            problems.append((f"split.{key}", f'has no effect with scheme "{scheme}"; "lists" is meant?'))
    if scheme == "kfold":
        folds, fold = split.get("folds", 5), split.get("fold", 0)
        if isinstance(folds, int) and isinstance(fold, int) and fold >= folds:
            problems.append(("split.fold", f"{fold} is not below split.folds = {folds}"))
    return problems


def _part(raw: dict[str, Any], section: str) -> dict[str, Any]:
    value = raw.get(section, {})
    return value if isinstance(value, dict) else {}


def schema() -> dict[str, Any]:
    """JSON schema of params.json, for editors."""
    made = RunConfig.model_json_schema()
    made["properties"]["$schema"] = {"type": "string"}
    return made


def params_table() -> str:
    """Markdown table of every setting: path, default, meaning."""
    lines = ["| setting | default | meaning |", "| --- | --- | --- |"]
    for section, field in RunConfig.model_fields.items():
        lines += _table_rows(section, field.annotation)
    return "\n".join(lines)


def _table_rows(path: str, kind: Any) -> list[str]:
    """One row a field; lists of models and nested models are followed."""
    rows: list[str] = []
    sections = [field.annotation for field in RunConfig.model_fields.values()]
    for name, field in kind.model_fields.items():
        here = f"{path}.{name}"
        nested = [a for a in (field.annotation, *getattr(field.annotation, "__args__", ())) if _is_model(a)]
        if nested and (nested[0] in sections or (name == "augment" and path != "data")):
            rows.append(f"| `{here}.*` | as there | {field.description} As section `{name}`. |")
            continue
        if nested:
            if getattr(field.annotation, "__origin__", None) in (list, dict):
                here += ".*"
            rows += _table_rows(here, nested[0])
            continue
        default = "required" if field.is_required() else f"`{json.dumps(field.default)}`"
        rows.append(f"| `{here}` | {default} | {_accepted(field.annotation)}{field.description} |")
    return rows


def _accepted(kind: Any) -> str:
    """The choices of a setting that has a closed list of them."""
    options = [a for a in (kind, *getattr(kind, "__args__", ())) if getattr(a, "__origin__", None) is Literal]
    if not options:
        return ""
    return " / ".join(f"`{value}`" for value in options[0].__args__) + ": "
