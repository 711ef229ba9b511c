"""ECG-Fitness: subject/session with two videos, the samples of their frames, and the meter's signals."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from preprocessing.synthetic import avi
from preprocessing.synthetic.layouts.base import (
    LAYOUTS,
    Array,
    Layout,
    Take,
    Truth,
    frame_times,
    make_take,
    truth_of,
)
from utils.files import natural_key

_SESSIONS = (("00", "01", "talk"), ("11", "01", "row"), ("02", "06", "bike"), ("09", "03", "talk"))
_LIGHTS = {"01": "daylight", "03": "lamp"}
_CAMERAS = {"c920-1": "tripod", "c920-2": "machine"}
_FPS, _METER_HZ = 30.0, 124.6
_SIZE = (128, 96)
_FAST_BPM = 138.0
_BEFORE_S, _AFTER_S, _TAIL_S = 2.4, 1.0, 0.8
_START_MS = 5120.0
_LATE_S = 0.25
_NOT_USABLE = frozenset({"flat_label", "no_samples"})


@LAYOUTS.register("ecg_fitness")
class EcgFitnessLayout(Layout):
    """A session of each person before both cameras; the second is subject 11, who rows in session 01.

    The first person's heart beats so fast that the meter's rates overflow into negative numbers; the
    signals end in NaN. In the first session: late_label: pulse and ECG are 0.25 s late. flat_label: the
    pulse is constant. no_samples: c920.csv is gone.
    """

    name = "ecg_fitness"
    description = "ECG-Fitness: two cameras, ECG and pulse at about 125 Hz, frames by sample number"
    defects = ("late_label", "flat_label", "no_samples")

    def most_people(self) -> int:
        """As many as have a session here."""
        return len(_SESSIONS)

    def _write(
        self, root: Path, people: int, seconds: float, seed: int, defects: frozenset[str]
    ) -> list[Truth]:
        truths = []
        for person in range(people):
            take = make_take(seed, person, 0, seconds)
            take = _faster(take) if person == 0 else take
            planted = defects if person == 0 else frozenset()
            truths += _write_session(root, _SESSIONS[person], take, seed + person, planted)
        return sorted(truths, key=lambda truth: natural_key(truth.recording))


def _faster(take: Take) -> Take:
    rhythm = dataclasses.replace(take.subject.rhythm, rate_bpm=_FAST_BPM)
    return dataclasses.replace(take, subject=dataclasses.replace(take.subject, rhythm=rhythm))


def _write_session(
    root: Path, session: tuple[str, str, str], take: Take, seed: int, defects: frozenset[str]
) -> list[Truth]:
    subject, number, task = session
    folder = root / subject / number
    folder.mkdir(parents=True)
    meter_ms = _START_MS + np.round(
        1000 * np.arange(round((_BEFORE_S + take.seconds + _AFTER_S) * _METER_HZ)) / _METER_HZ)
    ideal_s = frame_times(seed, _FPS, take.seconds)
    index = np.searchsorted(meter_ms, _START_MS + 1000 * (_BEFORE_S + ideal_s))
    zero_ms = meter_ms[index[0]]
    time_s = (meter_ms[index] - zero_ms) / 1000
    for camera in _CAMERAS:
        frames = take.frames(time_s, _SIZE, camera=int(camera[-1]))
        avi.write_avi(folder / f"{camera}.avi", frames, fps=_FPS, codec="mjpeg", quality=90)
    if "no_samples" not in defects:
        lines = [f"{frame},{sample}\n" for frame, sample in enumerate(index)]
        (folder / "c920.csv").write_text("".join(lines), encoding="ascii")
    lag_s = _LATE_S if "late_label" in defects else 0.0
    _write_signals(folder / "viatom-raw.csv", take, meter_ms, zero_ms, lag_s, "flat_label" in defects)
    light = {"light": _LIGHTS[number]} if number in _LIGHTS else {}
    return [
        truth_of(
            take, f"{subject}-{number}-{camera}", subject, time_s, lag_s=lag_s,
            usable=not defects & _NOT_USABLE, defect=", ".join(sorted(defects)),
            conditions={"task": task, **light, "camera": place, "session": number},
        )
        for camera, place in _CAMERAS.items()
    ]


def _write_signals(
    path: Path, take: Take, meter_ms: Array, zero_ms: float, lag_s: float, is_flat: bool
) -> None:
    """Milliseconds, ECG, heart rate in a signed byte, pulse; at the end no signals any more."""
    time_s = (meter_ms - zero_ms) / 1000
    ecg, rate, pulse = take.ecg(time_s - lag_s), np.rint(take.rate_bpm(time_s)), take.pulse(time_s - lag_s)
    rate = np.where(rate > 127, rate - 256, rate)
    pulse = np.zeros_like(pulse) if is_flat else pulse
    gone = time_s > time_s[-1] - _TAIL_S
    lines = [
        f"{ms:.0f},nan,nan,nan\n" if lost else f"{ms:.0f},{e:.5f},{r:.0f},{128 + 90 * p:.2f}\n"
        for ms, e, r, p, lost in zip(meter_ms, ecg, rate, pulse, gone, strict=True)
    ]
    path.write_text("".join(lines), encoding="ascii")
