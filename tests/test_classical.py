"""GREEN, CHROM and POS against literal, slow versions, and what their house form promises."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import signal as ss

import nets
from nets.registry import NETS
from tests.fakes import pulse_wave, skin_video
from utils.signal import bandpass, power_spectrum

Array = NDArray[np.float64]
CLASSICAL = [n for n in nets.names() if getattr(NETS.get(n), "task", "") == "classical"]
DATA = os.environ.get("RPPG_REAL_DATA")


def trace(frames: int, fps: float = 30.0, rate_hz: float = 1.25, seed: int = 0) -> Array:
    """A drifting skin colour with a pulse: (T, 3)."""
    rng = np.random.default_rng(seed)
    t = np.arange(frames) / fps
    pulse = np.sin(2 * np.pi * rate_hz * t) + 0.3 * np.sin(4 * np.pi * rate_hz * t + 0.5)
    light = 1 + 0.05 * np.sin(2 * np.pi * 0.1 * t)
    skin = np.array([170.0, 120.0, 95.0]) * light[:, None]
    return skin - np.array([0.33, 0.77, 0.53]) * pulse[:, None] + 0.2 * rng.normal(size=(frames, 3))


def run(name: str, rgb: Array, fps: float = 30.0, compat: bool = False) -> Array:
    return nets.build(name, compat=compat)(torch.from_numpy(rgb)[None], fps)[0].numpy()


def slow_chrom(rgb: Array, fps: float) -> Array:
    """The formula window by window, with transfer-function filters."""
    length = math.ceil(1.6 * fps)
    length += length % 2
    half = length // 2
    n = (len(rgb) - half) // half
    b, a = ss.butter(3, [0.7, 2.5], "bandpass", fs=fps)
    out = np.zeros(half * (n + 1))
    for k in range(n):
        piece = rgb[k * half : k * half + length]
        red, green, blue = (piece[:, c] / piece[:, c].mean() for c in range(3))
        x = ss.filtfilt(b, a, 3 * red - 2 * green)
        y = ss.filtfilt(b, a, 1.5 * red + green - 1.5 * blue)
        s = (x - x.std() / y.std() * y) * np.hanning(length)
        out[k * half : k * half + length] += s
    return out


def slow_pos(rgb: Array, fps: float, last: int, strength: float = 100.0) -> Array:
    """The formula sample by sample; windows [n - l, n) for n from l to `last`; dense detrending."""
    length, total = math.ceil(1.6 * fps), len(rgb)
    out = np.zeros(total)
    for n in range(length, last + 1):
        piece = rgb[n - length : n]
        red, green, blue = (piece[:, c] / piece[:, c].mean() for c in range(3))
        s1, s2 = green - blue, -2 * red + green + blue
        h = s1 + s1.std() / s2.std() * s2
        out[n - length : n] += h - h.mean()
    second = np.diff(np.eye(total), 2, axis=0)
    out = out - np.linalg.solve(np.eye(total) + strength**2 * second.T @ second, out)
    b, a = ss.butter(1, [0.75, 3.0], "bandpass", fs=fps)
    return ss.filtfilt(b, a, out)


def assert_same(a: Array, b: Array) -> None:
    assert a.shape == b.shape
    assert np.abs(a - b).max() <= 1e-6 * np.abs(b).max()


CASES = pytest.mark.parametrize(
    ("frames", "fps"), [(300, 30.0), (301, 29.97), (260, 25.0), (200, 30.013), (450, 50.0), (64, 20.0)]
)


@CASES
def test_chrom_compat_is_the_published_formula(frames: int, fps: float) -> None:
    """CHROM with compat equals a literal version to 1e-6, its shorter length included."""
    rgb = trace(frames, fps)
    assert_same(run("chrom", rgb, fps, compat=True), slow_chrom(rgb, fps))


@CASES
def test_pos_compat_is_the_published_formula(frames: int, fps: float) -> None:
    """POS with compat equals a literal version to 1e-6: windows exclude the last frame, textbook sign."""
    rgb = trace(frames, fps)
    assert_same(run("pos", rgb, fps, compat=True), slow_pos(rgb, fps, last=frames - 1))


@CASES
def test_pos_house_reaches_the_last_frame_and_is_negated(frames: int, fps: float) -> None:
    """The house form is minus the literal version whose windows also include the last frame.

    Its detrending cuts at the same frequency at every frame rate.
    """
    rgb = trace(frames, fps)
    expected = -slow_pos(rgb, fps, last=frames, strength=100 * (fps / 30) ** 2)
    assert_same(run("pos", rgb, fps), expected)


def test_pos_survives_a_step_of_the_light() -> None:
    """Running sums keep their digits when the level jumps by a factor of three."""
    rgb = trace(300)
    rgb[150:] /= 3
    assert_same(run("pos", rgb, compat=True), slow_pos(rgb, 30.0, last=299))


@CASES
def test_chrom_house_equals_compat_between_the_ends(frames: int, fps: float) -> None:
    """Between the first and the last window the house form is the published one."""
    rgb = trace(frames, fps)
    half = (math.ceil(1.6 * fps) + 1) // 2
    released, house = run("chrom", rgb, fps, compat=True), run("chrom", rgb, fps)
    middle = slice(half, len(released) - half)
    np.testing.assert_allclose(house[middle], released[middle], atol=1e-9)


def test_chrom_compat_loses_the_tail() -> None:
    """300 frames at 30 fps give 288 samples, as released; the house form gives all."""
    rgb = trace(300)
    assert len(run("chrom", rgb, compat=True)) == 288
    assert len(run("chrom", rgb)) == 300


def test_chrom_house_is_alive_at_both_ends() -> None:
    """The first and last half second are not faded out."""
    house = run("chrom", trace(300))
    middle = house[100:200].std()
    assert house[:15].std() > 0.4 * middle and house[-15:].std() > 0.4 * middle


def test_green_is_the_green_value() -> None:
    """compat: the value itself; house: negated and free of its mean."""
    rgb = trace(100)
    np.testing.assert_array_equal(run("green", rgb, compat=True), rgb[:, 1])
    np.testing.assert_allclose(run("green", rgb), rgb[:, 1].mean() - rgb[:, 1])


@pytest.mark.parametrize("name", CLASSICAL)
@pytest.mark.parametrize("fps", [15.0, 29.97, 60.0])
@pytest.mark.parametrize("rate_hz", [0.9, 1.25, 2.2])
def test_waveform_rises_when_skin_darkens(name: str, fps: float, rate_hz: float) -> None:
    """House form: every sample is there, the waveform follows the pulse, at its rate within 1 bpm."""
    frames = int(20 * fps)
    pulse = pulse_wave(frames, fps, rate_hz).double().numpy()
    waveform = run(name, trace(frames, fps, rate_hz), fps)
    assert len(waveform) == frames
    band = bandpass(waveform, fps, 0.7, 4)
    assert np.corrcoef(band, bandpass(pulse, fps, 0.7, 4))[0, 1] > 0.7
    frequency, power = power_spectrum(band, fps, bin_hz=0.005)
    assert abs(60 * frequency[power.argmax()] - 60 * rate_hz) < 1


@pytest.mark.parametrize("name", CLASSICAL)
def test_video_and_mean_colours_agree(name: str) -> None:
    """A video goes in as its mean colours would."""
    video = skin_video(pulse_wave(90), 8)[None]
    net = nets.build(name)
    torch.testing.assert_close(net(video, 30.0), net(video.double().mean((3, 4)).transpose(1, 2), 30.0))


@pytest.mark.parametrize("name", CLASSICAL)
def test_recordings_of_a_batch_have_their_own_rate(name: str) -> None:
    """Each row is what it would be alone, with its own frame rate."""
    rgb = torch.from_numpy(np.stack([trace(200), trace(200, seed=3)]))
    net = nets.build(name)
    both = net(rgb, torch.tensor([30.0, 25.0]))
    assert torch.equal(both[0], net(rgb[:1], 30.0)[0])
    assert torch.equal(both[1], net(rgb[1:], 25.0)[0])


@pytest.mark.parametrize("name", CLASSICAL)
@pytest.mark.parametrize("lost", [float("nan"), 0.0])
def test_lost_faces_are_bridged(name: str, lost: float) -> None:
    """Frames without a colour are interpolated, at the ends too; the pulse is still there."""
    rgb = trace(400)
    gappy = rgb.copy()
    gappy[100:110] = gappy[:3] = gappy[-3:] = lost
    waveform, whole = run(name, gappy), run(name, rgb)
    assert np.isfinite(waveform).all()
    assert np.abs(waveform).max() < 2 * np.abs(whole).max()
    assert np.corrcoef(waveform[150:350], whole[150:350])[0, 1] > 0.9


@pytest.mark.parametrize("name", CLASSICAL)
def test_no_face_gives_no_waveform(name: str) -> None:
    """Without any colour all samples are NaN: nothing is made up."""
    assert np.isnan(run(name, np.full((100, 3), np.nan))).all()


@pytest.mark.parametrize("name", CLASSICAL)
def test_constant_colour_stays_without_a_pulse(name: str) -> None:
    """A still picture gives a flat waveform, not amplified rounding noise."""
    waveform = run(name, np.full((200, 3), 123.456))
    assert np.abs(waveform).max() < 1e-9


@pytest.mark.parametrize("name", ["chrom", "pos"])
def test_recording_below_a_window_gives_no_waveform(name: str) -> None:
    """Shorter than 1.6 s: NaN of the recording's length; from one window on, samples."""
    assert np.isnan(run(name, trace(47))).all() and len(run(name, trace(47))) == 47
    assert np.isfinite(run(name, trace(48))).all() and len(run(name, trace(48))) == 48


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan")])
def test_impossible_rate_is_refused(fps: float) -> None:
    """A frame rate that is no rate is an error, not a default."""
    with pytest.raises(ValueError, match="frame rate"):
        run("pos", trace(100), fps)


def test_gains_of_the_camera_do_not_matter() -> None:
    """CHROM and POS divide by the window's means: any gain per channel gives the same waveform."""
    rgb = trace(200)
    for name in ("chrom", "pos"):
        np.testing.assert_allclose(run(name, rgb * [0.5, 1.0, 1.5]), run(name, rgb), atol=1e-9)


@pytest.mark.parametrize("name", ["chrom", "pos"])
@pytest.mark.parametrize("fps", [0.5, 1.0, 1.4])
def test_a_frame_rate_below_any_pulse_gives_nan(name: str, fps: float) -> None:
    """Time-lapse pictures give no waveform and no error."""
    assert np.isnan(run(name, trace(200), fps)).all()


@pytest.mark.parametrize("name", ["chrom", "pos"])
def test_a_minute_takes_milliseconds(name: str) -> None:
    """60 s at 30 fps take far less than a python loop would; the exact figure is in benchmarks/."""
    rgb = trace(1800)
    run(name, rgb)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        run(name, rgb)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.05


@pytest.mark.skipif(not DATA, reason="RPPG_REAL_DATA does not name the folder with real data")
@pytest.mark.parametrize("name", ["chrom", "pos"])
def test_real_traces_agree_with_the_contact_sensor(name: str) -> None:
    """On a real face the rate is within 2 bpm of the contact PPG and the correlation is positive."""
    path = Path(DATA or ".") / "fixtures" / "vitallens_sample_1_rgb_traces.csv"
    rows = np.genfromtxt(path, delimiter=",", names=True)
    fps = (len(rows) - 1) / (rows["t_s"][-1] - rows["t_s"][0])
    rgb = np.stack([rows[f"face_{c}"] for c in "rgb"], axis=1)
    band = bandpass(run(name, rgb, fps), fps, 0.7, 4)
    frequency, power = power_spectrum(band, fps, bin_hz=0.005)
    assert abs(60 * frequency[power.argmax()] - 75.4) < 2
    assert np.corrcoef(band, bandpass(rows["ppg"], fps, 0.7, 4))[0, 1] > 0.4
