"""Small pictures for the audit's page: SVG lines and JPEG thumbnails, as text."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from evaluation.audit import lag
from evaluation.audit.examine import label_on_frames
from evaluation.audit.findings import Array, Signals
from utils.signal import bandpass

WIDTH, HEIGHT = 360, 96
THUMBNAIL = 80
SHOWN_S = 8.0
MOST_POINTS = 360


@dataclass(frozen=True)
class Line:
    """One line of a plot: `points` as an SVG polyline takes them, `kind` a class of the page's style."""

    points: str
    kind: str


@dataclass(frozen=True)
class Plot:
    """A plot of WIDTH x HEIGHT: lines, and what stands below it."""

    title: str
    lines: list[Line]
    left: str
    right: str
    marks: list[tuple[float, str]]
    """Vertical lines: place in pixels, class."""


def thumbnails(crops: NDArray[np.uint8]) -> list[str]:
    """The first, middle and last of the crops (n, H, W, 3) RGB, as JPEG data URIs."""
    made = []
    for index in (0, len(crops) // 2, len(crops) - 1):
        small = cv2.resize(crops[index], (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
        colours = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
        done, data = cv2.imencode(".jpg", colours, [cv2.IMWRITE_JPEG_QUALITY, 82])
        if done:
            made.append("data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode())
    return made


def plots(signals: Signals, found: lag.Lag | None) -> list[Plot]:
    """What there is to see of a recording: traces, correlogram, lag over time, gaps between frames."""
    made = [_traces(signals)]
    if found is not None:
        made.append(_correlogram(found))
        if len(found.track_s) > 1:
            made.append(_track(found))
    made.append(_gaps(signals))
    return [plot for plot in made if plot is not None]


def _traces(signals: Signals) -> Plot | None:
    """The middle seconds of label and skin, filtered alike."""
    label, fs = label_on_frames(signals)
    known = np.isfinite(label)
    if not known.any() or not signals.skin or fs <= 2 * lag.BAND_HZ[1]:
        return None
    index = np.arange(len(label))
    filled = np.interp(index, index[known], label[known])
    n = min(len(label), round(SHOWN_S * fs))
    first = (len(label) - n) // 2
    method, skin = next(iter(signals.skin.items()))
    if not np.isfinite(skin).all():
        return None
    pair = bandpass(np.stack([skin, filled]), fs, *lag.BAND_HZ)[:, first : first + n]
    scaled = pair / np.maximum(3 * pair.std(axis=1, keepdims=True), 1e-12)
    lines = [Line(_points(row, -1, 1), kind) for row, kind in zip(scaled, ("skin", "label"), strict=True)]
    title = f"label and skin ({method}), filtered"
    return Plot(title, lines, f"{first / fs:.1f} s", f"{(first + n) / fs:.1f} s", [])


def _correlogram(found: lag.Lag) -> Plot:
    """Correlation over the lag; marks at zero and at the lag found."""
    middle = (len(found.grid_s) - 1) / 2
    step = float(found.grid_s[1] - found.grid_s[0])
    places = [(0.0, "zero")] + ([(found.lag_s, "found")] if found.is_known else [])
    marks = [(WIDTH * (middle + at / step) / (2 * middle), kind) for at, kind in places]
    title = f"correlation of label and skin over the lag (highest {found.r:.2f})"
    reach = f"{found.grid_s[-1]:.1f} s"
    line = Line(_points(found.correlation, -1, 1), "skin")
    return Plot(title, [line], f"label {reach} early", f"{reach} late", marks)


def _track(found: lag.Lag) -> Plot:
    """The lag over the recording."""
    middle = float(np.median(found.track_s))
    reach = max(0.2, float(np.abs(found.track_s - middle).max()))
    title = f"lag over time, {1000 * (middle - reach):.0f} to {1000 * (middle + reach):.0f} ms"
    line = Line(_points(found.track_s, middle - reach, middle + reach), "label")
    return Plot(title, [line], f"{found.track_time_s[0]:.0f} s", f"{found.track_time_s[-1]:.0f} s", [])


def _gaps(signals: Signals) -> Plot:
    """The gaps between frames, their highest where many share a pixel."""
    gaps_ms = 1000 * np.diff(signals.frame_time_s)
    size = -(-len(gaps_ms) // MOST_POINTS)
    padded = np.pad(gaps_ms, (0, -len(gaps_ms) % size), mode="edge").reshape(-1, size).max(axis=1)
    highest = float(padded.max())
    title = f"gaps between frames, 0 to {highest:.0f} ms"
    last = f"{float(np.ptp(signals.frame_time_s)):.0f} s"
    return Plot(title, [Line(_points(padded, 0, 1.02 * highest), "gap")], "0 s", last, [])


def _points(values: Array | Sequence[float], low: float, high: float) -> str:
    """Evenly spread values as points of a polyline, clipped to the plot."""
    row = np.asarray(values, dtype=np.float64)
    if len(row) > MOST_POINTS:
        row = np.interp(np.linspace(0, len(row) - 1, MOST_POINTS), np.arange(len(row)), row)
    x = np.linspace(0, WIDTH, len(row))
    y = HEIGHT * (1 - np.clip((row - low) / (high - low), 0, 1))
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
