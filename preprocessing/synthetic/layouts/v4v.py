"""V4V: MKV videos in the challenge's folders, rates a frame on two long lines, pressure at 1 kHz."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from preprocessing.synthetic.layouts.base import (
    LAYOUTS,
    Array,
    Frame,
    Layout,
    Take,
    Truth,
    make_take,
    truth_of,
)
from preprocessing.synthetic.mkv import write_mkv
from utils.files import natural_key

_FPS, _PRESSURE_HZ = 25.0, 1000.0
_SIZE = (128, 96)
_LONGER_S = 1.4
_LATE_S = 0.25
_BLACK = range(30, 38)
_FIRST, _SECOND = "Phase 1_ Training_Validation sets", "Phase 2_ Testing set"
# Subject, part, folder of its videos.
_PEOPLE = (
    ("F001", "train", f"{_FIRST}/Videos/train-001_of_002"), ("M017", "valid", f"{_FIRST}/Videos/valid"),
    ("F012", "test", f"{_SECOND}/Videos/Test/test"), ("M002", "train", f"{_FIRST}/Videos/train-002_of_002"),
    ("F005", "test", f"{_SECOND}/Videos/Test/test"),
)
_RELEASES = {"valid": "validation_set_gt_release.txt", "test": "test_set_gt_release.txt"}
_PRESSURE = {"train": f"{_FIRST}/Ground truth/BP_raw_1KHz", "valid": f"{_SECOND}/blood_pressure/val_set_bp",
             "test": f"{_SECOND}/blood_pressure/test_set_bp"}
_NOT_USABLE = frozenset({"no_pressure", "short_video"})


@LAYOUTS.register("v4v")
class V4VLayout(Layout):
    """T2 and T10 of the first person (training), T1 of the others (validation, test, training).

    Rates of the training part are in Physiology, of the others in a release file of alternating HR and
    RR lines; the pressure outlasts the video. In F001_T2: late_label: the pressure is 0.25 s late.
    inverted_label: it is upside down. no_pressure: it is gone. black_frames: eight frames are black.
    short_video: the video has lost a fifth.
    """

    name = "v4v"
    description = "V4V: MKV at 25 fps, blood pressure at 1 kHz, heart and respiration rate a frame"
    defects = ("late_label", "inverted_label", "no_pressure", "black_frames", "short_video")

    def most_people(self) -> int:
        """As many as have a name."""
        return len(_PEOPLE)

    def _write(
        self, root: Path, people: int, seconds: float, seed: int, defects: frozenset[str]
    ) -> list[Truth]:
        truths = []
        for person in range(people):
            for index, task in enumerate(("T2", "T10") if person == 0 else ("T1",)):
                take = make_take(seed, person, index, seconds)
                planted = defects if (person, index) == (0, 0) else frozenset()
                truths.append(_write_recording(root, _PEOPLE[person], task, take, planted))
        return sorted(truths, key=lambda truth: natural_key(truth.recording))


def _write_recording(
    root: Path, person: tuple[str, str, str], task: str, take: Take, defects: frozenset[str]
) -> Truth:
    subject, part, folder = person
    name = f"{subject}_{task}"
    time_s = np.arange(round(take.seconds * _FPS)) / _FPS
    shown = time_s[: len(time_s) * 4 // 5] if "short_video" in defects else time_s
    (root / folder).mkdir(parents=True, exist_ok=True)
    frames = _blackened(take.frames(shown, _SIZE), _BLACK if "black_frames" in defects else range(0))
    write_mkv(root / folder / f"{name}.mkv", frames, fps=_FPS, quality=92)
    _write_rates(root, part, name, take, time_s)
    lag_s = _LATE_S if "late_label" in defects else 0.0
    if "no_pressure" not in defects:
        _write_pressure(root, part, name, take, lag_s, -1.0 if "inverted_label" in defects else 1.0)
    return truth_of(
        take, name, subject, time_s, lag_s=lag_s, usable=not defects & _NOT_USABLE,
        defect=", ".join(sorted(defects)), conditions={"task": task, "part": part},
    )


def _blackened(frames: Iterator[Frame], black: range) -> Iterator[Frame]:
    for index, frame in enumerate(frames):
        yield np.zeros_like(frame) if index in black else frame


def _write_rates(root: Path, part: str, name: str, take: Take, time_s: Array) -> None:
    """Two lines, a value a frame each; several videos share a release file."""
    rate, breath = take.rate_bpm(time_s), np.full(len(time_s), 60 * take.subject.rhythm.respiration_hz)
    lines = [
        ", ".join([f"{name}.mkv", kind, *(f"{value:.4f}" for value in values)]) + "\n"
        for kind, values in (("HR", rate), ("RR", breath))
    ]
    path = root / _SECOND / _RELEASES[part] if part in _RELEASES else (
        root / _FIRST / "Ground truth" / "Physiology" / f"{name}.txt")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="ascii", newline="") as handle:
        handle.writelines(lines)


def _write_pressure(root: Path, part: str, name: str, take: Take, lag_s: float, sign: float) -> None:
    time_s = np.arange(round((take.seconds + _LONGER_S) * _PRESSURE_HZ)) / _PRESSURE_HZ
    pressure = 92 + sign * 40 * take.pulse(time_s - lag_s)
    dashed = name.replace("_", "-")
    path = root / _PRESSURE[part] / (f"{dashed}-BP.txt" if part == "train" else f"{dashed}.txt")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(f"{value:.4f}" for value in pressure) + "\n", encoding="ascii")
