"""Compressed copies: encoded for real, stored beside the crops, read as what they are."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from dataset.index import RecordingInfo
from dataset.loader import ClipLoader
from dataset.reader import StoreClips
from preprocessing import compress
from preprocessing.compress import Quality, make_copies
from preprocessing.crops import ExtractSettings
from preprocessing.extract import extract
from preprocessing.sources.video_file import video_file
from preprocessing.store import RecordingWriter
from preprocessing.synthetic.generate import generate
from utils.contracts import InputSpec
from utils.errors import UserError

QUALITIES = ("x264_200", "x265_60", "mpeg4_200")
SECONDS = 3.0


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """One synthetic recording with noise, which is what codecs spend their bits on."""
    folder = tmp_path_factory.mktemp("raw")
    generate(folder, seed=5, train=1, valid=0, test=0, hard=0, control=0, seconds=SECONDS,
             workers=1, progress=False)
    return next(folder.glob("subject*/vid.avi"))


@dataclass
class Kept:
    """A sink that keeps everything."""

    streams: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def append(self, name: str, block: np.ndarray) -> None:
        self.streams.setdefault(name, []).append(block.copy())

    def whole(self, name: str) -> np.ndarray:
        return np.concatenate(self.streams[name])


def run(video, **changes: Any):
    sink = Kept()
    settings = ExtractSettings(face_finder="none", size=48, landmarks=False, **changes)
    return extract(video_file(video), settings, sink, lambda: None), sink


@pytest.fixture(scope="module")
def extracted(video):
    return run(video, qualities=QUALITIES)


def psnr_db(first: np.ndarray, second: np.ndarray) -> float:
    return 10 * np.log10(255**2 / np.mean((first.astype(float) - second.astype(float)) ** 2))


def test_copies_show_the_same_pictures(extracted):
    """Each copy has every frame, in order and in the right colours, near the original yet not equal."""
    result, sink = extracted
    original = sink.whole("frames")
    for name in QUALITIES:
        copy = sink.whole(f"quality/{name}/frames")
        assert copy.shape == original.shape and not np.array_equal(copy, original)
        assert psnr_db(copy, original) > 25
        shifted = psnr_db(copy[1:], original[:-1])
        assert psnr_db(copy[1:], original[1:]) > shifted
        swapped = psnr_db(copy[..., ::-1], original)
        assert psnr_db(copy, original) > swapped + 3
        assert result.arrays[f"quality/{name}/roi_rgb"].shape == result.arrays["roi_rgb"].shape


def test_colours_of_copies_are_their_own(extracted):
    """The region colours of a copy follow its pictures: near the original's, with compression noise."""
    result, _ = extracted
    for name in QUALITIES:
        difference = result.arrays[f"quality/{name}/roi_rgb"][:, 0] - result.arrays["roi_rgb"][:, 0]
        assert np.isfinite(difference).all() and 0 < np.abs(difference).max() < 8


def test_real_bitrates_are_recorded(extracted):
    """The bitrate that came out is recorded; one that misses the wanted one is a warning."""
    result, _ = extracted
    for name in QUALITIES:
        wanted, real = Quality.parse(name).kbps, float(result.attributes[f"quality.{name}.kbps"])
        warned = any(name in text for text in result.warnings)
        assert 0.3 * wanted < real < 3 * wanted
        assert warned == (abs(real / wanted - 1) > 0.15)


def test_less_bitrate_is_a_worse_picture(video):
    """With the same codec, fewer bits give a picture farther from the original."""
    _, sink = run(video, qualities=("x264_30", "x264_100", "x264_400"))
    found = [psnr_db(sink.whole(f"quality/{name}/frames"), sink.whole("frames"))
             for name in ("x264_30", "x264_100", "x264_400")]
    assert found == sorted(found) and found[2] > found[0] + 3


def test_copies_are_the_same_bytes_twice(video, extracted):
    """Encoding the same recording again gives the same copies, whatever was in memory before."""
    _, sink = run(video, qualities=QUALITIES[::-1])
    for name in QUALITIES:
        key = f"quality/{name}/frames"
        assert np.array_equal(sink.whole(key), extracted[1].whole(key))


def test_the_original_does_not_change(video, extracted):
    """Asking for copies leaves the original crops and labels as they are."""
    plain, sink = run(video)
    assert np.array_equal(sink.whole("frames"), extracted[1].whole("frames"))
    assert np.array_equal(plain.arrays["roi_rgb"], extracted[0].arrays["roi_rgb"], equal_nan=True)


def test_odd_sides_are_encoded():
    """Pictures with odd sides go through codecs that know only even ones."""
    frames = [np.full((33, 35, 3), 40 * i, np.uint8) for i in range(5)]
    seen: list[np.ndarray] = []

    def crop(name, decoded):
        seen.extend(decoded)
        return len(seen), np.zeros((5, 1, 3), np.float32)

    make_copies(["x264_100"], frames, False, 29.7, crop)
    assert len(seen) == 5
    assert all(abs(float(a[:33, :35].mean()) - 40 * i) < 4 for i, a in enumerate(seen))


def test_lost_frames_are_an_error(monkeypatch):
    """When fewer frames come back than went in, the recording fails instead of being shifted."""
    decode = compress._decode
    monkeypatch.setattr(compress, "_decode", lambda *a: (f for i, f in enumerate(decode(*a)) if i))
    frames = [np.zeros((32, 32, 3), np.uint8)] * 5
    with pytest.raises(UserError, match="5 frames were encoded and 4 came back"):
        make_copies(["x264_100"], frames, False, 30.0, lambda _, d: (len(list(d)), np.zeros((5, 1, 3), "f4")))


def test_a_video_that_breaks_off_is_one_failure():
    """An error of the reader amid the encoding comes through; nothing hangs or crashes."""
    def broken():
        yield from [np.zeros((32, 32, 3), np.uint8)] * 3
        raise UserError("the video is cut short")

    with pytest.raises(UserError, match="cut short"):
        make_copies(["x264_100", "x265_100", "mpeg4_100"], broken(), False, 30.0, lambda _, d: (0, None))


@pytest.fixture(scope="module")
def stored(tmp_path_factory, video):
    """A published recording with two copies."""
    path = tmp_path_factory.mktemp("store") / "r.h5"
    settings = ExtractSettings(face_finder="none", size=32, landmarks=False, qualities=QUALITIES[:2])
    with RecordingWriter(path, 32) as writer:
        result = extract(video_file(video), settings, writer, lambda: None)
        writer.finish(result.arrays, {**result.attributes, "subject": "s"})
    n, fps = int(result.attributes["n_frames"]), float(result.attributes["fps"])
    return RecordingInfo("d.r", "d", "s", "r", path, n, fps, 32, False)


def spec(**changes: Any) -> InputSpec:
    return dataclasses.replace(InputSpec(frames=16, size=32, video="centred", target="raw"), **changes)


def test_a_copy_is_read_instead_of_the_original(stored):
    """With a quality, frames and region colours are those of the copy; else of the original."""
    plain, copy = StoreClips(stored, spec()), StoreClips(stored, spec(quality="x264_200"))
    assert not torch.equal(plain.clip(0, 16).video, copy.clip(0, 16).video)
    assert not torch.equal(plain.roi_rgb, copy.roi_rgb)
    raw = copy._stored.read_frames(0, 16, name="quality/x264_200/frames")
    torch.testing.assert_close(copy.clip(0, 16).video, (torch.from_numpy(raw).float() - 127.5) / 128)


def test_a_copy_that_is_not_stored_is_named(stored):
    """Asking for a copy that was not made names the setting that makes it."""
    for wanted in (spec(quality="mpeg4_200"), spec(qualities=("x264_200", "mpeg4_200"))):
        with pytest.raises(UserError, match=r"no compressed copy mpeg4_200; add it to preprocessing\.qual"):
            StoreClips(stored, wanted)


def test_pairs_show_one_window_twice(stored):
    """A batch with copies holds original and copy of the same frames, and the level drawn for each."""
    wanted = spec(qualities=QUALITIES[:2])
    source = StoreClips(stored, wanted)
    loader = ClipLoader([stored], wanted, batch=4, seed=3, clips_per_recording=12)
    levels = []
    for batch in loader.epoch(0):
        assert batch.extras["degraded"].shape == batch.video.shape
        for i, start in enumerate(batch.start):
            level = int(batch.extras["level"][i])
            levels.append(level)
            same = source.clip(start, 16, copy=level - 1)
            torch.testing.assert_close(batch.video[i], same.video.permute(3, 0, 1, 2))
            torch.testing.assert_close(batch.extras["degraded"][i], same.extras["degraded"])
    assert set(levels) == {1, 2}
    again = [int(x) for batch in loader.epoch(0) for x in batch.extras["level"]]
    other = [int(x) for batch in loader.epoch(1) for x in batch.extras["level"]]
    assert levels == again and levels != other


def test_in_evaluation_the_copies_take_turns(stored):
    """Tiled clips bring the copies in turn, the same ones every time."""
    source = StoreClips(stored, spec(qualities=QUALITIES[:2]))
    found = [batch.extras["level"].tolist() for batch in source.batches(3)]
    assert found == [batch.extras["level"].tolist() for batch in source.batches(3)]
    assert {level for levels in found for level in levels} == {1, 2}
