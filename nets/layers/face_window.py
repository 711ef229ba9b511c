"""The preparation of a window of a face video (Lee, Chen, Lee, Meta-rPPG, ECCV 2020, and its code)."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from utils.signal import bandpass

ORDER = 3


def prepare_window(video: Tensor, mask: Tensor, fps: Tensor, low_hz: float, high_hz: float) -> Tensor:
    """Each clip's face without its mean, and with the trace of its frames' means band-passed.

    video: (B, C, T, H, W); mask: (B, T, H, W), 1 on the face, 0 elsewhere; fps: (B,) in Hz ->
    (B, C, T, H, W), 0 outside the face. Per clip and channel: the mean over the face in all frames is
    subtracted; then the mean over the face of every frame is replaced by its part between low_hz and
    high_hz (Butterworth, order 3, forward and backward). The filter is made for each clip's own rate.
    """
    with torch.autocast(video.device.type, enabled=False):  # the pulse is a small part of the trace
        return _prepared(video, mask[:, None].to(video.dtype), fps, low_hz, high_hz)


def _prepared(video: Tensor, face: Tensor, fps: Tensor, low_hz: float, high_hz: float) -> Tensor:
    pixels = face.sum((3, 4))
    inside = (video * face).sum((3, 4))
    mean = inside.sum(2) / pixels.sum(2).clamp_min(1)
    centred = (video - mean[:, :, None, None, None]) * face
    trace = centred.sum((3, 4)) / pixels.clamp_min(1)
    filters = torch.stack([
        torch.from_numpy(_filter(video.shape[2], rate, low_hz, high_hz)) for rate in fps.double().tolist()
    ]).to(trace)
    change = torch.matmul(trace, filters.transpose(1, 2)) - trace
    return (centred + change[..., None, None]) * face


@functools.lru_cache(maxsize=512)
def _filter(n: int, fps: float, low_hz: float, high_hz: float) -> np.ndarray:
    """The matrix (n, n) float64 that band-passes n samples: filtering is linear in them."""
    return np.ascontiguousarray(bandpass(np.eye(n), fps, low_hz, high_hz, ORDER).T)
