"""Every beat of a pulse is found once and in its place, at any frame rate, and none where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evaluation.beats import find_beats
from evaluation.vital_presets import PRESETS
from preprocessing.synthetic import long_signal
from tests.vital_toys import AS_PUBLISHED, DEFAULT, REAL, at_30


def errors_ms(found_s: np.ndarray, true_s: np.ndarray) -> np.ndarray:
    """Distance of every found beat from the nearest true one."""
    return 1000 * (found_s - true_s[np.abs(found_s[:, None] - true_s[None]).argmin(1)])


@pytest.mark.parametrize("rate", [50.0, 75.0, 110.0, 160.0])
@pytest.mark.parametrize(("noise", "share"), [(0.0, 0.002), (0.1, 0.02), (0.2, 0.04)])
def test_beats_at_30_frames_a_second_are_found_to_milliseconds(
    rate: float, noise: float, share: float
) -> None:
    """Every beat is found once; its time scatters by 0.2 % of a cycle, with noise of a fifth by 4 %."""
    wave = at_30(3, noise, rate_bpm=rate)
    found = find_beats(wave.pulse, 30.0, DEFAULT).time_s
    true = wave.peak_time_s
    inside = true[(true > 0.3) & (true < wave.time_s[-1] - 0.3)]
    error = errors_ms(found, true)
    assert abs(len(found) - len(inside)) <= 1
    assert np.abs(error).max() < 200 and len(np.unique(np.rint(found * 5))) == len(found)
    assert error.std() < share * 60_000 / rate and abs(np.median(error)) < 3


def test_a_dicrotic_wave_is_no_beat() -> None:
    """A second wave of 0.7 of the first leaves one beat a cycle."""
    time_s = np.arange(0, 60, 1 / 30)
    phase = time_s * 1.1
    distance = [np.abs((phase - place + 0.5) % 1 - 0.5) for place in (0.3, 0.68)]
    wave = np.exp(-0.5 * (distance[0] / 0.09) ** 2) + 0.7 * np.exp(-0.5 * (distance[1] / 0.08) ** 2)
    ibi_s = np.diff(find_beats(wave, 30.0, DEFAULT).time_s)
    assert np.abs(ibi_s - 1 / 1.1).max() < 0.01


@pytest.mark.parametrize("seed", [1, 2])
def test_beats_that_the_filter_cannot_place_are_left_out(seed: int) -> None:
    """Beats at 0.18 s from the beginning and 0.1 s from the end exist and are not reported."""
    wave = at_30(seed, rate_bpm=50.0)
    last_s = wave.time_s[-1]
    assert min(wave.peak_time_s[0], last_s - wave.peak_time_s[-1]) < 0.3
    found = find_beats(wave.pulse, 30.0, DEFAULT).time_s
    assert found[0] >= 0.3 and found[-1] <= last_s - 0.3


@pytest.mark.parametrize("name", ["contrastphys", "nest"])
def test_beats_of_the_published_presets_keep_their_distance(name: str) -> None:
    """Even in noise no two beats are closer than 0.3 s."""
    found = find_beats(np.random.default_rng(0).standard_normal(1800), 30.0, PRESETS[name]).time_s
    assert np.diff(found).min() >= 0.3 - 1e-9 and len(found) > 60


def test_a_rate_that_doubles_is_followed() -> None:
    """From 60 to 130 bpm within a minute no beat is lost or doubled."""
    time_s = np.arange(0, 60, 1 / 30)
    rate_hz = 1 + time_s / 60 * 7 / 6
    phase = np.cumsum(rate_hz) / 30
    wave = np.sin(2 * np.pi * phase) + 0.3 * np.sin(4 * np.pi * phase)
    ibi_s = np.diff(find_beats(wave, 30.0, DEFAULT).time_s)
    assert abs(len(ibi_s) - np.ptp(phase)) <= 2
    assert (np.abs(np.diff(ibi_s)) < 0.05).all()


@pytest.mark.parametrize("name", list(PRESETS))
@pytest.mark.parametrize("fs", [20.0, 25.0, 29.97, 60.0, 250.0])
def test_every_preset_counts_the_beats_at_any_rate(name: str, fs: float) -> None:
    """A clean pulse of 72 bpm has the beats that were put in, whatever the preset and the frame rate."""
    wave = long_signal(1, duration_s=40.0, fs_hz=fs, rate_bpm=72.0)
    found = find_beats(wave.pulse, fs, PRESETS[name]).time_s
    assert abs(len(found) - 48) <= 2
    assert np.abs(errors_ms(found, wave.peak_time_s)).max() < (60 if fs < 30 else 40)


def test_beats_do_not_depend_on_scale_and_offset() -> None:
    """A gain of 1e6 and an offset change no beat."""
    wave = at_30(5, 0.1)
    first, second = (find_beats(w, 30.0, DEFAULT).time_s for w in (wave.pulse, 1e6 * wave.pulse + 1e7))
    assert np.allclose(first, second, atol=1e-6)


@pytest.mark.skipif(not REAL, reason="RPPG_REAL_DATA is not set")
def test_a_fast_contact_pulse_is_followed_where_fixed_windows_fail() -> None:
    """PLETH of a103l (126 bpm): the tracked beats give 124 bpm or more; 667 ms windows lose some of them."""
    wave = np.fromfile(Path(REAL or "") / "signal" / "a103l.mat", dtype="<i2", offset=24)
    pulse = wave[: len(wave) // 3 * 3].reshape(-1, 3)[:, 2].astype(float)
    tracked, fixed = (len(find_beats(pulse, 250.0, preset).time_s) for preset in (DEFAULT, AS_PUBLISHED))
    assert tracked / 330 * 60 > 122 and fixed < tracked
