"""The parts of a run's test recordings, each with its results, units and waveforms."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evaluation import figures
from evaluation.figures.agreement import Pairs
from evaluation.figures.style import markers
from evaluation.report.files import RunFiles, Units
from evaluation.waveforms import RecordingWaveform
from utils.files import digest

CONSTANT = "constant"


@dataclass(frozen=True)
class Part:
    """One list of test recordings with its results; units: all of its rows."""

    name: str
    is_main: bool
    result: Mapping[str, Any]
    units: Units
    waveforms: list[RecordingWaveform]
    protocol: Mapping[str, Any]
    tint: Mapping[str, str]
    mark: Mapping[str, str]

    @property
    def rows(self) -> dict[str, Mapping[str, Any]]:
        """Rows of the table by method, those with rates only."""
        return {row["method"]: row for row in self.result["rows"] if "mae_bpm" in row}

    @property
    def first(self) -> str:
        """The method of the first row: the trained net."""
        return next(iter(self.rows), "")

    def pairs(self, constant: bool = False) -> Pairs:
        """Method -> reference and predicted rates of its scored units, in the order of the table."""
        found = dict(self.units.scored.by("method"))
        return {name: (found[name].reference_bpm, found[name].predicted_bpm) for name in self.rows
                if name in found and (constant or name != CONSTANT)}

    def file(self, name: str) -> str:
        """File name of a figure: plain in the main part, with the part's name in the others."""
        safe = re.sub(r"[^A-Za-z0-9_-]+", "_", self.name)[:40]
        if safe != self.name:
            safe = f"{safe}_{digest(self.name)[:8]}"  # no two parts share their files
        return name if self.is_main else f"{safe}_{name}"

    def section(self, title: str) -> str:
        """The section a figure stands in: the others have one each."""
        return title if self.is_main else f"Part “{self.name}”"


def parts_of(run: RunFiles) -> list[Part]:
    """The main part first; colours and markers are the same in all."""
    others = run.metrics.get("parts", {})
    main = next((wave.part for wave in run.waveforms if wave.part not in others), "test")
    results = {main: run.metrics, **others}
    methods = list(dict.fromkeys(row["method"] for result in results.values() for row in result["rows"]))
    methods.sort(key=lambda name: name == CONSTANT)
    tint, mark = figures.colours(methods), markers(methods)
    return [
        Part(name, name == main, result, run.units.where(run.units.part == name),
             [wave for wave in run.waveforms if wave.part == name], run.metrics["protocol"], tint, mark)
        for name, result in results.items()
    ]
