"""Times in another unit are refused by name and with a remedy; odd but possible ones are not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprocessing import sources
from preprocessing.extract import Extracted
from preprocessing.plausible import check_frames, check_labels
from preprocessing.sources import Labels, RawRecording
from preprocessing.sources.base import FrameReader
from preprocessing.synthetic import avi
from tests.made_sets import extracted
from utils.errors import UserError

FPS = 20.0


@dataclass(frozen=True, kw_only=True)
class Named(RawRecording):
    """Files that are named but not there."""

    def files(self) -> list[Path]:
        return [Path("raw/vid.avi"), Path("raw/truth.csv"), Path("raw/more.csv")]

    def open_frames(self) -> FrameReader:
        raise AssertionError("nobody asks for it")

    def labels(self) -> Labels:
        raise AssertionError("nobody asks for it")


NAMED = Named(dataset="made", subject="s", recording="r", is_crop=True)


def stamps(rate_hz: float, seconds: float = 10.0) -> np.ndarray:
    return np.arange(int(seconds * rate_hz) + 1) / rate_hz


def wave(rate_hz: float, seconds: float = 10.0, kind: Any = "ppg", **more: Any) -> Labels:
    time_s = stamps(rate_hz, seconds)
    return Labels(kind=kind, samples=np.sin(7 * time_s), time_s=time_s, **more)


def own(root: Path, scale: float = 1.0, header: str = "time_s,pulse", seconds: float = 3.2, **options: Any
        ) -> Extracted:
    """A video of 3 s beside a table of 50 lines a second, their times multiplied by `scale`."""
    frames = (np.full((16, 16, 3), 90, dtype=np.uint8) for _ in range(60))
    avi.write_avi(root / "ann_rest.avi", frames, fps=FPS, codec="mjpeg", quality=90)
    rows = [f"{scale * t:.6f},{72 + np.sin(7.5 * t):.6f}" for t in stamps(50, seconds)]
    (root / "ann_rest.csv").write_text("\n".join([header, *rows]) + "\n")
    (recording,) = sources.build("folder", root, is_crop=True, **options)
    return extracted(recording)


@pytest.mark.parametrize("header, seen", [
    ("time_s,pulse", r"the label \(ppg\) has 0.05 samples a second, at least 8 are needed"),
    ("time_s,hr_bpm", r"the heart rate lasts 3200 s, the video 3\.0 s"),
])
def test_milliseconds_taken_for_seconds_are_refused(tmp_path: Path, header: str, seen: str) -> None:
    """A table in milliseconds without time_unit is refused, whether it holds a pulse or only rates."""
    with pytest.raises(UserError, match=rf"ann_rest\.csv: {seen}; are .* in another unit\? .*time_unit"):
        own(tmp_path, 1e3, header)
    assert np.isfinite(own(tmp_path, 1e3, header, time_unit="ms").arrays["frame_time_s"]).all()


def test_frame_times_in_another_unit_are_refused(tmp_path: Path) -> None:
    """NAME.frames.csv in milliseconds makes seconds of video of hours; the file is named."""
    rows = [f"{1000 * t:.3f}" for t in np.arange(60) / FPS]
    (tmp_path / "ann_rest.frames.csv").write_text("\n".join(["time_s", *rows]))
    with pytest.raises(UserError, match=r"ann_rest\.csv, ann_rest\.frames\.csv: 0\.02 frames a second"):
        own(tmp_path)


def test_the_label_of_a_whole_session_is_declared(tmp_path: Path) -> None:
    """Two minutes of label are refused beside three seconds, but not where video_start places these."""
    with pytest.raises(UserError, match=r'the label lasts 120 s, the video 3\.0 s; .*"video_start"'):
        own(tmp_path, seconds=120)
    (tmp_path / "recordings.json").write_text(json.dumps({"ann_rest": {"video_start": 40}}))
    got = own(tmp_path, seconds=120)
    assert np.isfinite(got.arrays["pulse"]).all() and got.attributes["duration_label_s"] == pytest.approx(120)


def test_frame_times_on_the_labels_clock_declare_a_session_too(tmp_path: Path) -> None:
    """Frame times that begin amid the label need no video_start."""
    rows = [f"{30 + t:.3f}" for t in np.arange(60) / FPS]
    (tmp_path / "ann_rest.frames.csv").write_text("\n".join(["time_s", *rows]))
    assert np.isfinite(own(tmp_path, seconds=120).arrays["pulse"]).all()


@pytest.mark.parametrize("kind, lowest", [("ppg", 8.0), ("bp", 8.0), ("ecg", 60.0)])
def test_a_label_needs_its_rate(kind: str, lowest: float) -> None:
    """The slowest label of each kind passes, one a tenth slower does not."""
    check_labels(wave(lowest, kind=kind), stamps(30), NAMED)
    with pytest.raises(UserError, match=f"truth.csv, more.csv: the label .{kind}. .* at least {lowest:g}"):
        check_labels(wave(0.9 * lowest, kind=kind), stamps(30), NAMED)


def test_rounded_stamps_and_pauses_do_not_make_a_label_slow() -> None:
    """60 Hz in whole milliseconds, mostly 17 ms apart, is 60 Hz; a sensor that pauses keeps its rate."""
    rounded = Labels(kind="ecg", samples=np.ones(601), time_s=np.round(stamps(60), 3))
    check_labels(rounded, stamps(30), NAMED)
    paused = stamps(10) + np.where(stamps(10) > 5, 20.0, 0.0)
    check_labels(Labels(kind="ppg", samples=np.ones(101), time_s=paused), stamps(30, 30), NAMED)


def test_times_that_are_no_numbers_are_left_to_others() -> None:
    """Neither NaN nor a single sample stops the check; they have errors of their own."""
    odd = np.array([0.0, np.nan, 0.2])
    check_labels(Labels(kind="ppg", samples=odd, time_s=odd, hr_bpm=odd, hr_time_s=odd), stamps(30), NAMED)
    check_labels(Labels(kind="ppg", samples=odd[:1], time_s=odd[:1]), stamps(30), NAMED)
    check_labels(Labels(), stamps(30), NAMED)


@pytest.mark.parametrize("video_s, label_s, refused", [
    (10, 69, False), (10, 71, True), (40, 119, False), (40, 121, True),
])
def test_a_label_may_be_longer_within_reason(video_s: float, label_s: float, refused: bool) -> None:
    """Up to a minute more, or three times the video, is a sensor that was switched off late."""
    for series in ("label", "respiration"):
        time_s = stamps(20, label_s)
        made = wave(20, label_s) if series == "label" else Labels(resp=time_s, resp_time_s=time_s)
        if refused:
            with pytest.raises(UserError, match=f"the {series} lasts {label_s} s, the video {video_s}.0 s"):
                check_labels(made, stamps(30, video_s), NAMED)
        else:
            check_labels(made, stamps(30, video_s), NAMED)
    check_labels(wave(20, label_s, covers_session=True), stamps(30, video_s), NAMED)


@pytest.mark.parametrize("fps, declared, message", [
    (2.9, None, "truth.csv, more.csv: 2.9 frames a second by the time stamps .*above 90 bpm.*exclude"),
    (0.03, 30.0, "0.03 frames a second"),
    (1001.0, None, "no camera is so fast"),
    (30.0, 91.0, "30 frames a second .*, but 91 by the video file"),
    (100.0, 30.0, "100 frames a second .*, but 30 by the video file"),
])
def test_impossible_frame_rates_are_refused(fps: float, declared: float | None, message: str) -> None:
    """Below 3 a second, above 1000, and where the video file's own rate is three times another."""
    with pytest.raises(UserError, match=message):
        check_frames(stamps(fps, 600), declared, True, NAMED)


@pytest.mark.parametrize("fps, declared", [
    (3.1, None), (7.0, 20.0), (20.0, 25.0), (30.0, 60.0), (30.5, 61.0), (30.0, 1000.0), (30.0, 1.0),
    (240.0, None),
])
def test_odd_frame_rates_are_possible(fps: float, declared: float | None) -> None:
    """VIPL-HR's true rates, half of MAHNOB's frames, slow cameras, and files that state nonsense."""
    check_frames(stamps(fps, 60), declared, True, NAMED)


def test_the_containers_own_stamps_are_not_held_against_it() -> None:
    """A camera that slows down in the dark, with stamps of the same file, is believed; the video is named."""
    check_frames(stamps(6), 30.0, False, NAMED)
    with pytest.raises(UserError, match=r"raw/vid\.avi: 2 frames a second"):
        check_frames(stamps(2), 30.0, False, NAMED)


def test_a_camera_that_starts_late_is_possible() -> None:
    """Three seconds before the second frame do not make 30 frames a second impossible."""
    late = np.concatenate([[0.0], 3.0 + stamps(30, 10)])
    check_frames(late, 30.0, True, NAMED)
