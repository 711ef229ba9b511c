"""camera.jsonl and summary.json: what a session leaves behind."""

from __future__ import annotations

import json
from array import array
from pathlib import Path
from typing import Any

import numpy as np

from commands.live.estimates import Estimate
from utils.errors import UserError
from utils.files import write_json

RELIABLE = 0.3
"""Quality below which there may be no pulse at all; such estimates give the summary no heart rate."""


class Journal:
    """Writes each estimate as a line the moment it is made.

    A line holds only the samples of the waveform that no line before it held, so that all lines together
    hold the waveform of the session; each sample is that of the window in which it was newest.
    """

    def __init__(self, folder: Path) -> None:
        """UserError when the folder already holds a session: it could not be made again."""
        self.folder, self._path = folder, folder / "camera.jsonl"
        for name in ("camera.jsonl", "summary.json"):
            if (folder / name).exists():
                raise UserError(f"{folder / name}: there is a session already; choose another --out")
        self._written_s = -np.inf
        self._rates, self._qualities, self._snrs = array("d"), array("d"), array("d")

    def write(self, made: Estimate, **facts: Any) -> None:
        """Append a line: the estimate and further facts."""
        new = [(t, v) for t, v in zip(made.pulse_time_s, made.pulse, strict=True) if t > self._written_s]
        line = made.as_dict() | {"pulse_time_s": [t for t, _ in new], "pulse": [v for _, v in new]} | facts
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self._path, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(line, allow_nan=False) + "\n")
        self._written_s = made.pulse_time_s[-1]
        rate = made.heart_rate_bpm
        self._rates.append(rate if rate is not None and made.quality >= RELIABLE else np.nan)
        self._qualities.append(made.quality)
        self._snrs.append(np.nan if made.snr_db is None else made.snr_db)

    def finish(self, facts: dict[str, Any], warnings: list[str]) -> dict[str, Any]:
        """Write summary.json, with the keys of predict's: medians over the estimates; returns it."""
        rate, quality = _median(self._rates), _median(self._qualities)
        n_reliable = int(np.isfinite(np.asarray(self._rates)).sum())
        if not len(self._rates):
            warnings = [*warnings, "no heart rate: no window was full enough for an estimate"]
        elif rate is None:
            warnings = [*warnings, f"no heart rate: no estimate reached a quality of {RELIABLE}"]
        summary = {
            "video": facts.pop("video"), "heart_rate_bpm": rate, "quality": quality or 0.0,
            "snr_db": _median(self._snrs), **facts, "n_estimates": len(self._rates),
            "n_estimates_reliable": n_reliable, "warnings": warnings,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "summary.json", summary)
        return summary


def _median(values: array[float]) -> float | None:
    """Of the finite values; None where there is none."""
    known = np.asarray(values)[np.isfinite(values)]
    return float(np.median(known)) if len(known) else None
