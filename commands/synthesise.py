"""synthesise: write the demonstration data, or larger sets of it."""

from __future__ import annotations

import argparse
from pathlib import Path

from preprocessing.synthetic import generate
from utils import interrupt
from utils.errors import UserError
from utils.runlog import say


def synthesise(args: argparse.Namespace) -> int:
    """Write the recordings that are missing in DIR; complete ones are kept."""
    counts = {part: getattr(args, part) for part in ("train", "valid", "test", "hard", "control")}
    for name, value in {**counts, "seed": args.seed}.items():
        if value < 0:
            raise UserError(f"--{name} {value}: must not be negative")
    if not 1 <= args.seconds <= 3600:
        raise UserError(f"--seconds {args.seconds}: between 1 and 3600 are possible")
    if args.workers is not None and args.workers < 1:
        raise UserError(f"--workers {args.workers}: at least 1")
    with interrupt.listening():
        lists = generate(Path(args.out), seed=args.seed, seconds=args.seconds, codec=args.codec,
                         workers=args.workers, progress=True, **counts)
    total = sum(len(names) for names in lists.values())
    say(f"synthetic recordings: {total} in {args.out}")
    return 0
