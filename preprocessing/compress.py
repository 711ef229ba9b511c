"""Compressed copies of a recording: encoded for real, decoded again, cropped with the original's boxes."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from preprocessing.frames import Frame
from utils.errors import UserError

# One thread each: the bytes must not depend on the machine's cores. x264 without its macroblock tree,
# with which it gives the same pictures other bytes, depending on what the memory held before.
_CODECS: dict[str, tuple[str, dict[str, str]]] = {
    "x264": ("libx264", {"preset": "medium", "x264-params": "mbtree=0"}),
    "x265": ("libx265", {"preset": "medium", "x265-params": "pools=none:frame-threads=1:log-level=error"}),
    "mpeg4": ("mpeg4", {}),
}
_RATE_DENOMINATOR = 500
"""Frame rates are given as fractions this fine: MPEG-4 has room for no more."""
_OFF = 0.15
"""Share by which the real bitrate may miss the wanted one without a warning."""


@dataclass(frozen=True)
class Quality:
    """A codec and the bitrate asked of it, in kb/s (1000 bits a second)."""

    codec: str
    kbps: int

    @classmethod
    def parse(cls, name: str) -> Quality:
        """From a name such as "x264_250"; the pattern of the params has been checked."""
        codec, _, kbps = name.rpartition("_")
        return cls(codec, int(kbps))

    @property
    def name(self) -> str:
        """How copies of this quality are stored: quality/<name>/frames."""
        return f"{self.codec}_{self.kbps}"


@dataclass
class Copy:
    """What became of one copy: real bitrate in kb/s, mean colours of the regions (T, R, 3), warnings."""

    kbps: float
    roi_rgb: NDArray[np.float32]
    warnings: list[str]


def make_copies(
    names: Sequence[str], frames: Iterable[Frame], is_bgr: bool, fps: float,
    crop: Callable[[str, Iterator[Frame]], tuple[int, NDArray[np.float32]]],
) -> dict[str, Copy]:
    """Encode `frames` (H, W, 3), read once, at each quality; decode them and hand them to `crop`.

    fps: the true frame rate, on which the bitrates rest. crop(name, frames) stores the crops of the
    decoded frames, which come in the colour order of the given ones, and returns their number and region
    colours. The streams lie in temporary files without names. UserError when frames are lost.
    """
    with contextlib.ExitStack() as stack:
        encoders = {
            name: _Encoder(Quality.parse(name), is_bgr, fps, stack.enter_context(tempfile.TemporaryFile()))
            for name in names
        }
        for frame in frames:
            even = _even(frame)
            for encoder in encoders.values():
                encoder.add(even)
        return {name: _decoded(name, encoder, is_bgr, fps, crop) for name, encoder in encoders.items()}


def _decoded(
    name: str, encoder: _Encoder, is_bgr: bool, fps: float,
    crop: Callable[[str, Iterator[Frame]], tuple[int, NDArray[np.float32]]],
) -> Copy:
    """The copy of a whole stream."""
    encoder.finish()
    n_decoded, roi_rgb = crop(name, _decode(encoder.handle, is_bgr))
    if n_decoded != encoder.n_frames:
        raise UserError(f"quality {name}: {encoder.n_frames} frames were encoded and {n_decoded} came back")
    kbps, wanted = encoder.n_bytes * 8 / 1000 * fps / encoder.n_frames, Quality.parse(name).kbps
    off = abs(kbps / wanted - 1) > _OFF
    return Copy(kbps, roi_rgb, [f"quality {name}: {kbps:.0f} kb/s came out"] if off else [])


class _Encoder:
    """Writes a Matroska stream frame by frame; counts frames, and the bytes of the video alone."""

    def __init__(self, quality: Quality, is_bgr: bool, fps: float, handle: IO[bytes]) -> None:
        import av

        codec, options = _CODECS[quality.codec]
        self.handle, self.n_frames, self.n_bytes = handle, 0, 0
        self._format = "bgr24" if is_bgr else "rgb24"
        self._container = av.open(handle, "w", format="matroska")
        rate = Fraction(fps).limit_denominator(_RATE_DENOMINATOR)
        stream: Any = self._container.add_stream(codec, rate=rate, options=options)
        self._stream = stream
        self._stream.pix_fmt, self._stream.bit_rate = "yuv420p", quality.kbps * 1000
        self._stream.codec_context.thread_count = 1

    def add(self, frame: Frame) -> None:
        """Encode the next frame, of even sides."""
        import av

        if self.n_frames == 0:
            self._stream.height, self._stream.width = frame.shape[:2]
        picture = av.VideoFrame.from_ndarray(frame, format=self._format)
        picture.pts = self.n_frames
        self.n_frames += 1
        self._mux(picture)

    def finish(self) -> None:
        """Write what the encoder still holds, and go back to the beginning of the file."""
        self._mux(None)
        self._container.close()
        self.handle.seek(0)

    def _mux(self, picture: Any) -> None:
        for packet in self._stream.encode(picture):
            self.n_bytes += packet.size
            self._container.mux(packet)


def _decode(handle: IO[bytes], is_bgr: bool) -> Iterator[Frame]:
    """The pictures in time order."""
    import av

    with av.open(handle, "r") as container:
        container.streams.video[0].codec_context.thread_count = 1
        for picture in container.decode(video=0):
            yield np.asarray(picture.to_ndarray(format="bgr24" if is_bgr else "rgb24"), dtype=np.uint8)


def _even(frame: Frame) -> Frame:
    """The frame with its last row and column repeated where its sides are odd: 4:2:0 needs even ones."""
    high, wide = frame.shape[:2]
    if high % 2 or wide % 2:
        frame = np.pad(frame, ((0, high % 2), (0, wide % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(frame)
