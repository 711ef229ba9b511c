"""Pictures of a face whose skin carries a pulse, made from photographs in the public domain."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from preprocessing.synthetic.subjects import Subject
from utils.errors import UserError

SIDE = 240
# Modulation of blue, green and red relative to green: haemoglobin absorbs green most.
_PULSE_BGR = (0.7, 1.0, 0.45)
# What each skin tone makes of the photograph's skin, in blue, green, red.
_TONES = {"light": (1.0, 1.0, 1.0), "medium": (0.68, 0.76, 0.86), "dark": (0.36, 0.44, 0.57)}
_NOISE_MARGIN = 48

Points = tuple[tuple[int, int], ...]
Picture = NDArray[np.float32]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Photograph:
    """A photograph inside an installed package, and where the face lies in it, in its pixels.

    outline: the face from the hairline to the chin; around: ears and neck; holes: eyes, brows,
    lips, glasses; skin: points whose colour is typical.
    """

    package: str
    path: str
    shape: tuple[int, int]
    outline: Points
    around: tuple[Points, ...]
    holes: tuple[Points, ...]
    skin: Points

    def read(self) -> Picture:
        """The picture as float32 (H, W, 3) BGR; UserError when the package does not hold it."""
        spec = importlib.util.find_spec(self.package)
        if spec is None or spec.origin is None:
            raise UserError(f"package {self.package} is not installed; install requirements.txt")
        path = Path(spec.origin).parent / self.path
        try:
            picture = np.asarray(Image.open(path).convert("RGB"), dtype=np.float32)
        except OSError as error:
            raise UserError(f"{path}: {error}; install requirements.txt afresh") from None
        if picture.shape[:2] != self.shape:
            raise UserError(f"{path}: not the photograph expected; install requirements.txt afresh")
        return np.ascontiguousarray(picture[..., ::-1])


# Rear Admiral Grace Hopper, US Navy portrait; Eileen Collins, NASA portrait. Both public domain.
PHOTOGRAPHS = {
    "hopper": Photograph(
        "matplotlib", "mpl-data/sample_data/grace_hopper.jpg", (600, 512),
        outline=((262, 132), (310, 133), (342, 147), (354, 174), (356, 207), (355, 243), (344, 280),
                 (326, 306), (304, 324), (272, 333), (238, 328), (215, 313), (193, 289), (178, 254),
                 (173, 218), (172, 184), (182, 156), (214, 138)),
        around=(((176, 186), (153, 190), (158, 232), (172, 268), (190, 266), (182, 240)),
                ((352, 184), (374, 186), (370, 230), (358, 262), (342, 272), (350, 230)),
                ((205, 295), (204, 348), (332, 348), (332, 290))),
        holes=(((180, 178), (240, 176), (262, 183), (284, 178), (352, 168), (356, 184), (334, 222),
                (312, 228), (288, 220), (268, 196), (252, 222), (226, 232), (202, 226), (190, 206)),
               ((230, 277), (257, 267), (280, 266), (307, 273), (290, 286), (269, 291), (248, 288))),
        skin=((263, 153), (205, 245), (330, 240), (268, 225), (270, 310)),
    ),
    "astronaut": Photograph(
        "skimage", "data/astronaut.png", (512, 512),
        outline=((185, 86), (196, 80), (214, 79), (228, 83), (241, 83), (252, 86), (262, 90), (268, 94),
                 (270, 106), (271, 120), (268, 136), (264, 148), (256, 160), (246, 169), (234, 176),
                 (221, 177), (206, 173), (194, 163), (186, 150), (182, 132), (181, 110)),
        around=(((182, 110), (171, 116), (175, 128), (183, 132)),
                ((268, 112), (281, 128), (274, 137), (266, 140)),
                ((185, 148), (186, 176), (190, 182), (212, 187), (236, 190), (251, 185), (258, 156))),
        holes=(((186, 92), (216, 88), (217, 106), (204, 108), (193, 104)),
               ((236, 90), (255, 89), (266, 96), (259, 106), (247, 108), (235, 105)),
               ((201, 139), (224, 138), (247, 141), (236, 154), (223, 157), (210, 152))),
        skin=((212, 86), (192, 124), (258, 126), (224, 125), (221, 166)),
    ),
}


@dataclass(frozen=True)
class Layers:
    """What a subject's pictures are made of, in float32 BGR.

    still: (H, W, 3) the photograph, scaled, recoloured; carried: (H, W, 3) what a pulse of 1 takes
    off it; skin: (H, W) in [0, 1]; centre: of the face, x and y in these pixels.
    """

    still: Picture
    carried: Picture
    skin: Picture
    centre: tuple[float, float]


def make_layers(subject: Subject, rng: np.random.Generator) -> Layers:
    """Scale, mirror and recolour the subject's photograph, and lay the perfusion map over its skin."""
    photograph = PHOTOGRAPHS[subject.face]
    outline = np.array(photograph.outline, dtype=np.float64)
    zoom_y = subject.height_px / float(np.ptp(outline[:, 1]))
    zoom = np.array([zoom_y * subject.aspect, zoom_y])
    width, height = (max(1, round(side * z)) for side, z in zip(photograph.shape[::-1], zoom, strict=True))
    source = photograph.read()
    face, skin = _skin_masks(photograph, source)
    how = cv2.INTER_AREA if zoom_y < 1 else cv2.INTER_CUBIC
    layers = np.dstack([
        cv2.resize(layer, (width, height), interpolation=how) for layer in (source, face, skin)
    ])
    middle = (outline.min(axis=0) + outline.max(axis=0)) / 2 * zoom
    if subject.mirrored:
        layers = layers[:, ::-1]
        middle[0] = width - 1 - middle[0]
    face, skin = np.clip(layers[..., 3:4], 0, 1), np.clip(layers[..., 4], 0, 1)
    tone = np.array(_TONES[subject.skin_tone], np.float32) * np.float32(rng.uniform(0.95, 1.05))
    still = np.clip(layers[..., :3], 0, 255) * (1 + face * (tone - 1)) * np.float32(subject.exposure)
    map_ = _perfusion(skin, (float(middle[0]), float(middle[1])), subject.height_px, rng)
    depth = np.array(_PULSE_BGR, np.float32) * np.float32(subject.green_pp)
    return Layers(
        np.ascontiguousarray(still), np.ascontiguousarray(still * map_[..., None] * depth),
        np.ascontiguousarray(skin), (float(middle[0]), float(middle[1])),
    )


def _skin_masks(photograph: Photograph, source: Picture) -> tuple[Picture, Picture]:
    """Soft masks (H, W) of all that a skin tone recolours, and of the skin that carries a pulse."""
    typical = np.median([source[y - 2 : y + 3, x - 2 : x + 3].mean((0, 1)) for x, y in photograph.skin], 0)
    smooth = cv2.GaussianBlur(source, (0, 0), 1.5)
    distance = np.log((smooth + 8) / (typical.astype(np.float32) + 8))
    level = np.abs(distance.mean(axis=2))
    hue = np.abs(distance - distance.mean(axis=2, keepdims=True)).max(axis=2)
    alike = np.clip(2.0 - hue / 0.16, 0, 1) * np.clip(2.0 - level / 0.6, 0, 1)
    tall = float(np.ptp([y for _, y in photograph.outline]))
    face = _filled(photograph.shape, (photograph.outline,), 0.02 * tall)
    around = _filled(photograph.shape, photograph.around, 0.01 * tall)
    holes = _filled(photograph.shape, photograph.holes, 0.02 * tall)
    recoloured = np.maximum(face * np.clip(2.0 - hue / 0.3, 0, 1), around * np.clip(2.0 - hue / 0.16, 0, 1))
    return recoloured, alike * face * (1 - holes)


def _filled(shape: tuple[int, int], polygons: tuple[Points, ...], blur_px: float) -> Picture:
    """Soft mask (H, W) in [0, 1] of the polygons' insides."""
    mask = np.zeros(shape, np.float32)
    for polygon in polygons:
        cv2.fillPoly(mask, [np.array(polygon, np.int32)], (1.0,))
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), blur_px), np.float32)


def _perfusion(
    skin: Picture, centre: tuple[float, float], height_px: float, rng: np.random.Generator
) -> Picture:
    """Strength of the pulse (H, W): strongest on cheeks and forehead, uneven, mean 1 over the skin."""
    rows, columns = np.indices(skin.shape, dtype=np.float32)
    x, y = (columns - centre[0]) / height_px, (rows - centre[1]) / height_px
    strength = np.full(skin.shape, 0.7, np.float32)
    for px, py in ((-0.22, 0.1), (0.22, 0.1), (0.0, -0.36)):
        strength += 0.6 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 0.13**2))
    coarse = rng.standard_normal((9, 9)).astype(np.float32)
    uneven = cv2.resize(coarse, skin.shape[::-1], interpolation=cv2.INTER_CUBIC)
    strength *= np.clip(1 + 0.2 * uneven, 0.4, 1.6)
    return skin * strength * (skin.sum() / max(float((skin**2 * strength).sum()), 1e-6))


@dataclass(frozen=True)
class Course:
    """What changes from frame to frame.

    pulse: (T,); shift_px: (T, 2); angle_rad, zoom: (T,); light: (T, 3) in blue, green, red.
    """

    pulse: Array
    shift_px: Array
    angle_rad: Array
    zoom: Array
    light: Array


def band_noise(
    time_s: Array, low_hz: float, high_hz: float, rng: np.random.Generator, sines: int = 12
) -> Array:
    """Smooth noise inside a band at `time_s` (T,), of unit variance: a sum of sines."""
    hz, phase = rng.uniform(low_hz, high_hz, sines), rng.uniform(0, 2 * np.pi, sines)
    return np.sin(2 * np.pi * hz * time_s[:, None] + phase).sum(axis=1) / np.sqrt(sines / 2)


def make_course(subject: Subject, time_s: Array, wave: Array, breath: Array, rng: np.random.Generator
                ) -> Course:
    """Movement and light of a recording; wave, breath: (T,) pulse and respiration at `time_s`."""
    def move() -> Array:
        return band_noise(time_s, 0.02, subject.motion_hz, rng)

    shift = subject.motion_px * np.stack([move(), 0.7 * move()], axis=1) / 1.22
    shift[:, 1] += 0.3 * breath
    small = min(subject.motion_px, 6.0)
    slow = subject.drift * band_noise(time_s, 0.01, 0.15, rng)
    fast = subject.flicker * band_noise(time_s, 0.7, 3.0, rng, sines=4)
    light = 1 + slow[:, None] + fast[:, None] * np.array(subject.tint[::-1])
    return Course(wave, shift, 0.004 * small * move(), 1 + 0.002 * small * move(), light)


def render(
    layers: Layers, course: Course, noise: float, rng: np.random.Generator, side: int = SIDE,
    gamma: float = 1.0,
) -> Iterator[NDArray[np.uint8]]:
    """Yield each frame, uint8 (side, side, 3) BGR. The skin darkens where the pulse is high.

    Noise is added before rounding: a pulse below one grey level survives only so. gamma: of the camera's
    curve, which comes before the noise.
    """
    shade = _shade(rng, side)
    grains = noise * rng.standard_normal((2, side + _NOISE_MARGIN, side + _NOISE_MARGIN, 3), np.float32)
    places = rng.integers(0, [2, _NOISE_MARGIN, _NOISE_MARGIN], (len(course.pulse), 3))
    half = (side - 1) / 2
    lit = np.empty((side, side * 3), np.float32)
    for t, (k, row, column) in enumerate(places):
        scene = cv2.scaleAdd(layers.carried, -float(course.pulse[t]), layers.still)
        cos, sin = np.cos(course.angle_rad[t]) / course.zoom[t], np.sin(course.angle_rad[t]) / course.zoom[t]
        x, y = half + course.shift_px[t]
        cx, cy = layers.centre
        back = np.array([[cos, -sin, cx - cos * x + sin * y], [sin, cos, cy - sin * x - cos * y]])
        picture = cv2.warpAffine(
            scene, back, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        np.multiply(shade, np.tile(course.light[t].astype(np.float32), side), out=lit)
        lit *= picture.reshape(side, side * 3)
        if gamma != 1:
            lit = 255 * np.power(np.clip(lit / 255, 0, 1), np.float32(gamma))
        grain = np.ascontiguousarray(grains[k, row : row + side, column : column + side])
        frame = np.empty((side, side, 3), np.uint8)
        cv2.add(lit.reshape(side, side, 3), grain, dst=frame, dtype=cv2.CV_8U)  # rounds and saturates
        yield frame


def _shade(rng: np.random.Generator, side: int) -> Picture:
    """The fall of light over the picture (side, 3 side): a head that moves changes its brightness."""
    across, down = rng.uniform(-0.15, 0.15, 2)
    place = np.linspace(-0.5, 0.5, side)
    field = 1 + across * place[None, :] + down * place[:, None]
    return np.repeat(field, 3, axis=1).astype(np.float32)
