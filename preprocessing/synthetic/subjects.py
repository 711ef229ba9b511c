"""Who is in a synthetic set: parts, numbers, rates and conditions, as a function of the seed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from preprocessing.synthetic.pulse import Rhythm
from utils.errors import UserError

PARTS = ("train", "valid", "test", "hard", "control")
# Mean rates of each part in bpm, evenly spread: the test rates lie inside those trained on, and
# far enough from the middle that the constant rate is a poor answer.
_SPANS = {"train": (50.0, 130.0), "valid": (60.0, 116.0), "test": (58.0, 120.0),
          "hard": (60.0, 112.0), "control": (65.0, 100.0)}
_STARTS = {"train": 1, "valid": 17, "test": 21, "hard": 31, "control": 41}
HARD_CASES = ("coloured light", "large motion", "weak pulse", "dark skin", "compression", "combination")
FACES = ("hopper", "astronaut")
SKIN_TONES = ("light", "medium", "dark")
GAP_GAMMA = 0.7


@dataclass(frozen=True)
class Subject:
    """One synthetic recording, completely described together with the seed and its length.

    key: what its randomness depends on. green_pp: peak-to-peak modulation of green as a part of
    the skin's brightness; 0: no pulse. noise: of the sensor, in grey levels. motion_px, motion_hz:
    standard deviation and upper frequency of the head's movement. drift, flicker: slow changes of
    the light and those inside 0.7-3 Hz, standard deviations as a part of the brightness. tint:
    strength of the flicker in red, green, blue. quality: of the JPEG coding of each frame. gamma: exponent of
    the camera's curve over 0 to 1.
    """

    number: int
    part: str
    key: tuple[int, ...]
    face: str
    mirrored: bool
    height_px: float
    aspect: float
    skin_tone: str
    exposure: float
    rhythm: Rhythm
    fps: float
    green_pp: float
    noise: float
    motion_px: float
    motion_hz: float
    drift: float
    flicker: float
    tint: tuple[float, float, float]
    quality: int
    case: str = "none"
    gamma: float = 1.0

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"subject{self.number}"

    def conditions(self) -> dict[str, str]:
        """What `conditions.json` says of it: words, for tables by condition."""
        coloured = max(self.tint) - min(self.tint) > 0.2
        group = self.part if self.part in ("hard", "control") else "main"
        return {
            "origin": "synthetic",
            "light": "coloured flicker" if coloured else "white flicker",
            "motion": "large" if self.motion_px > 4 else "small",
            "skin_tone": self.skin_tone,
            "group": group,
            "face": self.face,
            "pulse": "none" if not self.green_pp else "weak" if self.green_pp < 0.005 else "normal",
            "exposure": "low" if self.exposure < 0.75 else "normal",
            "compression": "strong" if self.quality < 75 else "slight",
            "case": self.case,
        }


def numbering(counts: dict[str, int]) -> dict[str, range]:
    """Subject numbers of each part.

    Up to 16, 4, 10, 10 and 10 subjects: train from 1, valid from 17, test from 21, hard from 31,
    control from 41. Larger counts: blocks as wide as the smallest power of ten that holds the
    largest, train from 1, the others from one, two, three and four widths plus 1.
    """
    room = {"train": 16, "valid": 4, "test": 10, "hard": 10, "control": 10}
    if all(counts[part] <= room[part] for part in PARTS):
        starts = _STARTS
    else:
        width = 10 ** len(str(max(counts.values()) - 1))
        starts = {part: index * width + 1 for index, part in enumerate(PARTS)}
    return {part: range(starts[part], starts[part] + counts[part]) for part in PARTS}


def make_subjects(
    seed: int, counts: dict[str, int], gap: bool = False, flicker: float = 1.0
) -> list[Subject]:
    """All subjects of a set, in the order of PARTS; `counts` holds a number for each part.

    gap: people to learn from are bright and still, those of the test dark and moving, before a camera of
    another curve. flicker: of the light within 0.7 to 3 Hz, over its usual strength; 0: a steady light.
    UserError for a negative seed, count or flicker.
    """
    wrong = [f"{part} = {counts[part]}" for part in PARTS if counts[part] < 0]
    wrong += [f"{name} = {value:g}" for name, value in (("seed", seed), ("flicker", flicker)) if value < 0]
    if wrong:
        raise UserError(f"synthetic set: {', '.join(wrong)} must not be negative")
    numbers = numbering(counts)
    made = [
        subject
        for index, part in enumerate(PARTS)
        for subject in _make_part(seed, index, part, list(numbers[part]))
    ]
    if flicker != 1:
        made = [dataclasses.replace(subject, flicker=flicker * subject.flicker) for subject in made]
    return [_beyond_gap(subject) for subject in made] if gap else made


def _beyond_gap(subject: Subject) -> Subject:
    """The subject on its side of a gap between the domains of learning and test."""
    rng = np.random.default_rng([*subject.key, 11])
    if subject.part in ("train", "valid"):
        return dataclasses.replace(
            subject, skin_tone="light", exposure=float(rng.uniform(0.92, 1.0)),
            motion_px=float(rng.uniform(0.2, 0.5)),
        )
    return dataclasses.replace(
        subject, skin_tone="dark", exposure=float(rng.uniform(0.6, 0.75)),
        motion_px=float(rng.uniform(4.5, 6.0)), motion_hz=0.8, gamma=GAP_GAMMA,
    )


def _make_part(seed: int, index: int, part: str, numbers: list[int]) -> list[Subject]:
    """The subjects of one part; rates and looks are shuffled independently of each other."""
    n = len(numbers)
    rng = np.random.default_rng([seed, index])
    rates = _rates(n, *_SPANS[part], rng)
    looks = rng.permutation(max(n, 1))
    subjects = []
    for i, number in enumerate(numbers):
        own = np.random.default_rng([seed, index, i])
        look = int(looks[i])
        subject = _usual(number, part, (seed, index, i), look, float(rates[i]), own)
        if part == "hard":
            subject = _harden(subject, HARD_CASES[i % len(HARD_CASES)], own)
        if part == "control":
            subject = dataclasses.replace(subject, green_pp=0.0)
        subjects.append(subject)
    return subjects


def _rates(n: int, low: float, high: float, rng: np.random.Generator) -> np.ndarray:
    """n rates over [low, high], ends included, the others moved a little, in random order."""
    if n < 2:
        return np.full(n, 0.5 * (low + high))
    step = (high - low) / (n - 1)
    rates = np.linspace(low, high, n)
    rates[1:-1] += rng.uniform(-0.3, 0.3, n - 2) * step
    return rng.permutation(rates)


def _usual(
    number: int, part: str, key: tuple[int, ...], look: int, rate_bpm: float, rng: np.random.Generator
) -> Subject:
    """A subject of the main group. Dark skin carries a weaker pulse, as melanin absorbs."""
    tone = SKIN_TONES[look // len(FACES) % len(SKIN_TONES)]
    rhythm = Rhythm(
        rate_bpm=rate_bpm,
        respiration_hz=float(rng.uniform(0.18, 0.32)), rsa=float(rng.uniform(0.015, 0.035)),
        lf_hz=float(rng.uniform(0.08, 0.12)), lf=float(rng.uniform(0.01, 0.025)),
    )
    white = rng.uniform(-0.01, 0.01, 3)
    return Subject(
        number=number, part=part, key=key, face=FACES[look % len(FACES)],
        mirrored=bool(rng.random() < 0.5), height_px=float(rng.uniform(104, 128)),
        aspect=float(rng.uniform(0.94, 1.06)), skin_tone=tone,
        exposure=float(rng.uniform(0.82, 1.0)), rhythm=rhythm, fps=float(rng.uniform(29.5, 30.2)),
        green_pp=float(rng.uniform(0.009, 0.0125)) * (0.75 if tone == "dark" else 1.0),
        noise=float(rng.uniform(1.2, 1.8)), motion_px=float(rng.uniform(0.8, 2.0)), motion_hz=0.5,
        drift=float(rng.uniform(0.004, 0.01)), flicker=float(rng.uniform(0.004, 0.005)),
        tint=(float(1 + white[0]), float(1 + white[1]), float(1 + white[2])), quality=90,
    )


def _harden(subject: Subject, case: str, rng: np.random.Generator) -> Subject:
    """The same subject under one hard condition (the last case: several at once)."""
    coloured: dict[str, object] = {
        "flicker": float(rng.uniform(0.009, 0.0125)),
        "tint": (0.55, 1.0, 0.6) if rng.random() < 0.5 else (0.4, 1.0, 0.7),
    }
    moving: dict[str, object] = {"motion_px": float(rng.uniform(8, 10)), "motion_hz": 1.2}
    weak: dict[str, object] = {"green_pp": float(rng.uniform(0.0020, 0.0030))}
    dark: dict[str, object] = {
        "skin_tone": "dark", "exposure": float(rng.uniform(0.4, 0.5)),
        "green_pp": float(rng.uniform(0.0025, 0.0035)),
    }
    squeezed: dict[str, object] = {"quality": 50, "green_pp": float(rng.uniform(0.005, 0.007))}
    changes = {
        "coloured light": coloured, "large motion": moving, "weak pulse": weak, "dark skin": dark,
        "compression": squeezed,
        "combination": {**coloured, **dark, "motion_px": 5.0, "motion_hz": 1.0, "quality": 70},
    }[case]
    return dataclasses.replace(subject, case=case, **changes)  # type: ignore[arg-type]
