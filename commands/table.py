"""table: one table over runs, beside published numbers."""

from __future__ import annotations

import argparse
from pathlib import Path

from evaluation.table import runs_table
from utils.errors import UserError
from utils.files import write_text
from utils.runlog import say


def table(args: argparse.Namespace) -> int:
    """Print the table as Markdown; with --out also CSV and LaTeX."""
    runs = [Path(run) for run in args.runs]
    for run in runs:
        if not (run / "metrics.json").exists():
            raise UserError(f"{run}: no metrics.json; finish the run first")
    made = runs_table(runs)
    say(made.markdown())
    if args.out:
        out = Path(args.out)
        out.mkdir(parents=True, exist_ok=True)
        for name, text in {"table.md": made.markdown(), "table.csv": made.csv(),
                           "table.tex": made.latex()}.items():
            write_text(out / name, text)
    return 0
