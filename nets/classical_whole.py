"""Methods without training that look at a recording as a whole: ICA, PCA, LGI, PBV, OMIT.

Their formulas mix the three colours by one set of weights for all frames. `window_s` cuts the recording
into windows of that length, half overlapping, each with weights of its own, and joins them again.
"""

from __future__ import annotations

import abc
from typing import Annotated

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from pydantic import Field

from nets.classical import WINDOW_S, ClassicalNet
from nets.jade import jade, whitened
from nets.registry import NETS
from utils.signal import bandpass, detrend, strength_at

Array = NDArray[np.float64]
Window = Annotated[float, Field(ge=WINDOW_S)]

BAND_HZ, ORDER = (0.7, 2.5), 3
FLAT = 1e-9
"""Deviation over the mean below which a colour does not change."""
RANK = 1e-13
"""Share of the largest eigenvalue below which a direction of colours is rounding noise."""


class WholeTrace(ClassicalNet):
    """A method whose formula takes all frames of a recording, or of a window, at once."""

    def __init__(self, *, compat: bool = False, window_s: Window | None = None) -> None:
        """compat: the released implementation's values. window_s: windows of that many seconds.

        ValueError for both: the released ones take the recording as a whole.
        """
        super().__init__(compat=compat)
        if compat and window_s is not None:
            raise ValueError("compat takes the recording as a whole, as released; leave out window_s")
        self.window_s = window_s

    def waveform(self, rgb: Array, fps: float) -> Array:
        """(T, 3) -> (T,); house form: free of its mean, rising when skin darkens."""
        if self.compat:
            return self.formula(rgb[None], fps)[0]
        total = len(rgb)
        length = total if self.window_s is None else min(total, round(self.window_s * fps))
        starts = np.unique([*range(0, total - length, max(1, length // 2)), total - length])
        pieces = sliding_window_view(rgb, length, axis=0)[starts].swapaxes(1, 2)
        return _joined(_signed(self.formula(pieces, fps), pieces, fps), starts, total)

    @abc.abstractmethod
    def formula(self, rgb: Array, fps: float) -> Array:
        """The published formula on n traces of equal length: (n, T, 3) -> (n, T)."""


def _signed(waves: Array, rgb: Array, fps: float) -> Array:
    """Free of their means, and with the sign under which they rise when skin darkens: (n, T), (n, T, 3).

    Judged in the pulse band against minus green, less the mean of red and blue, each over its mean: blood
    changes green most, and movement all three alike. (Against green alone the waveforms of a moving face
    come out upside down; green alone decides only where the picture is grey.)
    """
    red, green, blue = np.moveaxis(rgb / rgb.mean(axis=1, keepdims=True), 2, 0)
    colour = green - (red + blue) / 2
    colour = np.where(colour.std(axis=1, keepdims=True) > FLAT, colour, green)
    centred = waves - waves.mean(axis=1, keepdims=True)
    pulse, against = (bandpass(x, fps, *BAND_HZ, order=ORDER) for x in (centred, colour))
    return np.where((pulse * against).sum(axis=1, keepdims=True) > 0, -centred, centred)


def _joined(waves: Array, starts: Array, total: int) -> Array:
    """Windows that begin at `starts`, faded into each other: (n, L) -> (total,)."""
    if len(waves) == 1:
        return waves[0]
    length = waves.shape[1]
    weight = np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2
    summed, weights = np.zeros(total), np.zeros(total)
    for start, wave in zip(starts, waves, strict=True):
        summed[start : start + length] += weight * wave
        weights[start : start + length] += weight
    return summed / weights


@NETS.register("lgi")
class Lgi(WholeTrace):
    """LGI: green, less the main direction of all colours (Pilz et al. 2018)."""

    def formula(self, rgb: Array, fps: float) -> Array:
        """The second row of (I - u u') C, u the first left singular vector of C (3 x T)."""
        _, directions = np.linalg.eigh(np.swapaxes(rgb, 1, 2) @ rgb)
        return _green_without(rgb, directions[:, :, -1])


@NETS.register("omit")
class Omit(WholeTrace):
    """OMIT: green, less the direction of the first frame's colour (Alvarez Casado & Bordallo Lopez 2023)."""

    def formula(self, rgb: Array, fps: float) -> Array:
        """The second row of (I - q q') C, q the first column of Q in the QR decomposition of C (3 x T)."""
        first = rgb[:, 0]
        return _green_without(rgb, first / np.linalg.norm(first, axis=1, keepdims=True))


def _green_without(rgb: Array, direction: Array) -> Array:
    """Green after the projection of all colours on the plane across a unit vector: (n, T, 3), (n, 3)."""
    along = (rgb @ direction[:, :, None])[:, :, 0]
    return rgb[:, :, 1] - direction[:, 1:2] * along


@NETS.register("pbv")
class Pbv(WholeTrace):
    """PBV: the mixture that keeps the blood volume pulse's own colour (de Haan & van Leest 2014)."""

    def formula(self, rgb: Array, fps: float) -> Array:
        """C' w / (p' w) with w = (C C')^-1 p, C the colours over their means (3 x T), p their deviations.

        Directions that the colours do not have (grey pictures) get no weight; 0 where nothing changes.
        """
        relative = rgb / rgb.mean(axis=1, keepdims=True)
        deviation = relative.std(axis=1)
        strength = np.linalg.norm(deviation, axis=1, keepdims=True)
        is_flat = strength <= FLAT
        signature = deviation / np.where(is_flat, 1.0, strength)
        inverse = np.linalg.pinv(np.swapaxes(relative, 1, 2) @ relative, rcond=RANK, hermitian=True)
        weights = (inverse @ signature[:, :, None])[:, :, 0]
        gain = (signature * weights).sum(axis=1, keepdims=True)
        mixed = (relative @ weights[:, :, None])[:, :, 0]
        return np.where(is_flat, 0.0, mixed / np.where(is_flat, 1.0, gain))


@NETS.register("ica")
class Ica(WholeTrace):
    """ICA: the most periodic of three independent sources, by JADE (Poh, McDuff, Picard 2010)."""

    def formula(self, rgb: Array, fps: float) -> Array:
        """Detrended, standardised, unmixed; the chosen source band-passed at 0.7 to 2.5 Hz.

        The strength of the detrending follows the frame rate; compat: 100 at any rate.
        """
        return most_periodic(jade(_standard_colours(rgb, fps, self.compat)), fps)


@NETS.register("pca")
class Pca(WholeTrace):
    """PCA: the most periodic of three principal components (Lewandowska et al. 2011)."""

    def formula(self, rgb: Array, fps: float) -> Array:
        """As ICA, with principal components of unit variance for the sources."""
        return most_periodic(whitened(_standard_colours(rgb, fps, self.compat)), fps)


def _standard_colours(rgb: Array, fps: float, compat: bool) -> Array:
    """Detrended channels of zero mean and unit variance, 0 for one that does not change.

    (n, T, 3) -> (n, 3, T).
    """
    detrended = detrend(np.swapaxes(rgb, 1, 2), 100.0 if compat else strength_at(100.0, fps))
    centred = detrended - detrended.mean(axis=2, keepdims=True)
    deviation = centred.std(axis=2, keepdims=True)
    is_flat = deviation <= FLAT * rgb.mean(axis=1)[:, :, None]
    return np.where(is_flat, 0.0, centred / np.where(is_flat, 1.0, deviation))


def most_periodic(sources: Array, fps: float) -> Array:
    """The source with the largest share of its power in one bin, band-passed: (n, K, T) -> (n, T).

    Bins run from the first to the last below half the frame rate.
    """
    total = sources.shape[2]
    power = np.abs(np.fft.rfft(sources, axis=2)[:, :, 1 : (total - 1) // 2 + 1]) ** 2
    whole = power.sum(axis=2)
    share = np.where(whole > 0, power.max(axis=2) / np.where(whole > 0, whole, 1.0), 0.0)
    chosen = sources[np.arange(len(sources)), share.argmax(axis=1)]
    return bandpass(chosen, fps, *BAND_HZ, order=ORDER)
