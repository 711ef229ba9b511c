"""synthesise: write the demonstration data, larger sets of it, or a small copy of any dataset's layout."""

from __future__ import annotations

import argparse
from pathlib import Path

from preprocessing.synthetic import generate, layouts
from preprocessing.synthetic.layouts import Truth
from utils import interrupt
from utils.errors import UserError
from utils.runlog import say

_COUNTS = {"train": 16, "valid": 4, "test": 8, "hard": 6, "control": 2}
_SECONDS = {"demonstration": 15.0, "layout": 10.0}
_ONLY_DEMONSTRATION = (*_COUNTS, "codec", "workers")
_ONLY_LAYOUT = ("people", "defects")


def synthesise(args: argparse.Namespace) -> int:
    """Write the recordings that are missing in DIR (complete ones are kept), or a layout into a new DIR."""
    unwanted = _ONLY_DEMONSTRATION if args.layout else _ONLY_LAYOUT
    given = [f"--{name}" for name in unwanted if getattr(args, name) is not None]
    given += ["--gap"] if args.gap and args.layout else []
    given += ["--flicker"] if args.flicker != 1 and args.layout else []
    if given:
        word = "does not go with" if args.layout else "needs"
        raise UserError(f"{', '.join(given)}: {word} --layout")
    usual = _SECONDS["layout" if args.layout else "demonstration"]
    seconds = usual if args.seconds is None else args.seconds
    return _write_layout(args, seconds) if args.layout else _write_demonstration(args, seconds)


def _write_demonstration(args: argparse.Namespace, seconds: float) -> int:
    given = {part: getattr(args, part) for part in _COUNTS}
    counts = {part: usual if given[part] is None else given[part] for part, usual in _COUNTS.items()}
    for name, value in {**counts, "seed": args.seed}.items():
        if value < 0:
            raise UserError(f"--{name} {value}: must not be negative")
    if not any(counts.values()):
        raise UserError(f"nothing to make: every part is 0; give one of --{', --'.join(_COUNTS)} people")
    if not 1 <= seconds <= 3600:
        raise UserError(f"--seconds {seconds}: between 1 and 3600 are possible")
    if args.workers is not None and args.workers < 1:
        raise UserError(f"--workers {args.workers}: at least 1")
    with interrupt.listening():
        lists = generate(Path(args.out), seed=args.seed, seconds=seconds, codec=args.codec or "mjpeg",
                         workers=args.workers, progress=True, gap=args.gap,
                         flicker=args.flicker, **counts)
    total = sum(len(names) for names in lists.values())
    say(f"synthetic recordings: {total} in {args.out}")
    return 0


def _write_layout(args: argparse.Namespace, seconds: float) -> int:
    try:
        layout = layouts.build(args.layout)
    except KeyError as error:
        raise UserError(f"--layout: {error.args[0]}") from None
    people = 2 if args.people is None else args.people
    truths = layout.write(Path(args.out), people, seconds, args.seed, args.defects or ())
    for truth in truths:
        say(_line(truth))
    say(f"{len(truths)} synthetic recordings in {args.out}: {layout.description}")
    return 0


def _line(truth: Truth) -> str:
    """What was made of one recording, and what was planted in it."""
    planted = f"; planted: {truth.defect}" if truth.defect else ""
    lag = f"; label {1000 * truth.lag_s:+.0f} ms" if truth.lag_s else ""
    unusable = "; must fail" if not truth.usable else ""
    return (f"{truth.recording}: subject {truth.subject}, {truth.rate_bpm:.1f} bpm, {truth.n_frames} frames "
            f"at {truth.fps:.2f} fps{planted}{lag}{unusable}")
