"""LGI-PPGI: <name>/<name>_<activity> with a raw video, its timer and the oximeter's values in XML."""

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

_PEOPLE = ("alex", "angelo", "cpi", "david", "felix", "harun")
_ACTIVITIES = ("resting", "gym")
_VIDEO = "cv_camera_sensor_stream_handler.avi"
_TIMER = "cv_camera_sensor_timer_stream_handler.xml"
_LABELS = "cms50_stream_handler.xml"
_SIZE = (128, 96)
_FPS, _LABEL_HZ = 25.0, 60.0
_SURPLUS = 90
_LATE_S = 0.25


@LAYOUTS.register("lgi_ppgi")
class LgiPpgiLayout(Layout):
    """<name>_resting and <name>_gym: the oximeter starts 1.5 s before the camera and ends with it.

    In the first recording: durations: the timer holds the milliseconds of each frame, not those since
    the start. late_label: the pulse is 0.25 s late. rate_codes: some heart rates are 127 or 0.
    """

    name = "lgi_ppgi"
    description = "LGI-PPGI: uncompressed AVI of 25 fps, times and 60 Hz oximeter values in XML"
    defects = ("durations", "late_label", "rate_codes")

    def most_people(self) -> int:
        """The published six."""
        return len(_PEOPLE)

    def _write(
        self, root: Path, people: int, seconds: float, seed: int, defects: frozenset[str]
    ) -> list[Truth]:
        truths = []
        for person in range(people):
            for index, activity in sorted(enumerate(_ACTIVITIES), key=lambda pair: pair[1]):
                folder = root / _PEOPLE[person] / f"{_PEOPLE[person]}_{activity}"
                planted = defects if person == 0 and index == 0 else frozenset[str]()
                take = make_take(seed, person, index, seconds)
                truths.append(_write_recording(folder, take, activity, planted))
        return truths


def _write_recording(folder: Path, take: Take, activity: str, defects: frozenset[str]) -> Truth:
    folder.mkdir(parents=True)
    ms = np.rint(1000 * frame_times(len(folder.name) + take.index, _FPS, take.seconds, jitter_s=0.003))
    time_s = ms / 1000
    avi.write_avi(
        folder / _VIDEO, take.frames(time_s, _SIZE), fps=_FPS, codec="uncompressed", quality=100
    )
    timer = np.diff(ms, prepend=ms[0] - 1000 / _FPS) if "durations" in defects else ms
    _write_xml(folder / _TIMER, {"value1": timer})
    lag_s = _LATE_S if "late_label" in defects else 0.0
    n = _SURPLUS + int(time_s[-1] * _LABEL_HZ) + 1
    label_s = time_s[-1] - np.arange(n)[::-1] / _LABEL_HZ
    rate = np.rint(take.rate_bpm(label_s))
    if "rate_codes" in defects:
        rate[-40:-20], rate[-20:] = 127, 0
    _write_xml(
        folder / _LABELS, {"value1": rate, "value2": np.rint(52 + 40 * take.pulse(label_s - lag_s))}
    )
    return truth_of(
        take, folder.name, folder.parent.name, time_s, lag_s=lag_s, defect=", ".join(sorted(defects)),
        conditions={"activity": activity},
    )


def _write_xml(path: Path, columns: dict[str, Array]) -> None:
    """An element a sample with an element a value."""
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<stream>"]
    for index, values in enumerate(zip(*columns.values(), strict=True)):
        inside = "".join(f"<{name}>{value:.0f}</{name}>" for name, value in zip(columns, values, strict=True))
        lines.append(f'<sample id="{index}">{inside}</sample>')
    path.write_bytes(("\n".join([*lines, "</stream>"]) + "\n").encode("ascii"))
