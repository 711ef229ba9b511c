"""BDF files: what is read of them, and what of a damaged or hostile header is refused."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from preprocessing.bdf import BdfFile
from preprocessing.synthetic.bdf import BdfChannel, write_bdf
from utils.errors import UserError

RATE_HZ, SECONDS = 64, 5


def made(path: Path) -> dict[str, np.ndarray]:
    """Three channels of five seconds."""
    n = RATE_HZ * SECONDS
    values = {"A1": np.linspace(-200000, 200000, n), "EXG3": 500 * np.sin(np.arange(n)),
              "Status": np.arange(n) % 3 * 65536.0}
    channels = [BdfChannel("A1", values["A1"]), BdfChannel("EXG3", values["EXG3"], "uV", -1000, 1000),
                BdfChannel("Status", values["Status"], "Boolean", -(1 << 23), (1 << 23) - 1)]
    write_bdf(path, channels, RATE_HZ)
    return values


def test_channels_come_back_in_their_unit(tmp_path: Path) -> None:
    """Negative and positive values, at each channel's own gain, to the last of 24 bits."""
    values = made(tmp_path / "a.bdf")
    opened = BdfFile(tmp_path / "a.bdf")
    assert opened.labels == ["A1", "EXG3", "Status"]
    assert opened.rate_hz("A1") == RATE_HZ
    np.testing.assert_allclose(opened.read("A1"), values["A1"], atol=0.04)
    np.testing.assert_allclose(opened.read("exg3"), values["EXG3"], atol=2e-4)
    np.testing.assert_array_equal(opened.read_digital("Status"), values["Status"])


def test_a_missing_channel_is_named(tmp_path: Path) -> None:
    """The error for a channel that is not there lists those that are."""
    made(tmp_path / "a.bdf")
    with pytest.raises(UserError, match="no channel 'EXG1'; it has A1, EXG3, Status"):
        BdfFile(tmp_path / "a.bdf").read("EXG1")


def test_a_recorder_that_did_not_count_is_believed_by_size(tmp_path: Path) -> None:
    """-1 records: as many as the file holds whole."""
    values = made(tmp_path / "a.bdf")
    data = bytearray((tmp_path / "a.bdf").read_bytes())
    data[236:244] = b"-1      "
    (tmp_path / "a.bdf").write_bytes(data[:-100])
    assert len(BdfFile(tmp_path / "a.bdf").read("A1")) == len(values["A1"]) - RATE_HZ


@pytest.mark.parametrize("place, text, message", [
    (0, b"0       ", "not a BDF file"),
    (252, b"9999", "states 9999 channels"), (252, b"0   ", "states 0 channels"),
    (252, b"x   ", "not a number"),
    (184, b"512     ", "3 channels and another length"),
    (236, b"9       ", "states 9 records and holds 5"), (236, b"0       ", "states 0 records"),
    (236, b"-7      ", "states -7 records"),
    (244, b"nan     ", "not a number"), (244, b"0       ", "records of 0 s"),
    (244, b"-1      ", "records of -1 s"),
    (256 + 3 * (16 + 80 + 8 * 5 + 80), b"0       ", "channel 1 .* damaged"),
    (256 + 3 * (16 + 80 + 8 * 5 + 80), b"99999999", "states 5 records and holds 0"),
    (256 + 3 * (16 + 80 + 8 * 3), b"8388607 ", "channel 1 .* damaged"),
])
def test_a_damaged_header_is_refused(tmp_path: Path, place: int, text: bytes, message: str) -> None:
    """Each field that cannot be true is an error with a sentence, before anything large is read."""
    made(tmp_path / "a.bdf")
    data = bytearray((tmp_path / "a.bdf").read_bytes())
    data[place : place + len(text)] = text
    (tmp_path / "a.bdf").write_bytes(data)
    with pytest.raises(UserError, match=message):
        BdfFile(tmp_path / "a.bdf")


@pytest.mark.parametrize("n_bytes", [0, 100, 300, 256 * 4 + 10])
def test_a_file_cut_short_is_refused(tmp_path: Path, n_bytes: int) -> None:
    """An empty file, one that ends in its header and one without a whole record are refused by name."""
    made(tmp_path / "a.bdf")
    (tmp_path / "a.bdf").write_bytes((tmp_path / "a.bdf").read_bytes()[:n_bytes])
    with pytest.raises(UserError, match=r"a\.bdf"):
        BdfFile(tmp_path / "a.bdf")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A file that is not there is an error with its name."""
    with pytest.raises(UserError, match="No such file"):
        BdfFile(tmp_path / "a.bdf")


def test_only_what_is_asked_for_is_held(tmp_path: Path) -> None:
    """One of 40 channels of a 24 MB file takes the memory of that channel and a block."""
    n = 2000 * 100
    write_bdf(tmp_path / "a.bdf", [BdfChannel(f"E{k}", np.zeros(n)) for k in range(40)], 2000)
    opened = BdfFile(tmp_path / "a.bdf")
    tracemalloc.start()
    try:
        assert len(opened.read_digital("E7")) == n
        assert tracemalloc.get_traced_memory()[1] < 7e6
    finally:
        tracemalloc.stop()


def test_damaged_bytes_never_end_in_a_traceback(tmp_path: Path) -> None:
    """Whatever byte of the header is wrong, the file is read or refused with a sentence."""
    made(tmp_path / "a.bdf")
    whole = (tmp_path / "a.bdf").read_bytes()
    refused = 0
    for place in range(0, 1024, 3):
        data = whole[:place] + bytes([whole[place] ^ 0x1F]) + whole[place + 1 :]
        (tmp_path / "a.bdf").write_bytes(data)
        try:
            opened = BdfFile(tmp_path / "a.bdf")
            for label in opened.labels:
                opened.read(label)
        except UserError:
            refused += 1
    assert refused > 20
