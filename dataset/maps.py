"""Mean colours of a grid over the face, frame by frame: what spatio-temporal maps are made of."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_BLOCK_FRAMES = 32
_MARGIN = 1e-3
"""Narrowest face, as a share of the crop: a box without an area has no mean."""
_YUV = ((0.299, 0.587, 0.114), (-0.14713, -0.28886, 0.436), (0.615, -0.51499, -0.10001))
"""Rows of the matrix from RGB to YUV (ITU-R BT.601)."""


def face_boxes(landmarks: NDArray[np.floating], side: int) -> NDArray[np.float64]:
    """Bounding box of the face mesh in every frame: (T, N, 2) in crop pixels, NaN where unknown -> (T, 4).

    Left, top, right, bottom in shares of a crop of `side` pixels, within 0 and 1. A frame without a mesh
    keeps the box before it (the first ones that of the first frame with a mesh); without any mesh the box
    is the whole crop.
    """
    points = landmarks.astype(np.float64) / side
    known = np.flatnonzero(np.isfinite(points).all(axis=(1, 2)))
    if not len(known):
        return np.tile([0.0, 0.0, 1.0, 1.0], (len(points), 1))
    before = np.maximum(np.searchsorted(known, np.arange(len(points)), side="right") - 1, 0)
    seen = points[known].clip(0, 1)
    boxes = np.concatenate([seen.min(axis=1), seen.max(axis=1)], axis=1)[before]
    boxes[:, :2] = np.minimum(boxes[:, :2], 1 - _MARGIN)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + _MARGIN)
    return boxes


def region_means(video: Tensor, boxes: NDArray[np.float64], cells: int) -> Tensor:
    """Mean colour of each cell of a grid over the boxes: uint8 (T, H, W, C) to float32 (T, cells, cells, C).

    boxes: (T, 4) as `face_boxes` gives them. Pixels that a cell covers partly count by that part, so that a
    box that moves by less than a pixel moves the means smoothly.
    """
    _, height, width, channels = video.shape
    place = torch.from_numpy(boxes).to(video.device, non_blocking=True)
    rows = _shares(place[:, 1], place[:, 3], height, cells)
    columns = _shares(place[:, 0], place[:, 2], width, cells)
    made = torch.empty(len(video), cells, cells, channels, device=video.device)
    for start in range(0, len(video), _BLOCK_FRAMES):
        some = slice(start, start + _BLOCK_FRAMES)
        lines = torch.matmul(rows[some], video[some].float().flatten(2)).unflatten(2, (width, channels))
        made[some] = torch.matmul(columns[some, None], lines)
    return made


def _shares(first: Tensor, last: Tensor, n: int, cells: int) -> Tensor:
    """Weight of each of n pixels in each cell between `first` and `last` (T,), shares of 1: (T, cells, n)."""
    edges = torch.arange(cells + 1, dtype=torch.float64, device=first.device) / cells
    limits = (first[:, None] + (last - first)[:, None] * edges) * n
    pixel = torch.arange(n, dtype=torch.float64, device=first.device)
    upper = torch.minimum(limits[:, 1:, None], pixel + 1)
    lower = torch.maximum(limits[:, :-1, None], pixel)
    covered = (upper - lower).clamp_min(0)
    return (covered / covered.sum(-1, keepdim=True)).float()


def to_yuv(colours: Tensor) -> Tensor:
    """RGB to YUV: (..., 3) to (..., 3)."""
    matrix = torch.tensor(_YUV, dtype=colours.dtype).to(colours.device, non_blocking=True)
    return colours @ matrix.T
