"""UBFC-rPPG DATASET_2: subjectN/vid.avi, uncompressed, with three lines of ground_truth.txt."""

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

_SUBJECTS = (1, 10, 3, 11, 4, 18, 5, 20, 8, 24)
_LATE_S = 0.25
_SIZE = (128, 96)


@LAYOUTS.register("ubfc_rppg_2")
class UbfcRppg2Layout(Layout):
    """subjectN/{vid.avi, ground_truth.txt}: pulse, device rate and seconds, a value a frame.

    zero_device_rate: half of the rates of the first subject are 0. late_label: the pulse line of
    the first subject is 0.25 s late. repeated_stamps: two stamps of the first subject repeat.
    flat_label: the first subject's pulse is constant. cut_video: the first subject's AVI ends in
    the middle.
    """

    name = "ubfc_rppg_2"
    description = "UBFC-rPPG DATASET_2: uncompressed AVI, ground_truth.txt with its own time stamps"
    defects = ("zero_device_rate", "late_label", "repeated_stamps", "flat_label", "cut_video")

    def most_people(self) -> int:
        """As many as have a number."""
        return len(_SUBJECTS)

    def _write(
        self, root: Path, people: int, seconds: float, seed: int, defects: frozenset[str]
    ) -> list[Truth]:
        truths = {}
        for person in range(people):
            number = _SUBJECTS[person]
            planted = defects if person == 0 else frozenset()
            truths[number] = _write_subject(
                root / f"subject{number}", make_take(seed, person, seconds=seconds), seed + person, planted
            )
        return [truths[number] for number in sorted(truths)]


def _write_subject(folder: Path, take: Take, seed: int, defects: frozenset[str]) -> Truth:
    folder.mkdir()
    fps = 29.3 + 0.5 * np.random.default_rng([seed, 1]).random()
    time_s = np.round(frame_times(seed, fps, take.seconds), 3)
    avi.write_avi(
        folder / "vid.avi", take.frames(time_s, _SIZE), fps=round(fps, 2), codec="uncompressed", quality=100
    )
    if "cut_video" in defects:
        path = folder / "vid.avi"
        with open(path, "r+b") as handle:
            handle.truncate(path.stat().st_size // 2)
    lag_s = _LATE_S if "late_label" in defects else 0.0
    _write_labels(folder / "ground_truth.txt", take, time_s, lag_s, defects)
    return truth_of(
        take, folder.name, folder.name, time_s, lag_s=lag_s, defect=", ".join(sorted(defects)),
        usable=not defects & {"flat_label", "cut_video"},
    )


def _write_labels(path: Path, take: Take, time_s: Array, lag_s: float, defects: frozenset[str]) -> None:
    """Numbers in scientific notation, three spaces before each, as the original has them."""
    pulse, rate, stamps = take.pulse(time_s - lag_s), np.rint(take.rate_bpm(time_s)), time_s.copy()
    if "zero_device_rate" in defects:
        rate[: len(rate) // 2] = 0
    if "flat_label" in defects:
        pulse[:] = 0.25
    if "repeated_stamps" in defects:
        stamps[[20, 41]] = stamps[[19, 40]]
    lines = ["".join(f"   {value: .7e}" for value in line) for line in (pulse, rate, stamps)]
    path.write_bytes(("\n".join(lines) + "\n").encode("ascii"))
