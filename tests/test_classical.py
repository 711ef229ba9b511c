"""The methods without training against literal, slow versions, and what their house form promises."""

from __future__ import annotations

import itertools
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import optimize
from scipy import signal as ss
from scipy.spatial.transform import Rotation

import nets
from commands.building import classical_methods
from nets.classical_whole import most_periodic
from nets.jade import jade
from nets.registry import NETS
from tests.fakes import pulse_wave, skin_video
from utils.settings import Evaluation
from utils.signal import bandpass, power_spectrum

Array = NDArray[np.float64]
CLASSICAL = [n for n in nets.names() if getattr(NETS.get(n), "task", "") == "classical"]
WHOLE = ["ica", "lgi", "omit", "pbv", "pca"]
DATA = os.environ.get("RPPG_REAL_DATA")


def trace(frames: int, fps: float = 30.0, rate_hz: float = 1.25, seed: int = 0) -> Array:
    """A drifting skin colour with a pulse: (T, 3)."""
    rng = np.random.default_rng(seed)
    t = np.arange(frames) / fps
    pulse = np.sin(2 * np.pi * rate_hz * t) + 0.3 * np.sin(4 * np.pi * rate_hz * t + 0.5)
    light = 1 + 0.05 * np.sin(2 * np.pi * 0.1 * t)
    skin = np.array([170.0, 120.0, 95.0]) * light[:, None]
    return skin - np.array([0.33, 0.77, 0.53]) * pulse[:, None] + 0.2 * rng.normal(size=(frames, 3))


def run(name: str, rgb: Array, fps: float = 30.0, **options: Any) -> Array:
    return nets.build(name, **options)(torch.from_numpy(rgb)[None], fps)[0].numpy()


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
    b, a = ss.butter(1, [0.75, 3.0], "bandpass", fs=fps)
    return ss.filtfilt(b, a, slow_detrend(out, strength))


def slow_detrend(values: Array, strength: float = 100.0) -> Array:
    """Smoothness priors with dense matrices."""
    second = np.diff(np.eye(len(values)), 2, axis=0)
    return np.asarray(values - np.linalg.solve(np.eye(len(values)) + strength**2 * second.T @ second, values))


def slow_colours(rgb: Array, strength: float) -> Array:
    """Detrended, standardised channels, one by one: (T, 3) -> (3, T)."""
    rows = slow_detrend(rgb, strength).T
    return np.stack([(row - row.mean()) / row.std() for row in rows])


def slow_choice(sources: Array, fps: float) -> Array:
    """The source whose highest bin holds the largest share of its power, band-passed."""
    n, shares = sources.shape[1], []
    turns = np.exp(-2j * np.pi * np.outer(np.arange(1, (n - 1) // 2 + 1), np.arange(n)) / n)
    for source in sources:
        power = abs(turns @ source) ** 2
        shares.append(power.max() / power.sum())
    b, a = ss.butter(3, [0.7, 2.5], "bandpass", fs=fps)
    return ss.filtfilt(b, a, sources[int(np.argmax(shares))])


def cumulants(white: Array) -> list[Array]:
    """All nine fourth-order cumulant matrices of three white signals, entry by entry."""
    found = []
    for i, j in itertools.product(range(3), repeat=2):
        matrix = np.empty((3, 3))
        for a, b in itertools.product(range(3), repeat=2):
            m = [white[k] for k in (i, j, a, b)]
            matrix[a, b] = np.mean(m[0] * m[1] * m[2] * m[3]) - np.mean(m[0] * m[1]) * np.mean(m[2] * m[3]) \
                - np.mean(m[0] * m[2]) * np.mean(m[1] * m[3]) - np.mean(m[0] * m[3]) * np.mean(m[1] * m[2])
        found.append(matrix)
    return found


def off_diagonal(matrices: list[Array], rotation: Array) -> float:
    """What the rotation leaves off the diagonals: the sum of its squares."""
    turned = [rotation.T @ m @ rotation for m in matrices]
    return float(sum((m**2).sum() - (np.diag(m) ** 2).sum() for m in turned))


def slow_jade(mixtures: Array) -> Array:
    """Whitening by a Cholesky factor, then turning axes in pairs by the best of all angles."""
    white = np.linalg.solve(np.linalg.cholesky(mixtures @ mixtures.T / mixtures.shape[1]), mixtures)
    matrices, rotation = cumulants(white), np.eye(3)
    for _ in range(60):
        for p, q in ((0, 1), (0, 2), (1, 2)):
            def turned(angle: float, p: int = p, q: int = q, rotation: Array = rotation) -> Array:
                turn = np.eye(3)
                turn[[p, q], [p, q]] = math.cos(angle)
                turn[p, q], turn[q, p] = -math.sin(angle), math.sin(angle)
                return rotation @ turn

            # off(angle) = a + b cos 4x + c sin 4x, from three of its values
            a, b, c = (off_diagonal(matrices, turned(x)) for x in (0, math.pi / 8, math.pi / 4))
            cosine, mean = (a - c) / 2, (a + c) / 2
            rotation = turned((math.atan2(b - mean, cosine) + math.pi) / 4)
    return rotation.T @ white


def slow_ica(rgb: Array, fps: float, strength: float = 100.0) -> Array:
    return slow_choice(slow_jade(slow_colours(rgb, strength)), fps)


def slow_pca(rgb: Array, fps: float, strength: float = 100.0) -> Array:
    _, _, components = np.linalg.svd(slow_colours(rgb, strength), full_matrices=False)
    return slow_choice(components * math.sqrt(len(rgb)), fps)


def slow_lgi(rgb: Array, fps: float) -> Array:
    u, _, _ = np.linalg.svd(rgb.T)
    return ((np.eye(3) - np.outer(u[:, 0], u[:, 0])) @ rgb.T)[1]


def slow_omit(rgb: Array, fps: float) -> Array:
    q, _ = np.linalg.qr(rgb.T)
    return ((np.eye(3) - np.outer(q[:, 0], q[:, 0])) @ rgb.T)[1]


def slow_pbv(rgb: Array, fps: float) -> Array:
    c = np.stack([rgb[:, k] / rgb[:, k].mean() for k in range(3)])
    p = np.array([row.std() for row in c]) / math.sqrt(sum(row.var() for row in c))
    w = np.linalg.solve(c @ c.T, p[:, None])[:, 0]
    return c.T @ w / (p @ w)


SLOW = {"ica": slow_ica, "pca": slow_pca, "lgi": slow_lgi, "omit": slow_omit, "pbv": slow_pbv}


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


@pytest.mark.parametrize("name", WHOLE)
@CASES
def test_whole_compat_is_the_published_formula(name: str, frames: int, fps: float) -> None:
    """ICA, PCA, LGI, OMIT and PBV with compat equal literal versions to 1e-6.

    The sign of ICA and PCA is arbitrary.
    """
    rgb = trace(frames, fps)
    fast, slow = run(name, rgb, fps, compat=True), SLOW[name](rgb, fps)
    is_turned = name in ("ica", "pca") and float(fast @ slow) < 0
    assert_same(-fast if is_turned else fast, slow)


def test_the_most_periodic_source_may_be_a_flicker() -> None:
    """All bins up to half the rate count: a clean 14 Hz is chosen before a noisy pulse, and band-passed."""
    t, rng = np.arange(301) / 30, np.random.default_rng(0)
    flicker = np.sin(2 * np.pi * 14 * t) + 0.2 * rng.normal(size=301)
    pulse = np.sin(2 * np.pi * 1.25 * t) + 0.7 * rng.normal(size=301)
    chosen = most_periodic(np.stack([pulse, flicker, rng.normal(size=301)])[None], 30.0)[0]
    np.testing.assert_array_equal(chosen, bandpass(flicker, 30, 0.7, 2.5, order=3))


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("fps", [25.0, 30.0, 60.0])
def test_whole_house_is_the_formula_with_a_sign(name: str, fps: float) -> None:
    """The house form is the formula, free of its mean, against green less the mean of red and blue.

    The detrending of ICA and PCA cuts at the same frequency at every frame rate.
    """
    rgb = trace(200, fps)
    slow = SLOW[name](rgb, fps, 100 * (fps / 30) ** 2) if name in ("ica", "pca") else SLOW[name](rgb, fps)
    slow = slow - slow.mean()
    b, a = ss.butter(3, [0.7, 2.5], "bandpass", fs=fps)
    red, green, blue = (rgb / rgb.mean(axis=0)).T
    against = float(ss.filtfilt(b, a, slow) @ ss.filtfilt(b, a, (red + blue) / 2 - green))
    assert_same(run(name, rgb, fps), math.copysign(1, against) * slow)


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize(("frames", "window_s"), [(300, 4.0), (310, 4.0), (200, 3.3), (121, 4.0)])
def test_windows_are_the_formula_in_each(name: str, frames: int, window_s: float) -> None:
    """Windows half a window apart, and one at the end, faded into each other by raised cosines."""
    rgb, length = trace(frames), round(30 * window_s)
    starts = [*range(0, frames - length, length // 2), frames - length]
    weight = np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2
    total, weights = np.zeros(frames), np.zeros(frames)
    for start in starts:
        piece = rgb[start : start + length]
        total[start : start + length] += weight * run(name, piece)
        weights[start : start + length] += weight
    assert_same(run(name, rgb, window_s=window_s), total / weights)


@pytest.mark.parametrize("name", WHOLE)
def test_a_window_beyond_the_recording_is_the_whole(name: str) -> None:
    """A recording shorter than the window is one window."""
    rgb = trace(200)
    np.testing.assert_array_equal(run(name, rgb, window_s=60.0), run(name, rgb))


def test_compat_has_no_windows() -> None:
    """The released implementations take the recording as a whole."""
    with pytest.raises(ValueError, match="window_s"):
        nets.build("lgi", compat=True, window_s=5.0)


def sources(seed: int, n: int = 2000) -> Array:
    """Three independent signals of unit variance: a sine, a square wave, and rare impulses."""
    rng, t = np.random.default_rng(seed), np.arange(n)
    rows = np.stack([np.sin(0.21 * t), np.sign(np.sin(0.057 * t + 1)), rng.normal(size=n) ** 3])
    centred = rows - rows.mean(axis=1, keepdims=True)
    return np.asarray(centred / centred.std(axis=1, keepdims=True))


def test_jade_finds_sources_back() -> None:
    """Mixed signals come back up to order and sign, whatever the mixing; several mixtures at once."""
    rng = np.random.default_rng(5)
    truth = [sources(seed) for seed in range(4)]
    found = jade(np.stack([rng.normal(size=(3, 3)) @ rows for rows in truth]))
    for rows, wanted in zip(found, truth, strict=True):
        likeness = np.abs(rows @ wanted.T) / wanted.shape[1]
        assert sorted(likeness.argmax(axis=1)) == [0, 1, 2] and likeness.max(axis=1).min() > 0.99


@pytest.mark.parametrize("seed", range(3))
def test_no_rotation_beats_jade(seed: int) -> None:
    """A general optimiser over all rotations leaves no less off the diagonals of the cumulants."""
    rng = np.random.default_rng(seed)
    mixtures = rng.normal(size=(3, 3)) @ sources(seed, 500)
    found = jade(mixtures[None])[0]
    matrices = cumulants(found)

    def left(turn: Array) -> float:
        return off_diagonal(matrices, Rotation.from_rotvec(turn).as_matrix())

    best = min(optimize.minimize(left, rng.normal(size=3)).fun for _ in range(4))
    assert off_diagonal(matrices, np.eye(3)) <= best * (1 + 1e-6)
    np.testing.assert_allclose(found @ found.T / found.shape[1], np.eye(3), atol=1e-9)


@pytest.mark.parametrize("name", CLASSICAL)
def test_a_colour_that_never_changes_is_no_source(name: str) -> None:
    """A red that is saturated, and a grey picture: finite samples, nothing made of rounding noise."""
    rgb = trace(300)
    saturated, grey = rgb.copy(), np.repeat(rgb[:, 1:2], 3, axis=1)
    saturated[:, 0] = 255
    assert np.isfinite(run(name, saturated)).all() and np.isfinite(run(name, grey)).all()
    if name in ("green", "ica", "pca", "pbv"):
        pulse = bandpass(pulse_wave(300).double().numpy(), 30, 0.7, 4)
        for colours in (saturated, grey):
            assert np.corrcoef(bandpass(run(name, colours), 30, 0.7, 4), pulse)[0, 1] > 0.8


def test_every_method_may_stand_in_the_table() -> None:
    """evaluation.classical takes all of them."""
    assert list(classical_methods(Evaluation(classical=CLASSICAL))) == CLASSICAL


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
    waveform, whole = (bandpass(w, 30, 0.7, 4)[150:350] for w in (waveform, whole))
    assert np.corrcoef(waveform, whole)[0, 1] > 0.9


@pytest.mark.parametrize("name", CLASSICAL)
def test_no_face_gives_no_waveform(name: str) -> None:
    """Without any colour all samples are NaN: nothing is made up."""
    assert np.isnan(run(name, np.full((100, 3), np.nan))).all()


@pytest.mark.parametrize("name", CLASSICAL)
def test_constant_colour_stays_without_a_pulse(name: str) -> None:
    """A still picture gives a flat waveform, not amplified rounding noise."""
    waveform = run(name, np.full((200, 3), 123.456))
    assert np.abs(waveform).max() < 1e-9


@pytest.mark.parametrize("name", [name for name in CLASSICAL if name != "green"])
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
    """Colours divided by their means or standardised: any gain per channel gives the same waveform."""
    rgb = trace(200)
    for name in ("chrom", "pos", "ica", "pca", "pbv"):
        np.testing.assert_allclose(run(name, rgb * [0.5, 1.0, 1.5]), run(name, rgb), atol=1e-9)


@pytest.mark.parametrize("name", CLASSICAL)
@pytest.mark.parametrize("fps", [0.5, 1.0, 1.4])
def test_a_frame_rate_below_any_pulse_gives_nan(name: str, fps: float) -> None:
    """Time-lapse pictures give no waveform and no error."""
    assert np.isnan(run(name, trace(200), fps)).all()


@pytest.mark.parametrize("name", CLASSICAL)
def test_a_minute_takes_milliseconds(name: str) -> None:
    """60 s at 30 fps take far less than a python loop would; the exact figure is in benchmarks/."""
    rgb = trace(1800)
    run(name, rgb)
    times = []
    for _ in range(5):
        start = time.process_time()
        run(name, rgb)
        times.append(time.process_time() - start)
    assert min(times) < 0.05


@pytest.mark.skipif(not DATA, reason="RPPG_REAL_DATA does not name the folder with real data")
@pytest.mark.parametrize("name", [name for name in CLASSICAL if name != "green"])
def test_real_traces_agree_with_the_contact_sensor(name: str) -> None:
    """On a real face that moves the rate is within 2 bpm of the contact PPG and the sign is right.

    PBV takes the movement for part of the pulse's colour: within 3 bpm.
    """
    path = Path(DATA or ".") / "fixtures" / "vitallens_sample_1_rgb_traces.csv"
    rows = np.genfromtxt(path, delimiter=",", names=True)
    fps = (len(rows) - 1) / (rows["t_s"][-1] - rows["t_s"][0])
    rgb = np.stack([rows[f"face_{c}"] for c in "rgb"], axis=1)
    band = bandpass(run(name, rgb, fps), fps, 0.7, 4)
    frequency, power = power_spectrum(band, fps, bin_hz=0.005)
    assert abs(60 * frequency[power.argmax()] - 75.4) < (3 if name == "pbv" else 2)
    assert np.corrcoef(band, bandpass(rows["ppg"], fps, 0.7, 4))[0, 1] > (0.25 if name == "pbv" else 0.4)
