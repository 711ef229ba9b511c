"""What an examination of a recording says: numbers by column, findings, and why a number is missing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Value = float | int | str | None


@dataclass(frozen=True)
class Finding:
    """Something suspicious. `flag`: its short name; `text`: a sentence with the numbers in it."""

    flag: str
    text: str
    is_fatal: bool = False
    """The recording cannot be used."""


@dataclass
class Part:
    """One examination's share of what is known of a recording."""

    values: dict[str, Value] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    """Why a value is None, by its column."""
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Worth knowing, but no fault."""

    def put(self, column: str, value: float | None, reason: str = "", digits: int = 4) -> None:
        """Keep a rounded number; None and what is not finite go in as None with their reason."""
        if value is None or not math.isfinite(value):
            self.values[column] = None
            self.reasons[column] = reason or "not a finite number"
        else:
            self.values[column] = value if isinstance(value, int) else round(float(value), digits)

    def flag(self, is_so: bool, name: str, text: str, is_fatal: bool = False) -> None:
        """Add a finding where `is_so`."""
        if is_so:
            self.findings.append(Finding(name, text, is_fatal))


def merged(parts: Iterable[Part]) -> Part:
    """All parts as one, in their order."""
    whole = Part()
    for part in parts:
        whole.values |= part.values
        whole.reasons |= part.reasons
        whole.findings += part.findings
        whole.notes += part.notes
    return whole


@dataclass(frozen=True)
class Signals:
    """A stored recording as the audit reads it: everything but the pictures, which are a sample.

    T frames, N label samples, M device rates; series that a set does not have are empty.
    """

    frame_time_s: Array
    """(T,)"""
    pulse: Array
    """(T,) the label at the frames, NaN where there is none."""
    box: Array
    """(T, 4) x, y, width, height in source pixels."""
    face_found: NDArray[np.bool_]
    """(T,)"""
    rgb: Array
    """(T, 3) mean colour of the face."""
    label: Array
    """(N,) as recorded, at `label_time_s` (N,)."""
    label_time_s: Array
    hr_bpm: Array
    """(M,) of the device, NaN where it gave none."""
    skin: Mapping[str, Array]
    """(T,) waveform of each classical method, on the uniform grid over the frames' span."""
    crops: NDArray[np.uint8]
    """(n, H, W, 3) RGB face crops spread evenly over the recording."""
    stated: Mapping[str, Any]
    """The attributes of the stored file."""
    warnings: tuple[str, ...] = ()
    """What was said while it was made."""
