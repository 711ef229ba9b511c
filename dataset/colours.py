"""Mean colour of whole crops, frame by frame."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import torch
from torch import Tensor


def crop_means(blocks: Iterable[Tensor]) -> Tensor:
    """Mean RGB of all pixels of each frame: uint8 blocks (n, H, W, 3) in time order -> float32 (T, 3).

    Sums of whole numbers, so that a mean is rounded once and depends on nothing but its frame.
    """
    rows = [cv2.mean(frame)[:3] for block in blocks for frame in block.cpu().numpy()]
    return torch.from_numpy(np.array(rows, dtype=np.float32))
