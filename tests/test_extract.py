"""Face tracking, crops, regions and labels at the frames' times, on pictures with a known truth."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest

from preprocessing import boxes, face, regions
from preprocessing.extract import Extracted, ExtractSettings, extract
from preprocessing.resample import align
from preprocessing.sources.base import Frame, FrameReader, Labels, RawRecording, Series
from preprocessing.sources.video_file import video_file
from preprocessing.synthetic.avi import write_avi
from preprocessing.times import increasing
from preprocessing.track import FaceTrack
from utils.errors import UserError
from utils.settings import Preprocessing

FPS = 30.0


@functools.cache
def photo() -> np.ndarray:
    """A portrait whose face is some 120 px high, RGB."""
    import matplotlib.cbook

    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as handle:
        data = np.frombuffer(handle.read(), np.uint8)
    return cv2.resize(cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1], None, fx=0.6, fy=0.6)


def picture(right: float = 0.0, down: float = 0.0) -> Frame:
    """The portrait on 320x240 pixels, moved by so many."""
    move = np.array([[1, 0, 5 + right], [0, 1, -30 + down]])
    return cv2.warpAffine(photo(), move, (320, 240), borderMode=cv2.BORDER_REPLICATE)


def grey() -> Frame:
    return np.full((240, 320, 3), 110, dtype=np.uint8)


class Frames(FrameReader):
    """Frames from memory at given times."""

    def __init__(self, frames: list[Frame], time_s: Series) -> None:
        self._frames, self._time_s, self.warnings = frames, time_s, []

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._frames)

    @property
    def time_s(self) -> Series:
        return self._time_s


@dataclass(frozen=True, kw_only=True)
class Made(RawRecording):
    """A recording from memory."""

    frames: list[Frame]
    truth: Labels = field(default_factory=Labels)
    stamps: Series | None = None

    def files(self) -> list[Path]:
        return []

    def open_frames(self) -> FrameReader:
        n = len(self.frames)
        return Frames(self.frames, np.arange(n) / FPS if self.stamps is None else self.stamps)

    def labels(self) -> Labels:
        return self.truth


class Kept:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.blocks: dict[str, list[np.ndarray]] = {}

    def append(self, name: str, block: np.ndarray) -> None:
        self.blocks.setdefault(name, []).append(block.copy())

    def __getitem__(self, name: str) -> np.ndarray:
        return np.concatenate(self.blocks[name])


def run(frames: list[Frame], is_crop: bool = False, truth: Labels | None = None,
        stamps: Series | None = None, **settings: object) -> tuple[Extracted, Kept]:
    made = Made(dataset="made", subject="s", recording="r", frames=frames, is_crop=is_crop,
                truth=truth or Labels(), stamps=stamps)
    sink = Kept()
    return extract(made, ExtractSettings(**settings), sink, lambda: None), sink


def centres(result: Extracted) -> np.ndarray:
    box = result.arrays["box"]
    return box[:, :2] + box[:, 2:] / 2


@pytest.mark.parametrize("period_s, looks", [(2.0, 0.7), (0.6, 1.0)])
def test_the_box_follows_a_moving_face(period_s: float, looks: float) -> None:
    """The stored box is within 1 px RMS of a known shift, slow and fast, looking seldom when slow."""
    phase = 2 * np.pi * np.arange(90) / (FPS * period_s)
    shift = np.column_stack([6 * np.sin(phase), 3 * np.cos(phase)])
    result, _ = run([picture(*move) for move in shift])
    error = centres(result) - shift
    error -= error.mean(axis=0)
    assert np.sqrt((error**2).mean(axis=0)).max() < 1.0
    assert result.attributes["n_looks"] <= looks * 90
    assert result.arrays["face_found"].all()


def test_a_still_face_is_looked_at_on_keyframes_only() -> None:
    """With nothing moving, few more looks are taken than there are key frames."""
    result, _ = run([picture()] * 81, keyframe_stride=8)
    assert result.attributes["n_looks"] <= 11 + 3
    assert np.ptp(result.arrays["box"], axis=0).max() <= 1


def test_the_jitter_of_the_finder_does_not_move_the_box() -> None:
    """A face that jitters by a tenth of a pixel keeps its box; one that moves takes it along."""
    rng = np.random.default_rng(0)
    squares = boxes.SquareBoxes(1.5)
    still = np.array([100.0, 90.0, 60.0]) + rng.normal(0, 0.1, (50, 3))
    assert np.ptp(squares.place(still)[5:], axis=0).max() < 0.35
    moved = squares.place(np.array([[110.0, 90.0, 60.0]]))[0]
    assert moved[0] + moved[2] / 2 == pytest.approx(110, abs=0.31)


def test_a_lost_face_is_flagged_to_the_frame() -> None:
    """Frames without a face carry the last box, are flagged, and have neither landmarks nor colours."""
    result, sink = run([picture()] * 21 + [grey()] * 22 + [picture(9)] * 17)
    expected = np.array([True] * 21 + [False] * 22 + [True] * 17)
    np.testing.assert_array_equal(result.arrays["face_found"], expected)
    assert (result.arrays["box"][21:43] == result.arrays["box"][20]).all()
    assert np.isnan(sink["landmarks"][21:43].astype(np.float32)).all()
    assert np.isfinite(sink["landmarks"][expected].astype(np.float32)).all()
    assert np.isnan(result.arrays["roi_rgb"][~expected]).all()
    assert np.isfinite(result.arrays["roi_rgb"][expected]).all()
    assert len(sink["frames"]) == 60


def test_frames_before_the_first_face_get_its_box() -> None:
    """A face that comes late: the frames before it are kept, with its first box, flagged."""
    result, sink = run([grey()] * 13 + [picture()] * 20)
    np.testing.assert_array_equal(result.arrays["face_found"], [False] * 13 + [True] * 20)
    assert (result.arrays["box"][:13] == result.arrays["box"][13]).all()
    assert sink["frames"].shape == (33, 128, 128, 3)
    assert (sink["frames"][:13] == 110).all()


def test_no_face_is_an_error_with_a_remedy() -> None:
    """A video without a face is refused and never cropped whole."""
    with pytest.raises(UserError, match=r"r: no face found in \d+ looks at 20 frames.*face_finder"):
        run([grey()] * 20)


def test_two_faces_are_noticed_and_the_larger_is_followed() -> None:
    """With two faces in the picture the larger one is taken and the recording says so."""
    small = cv2.resize(photo(), None, fx=0.8, fy=0.8)[:260]
    wide = np.full((300, 620, 3), 110, dtype=np.uint8)
    wide[20 : 20 + len(small), 5 : 5 + small.shape[1]] = small
    wide[:, 620 - photo().shape[1] :] = photo()[:300]
    result, _ = run([wide] * 10)
    assert (centres(result)[:, 0] > 350).all()
    assert any("2 faces" in text for text in result.warnings)


@pytest.mark.parametrize("rule", ["first", "median"])
def test_a_fixed_box_stays(rule: str) -> None:
    """Boxes "first" and "median" do not move, while the landmarks still follow the face."""
    result, sink = run([picture(k / 2) for k in range(33)], box=rule)
    assert (result.arrays["box"] == result.arrays["box"][0]).all()
    shift = sink["landmarks"].astype(np.float64).mean(axis=1)[:, 0] * result.arrays["box"][0, 2] / 128
    assert shift[-1] - shift[0] == pytest.approx(16, abs=1.5)


def test_the_median_box_is_in_the_middle() -> None:
    """The median box of a face that drifts by 16 px lies 8 px from the first."""
    frames = [picture(k / 2) for k in range(33)]
    middle, first = run(frames, box="median")[0], run(frames, box="first")[0]
    assert centres(middle)[0, 0] - centres(first)[0, 0] == pytest.approx(8, abs=1.5)


def test_a_crop_by_declaration_is_taken_whole() -> None:
    """A source of crops is not searched: the whole picture, no face claimed, the middle read."""
    frame = np.zeros((90, 80, 3), dtype=np.uint8)
    frame[20:70, 20:60] = (150, 100, 50)
    result, sink = run([frame] * 5, is_crop=True, size=64)
    assert result.arrays["box"][0].tolist() == [0, 0, 80, 90]
    assert not result.arrays["face_found"].any()
    assert result.arrays["roi_rgb"][0, 0] == pytest.approx([150, 100, 50], abs=2)
    assert np.isnan(result.arrays["roi_rgb"][:, 1:]).all()
    assert "landmarks" not in sink.blocks
    assert any("ellipse" in text for text in result.warnings)


@pytest.mark.parametrize("name", ["haar", "mediapipe_detection"])
def test_finders_without_a_mesh_find_the_face(name: str) -> None:
    """Haar and detection put the box where the mesh puts it, to a quarter of its side."""
    mesh, _ = run([picture()] * 5)
    other, _ = run([picture()] * 5, face_finder=name)
    side = mesh.arrays["box"][0, 2]
    assert np.abs(centres(mesh) - centres(other)).max() < side / 8
    assert other.arrays["box"][0, 2] == pytest.approx(side, rel=0.25)
    assert other.arrays["face_found"].all()


def test_haar_keeps_its_first_box() -> None:
    """Haar looks once; the box does not move with the face."""
    result, _ = run([picture(k) for k in range(10)], face_finder="haar")
    assert result.attributes["n_looks"] == 1
    assert (result.arrays["box"] == result.arrays["box"][0]).all()


def test_the_tasks_finder_says_what_it_needs(tmp_path: Path) -> None:
    """mediapipe_tasks without a model, and a model for a finder that takes none, are refused."""
    with pytest.raises(UserError, match="face_landmarker.task"):
        face.build("mediapipe_tasks")
    with pytest.raises(UserError, match="takes no model"):
        face.build("haar", "some.task")
    with pytest.raises(UserError, match='did you mean "mediapipe_mesh"'):
        face.build("mediapipe_mash")


def test_landmarks_of_a_known_photograph_are_pinned() -> None:
    """The mesh of the astronaut has its nose tip, brow and chin where they were measured."""
    data = pytest.importorskip("skimage.data")
    finder = face.build("mediapipe_mesh")
    points = finder.look(data.astronaut()).landmarks
    finder.close()
    assert points is not None and points.shape == (468, 2)
    np.testing.assert_allclose(
        points[[1, 10, 152]], [[222.844, 131.178], [227.326, 69.856], [220.411, 176.410]], atol=0.05
    )


def test_the_buffer_is_bounded() -> None:
    """However long the video, only a few strides of frames are held."""

    class Still(face.FaceFinder):
        def look(self, frame: Frame) -> face.Look:
            return face.Look((50.0, 50.0, 40.0))

    alive: weakref.WeakSet[np.ndarray] = weakref.WeakSet()
    most = 0

    class Tracked(np.ndarray):
        __hash__ = object.__hash__

    def frames() -> Iterator[Frame]:
        nonlocal most
        for _ in range(400):
            frame = np.zeros((100, 100, 3), dtype=np.uint8).view(Tracked)
            alive.add(frame)
            most = max(most, len(alive))
            yield frame

    n = sum(len(segment.frames) for segment in FaceTrack(Still(), 8).segments(frames(), lambda: None))
    assert n == 400
    assert most <= 3 * 8 + 2


def test_crops_repeat_the_edge_outside_the_picture() -> None:
    """A box that reaches over the edge shows the edge's pixels, without shifting the rest."""
    frame = np.tile(np.arange(100, dtype=np.uint8)[None, :, None], (80, 1, 3))
    out = np.empty((40, 40, 3), dtype=np.uint8)
    boxes.crop(frame, np.array([-20.0, 10.0, 40.0, 40.0]), 40, out)
    assert out[5, :, 0].tolist() == [0] * 20 + list(range(20))


@pytest.mark.parametrize("side", [30, 100.4, 171, 256, 299.7, 600])
@pytest.mark.parametrize("left", [50, 50.45])
def test_crops_of_any_side_keep_places(side: float, left: float) -> None:
    """A linear ramp stays that ramp in crops made by either way of resizing."""
    ramp = np.tile((np.arange(700) / 3).astype(np.float32)[None, :, None], (700, 1, 3))
    out = np.empty((64, 64, 3), dtype=np.uint8)
    boxes.crop(ramp.round().astype(np.uint8), np.array([left, 50, side, side]), 64, out)
    expected = (left + (np.arange(64) + 0.5) * side / 64 - 0.5) / 3
    assert np.abs(out[32, :, 0] - expected)[1:-1].max() < 1.0


def test_crops_follow_fractions_of_a_pixel() -> None:
    """A box half a pixel farther to the right shows the picture half a pixel farther to the left."""
    noise = np.random.default_rng(0).normal(0, 2, (250, 250, 3))
    ramp = (noise + np.arange(250)[None, :, None]).clip(0, 255).round().astype(np.uint8)
    crops = np.empty((2, 64, 64, 3), dtype=np.uint8)
    for out, left in zip(crops, (50.0, 50.5), strict=True):
        boxes.crop(ramp, np.array([left, 50.0, 150.0, 150.0]), 64, out)
    difference = crops[1].astype(float) - crops[0]
    assert difference[:, 1:-1].mean() == pytest.approx(0.5, abs=0.1)


def test_landmarks_lie_on_the_crop() -> None:
    """Landmarks are stored in crop pixels: the face region is skin, and lies amid the crop."""
    result, sink = run([picture()] * 9, skin_mask=True)
    points = sink["landmarks"].astype(np.float64)
    assert points.mean(axis=(0, 1)) == pytest.approx([64, 64], abs=2)
    assert np.ptp(points[0, :, 1]) == pytest.approx(128 / ExtractSettings().box_scale, rel=0.05)
    assert sink["skin"].shape == (9, regions.SKIN_SIDE, regions.SKIN_SIDE)
    assert 0.1 < (sink["skin"][0] > 0).mean() < 0.4
    red, green, blue = result.arrays["roi_rgb"][0, 0]
    assert red > green > blue


def test_left_is_the_subjects_left() -> None:
    """Darkening the right half of the picture darkens the subject's left cheek."""
    frame = picture()
    middle = int(centres(run([frame] * 2)[0])[0, 0])
    frame[:, middle:] //= 2
    rgb = run([frame] * 2)[0].arrays["roi_rgb"][0, :, 1]
    left, right = (rgb[regions.NAMES.index(name)] for name in ("left_cheek", "right_cheek"))
    assert left < 0.7 * right


def test_exchanged_colours_are_noticed_and_can_be_put_right() -> None:
    """A face that is more blue than red gets a warning; swap_rb puts it right."""
    swapped = [np.ascontiguousarray(picture()[:, :, ::-1])] * 5
    assert any("swap_rb" in text for text in run(swapped)[0].warnings)
    result, sink = run(swapped, swap_rb=True)
    assert not any("swap_rb" in text for text in result.warnings)
    np.testing.assert_array_equal(sink["frames"], run([picture()] * 5)[1]["frames"])


@pytest.mark.parametrize("swap_rb, first", [(False, 200), (True, 40)])
def test_colours_of_a_file_arrive_in_rgb(tmp_path: Path, swap_rb: bool, first: int) -> None:
    """A reddish AVI gives reddish crops, and bluish ones with swap_rb."""
    frames = (np.full((32, 32, 3), (40, 90, 200), dtype=np.uint8) for _ in range(40))
    write_avi(tmp_path / "v.avi", frames, fps=30.0, codec="uncompressed", quality=0)
    sink = Kept()
    recording = video_file(tmp_path / "v.avi", is_crop=True)
    extract(recording, ExtractSettings(swap_rb=swap_rb), sink, lambda: None)
    assert (sink["frames"] == [first, 90, 240 - first]).all()


def test_extraction_repeats_to_the_bit() -> None:
    """The same frames give the same crops, boxes and landmarks."""
    frames = [picture(3 * np.sin(k / 4)) for k in range(30)]
    (one, kept), (two, again) = run(frames), run(frames)
    np.testing.assert_array_equal(kept["frames"], again["frames"])
    np.testing.assert_array_equal(kept["landmarks"], again["landmarks"])
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, two.arrays[name])


def test_variable_frame_times_are_kept() -> None:
    """Irregular stamps reach the store as they are, and the rate is the mean one."""
    stamps = np.cumsum(np.tile([0.02, 0.04, 0.05], 7))
    result, _ = run([grey()] * 21, is_crop=True, stamps=stamps)
    np.testing.assert_array_equal(result.arrays["frame_time_s"], stamps)
    assert result.attributes["fps"] == pytest.approx(20 / (stamps[-1] - stamps[0]))


def per_frame(n: int) -> Labels:
    time_s = np.arange(n) / FPS
    return Labels(kind="ppg", samples=np.sin(7 * time_s), time_s=time_s, frame_time_s=time_s)


@pytest.mark.parametrize("n_frames, n_label", [(52, 50), (48, 50)])
def test_a_few_frames_more_or_fewer_are_cut(n_frames: int, n_label: int) -> None:
    """Frames and frame times that differ by up to five are cut to the shorter, with a warning."""
    result, sink = run([grey()] * n_frames, is_crop=True, truth=per_frame(n_label))
    n = min(n_frames, n_label)
    assert len(sink["frames"]) == len(result.arrays["pulse"]) == len(result.arrays["box"]) == n
    assert any(f"{n_frames} frames but {n_label} frame times" in text for text in result.warnings)
    np.testing.assert_allclose(result.arrays["pulse"], np.sin(7 * np.arange(n) / FPS), atol=1e-6)


def test_many_frames_more_than_times_are_an_error() -> None:
    """Frames and frame times that differ by more are refused."""
    with pytest.raises(UserError, match="r: 60 frames but 50 frame times"):
        run([grey()] * 60, is_crop=True, truth=per_frame(50))


def sensor(rate: float, seconds: float, *tones_hz: float, start_s: float = 0.0) -> Labels:
    time_s = start_s + np.arange(int(seconds * rate)) / rate
    return Labels(kind="ppg", samples=sum(np.sin(2 * np.pi * hz * time_s) for hz in tones_hz), time_s=time_s)


def test_labels_do_not_alias() -> None:
    """A 29 Hz tone in a 256 Hz label, which would alias to 1 Hz at 30 frames a second, is gone."""
    frame_time_s = np.arange(300) / 30
    pulse = align(sensor(256, 10.1, 29.0), frame_time_s, "timestamps", "r").pulse
    assert np.abs(pulse[10:-10]).max() < 0.01


@pytest.mark.parametrize("rate", [29.5, 60.0, 64.0, 256.0])
def test_labels_keep_shape_and_time(rate: float) -> None:
    """A pulse with a harmonic arrives at the frames' times without lag or loss, at any label rate."""
    frame_time_s = 0.013 + np.arange(290) / 30 + 0.004 * np.sin(np.arange(290))
    pulse = align(sensor(rate, 10.0, 1.2, 2.4), frame_time_s, "timestamps", "r").pulse
    truth = sum(np.sin(2 * np.pi * hz * frame_time_s) for hz in (1.2, 2.4))
    assert np.abs(pulse - truth).max() < 0.05
    lag = [np.corrcoef(pulse[20:-20], np.roll(truth, k)[20:-20])[0, 1] for k in (-1, 0, 1)]
    assert int(np.argmax(lag)) == 1


def test_a_label_with_irregular_stamps_arrives_in_time() -> None:
    """Jittered stamps at 60 Hz give the same pulse as even ones."""
    rng = np.random.default_rng(0)
    time_s = np.sort(np.arange(600) / 60 + rng.uniform(-0.006, 0.006, 600))
    label = Labels(kind="ppg", samples=np.sin(2 * np.pi * 1.3 * time_s), time_s=time_s)
    frame_time_s = np.arange(3, 295) / 30
    pulse = align(label, frame_time_s, "timestamps", "r").pulse
    assert np.abs(pulse - np.sin(2 * np.pi * 1.3 * frame_time_s)).max() < 0.05


def test_outside_the_label_the_pulse_is_nan() -> None:
    """Frames before and after the label get NaN and a warning, never an extrapolation."""
    found = align(sensor(60, 9.5, 1.0, start_s=0.21), np.arange(300) / 30, "timestamps", "r")
    outside = np.isnan(found.pulse)
    assert outside[:7].all() and not outside[7:291].any() and outside[292:].all()
    assert f"{int(outside.sum())} frames lie outside the label's time" in found.warnings[0]


def test_in_a_gap_of_the_label_the_pulse_is_nan() -> None:
    """Frames between two label samples 2 s apart get NaN and a warning, not a straight line."""
    whole = sensor(60, 10.0, 1.0)
    kept = (whole.time_s <= 4.0) | (whole.time_s >= 6.0)
    label = Labels(kind="ppg", samples=whole.samples[kept], time_s=whole.time_s[kept])
    found = align(label, np.arange(298) / 30, "timestamps", "r")
    assert np.isnan(found.pulse[121:180]).all() and np.isfinite(np.delete(found.pulse, range(120, 181))).all()
    assert "59 frames lie in its gaps" in found.warnings[0]


@pytest.mark.parametrize("method", ["timestamps", "stretch"])
def test_where_the_label_is_masked_the_pulse_is_nan(method: str) -> None:
    """Masked samples leave a gap with a warning; the pulse beside it is what it was."""
    whole = sensor(60, 10.0, 1.0)
    label = Labels(kind="ppg", samples=whole.samples.copy(), time_s=whole.time_s)
    label.samples[240:300] = np.nan
    label.samples[400] = np.nan
    frame_time_s = np.linspace(0, whole.time_s[-1], 300)
    found, expected = (align(item, frame_time_s, method, "r") for item in (label, whole))
    unknown = np.isnan(found.pulse)
    assert unknown[120:150].all() and unknown[200:201].all() and unknown.sum() <= 33
    away = ~unknown & (np.abs(frame_time_s - 4.5) > 1.5) & (np.abs(frame_time_s - 6.68) > 1)
    np.testing.assert_allclose(found.pulse[away], expected.pulse[away], atol=0.02)
    assert f"{int(unknown.sum())} frames lie where it is masked" in found.warnings[-1]


def test_a_label_shorter_than_the_video_is_refused() -> None:
    """A label that leaves out more than a second and 5 % of the video is an error with both lengths."""
    with pytest.raises(UserError, match=r"r: the label covers 8\.\d s of the video's 10\.0 s"):
        align(sensor(60, 8.5, 1.0), np.arange(301) / 30, "timestamps", "r")


def test_stretching_puts_ends_on_ends() -> None:
    """Method "stretch" ignores times: linear interpolation over the index, ends on ends."""
    label = Labels(kind="ppg", samples=np.array([0.0, 2.0, 4.0, 3.0]), time_s=np.arange(4) / 2)
    found = align(label, np.arange(7) * 1.0, "stretch", "r")
    np.testing.assert_allclose(found.pulse, [0, 1, 2, 3, 4, 3.5, 3])
    assert "stretched" in found.warnings[0]


@pytest.mark.parametrize("samples, message", [
    ([0.0, np.nan, np.nan, np.nan], "3 of 4 label samples are missing"),
    ([0.0, np.inf, 1.0, 2.0], "1 of 4 label samples are infinite"),
    ([1.0, 1.0, 1.0, 1.0], "the label is constant"), ([1.0], "holds 1 sample"),
])
def test_unusable_labels_are_named(samples: list[float], message: str) -> None:
    """Labels mostly of NaN, infinite, constant and single-sample ones are errors that name the recording."""
    label = Labels(kind="ppg", samples=np.array(samples), time_s=np.arange(len(samples)) / 2)
    with pytest.raises(UserError, match=f"r: .*{message}"):
        align(label, np.arange(4) / 2, "timestamps", "r")


def test_a_flat_stretch_is_noticed() -> None:
    """A label that stands still for more than two seconds gets a warning."""
    label = sensor(60, 10, 1.1)
    label.samples[100:280] = 0.5
    assert "stands still for 3.0 s" in align(label, np.arange(290) / 30, "timestamps", "r").warnings[0]


def test_an_ecg_gives_no_pulse() -> None:
    """An ECG keeps its samples but gives no pulse waveform."""
    label = sensor(256, 2.0, 1.0)
    truth = Labels(kind="ecg", samples=label.samples, time_s=label.time_s)
    result, _ = run([grey()] * 58, is_crop=True, truth=truth)
    assert np.isnan(result.arrays["pulse"]).all()
    assert len(result.arrays["label"]) == 512


@pytest.mark.parametrize("n_bad, fails", [(5, False), (6, True)])
def test_repairs_of_stamps_have_a_limit(n_bad: int, fails: bool) -> None:
    """Five odd stamps in a hundred are repaired and stay in order; six are an error."""
    time_s = np.arange(100) / 30
    time_s[10 : 10 + 2 * n_bad : 2] = time_s[9 : 9 + 2 * n_bad : 2]
    if fails:
        with pytest.raises(UserError, match="6 of 100 time stamps repeat or step back"):
            increasing(time_s, "r")
        return
    fixed, warnings = increasing(time_s, "r")
    np.testing.assert_allclose(fixed, np.arange(100) / 30, atol=1e-9)
    assert len(warnings) == 1


def test_settings_are_those_of_params() -> None:
    """The defaults of the extraction are those of params.json."""
    assert ExtractSettings.from_params(Preprocessing()) == ExtractSettings()
