"""MATLAB files: every version, order and type of a video comes out right; hostile files cost nothing."""

from __future__ import annotations

import os
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

from preprocessing import matlab, scratch
from preprocessing.mat5 import Mat5File
from preprocessing.matlab import MatFile, boxes
from preprocessing.scratch import scratch_file
from utils.errors import Stopped, UserError

T, H, W = 11, 6, 8


@pytest.fixture
def grey() -> np.ndarray:
    """A video of noise (T, H, W, 3), which no exchange of axes leaves as it is."""
    return np.random.default_rng(0).integers(0, 256, (T, H, W, 3), dtype=np.uint8)


def write_73(path: Path, chunks: Any = None, **variables: np.ndarray) -> Path:
    """A file as MATLAB -v7.3 writes it: HDF5 behind 512 bytes of header, axes reversed."""
    with h5py.File(path, "w", userblock_size=512) as handle:
        for name, values in variables.items():
            packed = "gzip" if chunks else None
            kept = handle.create_dataset(name, data=values.T, chunks=chunks, compression=packed)
            kept.attrs["MATLAB_class"] = np.bytes_("double")
    with open(path, "r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    return path


def old_file(path: Path, compress: bool = True, **variables: Any) -> Path:
    scipy.io.savemat(path, variables, do_compression=compress)
    return path


def frames(path: Path) -> np.ndarray:
    return np.stack(list(MatFile(path).video("video", 30.0)))


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("dtype, scale", [
    (np.float64, 255), (np.float32, 255), (np.float64, 1), (np.uint8, 1), (np.uint16, 1),
])
def test_a_video_of_any_type_comes_out_as_it_went_in(
    tmp_path: Path, grey: np.ndarray, compress: bool, dtype: Any, scale: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0 to 1 and 0 to 255, floats and whole numbers, give the same grey levels, in several blocks."""
    monkeypatch.setattr(matlab, "BLOCK_BYTES", 8 * T * 7)
    path = old_file(tmp_path / "v.mat", compress, first=1.0, video=(grey / scale).astype(dtype), last="x")
    np.testing.assert_array_equal(frames(path), grey)


def test_a_dark_beginning_does_not_decide_the_scale(
    tmp_path: Path, grey: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Grey levels whose first columns are 0 and 1 are not taken for parts of one."""
    monkeypatch.setattr(matlab, "BLOCK_BYTES", 8 * T * 7)
    grey[:, :, :3] = np.arange(T)[:, None, None, None] % 2
    np.testing.assert_array_equal(frames(old_file(tmp_path / "v.mat", video=grey.astype(np.float64))), grey)


def test_time_may_be_the_last_axis(tmp_path: Path, grey: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """h x w x 3 x t gives the same frames as t x h x w x 3, in both versions."""
    monkeypatch.setattr(matlab, "BLOCK_BYTES", 8 * H * W * 3 * 4)
    turned = np.moveaxis(grey, 0, 3) / 255
    np.testing.assert_array_equal(frames(old_file(tmp_path / "v.mat", video=turned)), grey)
    np.testing.assert_array_equal(frames(write_73(tmp_path / "w.mat", video=turned)), grey)


@pytest.mark.parametrize("chunks", [None, (1, 2, 3, T), (3, W, H, 1), (2, 3, 5, 4)])
def test_version_73_is_read_by_whole_chunks(
    tmp_path: Path, grey: np.ndarray, chunks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However an HDF5 video is cut into chunks, the frames are the same."""
    monkeypatch.setattr(matlab, "BLOCK_BYTES", 8 * T * 7)
    path = write_73(tmp_path / "v.mat", chunks, video=grey / 255)
    np.testing.assert_array_equal(frames(path), grey)


def test_boxes_cover_everything_once() -> None:
    """The boxes of an array overlap nowhere, leave nothing out, and stay below their size."""
    seen = np.zeros((3, 50, 41, 70), dtype=int)
    for box in boxes(seen.shape, (2, 7, 8, 64), 8 << 10):
        seen[box] += 1
        assert seen[box].size * (8 << 10) <= max(matlab.BLOCK_BYTES, 2 * 7 * 8 * 64 * (8 << 10))
    assert (seen == 1).all()


def test_small_variables_are_those_scipy_reads(tmp_path: Path) -> None:
    """Numbers, text, rows, columns and MATLAB's own small types come out as scipy gives them."""
    values = {"row": np.arange(5.0)[None], "column": np.arange(400.0)[:, None] / 3, "word": "LED-low",
              "tone": np.uint8(5), "many": np.arange(6, dtype=np.int16).reshape(2, 3), "flag": True}
    for compress in (True, False):
        path = old_file(tmp_path / f"{compress}.mat", compress, **values)
        expected, found = scipy.io.loadmat(path), Mat5File(path)
        assert set(found.variables) == set(values)
        for name in ("row", "column", "tone", "many", "flag"):
            np.testing.assert_array_equal(found.read(name, 1000), expected[name])
        assert MatFile(path).text("word") == "LED-low" and MatFile(path).text("tone") == "5"
        np.testing.assert_array_equal(MatFile(path).series("column", 400), np.arange(400.0) / 3)


def test_small_variables_of_version_73(tmp_path: Path) -> None:
    """A row of version 7.3 comes as a series."""
    path = write_73(tmp_path / "v.mat", d_ppg=np.arange(9.0)[None])
    np.testing.assert_array_equal(MatFile(path).series("d_ppg", 9), np.arange(9.0))
    assert MatFile(path).dims("d_ppg") == (1, 9) and "d_br" not in MatFile(path)


@pytest.mark.parametrize("values, message", [
    (np.full((3, 4, 4, 3), 0.5) * np.array([1, 1, np.nan]), "not numbers"),
    (np.full((3, 4, 4, 3), 700.0), "values from 700 to 700"),
    (np.full((3, 4, 4, 3), -3.0), "values from -3 to -3"),
    (np.full((3, 4, 4, 3), 7.0), "neither 0 to 1 nor 0 to 255"),
    (np.zeros((3, 4, 4, 2)), "3x4x4x2; a video"),
    (np.zeros((1, 4, 4, 3)), "1 frames"),
])
def test_what_is_no_video_is_refused(tmp_path: Path, values: np.ndarray, message: str) -> None:
    """NaN, foreign ranges and foreign shapes are errors with their numbers."""
    with pytest.raises(UserError, match=message):
        frames(old_file(tmp_path / "v.mat", video=values))


def test_an_overshoot_of_resizing_is_cut_with_a_warning(tmp_path: Path) -> None:
    """Values a little outside 0 to 1 count as 0 to 1."""
    values = np.full((3, 4, 4, 3), 0.5)
    values[0, 0, 0] = [1.1, -0.1, 0.25]
    reader = MatFile(old_file(tmp_path / "v.mat", video=values)).video("video", 30.0)
    assert next(iter(list(reader)))[0, 0].tolist() == [255, 0, 64]
    assert "values from -0.1 to 1.1 cut to 0 to 1" in reader.warnings[0]


def test_bgr_is_given_where_asked(tmp_path: Path, grey: np.ndarray) -> None:
    """A caller that asked for BGR gets the same frames with red and blue exchanged."""
    reader = MatFile(old_file(tmp_path / "v.mat", video=grey)).video("video", 30.0)
    assert reader.as_bgr()
    np.testing.assert_array_equal(np.stack(list(reader)), grey[..., ::-1])
    np.testing.assert_allclose(reader.time_s, np.arange(T) / 30)


def test_the_caller_hears_of_a_reader_at_work(
    tmp_path: Path, grey: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`beat` is called for every block before the first frame comes."""
    monkeypatch.setattr(matlab, "BLOCK_BYTES", 8 * T * 16)
    beats: list[int] = []
    reader = MatFile(old_file(tmp_path / "v.mat", video=grey / 255)).video("video", 30.0)
    reader.beat = lambda: beats.append(1)
    next(iter(reader))
    assert len(beats) == 3 * H * W // 16


@pytest.mark.parametrize("compress", [True, False])
def test_every_cut_of_a_file_is_named(tmp_path: Path, grey: np.ndarray, compress: bool) -> None:
    """A file that ends anywhere too early is an error, never a shorter video."""
    whole = old_file(tmp_path / "v.mat", compress, video=grey / 255, GT_ppg=np.ones((1, T))).read_bytes()
    for share in (0.0, 0.01, 0.2, 0.5, 0.9, 0.999):
        path = tmp_path / "cut.mat"
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(UserError, match="cut.mat"):
            frames(path)


@pytest.mark.parametrize("place", [0.5, 1.0])
def test_a_flipped_bit_in_compressed_data_is_noticed(
    tmp_path: Path, grey: np.ndarray, place: float
) -> None:
    """A bit in the middle, or in the checksum at the end, of video or label makes the file damaged.

    (Sizes that are filled up to eight bytes, so that the checksum comes some bytes after the data.)
    """
    path = old_file(tmp_path / "v.mat", video=grey[:, :, :7])
    path.write_bytes(flipped(path.read_bytes(), place))
    with pytest.raises(UserError, match="damaged"):
        frames(path)
    path = old_file(tmp_path / "l.mat", label=grey.ravel()[:501])
    path.write_bytes(flipped(path.read_bytes(), place))
    with pytest.raises(UserError, match="damaged"):
        MatFile(path).series("label", 501)


def flipped(data: bytes, place: float) -> bytes:
    """The data with one bit another."""
    index = min(int(place * len(data)), len(data) - 1)
    return data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]


def matrix(dims: tuple[int, ...], n_bytes: int, data: bytes = b"", name: bytes = b"video") -> bytes:
    """A variable of doubles whose parts claim what the arguments say."""
    body = struct.pack("<4I", 6, 8, 6, 0) + struct.pack("<2I", 5, 4 * len(dims))
    body += struct.pack(f"<{len(dims)}i", *dims) + bytes(-4 * len(dims) % 8)
    body += struct.pack("<2I", 1, len(name)) + name.ljust(8, b"\0")
    return body + struct.pack("<2I", 9, n_bytes) + data


def hostile(path: Path, body: bytes, compress: bool = False) -> Path:
    element = struct.pack("<2I", 14, len(body)) + body
    if compress:
        packed = zlib.compress(element, 9)
        element = struct.pack("<2I", 15, len(packed)) + packed
    path.write_bytes(b"MATLAB 5.0".ljust(124) + b"\x00\x01IM" + element)
    return path


@pytest.mark.parametrize("body, compress", [
    (matrix((2000, 2000, 2000, 3), 4_000_000_000), False),
    (matrix((2000, 2000, 2000, 3), 4_000_000_000), True),
    (matrix((5, 4, 4, 3), 1920), False),
    (matrix((5, 4, 4, 3), 1920), True),
    (matrix((5, 4, 4, 3), 800, bytes(800)), True),
    (matrix((-5, 4, 4, 3), 1920, bytes(1920)), False),
    (matrix((2**31 - 1,) * 8, 1920, bytes(1920)), False),
    (matrix((5, 4, 4, 3), 1920, bytes(1920))[:30], False),
    (b"", False), (b"\xff" * 64, False), (b"\xff" * 64, True),
])
def test_a_file_that_claims_what_it_has_not_is_refused(tmp_path: Path, body: bytes, compress: bool) -> None:
    """Absurd sizes are errors before anything of that size is allocated."""
    path = hostile(tmp_path / "bomb.mat", body, compress)
    tracemalloc.start()
    with pytest.raises(UserError, match="bomb.mat"):
        frames(path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


@pytest.mark.parametrize("body, compress", [
    (matrix((1000, 100, 100, 3), 240_000_000), False), (matrix((1000, 100, 100, 3), 240_000_000), True),
    (matrix((1000, 100, 100, 3), 1920, bytes(1920)), True),
])
def test_a_claim_takes_no_disk(
    tmp_path: Path, body: bytes, compress: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the header alone shows to be impossible is refused before a temporary file is made."""
    monkeypatch.setattr(scratch, "require_space", lambda *_: pytest.fail("space was asked for"))
    with pytest.raises(UserError, match="bomb.mat: damaged"):
        frames(hostile(tmp_path / "bomb.mat", body, compress))


def test_a_small_variable_that_inflates_is_refused(tmp_path: Path) -> None:
    """Where a label belongs, a compressed gigabyte is not inflated."""
    body = matrix((1, 2 << 20), 16 << 20, bytes(16 << 20), b"GT_ppg")
    path = hostile(tmp_path / "bomb.mat", body, compress=True)
    tracemalloc.start()
    with pytest.raises(UserError, match="2,097,152 values, at most 1,000,000"):
        MatFile(path).series("GT_ppg", 1_000_000)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


def test_an_empty_hdf5_video_is_refused(tmp_path: Path) -> None:
    """A 7.3 video that claims gigabytes and stores nothing takes no space on the disk."""
    path = tmp_path / "v.mat"
    with h5py.File(path, "w") as handle:
        handle.create_dataset("video", shape=(3, 320, 240, 2000), dtype="f8", chunks=(1, 8, 8, 2000))
    with pytest.raises(UserError, match="claims"):
        frames(path)


def test_an_hdf5_video_in_vast_chunks_is_refused(tmp_path: Path) -> None:
    """A chunk has to be held as a whole, so its size has a limit."""
    path = tmp_path / "v.mat"
    with h5py.File(path, "w") as handle:
        handle.create_dataset("video", shape=(3, 320, 240, 200), dtype="f8", chunks=(3, 320, 240, 200))
    with pytest.raises(UserError, match="pieces of 368,640,000 bytes"):
        frames(path)


def test_cells_and_structures_are_named_and_not_read(tmp_path: Path) -> None:
    """Other kinds of variables do not hinder the reading of numbers, and are refused themselves."""
    path = old_file(tmp_path / "v.mat", cell=np.array([1, "a"], dtype=object), tree={"a": 1}, x=2.0,
                    number=np.array([1 + 2j]))
    assert MatFile(path).text("x") == "2"
    for name in ("cell", "tree", "number"):
        with pytest.raises(UserError, match=f"{name} is neither numbers nor text"):
            MatFile(path).text(name)


def test_a_missing_variable_is_named_with_those_there(tmp_path: Path, grey: np.ndarray) -> None:
    """The error lists what the file holds, in both versions."""
    for path in (old_file(tmp_path / "a.mat", film=grey), write_73(tmp_path / "b.mat", film=grey)):
        with pytest.raises(UserError, match="no variable 'video'; it holds film"):
            frames(path)


@pytest.mark.parametrize("data", [b"", b"RIFF" * 100, b"\x89HDF\r\n\x1a\n" + bytes(100)])
def test_foreign_files_are_refused(tmp_path: Path, data: bytes) -> None:
    """What is not a MATLAB file is said to be none."""
    (tmp_path / "v.mat").write_bytes(data)
    with pytest.raises(UserError, match="v.mat"):
        frames(tmp_path / "v.mat")
    with pytest.raises(UserError, match="No such file"):
        MatFile(tmp_path / "w.mat")


def test_the_scratch_file_leaves_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The temporary file has no entry in its folder, so that even a killed process leaves nothing."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with scratch_file(5000) as handle:
        assert os.fstat(handle).st_size == 5000
        assert os.fstat(handle).st_blocks * 512 >= 5000
        assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_stops_before_reading(
    tmp_path: Path, grey: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too little space is a named stop, not a killed process."""
    path = old_file(tmp_path / "v.mat", video=grey)
    monkeypatch.setattr(scratch.os, "posix_fallocate", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(Stopped, match="disk full"):
        frames(path)
