"""list: everything that can be chosen by name."""

from __future__ import annotations

import argparse
import json

from utils.config import params_table, schema
from utils.registry import Registry
from utils.runlog import say


def listing(args: argparse.Namespace) -> int:
    """Print nets, methods, datasets, face finders and protocols, one line each."""
    if args.params or args.schema:
        say(params_table() if args.params else json.dumps(schema(), indent=1))
        return 0
    from evaluation import protocols
    from nets.methods import METHODS
    from nets.registry import NETS
    from preprocessing.face import FACE_FINDERS
    from preprocessing.sources import SOURCES

    for title, registry in {"nets": NETS, "methods": METHODS, "datasets": SOURCES,
                            "face finders": FACE_FINDERS}.items():
        _print(title, registry)
    say("datasets that are not supported")
    for name, reason in SOURCES.refused.items():
        say(f"  {name:22} {reason}")
    say()
    say("protocols")
    for name in protocols.names():
        say(f"  {name:22} {protocols.describe(name)}")
    return 0


def _print(title: str, registry: Registry) -> None:
    say(title)
    for name in registry.names():
        access = getattr(registry.get(name), "access", "")
        say(f"  {name:22} {registry.describe(name)}" + (f" [{access}]" if access else ""))
    say()
