"""Folders of numbered pictures as videos."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from preprocessing.pictures import PictureFolder, numbered_pictures, read_picture
from utils.errors import UserError


def write(path: Path, value: int, shape: tuple[int, int] = (8, 12)) -> Path:
    picture = np.zeros((*shape, 3), dtype=np.uint8)
    picture[..., 0] = value
    assert cv2.imwrite(str(path), picture)
    return path


def test_numbers_are_compared_as_numbers(tmp_path: Path) -> None:
    """Image9 comes before Image10, and before Image1000000000000000000 of another length."""
    for number in ("1000000000000000000", "9", "999999999999999999", "10", "010000"):
        write(tmp_path / f"Image{number}.png", 1)
    names = [path.name for path in numbered_pictures(tmp_path)]
    assert names == ["Image9.png", "Image10.png", "Image010000.png", "Image999999999999999999.png",
                     "Image1000000000000000000.png"]


def test_the_first_picture_is_read(tmp_path: Path) -> None:
    """Every picture is a frame, the first one too, in RGB or, if asked, BGR."""
    paths = [write(tmp_path / f"{index}.bmp", 10 * index) for index in range(5)]
    reader = PictureFolder(paths, np.arange(5) / 7)
    frames = list(reader)
    assert [int(frame[0, 0, 2]) for frame in frames] == [0, 10, 20, 30, 40]
    assert reader.n_declared == 5
    np.testing.assert_allclose(reader.time_s, np.arange(5) / 7)
    swapped = PictureFolder(paths, fps_declared=10.0)
    assert swapped.as_bgr()
    assert [int(frame[0, 0, 0]) for frame in swapped] == [0, 10, 20, 30, 40]
    np.testing.assert_allclose(swapped.time_s, np.arange(5) / 10)


def test_what_is_no_picture_is_left_out(tmp_path: Path) -> None:
    """Hidden files, folders and files of other kinds are no frames."""
    write(tmp_path / "f2.png", 1)
    (tmp_path / ".f3.png").write_bytes(b"x")
    (tmp_path / "f4.txt").write_text("x")
    (tmp_path / "f5.png").mkdir()
    assert [path.name for path in numbered_pictures(tmp_path)] == ["f2.png"]


@pytest.mark.parametrize("names, message", [
    (["a1.png", "b.png"], r"b\.png: no number in the name"),
    (["a1.png", "b01.png"], r"a1\.png and b01\.png have the same number"),
])
def test_doubtful_orders_are_refused(names: list[str], message: str, tmp_path: Path) -> None:
    """Pictures whose order nobody can know are an error."""
    for name in names:
        write(tmp_path / name, 1)
    with pytest.raises(UserError, match=message):
        numbered_pictures(tmp_path)


@pytest.mark.parametrize("suffix", ["png", "bmp", "jpg"])
def test_a_picture_cut_short_is_named(suffix: str, tmp_path: Path) -> None:
    """A picture that lacks its last bytes ends the reading by its name, in every format."""
    paths = [write(tmp_path / f"{index}.{suffix}", 200, (64, 64)) for index in range(3)]
    paths[1].write_bytes(paths[1].read_bytes()[:-2])
    with pytest.raises(UserError, match=rf"1\.{suffix}: "):
        list(PictureFolder(paths, fps_declared=1.0))


def test_damaged_pictures_are_named(tmp_path: Path) -> None:
    """An empty picture, a text and one of another size are refused by name."""
    paths = [write(tmp_path / f"{index}.png", 200, (64, 64)) for index in range(3)]
    paths[1].write_bytes(b"")
    with pytest.raises(UserError, match=r"1\.png: 0 bytes"):
        read_picture(paths[1])
    paths[1].write_bytes(b"no picture at all")
    with pytest.raises(UserError, match=r"1\.png: not a PNG, BMP, JPEG"):
        read_picture(paths[1])
    write(paths[1], 1, (32, 64))
    with pytest.raises(UserError, match=r"1\.png: 64x32 pixels, the pictures before it 64x64"):
        list(PictureFolder(paths, fps_declared=1.0))


def test_a_vast_claim_allocates_nothing(tmp_path: Path) -> None:
    """A small file that claims 30000 x 30000 pixels is refused by its header."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">2I5B", 30000, 30000, 8, 2, 0, 0, 0)
    path = tmp_path / "1.png"
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", b"x") + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    tracemalloc.start()
    with pytest.raises(UserError, match=r"claims 30000x30000 pixels|not a PNG"):
        read_picture(path)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_times_must_fit(tmp_path: Path) -> None:
    """As many times as pictures; without times and rate they are asked for in vain."""
    paths = [write(tmp_path / "1.png", 1)]
    with pytest.raises(ValueError, match="2 times for 1 pictures"):
        PictureFolder(paths, np.arange(2.0))
    reader = PictureFolder(paths)
    list(reader)
    with pytest.raises(UserError, match="state no times"):
        _ = reader.time_s
    with pytest.raises(UserError, match="without pictures"):
        PictureFolder([])
