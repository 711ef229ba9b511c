"""MR-NIRP (Nowara et al. 2018, 2020): folders of raw camera pictures with a pulse oximeter's MATLAB file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from preprocessing.frames import Frame, Series
from preprocessing.matlab import MatFile
from preprocessing.pictures import (
    PictureFolder,
    decode_values,
    numbered_pictures,
    picture_bytes,
    picture_number,
)
from preprocessing.sources.base import SOURCES, FrameReader, Labels, RawRecording, Source
from preprocessing.sources.text import folder_of, nothing_found
from preprocessing.times import increasing, mean_rate_hz, tolerated
from utils.errors import UserError
from utils.files import natural_key

_FOLDER = re.compile(
    r"subject(\d+)_(?:(garage|driving)_)?(still|small_motion|large_motion|motion)(?:_(\d+))?", re.IGNORECASE
)
_EXPECTED = "folders such as Subject1/subject1_garage_still_940 with RGB and PulseOX"
_PICTURES, _SUFFIXES = ("RGB", "RGB_demosaiced", "RGB_raw"), (".pgm", ".ppm", ".png", ".bmp")
_RATE_HZ = (50.0, 70.0)
"""Where the oximeter's rate, 60 Hz, must lie for its stamps to be believed."""
_ZERO_S = 0.25
_MAX_SAMPLES = 1_000_000
_SAME_PEOPLE = {16: 2}
"""Subject 16 of the car set is subject 2 at night (Nowara et al. 2020): one person, one side of a split."""
_BAYER = {
    "rggb": cv2.COLOR_BayerBG2BGR, "bggr": cv2.COLOR_BayerRG2BGR,
    "grbg": cv2.COLOR_BayerGB2BGR, "gbrg": cv2.COLOR_BayerGR2BGR,
}

Demosaic = Literal["rggb", "bggr", "grbg", "gbrg", "none"]
Bits = Literal[8, 10, 12, 14, 16]


@SOURCES.register("mr_nirp")
class MrNirp(Source):
    """MR-NIRP car and indoor: raw RGB pictures, finger PPG at 60 Hz with dropouts; near infrared left out.

    The set has no times for its pictures: they count from the oximeter's first stamp, by the number in
    their names over `fps`. Zeros of the oximeter that last are dropouts: unknown (NaN), never cut out.
    """

    name = "mr_nirp"
    access = (
        "Free for research, on request from the Computational Imaging Lab, Rice University "
        "(Nowara et al. 2018, 2020)."
    )

    def __init__(
        self, root: Path, *, fps: float = 30.0, demosaic: Demosaic = "rggb", bits: Bits | None = None
    ) -> None:
        """root: the folder with Subject1, Subject2, ..., each with its recordings, unpacked.

        fps: rate of the camera, which no file states. demosaic: order of the colours in the first two
        rows of a raw picture ("none": grey pictures stay grey); pictures in colour are taken as they are.
        bits: depth of the camera where pictures have 16 bits a value.
        """
        folder_of(root, "MR-NIRP", _EXPECTED)
        if not 1 <= fps <= 1000:
            raise UserError(f"data.sets: mr_nirp: fps = {fps:g} must be 1 to 1000")
        places = [*root.glob("*"), *root.glob("*/*")]
        found = [path for path in places if path.is_dir() and _FOLDER.fullmatch(path.name)]
        if not found:
            raise nothing_found(root, _EXPECTED)
        self._folders = sorted(found, key=lambda path: natural_key(path.name.lower()))
        self._fps, self._demosaic, self._bits = fps, demosaic, bits

    def recordings(self) -> list[RawRecording]:
        """One recording a folder, named as it is; subjects subjectN in the car, indoorN indoors."""
        return [
            MrNirpRecording(
                dataset=self.name, subject=_subject(folder.name), recording=folder.name, folder=folder,
                conditions=_conditions(folder.name), fps=self._fps, demosaic=self._demosaic, bits=self._bits,
            )
            for folder in self._folders
        ]


@dataclass(frozen=True, kw_only=True)
class MrNirpRecording(RawRecording):
    """One folder."""

    folder: Path
    fps: float
    demosaic: Demosaic
    bits: Bits | None

    def files(self) -> list[Path]:
        """The oximeter's file and every picture."""
        return [self._oximeter(), *self._pictures()]

    def open_frames(self) -> FrameReader:
        """The pictures in colour, ordered by their numbers."""
        return RawPictures(self._pictures(), self.fps, self.demosaic, self.bits)

    def labels(self) -> Labels:
        """The oximeter's pulse from its first stamp on, unknown where it dropped out."""
        path = self._oximeter()
        samples, time_s, warnings = _read(path)
        places = np.array([picture_number(picture) or 0 for picture in self._pictures()], dtype=np.float64)
        frame_time_s = (places - places[0]) / self.fps
        if frame_time_s[-1] > 2 * len(places) / self.fps:
            raise UserError(f"{self.folder}: by their numbers, half of the pictures are missing")
        off_s = float(frame_time_s[-1] - time_s[-1])
        if abs(off_s) > 1:
            warnings.append(f"pictures end {off_s:+.1f} s after the oximeter; is fps = {self.fps:g} right?")
        return Labels(
            kind="ppg", samples=samples, time_s=time_s, frame_time_s=frame_time_s, warnings=tuple(warnings)
        )

    def _oximeter(self) -> Path:
        return self.folder / "PulseOX" / "pulseOx.mat"

    def _pictures(self) -> list[Path]:
        folders = [self.folder / name for name in _PICTURES if (self.folder / name).is_dir()]
        paths = numbered_pictures(folders[0], _SUFFIXES) if folders else []
        if not paths:
            raise UserError(f"{self.folder}: no pictures in {', '.join(_PICTURES)}; is RGB.zip unpacked?")
        return paths


class RawPictures(PictureFolder):
    """Pictures of which each value is that of one colour, as the sensor has them."""

    def __init__(self, paths: list[Path], fps: float, demosaic: Demosaic, bits: Bits | None) -> None:
        """paths: in time order. demosaic, bits: as the options of `MrNirp`."""
        super().__init__(paths, fps_declared=fps)
        self._code, self._bits = _BAYER.get(demosaic, cv2.COLOR_GRAY2BGR), bits

    def _picture(self, path: Path) -> Frame:
        """Colours by interpolation between the neighbours; pictures in colour as they are."""
        picture = decode_values(path, picture_bytes(path))
        if picture.dtype == np.uint16 and self._bits is not None:
            picture = np.minimum(picture >> (self._bits - 8), 255).astype(np.uint8)
        if picture.dtype != np.uint8:
            raise UserError(f"{path}: {picture.dtype} values; set the option bits to the camera's depth")
        if picture.ndim == 3:
            return np.ascontiguousarray(picture[:, :, :3])
        return np.asarray(cv2.cvtColor(picture, self._code), dtype=np.uint8)


def _subject(name: str) -> str:
    """The person: of the two sets, which number their people independently, and as one by day and night."""
    found = _FOLDER.fullmatch(name)
    number, place = (int(found[1]), found[2]) if found else (0, None)
    return f"subject{_SAME_PEOPLE.get(number, number)}" if place else f"indoor{number}"


def _conditions(name: str) -> dict[str, str]:
    found = _FOLDER.fullmatch(name.lower())
    if found is None:
        return {}
    place, motion = found[2] or "indoor", found[3].replace("_", " ")
    stated = {"place": place, "motion": motion}
    if found[2]:
        stated["time"] = "night" if int(found[1]) in _SAME_PEOPLE else "day"
    return stated | ({"nir_filter_nm": found[4]} if found[4] else {})


def _read(path: Path) -> tuple[Series, Series, list[str]]:
    """Pulse (N,) with NaN in dropouts, its times from 0, and warnings."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; is PulseOX.zip unpacked?")
    data = MatFile(path)
    samples, stamps = (data.series(name, _MAX_SAMPLES) for name in ("pulseOxRecord", "pulseOxTime"))
    n, text = min(len(samples), len(stamps)), f"{path.name}: {len(samples)} samples, {len(stamps)} stamps"
    if abs(len(samples) - len(stamps)) > tolerated(n) or n < 2:
        raise UserError(f"{path}: {text}; copy the recording again")
    warnings = [] if len(samples) == len(stamps) else [f"{text}; the surplus is cut off"]
    time_s, repaired = increasing(stamps[:n] - stamps[0], str(path))
    scale = next((unit for unit in (1.0, 1e-3) if _is_believable(time_s * unit)), None)
    if scale is None:
        raise UserError(f"{path}: {mean_rate_hz(time_s):g} stamps a second, neither in s nor in ms the 60 Hz "
                        "of the oximeter")
    masked, dropouts = _masked(samples[:n], path.name, mean_rate_hz(time_s * scale))
    return masked, time_s * scale, [*warnings, *repaired, *dropouts]


def _is_believable(time_s: Series) -> bool:
    return _RATE_HZ[0] <= mean_rate_hz(time_s) <= _RATE_HZ[1]


def _masked(samples: Series, name: str, rate_hz: float) -> tuple[Series, list[str]]:
    """NaN for zeros that last a quarter of a second or longer, and a warning that counts them."""
    is_zero = np.concatenate([[False], samples == 0, [False]])
    starts, ends = (np.flatnonzero(is_zero[1:] & ~is_zero[:-1]), np.flatnonzero(~is_zero[1:] & is_zero[:-1]))
    masked = samples.copy()
    long = [(start, end) for start, end in zip(starts, ends, strict=True) if end - start >= _ZERO_S * rate_hz]
    for start, end in long:
        masked[start:end] = np.nan
    lost_s = sum(end - start for start, end in long) / rate_hz
    return masked, [f"{name}: {len(long)} dropouts of {lost_s:.1f} s in all; unknown there"] if long else []
