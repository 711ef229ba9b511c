"""Methods without training, from the mean colour of the skin: GREEN, CHROM, POS.

House form (`compat=False`): every frame gets a sample, and the waveform rises when skin darkens.
`compat=True` gives the lengths, signs and ends of the released implementations.
"""

from __future__ import annotations

import abc
import math

import numpy as np
import scipy
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor, nn

from nets.registry import NETS
from utils.contracts import InputSpec
from utils.signal import bandpass, detrend, fill_gaps, strength_at

Array = NDArray[np.float64]

WINDOW_S = 1.6
SLOWEST_FPS = 2.0
"""Below it no pulse rate of the filters' bands is left under half the frame rate."""
FLAT = 1e-13


class ClassicalNet(nn.Module, abc.ABC):
    """A net without parameters: mean colours in, waveform out, in float64."""

    task = "classical"

    def __init__(self, *, compat: bool = False) -> None:
        """compat: the released implementation's length, sign and ends instead of the house form."""
        super().__init__()
        self.compat = compat
        self.input_spec = InputSpec(video="raw", target="raw", extras=("roi_rgb",))

    def forward(self, rgb: Tensor, fps: float | Tensor) -> Tensor:
        """Mean RGB (B, T, 3) or video (B, 3, T, H, W), of `fps` frames a second -> (B, T) float64.

        fps: one rate or (B,). Frames without a colour (NaN, or black, which no skin is) are
        interpolated. A recording without any, or too short for the method, gives NaN.
        """
        if rgb.dim() == 5:
            rgb = rgb.double().mean((3, 4)).transpose(1, 2)
        if rgb.dim() != 3 or rgb.shape[2] != 3:
            raise ValueError(f"mean colours are (B, T, 3), got a tensor of shape {tuple(rgb.shape)}")
        rates = torch.as_tensor(fps, dtype=torch.float64).expand(len(rgb)).tolist()
        traces = rgb.detach().double().cpu().numpy()
        rows = [self._one(trace, rate) for trace, rate in zip(traces, rates, strict=True)]
        return torch.from_numpy(np.stack(rows)).to(rgb.device)

    def _one(self, trace: Array, fps: float) -> Array:
        """The waveform of one recording, (T, 3) -> (T,)."""
        if not (math.isfinite(fps) and fps > 0):
            raise ValueError(f"fps = {fps}: the frame rate must be a positive number")
        filled = fill_gaps(np.where(trace > 0, trace, np.nan))
        if not np.isfinite(filled).all() or len(filled) < self.shortest(fps) or fps < SLOWEST_FPS:
            return np.full(len(trace), np.nan)
        return self.waveform(filled, fps)

    def shortest(self, fps: float) -> int:
        """Frames below which the method says nothing."""
        return _window_length(fps)

    @abc.abstractmethod
    def waveform(self, rgb: Array, fps: float) -> Array:
        """The waveform of finite, positive colours: (T, 3) -> (T,)."""


def _window_length(fps: float) -> int:
    """Frames in the 1.6 s window of POS and CHROM."""
    return math.ceil(WINDOW_S * fps)


@NETS.register("green")
class Green(ClassicalNet):
    """GREEN: the mean green value (Verkruysse, Svaasand, Nelson 2008), negated."""

    def waveform(self, rgb: Array, fps: float) -> Array:
        """Mean green minus the sample; compat: the green value itself. (T, 3) -> (T,)."""
        return rgb[:, 1].copy() if self.compat else rgb[:, 1].mean() - rgb[:, 1]

    def shortest(self, fps: float) -> int:
        """Any length will do."""
        return 1


@NETS.register("chrom")
class Chrom(ClassicalNet):
    """CHROM: chrominance signals in 1.6 s windows, overlap-added (de Haan & Jeanne 2013)."""

    def waveform(self, rgb: Array, fps: float) -> Array:
        """(T, 3) -> (T,), or (T',) with compat, which loses the tail that fills no half window.

        The release scores the T' samples. They end in 0, as the last window fades out there.

        House form: the tail is filled up with mirrored frames, which are cut off again, and the outer
        halves of the first and the last window are not faded. Between them it is the same.
        """
        hop = self.shortest(fps) // 2
        if self.compat:
            return _overlap_add(_chrominance(rgb, fps, hop), _weights((len(rgb) - hop) // hop, hop))
        padded = np.pad(rgb, ((0, -len(rgb) % hop), (0, 0)), mode="symmetric")
        weights = _weights(len(padded) // hop - 1, hop)
        weights[0, :hop] = weights[-1, hop:] = 1
        return _overlap_add(_chrominance(padded, fps, hop), weights)[: len(rgb)]

    def shortest(self, fps: float) -> int:
        """One window, of an even number of frames."""
        length = _window_length(fps)
        return length + length % 2


def _chrominance(rgb: Array, fps: float, hop: int) -> Array:
    """The signal in every window of two hops, a hop apart: (T, 3) -> (windows, 2 hop)."""
    pieces = sliding_window_view(rgb, 2 * hop, axis=0)[::hop]
    r, g, b = np.moveaxis(pieces / pieces.mean(axis=-1, keepdims=True), 1, 0)
    x, y = bandpass(np.stack([3 * r - 2 * g, 1.5 * r + g - 1.5 * b]), fps, 0.7, 2.5, order=3)
    return x - _ratio(x.var(-1), y.var(-1))[:, None] * y


def _weights(n_windows: int, hop: int) -> Array:
    """Symmetric Hann weights of every window: (windows, 2 hop)."""
    return np.tile(scipy.signal.windows.hann(2 * hop, sym=True), (n_windows, 1))


def _ratio(above: Array, below: Array) -> Array:
    """Ratio of standard deviations from variances; 0 where the lower one is rounding noise."""
    flat = below <= FLAT
    return np.sqrt(np.where(flat, 0.0, above / np.where(flat, 1.0, below)))


def _overlap_add(pieces: Array, weights: Array) -> Array:
    """Weighted sum of pieces of two hops each, one hop apart: (n, 2 hop) -> ((n + 1) hop,)."""
    hop, weighted = pieces.shape[1] // 2, pieces * weights
    total = np.zeros((len(pieces) + 1, hop))
    total[:-1] += weighted[:, :hop]
    total[1:] += weighted[:, hop:]
    return total.reshape(-1)


@NETS.register("pos")
class Pos(ClassicalNet):
    """POS: projection on the plane orthogonal to skin tone (Wang et al. 2017), negated."""

    def waveform(self, rgb: Array, fps: float) -> Array:
        """(T, 3) -> (T,), detrended and band-passed at 0.75 to 3 Hz.

        House form: the windows reach the last frame, and the strength of the detrending follows the
        frame rate. Compat: the windows end before the last sample, which is 0 before the filters, and
        the strength is 100 at any rate: at 60 frames a second that removes half of a slow pulse.
        """
        length = _window_length(fps)
        if not self.compat:
            # The cut-off goes with fps / sqrt(strength); this keeps it where 100 puts it at 30.
            return -_filtered(_projections(rgb, length), fps, strength_at(100.0, fps))
        covered = _projections(rgb[:-1], length) if len(rgb) > length else np.zeros(len(rgb) - 1)
        return _filtered(np.append(covered, 0.0), fps, 100.0)


def _filtered(raw: Array, fps: float, strength: float) -> Array:
    """Smoothness-priors detrending, then a band-pass of 0.75 to 3 Hz: (T,) -> (T,)."""
    return bandpass(detrend(raw, strength), fps, 0.75, 3.0, order=1)


def _projections(rgb: Array, length: int) -> Array:
    """Sum over all windows of h = S1 + (std S1 / std S2) S2 at their place: (T, 3) -> (T,).

    With channels divided by their means in the window, S1 = G - B and S2 = -2R + G + B are linear in
    the samples and free of a mean. So the sum at a frame is its colour times the sums of the windows'
    factors, and the deviations follow from running second moments: no window is ever cut out.
    """
    offset = rgb.mean(axis=0)
    centred = rgb - offset
    mean = _running_sum(centred, length) / length
    level = mean + offset
    rr, gg, bb, rg, rb, gb = _covariances(centred, mean, length) / _products(level).T
    alpha = _ratio(np.maximum(gg + bb - 2 * gb, 0), 4 * rr + gg + bb - 4 * rg - 4 * rb + 2 * gb)
    factors = np.stack([-2 * alpha, 1 + alpha, alpha - 1], axis=1) / level
    # The windows' constant: minus the mean of h, in samples counted from the offset.
    constant = -(factors * mean).sum(axis=1, keepdims=True)
    sums = _covering(np.concatenate([factors, constant], axis=1), length)
    return (sums[:, :3] * centred).sum(axis=1) + sums[:, 3]


def _products(channels: Array) -> Array:
    """Products of the channels in pairs: (n, 3) -> (n, 6), in the order rr, gg, bb, rg, rb, gb."""
    return channels[:, [0, 1, 2, 0, 0, 1]] * channels[:, [0, 1, 2, 1, 2, 2]]


def _covariances(centred: Array, mean: Array, length: int) -> Array:
    """Covariances of the channels in every window, of the given mean: (T, 3), (W, 3) -> (6, W)."""
    return (_running_sum(_products(centred), length) / length - _products(mean)).T


def _running_sum(values: Array, length: int) -> Array:
    """Sums over every `length` consecutive rows: (T, K) -> (T - length + 1, K)."""
    total = np.concatenate([np.zeros((1, values.shape[1])), values.cumsum(axis=0)])
    return total[length:] - total[:-length]


def _covering(values: Array, length: int) -> Array:
    """For every frame the sum of `values` over the windows it lies in: (W, K) -> (W + length - 1, K)."""
    edge = np.zeros((length - 1, values.shape[1]))
    return _running_sum(np.concatenate([edge, values, edge]), length)
