"""The rate of breathing is read from a sensor under drift and from the pulse alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import signal as ss

from evaluation.beats import find_beats, intervals
from evaluation.respiration import pulse_rate_bpm, sensor_rate_bpm
from evaluation.vital_presets import PRESETS
from preprocessing.synthetic import long_signal
from tests.vital_toys import DEFAULT, REAL


@pytest.mark.parametrize("derivative", [False, True])
@pytest.mark.parametrize("n", [600, 900])
def test_toolbox_respiration_is_the_chain_of_bigsmall(n: int, derivative: bool) -> None:
    """Sum, dense smoothness priors, Butterworth order 1, periodogram of a power of two, highest bin."""
    rng = np.random.default_rng(n)
    raw = np.sin(2 * np.pi * 0.27 * np.arange(n) / 30) + 0.5 * rng.standard_normal(n)
    x = np.cumsum(raw) if derivative else raw
    second = np.diff(np.eye(n), 2, axis=0)
    x = (np.eye(n) - np.linalg.inv(np.eye(n) + 100.0**2 * second.T @ second)) @ x
    b, a = ss.butter(1, [0.13 / 15, 0.5 / 15], btype="bandpass")
    frequency, power = ss.periodogram(
        ss.filtfilt(b, a, x), fs=30.0, nfft=2 ** int(np.ceil(np.log2(n))), detrend=False)
    band = (frequency >= 0.13) & (frequency <= 0.5)
    expected = 60 * frequency[band][power[band].argmax()]
    made = sensor_rate_bpm(raw, 30.0, PRESETS["toolbox"], derivative=derivative)
    assert made == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("rate_bpm", [9.0, 13.37, 21.0, 28.5])
@pytest.mark.parametrize("fs", [25.0, 30.0, 128.0])
def test_a_sensor_with_drift_gives_its_rate(rate_bpm: float, fs: float) -> None:
    """Within 0.2 breaths a minute over 60 s, under a drift ten times as large."""
    time_s = np.arange(0, 60, 1 / fs)
    breathing = np.sin(2 * np.pi * rate_bpm / 60 * time_s) + 10 * (time_s / 60) ** 2
    assert sensor_rate_bpm(breathing, fs, DEFAULT) == pytest.approx(rate_bpm, abs=0.2)


@pytest.mark.skipif(not REAL, reason="RPPG_REAL_DATA is not set")
def test_a_real_belt_gives_its_rate() -> None:
    """biosppy_resp at 1000 Hz: 20.75 breaths a minute by its maker's description."""
    values = np.loadtxt(Path(REAL or "") / "signal" / "biosppy_resp.txt")
    breathing = values.reshape(len(values), -1)[:, -1]
    means = breathing[: len(breathing) // 40 * 40].reshape(-1, 40).mean(1)
    assert sensor_rate_bpm(means, 25.0, DEFAULT) == pytest.approx(20.75, abs=0.2)


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_breathing_is_read_from_the_pulse(noise: float) -> None:
    """Intervals, heights and baseline together give the respiration of ten pulses within 0.6 a minute."""
    for seed in range(10):
        wave = long_signal(seed, duration_s=60.0, fs_hz=30.0, noise=noise)
        beats = find_beats(wave.pulse, 30.0, DEFAULT)
        made = pulse_rate_bpm(wave.pulse, 30.0, beats, intervals(beats, DEFAULT), DEFAULT)
        assert made == pytest.approx(60 * wave.rhythm.respiration_hz, abs=0.6), seed


def test_a_recording_too_short_for_breathing_has_no_rate() -> None:
    """Seven seconds hold less than one period of 0.13 Hz."""
    breathing = np.sin(np.arange(210) / 10)
    assert "less than 1 period" in str(sensor_rate_bpm(breathing, 30.0, DEFAULT))
