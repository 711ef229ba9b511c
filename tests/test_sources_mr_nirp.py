"""MR-NIRP as its reader finds it: colours of raw pictures, dropouts masked, one person by day and night."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io

from preprocessing import sources
from preprocessing.resample import align
from preprocessing.sources import RawRecording
from utils.errors import UserError

N = 90
COLOUR = (30, 90, 200)  # blue, green, red


def mosaic(pattern: str, high: int = 8, wide: int = 10) -> np.ndarray:
    """A raw picture of one colour under a sensor's pattern."""
    level = dict(zip("bgr", COLOUR, strict=True))
    rows = [[level[pattern[2 * (y % 2) + x % 2]] for x in range(wide)] for y in range(high)]
    return np.array(rows, dtype=np.uint8)


def write(root: Path, name: str = "Subject1/subject1_garage_still_940", picture: np.ndarray | None = None,
          pictures: str = "RGB", record: np.ndarray | None = None, unit: float = 1.0) -> Path:
    folder = root / name
    (folder / pictures).mkdir(parents=True)
    (folder / "PulseOX").mkdir()
    picture = mosaic("rggb") if picture is None else picture
    for number in range(N):
        cv2.imwrite(str(folder / pictures / f"Frame{number:05}.pgm"), picture)
    samples = np.rint(50 + 40 * np.sin(np.arange(2 * N) / 8)) if record is None else record
    scipy.io.savemat(folder / "PulseOX" / "pulseOx.mat", {
        "pulseOxRecord": samples[None], "pulseOxTime": ((7.5 + np.arange(len(samples)) / 60) * unit)[None],
    })
    return folder


def only(root: Path, **options: object) -> RawRecording:
    return sources.build("mr_nirp", root, **options).recordings()[0]


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "grbg", "gbrg"])
def test_raw_pictures_get_their_colours(tmp_path: Path, pattern: str) -> None:
    """A picture of one colour comes out in that colour under each sensor's pattern."""
    write(tmp_path, picture=mosaic(pattern))
    frame = next(iter(only(tmp_path, demosaic=pattern).open_frames()))
    assert frame.shape == (8, 10, 3)
    np.testing.assert_array_equal(frame, np.broadcast_to(np.array(COLOUR[::-1], np.uint8), frame.shape))


def test_grey_pictures_may_stay_grey(tmp_path: Path) -> None:
    """demosaic = "none" repeats the one channel."""
    write(tmp_path)
    frame = next(iter(only(tmp_path, demosaic="none").open_frames()))
    np.testing.assert_array_equal(frame, np.repeat(mosaic("rggb")[..., None], 3, axis=2))


def test_pictures_of_more_bits_need_to_be_told_apart(tmp_path: Path) -> None:
    """16 bits a value are refused without their depth, and scaled with it."""
    write(tmp_path, picture=mosaic("rggb").astype(np.uint16) * 4)
    with pytest.raises(UserError, match="uint16 values; set the option bits"):
        next(iter(only(tmp_path).open_frames()))
    frame = next(iter(only(tmp_path, bits=10).open_frames()))
    assert frame[4, 4].tolist() == list(COLOUR[::-1])


def test_night_and_day_are_one_person(tmp_path: Path) -> None:
    """Subject 16 of the car is subject 2; indoor people are others, whatever their number."""
    for name in ("Subject16/subject16_driving_still_940", "Subject2/subject2_driving_still_940",
                 "Subject2_motion_940"):
        write(tmp_path, name)
    found = {item.recording: (item.subject, item.conditions.get("time")) for item in
             sources.build("mr_nirp", tmp_path)}
    assert found == {
        "subject2_driving_still_940": ("subject2", "day"), "Subject2_motion_940": ("indoor2", None),
        "subject16_driving_still_940": ("subject2", "night"),
    }


def test_dropouts_are_masked_and_time_goes_on(tmp_path: Path) -> None:
    """Lasting zeros become unknown; a single zero is a value; what follows keeps its time."""
    record = np.rint(50 + 40 * np.sin(np.arange(2 * N) / 8))
    record[60:90], record[120] = 0, 0
    write(tmp_path, record=record)
    labels = only(tmp_path).labels()
    assert np.isnan(labels.samples[60:90]).all() and labels.samples[120] == 0
    assert labels.time_s[90] == pytest.approx(1.5)
    assert labels.warnings == ("pulseOx.mat: 1 dropouts of 0.5 s in all; unknown there",)
    pulse = align(labels, labels.frame_time_s, "timestamps", "r").pulse
    assert np.isnan(pulse[30:45]).all() and np.isfinite(pulse[50:85]).all()


@pytest.mark.parametrize("unit", [1.0, 1000.0])
def test_stamps_may_be_in_seconds_or_milliseconds(tmp_path: Path, unit: float) -> None:
    """The unit is the one in which the oximeter has its 60 Hz; the first stamp is zero."""
    write(tmp_path, unit=unit)
    labels = only(tmp_path).labels()
    np.testing.assert_allclose(labels.time_s, np.arange(2 * N) / 60, atol=1e-9)


def test_stamps_of_another_rate_are_refused(tmp_path: Path) -> None:
    """Neither seconds nor milliseconds: not guessed at."""
    write(tmp_path, unit=24.0)
    with pytest.raises(UserError, match="neither in s nor in ms"):
        only(tmp_path).labels()


def test_a_missing_picture_moves_no_other(tmp_path: Path) -> None:
    """Times are those of the numbers in the names."""
    folder = write(tmp_path)
    (folder / "RGB" / "Frame00040.pgm").unlink()
    time_s = only(tmp_path).labels().frame_time_s
    assert time_s is not None and time_s[39] == pytest.approx(1.3) and time_s[40] == pytest.approx(41 / 30)


def test_a_doubtful_frame_rate_is_said(tmp_path: Path) -> None:
    """Pictures that end seconds before the oximeter cost a warning with the rate assumed."""
    write(tmp_path)
    assert "is fps = 90 right?" in only(tmp_path, fps=90.0).labels().warnings[0]


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_a_damaged_picture_fails_by_name(tmp_path: Path, share: float) -> None:
    """A cut picture is no darker picture."""
    path = write(tmp_path) / "RGB" / "Frame00003.pgm"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match="Frame00003.pgm"):
        list(only(tmp_path).open_frames())


def test_packed_recordings_say_so(tmp_path: Path) -> None:
    """Missing pictures and a missing oximeter name the archives that hold them."""
    (tmp_path / "Subject1" / "subject1_garage_still_940").mkdir(parents=True)
    with pytest.raises(UserError, match=r"RGB\.zip"):
        only(tmp_path).files()
    write(tmp_path, "Subject2/subject2_garage_still_940", pictures="RGB_demosaiced")
    (tmp_path / "Subject2/subject2_garage_still_940/PulseOX/pulseOx.mat").unlink()
    with pytest.raises(UserError, match=r"PulseOX\.zip"):
        sources.build("mr_nirp", tmp_path).recordings()[1].labels()
