"""table: one table over runs, beside published numbers."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from evaluation.cells import Table
from evaluation.runs_table import runs_table
from evaluation.vital_table import vital_table
from utils.files import write_text
from utils.runlog import say


def table(args: argparse.Namespace) -> int:
    """Print the table as Markdown; with --out also CSV and LaTeX."""
    out = Path(args.out) if args.out else None
    print_table([Path(run) for run in args.runs], out, args.published, protocol=args.protocol)
    return 0


def print_table(
    runs: Sequence[Path], out: Path | None, every: bool = False, notes: Sequence[str] = (),
    protocol: str | None = None,
) -> None:
    """The table over `runs`, printed, and written to table.md, table.csv and table.tex in `out`.

    Where runs have vital signs, a table of them as well, in vital_signs.md and so on. every: all
    published rows of the test sets. notes: what else must stand under the table. protocol: one that
    `evaluate` scored the runs under, instead of their own.
    """
    made = runs_table(runs, every, protocol)
    made.notes[:0] = notes
    show(made, out, "table")
    signs = vital_table(runs)
    if signs:
        show(signs, out, "vital_signs")


def show(made: Table, out: Path | None, name: str) -> None:
    """Print a table; with `out` also write it there as <name>.md, .csv and .tex."""
    say(made.markdown() + "\n")
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    for kind, text in {"md": made.markdown() + "\n", "csv": made.csv(), "tex": made.latex()}.items():
        write_text(out / f"{name}.{kind}", text)
