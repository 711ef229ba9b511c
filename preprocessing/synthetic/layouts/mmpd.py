"""MMPD: subjectN/pN_k.mat, MATLAB version 5, the video as t x h x w x 3 numbers from 0 to 1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from preprocessing.synthetic.layouts.base import LAYOUTS, Layout, Take, Truth, make_take, truth_of
from preprocessing.synthetic.matlab import write_mat
from utils.files import natural_key

_SUBJECTS = (10, 2, 1, 3, 33)
_SIZE = (80, 60)
_FPS = 30.0
_LATE_S = 0.25
_COMPRESSED = (0, 1)
"""Person and recording whose file is compressed, as all of the set are; packing them costs a second each."""
_SCENES: tuple[dict[str, str], ...] = (
    {"light": "LED-low", "motion": "Stationary", "exercise": "False"},
    {"light": "Nature", "motion": "Watching Videos ", "exercise": "False"},
)
_READ: tuple[dict[str, str], ...] = (
    {"light": "led-low", "motion": "stationary", "exercise": "false"},
    {"light": "nature", "motion": "walking", "exercise": "false"},
)
_NOT_USABLE = frozenset({"cut_file", "half_label", "wrong_folder", "flat_label"})


@LAYOUTS.register("mmpd")
class MmpdLayout(Layout):
    """subjectN/{pN_0.mat, pN_1.mat} of the mini release: float64, then float32.

    In the first recording: late_label: the pulse is 0.25 s late. short_label: it has five samples
    less than the video has frames. half_label: it has half as many. flat_label: it is constant.
    cut_file: the file ends in the middle. grey_levels: the video goes from 0 to 255. wrong_folder:
    another person's file lies in the folder.
    """

    name = "mmpd"
    description = "MMPD-mini: MATLAB files with video, pulse and conditions"
    defects = (
        "late_label", "short_label", "half_label", "flat_label", "cut_file", "grey_levels", "wrong_folder",
    )

    def most_people(self) -> int:
        """As many as have a number here."""
        return len(_SUBJECTS)

    def _write(
        self, root: Path, people: int, seconds: float, seed: int, defects: frozenset[str]
    ) -> list[Truth]:
        truths = []
        for person in sorted(range(people), key=lambda person: _SUBJECTS[person]):
            number = _SUBJECTS[person]
            folder = root / f"subject{number}"
            folder.mkdir()
            for index in range(len(_SCENES)):
                planted = defects if person == 0 and index == 0 else frozenset[str]()
                owner = number + 1 if "wrong_folder" in planted else number
                take = make_take(seed, person, index, seconds)
                path, is_compressed = folder / f"p{owner}_{index}.mat", (person, index) == _COMPRESSED
                truths.append(_write_file(path, take, planted, is_compressed))
        return sorted(truths, key=lambda truth: natural_key(f"{truth.subject}/{truth.recording}"))


def _write_file(path: Path, take: Take, defects: frozenset[str], is_compressed: bool) -> Truth:
    time_s = np.arange(round(take.seconds * _FPS)) / _FPS
    lag_s = _LATE_S if "late_label" in defects else 0.0
    n_label = len(time_s) - 5 if "short_label" in defects else len(time_s)
    pulse = take.pulse(np.linspace(0, time_s[-1], n_label) - lag_s)
    if "half_label" in defects:
        pulse = pulse[: len(pulse) // 2]
    if "flat_label" in defects:
        pulse[:] = 0.25
    scale = 1.0 if "grey_levels" in defects else 255.0
    video = np.stack([frame[..., ::-1] for frame in take.frames(time_s, _SIZE)])
    values: dict[str, Any] = {
        "video": video / scale if take.index == 0 else (video / scale).astype(np.float32),
        "GT_ppg": pulse[None], **_SCENES[take.index], "skin_color": 5, "gender": "male",
        "glasser": "False", "hair_cover": "True", "makeup": "False",
    }
    write_mat(path, values, compress=is_compressed)
    if "cut_file" in defects:
        with open(path, "r+b") as handle:
            handle.truncate(path.stat().st_size // 2)
    stated = {"skin_tone": "5", "gender": "male", "glasses": "false", "hair_cover": "true", "makeup": "false"}
    conditions = {} if "cut_file" in defects else {
        "resolution": f"{_SIZE[0]}x{_SIZE[1]}", **_READ[take.index], **stated,
    }
    return truth_of(
        take, path.stem, path.parent.name, time_s, lag_s=lag_s, usable=not defects & _NOT_USABLE,
        defect=", ".join(sorted(defects)), conditions=conditions,
    )
