"""The audit as files: a table for the terminal, CSV, JSON, and a page that needs nothing but itself."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2

from evaluation.audit import drawing
from evaluation.audit.examine import VERDICTS, Audited
from utils.files import natural_key, write_json, write_text

MOST_DETAILS, GOOD_DETAILS = 60, 6
"""Recordings with pictures on the page: the worst, and a few good ones to compare."""
TERMINAL_ROWS = 30
_TERMINAL = (("fps", "fps", "{:.2f}"), ("video_s", "s", "{:.1f}"), ("face_share", "face", "{:.0%}"),
             ("rate_bpm", "label bpm", "{:.1f}"), ("device_bpm", "device", "{:.1f}"),
             ("lag_ms", "lag ms", "{:+.0f}"), ("lag_r", "r", "{:.2f}"))
_SHOWN = (
    ("recording", "recording", 0), ("subject", "subject", 0),
    ("verdict", "verdict", 0), ("flags", "flags", 0),
    ("lag_ms", "lag ms", 0), ("lag_r", "r", 2), ("polarity", "polarity", 0), ("drift_ms", "drift ms", 0),
    ("rate_bpm", "label bpm", 1), ("skin_bpm", "skin bpm", 1), ("device_bpm", "device bpm", 1),
    ("fps", "fps", 2), ("gap_sd_ms", "gap sd ms", 1), ("longest_gap_ms", "longest gap ms", 0),
    ("video_s", "video s", 1), ("label_minus_video_s", "label − video s", 2), ("label_kind", "label", 0),
    ("label_rate_hz", "label Hz", 1), ("flat_s", "flat s", 1), ("face_share", "face", 2),
    ("box_tremble", "tremble", 4), ("brightness", "brightness", 0), ("saturated_share", "saturated", 2),
)


@dataclass(frozen=True)
class Detail:
    """One recording's pictures for the page."""

    key: str
    thumbnails: list[str] = field(default_factory=list)
    plots: list[drawing.Plot] = field(default_factory=list)
    hidden: bool = False
    """The person asked not to be shown."""


def worst_first(audited: Sequence[Audited]) -> list[Audited]:
    """Unusable before suspicious before good ones, those with more flags first, then by name."""
    return sorted(audited, key=lambda item: (
        VERDICTS.index(item.verdict), -len(item.flags), natural_key(item.key)))


def chosen_for_details(audited: Sequence[Audited]) -> list[str]:
    """Keys of the recordings that get pictures: flagged ones, the worst first, and a spread of good ones."""
    made = [item for item in worst_first(audited) if "failed" not in item.flags]
    flagged = [item.key for item in made if item.verdict != "ok"][:MOST_DETAILS]
    good = [item.key for item in made if item.verdict == "ok"]
    step = max(1, len(good) // GOOD_DETAILS)
    return flagged + good[::step][:GOOD_DETAILS]


def summary(audited: Sequence[Audited]) -> dict[str, Any]:
    """Counts of verdicts and flags."""
    verdicts = Counter(item.verdict for item in audited)
    flags = Counter(flag for item in audited for flag in item.flags)
    subjects = {(item.dataset, item.subject) for item in audited}
    return {
        "n_recordings": len(audited), "n_subjects": len(subjects),
        **{f"n_{verdict}": verdicts[verdict] for verdict in reversed(VERDICTS)},
        "flags": dict(sorted(flags.items(), key=lambda pair: (-pair[1], pair[0]))),
    }


def terminal_table(audited: Sequence[Audited]) -> str:
    """The worst recordings as aligned text, a count of the rest, and a count of each flag."""
    ordered = worst_first(audited)
    rows = [["verdict", "recording", *(title for _, title, _ in _TERMINAL), "flags"]]
    for item in ordered[:TERMINAL_ROWS]:
        cells = [_cell(item.part.values.get(column), form) for column, _, form in _TERMINAL]
        rows.append([item.verdict, item.key, *cells, " ".join(item.flags)])
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = ["  ".join(_aligned(row, widths)).rstrip() for row in rows]
    left = Counter(item.verdict for item in ordered[TERMINAL_ROWS:])
    if left:
        counted = ", ".join(f"{left[verdict]} {verdict}" for verdict in VERDICTS if left[verdict])
        lines.append(f"... and {sum(left.values())} more ({counted})")
    counts = summary(audited)
    lines.append(f"{counts['n_recordings']} recordings of {counts['n_subjects']} subjects: "
                 f"{counts['n_ok']} ok, {counts['n_suspicious']} suspicious, {counts['n_unusable']} unusable")
    if counts["flags"]:
        lines.append("flags: " + ", ".join(f"{name} {n}" for name, n in counts["flags"].items()))
    return "\n".join(lines)


def _cell(value: Any, form: str) -> str:
    return "-" if value is None else _no_minus_zero(form.format(value))


def _no_minus_zero(text: str) -> str:
    """A rounded number without the sign of what was rounded away."""
    return text.lstrip("-+") if not text.strip("-+0.") else text


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Names to the left, numbers to the right."""
    return [
        cell.ljust(width) if place < 2 or place == len(row) - 1 else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]


def csv_text(audited: Sequence[Audited]) -> str:
    """Every column of every recording; empty where a number could not be computed."""
    rows = [item.row() for item in worst_first(audited)]
    last = ("notes",)
    columns = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in last]
    out = io.StringIO()
    writer = csv.DictWriter(out, [*columns, *last], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: "" if value is None else value for name, value in row.items()} for row in rows)
    return out.getvalue()


def as_json(audited: Sequence[Audited], left_out: Mapping[str, str]) -> dict[str, Any]:
    """Everything, with the reason of every missing number."""
    return {
        "summary": summary(audited),
        "recordings": [{
            "recording": item.key, "subject": item.subject, "verdict": item.verdict, "flags": item.flags,
            "findings": [{"flag": finding.flag, "text": finding.text, "fatal": finding.is_fatal}
                         for finding in item.part.findings],
            "values": item.part.values, "reasons": item.part.reasons, "notes": item.part.notes,
        } for item in worst_first(audited)],
        "left_out": dict(left_out),
    }


def write_audit(
    folder: Path, audited: Sequence[Audited], details: Sequence[Detail], left_out: Mapping[str, str]
) -> None:
    """Write audit.csv, audit.json and audit.html into `folder`.

    left_out: recordings that the params leave out, with the reason.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "audit.csv", csv_text(audited))
    write_json(folder / "audit.json", as_json(audited, left_out))
    write_text(folder / "audit.html", html(audited, details, left_out))


def html(audited: Sequence[Audited], details: Sequence[Detail], left_out: Mapping[str, str]) -> str:
    """The page."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    known = {item.key: item for item in audited}
    return environment.get_template("page.html.j2").render(
        summary=summary(audited), left_out=left_out, columns=[title for _, title, _ in _SHOWN],
        rows=[[_shown(item.row().get(name), digits) for name, _, digits in _SHOWN]
              for item in worst_first(audited)],
        details=[(known[detail.key], detail) for detail in details],
        failed=[item for item in worst_first(audited) if "failed" in item.flags],
        width=drawing.WIDTH, height=drawing.HEIGHT, datasets=sorted({item.dataset for item in audited}),
    )


def _shown(value: Any, digits: int) -> str:
    """A cell of the page: numbers with as many digits as they are worth."""
    if value is None:
        return "–"
    return _no_minus_zero(f"{value:.{digits}f}") if isinstance(value, float) else str(value)
