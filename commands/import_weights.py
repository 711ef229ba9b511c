"""import-weights: weights of another program as a checkpoint for `predict`, with a report of every key."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import nets
from commands.imported import Origin, Recipe, save
from commands.zoo import identity
from nets.foreign import Match, Row, is_hdf5, match
from utils.config import override
from utils.errors import UserError
from utils.files import write_json
from utils.runlog import say

SHOWN = 10


def import_weights(args: argparse.Namespace) -> int:
    """Match, report, and write the checkpoint; UserError, after the report, where anything does not fit."""
    source = Path(args.source)
    if args.net not in nets.names():
        raise UserError(f"--net: {nets.NETS.unknown(args.net)}")
    recipe = recipe_of(args.net, args.overrides, keras=is_hdf5(source))
    target = Path(args.output or f"{source.stem}.{args.net}.pt")
    if target.exists():
        raise UserError(f"{target}: is there already; give another --output, or remove it")
    if not target.parent.is_dir():
        raise UserError(f"{target.parent}: there is no such folder")
    net: Any = recipe.build()
    origin = Origin(file=source.name, sha256=identity(source), trained_on=args.trained_on, fps=args.fps,
                    licence=args.licence)
    matched = match(net, source)
    report = target.with_suffix(".report.json")
    write_json(report, as_json(matched, recipe, origin))
    for row in matched.rows:
        say(line(row))
    if matched.problems:
        more = len(matched.problems) - SHOWN
        rest = [f"  and {more} more"] if more > 0 else []
        told = [f"  {problem}" for problem in matched.problems[:SHOWN]] + rest
        raise UserError("\n".join([
            f"{source} does not fit {args.net} with the options {json.dumps(recipe.options)}; nothing was "
            f"imported, {report} tells every key:", *told,
        ]))
    save(target, matched.state, recipe, origin)
    say(f"{len(matched.rows)} keys; {source.name} -> {target} and {report}")
    spec = net.input_spec
    say(f"the net is fed {spec.video} pictures of {spec.size} pixels, {spec.frames} a clip, and answers with "
        f"a {spec.target} pulse; if it learned otherwise, --set input.video, .size, .frames or .target")
    return 0


def recipe_of(net: str, overrides: list[str], keras: bool) -> Recipe:
    """Net options (`key=value`) and input (`input.key=value`) over those that a Keras file asks for."""
    told = getattr(nets.NETS.get(net), "keras", None)
    raw: dict[str, Any] = {"options": dict(told.options) if keras and told else {}, "input": {}}
    for text in overrides:
        override(raw, text if text.startswith("input.") else f"options.{text}")
    return Recipe(net, raw["options"], raw["input"])


def line(row: Row) -> str:
    """One line of the printed report."""
    sides = [f"{name} {shape}" if name else "-" for name, shape in
             ((row.source, row.source_shape), (row.ours, row.our_shape))]
    return f"  {sides[0]} -> {sides[1]}: {row.done}"


def as_json(matched: Match, recipe: Recipe, origin: Origin) -> dict[str, Any]:
    """The report as it is written."""
    return {
        "source": origin.file, "sha256": origin.sha256, "net": recipe.net, "options": recipe.options,
        "input": recipe.input, "fits": not matched.problems, "problems": matched.problems,
        "keys": [{
            "source": row.source, "source_shape": row.source_shape and list(row.source_shape),
            "ours": row.ours, "our_shape": row.our_shape and list(row.our_shape), "done": row.done,
        } for row in matched.rows],
    }
