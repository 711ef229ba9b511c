"""Frame times and lengths: declared and true frame rate, jitter, gaps, counts that disagree."""

from __future__ import annotations

import re

import numpy as np

from evaluation.audit.findings import Part, Signals
from utils.signal import sample_rate

LENGTHS_S = 1.0
"""Video and label may differ by so much: started and stopped by hand, they differ by tenths of seconds."""
FEW = 5
"""Frames that may be odd before it is a finding, or 1 % of them: what preprocessing repairs."""
LOST_SHARE, REGULAR = 0.02, 0.05
"""Frames lost in gaps: once in 50 is no hiccup; one is enough where frames else come like clockwork."""
JITTER = 0.5
"""Standard deviation of the gaps over their median; webcams in dim light stay below a third."""
LONGEST_GAP_S = 0.5
"""Half a beat at rest: a pulse may have beaten unseen."""
RATE_SPAN = (2 / 3, 7 / 6)
"""20 to 35 frames a second where 30 are usual; in parts of the dataset's median."""
SLOWEST_FPS = 12.0
"""Below it the second harmonic of 180 bpm is not below half the frame rate."""
DECLARED_SHARE = 0.01
REPAIRED = re.compile(r"(\d+) time stamps? repeated or stepped back")


def check_frames(signals: Signals) -> Part:
    """Rate, jitter, gaps and counts of the frames, and the two lengths."""
    time_s, stated, part = signals.frame_time_s, signals.stated, Part()
    gaps_s, fps = np.diff(time_s), sample_rate(time_s)
    usual = float(np.median(gaps_s))
    n_lost = int((np.rint(gaps_s / usual) - 1).clip(0).sum())
    part.put("fps_declared", stated.get("fps_declared"), "the container states none")
    part.put("fps", fps)
    part.put("gap_sd_ms", 1000 * float(gaps_s.std()), digits=2)
    part.put("longest_gap_ms", 1000 * float(gaps_s.max()), digits=1)
    part.put("n_lost_in_gaps", n_lost)
    longest = float(gaps_s.max())
    part.flag(longest > LONGEST_GAP_S and longest > 3 * usual, "gap",
              f"a gap of {longest:.2f} s between frames")
    is_regular = float(np.median(np.abs(gaps_s - usual))) < REGULAR * usual
    most = 0 if is_regular else max(FEW, LOST_SHARE * len(time_s))
    part.flag(n_lost > most, "lost_frames", f"{n_lost} frames lost in gaps")
    part.flag(gaps_s.std() > JITTER * usual, "jitter",
              f"frame gaps scatter by {1000 * gaps_s.std():.0f} ms around {1000 * usual:.0f} ms")
    part.flag(fps < SLOWEST_FPS, "fps", f"{fps:.2f} frames a second are too few for a pulse")
    declared = stated.get("fps_declared")
    if declared and abs(declared - fps) > DECLARED_SHARE * fps:
        source = stated.get("frame_times", "dataset")
        part.notes.append(f"the container says {declared:g} frames a second, the stamps {fps:.2f} "
                          f"(used: those of the {source})")
    _repairs(signals, part)
    _counts(signals, part)
    _lengths(signals, part)
    return part


def _repairs(signals: Signals, part: Part) -> None:
    """Stamps that repeated, by the warnings of the readers: the stored times are repaired already."""
    found = [int(match[1]) for text in signals.warnings for match in REPAIRED.finditer(text)]
    part.put("n_repaired_stamps", sum(found))
    part.flag(bool(sum(found)), "repeated_stamps", f"{sum(found)} time stamps repeat or step back")


def _counts(signals: Signals, part: Part) -> None:
    """Frames decoded against those the container declares and those the dataset lists."""
    stated = signals.stated
    decoded = int(stated.get("n_frames_decoded", len(signals.frame_time_s)))
    part.put("n_frames", len(signals.frame_time_s))
    part.put("n_decoded", decoded)
    for column, key, name in (("n_declared", "n_frames_declared", "declared by the container"),
                              ("n_listed", "n_frames_listed", "listed by the dataset")):
        n = stated.get(key)
        part.put(column, None if n is None else int(n), f"no number of frames is {name}")
        part.flag(n is not None and int(n) != decoded, column.replace("n_", "frames_"),
                  f"{decoded} frames decoded, {n} {name}")


def _lengths(signals: Signals, part: Part) -> None:
    """How long video and label are, and how far they differ."""
    video_s = float(np.ptp(signals.frame_time_s))
    part.put("video_s", video_s, digits=3)
    reason = "there is no label"
    if len(signals.label_time_s) < 2:
        part.put("label_s", None, reason)
        part.put("label_minus_video_s", None, reason)
        return
    label_s = float(np.ptp(signals.label_time_s))
    part.put("label_s", label_s, digits=3)
    part.put("label_minus_video_s", label_s - video_s, digits=3)
    word = "longer" if label_s > video_s else "shorter"
    part.flag(abs(label_s - video_s) > LENGTHS_S, "lengths",
              f"the label ({label_s:.1f} s) is {abs(label_s - video_s):.1f} s {word} than the video")


def check_usual_rate(fps: float, median_fps: float) -> Part:
    """Whether a recording's frame rate is that of its dataset."""
    part, (low, high) = Part(), RATE_SPAN
    part.flag(not low * median_fps <= fps <= high * median_fps, "fps",
              f"{fps:.2f} frames a second, where {median_fps:.2f} are usual in this dataset")
    return part
