"""Heart rate and quality of the last seconds, beside the pictures or between them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from commands.predict import Predictor, judged
from dataset.window import HeldRecording, held_clips
from preprocessing.live import LiveFrame
from preprocessing.regions import NAMES


@dataclass(frozen=True)
class Estimate:
    """One look back over the window that ends at time_s.

    pulse: the waveform at pulse_time_s, None where there is none; it rises when skin darkens. The other
    fields are those of the summary that predict writes, for the window.
    """

    time_s: float
    heart_rate_bpm: float | None
    quality: float
    snr_db: float | None
    fps: float
    window_s: float
    n_frames: int
    n_frames_with_face: int
    pulse_time_s: list[float]
    pulse: list[float | None]
    warnings: list[str]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def estimate(predictor: Predictor, frames: list[LiveFrame]) -> Estimate:
    """What `predict` would say of a recording that holds these frames alone."""
    stamps = np.array([frame.time_s for frame in frames])
    arrays = {name: [frame.arrays[name] for frame in frames] for name in frames[0].arrays}
    arrays["face_found"] = [np.asarray(frame.found) for frame in frames]
    held = HeldRecording("window", stamps, arrays, {"region_names": list(NAMES)})
    waveform, time_s, quality, found = judged(predictor, held_clips(held, predictor.method.input_spec))
    duration_s = float(stamps[-1] - stamps[0])
    return Estimate(
        time_s=round(float(stamps[-1]), 4), heart_rate_bpm=quality.heart_rate_bpm, quality=quality.value,
        snr_db=quality.snr_db, fps=(len(stamps) - 1) / duration_s, window_s=duration_s,
        n_frames=len(stamps), n_frames_with_face=found,
        pulse_time_s=[round(t, 4) for t in time_s.tolist()],
        pulse=[round(v, 4) if np.isfinite(v) else None for v in waveform.tolist()],
        warnings=list(quality.warnings),
    )


class Estimator:
    """Makes one estimate at a time and hands it to `done`.

    In the background new windows are refused until the one before is through, so that pictures never
    wait; else each is made at once, and what comes out depends on the pictures alone.
    """

    def __init__(
        self, predictor: Predictor, done: Callable[[Estimate], None], in_background: bool
    ) -> None:
        """done: called with each estimate, in the background thread where there is one."""
        self._predictor, self._done = predictor, done
        self._pool = ThreadPoolExecutor(1, "estimates") if in_background else None
        self._running: Future[None] | None = None

    def offer(self, frames: list[LiveFrame]) -> bool:
        """Whether an estimate is made of these frames; what went wrong in the last one is raised here."""
        if self._pool is None:
            self._make(frames)
            return True
        if self._running is not None and not self._running.done():
            return False
        self.wait()
        self._running = self._pool.submit(self._make, frames)
        return True

    def wait(self) -> None:
        """Until the estimate that is being made is through; what went wrong in it is raised here."""
        running, self._running = self._running, None
        if running is not None:
            running.result()

    def close(self) -> None:
        """Wait, and end the thread."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
        self.wait()

    def _make(self, frames: list[LiveFrame]) -> None:
        self._done(estimate(self._predictor, frames))
