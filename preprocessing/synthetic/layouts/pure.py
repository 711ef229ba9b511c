"""PURE: NN-TT with a JSON of nanosecond stamps and one PNG a frame."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from preprocessing.synthetic.layouts.base import (
    LAYOUTS,
    Layout,
    Take,
    Truth,
    frame_times,
    make_take,
    truth_of,
)

_SUBJECTS = (2, 10, 1, 6, 7, 3)
_TASKS = {1: "steady", 2: "talking"}
_SIZE = (96, 72)
_FPS, _LABEL_HZ = 30.0, 60.0
_LEAD_S, _TAIL_S = 0.05, 0.3
_BAD_SAMPLES = 2
_FIRST_NS = 1392643993642815000
_SHORT_NS = 10**18 - 5 * 10**9
_LATE_S = 0.25
_NOT_USABLE = frozenset({"many_pictures_missing", "damaged_picture", "no_json"})


@LAYOUTS.register("pure")
class PureLayout(Layout):
    """NN-01 and NN-02 of each person; the second person's files lie flat, the JSON beside the folder.

    In the first recording: missing_picture: one PNG of the middle is gone. many_pictures_missing: a
    tenth of them is. damaged_picture: one holds half of its bytes. short_stamps: the stamps gain a
    digit after five seconds. late_label: the pulse is 0.25 s late. rate_codes: some pulse rates are 0.
    no_json: the labels are gone.
    """

    name = "pure"
    description = "PURE: PNG pictures and JSON labels of 60 Hz, both stamped in nanoseconds"
    defects = (
        "missing_picture", "many_pictures_missing", "damaged_picture", "short_stamps", "late_label",
        "rate_codes", "no_json",
    )

    def most_people(self) -> int:
        """As many as have a number here."""
        return len(_SUBJECTS)

    def _write(
        self, root: Path, people: int, seconds: float, seed: int, defects: frozenset[str]
    ) -> list[Truth]:
        truths = []
        for person in sorted(range(people), key=lambda person: _SUBJECTS[person]):
            for index, task in _TASKS.items():
                name = f"{_SUBJECTS[person]:02d}-{index:02d}"
                planted = defects if person == 0 and index == 1 else frozenset[str]()
                take = make_take(seed, person, index - 1, seconds)
                truths.append(_write_recording(root, name, take, person % 2 == 1, planted, task))
        return truths


def _write_recording(
    root: Path, name: str, take: Take, is_flat: bool, defects: frozenset[str], task: str
) -> Truth:
    pictures = root / name if is_flat else root / name / name
    pictures.mkdir(parents=True)
    first_ns = _SHORT_NS if "short_stamps" in defects else _FIRST_NS + 10**15 * take.index
    key = sum(map(ord, name))
    stamps = _stamps(first_ns, frame_times(key, _FPS, take.seconds, jitter_s=0.002))
    time_s = np.array([stamp - first_ns for stamp in stamps]) * 1e-9
    for stamp, frame in zip(stamps, take.frames(time_s, _SIZE), strict=True):
        (pictures / f"Image{stamp}.png").write_bytes(_png(frame))
    lag_s = _LATE_S if "late_label" in defects else 0.0
    path = (root if is_flat else root / name) / f"{name}.json"
    if "no_json" not in defects:
        path.write_text(json.dumps(_labels(take, first_ns, stamps, lag_s, defects)), encoding="ascii")
    kept = _plant(pictures, stamps, defects)
    return truth_of(
        take, name, name[:2], time_s[kept], lag_s=lag_s, usable=not defects & _NOT_USABLE,
        defect=", ".join(sorted(defects)), conditions={"task": task},
    )


def _stamps(first_ns: int, time_s: Any) -> list[int]:
    """Whole microseconds, as the original has them."""
    return [first_ns + round(float(t) * 1e6) * 1000 for t in time_s]


def _png(frame: Any) -> bytes:
    return bytes(cv2.imencode(".png", frame, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes())


def _labels(
    take: Take, first_ns: int, images: list[int], lag_s: float, defects: frozenset[str]
) -> dict[str, Any]:
    """The JSON; the first two samples are bad in every recording."""
    n = round((take.seconds + _LEAD_S + _TAIL_S) * _LABEL_HZ)
    time_s = np.arange(n) / _LABEL_HZ - _LEAD_S
    pulse = np.rint(50 + 40 * take.pulse(time_s - lag_s)).astype(int)
    pulse[:_BAD_SAMPLES] = 127
    rate = np.rint(take.rate_bpm(time_s)).astype(int)
    if "rate_codes" in defects:
        rate[30:60] = 0
    package = [
        {"Timestamp": stamp, "Value": {"waveform": int(value), "pulseRate": int(hr), "o2saturation": 98,
                                       "signalStrength": 5, "beep": False}}
        for stamp, value, hr in zip(_stamps(first_ns, time_s), pulse, rate, strict=True)
    ]
    listed = [{"Timestamp": stamp, "Value": {"FrameID": index}} for index, stamp in enumerate(images)]
    return {"/FullPackage": package, "/Image": listed}


def _plant(pictures: Path, stamps: list[int], defects: frozenset[str]) -> list[int]:
    """Take pictures away or damage one; returns the indices of those that stay."""
    n = len(stamps)
    gone: set[int] = set()
    if "missing_picture" in defects:
        gone = {n // 2}
    if "many_pictures_missing" in defects:
        gone = set(range(n // 3, n // 3 + n // 10))
    for index in gone:
        (pictures / f"Image{stamps[index]}.png").unlink()
    if "damaged_picture" in defects:
        path = pictures / f"Image{stamps[n // 4]}.png"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return [index for index in range(n) if index not in gone]
