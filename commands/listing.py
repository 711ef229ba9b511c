"""list: everything that can be chosen by name."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from utils.config import params_table, schema
from utils.files import read_json
from utils.registry import Registry
from utils.runlog import say

SPLITS = Path(__file__).parent.parent / "params" / "splits"


def listing(args: argparse.Namespace) -> int:
    """Print nets, methods, datasets, face finders and protocols, one line each."""
    if args.params or args.schema:
        say(params_table() if args.params else json.dumps(schema(), indent=1))
        return 0
    if args.zoo:
        from commands import zoo

        _print_lines("trained weights (predict --checkpoint zoo:NAME)", {
            name: entry.line() for name, entry in zoo.entries().items()
        })
        return 0
    from evaluation import protocols
    from nets.methods import METHODS
    from nets.registry import NETS
    from preprocessing import defects
    from preprocessing.face import FACE_FINDERS
    from preprocessing.sources import SOURCES

    for title, registry in {"nets": NETS, "methods": METHODS, "datasets": SOURCES,
                            "face finders": FACE_FINDERS}.items():
        _print(title, registry)
    _print_lines("datasets that are not supported", SOURCES.refused)
    _print_lines("lists of recordings with known defects (data.sets.*.exclude_lists)", {
        f"{dataset} {name}": f"{len(reasons)} recordings"
        for dataset in SOURCES.names() for name, reasons in defects.lists_of(dataset).items()
    })
    _print_lines("published splits (split.file, from params/splits)", {
        path.name: read_json(path)["about"]["source"] for path in sorted(SPLITS.glob("*.json"))
    })
    _print_lines("protocols", {name: protocols.describe(name) for name in protocols.names()})
    return 0


def _print_lines(title: str, lines: Mapping[str, str]) -> None:
    say(title)
    for name, text in lines.items():
        say(f"  {name:22} {text}")
    say()


def _print(title: str, registry: Registry) -> None:
    say(title)
    for name in registry.names():
        access = getattr(registry.get(name), "access", "")
        say(f"  {name:22} {registry.describe(name)}" + (f" [{access}]" if access else ""))
    say()
