"""Recordings that are one: the same frames, or the same label, under two names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.audit.findings import Array, Finding, Signals
from evaluation.audit.pictures import appearance
from utils.signal import fill_gaps

ALIKE_BITS = 12
"""Of 64, in the median over the sampled crops: what the same face under the same light keeps to."""
SAME_COURSE = 0.8
"""Correlation of the frame-to-frame changes of colour: copies above .9, two takes of a person below .7."""
LONGEST_SHIFT_S, LEAST_OVERLAP_S = 10.0, 4.0
MOST_CHANGES = 4096
LABEL_HEAD = 512
"""Samples at the beginning that two labels must share: no sensor gives the same noise twice."""
OUTLIER = 4.0


@dataclass(frozen=True)
class Fingerprint:
    """What is kept of a recording to find its twins; some 20 kB."""

    person: tuple[str, str]
    """Whose numbering, and who."""
    frames: str
    """Digest of the frames' mean colours, bit for bit."""
    looks: NDArray[np.uint64]
    """(n,) hashes of the sampled crops."""
    changes: NDArray[np.float32]
    """(t,) changes of the green value from frame to frame, outliers cut, unit variance."""
    fps: float
    label: str
    """Digest of the label's beginning; empty without a label."""


def fingerprint(signals: Signals, person: tuple[str, str], fps: float) -> Fingerprint:
    """The fingerprint of a recording."""
    rgb = signals.rgb
    green = np.diff(np.nan_to_num(fill_gaps(rgb[: MOST_CHANGES + 1, 1])))
    scale = 1.4826 * float(np.median(np.abs(green - np.median(green)))) or float(green.std()) or 1.0
    changes = np.clip((green - np.median(green)) / scale, -OUTLIER, OUTLIER)
    head = signals.label[:LABEL_HEAD]
    has_label = len(head) >= min(LABEL_HEAD, 64) and np.ptp(head) > 0
    return Fingerprint(
        person, _digest(rgb), appearance(signals.crops), changes.astype(np.float32), fps,
        _digest(head.astype(np.float32)) if has_label else "",
    )


def _digest(values: Array | NDArray[np.float32]) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def find_twins(known: Mapping[str, Fingerprint]) -> dict[str, list[Finding]]:
    """Findings by recording: who shares frames with whom, and who has another person's label.

    Frames are the same when the pictures look alike and their colours change alike from frame to
    frame, shifted by up to ten seconds. Labels that one person's recordings share (several cameras at
    once) are no finding.
    """
    found: dict[str, list[Finding]] = {}
    for one, other, how in _pairs(known):
        is_same_person = known[one].person == known[other].person
        for key, twin in ((one, other), (other, one)):
            text = f"{how} frames as {twin}"
            if not is_same_person:
                text += f" (subject {known[twin].person[1]}): must not be in different parts"
            found.setdefault(key, []).append(Finding("twin", text))
    for key, twins in _shared_labels(known).items():
        shown = ", ".join(twins[:3]) + (f" and {len(twins) - 3} more" if len(twins) > 3 else "")
        found.setdefault(key, []).append(Finding(
            "label_twin", f"the same label as {shown}, another subject's: one of them has the wrong label"))
    return found


def _pairs(known: Mapping[str, Fingerprint]) -> Iterator[tuple[str, str, str]]:
    """Every pair with the same frames, and how much the same."""
    keys = list(known)
    if not keys:
        return
    most = max(len(known[key].looks) for key in keys)
    looks = np.stack([np.resize(known[key].looks, most) for key in keys])
    for i, key in enumerate(keys[:-1]):
        differ = np.median(np.bitwise_count(looks[i + 1 :] ^ looks[i]), axis=1)
        for j in np.flatnonzero(differ <= ALIKE_BITS) + i + 1:
            other = keys[int(j)]
            if known[key].frames == known[other].frames:
                yield key, other, "identical"
            elif alike(known[key], known[other]) >= SAME_COURSE:
                yield key, other, "nearly the same"


def alike(one: Fingerprint, other: Fingerprint) -> float:
    """Highest correlation of the changes of two recordings, one shifted by up to ten seconds."""
    fps = one.fps
    a, b = one.changes.astype(np.float64), other.changes.astype(np.float64)
    least = int(min(len(a), len(b), max(LEAST_OVERLAP_S * fps, min(len(a), len(b)) / 2)))
    if least < LEAST_OVERLAP_S * fps:
        return 0.0
    n_fft = 1 << int(len(a) + len(b) - 1).bit_length()
    cross = np.fft.irfft(np.fft.rfft(a, n_fft) * np.conj(np.fft.rfft(b, n_fft)), n_fft)
    reach = min(int(LONGEST_SHIFT_S * fps), len(a) - least, len(b) - least + len(a) - 1)
    shifts = np.arange(-min(int(LONGEST_SHIFT_S * fps), len(b) - least), max(reach, 0) + 1)
    energy_a, energy_b = (np.concatenate([[0.0], np.cumsum(row**2)]) for row in (a, b))
    first = np.maximum(shifts, 0)
    last = np.minimum(len(b) + shifts, len(a))
    norm = (energy_a[last] - energy_a[first]) * (energy_b[last - shifts] - energy_b[first - shifts])
    good = (last - first >= least) & (norm > 0)
    return float((cross[shifts[good]] / np.sqrt(norm[good])).max()) if good.any() else 0.0


def _shared_labels(known: Mapping[str, Fingerprint]) -> dict[str, list[str]]:
    """By recording, those of other subjects that have its label."""
    by_label: dict[str, list[str]] = {}
    for key, entry in known.items():
        if entry.label:
            by_label.setdefault(entry.label, []).append(key)
    shared: dict[str, list[str]] = {}
    for keys in by_label.values():
        for key in keys:
            others = [twin for twin in keys if known[twin].person != known[key].person]
            if others:
                shared[key] = others
    return shared
