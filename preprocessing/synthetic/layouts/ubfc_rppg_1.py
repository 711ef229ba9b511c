"""UBFC-rPPG DATASET_1: folders with one .avi of any name and gtdump.xmp, which is a table."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from preprocessing.synthetic import avi
from preprocessing.synthetic.layouts.base import LAYOUTS, Layout, Take, Truth, make_take, truth_of
from utils.files import natural_key

_FOLDERS = ("5-gt", "10-gt", "after-exercise", "6-gt", "11-gt", "8-gt")
_VIDEOS = ("vid.avi", "vid_5gt.avi", "vid-001.avi", "vid-007.avi", "vid-12.avi", "vid.avi")
_TWINS = ("7-gt", "12-gt")
_SIZE = (128, 96)
_STEP_MS = 16
_SURPLUS_S = 0.8
_LATE_S = 0.25


@LAYOUTS.register("ubfc_rppg_1")
class UbfcRppg1Layout(Layout):
    """{5-gt, 10-gt, ...}/{one .avi, gtdump.xmp}: milliseconds, heart rate, SpO2, whole-numbered pulse.

    twin: two more folders, 7-gt and 12-gt, hold the same files. late_label: the first folder's pulse
    is 0.25 s late. rate_codes: the first folder's device rate is 0, then 255. two_videos: the first
    folder holds a second .avi.
    """

    name = "ubfc_rppg_1"
    description = "UBFC-rPPG DATASET_1: uncompressed AVI, gtdump.xmp in milliseconds at 62.5 Hz"
    defects = ("twin", "late_label", "rate_codes", "two_videos")

    def most_people(self) -> int:
        """As many as have a folder."""
        return len(_FOLDERS)

    def _write(
        self, root: Path, people: int, seconds: float, seed: int, defects: frozenset[str]
    ) -> list[Truth]:
        truths = []
        for person in range(people):
            planted = defects - {"twin"} if person == 0 else frozenset[str]()
            take = make_take(seed, person, seconds=seconds)
            truths.append(_write_folder(root / _FOLDERS[person], _VIDEOS[person], take, planted))
        if "twin" in defects:
            one, other = (root / name for name in _TWINS)
            truth = _write_folder(one, "vid-007.avi", make_take(seed, people, seconds=seconds), frozenset())
            other.mkdir()
            shutil.copyfile(one / "vid-007.avi", other / "vid-12.avi")
            shutil.copyfile(one / "gtdump.xmp", other / "gtdump.xmp")
            truths += [_twin(truth, name) for name in _TWINS]
        return sorted(truths, key=lambda truth: natural_key(truth.recording))


def _twin(truth: Truth, name: str) -> Truth:
    """Both are of one subject: the first's."""
    return Truth(name, truth.subject, truth.rate_bpm, truth.n_frames, truth.fps, defect="twin")


def _write_folder(folder: Path, video: str, take: Take, defects: frozenset[str]) -> Truth:
    folder.mkdir()
    fps = 28.68
    time_s = np.arange(round(take.seconds * fps)) / fps
    avi.write_avi(folder / video, take.frames(time_s, _SIZE), fps=fps, codec="uncompressed", quality=100)
    if "two_videos" in defects:
        shutil.copyfile(folder / video, folder / f"copy_of_{video}")
    lag_s = _LATE_S if "late_label" in defects else 0.0
    stamps_ms = np.arange(0, int((take.seconds + _SURPLUS_S) * 1000), _STEP_MS)
    label_s = stamps_ms / 1000
    pulse = np.rint(52 + 40 * take.pulse(label_s - lag_s)).astype(int)
    rate = np.rint(take.rate_bpm(label_s)).astype(int)
    if "rate_codes" in defects:
        rate[:20], rate[20:40] = 0, 255
    rows = (f"{t},{hr},98,{value}" for t, hr, value in zip(stamps_ms, rate, pulse, strict=True))
    (folder / "gtdump.xmp").write_bytes("".join(f"{row}\r\n" for row in rows).encode("ascii"))
    return truth_of(
        take, folder.name, folder.name, time_s, lag_s=lag_s, defect=", ".join(sorted(defects)),
        usable="two_videos" not in defects,
    )
