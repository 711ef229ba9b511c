"""Video files and dataset readers: what is read, and what is refused by name."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from preprocessing import sources
from preprocessing.container import stated_length
from preprocessing.sources.video_file import video_file
from preprocessing.synthetic.avi import write_avi
from preprocessing.video import VideoReader
from utils.errors import UserError

N = 40


def real(name: str) -> Path:
    """A file of the shared data, or a skip with the reason."""
    folder = os.environ.get("RPPG_REAL_DATA")
    if not folder or not (Path(folder) / "video" / name).is_file():
        pytest.skip(f"RPPG_REAL_DATA does not lead to video/{name}")
    return Path(folder) / "video" / name


def raw_avi(path: Path, n: int = N, size: tuple[int, int] = (24, 32)) -> Path:
    """An uncompressed AVI whose frame k is grey with value k."""
    frames = (np.full((*size, 3), k, dtype=np.uint8) for k in range(n))
    write_avi(path, frames, fps=30.0, codec="uncompressed", quality=0)
    return path


def mp4(path: Path, frame: np.ndarray, n: int = 20) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, frame.shape[1::-1])
    for _ in range(n):
        writer.write(frame)
    writer.release()
    return path


def subject(root: Path, name: str, n: int = N, **lines: str) -> Path:
    """A folder in UBFC's layout; `pulse`, `rate` and `time` replace a line of the ground truth."""
    folder = root / name
    folder.mkdir(parents=True)
    raw_avi(folder / "vid.avi", n)
    time_s = np.arange(n) / 29.5
    default = {"pulse": np.sin(7 * time_s), "rate": np.full(n, 71.0), "time": time_s}
    text = [lines.get(key, " ".join(f"{v:.7e}" for v in values)) for key, values in default.items()]
    (folder / "ground_truth.txt").write_text("\n".join(text) + "\n", encoding="utf-8")
    return folder


def only(root: Path, **options: object) -> sources.RawRecording:
    return sources.build("ubfc_rppg_2", root, **options).recordings()[0]


def test_bottom_up_avi_is_read_upright(tmp_path: Path) -> None:
    """An uncompressed AVI that stores its rows from the bottom comes out upright and in RGB."""
    high, wide = 8, 6
    picture = np.zeros((high, wide, 3), dtype=np.uint8)
    picture[0], picture[1:4], picture[4:] = 255, (0, 0, 200), (90, 10, 10)
    rows = picture[::-1, :, ::-1].reshape(high, -1)
    data = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4))).tobytes()

    def chunk(tag: bytes, body: bytes) -> bytes:
        return tag + struct.pack("<I", len(body)) + body

    main = struct.pack("<14I", 33333, 0, 0, 0x10, 3, 0, 1, len(data), wide, high, 0, 0, 0, 0)
    stream = struct.pack("<4s4sIHHIIIIIIiI4H", b"vids", b"DIB ", 0, 0, 0, 0, 1, 30, 0, 3, len(data), -1, 0,
                         0, 0, wide, high)
    form = struct.pack("<IiiHHIIiiII", 40, wide, high, 1, 24, 0, len(data), 0, 0, 0, 0)
    strl = chunk(b"LIST", b"strl" + chunk(b"strh", stream) + chunk(b"strf", form))
    hdrl = chunk(b"LIST", b"hdrl" + chunk(b"avih", main) + strl)
    movi = chunk(b"LIST", b"movi" + 3 * chunk(b"00db", data))
    entry = [b"00db" + struct.pack("<3I", 16, 4 + k * (8 + len(data)), len(data)) for k in range(3)]
    path = tmp_path / "up.avi"
    path.write_bytes(chunk(b"RIFF", b"AVI " + hdrl + movi + chunk(b"idx1", b"".join(entry))))
    frames = list(VideoReader(path))
    assert len(frames) == 3
    for frame in frames:
        np.testing.assert_array_equal(frame, picture)


def test_the_real_bottom_up_avi_is_read_upright() -> None:
    """The bottom-up file of the shared data has white at its top and blue above dark green."""
    frames = list(VideoReader(real("bottom_up_bgr24.avi")))
    assert len(frames) == 12
    assert frames[0][0, 0].min() >= 250
    assert frames[0][30, 80].tolist() == [0, 0, 200]
    assert frames[0][100, 80, 2] == 0


def test_variable_frame_rate_comes_from_the_stamps() -> None:
    """The stamps of a file of variable frame rate are its own, not a constant step."""
    reader = VideoReader(real("pyfeat_face_then_noface_hevc.mov"))
    n = sum(1 for _ in reader)
    steps = np.diff(reader.time_s)
    assert n == 169
    assert steps.min() < 0.02 < 0.045 < steps.max()
    assert 168 / np.ptp(reader.time_s) == pytest.approx(26.345, abs=0.01)


@pytest.mark.parametrize("name, n", [("hschn58_75_light_50fps.mp4", 535), ("grid_lwbsza_mpeg1.mpg", 75)])
def test_files_whose_count_is_an_estimate_are_not_called_damaged(name: str, n: int) -> None:
    """An edit list or an MPEG program stream does not make a whole file a damaged one."""
    reader = VideoReader(real(name))
    assert sum(1 for _ in reader) == n
    assert reader.warnings == []


def test_frames_come_in_order_with_stamps(tmp_path: Path) -> None:
    """Every frame of an AVI comes once, in order, with its stamp and the declared count."""
    reader = VideoReader(raw_avi(tmp_path / "v.avi"))
    assert [int(frame[0, 0, 0]) for frame in reader] == list(range(N))
    assert reader.n_declared == N
    np.testing.assert_allclose(reader.time_s, np.arange(N) / 30, atol=1e-6)


def test_a_cut_avi_is_refused(tmp_path: Path) -> None:
    """An AVI cut in half delivers half its frames without a decoder error, and is refused by name."""
    path = raw_avi(tmp_path / "cut.avi")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"cut\.avi: the file states 40 frames, \d+ could be read"):
        list(VideoReader(path))


def test_a_few_missing_frames_are_a_warning(tmp_path: Path) -> None:
    """Up to five frames missing at the end of an AVI are tolerated and named."""
    path = raw_avi(tmp_path / "short.avi")
    frame_bytes = 24 * 32 * 3 + 8
    path.write_bytes(path.read_bytes()[: -(3 * frame_bytes + 16 * N + 8)])
    reader = VideoReader(path)
    assert sum(1 for _ in reader) == N - 3
    assert reader.warnings == ["short.avi: the file states 40 frames, 37 could be read"]


@pytest.mark.parametrize("keep", [0.5, 0.98])
def test_a_cut_mp4_is_refused(tmp_path: Path, keep: float) -> None:
    """An MP4 that ends before its boxes do is refused when it is opened."""
    path = mp4(tmp_path / "cut.mp4", np.full((64, 64, 3), 120, dtype=np.uint8))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(UserError, match=r"cut\.mp4: the file (is cut short|has no index)"):
        VideoReader(path)


def test_an_mp4_states_its_duration(tmp_path: Path) -> None:
    """The duration of an MP4's video track is read from its header."""
    path = mp4(tmp_path / "v.mp4", np.full((64, 64, 3), 120, dtype=np.uint8))
    assert stated_length(path).duration_s == pytest.approx(20 / 25)


def test_rotation_marks_are_obeyed(tmp_path: Path) -> None:
    """A film marked as turned by 90 degrees comes out turned."""
    picture = np.zeros((64, 96, 3), dtype=np.uint8)
    picture[:, :24] = 255
    path = mp4(tmp_path / "v.mp4", picture)
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    data[place : place + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 64 << 16, 0, 1 << 30)
    path.write_bytes(data)
    frame = next(iter(VideoReader(path)))
    assert frame.shape == (96, 64, 3)
    assert frame[:12].mean() > 200 > 60 > frame[40:].mean()


@pytest.mark.parametrize("content, message", [
    (None, "no such video file"), (b"", r"empty \(0 bytes\)"), (b"not a video" * 50, "cannot|can be decoded"),
])
def test_unreadable_files_are_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    """A missing file, an empty one and one without video are told apart."""
    path = tmp_path / "v.avi"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        VideoReader(path)


def test_an_avi_without_frames_is_refused(tmp_path: Path) -> None:
    """A container with a header and no frame is refused as such."""
    path = raw_avi(tmp_path / "v.avi", 3)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"movi") + 4])
    with pytest.raises(UserError, match=r"v\.avi"):
        list(VideoReader(path))


def test_subjects_come_in_natural_order(tmp_path: Path) -> None:
    """subject2 comes before subject10, and other folders are not subjects."""
    for name in ("subject10", "subject2", "subject1", "other"):
        subject(tmp_path, name, 2)
    found = [recording.subject for recording in sources.build("ubfc_rppg_2", tmp_path)]
    assert found == ["subject1", "subject2", "subject10"]


def test_a_wrong_root_says_what_was_looked_for(tmp_path: Path) -> None:
    """A missing root and one without subjects are refused with what was expected."""
    with pytest.raises(UserError, match="no such folder"):
        sources.build("ubfc_rppg_2", tmp_path / "nowhere")
    with pytest.raises(UserError, match="no subject folders; looked for subject1"):
        sources.build("ubfc_rppg_2", tmp_path)


def test_ground_truth_is_read(tmp_path: Path) -> None:
    """Pulse, device rate and times come from the three lines; the frames have the third's times."""
    subject(tmp_path, "subject1")
    labels = only(tmp_path).labels()
    assert labels.kind == "ppg"
    np.testing.assert_allclose(labels.samples, np.sin(7 * np.arange(N) / 29.5), atol=1e-6)
    np.testing.assert_allclose(labels.frame_time_s, np.arange(N) / 29.5, atol=1e-6)
    assert labels.hr_bpm.tolist() == [71.0] * N
    assert labels.warnings == ()


def test_assume_30fps_is_an_option(tmp_path: Path) -> None:
    """time_base "assume_30fps" puts frames and label 1/30 s apart."""
    subject(tmp_path, "subject1")
    labels = only(tmp_path, time_base="assume_30fps").labels()
    np.testing.assert_allclose(labels.frame_time_s, np.arange(N) / 30)
    np.testing.assert_allclose(labels.time_s, labels.frame_time_s)


def test_low_device_rates_are_missing(tmp_path: Path) -> None:
    """Device rates no heart has become NaN with a warning; the pulse stays usable."""
    subject(tmp_path, "subject11", rate=" ".join(["0", "4.9", *["80"] * (N - 2)]))
    labels = only(tmp_path).labels()
    assert np.isnan(labels.hr_bpm).sum() == 2
    assert labels.kind == "ppg"
    assert labels.warnings == ("ground_truth.txt: 2 of 40 device heart rates are missing",)


def test_a_pulse_of_nan_only_is_no_label(tmp_path: Path) -> None:
    """A pulse line that is NaN throughout gives a recording without label."""
    subject(tmp_path, "subject1", pulse=" ".join(["nan"] * N))
    labels = only(tmp_path).labels()
    assert labels.kind == "none"
    assert len(labels.samples) == 0


def test_repeated_stamps_are_repaired(tmp_path: Path) -> None:
    """A few repeated stamps are moved between their neighbours, with a warning, and no sample is lost."""
    time_s = np.arange(N) / 30
    time_s[[7, 20]] = time_s[[6, 19]]
    subject(tmp_path, "subject1", time=" ".join(map(str, time_s)))
    labels = only(tmp_path).labels()
    np.testing.assert_allclose(labels.time_s, np.arange(N) / 30, atol=1e-9)
    assert "2 time stamps repeated" in labels.warnings[0]


@pytest.mark.parametrize("lines, message", [
    ({"pulse": ""}, "2 lines; three are needed"),
    ({"pulse": "1 2 3"}, "lines differ in length: pulse 3, heart rate 40, time 40"),
    ({"rate": " ".join(["70"] * (N - 1) + ["seventy"])}, r"line 2 .*: value 40, 'seventy', is not"),
    ({"pulse": " ".join(["0.5"] * (N - 1) + ["nan"])}, r"line 1 \(pulse\): 1 of 40 values are not finite"),
    ({"time": " ".join(["0"] * N)}, "39 of 40 time stamps repeat"),
    ({"time": " ".join(["nan"] * N)}, "a time stamp is not a number"),
])
def test_malformed_ground_truth_is_named(tmp_path: Path, lines: dict[str, str], message: str) -> None:
    """Each defect of a ground_truth.txt is an error that names the file and the defect."""
    subject(tmp_path, "subject1", **lines)
    with pytest.raises(UserError, match=r"ground_truth\.txt") as caught:
        only(tmp_path).labels()
    caught.match(message)


@pytest.mark.parametrize("content, message", [("", "empty"), (None, "no such file")])
def test_empty_or_missing_ground_truth_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    """An empty ground truth and a missing one are told apart."""
    path = subject(tmp_path, "subject1") / "ground_truth.txt"
    path.unlink()
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        only(tmp_path).labels()


def test_conditions_are_read(tmp_path: Path) -> None:
    """conditions.json beside the ground truth gives the conditions and counts as an input."""
    folder = subject(tmp_path, "subject1")
    (folder / "conditions.json").write_text('{"conditions": {"light": "dim"}}', encoding="utf-8")
    recording = only(tmp_path)
    assert recording.conditions == {"light": "dim"}
    assert folder / "conditions.json" in recording.files()
    (folder / "conditions.json").write_text('{"conditions": {"light": 3}}', encoding="utf-8")
    with pytest.raises(UserError, match=r"conditions\.json"):
        only(tmp_path)


def test_a_video_file_gets_a_safe_id(tmp_path: Path) -> None:
    """Any file name becomes an id that may name a file."""
    assert video_file(tmp_path / "my film (1).mp4").recording == "my_film_1_"
    assert video_file(tmp_path / ".mp4").recording == "mp4"
