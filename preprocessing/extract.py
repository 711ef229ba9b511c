"""One recording from raw video to crops, boxes, region colours and labels at the frames' times."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocessing import compress, face, plausible, regions, resample
from preprocessing.crops import Cropper, ExtractSettings, Sink
from preprocessing.face import FaceFinder
from preprocessing.sources.base import Frame, FrameReader, Labels, RawRecording, Series
from preprocessing.times import increasing, mean_rate_hz, tolerated
from preprocessing.track import FaceTrack, FixedTrack, Segment, in_rgb
from utils.errors import UserError

__all__ = ["ExtractSettings", "Extracted", "Sink", "extract"]

Beat = Callable[[], None]
_DARK = 2.0
"""Mean grey value below which a face is called black."""


@dataclass
class Extracted:
    """All of a recording that was not streamed."""

    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    attributes: dict[str, str | int | float | list[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def extract(recording: RawRecording, settings: ExtractSettings, sink: Sink, beat: Beat) -> Extracted:
    """Stream crops (and landmarks, skin masks) of one recording into `sink`, return the rest.

    Memory does not grow with the video, but for some hundred bytes a frame. `beat` is called for every
    frame read. UserError, with a sentence, when the recording cannot be used.
    """
    labels = recording.labels()
    name = "none" if recording.is_crop else settings.face_finder
    video = _Video(recording, settings, labels, beat)
    finder = face.build(name, None if recording.is_crop else settings.face_model)
    cropper = Cropper(settings, sink, whole=not finder.looks, is_swapped=video.is_swapped)
    try:
        track = _place(video, finder, settings, cropper)
    finally:
        finder.close()
    result = _collect(recording, settings, labels, video, cropper, {
        "face_finder": name, "n_looks": track.n_looks, "warnings": finder.warnings,
    })
    if settings.qualities:
        _add_copies(result, settings.qualities, video, cropper)
    return result


def _add_copies(result: Extracted, names: tuple[str, ...], video: _Video, cropper: Cropper) -> None:
    """Compressed copies of the recording: their crops go to the sink, their colours into `result`."""
    n_frames, fps = int(str(result.attributes["n_frames"])), float(str(result.attributes["fps"]))
    copies = compress.make_copies(
        names, itertools.islice(video.again(), n_frames), video.is_swapped, fps,
        lambda name, frames: cropper.copy(name, video.beating(frames)),
    )
    for name, copy in copies.items():
        result.arrays[f"quality/{name}/roi_rgb"] = copy.roi_rgb
        result.attributes[f"quality.{name}.kbps"] = copy.kbps
        result.warnings += copy.warnings


class _Video:
    """Opens the recording as often as needed and reads no more frames than have a time."""

    def __init__(
        self, recording: RawRecording, settings: ExtractSettings, labels: Labels, beat: Beat
    ) -> None:
        self.recording, self.beat = recording, beat
        stated = labels.frame_time_s
        self._limit = None if stated is None else len(stated)
        self.reader: FrameReader = recording.open_frames()
        self.reader.beat = beat
        self.is_swapped = self.reader.as_bgr() != settings.swap_rb
        self.n_read = 0

    def frames(self) -> Iterator[Frame]:
        """All frames that have a time; the reader is then at its end and `n_read` counts all."""
        for frame in self.reader:
            self.n_read += 1
            if self._limit is None or self.n_read <= self._limit:
                yield frame
            else:
                self.beat()

    def again(self) -> Iterator[Frame]:
        """The frames once more from the first, by a reader of their own."""
        reader = self.recording.open_frames()
        reader.beat = self.beat
        reader.as_bgr()
        yield from self.beating(reader)

    def beating(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """The frames, each with a sign of life."""
        for frame in frames:
            self.beat()
            yield frame


def _place(
    video: _Video, finder: FaceFinder, settings: ExtractSettings, cropper: Cropper
) -> FaceTrack | FixedTrack:
    """Run the video through the finder and the cropper."""
    if settings.box == "median" and finder.follows:
        cropper.fixed = _median_box(video, settings)
    follow = FaceTrack if finder.follows else FixedTrack
    track = follow(finder, settings.keyframe_stride, video.is_swapped)
    lead_is_out = False
    for segment in track.segments(video.frames(), video.beat):
        if settings.box == "first" and cropper.fixed is None:
            cropper.fixed = segment.box[0]
        if not lead_is_out:
            _crop_lead(video, segment, cropper)
            lead_is_out = True
        cropper.add(segment)
    if track.n_frames and not lead_is_out:
        raise UserError(
            f"{video.recording.recording}: no face found in {track.n_looks} looks at {track.n_frames} "
            "frames; check the video's picture and rotation, try another preprocessing.face_finder, or, "
            'when the pictures are face crops already, set it to "none"'
        )
    return track


def _crop_lead(video: _Video, first: Segment, cropper: Cropper) -> None:
    """Crop the frames before the first face with its box, marked as not found."""
    if first.start == 0:
        return
    nowhere = None if first.landmarks is None else np.full_like(first.landmarks[:1], np.nan)
    for index, frame in zip(range(first.start), video.again(), strict=False):
        video.beat()
        cropper.add(Segment(index, [frame], first.box[:1], nowhere, np.zeros(1, dtype=np.bool_)))


def _median_box(video: _Video, settings: ExtractSettings) -> NDArray[np.float64] | None:
    """Median of centre and height over all key frames of a first pass; None without a face."""
    finder = face.build(settings.face_finder, settings.face_model)
    found = []
    try:
        for index, frame in enumerate(video.again()):
            video.beat()
            if index % settings.keyframe_stride == 0:
                look = finder.look(in_rgb(frame, video.is_swapped))
                found += [look.box] if look.box is not None else []
    finally:
        finder.close()
    return np.median(np.array(found), axis=0) if found else None


def _collect(
    recording: RawRecording, settings: ExtractSettings, labels: Labels, video: _Video, cropper: Cropper,
    looked: dict[str, Any],
) -> Extracted:
    """Times, labels and attributes, once every frame has been read."""
    name = recording.recording
    time_s, warnings = _frame_times(labels, video, name)
    stated = labels.frame_time_s is not None
    plausible.check_frames(time_s, video.reader.fps_declared, stated, recording)
    plausible.check_labels(labels, time_s, recording)
    aligned = resample.align(labels, time_s, settings.align, name)
    rgb, found = cropper.roi.whole(), cropper.found.whole()
    result = Extracted()
    n = len(time_s)
    result.arrays = {
        "frame_time_s": time_s, "pulse": aligned.pulse, "box": cropper.box.whole()[:n],
        "face_found": found[:n], "roi_rgb": rgb[:n], **_label_arrays(labels),
    }
    result.warnings = [
        *labels.warnings, *video.reader.warnings, *warnings, *aligned.warnings, *looked["warnings"],
        *_odd_pictures(rgb, found, time_s, name), *_region_notes(cropper, looked["face_finder"]),
    ]
    result.attributes = {
        "fps": mean_rate_hz(time_s), "n_frames": n, "n_frames_decoded": video.n_read,
        "n_label": len(labels.samples), "label_kind": labels.kind, "region_names": list(regions.NAMES),
        "align": settings.align, "face_finder": looked["face_finder"], "n_looks": looked["n_looks"],
        "face_found_share": float(found[:n].mean()), "duration_video_s": float(time_s[-1] - time_s[0]),
        "frame_times": "container" if labels.frame_time_s is None else "dataset",
        **_known(fps_declared=video.reader.fps_declared, n_frames_declared=video.reader.n_declared,
                 n_frames_listed=None if labels.frame_time_s is None else len(labels.frame_time_s),
                 label_rate_hz=aligned.label_rate_hz, duration_label_s=_span(labels.time_s)),
    }
    return result


def _known(**values: float | None) -> dict[str, float]:
    return {key: value for key, value in values.items() if value is not None}


def _span(time_s: Series) -> float | None:
    return float(time_s[-1] - time_s[0]) if len(time_s) > 1 else None


def _frame_times(labels: Labels, video: _Video, name: str) -> tuple[Series, list[str]]:
    """(T,) strictly increasing; a few frames more or fewer than the dataset's times are cut off."""
    if labels.frame_time_s is None:
        return increasing(video.reader.time_s, f"{name}: container")
    stated = labels.frame_time_s
    n = min(video.n_read, len(stated))
    time_s, warnings = increasing(stated[:n], f"{name}: frame times")
    surplus = abs(video.n_read - len(stated))
    text = f"{name}: {video.n_read} frames but {len(stated)} frame times"
    if surplus > tolerated(len(stated)):
        raise UserError(f"{text}; the video is cut short, or the labels belong to another recording")
    return time_s, [*warnings, f"{text}; the surplus is cut off"] if surplus else warnings


def _label_arrays(labels: Labels) -> dict[str, NDArray[Any]]:
    """The series as recorded, those that exist."""
    series = (
        ("label", labels.samples, "label_time_s", labels.time_s),
        ("hr_bpm", labels.hr_bpm, "hr_time_s", labels.hr_time_s),
        ("resp", labels.resp, "resp_time_s", labels.resp_time_s),
    )
    arrays: dict[str, NDArray[Any]] = {}
    for name, values, time_name, time_s in series:
        if len(values):
            arrays[name], arrays[time_name] = values.astype(np.float32), time_s.astype(np.float64)
    return arrays


def _region_notes(cropper: Cropper, finder: str) -> list[str]:
    if cropper.has_mesh:
        return []
    return [f"{finder} gives no face mesh: region face is an ellipse amid the crop, the others are NaN"]


def _odd_pictures(rgb: NDArray[np.float32], found: NDArray[np.bool_], time_s: Series, name: str) -> list[str]:
    """Warnings for exchanged colours, black frames, and frame rates no camera has."""
    notes = []
    mean = rgb[:, 0]
    seen = mean[np.isfinite(mean).all(axis=1)]
    if len(seen) and seen[:, 0].mean() < seen[:, 2].mean():
        notes.append(f"{name}: the face has more blue than red; exchanged (preprocessing.swap_rb)?")
    n_black = int((seen.mean(axis=1) < _DARK).sum()) if len(seen) else 0
    if n_black:
        notes.append(f"{name}: the face is black in {n_black} frames")
    fps = mean_rate_hz(time_s)
    if not plausible.USUAL_FPS[0] <= fps <= plausible.USUAL_FPS[1]:
        notes.append(f"{name}: {fps:.2f} frames a second by the time stamps; are they right?")
    longest = float(np.diff(time_s).max())
    if longest > 0.5:
        notes.append(f"{name}: a gap of {longest:.2f} s between two frames")
    return notes
