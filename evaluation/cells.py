"""A table of text cells, as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

_NUMERIC = re.compile(r"–|-?[\d.]+(–[\d.]+| of \d+| ± ([\d.]+|–))?")


@dataclass
class Table:
    """Text cells with a title above and notes below; numbers are right-aligned."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        """Aligned Markdown, which also reads well in a terminal."""
        cells = [[text.replace("|", "\\|") for text in row] for row in [self.columns, *self.rows]]
        widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(self.columns))]
        right = [self.is_numeric(i) for i in range(len(self.columns))]

        def line(row: Sequence[str]) -> str:
            padded = (t.rjust(w) if r else t.ljust(w) for t, w, r in zip(row, widths, right, strict=True))
            return f"| {' | '.join(padded)} |"

        rule = [("-" * (w - 1) + ":") if r else "-" * w for w, r in zip(widths, right, strict=True)]
        body = [line(cells[0]), line(rule), *(line(row) for row in cells[1:])]
        notes = ["", *(f"- {note}" for note in self.notes)] if self.notes else []
        return "\n".join([f"## {self.title}", "", *body, *notes])

    def csv(self) -> str:
        """Comma-separated values, the header first; notes are left out."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.columns, *self.rows])
        return text.getvalue()

    def latex(self) -> str:
        """A tabular with booktabs rules; the notes become a comment."""
        align = "".join("r" if self.is_numeric(i) else "l" for i in range(len(self.columns)))
        lines = [" & ".join(_latex(cell) for cell in row) + r" \\" for row in [self.columns, *self.rows]]
        comments = [f"% {note}" for note in [self.title, *self.notes]]
        return "\n".join([
            *comments, rf"\begin{{tabular}}{{{align}}}", r"\toprule", lines[0], r"\midrule", *lines[1:],
            r"\bottomrule", r"\end{tabular}", "",
        ])

    def is_numeric(self, column: int) -> bool:
        """Whether the column holds numbers, intervals and counts only."""
        return bool(self.rows) and all(_NUMERIC.fullmatch(row[column]) for row in self.rows)


def _latex(text: str) -> str:
    """`text` with LaTeX's special characters escaped."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
               "–": "--", "≠": r"$\neq$", "±": r"$\pm$", "†": r"\dag{}"}
    return "".join(special.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text)


def number(value: float | None, digits: int = 2) -> str:
    """A number with fixed digits; an en dash for what does not exist."""
    return "–" if value is None else f"{value:.{digits}f}"


def counted(n: int, noun: str) -> str:
    """"1 recording", "2 recordings"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
