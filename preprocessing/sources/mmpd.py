"""MMPD (Tang et al. 2023): subjectN/pN_k.mat, each with a video, its pulse and the conditions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from preprocessing.matlab import MatFile
from preprocessing.scratch import VideoShape
from preprocessing.sources.base import SOURCES, FrameReader, Labels, RawRecording, Source
from preprocessing.sources.folders import counted, passed_over
from preprocessing.sources.text import folder_of, nothing_found
from utils.errors import UserError
from utils.files import natural_key

_FOLDER, _FILE = re.compile(r"subject(\d+)"), re.compile(r"p(\d+)_(\d+)\.mat")
_EXPECTED = "folders such as subject1 with p1_0.mat, p1_1.mat, ..."
_VIDEO, _LABEL = "video", "GT_ppg"
_RATE_HZ = 30.0
"""Of the phone's video; the files hold no time stamps (Tang et al. 2023)."""
_FIELDS = {
    "light": "light", "motion": "motion", "exercise": "exercise", "skin_color": "skin_tone",
    "gender": "gender", "glasser": "glasses", "hair_cover": "hair_cover", "makeup": "makeup",
}
_WORDS = {"watching videos": "walking"}
"""Early releases call walking so."""
_MAX_SAMPLES = 1_000_000
N_RECORDINGS = 660
_SHORT_S, _SHORT_SHARE = 1.0, 0.05


@SOURCES.register("mmpd")
class Mmpd(Source):
    """MMPD: 33 people, 20 one-minute phone videos each in all lights, motions and skin tones, finger PPG.

    The full release and the mini release are read alike; the condition `resolution` keeps them
    apart, as results on one say nothing about the other. Neither video nor label has time stamps:
    frames count at 30 a second, and the label is taken to begin and end with them, as everybody does
    who uses the set. Where the numbers of samples and frames differ by more than a second and 5 %,
    the recording is refused instead.
    """

    name = "mmpd"
    access = (
        "Free for research under a release agreement that a faculty member sends by e-mail "
        "(https://github.com/McJackTang/MMPD_rPPG_dataset; Tang et al. 2023)."
    )

    def __init__(self, root: Path) -> None:
        """root: the folder with subject1, subject2, ..., of the full or of the mini release."""
        folder_of(root, "MMPD", _EXPECTED)
        folders = [path for path in root.iterdir() if path.is_dir() and _FOLDER.fullmatch(path.name)]
        found = [path for folder in folders for path in folder.iterdir() if _FILE.fullmatch(path.name)]
        if not found:
            raise nothing_found(root, _EXPECTED)
        self._root, self._folders = root, {folder.name for folder in folders}
        self._paths = sorted(found, key=lambda path: natural_key(f"{path.parent.name}/{path.name}"))

    def recordings(self) -> list[RawRecording]:
        """One recording a file; the subject is the folder."""
        return [
            MmpdRecording(
                dataset=self.name, subject=path.parent.name, recording=path.stem, path=path,
                conditions=_conditions(path)[0],
            )
            for path in self._paths
        ]

    def notes(self) -> list[str]:
        """How many of the set's recordings this copy has, and folders of other names."""
        n = len(self._paths)
        return [*counted(n, N_RECORDINGS, "recordings"), *passed_over(self._root, self._folders)]


@dataclass(frozen=True, kw_only=True)
class MmpdRecording(RawRecording):
    """One file pN_k.mat."""

    path: Path

    def files(self) -> list[Path]:
        """The one file."""
        return [self.path]

    def open_frames(self) -> FrameReader:
        """The video, read in blocks through a temporary file."""
        return MatFile(self.path).video(_VIDEO, _RATE_HZ)

    def labels(self) -> Labels:
        """The pulse from the first frame to the last."""
        _check_owner(self.path)
        data = MatFile(self.path)
        n_frames = VideoShape.from_dims(data.dims(_VIDEO), f"{self.path}: {_VIDEO}").frames
        samples = data.series(_LABEL, _MAX_SAMPLES)
        frame_time_s = np.arange(n_frames) / _RATE_HZ
        off_s = abs(len(samples) - n_frames) / _RATE_HZ
        text = f"{self.path.name}: {len(samples)} label samples for {n_frames} frames"
        if len(samples) < 2 or off_s > max(_SHORT_S, _SHORT_SHARE * frame_time_s[-1]):
            raise UserError(f"{self.path}: {text}; both should be at 30 Hz, copy the file again")
        warnings = [f"{text}; stretched over them"] if len(samples) != n_frames else []
        return Labels(
            kind="ppg", samples=samples, time_s=np.linspace(0, frame_time_s[-1], len(samples)),
            frame_time_s=frame_time_s, warnings=(*warnings, *_conditions(self.path)[1]),
        )


def _check_owner(path: Path) -> None:
    """A file in another person's folder would put one person on both sides of a split."""
    folder, file = _FOLDER.fullmatch(path.parent.name), _FILE.fullmatch(path.name)
    if folder and file and int(folder[1]) != int(file[1]):
        raise UserError(f"{path}: a file of subject {file[1]} in the folder of subject {folder[1]}; move it")


def _conditions(path: Path) -> tuple[dict[str, str], list[str]]:
    """The conditions in small letters, and a warning for each that the file does not state readably.

    A file that cannot be read at all has none; its labels say why.
    """
    found: dict[str, str] = {}
    warnings = []
    try:
        data = MatFile(path)
        shape = VideoShape.from_dims(data.dims(_VIDEO), str(path))
        found["resolution"] = f"{shape.width}x{shape.height}"
    except UserError:
        return {}, []
    for field, condition in _FIELDS.items():
        try:
            word = data.text(field).strip().lower()
            found[condition] = _WORDS.get(word, word)
        except UserError as error:
            warnings.append(f"condition {condition} is unknown: {error}")
    return found, warnings
