"""Tables: the metrics of one run, and several runs beside published numbers."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from utils.files import read_json

MAX_DETECTION_ROWS = 60
SNR_NAMES = {"dehaan": "SNR de Haan [dB]", "toolbox": "SNR toolbox [dB]"}


_NUMERIC = re.compile(r"–|-?[\d.]+(–[\d.]+| of \d+)?")


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
               "–": "--", "≠": r"$\neq$", "±": r"$\pm$"}
    return "".join(special.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text)


def number(value: float | None, digits: int = 2) -> str:
    """A number with fixed digits; an en dash for what does not exist."""
    return "–" if value is None else f"{value:.{digits}f}"


def counted(n: int, noun: str) -> str:
    """"1 recording", "2 recordings"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def metrics_markdown(metrics: Mapping[str, Any]) -> str:
    """Every table of a metrics.json as one Markdown text."""
    return "\n\n".join(table.markdown() for table in metrics_tables(metrics))


def metrics_tables(metrics: Mapping[str, Any]) -> list[Table]:
    """The main table, then one for every further part."""
    protocol = metrics["protocol"]
    parts = {"test": metrics, **metrics.get("parts", {})}
    tables = [part_table(name, part, protocol) for name, part in parts.items()]
    tables[0].notes.extend(_split_notes(metrics.get("split", {})))
    return tables


def _split_notes(split: Mapping[str, Any]) -> list[str]:
    """What the split means for the numbers: leaks, and recordings left out."""
    notes = []
    if split.get("leaks"):
        notes.append("LEAKS: split by recording, and people of the test part were also trained on")
    for kind in ("missing_in_training", "excluded", "unused"):
        names = split.get(kind, [])
        if names:
            more = f" and {len(names) - 10} more" if len(names) > 10 else ""
            notes.append(f"{kind.replace('_', ' ')}: {', '.join(names[:10])}{more}")
    return notes


def part_table(name: str, part: Mapping[str, Any], protocol: Mapping[str, Any]) -> Table:
    """The rows of one part: agreement of rates, or detections where there is no reference."""
    if part.get("kind") == "detection":
        return _detection_table(name, part)
    digits = {"mae_bpm": 2, "rmse_bpm": 2, "me_bpm": 2, "sd_bpm": 2, "mape_percent": 2, "pearson_r": 3,
              "snr_db": 2, "macc": 3}
    columns = ["method", "MAE [bpm]", "95 % CI", "RMSE", "ME", "SD", "MAPE [%]", "r",
               SNR_NAMES.get(protocol["snr"], "SNR [dB]"), "MACC", "n of N"]
    rows = []
    for row in part["rows"]:
        cells = {key: number(row[key], places) for key, places in digits.items()}
        low_high = (row["ci95"] or {}).get("mae_bpm")
        interval = "–" if low_high is None else f"{low_high[0]:.2f}–{low_high[1]:.2f}"
        rows.append([
            row["method"], cells["mae_bpm"], interval, cells["rmse_bpm"], cells["me_bpm"], cells["sd_bpm"],
            cells["mape_percent"], cells["pearson_r"], cells["snr_db"], cells["macc"],
            f"{row['n']} of {expected_units(part, protocol)}",
        ])
    return Table(_title(name, protocol), columns, rows, _notes(part, protocol))


def expected_units(part: Mapping[str, Any], protocol: Mapping[str, Any]) -> int:
    """How many units the part should have; a missing recording counts as one where it is the unit."""
    header = part["test"]
    return int(header["n_windows"]) + (int(header["n_missing"]) if protocol["window_s"] is None else 0)


def _title(name: str, protocol: Mapping[str, Any]) -> str:
    unit = "whole recordings" if protocol["window_s"] is None else f"windows of {protocol['window_s']:g} s"
    return f"{name}: heart rate, protocol {protocol['name']}, {unit}"


def _notes(part: Mapping[str, Any], protocol: Mapping[str, Any]) -> list[str]:
    """What a reader must know to judge the table."""
    header = part["test"]
    nouns = {"n_subjects": "subject", "n_recordings": "recording", "n_windows": "scored unit"}
    counts = ", ".join(counted(header[key], noun) for key, noun in nouns.items())
    notes = [f"{counts}, {counted(header['n_missing'], 'recording')} missing"]
    if header.get("origins"):
        notes.append(f"{', '.join(header['origins'])} recordings in the layout of a dataset, not the dataset")
    notes += [f"missing: {key} ({reason})" for key, reason in header["missing_reasons"].items()][:20]
    if header["n_missing"] > 20:
        notes.append(f"and {header['n_missing'] - 20} more missing, see metrics.json")
    if header["n_unlabelled_windows"]:
        notes.append(f"{counted(header['n_unlabelled_windows'], 'window')} without a label, not scored")
    if protocol["peak"] == "argmax" and header["bin_bpm"]:
        notes.append(f"rates fall on spectral bins of up to {header['bin_bpm']:.2f} bpm: an error of 0 means "
                     "the same bin, no more")
    for row in part["rows"]:
        if row["n_failed"]:
            notes.append(f"{row['method']} failed on {row['n_failed']}: {'; '.join(row['failed'][:3])}")
    why = {row["reasons"]["ci95"] for row in part["rows"] if "ci95" in row["reasons"]}
    notes += [f"no confidence interval: {reason}" for reason in sorted(why)]
    if any(row["ci95"] for row in part["rows"]):
        notes.append(f"95 % CI of the MAE: {protocol['bootstrap']} bootstrap draws of subjects")
    if any(row["method"] == "constant" for row in part["rows"]):
        notes.append(f"constant: the training part's mean rate, {protocol['constant_bpm']:.1f} bpm, always")
    return notes


def _detection_table(name: str, part: Mapping[str, Any]) -> Table:
    columns = ["method", "recording", "pulse found", "SNR [dB]", "noise 95 % [dB]", "p"]
    rows = [
        [row["method"], row["recording"], "yes" if row["found"] else "no", number(row["snr_db"]),
         number(row["surrogate_snr_db_95"]), number(row["p_value"], 3)]
        for row in part["rows"]
    ]
    notes = ["no reference here: found means that a periodic signal, a pulse or a disturbance, stands out of "
             "noise of the same colour (p < 0.01)"]
    methods = list(dict.fromkeys(row["method"] for row in part["rows"]))
    for method in methods:
        mine = [row for row in part["rows"] if row["method"] == method]
        notes.append(f"{method}: found in {sum(row['found'] for row in mine)} of {len(mine)}")
    notes += [f"missing: {key} ({why})" for key, why in part["test"]["missing_reasons"].items()][:20]
    if len(rows) > MAX_DETECTION_ROWS:
        notes.append(f"{len(rows) - MAX_DETECTION_ROWS} more rows in metrics.json")
    return Table(f"{name}: is there a pulse", columns, rows[:MAX_DETECTION_ROWS], notes)


def runs_table(runs: Sequence[Path]) -> Table:
    """Every row of every run's test part, beside what was published for those datasets.

    Each run folder needs metrics.json; split.json tells the training sets. UserError names what is
    missing or damaged. Published cells are marked: ≠n another number of recordings, n? a number that
    is not stated, ≠p another protocol than a preset of this project, or one that is not public, ≠d
    recordings that only have the layout of the dataset.
    """
    published = read_json(Path(__file__).with_name("published.json"))
    columns = ["run", "method", "trained on", "tested on", "protocol", "MAE [bpm]", "95 % CI", "RMSE", "r",
               "n of N", "published MAE/RMSE/r"]
    rows: list[list[str]] = []
    cited: list[str] = []
    for run in runs:
        metrics = read_json(run / "metrics.json")
        trained, tested = _datasets(run, metrics)
        for row in metrics["rows"]:
            if "mae_bpm" not in row:
                continue
            trainable = row["method"] == _net(run)
            found = _matching(published, row["method"], trained if trainable else [], tested)
            limits = (row["ci95"] or {}).get("mae_bpm")
            rows.append([
                _run_name(run, metrics), row["method"], ", ".join(trained) if trainable else "–",
                ", ".join([*tested, *metrics["test"].get("origins", [])]),
                _protocol_name(metrics["protocol"]), number(row["mae_bpm"]),
                "–" if limits is None else f"{limits[0]:.2f}–{limits[1]:.2f}", number(row["rmse_bpm"]),
                number(row["pearson_r"], 3), f"{row['n']} of {expected_units(metrics, metrics['protocol'])}",
                "; ".join(_cite(entry, metrics, published, cited) for entry in found) or "–",
            ])
    return Table("Runs beside published numbers", columns, rows, _published_notes(published, cited))


def _run_name(run: Path, metrics: Mapping[str, Any]) -> str:
    """The run's name, marked where people of the test part were also trained on."""
    return run.resolve().name + (" (LEAKS)" if metrics.get("split", {}).get("leaks") else "")


def _datasets(run: Path, metrics: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Datasets of the training part (empty where no split is stored) and of the test part."""
    split = read_json(run / "split.json") if (run / "split.json").exists() else {}
    recordings = split.get("parts", {}).get("train", {}).get("recordings", [])
    return sorted({key.partition(".")[0] for key in recordings}), list(metrics["test"].get("datasets", []))


def _net(run: Path) -> str:
    """Name of the run's trained net; empty for a folder without params."""
    params = read_json(run / "params.json") if (run / "params.json").exists() else {}
    return str(params.get("net", {}).get("name", ""))


def _protocol_name(protocol: Mapping[str, Any]) -> str:
    window = protocol["window_s"]
    return str(protocol["name"]) + ("" if window is None else f", {window:g} s")


def _matching(
    published: Mapping[str, Any], method: str, trained: Sequence[str], tested: Sequence[str]
) -> list[dict[str, Any]]:
    """Published rows of the method on the same single dataset, trained on the same one or untrained."""
    known = published["datasets"]
    test = {known.get(name) for name in tested}
    train = {known.get(name) for name in trained} or {None}
    return [entry for entry in published["rows"]
            if entry["method"] == method and test == {entry["test"]} and train == {entry["train"]}]


def _cite(
    entry: Mapping[str, Any], metrics: Mapping[str, Any], published: Mapping[str, Any], cited: list[str]
) -> str:
    """One published number with its marks and the number of its note; the source is added to `cited`."""
    if entry["source"] not in cited:
        cited.append(entry["source"])
    marks = []
    if entry["n"] is None:
        marks.append("n?")
    elif entry["n"] != metrics["test"]["n_recordings"]:
        marks.append("≠n")
    preset = published["sources"][entry["source"]]["preset"]
    if preset is None or preset != metrics["protocol"]["name"] or metrics["protocol"]["window_s"] is not None:
        marks.append("≠p")
    if metrics["test"].get("origins"):
        marks.append("≠d")
    values = "/".join([number(entry["mae_bpm"]), number(entry["rmse_bpm"]), number(entry["pearson_r"])])
    return " ".join([values, f"[{cited.index(entry['source']) + 1}]", *marks])


def _published_notes(published: Mapping[str, Any], cited: Sequence[str]) -> list[str]:
    """Where each published number was printed, and how it must be read."""
    if not cited:
        return ["no published number is known here for these methods and datasets"]
    notes = ["published numbers were made by other code and, where marked, are not comparable: "
             "≠n other number of recordings, n? not stated, ≠p other protocol, "
             "≠d other data: recordings that only have the layout of the dataset"]
    for place, name in enumerate(cited, 1):
        source = published["sources"][name]
        notes.append(f"[{place}] {source['source']}: {source['origin']}; {source['protocol']}")
    extra = [entry["note"] for entry in published["rows"] if entry["source"] in cited and "note" in entry]
    return notes + extra
