"""Results of runs beside what was published for the same method, training and test set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from evaluation import published
from evaluation.aggregate import Result, results
from evaluation.cells import Table, number
from evaluation.presets import shown_name
from evaluation.published import Entry, Facts
from evaluation.verdict import MARKS, Verdict, judge

COLUMNS = ("tested on", "method", "trained on", "result of", "protocol", "n of N", "MAE [bpm]", "95 % CI",
           "RMSE", "SD", "r", "verdict")
DIGITS = {"mae_bpm": 2, "rmse_bpm": 2, "sd_bpm": 2, "pearson_r": 3}
TOLERANCES = (
    "within: the MAE differs by at most 0.5 bpm where nothing is trained, else by at most 1 bpm or 25 %; "
    "loose: the RMSE by at most 10 %. Recordings, protocol and data are then the same; the face box and the "
    "recipe of the training are not looked at"
)
COUNTS = (
    "n of N: units scored of those there were, which are recordings, windows or frames, as the protocol has "
    "it; in published rows recordings"
)


def runs_table(runs: Sequence[Path], every: bool = False, protocol: str | None = None) -> Table:
    """Every row of every run's test part, each followed by what was published for it, with a verdict.

    Runs that differ only in seed, fold and name share rows (`aggregate.results`). Below them stand the
    rivals: other methods for the same training and test sets as their own authors print them; with
    `every` all published rows of the test sets. protocol: one that the runs were scored under by
    `evaluate`, instead of their own. UserError for a folder that is not a finished run.
    """
    facts, ours = published.load(), results(runs, protocol)
    table = _Builder(facts)
    for tested in dict.fromkeys(result.tested for result in ours):
        mine = [result for result in ours if result.tested == tested]
        for result in mine:
            table.add_result(result)
        for entry in _rivals(facts, mine, every):
            table.add_published(entry, "–")
    return Table("Runs beside published numbers", list(COLUMNS), table.rows, table.notes(ours))


def _rivals(facts: Facts, mine: Sequence[Result], every: bool) -> list[Entry]:
    """Published rows of the test set that stand beside none of our rows."""
    beside = {id(entry) for result in mine for entry in facts.of(result.names, result.trained, result.tested)}
    others = [entry for entry in facts.on(mine[0].tested) if id(entry) not in beside]
    trained = {result.trained[0] for result in mine if len(result.trained) == 1}
    if not every:  # what each method's own authors print
        others = [entry for entry in others if entry.origin == "own" and entry.train in trained]
    return sorted(others, key=lambda entry: (entry.train or "", entry.values.get("mae_bpm", float("inf"))))


class _Builder:
    """Collects rows; sources are numbered in the order in which they are first cited."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.rows: list[list[str]] = []
        self.cited: list[str] = []
        self.marks: set[str] = set()
        self.flagged: dict[str, None] = {}

    def add_result(self, result: Result) -> None:
        """One row of ours and the published rows beside it; a mean of folds stands below the row over all."""
        beside = [] if result.is_mean else self.facts.of(result.names, result.trained, result.tested)
        verdicts = [judge(entry, result, self.facts) for entry in beside]
        low_high = "–" if result.interval is None else f"{result.interval[0]:.2f}–{result.interval[1]:.2f}"
        where = ", ".join([*result.tested, *result.origins]) or "–"
        self.rows.append([
            where, result.method, ", ".join([*result.trained, *result.train_origins]) or "–",
            result.label + (" (LEAKS)" if result.leaks else ""), protocol_name(result),
            f"{result.n} of {result.expected}", _spread(result, "mae_bpm"), low_high,
            *(_spread(result, name) for name in ("rmse_bpm", "sd_bpm", "pearson_r")), _summary(verdicts),
        ])
        for entry, verdict in zip(beside, verdicts, strict=True):
            self.add_published(entry, str(verdict))
            self.marks.update(verdict.marks)

    def add_published(self, entry: Entry, verdict: str) -> None:
        """One published row; its source gets a number."""
        if entry.source not in self.cited:
            self.cited.append(entry.source)
        n = self.facts.n_recordings(entry)
        cells = [number(entry.values.get(name), digits) for name, digits in DIGITS.items()]
        place = self.cited.index(entry.source) + 1
        flagged = " †" if entry.flags else ""
        for word, why in entry.flags.items():
            self.flagged[f"† {entry.name} [{place}], {word}: {why}"] = None
        self.rows.append([
            entry.test, entry.name, entry.train or "–",
            f"[{place}] {entry.origin.replace('_', ' ')}{flagged}",
            self.facts.preset(entry) or "other", "–" if n is None else str(n),
            cells[0], "–", *cells[1:], verdict,
        ])

    def notes(self, ours: Sequence[Result]) -> list[str]:
        """How to read the table, where each number was printed, and what is missing."""
        notes = list(dict.fromkeys(note for result in ours for note in result.notes))
        if any(result.spread for result in ours):
            notes.append("±: SD over seeds, or over folds where the row is a mean of folds; n - 1 in the "
                         "denominator")
        if not self.cited:
            return [*notes, "no published number is known here for these methods and datasets"]
        notes += [TOLERANCES, COUNTS]
        notes += [f"{mark}: {text}" for mark, text in MARKS.items() if mark in self.marks]
        for place, name in enumerate(self.cited, 1):
            source = self.facts.sources[name]
            notes.append(f"[{place}] {source['label']}; {source['seen']}")
        return notes + list(self.flagged)


def _spread(result: Result, name: str) -> str:
    """A value, with its SD where the row is a mean."""
    digits, spread = DIGITS[name], result.spread.get(name)
    text = number(result.values[name], digits)
    return text if spread is None else f"{text} ± {number(spread, digits)}"


def _summary(verdicts: Sequence[Verdict]) -> str:
    """How many published rows agree, disagree and cannot be compared."""
    counts = Counter(verdict.word for verdict in verdicts)
    return ", ".join(f"{n} {word}" for word, n in sorted(counts.items(), reverse=True)) or "–"


def protocol_name(result: Result) -> str:
    """The protocol, with the window where it scores windows."""
    window = result.protocol["window_s"]
    return shown_name(result.protocol) + ("" if window is None else f", {window:g} s")
