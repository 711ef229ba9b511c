"""MR-NIRP: SubjectN/subjectN_place_motion_filter, raw Bayer pictures and an oximeter's MATLAB file."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from preprocessing.synthetic.layouts.base import (
    LAYOUTS,
    Frame,
    Layout,
    Take,
    Truth,
    make_take,
    truth_of,
)
from preprocessing.synthetic.matlab import write_mat

_RECORDINGS = (
    # person, folder, subject, conditions
    (0, "Subject2/subject2_garage_still_940", "subject2",
     {"place": "garage", "motion": "still", "time": "day", "nir_filter_nm": "940"}),
    (1, "Subject10/subject10_driving_small_motion_975", "subject10",
     {"place": "driving", "motion": "small motion", "time": "day", "nir_filter_nm": "975"}),
    (0, "Subject16/subject16_garage_large_motion_940", "subject2",
     {"place": "garage", "motion": "large motion", "time": "night", "nir_filter_nm": "940"}),
    (2, "Subject1_motion_940", "indoor1",
     {"place": "indoor", "motion": "motion", "nir_filter_nm": "940"}),
)
_ORDER = (3, 0, 1, 2)
"""Natural order of the recordings' ids."""
_SIZE = (96, 96)
_FPS, _LABEL_HZ = 30.0, 60.0
_LATE_S = 0.25
_DROPOUT = slice(240, 360)
_MISSING = 100
_FIRST_STAMP_S = 3.25
_NOT_USABLE = frozenset({"damaged_picture", "mostly_zero", "no_oximeter", "short_label"})


@LAYOUTS.register("mr_nirp")
class MrNirpLayout(Layout):
    """Two people in the car, one of them by day and by night under two numbers; a third indoors.

    In the first recording in the car: late_label: the pulse is 0.25 s late. dropout: the oximeter gives
    zeros from 4 s to 6 s. mostly_zero: it gives them for two thirds of the time. missing_picture: one of
    the middle is gone. damaged_picture: one holds half of its bytes. milliseconds: the oximeter's stamps
    are in ms. short_label: the oximeter stops in the middle. no_oximeter: its file is missing.
    """

    name = "mr_nirp"
    description = "MR-NIRP: raw Bayer pictures of a car's and an indoor recording, PPG at 60 Hz"
    defects = (
        "late_label", "dropout", "mostly_zero", "missing_picture", "damaged_picture", "milliseconds",
        "short_label", "no_oximeter",
    )

    def most_people(self) -> int:
        """Those of the recordings above."""
        return 3

    def _write(
        self, root: Path, people: int, seconds: float, seed: int, defects: frozenset[str]
    ) -> list[Truth]:
        truths = []
        for index in _ORDER:
            person, folder, subject, conditions = _RECORDINGS[index]
            if person < people:
                planted = defects if index == 0 else frozenset[str]()
                take = make_take(seed, person, index // 2, seconds)
                truths.append(_write_recording(root / folder, take, subject, conditions, planted))
        return truths


def _write_recording(
    folder: Path, take: Take, subject: str, conditions: dict[str, str], defects: frozenset[str]
) -> Truth:
    time_s = np.arange(round(take.seconds * _FPS)) / _FPS
    pictures = folder / ("RGB_raw" if subject.startswith("indoor") else "RGB")
    for place in (pictures, folder / "NIR", folder / "PulseOX"):
        place.mkdir(parents=True)
    for index, frame in enumerate(take.frames(time_s, _SIZE)):
        cv2.imwrite(str(pictures / f"Frame{index:05}.pgm"), _mosaic(frame))
    cv2.imwrite(str(folder / "NIR" / "Frame00000.pgm"), np.full((8, 8), 90, np.uint8))
    lag_s = _LATE_S if "late_label" in defects else 0.0
    if "no_oximeter" not in defects:
        _write_oximeter(folder / "PulseOX" / "pulseOx.mat", take, lag_s, defects)
    kept = np.ones(len(time_s), dtype=bool)
    middle = pictures / f"Frame{_MISSING:05}.pgm"
    if "missing_picture" in defects:
        middle.unlink()
        kept[_MISSING] = False
    if "damaged_picture" in defects:
        middle.write_bytes(middle.read_bytes()[: middle.stat().st_size // 2])
    return truth_of(
        take, folder.name, subject, time_s[kept], lag_s=lag_s, usable=not defects & _NOT_USABLE,
        defect=", ".join(sorted(defects)), conditions=conditions,
    )


def _mosaic(frame: Frame) -> Frame:
    """What a sensor with red first sees of a BGR picture: one colour a pixel."""
    raw = frame[..., 1].copy()
    raw[0::2, 0::2] = frame[0::2, 0::2, 2]
    raw[1::2, 1::2] = frame[1::2, 1::2, 0]
    return raw


def _write_oximeter(path: Path, take: Take, lag_s: float, defects: frozenset[str]) -> None:
    """Stamps that begin anywhere, and a record of whole numbers."""
    seconds = take.seconds / 2 if "short_label" in defects else take.seconds
    time_s = np.arange(round(seconds * _LABEL_HZ)) / _LABEL_HZ
    record = np.rint(60 + 50 * take.pulse(time_s - lag_s))
    if "dropout" in defects:
        record[_DROPOUT] = 0
    if "mostly_zero" in defects:
        record[: 2 * len(record) // 3] = 0
    unit = 1e3 if "milliseconds" in defects else 1.0
    write_mat(path, {
        "pulseOxTime": ((_FIRST_STAMP_S + time_s) * unit)[None], "pulseOxRecord": record[None],
    })
