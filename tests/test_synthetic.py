"""The synthetic set: exact layout, exact truth, the same bytes every time."""

import hashlib
import json
import os
import struct
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from preprocessing.synthetic import generate, long_signal, scene
from preprocessing.synthetic.avi import write_avi
from preprocessing.synthetic.generate import _VERSION, _digest, make_recording
from preprocessing.synthetic.pulse import Rhythm, beat_shape, make_pulse
from preprocessing.synthetic.subjects import HARD_CASES, PARTS, make_subjects, numbering
from utils.errors import UserError
from utils.files import digest

DEFAULTS = {"train": 16, "valid": 4, "test": 8, "hard": 6, "control": 2}
SMALL = {"train": 1, "valid": 0, "test": 0, "hard": 0, "control": 1, "seconds": 2.0, "progress": False}


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below `folder`, by relative path."""
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(folder.rglob("*")) if p.is_file()}


def frames_of(path: Path) -> np.ndarray:
    """All frames of a video, (T, H, W, 3) BGR."""
    capture, frames = cv2.VideoCapture(str(path)), []
    while True:
        more, frame = capture.read()
        if not more:
            return np.array(frames)
        frames.append(frame)


def labels_of(folder: Path) -> np.ndarray:
    """The three lines of ground_truth.txt, (3, T)."""
    lines = (folder / "ground_truth.txt").read_text().splitlines()
    return np.array([[float(word) for word in line.split()] for line in lines])


def cheek_green(frames: np.ndarray) -> np.ndarray:
    """Mean green of the middle of the face, where skin prevails, (T,)."""
    return frames[:, 100:170, 85:155, 1].mean(axis=(1, 2), dtype=np.float64)


def peak_bpm(signal: np.ndarray, fs: float) -> float:
    """Rate of the highest spectral peak within 42-180 bpm."""
    power = np.abs(np.fft.rfft((signal - signal.mean()) * np.hanning(len(signal)), 2**14)) ** 2
    bpm = 60 * np.fft.rfftfreq(2**14, 1 / fs)
    power[(bpm < 42) | (bpm > 180)] = 0
    return float(bpm[power.argmax()])


@pytest.fixture(scope="module")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One subject with a pulse and one without, two seconds each."""
    out = tmp_path_factory.mktemp("small")
    generate(out, seed=3, workers=1, **SMALL)
    return out


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds of a light-skinned subject at 84 bpm under steady light, uncompressed."""
    out = tmp_path_factory.mktemp("steady")
    subject = make_subjects(5, DEFAULTS)[0]
    rhythm = replace(subject.rhythm, rate_bpm=84.0)
    subject = replace(subject, face="astronaut", skin_tone="light", flicker=0.0, drift=0.0, rhythm=rhythm)
    make_recording(out, subject, 10.0, "uncompressed")
    return out / subject.name


def test_same_seed_same_bytes_for_any_number_of_workers(small_set: Path, tmp_path: Path) -> None:
    """Every file has the same bytes whether one process made the set or two."""
    generate(tmp_path, seed=3, workers=2, **SMALL)
    assert hashes(tmp_path) == hashes(small_set)


def test_another_seed_gives_other_pictures(small_set: Path, tmp_path: Path) -> None:
    """A different seed gives a different video of the same subject number."""
    generate(tmp_path, seed=4, workers=1, **{**SMALL, "control": 0})
    name = "subject1/vid.avi"
    assert hashes(tmp_path)[name] != hashes(small_set)[name]


def test_layout_is_that_of_ubfc(small_set: Path) -> None:
    """ground_truth.txt has three lines in scientific notation with a value for every frame."""
    folder = small_set / "subject1"
    text = (folder / "ground_truth.txt").read_text()
    assert len(text.splitlines()) == 3 and all("e" in word for word in text.split())
    labels = labels_of(folder)
    assert labels.shape == (3, len(frames_of(folder / "vid.avi")))
    assert labels[2, 0] == 0 and (np.diff(labels[2]) > 0.025).all()
    assert np.std(np.diff(labels[2])) > 0.0003


def test_container_declares_the_true_rate_and_length(small_set: Path) -> None:
    """The video's own frame rate and count agree with the time stamps."""
    capture = cv2.VideoCapture(str(small_set / "subject1/vid.avi"))
    time_s = labels_of(small_set / "subject1")[2]
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == len(time_s)
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx((len(time_s) - 1) / time_s[-1], abs=0.01)


def test_lists_name_the_folders(small_set: Path) -> None:
    """lists.json holds the folder names of every part, and each folder its conditions."""
    lists = json.loads((small_set / "lists.json").read_text())
    assert lists == {"train": ["subject1"], "control": ["subject41"]}
    said = json.loads((small_set / "subject41/conditions.json").read_text())["conditions"]
    assert said["group"] == "control" and said["pulse"] == "none"
    assert {"light", "motion", "skin_tone", "group", "face"} <= set(said)
    assert all(isinstance(value, str) for value in said.values())


def test_control_has_no_label(small_set: Path) -> None:
    """Without a pulse the first line is NaN, the second 0, and no beat is claimed."""
    labels = labels_of(small_set / "subject41")
    assert np.isnan(labels[0]).all() and (labels[1] == 0).all() and np.isfinite(labels[2]).all()
    truth = json.loads((small_set / "subject41/truth.json").read_text())
    assert truth["rate_bpm"] is None and truth["beat_time_s"] == []


def test_skin_darkens_when_the_pulse_rises(steady: Path) -> None:
    """Green falls with the label, at lag 0."""
    green, pulse = cheek_green(frames_of(steady / "vid.avi")), labels_of(steady)[0]
    green = -(green - np.convolve(np.pad(green, 15, "edge"), np.ones(31) / 31, "valid"))
    match = [np.corrcoef(green[20:-20], np.roll(pulse, lag)[20:-20])[0, 1] for lag in range(-6, 7)]
    assert np.argmax(match) - 6 == 0 and max(match) > 0.8


def test_green_is_modulated_most_and_red_least(steady: Path) -> None:
    """Of the relative changes of the skin with the pulse, green > blue > red."""
    frames, pulse = frames_of(steady / "vid.avi"), labels_of(steady)[0]
    traces = frames[:, 100:170, 85:155].mean(axis=(1, 2), dtype=np.float64)
    traces = traces / traces.mean(axis=0)
    slow = np.polynomial.polynomial.polyvander(np.linspace(-1, 1, len(pulse)), 12)
    blue, green, red = np.linalg.lstsq(np.column_stack([pulse, slow]), -traces, rcond=None)[0][0]
    assert green > blue > red > 0


def test_rate_in_the_pictures_is_the_rate_asked_for(steady: Path) -> None:
    """The green of the skin peaks within 1 bpm of the known mean rate."""
    time_s = labels_of(steady)[2]
    fs = (len(time_s) - 1) / time_s[-1]
    assert peak_bpm(cheek_green(frames_of(steady / "vid.avi")), fs) == pytest.approx(84.0, abs=1.0)


def test_control_pictures_carry_no_pulse(steady: Path, tmp_path: Path) -> None:
    """The same subject without a pulse has less than a twentieth of its power at the rate."""
    subject = make_subjects(5, DEFAULTS)[0]
    rhythm = replace(subject.rhythm, rate_bpm=84.0)
    changes = {"face": "astronaut", "skin_tone": "light", "flicker": 0.0, "drift": 0.0, "rhythm": rhythm}
    make_recording(tmp_path, replace(subject, **changes, green_pp=0.0), 10.0, "uncompressed")

    def power(folder: Path) -> float:
        green = cheek_green(frames_of(folder / "vid.avi"))
        time_s = labels_of(steady)[2]
        return float(abs(np.sum(np.hanning(len(green)) * green * np.exp(2j * np.pi * 1.4 * time_s))) ** 2)

    assert power(tmp_path / subject.name) < 0.05 * power(steady)


def test_rate_line_agrees_with_the_beats(steady: Path) -> None:
    """The rate line follows the known beat times: its mean, and the intervals around each moment."""
    labels, truth = labels_of(steady), json.loads((steady / "truth.json").read_text())
    beats = np.array(truth["beat_time_s"])
    assert truth["rate_bpm"] == 84.0 and abs(len(beats) - 14) <= 1
    assert labels[1].mean() == pytest.approx(84.0, abs=1.0)
    inside = (labels[2] > 3) & (labels[2] < 7)
    for time_s, rate in labels[1:3, inside].T[::20, ::-1]:
        whole = np.interp([time_s - 2, time_s + 2], beats, np.arange(len(beats)))
        assert rate == pytest.approx(60 * np.diff(whole)[0] / 4, abs=1.0)


def test_label_is_highest_near_the_known_peaks(steady: Path) -> None:
    """Within half a frame of each systolic peak the pulse line has its local maximum."""
    labels, truth = labels_of(steady), json.loads((steady / "truth.json").read_text())
    pulse, time_s = labels[0], labels[2]
    for peak in [p for p in truth["peak_time_s"] if 0.5 < p < 9.5]:
        near = np.abs(time_s - peak) < 0.25
        assert abs(time_s[near][pulse[near].argmax()] - peak) < 0.04


def test_a_killed_call_is_completed_by_the_next(small_set: Path, tmp_path: Path) -> None:
    """Leftovers go, a cut or missing subject is made again, a whole one is not touched."""
    generate(tmp_path, seed=3, workers=1, **SMALL)
    kept = (tmp_path / "subject41/vid.avi").stat().st_mtime_ns
    video = tmp_path / "subject1/vid.avi"
    video.write_bytes(video.read_bytes()[:5000])
    (tmp_path / ".subject7.123.tmp").mkdir()
    (tmp_path / "lists.json").unlink()
    generate(tmp_path, seed=3, workers=1, **SMALL)
    assert hashes(tmp_path) == hashes(small_set)
    assert (tmp_path / "subject41/vid.avi").stat().st_mtime_ns == kept
    assert not (tmp_path / ".subject7.123.tmp").exists()


def test_a_set_killed_midway_is_completed(tmp_path: Path) -> None:
    """Killed with SIGKILL after its first recording, a second call ends with an undisturbed set's bytes."""
    many = {**SMALL, "train": 6, "seconds": 6.0}
    code = f"""
from pathlib import Path
from preprocessing.synthetic import generate
if __name__ == "__main__":
    generate(Path({str(tmp_path / "killed")!r}), seed=3, workers=2, **{many!r})
"""
    script = tmp_path / "make.py"
    script.write_text(code)
    root = Path(__file__).resolve().parent.parent
    process = subprocess.Popen([sys.executable, str(script)], env={**os.environ, "PYTHONPATH": str(root)})
    until = time.monotonic() + 60
    while not list((tmp_path / "killed").glob("subject*")) and time.monotonic() < until:
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not (tmp_path / "killed/lists.json").exists()
    generate(tmp_path / "killed", seed=3, workers=2, **many)
    generate(tmp_path / "whole", seed=3, workers=1, **many)
    assert hashes(tmp_path / "killed") == hashes(tmp_path / "whole")


def test_failed_recordings_are_named(tmp_path: Path) -> None:
    """A recording that a worker cannot write is named, the others are made, and the call fails."""
    (tmp_path / "subject1").write_text("a file in the way")
    with pytest.raises(UserError, match="subject1"):
        generate(tmp_path, seed=3, workers=2, **SMALL)
    assert (tmp_path / "subject41/truth.json").is_file()
    assert (tmp_path / "subject1").read_text() == "a file in the way"


def test_subjects_of_other_settings_are_replaced(small_set: Path, tmp_path: Path) -> None:
    """A set made over another one equals one made afresh."""
    generate(tmp_path, seed=8, workers=1, **{**SMALL, "train": 2})
    generate(tmp_path, seed=3, workers=1, **SMALL)
    assert hashes(tmp_path) == hashes(small_set)


def test_real_recordings_are_never_overwritten(tmp_path: Path) -> None:
    """A subject folder that was not made here is refused and left alone."""
    (tmp_path / "subject1").mkdir()
    (tmp_path / "subject1/vid.avi").write_bytes(b"mine")
    with pytest.raises(UserError, match="subject1 was not made by the generator"):
        generate(tmp_path, seed=3, workers=1, **SMALL)
    assert (tmp_path / "subject1/vid.avi").read_bytes() == b"mine"


@pytest.mark.parametrize("wrong", [
    {"seconds": 0.5}, {"codec": "h264"}, {"train": -1}, {"seed": -1}, {"workers": 0},
    {"seconds": 400, "codec": "uncompressed"},
])
def test_impossible_settings_are_refused(tmp_path: Path, wrong: dict) -> None:
    """Wrong settings raise a UserError before anything is written."""
    with pytest.raises(UserError, match="synthetic set"):
        generate(tmp_path / "set", **{"seed": 1, **wrong})
    assert not (tmp_path / "set").exists()


def test_uncompressed_avi_is_bottom_up_and_lossless(tmp_path: Path) -> None:
    """The stored rows go upwards, as UBFC's do, and cv2 gives the frames back unchanged."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (5, 18, 22, 3), np.uint8)
    write_avi(tmp_path / "v.avi", frames, fps=29.7, codec="uncompressed", quality=90)
    data = (tmp_path / "v.avi").read_bytes()
    start = data.index(b"00db") + 8
    assert data[start : start + 66] == frames[0, -1].tobytes()
    height = struct.unpack("<i", data[data.index(b"strf") + 16 :][:4])[0]
    assert height == 18
    assert np.array_equal(frames_of(tmp_path / "v.avi"), frames)


def test_generated_uncompressed_video_is_read_upright(steady: Path) -> None:
    """The head is above the suit: the upper third of the picture is brighter than the lower."""
    frames = frames_of(steady / "vid.avi")
    assert frames.shape[1:] == (240, 240, 3)
    assert frames[0, :80].mean() > frames[0, 160:].mean() + 20


def test_avi_needs_a_frame(tmp_path: Path) -> None:
    """A video without frames is refused."""
    with pytest.raises(UserError, match="at least one frame"):
        write_avi(tmp_path / "v.avi", [], fps=30.0, codec="mjpeg", quality=90)


def test_default_set_stays_below_the_promised_size(small_set: Path) -> None:
    """36 recordings of 15 s at the measured bytes per frame are under 400 MB."""
    sizes = [(folder / "vid.avi").stat().st_size / labels_of(folder).shape[1]
             for folder in small_set.glob("subject*")]
    assert 36 * 15 * 30.2 * 1.2 * max(sizes) < 400e6


def test_default_rates_span_what_is_promised() -> None:
    """For any seed the test rates run from 58 to 120 inside the training rates, 50 to 130."""
    for seed in range(5):
        subjects = make_subjects(seed, DEFAULTS)
        rates = {part: [s.rhythm.rate_bpm for s in subjects if s.part == part] for part in PARTS}
        assert (min(rates["train"]), max(rates["train"])) == (50, 130)
        assert (min(rates["test"]), max(rates["test"])) == (58, 120)
        assert {s.face for s in subjects if s.part == "test"} == {"hopper", "astronaut"}


def test_hard_group_holds_every_case() -> None:
    """Six hard subjects show the six hard conditions, each said in its conditions."""
    hard = [s for s in make_subjects(0, DEFAULTS) if s.part == "hard"]
    assert tuple(s.conditions()["case"] for s in hard) == HARD_CASES
    assert hard[0].conditions()["light"] == "coloured flicker"
    assert hard[1].conditions()["motion"] == "large"
    assert hard[4].conditions()["compression"] == "strong"


def test_a_gap_lies_between_learning_and_test() -> None:
    """Bright and still people to learn from, dark and moving ones to test, the hearts of the plain set."""
    plain, apart = make_subjects(2, DEFAULTS), make_subjects(2, DEFAULTS, gap=True)
    assert [s.rhythm for s in plain] == [s.rhythm for s in apart]
    for subject in apart:
        learnt = subject.part in ("train", "valid")
        assert subject.skin_tone == ("light" if learnt else "dark") and (subject.exposure > 0.9) == learnt
        assert (subject.motion_px < 1) == learnt and (subject.gamma == 1) == learnt
    assert apart == make_subjects(2, DEFAULTS, gap=True) != make_subjects(3, DEFAULTS, gap=True)


def test_the_camera_curve_comes_before_the_noise() -> None:
    """A grey level v becomes 255 (v / 255)^gamma; without a curve the digest is what it always was."""
    subject = make_subjects(5, DEFAULTS)[0]

    def frame(gamma: float) -> np.ndarray:
        rng = np.random.default_rng(0)
        layers = scene.make_layers(subject, rng)
        still = scene.Course(np.zeros(1), np.zeros((1, 2)), np.zeros(1), np.ones(1), np.ones((1, 3)))
        return next(iter(scene.render(layers, still, 0.0, rng, gamma=gamma))).astype(float)

    expected = 255 * (frame(1.0) / 255) ** 0.7
    inside = frame(1.0) > 10
    assert np.abs(frame(0.7) - expected)[inside].max() <= 2.5
    described = asdict(subject)
    assert described.pop("gamma") == 1.0
    content = {"version": _VERSION, "seconds": 9.0, "codec": "mjpeg", "subject": described}
    assert _digest(subject, 9.0, "mjpeg") == digest(content)
    assert _digest(replace(subject, gamma=0.7), 9.0, "mjpeg") != digest(content)


def test_numbers_are_fixed_and_never_collide() -> None:
    """Default parts keep their blocks; larger ones get blocks wide enough."""
    starts = {part: numbers.start for part, numbers in numbering(DEFAULTS).items()}
    assert starts == {"train": 1, "valid": 17, "test": 21, "hard": 31, "control": 41}
    for counts in (DEFAULTS, {**DEFAULTS, "train": 100}, {**DEFAULTS, "valid": 101, "test": 250}):
        used = [n for numbers in numbering(counts).values() for n in numbers]
        assert len(used) == len(set(used)) == sum(counts.values())


def test_second_harmonic_stays_weak() -> None:
    """The beat shape has no offset, and a second harmonic under two fifths of the first."""
    shape = np.abs(np.fft.rfft(beat_shape(np.linspace(0, 1, 512, endpoint=False))))
    assert 0.1 < shape[2] / shape[1] < 0.4
    assert shape[0] < 1e-6 * shape[1]


def test_phase_is_whole_at_every_beat() -> None:
    """Beat times are exact to a microsecond, and the rate is the derivative of the phase."""
    pulse = make_pulse(Rhythm(rate_bpm=72.0, rsa=0.05, lf=0.04), 30.0, np.random.default_rng(1))
    beats = pulse.beat_time_s()
    phase = pulse.phase(beats)
    assert np.abs(phase - np.round(phase)).max() < 1e-6
    assert np.diff(np.round(phase)).tolist() == [1.0] * (len(beats) - 1)
    step = 1e-4
    slope = (pulse.phase(beats + step) - pulse.phase(beats - step)) / (2 * step)
    assert np.allclose(60 * slope, pulse.rate_bpm(beats), rtol=1e-6)


def test_long_signal_has_the_variability_asked_for() -> None:
    """Five minutes: the mean rate is exact and the intervals move at the LF and RSA frequencies."""
    signal = long_signal(2, rate_bpm=70.0, respiration_hz=0.27, lf_hz=0.1, rsa=0.03, lf=0.045)
    beats = signal.beat_time_s
    assert len(signal.time_s) == 300 * 60 and abs(len(beats) - 350) <= 1
    middle, intervals = (beats[1:] + beats[:-1]) / 2, np.diff(beats)

    def strength(hz: float) -> float:
        return float(abs(np.mean((intervals / intervals.mean() - 1) * np.exp(-2j * np.pi * hz * middle))) * 2)

    assert strength(0.1) == pytest.approx(0.045, rel=0.1)
    assert strength(0.27) == pytest.approx(0.03, rel=0.15)
    assert strength(0.2) < 0.003
    assert signal.low_over_high == pytest.approx(2.25)


def test_long_signal_is_a_function_of_its_seed() -> None:
    """The same seed gives the same samples, another seed other beats."""
    first, again, other = long_signal(1), long_signal(1), long_signal(2)
    assert np.array_equal(first.pulse, again.pulse)
    assert not np.array_equal(first.beat_time_s, other.beat_time_s)


@pytest.mark.parametrize("case", range(len(HARD_CASES)))
def test_face_mesh_finds_the_face_under_every_hard_condition(case: int, tmp_path: Path) -> None:
    """The mesh finds a face in sampled frames of each hard case."""
    import mediapipe as mp

    subject = [s for s in make_subjects(7, DEFAULTS) if s.part == "hard"][case]
    make_recording(tmp_path, subject, 2.0, "mjpeg")
    with mp.solutions.face_mesh.FaceMesh(static_image_mode=True, max_num_faces=1) as mesh:
        for frame in frames_of(tmp_path / subject.name / "vid.avi")[::20]:
            assert mesh.process(np.ascontiguousarray(frame[..., ::-1])).multi_face_landmarks
