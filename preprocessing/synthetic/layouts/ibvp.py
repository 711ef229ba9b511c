"""iBVP: pNN_x with BMP pictures, thermal frames, and a table of the pulse at the pictures' rate."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from preprocessing.synthetic.layouts.base import LAYOUTS, Layout, Take, Truth, make_take, truth_of

_SUBJECTS = (2, 10, 8, 1, 33)
_SIZE = (96, 72)
_FPS = 30.0
_LATE_S = 0.25
_POOR = slice(90, 150)
_COLUMNS = "BVP,SQPhysMD,SQ1,SQ2,Perfusion"
_MISSING = 100
_NOT_USABLE = frozenset({"mostly_poor", "damaged_picture", "no_table"})


@LAYOUTS.register("ibvp")
class IbvpLayout(Layout):
    """pNN_a/{pNN_a_rgb/*.bmp, pNN_a_t/*.raw, pNN_a_bvp.csv}; session b of every second person.

    In the first recording: late_label: the pulse is 0.25 s late. poor_quality: SQ2 is 0.1 from 3 s to
    5 s, where the pulse is noise. mostly_poor: so for most of the time. missing_picture: one of the
    middle is gone. damaged_picture: one holds half of its bytes. no_header: the table has none.
    no_table: the table is gone.
    """

    name = "ibvp"
    description = "iBVP: BMP pictures, pulse with its quality in a CSV of the same rate"
    defects = (
        "late_label", "poor_quality", "mostly_poor", "missing_picture", "damaged_picture", "no_header",
        "no_table",
    )

    def most_people(self) -> int:
        """As many as have a number here."""
        return len(_SUBJECTS)

    def _write(
        self, root: Path, people: int, seconds: float, seed: int, defects: frozenset[str]
    ) -> list[Truth]:
        return [
            _write_recording(
                root / f"p{_SUBJECTS[person]:02}_{'ab'[person % 2]}",
                make_take(seed, person, seconds=seconds), defects if person == 0 else frozenset(),
            )
            for person in sorted(range(people), key=lambda person: _SUBJECTS[person])
        ]


def _write_recording(folder: Path, take: Take, defects: frozenset[str]) -> Truth:
    time_s = np.arange(round(take.seconds * _FPS)) / _FPS
    pictures, thermal = folder / f"{folder.name}_rgb", folder / f"{folder.name}_t"
    pictures.mkdir(parents=True)
    thermal.mkdir()
    for index, frame in enumerate(take.frames(time_s, _SIZE)):
        cv2.imwrite(str(pictures / f"{folder.name}_{index:05}.bmp"), frame)
    np.full((8, 10), 7800, np.uint16).tofile(thermal / f"{folder.name}_00000.raw")
    lag_s = _LATE_S if "late_label" in defects else 0.0
    if "no_table" not in defects:
        _write_table(folder / f"{folder.name}_bvp.csv", take.pulse(time_s - lag_s), defects)
    kept = np.ones(len(time_s), dtype=bool)
    middle = pictures / f"{folder.name}_{_MISSING:05}.bmp"
    if "missing_picture" in defects:
        middle.unlink()
        kept[_MISSING] = False
    if "damaged_picture" in defects:
        middle.write_bytes(middle.read_bytes()[: middle.stat().st_size // 2])
    return truth_of(
        take, folder.name, folder.name[:-2], time_s[kept], lag_s=lag_s, usable=not defects & _NOT_USABLE,
        defect=", ".join(sorted(defects)), conditions={"session": folder.name[-1]},
    )


def _write_table(path: Path, pulse: np.ndarray, defects: frozenset[str]) -> None:
    quality = np.full(len(pulse), 0.95)
    if "poor_quality" in defects:
        quality[_POOR] = 0.1
    if "mostly_poor" in defects:
        quality[: 2 * len(quality) // 3] = 0.1
    noise = np.random.default_rng(len(pulse)).normal(0, 1, len(pulse))
    values = 500 + 120 * np.where(quality < 0.3, noise, pulse)
    rows = [f"{value:.4f},1,1,{sq:.2f},{1.5:.2f}" for value, sq in zip(values, quality, strict=True)]
    header = [] if "no_header" in defects else [_COLUMNS]
    path.write_bytes(("\r\n".join([*header, *rows]) + "\r\n").encode("ascii"))
