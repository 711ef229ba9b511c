"""UBFC-Phys: sN/{vid_sN_TK.avi, bvp_sN_TK.csv, eda_sN_TK.csv, info_sN.txt}."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from preprocessing.synthetic import avi
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

_SUBJECTS = (2, 10, 1, 31, 3)
_TASKS = ("rest", "speech", "arithmetic")
_FPS, _LABEL_HZ, _EDA_HZ = 35.14, 64.0, 4.0
_LATE_S = 0.25
_SURPLUS_S = 0.4
_DAY = "2019-05-06"


@LAYOUTS.register("ubfc_phys")
class UbfcPhysLayout(Layout):
    """sN: three tasks, Motion JPEG of 35.14 frames a second, wrist pulse of 64 Hz, one value a line.

    damaged_last_frame: the first recording's last frame is grey noise. late_label: the first
    recording's pulse is 0.25 s late. missing_label: the first recording has no bvp file.
    """

    name = "ubfc_phys"
    description = "UBFC-Phys: MJPEG AVI of 35.14 fps, wrist pulse at 64 Hz, three tasks"
    defects = ("damaged_last_frame", "late_label", "missing_label")

    def most_people(self) -> int:
        """As many as have a number here."""
        return len(_SUBJECTS)

    def _write(
        self, root: Path, people: int, seconds: float, seed: int, defects: frozenset[str]
    ) -> list[Truth]:
        truths = []
        for person in sorted(range(people), key=lambda person: _SUBJECTS[person]):
            folder = root / f"s{_SUBJECTS[person]}"
            folder.mkdir()
            sex = "mf"[person % 2]
            (folder / f"info_{folder.name}.txt").write_bytes(f"{folder.name}\n{sex}\ntest\n{_DAY}\n".encode())
            for index, task in enumerate(_TASKS):
                take = make_take(seed, person, index, seconds)
                planted = defects if person == 0 and index == 0 else frozenset[str]()
                conditions = {"task": task, "sex": sex}
                truths.append(_write_task(folder, f"{folder.name}_T{index + 1}", take, conditions, planted))
        return truths


def _write_task(
    folder: Path, recording: str, take: Take, conditions: dict[str, str], defects: frozenset[str]
) -> Truth:
    time_s = np.arange(round(take.seconds * _FPS)) / _FPS
    frames = take.frames(time_s)
    if "damaged_last_frame" in defects:
        frames = _damaged(frames, len(time_s))
    avi.write_avi(folder / f"vid_{recording}.avi", frames, fps=_FPS, codec="mjpeg", quality=95)
    lag_s = _LATE_S if "late_label" in defects else 0.0
    if "missing_label" not in defects:
        label_s = np.arange(round((take.seconds + _SURPLUS_S) * _LABEL_HZ)) / _LABEL_HZ
        _write_column(folder / f"bvp_{recording}.csv", 60 * take.pulse(label_s - lag_s))
    skin_s = np.arange(int(take.seconds * _EDA_HZ)) / _EDA_HZ
    _write_column(folder / f"eda_{recording}.csv", 0.35 + 0.01 * np.sin(0.3 * skin_s))
    seen = time_s[:-1] if "damaged_last_frame" in defects else time_s
    return truth_of(
        take, recording, folder.name, seen, lag_s=lag_s, usable="missing_label" not in defects,
        defect=", ".join(sorted(defects)), conditions=conditions,
    )


def _write_column(path: Path, values: Array) -> None:
    path.write_bytes("".join(f"{value:.6f}\n" for value in values).encode("ascii"))


def _damaged(frames: Iterator[Frame], n: int) -> Iterator[Frame]:
    """The frames with noise instead of the last."""
    for index, frame in enumerate(frames):
        if index == n - 1:
            yield np.random.default_rng(0).integers(0, 255, frame.shape, dtype=np.uint8)
        else:
            yield frame
