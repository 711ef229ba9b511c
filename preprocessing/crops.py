"""Placed frames to crops, region colours and masks, streamed in blocks."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing import boxes, regions
from preprocessing.frames import Frame
from preprocessing.track import Segment
from utils.settings import Preprocessing


@dataclass(frozen=True)
class ExtractSettings:
    """The settings that change what is stored."""

    face_finder: str = "mediapipe_mesh"
    face_model: str | None = None
    size: int = 128
    box: str = "track"
    box_scale: float = 1.3
    keyframe_stride: int = 8
    landmarks: bool = True
    skin_mask: bool = False
    align: str = "timestamps"
    swap_rb: bool = False
    qualities: tuple[str, ...] = ()

    @classmethod
    def from_params(cls, section: Preprocessing) -> ExtractSettings:
        """Those of the params section."""
        values = {item.name: getattr(section, item.name) for item in fields(cls)}
        return cls(**{**values, "qualities": tuple(section.qualities)})


class Sink(Protocol):
    """Takes the arrays that are too large to hold."""

    def append(self, name: str, block: NDArray[Any]) -> None:
        """Add n >= 1 rows to the array `name`, in time order; the block is not kept by the caller."""


class Rows:
    """An array that grows along its first axis.

    Many small arrays that live to the end of the video would pin down the heap between the large
    ones that come and go, and memory would grow by a tenth of a frame for each frame.
    """

    def __init__(self, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
        """shape, dtype: of one row."""
        self._data = np.empty((4096, *shape), dtype=dtype)
        self._n = 0

    def add(self, block: NDArray[Any]) -> None:
        """Append the rows of `block`."""
        n = self._n + len(block)
        if n > len(self._data):
            self._data = np.concatenate([self._data, np.empty_like(self._data)])
        self._data[self._n : n] = block
        self._n = n

    def whole(self) -> NDArray[Any]:
        """The rows so far."""
        return self._data[: self._n].copy()


class NewestRows(Rows):
    """Only the rows of the newest block: for a video without an end."""

    def add(self, block: NDArray[Any]) -> None:
        """The rows of `block` take the place of those before."""
        self._data, self._n = block.astype(self._data.dtype), len(block)


class Cropper:
    """Turns placed frames into crops for the sink, and keeps what is small."""

    def __init__(
        self, settings: ExtractSettings, sink: Sink, whole: bool, is_swapped: bool = False,
        rows: type[Rows] = Rows,
    ) -> None:
        """whole: the picture is the crop by declaration; is_swapped: frames come as BGR; rows: what is kept
        of the boxes and colours."""
        self._is_swapped = is_swapped
        self._settings, self._sink, self._whole = settings, sink, whole
        self._regions = regions.Regions(settings.size)
        self._squares = boxes.SquareBoxes(settings.box_scale)
        self.fixed: NDArray[np.float64] | None = None
        """Centre x, centre y and height used for every frame, where the box does not follow."""
        self.box = rows((4,), np.float32)
        self.found, self.found_any = rows((), np.bool_), rows((), np.bool_)
        self.roi = rows((len(regions.NAMES), 3), np.float32)
        self.has_mesh = False
        self._fitted: dict[int, NDArray[np.float32] | None] = {}

    def add(self, segment: Segment) -> None:
        """Crop the frames of a segment, read their regions, and hand over what is large."""
        n, size = len(segment.frames), self._settings.size
        box = self._boxes(segment)
        crops = np.empty((n, size, size, 3), dtype=np.uint8)
        rgb = np.full((n, len(regions.NAMES), 3), np.nan, dtype=np.float32)
        skin = np.zeros((n, regions.SKIN_SIDE, regions.SKIN_SIDE), dtype=np.uint8)
        fits = self._fits(segment, box)
        if self._settings.qualities:
            first = {0: None} if fits is None else fits
            self._fitted |= {segment.start + i: None if points is None else points.astype(np.float32)
                             for i, points in first.items()}
        for i, frame in enumerate(segment.frames):
            boxes.crop(frame, box[i], size, crops[i])
            if self._is_swapped:
                crops[i] = cv2.cvtColor(crops[i], cv2.COLOR_BGR2RGB)
            if not segment.found[i]:
                continue
            if fits is None:
                self._regions.fit_ellipse()
            elif i in fits:
                self._regions.fit(fits[i])
            self._regions.means(crops[i], rgb[i])
            if self._settings.skin_mask:
                skin[i] = self._regions.skin(crops[i])
        self._sink.append("frames", crops)
        if self._settings.skin_mask:
            self._sink.append("skin", skin)
        self.box.add(box)
        self.found.add(segment.found & (not self._whole))
        self.found_any.add(segment.found)
        self.roi.add(rgb)

    def copy(self, name: str, frames: Iterable[Frame]) -> tuple[int, NDArray[np.float32]]:
        """Crop a compressed copy as the original was, into "quality/<name>/frames".

        Returns the number of frames and the mean colours of the regions, (T, R, 3).
        """
        box, found, size = self.box.whole(), self.found_any.whole(), self._settings.size
        place, rgb, n = regions.Regions(size), np.full_like(self.roi.whole(), np.nan), 0
        for n, frame in enumerate(itertools.islice(frames, len(box)), 1):
            crop = np.empty((1, size, size, 3), dtype=np.uint8)
            boxes.crop(frame, box[n - 1], size, crop[0])
            if self._is_swapped:
                crop[0] = cv2.cvtColor(crop[0], cv2.COLOR_BGR2RGB)
            if n - 1 in self._fitted:
                points = self._fitted[n - 1]
                place.fit_ellipse() if points is None else place.fit(points.astype(np.float64))
            if found[n - 1]:
                place.means(crop[0], rgb[n - 1])
            self._sink.append(f"quality/{name}/frames", crop)
        return n, rgb

    def _boxes(self, segment: Segment) -> boxes.Boxes:
        n = len(segment.frames)
        if self._whole:
            high, wide = segment.frames[0].shape[:2]
            return np.repeat([[0.0, 0.0, wide, high]], n, axis=0)
        place = segment.box if self.fixed is None else np.repeat(self.fixed[None], n, axis=0)
        return self._squares.place(place)

    def _fits(self, segment: Segment, box: boxes.Boxes) -> dict[int, NDArray[np.float64]] | None:
        """Mesh points by the index of the frames at which the regions are placed anew; None without.

        That is the first frame of the segment, and any that has moved on its crop since. The points
        of all frames go to the sink here.
        """
        if segment.landmarks is None:
            return None
        self.has_mesh = True
        points = boxes.to_crop(segment.landmarks, box, self._settings.size)
        if self._settings.landmarks:
            self._sink.append("landmarks", points.astype(np.float16))
        fits = {0: points[0]}
        moved = np.abs(points - points[:1]).mean(axis=(1, 2))
        last = 0.0
        for i in np.flatnonzero(segment.found):
            if abs(moved[i] - last) >= regions.STILL:
                fits[int(i)], last = points[i], float(moved[i])
        return fits
