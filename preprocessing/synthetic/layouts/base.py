"""What every fixture writer works with: made people, their recordings, and what is true of them."""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from preprocessing.sources.base import ORIGIN_FILE
from preprocessing.synthetic import scene
from preprocessing.synthetic.pulse import Pulse, make_pulse
from preprocessing.synthetic.subjects import Subject, make_subjects
from utils.errors import UserError
from utils.files import read_json, write_json
from utils.registry import Registry

LAYOUTS = Registry("layout")
SIZE = (112, 112)
"""Width and height of a picture where the writer asks for no other: small, so that tests are fast."""

Array = NDArray[np.float64]
Frame = NDArray[np.uint8]

_FACE_SHARE = 0.62
_DEVICE_WINDOW_S = 4.0
_LOWEST_BPM, _SPAN_BPM, _STEP_BPM = 62, 50, 17
# Heights, delays from the foot of the pulse and widths in seconds of P, Q, R, S and T of an ECG.
_ECG = (
    (0.12, -0.38, 0.025), (-0.12, -0.226, 0.01), (1.0, -0.2, 0.011), (-0.25, -0.172, 0.01), (0.3, 0.05, 0.05),
)
_ECG_LEAD_S = 0.2
"""How long the R peak comes before the foot of the pulse in the face."""


@dataclass(frozen=True)
class Take:
    """One recording of a made person: pictures and signals of one pulse, at any times asked for.

    All times count from one zero. The pulse lives on [0, seconds]; it goes on outside, so that a
    label may begin before its video and end after it.
    """

    subject: Subject
    seconds: float
    index: int = 0

    @functools.cached_property
    def beats(self) -> Pulse:
        """The pulse in closed form."""
        return make_pulse(self.subject.rhythm, self.seconds, np.random.default_rng([*self._key, 1]))

    @property
    def _key(self) -> tuple[int, ...]:
        return (*self.subject.key, self.index)

    @property
    def mean_rate_bpm(self) -> float:
        """Mean rate over [0, seconds], exact."""
        return self.subject.rhythm.rate_bpm

    @property
    def beat_time_s(self) -> Array:
        """(beats,) feet of the pulse waves in [0, seconds]."""
        return self.beats.beat_time_s()

    def pulse(self, time_s: ArrayLike) -> Array:
        """The pulse at `time_s` (N,): about zero mean, one peak to peak, rises at systole."""
        return self.beats.wave(time_s)

    def respiration(self, time_s: ArrayLike) -> Array:
        """Respiration at `time_s` (N,), in [-1, 1]."""
        return self.beats.respiration(time_s)

    def rate_bpm(self, time_s: ArrayLike) -> Array:
        """Rate at `time_s` (N,) as an oximeter shows it: the mean over the four seconds around."""
        t = np.asarray(time_s, dtype=np.float64)
        first = np.clip(t - _DEVICE_WINDOW_S / 2, 0, None)
        last = np.clip(t + _DEVICE_WINDOW_S / 2, first + 0.5, max(self.seconds, 1.0))
        first = np.minimum(first, last - 0.5)
        return 60 * (self.beats.phase(last) - self.beats.phase(first)) / (last - first)

    def ecg(self, time_s: ArrayLike) -> Array:
        """An ECG at `time_s` (N,) with R peaks of about 1, each 0.2 s before its pulse wave's foot."""
        t = np.asarray(time_s, dtype=np.float64)
        signal = np.zeros_like(t)
        for foot in self.beats.times_of(0.0):
            near = slice(*np.searchsorted(t, [foot - 0.6, foot + 0.4]))
            for height, delay, width in _ECG:
                signal[near] += height * np.exp(-0.5 * ((t[near] - foot - delay) / width) ** 2)
        return signal

    @property
    def r_peak_time_s(self) -> Array:
        """(beats,) the R peaks that belong to `beat_time_s`."""
        return self.beat_time_s - _ECG_LEAD_S

    def frames(
        self, time_s: ArrayLike, size: tuple[int, int] | None = None, camera: int = 0
    ) -> Iterator[Frame]:
        """Yield a picture, uint8 (height, width, 3) BGR, for each time (N,), irregular ones, too.

        size: width and height. camera: another view of the same take (own noise and movement).
        """
        t = np.asarray(time_s, dtype=np.float64)
        width, height = size or SIZE
        side, share = max(width, height), min(width, height)
        scale = _FACE_SHARE * share / 116.0
        person = dataclasses.replace(
            self.subject, height_px=self.subject.height_px * scale, motion_px=self.subject.motion_px * scale
        )
        layers = scene.make_layers(person, np.random.default_rng([*self.subject.key, 2]))
        rng = np.random.default_rng([*self._key, 3, camera])
        course = scene.make_course(person, t, self.pulse(t), self.respiration(t), rng)
        left, top = (side - width) // 2, (side - height) // 2
        for picture in scene.render(layers, course, person.noise, rng, side):
            yield np.ascontiguousarray(picture[top : top + height, left : left + width])


@dataclass(frozen=True)
class Truth:
    """What is known of a recording that was written, for the reader's result to be held against."""

    recording: str
    subject: str
    rate_bpm: float
    n_frames: int
    fps: float
    """(n - 1) / (last - first time of a frame)."""
    lag_s: float = 0.0
    """Label minus skin: positive where a defect makes the label late."""
    conditions: dict[str, str] = field(default_factory=dict)
    usable: bool = True
    """False where preprocessing must refuse the recording by name."""
    defect: str = ""
    """What was planted in this recording; several are joined by a comma."""


class Layout(abc.ABC):
    """Writes small copies of one dataset, true in everything but the size of the pictures."""

    name: str
    description: str
    """One line: what is written."""
    defects: tuple[str, ...] = ()
    """What can be planted, by name."""

    def write(
        self, root: Path, people: int = 2, seconds: float = 10.0, seed: int = 0, defects: Sequence[str] = ()
    ) -> list[Truth]:
        """Write `people` persons with `seconds` long recordings into `root`, and return their truth.

        The same arguments give the same bytes. defects: of `self.defects`, planted where the class
        says. The recordings come in the order in which the reader must give them. UserError for
        an unknown defect, impossible numbers, or a `root` that holds something already.
        """
        unknown = sorted(set(defects) - set(self.defects))
        if unknown:
            raise UserError(f"layout {self.name}: cannot plant {', '.join(unknown)}; "
                            f"known: {', '.join(self.defects) or 'none'}")
        if not 1 <= people <= self.most_people() or not 2.0 <= seconds <= 600.0 or seed < 0:
            raise UserError(
                f"layout {self.name}: people = {people} must be 1 to {self.most_people()}, "
                f"seconds = {seconds:g} 2 to 600, seed = {seed} not negative"
            )
        root = Path(root)
        if root.is_dir() and any(root.iterdir()):
            raise UserError(f"{root}: not empty; choose another folder for the synthetic {self.name}")
        root.mkdir(parents=True, exist_ok=True)
        truths = self._write(root, people, float(seconds), seed, frozenset(defects))
        write_json(root / ORIGIN_FILE, {"origin": "synthetic"})
        return truths

    def most_people(self) -> int:
        """How many persons there are names for."""
        return 100

    @abc.abstractmethod
    def _write(
        self, root: Path, people: int, seconds: float, seed: int, defects: frozenset[str]
    ) -> list[Truth]:
        """Write the files; the arguments are checked and `root` exists and is empty."""


def build(name: str) -> Layout:
    """The layout of that name; KeyError with the close names otherwise."""
    layout: Layout = LAYOUTS.build(name)
    return layout


def names() -> list[str]:
    """Registered layouts, sorted."""
    return LAYOUTS.names()


def make_take(seed: int, person: int, index: int = 0, seconds: float = 10.0, **changes: Any) -> Take:
    """Recording `index` of the made person `person` (0, 1, ...), the same for the same arguments.

    Each take of a person has another rate; all lie between 62 and 112 bpm. changes: fields of
    `Subject`.
    """
    made = make_subjects(seed, {"train": person + 2, "valid": 0, "test": 0, "hard": 0, "control": 0})
    subject = dataclasses.replace(made[person], key=(seed, 77, person), skin_tone="light", **changes)
    rate = _LOWEST_BPM + (_STEP_BPM * (5 * person + index) + 7 * seed) % _SPAN_BPM
    rhythm = dataclasses.replace(subject.rhythm, rate_bpm=float(rate))
    return Take(dataclasses.replace(subject, rhythm=rhythm), float(seconds), index)


def frame_times(seed: int, fps: float, seconds: float, jitter_s: float = 0.0008) -> Array:
    """(T,) times of frames from 0 to about `seconds`, strictly increasing; as irregular as asked for."""
    n = max(2, int(round(seconds * fps)))
    jitter = np.random.default_rng([seed, 5]).normal(0, 1, n).clip(-3, 3) * min(jitter_s, 0.1 / fps)
    times = np.arange(n) / fps + jitter
    return times - times[0]


def truth_of(
    take: Take, recording: str, subject: str, time_s: Array, *, lag_s: float = 0.0, usable: bool = True,
    defect: str = "", conditions: dict[str, str] | None = None,
) -> Truth:
    """The truth of a take whose frames have the times `time_s` (T,)."""
    fps = (len(time_s) - 1) / float(time_s[-1] - time_s[0])
    return Truth(
        recording, subject, take.mean_rate_bpm, len(time_s), fps, lag_s, dict(conditions or {}), usable,
        defect,
    )


def write_truth(path: Path, truths: Sequence[Truth]) -> None:
    """Keep the truth as JSON, beside the fixture and not within it."""
    write_json(path, [dataclasses.asdict(truth) for truth in truths])


def read_truth(path: Path) -> list[Truth]:
    """What `write_truth` kept."""
    return [Truth(**item) for item in read_json(path)]
