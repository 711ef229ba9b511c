"""COHFACE: subject/session/data.avi at 20 fps with data.hdf5 at 256 Hz, and protocols."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np

from preprocessing.synthetic import avi
from preprocessing.synthetic.layouts.base import LAYOUTS, Layout, Take, Truth, make_take, truth_of
from utils.files import natural_key

_SUBJECTS = (1, 10, 2, 6)
_SESSIONS = {0: "lamp", 2: "natural"}
_FPS, _LABEL_HZ = 20.0, 256.0
_SIZE = (128, 96)
_LONGER_S = 0.5
_LATE_S = 0.25
_NOT_USABLE = frozenset({"external_link", "unequal_series"})


@LAYOUTS.register("cohface")
class CohfaceLayout(Layout):
    """Sessions 0 (lamp) and 2 (natural light) of each person.

    In the first person's session 0: late_label: the pulse is 0.25 s late. millisecond_times: the times
    are in milliseconds and contradict the stated rate. external_link: the pulse lies in another file.
    unequal_series: the respiration lacks its end. nested_copy: the recording lies in its folder again.
    """

    name = "cohface"
    description = "COHFACE: AVI at 20 fps, pulse and respiration at 256 Hz in HDF5"
    defects = ("late_label", "millisecond_times", "external_link", "unequal_series", "nested_copy")

    def most_people(self) -> int:
        """As many as have a number here."""
        return len(_SUBJECTS)

    def _write(
        self, root: Path, people: int, seconds: float, seed: int, defects: frozenset[str]
    ) -> list[Truth]:
        truths = []
        for person, number in enumerate(_SUBJECTS[:people]):
            for index, session in enumerate(_SESSIONS):
                take = make_take(seed, person, index, seconds)
                planted = defects if (person, index) == (0, 0) else frozenset()
                truths.append(_write_session(root / str(number) / str(session), take, planted))
        folder = root / "protocols" / "all"
        folder.mkdir(parents=True)
        truths.sort(key=lambda truth: natural_key(truth.recording))
        lines = [f"{truth.recording.replace('-', '/')}/data\n" for truth in truths]
        (folder / "all.txt").write_text("".join(lines), encoding="ascii")
        return truths


def _write_session(folder: Path, take: Take, defects: frozenset[str]) -> Truth:
    folder.mkdir(parents=True)
    time_s = np.arange(round(take.seconds * _FPS)) / _FPS
    avi.write_avi(folder / "data.avi", take.frames(time_s, _SIZE), fps=_FPS, codec="mjpeg", quality=90)
    lag_s = _LATE_S if "late_label" in defects else 0.0
    _write_labels(folder / "data.hdf5", take, lag_s, defects)
    subject, session = folder.parent.name, folder.name
    if "nested_copy" in defects:
        (folder / subject / session).mkdir(parents=True)
        for name in ("data.avi", "data.hdf5"):
            shutil.copyfile(folder / name, folder / subject / session / name)
    return truth_of(
        take, f"{subject}-{session}", subject, time_s, lag_s=lag_s, usable=not defects & _NOT_USABLE,
        defect=", ".join(sorted(defects)), conditions={"light": _SESSIONS[int(session)], "session": session},
    )


def _write_labels(path: Path, take: Take, lag_s: float, defects: frozenset[str]) -> None:
    time_s = np.arange(round((take.seconds + _LONGER_S) * _LABEL_HZ)) / _LABEL_HZ
    breath = 1.5 * take.respiration(time_s)
    series = {
        "pulse": 30 + 8 * take.pulse(time_s - lag_s), "time": time_s,
        "respiration": breath[: len(breath) // 2] if "unequal_series" in defects else breath,
    }
    if "millisecond_times" in defects:
        series["time"] = 1000 * time_s
    with h5py.File(path, "w") as file:
        for name, values in series.items():
            if name == "pulse" and "external_link" in defects:
                file[name] = h5py.ExternalLink("elsewhere.hdf5", "/pulse")
                continue
            file.create_dataset(name, data=values)
        session = int(path.parent.name)
        stated = {"birth-date": "1980-01-01", "client-id": path.parent.parent.name, "scale": 1.0,
                  "illumination": "lamp" if session < 2 else "natural", "sample-rate-hz": int(_LABEL_HZ),
                  "session": session}
        for key, value in stated.items():
            file.attrs[key] = value
