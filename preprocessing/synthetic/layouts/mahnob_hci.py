"""MAHNOB-HCI: Sessions/N with session.xml, the colour video of 61 fps, and a BDF of 47 channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from preprocessing.synthetic import avi
from preprocessing.synthetic.bdf import BdfChannel, write_bdf
from preprocessing.synthetic.layouts.base import LAYOUTS, Array, Layout, Take, Truth, make_take, truth_of
from utils.files import natural_key

_FPS, _RATE_HZ = 60.97, 256
_SIZE = (104, 80)
_BEFORE_S, _AFTER_S = 3.21, 2.0
_AMPLIFIER_BITS = 1 << 20
"""What BioSemi's Status holds all the time."""
_TRIGGER = 16
_SESSIONS = (10, 132, 2, 264)
_VIDEO = "P{0}-Rec1-2009.07.09.17.53.46_C{1} {2} _C_Section_{3}.avi"
_NOT_USABLE = frozenset({"no_status", "idle_status", "cut_signals", "document_type"})


@LAYOUTS.register("mahnob_hci")
class MahnobHciLayout(Layout):
    """A session of emotion elicitation for each person, and one of image tagging that is to be passed over.

    The BDF begins some seconds before the video and ends after it. In the first person's session:
    no_status: the Status channel marks nothing. idle_status: it is never zero. cut_signals: the BDF is
    cut in the middle. noisy_lead: EXG3 holds another heart rate than the other leads. document_type:
    session.xml declares entities.
    """

    name = "mahnob_hci"
    description = "MAHNOB-HCI: 60.97 fps video, ECG, respiration and Status at 256 Hz in BDF"
    defects = ("no_status", "idle_status", "cut_signals", "noisy_lead", "document_type")

    def most_people(self) -> int:
        """As many as have a session."""
        return len(_SESSIONS)

    def _write(
        self, root: Path, people: int, seconds: float, seed: int, defects: frozenset[str]
    ) -> list[Truth]:
        truths = []
        for person in range(people):
            planted = defects if person == 0 else frozenset()
            folder = root / "Sessions" / str(_SESSIONS[person])
            truths.append(_write_session(folder, make_take(seed, person, 0, seconds), person + 1, planted))
        other = root / "Sessions" / "100"
        other.mkdir()
        _write_xml(other / "session.xml", 1, "implicit tagging", frozenset())
        return sorted(truths, key=lambda truth: natural_key(truth.recording))


def _write_session(folder: Path, take: Take, subject: int, defects: frozenset[str]) -> Truth:
    folder.mkdir(parents=True)
    section = 2 * subject
    time_s = np.arange(round(take.seconds * _FPS)) / _FPS
    path = folder / _VIDEO.format(subject, 1, "trigger", section)
    avi.write_avi(path, take.frames(time_s, _SIZE), fps=_FPS, codec="mjpeg", quality=90)
    grey = folder / _VIDEO.format(subject, 2, "BW1", section)
    avi.write_avi(grey, take.frames(time_s[:2], (32, 24)), fps=_FPS, codec="mjpeg", quality=50)
    signals = folder / f"Part_{subject}_S_Trial{section // 2}_emotion.bdf"
    _write_signals(signals, take, len(time_s) / _FPS, defects)
    if "cut_signals" in defects:
        signals.write_bytes(signals.read_bytes()[: signals.stat().st_size // 2])
    _write_xml(folder / "session.xml", subject, "emotion elicitation", defects)
    name = f"unknown-{folder.name}" if "document_type" in defects else str(subject)
    return truth_of(
        take, folder.name, name, time_s, usable=not defects & _NOT_USABLE, defect=", ".join(sorted(defects))
    )


def _write_signals(path: Path, take: Take, video_s: float, defects: frozenset[str]) -> None:
    """47 channels; those nobody reads are flat."""
    time_s = np.arange(int((_BEFORE_S + video_s + _AFTER_S) * _RATE_HZ)) / _RATE_HZ - round(
        _BEFORE_S * _RATE_HZ) / _RATE_HZ
    ecg = _ecg(take, time_s)
    third = take.ecg(time_s * 1.3) if "noisy_lead" in defects else ecg
    flat = np.zeros_like(time_s)
    names = [*(f"E{k}" for k in range(1, 33)), *(f"EXG{k}" for k in range(1, 9)),
             "GSR1", "GSR2", "Erg1", "Erg2", "Resp", "Temp", "Status"]
    used = {
        "EXG1": 400 * ecg, "EXG2": -500 * ecg, "EXG3": 900 * third + 3000,
        "Resp": 1000 * take.respiration(time_s),
    }
    status = np.full(len(time_s), _AMPLIFIER_BITS)
    if "no_status" not in defects:
        first = int(np.searchsorted(time_s, 0.0))
        status[[first, first + 1, first + round(video_s * _RATE_HZ)]] |= _TRIGGER
    if "idle_status" in defects:
        status |= 255
    channels = [BdfChannel(name, used.get(name, flat)) for name in names[:-1]]
    channels.append(BdfChannel("Status", status, "Boolean", -(1 << 23), (1 << 23) - 1))
    write_bdf(path, channels, _RATE_HZ)


def _ecg(take: Take, time_s: Array) -> Array:
    """The ECG with baseline wander, also before and after the video."""
    return take.ecg(time_s) + 0.3 * np.sin(2 * np.pi * 0.2 * time_s)


def _write_xml(path: Path, subject: int, kind: str, defects: frozenset[str]) -> None:
    declared = '<!DOCTYPE session [<!ENTITY a "aaaa">]>\n' if "document_type" in defects else ""
    path.write_text(
        f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n{declared}'
        f'<session audBeginSmp="0" cutLenSec="0" experimentType="{kind}" feltEmo="4" isStim="1" '
        f'sessionId="{path.parent.name}" vidBeginSmp="154000" vidEndSmp="634000" vidRate="{_FPS}">\n'
        f'    <subject cohort="1" gender="F" id="{subject}"/>\n</session>\n', encoding="utf-8",
    )
