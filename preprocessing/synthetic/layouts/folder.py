"""Own recordings: a video or a folder of pictures beside a CSV or a JSON of the same name."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
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

_PEOPLE = ("p2", "p10", "p1", "p31", "p4")
_LABEL_HZ, _RATE_HZ = 50.0, 1.0
_LATE_S = 0.25
_TAIL_S = 0.3


@LAYOUTS.register("folder")
class FolderLayout(Layout):
    """Two recordings of each person: NAME_rest.avi with a CSV, NAME_talk as pictures with a JSON.

    In the first person's first recording: late_label: the pulse is 0.25 s late. two_videos: there is a
    second video of the name. no_video: there is only the label. flat_label: the pulse is constant.
    """

    name = "folder"
    description = "own recordings: AVI and CSV, pictures and JSON, subjects in the names"
    defects = ("late_label", "two_videos", "no_video", "flat_label")

    def most_people(self) -> int:
        """As many as have a name here."""
        return len(_PEOPLE)

    def _write(
        self, root: Path, people: int, seconds: float, seed: int, defects: frozenset[str]
    ) -> list[Truth]:
        truths: list[Truth] = []
        stated: dict[str, dict[str, dict[str, str]]] = {}
        for person in sorted(range(people), key=lambda person: int(_PEOPLE[person][1:])):
            name = _PEOPLE[person]
            planted = defects if person == 0 else frozenset[str]()
            truths += [
                _write_video(root / f"{name}_rest", name, make_take(seed, person, 0, seconds), planted),
                _write_pictures(root / f"{name}_talk", name, make_take(seed, person, 1, seconds)),
            ]
            stated |= {f"{name}_{task}": {"conditions": {"task": task}} for task in ("rest", "talk")}
        (root / "recordings.json").write_text(json.dumps(stated, indent=1), encoding="ascii")
        return truths


def _write_video(base: Path, subject: str, take: Take, defects: frozenset[str]) -> Truth:
    """A video whose times are the container's, and a CSV in which only some lines have a rate."""
    fps = 24.5
    time_s = np.arange(round(take.seconds * fps)) / fps
    video = base.with_name(f"{base.name}.avi")
    avi.write_avi(video, take.frames(time_s), fps=fps, codec="mjpeg", quality=95)
    if "two_videos" in defects:
        base.with_name(f"{base.name}.mp4").write_bytes(video.read_bytes())
    if "no_video" in defects:
        video.unlink()
    lag_s = _LATE_S if "late_label" in defects else 0.0
    label_s = np.arange(round((take.seconds + _TAIL_S) * _LABEL_HZ)) / _LABEL_HZ
    pulse = take.pulse(label_s - lag_s)
    if "flat_label" in defects:
        pulse[:] = 0.5
    rate, every = take.rate_bpm(label_s), round(_LABEL_HZ / _RATE_HZ)
    rows = ["time_s,pulse,hr_bpm"]
    for index, (t, value) in enumerate(zip(label_s, pulse, strict=True)):
        rows.append(f"{t:.3f},{value:.5f},{f'{rate[index]:.0f}' if index % every == 0 else ''}")
    base.with_name(f"{base.name}.csv").write_bytes("".join(f"{row}\r\n" for row in rows).encode("ascii"))
    return truth_of(
        take, base.name, subject, time_s, lag_s=lag_s, defect=", ".join(sorted(defects)),
        usable=not defects & {"two_videos", "no_video", "flat_label"}, conditions={"task": "rest"},
    )


def _write_pictures(base: Path, subject: str, take: Take) -> Truth:
    """Numbered JPEG pictures, their times in a CSV by the label's clock, and a JSON."""
    start_s = 1000.5
    time_s = np.round(frame_times(take.index, 28.0, take.seconds, jitter_s=0.002), 4)
    base.mkdir()
    for index, frame in enumerate(take.frames(time_s)):
        data = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
        (base / f"frame{index}.jpg").write_bytes(data.tobytes())
    _write_lines(base.with_name(f"{base.name}.frames.csv"), start_s + time_s)
    label_s = np.arange(round((take.seconds + _TAIL_S) * _LABEL_HZ)) / _LABEL_HZ
    seconds = np.arange(int(take.seconds) + 1.0)
    content = {
        "time_s": np.round(start_s + label_s, 4).tolist(), "pulse": np.round(take.pulse(label_s), 5).tolist(),
        "hr_time_s": (start_s + seconds).tolist(), "hr_bpm": np.rint(take.rate_bpm(seconds)).tolist(),
        "resp": np.round(take.respiration(label_s), 5).tolist(),
    }
    base.with_name(f"{base.name}.json").write_text(json.dumps(content), encoding="ascii")
    return truth_of(take, base.name, subject, time_s, conditions={"task": "talk"})


def _write_lines(path: Path, time_s: Array) -> None:
    path.write_bytes("".join(["time_s\n", *(f"{t:.4f}\n" for t in time_s)]).encode("ascii"))
