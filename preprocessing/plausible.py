"""Times that cannot be right, most often in another unit: refused before anything is learned from them."""

from __future__ import annotations

import numpy as np

from preprocessing.ecg import LOWEST_HZ
from preprocessing.pictures import SUFFIXES as PICTURE_SUFFIXES
from preprocessing.sources.base import Labels, RawRecording, Series
from preprocessing.times import mean_rate_hz
from preprocessing.video import VIDEO_SUFFIXES
from utils.errors import UserError

SLOWEST_FPS, FASTEST_FPS = 3.0, 1000.0
"""At 3 frames a second no pulse above 90 bpm can be seen."""
USUAL_FPS = (10.0, 240.0)
"""Of cameras; outside it a rate is worth a word, and one that a container states is no evidence."""
APART = 3.0
"""Frame times and the video file may differ by this factor, and a label may be so much longer."""
LONGER_S = 60.0
PULSE_HZ = 8.0
"""Twice 4 Hz, the highest rate of a pulse that is looked for."""
_SEEN = (*VIDEO_SUFFIXES, *PICTURE_SUFFIXES, ".pgm", ".zip")
_MOST_NAMED = 3
_REMEDY = (
    "are the times in another unit? Set time_unit or time_zero in the options of data.sets (own recordings), "
    "correct the file, or exclude the recording"
)


def check_frames(
    time_s: Series, fps_declared: float | None, is_stated: bool, recording: RawRecording
) -> None:
    """UserError for frame times (T,), increasing, in seconds, that no camera gives.

    fps_declared: what the video file says; it is only held against times that the dataset states
    (is_stated), as the container's own stamps are right where a camera's rate varies.
    """
    fps, where = mean_rate_hz(time_s), _where(recording, is_stated)
    seen = (f"{where}: {fps:.3g} frames a second by the time stamps ({len(time_s)} frames in "
            f"{float(np.ptp(time_s)):.4g} s)")
    if fps < SLOWEST_FPS:
        raise UserError(f"{seen}; below {SLOWEST_FPS:g} no video can show a pulse above "
                        f"{30 * SLOWEST_FPS:g} bpm; {_REMEDY}")
    if fps > FASTEST_FPS:
        raise UserError(f"{seen}; no camera is so fast; {_REMEDY}")
    if not is_stated or fps_declared is None or not USUAL_FPS[0] <= fps_declared <= USUAL_FPS[1]:
        return
    if max(fps / fps_declared, fps_declared / fps) > APART:
        raise UserError(f"{seen}, but {fps_declared:.4g} by the video file; {_REMEDY}")


def check_labels(labels: Labels, frame_time_s: Series, recording: RawRecording) -> None:
    """UserError for a waveform sampled too slowly to be one, and for series far longer than the video.

    frame_time_s: (T,) increasing. `Labels.covers_session` allows for series of any length.
    """
    where, video_s = _where(recording, True), float(np.ptp(frame_time_s))
    lowest = LOWEST_HZ if labels.kind == "ecg" else PULSE_HZ
    rate = _rate_hz(labels.time_s)
    if labels.kind != "none" and rate is not None and rate < lowest:
        raise UserError(f"{where}: the label ({labels.kind}) has {rate:.3g} samples a second, at least "
                        f"{lowest:g} are needed; {_REMEDY}")
    series = {"label": labels.time_s, "heart rate": labels.hr_time_s, "respiration": labels.resp_time_s}
    for name, time_s in series.items():
        known = time_s[np.isfinite(time_s)]
        seconds = float(np.ptp(known)) if len(known) else 0.0
        if not labels.covers_session and seconds > max(APART * video_s, video_s + LONGER_S):
            raise UserError(
                f"{where}: the {name} lasts {seconds:.0f} s, the video {video_s:.1f} s; {_REMEDY}; where it "
                'is that of a whole session, state "video_start" in recordings.json'
            )


def _rate_hz(time_s: Series) -> float | None:
    """By the usual spacing or the mean one, the faster: stamps may be rounded, a sensor may pause."""
    if len(time_s) < 2 or not np.isfinite(time_s).all():
        return None
    spacing_s, span_s = float(np.median(np.diff(time_s))), float(time_s[-1] - time_s[0])
    return max(1 / spacing_s, (len(time_s) - 1) / span_s) if spacing_s > 0 and span_s > 0 else None


def _where(recording: RawRecording, in_labels: bool) -> str:
    """The files that hold the times: those that are neither video nor pictures, or the video."""
    paths = recording.files()
    beside = [path for path in paths if path.suffix.lower() not in _SEEN]
    chosen = beside if in_labels and beside else paths[:1]
    more = f" and {len(chosen) - _MOST_NAMED} more" if len(chosen) > _MOST_NAMED else ""
    names = [str(path) if path is chosen[0] else path.name for path in chosen[:_MOST_NAMED]]
    return ", ".join(names) + more if chosen else recording.recording
