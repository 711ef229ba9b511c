"""BP4D+: JPEG pictures in 2D+3D, zipped or as folders, and Physiology at 1 kHz."""

from __future__ import annotations

import zipfile
from pathlib import Path

import cv2
import numpy as np

from preprocessing.synthetic.layouts.base import LAYOUTS, Array, Layout, Take, Truth, make_take, truth_of
from utils.files import natural_key

_FPS, _LABEL_HZ = 25.0, 1000.0
_SIZE = (104, 139)
_PEOPLE = ("F001", "M010", "F002", "M003")
_LONGER_S = 0.6
_LATE_S = 0.25
_ZIP_DATE = (2016, 1, 1, 0, 0, 0)
_NOT_USABLE = frozenset({"no_pressure", "damaged_picture"})


@LAYOUTS.register("bp4d")
class Bp4dLayout(Layout):
    """T2 and T10 of the first person, whose pictures stay zipped, T1 of the others, in folders.

    Beside the pictures lie the three-dimensional models, which a reader must pass over. In the first
    person's T2: late_label: pressure 0.25 s late. no_pressure: it is gone. damaged_picture: one
    picture holds half of its bytes. no_pictures: T11 was measured, but is not in the zip file.
    """

    name = "bp4d"
    description = "BP4D+: JPEG pictures at 25 fps, partly zipped, blood pressure and respiration at 1 kHz"
    defects = ("late_label", "no_pressure", "damaged_picture", "no_pictures")

    def most_people(self) -> int:
        """As many as have a name."""
        return len(_PEOPLE)

    def _write(
        self, root: Path, people: int, seconds: float, seed: int, defects: frozenset[str]
    ) -> list[Truth]:
        truths = []
        for person, subject in enumerate(_PEOPLE[:people]):
            tasks = ["T2", "T10"] if person == 0 else ["T1"]
            members = {}
            for index, task in enumerate(tasks):
                take = make_take(seed, person, index, seconds)
                planted = defects - {"no_pictures"} if (person, index) == (0, 0) else frozenset()
                members.update(_pictures(take, task, planted))
                truths.append(_write_task(root, subject, task, take, planted))
            if person == 0 and "no_pictures" in defects:
                truths.append(_write_task(root, subject, "T11", take, frozenset({"no_pictures"})))
            _write_members(root / "2D+3D", subject, members, is_zipped=person == 0)
        return sorted(truths, key=lambda truth: natural_key(truth.recording))


def _times(take: Take) -> Array:
    return np.arange(round(take.seconds * _FPS)) / _FPS


def _pictures(take: Take, task: str, defects: frozenset[str]) -> dict[str, bytes]:
    """Content of the files of a task by name: a picture and a model a frame."""
    found = {}
    for index, frame in enumerate(take.frames(_times(take), _SIZE)):
        data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
        damaged = "damaged_picture" in defects and index == 20
        found[f"{task}/{index:04d}.jpg"] = data[: len(data) // 2] if damaged else data
        found[f"{task}/{index:04d}.obj"] = b"v 0 0 0\n"
    return found


def _write_members(folder: Path, subject: str, members: dict[str, bytes], is_zipped: bool) -> None:
    folder.mkdir(exist_ok=True)
    if is_zipped:
        with zipfile.ZipFile(folder / f"{subject}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(zipfile.ZipInfo(f"{subject}/{name}", _ZIP_DATE), data)
        return
    for name, data in members.items():
        path = folder / subject / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _write_task(root: Path, subject: str, task: str, take: Take, defects: frozenset[str]) -> Truth:
    """Physiology of a task, a value a line."""
    folder = root / "Physiology" / subject / task
    folder.mkdir(parents=True)
    lag_s = _LATE_S if "late_label" in defects else 0.0
    time_s = np.arange(round((take.seconds + _LONGER_S) * _LABEL_HZ)) / _LABEL_HZ
    pressure, rate = 90 + 38 * take.pulse(time_s - lag_s), take.rate_bpm(time_s)
    series = {
        "BP_mmHg": pressure, "LA Mean BP_mmHg": np.full_like(time_s, pressure.mean()),
        "LA Systolic BP_mmHg": np.full_like(time_s, pressure.max()),
        "BP Dia_mmHg": np.full_like(time_s, pressure.min()), "Pulse Rate_BPM": rate,
        "Resp_Volts": 0.4 * take.respiration(time_s), "microsiemens": np.full_like(time_s, 2.5),
        "Respiration Rate_BPM": np.full_like(time_s, 60 * take.subject.rhythm.respiration_hz),
    }
    if "no_pressure" in defects:
        del series["BP_mmHg"]
    for name, values in series.items():
        lines = "\r\n".join(f"{value:.5f}" for value in values)
        (folder / f"{name}.txt").write_bytes(f"{lines}\r\n".encode("ascii"))
    usable = not defects & (_NOT_USABLE | {"no_pictures"})
    return truth_of(
        take, f"{subject}_{task}", subject, _times(take), lag_s=lag_s, usable=usable,
        defect=", ".join(sorted(defects)), conditions={"task": task},
    )
