"""Trained weights by name: `zoo:NAME`, from a file the user has or an installed package; none is shipped."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import io
import os
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commands.imported import FORMAT, Origin, Recipe, save
from nets.foreign import match
from utils.errors import UserError
from utils.files import digest, file_sha256, read_json
from utils.registry import did_you_mean
from utils.runlog import say

PREFIX = "zoo:"
ENTRIES = Path(__file__).with_name("zoo.json")
FOLDER = "RPPG_ZOO"
"""Environment variable with the folder of imported weights."""
MAX_BYTES = 2**30


@dataclass(frozen=True)
class Entry:
    """One set of weights: recipe, origin, and where its file is found.

    package, version, path: of the Python package that carries it, path being inside its wheel; package is
    None where the user brings the file. get: how a user comes by it. checked: what it gave on a real clip.
    """

    name: str
    recipe: Recipe
    origin: Origin
    package: str | None
    version: str | None
    path: str
    get: str
    checked: dict[str, Any]

    def cached(self) -> Path:
        """Where the imported file lies; its name changes with the source and with how it is imported."""
        how = digest([FORMAT, dataclasses.asdict(self.origin), dataclasses.asdict(self.recipe)])
        return cache_folder() / f"{self.name}-{how[:12]}.pt"

    def line(self) -> str:
        """What `list --zoo` says of it."""
        here = "imported" if self.cached().exists() else self.get
        return f"{self.recipe.net}, {self.origin.sentence()} | real clip: {verdict(self.checked)} | {here}"


def verdict(checked: dict[str, Any]) -> str:
    """What an entry gave on the real clip beside the contact PPG, in words."""
    if checked["pass"] is None:
        return "not checked"
    word = "right" if checked["pass"] else "WRONG"
    return f"{checked['bpm']:.1f} bpm, contact {checked['reference_bpm']:.1f}: {word}"


def entries() -> dict[str, Entry]:
    """Every entry by its name."""
    told = read_json(ENTRIES)
    made = {}
    for name, item in told["entries"].items():
        base = told["sources"][item["source"]]
        about = {**base["about"], **item["about"]}
        conditions = [*base["about"].get("conditions", ()), *item["about"].get("conditions", ())]
        if not item["checked"]["pass"]:
            conditions.append(f"on a real clip: {verdict(item['checked'])}; do not rely on it")
        made[name] = Entry(
            name=name, recipe=Recipe(**item["recipe"]), package=base["package"], version=base["version"],
            path=item["path"], get=base["get"], checked=item["checked"],
            origin=Origin(**{
                **about, "zoo": name, "file": Path(item["path"]).name, "conditions": tuple(conditions),
            }),
        )
    return made


def entry(name: str) -> Entry:
    """The entry of that name; UserError with the known ones."""
    known = entries()
    if name not in known:
        hint = did_you_mean(name, list(known))
        raise UserError(f"{PREFIX}{name}: no such entry{hint}  known: {', '.join(known)}")
    return known[name]


def cache_folder() -> Path:
    """Where imported weights are kept: $RPPG_ZOO, or a folder of the user's cache."""
    if os.environ.get(FOLDER):
        return Path(os.environ[FOLDER])
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "rppg-training" / "zoo"


def resolve(name: str, source: Path | None = None) -> Path:
    """The imported file of an entry, made on first use from `source`, or from its installed package.

    source: the weight file itself, or a wheel that contains it. UserError says how to get it.
    """
    found = entry(name)
    target = found.cached()
    if source is None and target.exists():
        return target
    content = _content(found, source)
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != found.origin.sha256:
        raise UserError(f"{PREFIX}{name}: not the file of this entry (sha256 {sha256[:12]}..., wanted "
                        f"{found.origin.sha256[:12]}...); other files are taken by import-weights")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".import") as scratch:
        plain = Path(scratch) / Path(found.path).name
        plain.write_bytes(content)
        matched = match(found.recipe.build(), plain)
    if matched.problems:
        raise UserError(f"{PREFIX}{name} does not fit {found.recipe.net}: {'; '.join(matched.problems[:5])}")
    save(target, matched.state, found.recipe, found.origin)
    say(f"{PREFIX}{name} imported into {target}")
    return target


def _content(found: Entry, source: Path | None) -> bytes:
    """The bytes of an entry's file."""
    path = source or _installed(found)
    if path is None:
        raise UserError(f"{PREFIX}{found.name}: its weights are not here; {found.get}")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path}: larger than {MAX_BYTES >> 20} MiB, not read")
        content = path.read_bytes()
        if path.suffix != ".whl":
            return content
        with zipfile.ZipFile(io.BytesIO(content)) as wheel:
            return wheel.read(found.path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    except KeyError:
        raise UserError(f"{path}: {found.path} is not in it; {found.get}") from None
    except zipfile.BadZipFile as error:
        raise UserError(f"{path}: not a readable wheel ({error})") from None


def _installed(found: Entry) -> Path | None:
    """The file in the installed package, which is not imported; None where it is not installed."""
    if found.package is None:
        return None
    try:
        path = Path(str(importlib.metadata.distribution(found.package).locate_file(found.path)))
    except importlib.metadata.PackageNotFoundError:
        return None
    return path if path.exists() else None


def named(checkpoint: str, source: Path | None = None) -> Path:
    """The path that a user's word for weights stands for: zoo:NAME, or the path itself."""
    if checkpoint.startswith(PREFIX):
        return resolve(checkpoint.removeprefix(PREFIX), source)
    if source is not None:
        raise UserError(f"--source goes with --checkpoint {PREFIX}NAME")
    return Path(checkpoint)


def identity(path: Path) -> str:
    """SHA-256 of a source file; UserError where it cannot be read."""
    try:
        return file_sha256(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
