"""Pulses are told from noise, and quality and rate over time are judged without a label."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation import quality
from evaluation.detection import detect
from tests.waves import FPS
from utils.signal import bandpass


def pulse(seconds: float, rate_bpm: float, rng: np.random.Generator, snr_db: float = 40.0) -> np.ndarray:
    """A pulse with respiratory variability and a harmonic, in band-limited noise of the stated SNR."""
    time_s = np.arange(int(seconds * FPS)) / FPS
    rate_hz = rate_bpm / 60 * (1 + 0.02 * np.sin(2 * np.pi * 0.25 * time_s + rng.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(rate_hz) / FPS + rng.uniform(0, 6)
    clean = np.cos(phase) + 0.25 * np.cos(2 * phase + 1)
    noise = bandpass(rng.standard_normal(len(time_s) + 200), FPS, 0.7, 4.0)[100:-100]
    return clean / clean.std() * 10 ** (snr_db / 20) + noise / noise.std()


# Is there a pulse


def noise(colour: str, rng: np.random.Generator, seconds: float = 15.0) -> np.ndarray:
    """Gaussian noise: white, pink, brown, or the band 0.7-3 Hz."""
    n = int(seconds * FPS)
    frequency = np.fft.rfftfreq(4 * n, 1 / FPS)
    if colour == "band":
        return bandpass(rng.standard_normal(n + 200), FPS, 0.7, 3.0)[100:-100]
    power = {"white": 0.0, "pink": 0.5, "brown": 1.0}[colour]
    draws = rng.standard_normal((2, len(frequency)))
    return np.fft.irfft((draws[0] + 1j * draws[1]) * np.maximum(frequency, 0.05) ** -power)[:n]


COLOURS = ("white", "pink", "brown", "band")


def found_in(waves: list[np.ndarray]) -> int:
    return sum(detect(wave, np.arange(len(wave)) / FPS, seed=i).found for i, wave in enumerate(waves))


def test_noise_is_rarely_taken_for_a_pulse() -> None:
    """Of 100 noises of 15 s and of four colours, 5 or fewer are called a pulse (2 % expected)."""
    rng = np.random.default_rng(1)
    assert found_in([noise(colour, rng) for colour in COLOURS for _ in range(25)]) <= 5


def test_clear_pulses_are_found() -> None:
    """Of 30 pulses of 15 s, 2 dB above the noise of the band, 28 or more are found."""
    rng = np.random.default_rng(2)
    assert found_in([pulse(15, rng.uniform(48, 130), rng, 2.0) for _ in range(30)]) >= 28


@pytest.mark.slow
@pytest.mark.parametrize("colour", COLOURS)
def test_false_alarm_rate(colour: str) -> None:
    """At most 3 % of 500 noises of each colour are called a pulse."""
    rng = np.random.default_rng(3)
    assert found_in([noise(colour, rng) for _ in range(500)]) <= 15


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "snr_db"), [(15, 1.0), (30, -1.0)])
def test_detection_rate(seconds: float, snr_db: float) -> None:
    """At least 95 % of 200 pulses are found: from 1 dB on in 15 s, from -1 dB on in 30 s."""
    rng = np.random.default_rng(4)
    assert found_in([pulse(seconds, rng.uniform(48, 130), rng, snr_db) for _ in range(200)]) >= 190


def test_detection_is_a_function_of_its_seed() -> None:
    """The same waveform and seed give the same p-value, another seed another draw."""
    rng = np.random.default_rng(2)
    wave, time_s = pulse(15, 70, rng, -3.0), np.arange(450) / FPS
    assert detect(wave, time_s, seed=3) == detect(wave, time_s, seed=3)
    assert detect(wave, time_s, seed=3) != detect(wave, time_s, seed=4)


@pytest.mark.parametrize("bad", [np.full(450, np.nan), np.ones(450)])
def test_nothing_is_found_in_nothing(bad: np.ndarray) -> None:
    """NaN and constant waveforms have no pulse, no numbers, and a reason."""
    found = detect(bad, np.arange(450) / FPS)
    assert not found.found and found.p_value is None and found.reason


# Quality and rate over time


def test_rate_over_time_follows_a_change() -> None:
    """A rate that climbs from 60 to 90 bpm in a minute is followed within 3 bpm, in windows of 10 s."""
    time_s = np.arange(1800) / FPS
    rate_hz = np.linspace(1.0, 1.5, 1800)
    rows = quality.heart_rate_over_time(np.sin(2 * np.pi * np.cumsum(rate_hz) / FPS), time_s)
    assert len(rows) == 51
    for centre, rate, snr in rows:
        assert rate == pytest.approx(60 + 30 * centre / 60, abs=3) and snr > 0


def test_short_recording_is_one_window() -> None:
    """Six seconds give one rate, not none."""
    time_s = np.arange(180) / FPS
    assert len(quality.heart_rate_over_time(np.sin(2 * np.pi * 1.3 * time_s), time_s)) == 1


@pytest.mark.parametrize(("n", "fps"), [(10, 30.0), (100, 2.0)])
def test_quality_of_what_is_too_little(n: int, fps: float) -> None:
    """Too few frames, or too few a second, give no quality and no rate, and no error."""
    wave, time_s = np.sin(np.arange(n)), np.arange(n) / fps
    judged = quality.assess(wave, time_s)
    assert judged.value == 0 and judged.heart_rate_bpm is None and judged.warnings
    assert len(quality.heart_rate_over_time(wave, time_s)) <= 1


def test_quality_separates_pulse_from_noise() -> None:
    """Clear pulses of 20 s score over 0.7 and noise under 0.3, each in at least 19 of 20 cases."""
    rng = np.random.default_rng(5)
    time_s = np.arange(600) / FPS
    good = [quality.assess(pulse(20, rng.uniform(50, 130), rng, 6.0), time_s).value for _ in range(20)]
    bad = [quality.assess(noise("pink", rng, 20), time_s).value for _ in range(20)]
    assert sum(value > 0.7 for value in good) >= 19 and sum(value < 0.3 for value in bad) >= 19


def test_quality_without_a_face_is_low() -> None:
    """The clearest waveform is worth nothing when no face was seen, and less when regions disagree."""
    rng = np.random.default_rng(6)
    wave, time_s = pulse(20, 80, rng, 10.0), np.arange(600) / FPS
    alone = quality.assess(wave, time_s).value
    assert quality.assess(wave, time_s, face_share=0.0).value == 0
    disagreeing = [pulse(20, rate, rng, 10.0) for rate in (60, 100, 120)]
    assert quality.assess(wave, time_s, others=disagreeing).value < 0.5 < 0.7 < alone
