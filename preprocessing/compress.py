"""Compressed copies of a recording: encoded for real, decoded again, cropped with the original's boxes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
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
BLOCK_FRAMES = 32


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


def make_copy(
    name: str, frames: Iterable[Frame], is_bgr: bool, fps: float,
    crop: Callable[[Iterator[Frame]], tuple[int, NDArray[np.float32]]],
) -> Copy:
    """Encode `frames` (H, W, 3) at quality `name`, decode them, and hand them to `crop`.

    fps: the true frame rate, on which the bitrate rests. crop(frames) stores the crops of the decoded
    frames, which come in the colour order of the given ones, and returns their number and region
    colours. The stream lies in a temporary file without a name. UserError when frames are lost.
    """
    quality = Quality.parse(name)
    with tempfile.TemporaryFile() as handle:
        n_frames, n_bytes = _encode(frames, is_bgr, fps, quality, handle)
        handle.seek(0)
        n_decoded, roi_rgb = crop(_decode(handle, is_bgr))
    if n_decoded != n_frames:
        raise UserError(f"quality {name}: {n_frames} frames were encoded and {n_decoded} came back")
    kbps = n_bytes * 8 / 1000 * fps / n_frames
    off = abs(kbps / quality.kbps - 1) > _OFF
    return Copy(kbps, roi_rgb, [f"quality {name}: {kbps:.0f} kb/s came out"] if off else [])


def _encode(
    frames: Iterable[Frame], is_bgr: bool, fps: float, quality: Quality, handle: IO[bytes]
) -> tuple[int, int]:
    """Write a Matroska stream; returns the number of frames and the bytes of the video alone."""
    import av

    codec, options = _CODECS[quality.codec]
    n_frames = n_bytes = 0
    with av.open(handle, "w", format="matroska") as container:
        stream: Any = container.add_stream(
            codec, rate=Fraction(fps).limit_denominator(_RATE_DENOMINATOR), options=options
        )
        stream.pix_fmt, stream.bit_rate = "yuv420p", quality.kbps * 1000
        stream.codec_context.thread_count = 1
        for frame in frames:
            even = _even(frame)
            if n_frames == 0:
                stream.height, stream.width = even.shape[:2]
            picture = av.VideoFrame.from_ndarray(even, format="bgr24" if is_bgr else "rgb24")
            picture.pts = n_frames
            n_frames += 1
            for packet in stream.encode(picture):
                n_bytes += packet.size
                container.mux(packet)
        for packet in stream.encode(None):
            n_bytes += packet.size
            container.mux(packet)
    return n_frames, n_bytes


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
