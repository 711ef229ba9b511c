"""MAHNOB-HCI (Soleymani et al. 2012): Sessions/N/{session.xml, *C1 trigger*.avi, *_emotion.bdf}."""

from __future__ import annotations

import math
import re
import xml.parsers.expat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from preprocessing.bdf import BdfFile
from preprocessing.ecg import r_peaks, rate_over_time
from preprocessing.sources.base import SOURCES, Frame, FrameReader, Labels, RawRecording, Series, Source
from preprocessing.sources.text import folder_of, nothing_found
from preprocessing.video import VideoReader
from utils.errors import UserError
from utils.files import natural_key

Lead = Literal["exg1", "exg2", "exg3"]
Window = Literal["whole", "paper"]

LEADS: tuple[Lead, ...] = ("exg1", "exg2", "exg3")
N_RECORDINGS = 527
PAPER_FRAMES = range(306, 2136, 2)
"""Half a minute from about the fifth second on, every other frame, as the papers of the field take it."""

_EXPECTED = "Sessions/2, Sessions/4, ... with session.xml, the colour video (C1) and a file *_emotion.bdf"
_SESSION = re.compile(r"\d+")
_VIDEO, _SIGNALS = "*C1 trigger*.avi", "*_emotion.bdf"
_MOST_XML_BYTES = 1 << 20
_TRIGGER_BITS = 0xFFFF
"""Of the Status channel; the bits above tell how the amplifier is."""
_RATE_STEP_S = 0.25
_AGREE_BPM = 3.0
_UNCLEAR = 0.1
_NOTED_S, _FOREIGN_S, _FOREIGN_SHARE = 1.0, 2.0, 0.05
"""A difference between video and signals that is worth a word; and one that says they do not match."""


@SOURCES.register("mahnob_hci")
class MahnobHci(Source):
    """MAHNOB-HCI, emotion elicitation: 27 people, 527 colour videos at 61 fps, ECG and respiration at 256 Hz.

    The label is an ECG: its R peaks, found at the native rate, give the heart rate over time; there is
    no pulse waveform to train on (pulse is NaN). The signals are cut to the video by the Status
    channel. No conditions.
    """

    name = "mahnob_hci"
    access = "End user licence agreement of the iBUG group, Imperial College (https://mahnob-db.eu/hci-tagging)."

    def __init__(self, root: Path, *, ecg: Lead = "exg3", window: Window = "whole") -> None:
        """root: the folder Sessions, or the one around it.

        ecg: the lead; "exg3" (left abdomen) is the cleanest. window: "whole", or "paper": frames 306 to
        2135 of each video, every other one left out (30.5 a second).
        """
        folder_of(root, "MAHNOB-HCI", _EXPECTED)
        place = root / "Sessions" if (root / "Sessions").is_dir() else root
        self._folders = [
            path for path in place.iterdir()
            if path.is_dir() and _SESSION.fullmatch(path.name) and _files(path, _SIGNALS)
        ]
        if not self._folders:
            raise nothing_found(root, _EXPECTED)
        self._ecg, self._window = ecg, window

    def recordings(self) -> list[RawRecording]:
        """A recording for each session with an emotion BDF file, named by its number: 2 before 10."""
        return [
            MahnobRecording(
                dataset=self.name, subject=_subject(folder), recording=folder.name, folder=folder,
                ecg=self._ecg, window=self._window,
            )
            for folder in sorted(self._folders, key=lambda path: natural_key(path.name))
        ]

    def notes(self) -> list[str]:
        """How many of the set's videos this copy has, where it has not all."""
        n = len(self._folders)
        return [] if n == N_RECORDINGS else [f"{n} of {N_RECORDINGS} sessions of emotion elicitation"]


def _files(folder: Path, pattern: str) -> list[Path]:
    """What matches in a session's folder; hidden files are what a Mac leaves beside copied ones."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def _subject(folder: Path) -> str:
    """The subject's number; of an unreadable session, whose labels are refused, one that no other has."""
    try:
        return read_session(folder / "session.xml")["subject"]
    except UserError:
        return f"unknown-{folder.name}"


def read_session(path: Path) -> dict[str, str]:
    """session.xml as {"subject": id, attribute of the session: value}.

    UserError for a missing or damaged file, one with a document type (entities could grow without
    end), one that is too large, and one without a subject.
    """
    try:
        if path.stat().st_size > _MOST_XML_BYTES:
            raise UserError(f"{path}: larger than {_MOST_XML_BYTES:,} bytes, not read")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; copy the recording again") from None
    found: dict[str, str] = {}

    def begin(tag: str, attributes: dict[str, str]) -> None:
        if tag == "subject":
            found.setdefault("subject", attributes.get("id", ""))
        elif tag == "session":
            found.update({key: value for key, value in attributes.items() if key != "subject"})

    def refuse(*_: object) -> None:
        raise UserError(f"{path}: a document type is declared in it, not read")

    parser = xml.parsers.expat.ParserCreate()
    parser.StartElementHandler, parser.StartDoctypeDeclHandler = begin, refuse
    try:
        parser.Parse(data, True)
    except (xml.parsers.expat.ExpatError, LookupError, ValueError) as error:
        raise UserError(f"{path}: not XML ({str(error)[:200]}); copy the recording again") from None
    if not re.fullmatch(r"[A-Za-z0-9_-]+", found.get("subject", "")):
        raise UserError(f"{path}: it names no subject (<subject id=...>)")
    return found


@dataclass(frozen=True, kw_only=True)
class MahnobRecording(RawRecording):
    """One session."""

    folder: Path
    ecg: Lead
    window: Window

    def files(self) -> list[Path]:
        """Session, video, signals."""
        return [self.folder / "session.xml", self._one(_VIDEO), self._one(_SIGNALS)]

    def open_frames(self) -> FrameReader:
        """The frames of the colour video, all or those of the window."""
        reader = VideoReader(self._one(_VIDEO))
        return reader if self.window == "whole" else ChosenFrames(reader, PAPER_FRAMES)

    def labels(self) -> Labels:
        """ECG, its heart rate four times a second, respiration; frames by the session's vidRate."""
        frame_time_s, video_s = self._frame_times(read_session(self.folder / "session.xml"))
        signals = BdfFile(self._one(_SIGNALS))
        fs = signals.rate_hz(self.ecg)
        first, last = _on_video(signals)
        span_s = (last - first) / fs
        odd = _differing(signals.path, span_s, video_s)
        at_s = np.arange(frame_time_s[0], min(span_s, frame_time_s[-1]), _RATE_STEP_S)
        leads = {lead: signals.read(lead) for lead in LEADS}
        rates = {lead: rate_over_time(r_peaks(x, fs) - first / fs, at_s) for lead, x in leads.items()}
        breath, breath_hz = signals.read("Resp"), signals.rate_hz("Resp")
        breath = breath[round(first / fs * breath_hz) : round(last / fs * breath_hz) + 1]
        ecg = leads[self.ecg][first : last + 1]
        return Labels(
            kind="ecg", samples=ecg, time_s=np.arange(len(ecg)) / fs, hr_bpm=rates[self.ecg], hr_time_s=at_s,
            resp=breath, resp_time_s=np.arange(len(breath)) / breath_hz, frame_time_s=frame_time_s,
            warnings=(*odd, *_doubts(rates, self.ecg)),
        )

    def _frame_times(self, session: dict[str, str]) -> tuple[Series, float]:
        """Times of the frames that are read, and the duration of the whole video, in seconds."""
        path = self.folder / "session.xml"
        try:
            fps = float(session["vidRate"])
        except (KeyError, ValueError):
            raise UserError(f"{path}: no vidRate, so the frames' times are unknown") from None
        n = VideoReader(self._one(_VIDEO)).n_declared
        if not n or not (math.isfinite(fps) and 1 <= fps <= 1000):
            raise UserError(f"{path}: vidRate {fps:g} and {n} frames give no times")
        chosen = np.arange(n) if self.window == "whole" else np.array(PAPER_FRAMES)
        return chosen / fps, n / fps

    def _one(self, pattern: str) -> Path:
        found = _files(self.folder, pattern)
        if len(found) != 1:
            raise UserError(f"{self.folder}: {len(found)} files {pattern}; one is needed")
        return found[0]


def _on_video(signals: BdfFile) -> tuple[int, int]:
    """First and last sample at which the Status channel marks the video."""
    marked = np.flatnonzero(signals.read_digital("Status") & _TRIGGER_BITS)
    if len(marked) < 2 or marked[-1] - marked[0] < signals.rate_hz("Status"):
        raise UserError(f"{signals.path}: the Status channel marks no video")
    return int(marked[0]), int(marked[-1])


def _differing(path: Path, marked_s: float, video_s: float) -> list[str]:
    """A warning where the marks and the video last differently; UserError where they do not match."""
    text = f"the Status channel marks {marked_s:.1f} s, the video lasts {video_s:.1f} s"
    away_s = abs(marked_s - video_s)
    if away_s > max(_FOREIGN_S, _FOREIGN_SHARE * video_s):
        raise UserError(f"{path}: {text}; it is unknown where in the signals the video begins")
    return [text] if away_s > _NOTED_S else []


def _doubts(rates: dict[Lead, Series], chosen: Lead) -> list[str]:
    """Warnings where the R peaks are unclear, or another lead tells another heart rate."""
    mean = {lead: float(np.nanmean(x)) for lead, x in rates.items() if np.isfinite(x).any()}
    unclear = float(np.isnan(rates[chosen]).mean())
    notes = [f"ECG {chosen}: no clear R peaks in {unclear:.0%} of the video"] if unclear > _UNCLEAR else []
    others = [value for lead, value in mean.items() if lead != chosen]
    if chosen in mean and others and min(abs(mean[chosen] - value) for value in others) > _AGREE_BPM:
        told = ", ".join(f"{lead} {value:.1f} bpm" for lead, value in mean.items())
        notes.append(f"no other ECG lead agrees with {chosen}: {told}")
    return notes


class ChosenFrames(FrameReader):
    """Some frames of another reader; what follows the last of them is not read."""

    def __init__(self, inner: FrameReader, chosen: range) -> None:
        """inner: not yet iterated; chosen: indices of frames."""
        self._inner, self._chosen, self._n = inner, chosen, 0
        self.n_declared, self.fps_declared, self.warnings = len(chosen), inner.fps_declared, []

    def as_bgr(self) -> bool:
        """As the inner reader has it."""
        return self._inner.as_bgr()

    def __iter__(self) -> Iterator[Frame]:
        for index, frame in enumerate(self._inner):
            if index in self._chosen:
                self._n += 1
                yield frame
            if index == self._chosen[-1]:
                return
        raise UserError(f"the video ends before frame {self._chosen[-1]}; read it with window = \"whole\"")

    @property
    def time_s(self) -> Series:
        """(T,) the inner reader's stamps of the chosen frames."""
        return self._inner.time_s[np.array(self._chosen)[: self._n]]
