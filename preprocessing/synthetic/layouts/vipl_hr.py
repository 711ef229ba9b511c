"""VIPL-HR V1: data/pN/vM[-2]/sourceK with video.avi, time.txt, wave.csv, gt_HR.csv and gt_SpO2.csv."""

from __future__ import annotations

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
from preprocessing.synthetic.matlab import write_mat
from utils.files import natural_key

_SUBJECTS = (1, 10, 3, 84, 97)
_SCENARIOS = {"v1": "stable", "v1-2": "stable", "v9": "phone with motion"}
_FOLDERS = (("v1", 1), ("v1", 2), ("v1", 3), ("v1", 4))
_FURTHER = (("v1-2", 1), ("v9", 2))
"""Of the first person only."""
_FPS = {1: 24.9, 2: 30.0, 3: 29.8, 4: 29.8}
_SIZES = {1: (112, 118), 2: (120, 124), 3: (110, 114), 4: (34, 44)}
_CONTAINER_FPS, _WAVE_HZ = 25.0, 60.0
_LONGER_S = 1.6
_LATE_S = 0.25
_SLOW_FPS = 24.0
_N_FOLDS = 5
_NOT_USABLE = frozenset({"no_wave", "cut_times", "flat_label"})


@LAYOUTS.register("vipl_hr")
class ViplHrLayout(Layout):
    """v1 by webcam, phone, RealSense and in infrared; of the first person v1-2 and v9 as well.

    As in the set: folds of subject numbers, every container says 25 fps, time.txt has CRLF and is not
    there for the phone, the labels of a take are longer than its videos, and those of the phone are its
    own. In v1-source1 of
    the first person: hr_codes: three rates are 255. late_label: the wave is 0.25 s late. flat_label: it
    is constant. no_wave: it is gone. cut_times: time.txt has lost a tenth. In its v1-source2:
    slow_phone: 24 frames a second.
    """

    name = "vipl_hr"
    description = "VIPL-HR: face crops, time.txt in milliseconds, 60 Hz wave, 1 Hz rates"
    defects = ("hr_codes", "late_label", "flat_label", "no_wave", "cut_times", "slow_phone")

    def most_people(self) -> int:
        """As many as have a number."""
        return len(_SUBJECTS)

    def _write(
        self, root: Path, people: int, seconds: float, seed: int, defects: frozenset[str]
    ) -> list[Truth]:
        truths = []
        for person in range(people):
            for take_name, source in _FOLDERS + (_FURTHER if person == 0 else ()):
                index = 2 * list(_SCENARIOS).index(take_name) + (source == 2)
                take = make_take(seed, person, index, seconds)
                folder = root / "data" / f"p{_SUBJECTS[person]}" / take_name / f"source{source}"
                planted = _planted(defects, source) if (person, take_name) == (0, "v1") else frozenset()
                truth = _write_folder(folder, take, source, seed + 10 * person + source, planted)
                truths += [truth] if source != 4 else []
        (root / "NIR.txt").write_bytes(b"p1/v1/source4\r\n")
        _write_folds(root / "fold", [_SUBJECTS[person] for person in range(people)])
        return sorted(truths, key=lambda truth: natural_key(truth.recording))


def _write_folds(folder: Path, numbers: list[int]) -> None:
    """foldK.mat, each with the variable foldK: up to five folds, nobody in two of them."""
    folder.mkdir()
    count = min(_N_FOLDS, len(numbers))
    for k in range(1, count + 1):
        write_mat(folder / f"fold{k}.mat", {f"fold{k}": np.array([numbers[k - 1 :: count]], dtype=np.uint8)})


def _planted(defects: frozenset[str], source: int) -> frozenset[str]:
    here = {1: defects - {"slow_phone"}, 2: defects & {"slow_phone"}}
    return here.get(source, frozenset())


def _write_folder(folder: Path, take: Take, source: int, seed: int, defects: frozenset[str]) -> Truth:
    folder.mkdir(parents=True)
    time_s = _frame_times(take, source, seed, defects)
    frames = take.frames(time_s, _SIZES[source], camera=source)
    avi.write_avi(folder / "video.avi", frames, fps=_CONTAINER_FPS, codec="mjpeg", quality=90)
    if source != 2:
        n = int(0.9 * len(time_s)) if "cut_times" in defects else len(time_s)
        _write_lines(folder / "time.txt", [f"{1000 * t:.0f}" for t in time_s[:n]])
    lag_s = _LATE_S if "late_label" in defects else 0.0
    _write_labels(folder, take, lag_s, _LONGER_S if source != 2 else 0.0, defects)
    person, scenario = folder.parent.parent.name, folder.parent.name
    return truth_of(
        take, f"{person}-{scenario}-{folder.name}", person, time_s, lag_s=lag_s,
        usable=not defects & _NOT_USABLE, defect=", ".join(sorted(defects)),
        conditions={"scenario": _SCENARIOS[scenario], "source": folder.name,
                    "take": scenario.partition("-")[2] or "1"},
    )


def _frame_times(take: Take, source: int, seed: int, defects: frozenset[str]) -> Array:
    """Irregular, in whole milliseconds; the phone's are even and its video lasts whole seconds."""
    if source == 2:
        fps = _SLOW_FPS if "slow_phone" in defects else _FPS[2]
        return np.arange(round(int(take.seconds) * fps)) / fps
    return np.round(frame_times(seed, _FPS[source], take.seconds, jitter_s=0.004), 3)


def _write_labels(folder: Path, take: Take, lag_s: float, longer_s: float, defects: frozenset[str]) -> None:
    """wave.csv, gt_HR.csv and gt_SpO2.csv; they begin with the video and may outlast it."""
    seconds = (take.seconds if longer_s else int(take.seconds)) + longer_s
    wave_time_s = np.arange(round(seconds * _WAVE_HZ) + 1) / _WAVE_HZ
    wave = np.rint(64 + 50 * take.pulse(wave_time_s - lag_s))
    wave = np.full_like(wave, 64) if "flat_label" in defects else wave
    rate = np.rint(take.rate_bpm(np.arange(int(seconds) + 1)))
    if "hr_codes" in defects:
        rate[3:6] = 255
    if "no_wave" not in defects:
        _write_lines(folder / "wave.csv", ["Wave", *(f"{value:.0f}" for value in wave)])
    _write_lines(folder / "gt_HR.csv", ["HR", *(f"{value:.0f}" for value in rate)])
    saturation = [127 if value == 255 else 97 for value in rate]
    _write_lines(folder / "gt_SpO2.csv", ["SpO2", *map(str, saturation)])


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_bytes(("\r\n".join(lines) + "\r\n").encode("ascii"))
