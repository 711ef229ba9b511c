"""R peaks and the heart rate between them, on made and on real ECGs."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat
from scipy.signal import find_peaks

from preprocessing.ecg import r_peaks, rate_over_time
from preprocessing.synthetic.layouts import make_take
from utils.signal import bandpass

SECONDS = 40.0


def real(name: str) -> Path:
    """A file of the shared signals, or a skip with the reason."""
    folder = os.environ.get("RPPG_REAL_DATA")
    if not folder or not (Path(folder) / "signal" / name).is_file():
        pytest.skip(f"RPPG_REAL_DATA does not lead to signal/{name}")
    return Path(folder) / "signal" / name


def made(fs: float, noise: float = 0.0, gain: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """An ECG with baseline wander, and its true R peaks."""
    take = make_take(0, 1, seconds=SECONDS)
    time_s = np.arange(0, SECONDS, 1 / fs)
    grain = np.random.default_rng(1).standard_normal(len(time_s))
    ecg = gain * (take.ecg(time_s) + noise * grain + 0.5 * np.sin(2 * np.pi * 0.3 * time_s))
    return ecg, take.r_peak_time_s[take.r_peak_time_s > 0.1]


def mean_bpm(peaks: np.ndarray) -> float:
    return 60 * (len(peaks) - 1) / float(peaks[-1] - peaks[0])


@pytest.mark.parametrize("fs", [100.0, 125.0, 256.0, 1000.0])
@pytest.mark.parametrize("gain", [1.0, -1.0, 3e-4])
def test_every_beat_is_found_once(fs: float, gain: float) -> None:
    """All known R peaks, none more, within 2 ms; whatever the rate, the unit and the polarity."""
    ecg, true = made(fs, gain=gain)
    found = r_peaks(ecg, fs)
    assert len(found) == len(true)
    assert np.abs(found - true).max() < 0.002


def test_noise_moves_no_beat_far() -> None:
    """With noise of a tenth of the R peak, beats are found within 5 ms."""
    ecg, true = made(256.0, noise=0.1)
    found = r_peaks(ecg, 256.0)
    assert len(found) == len(true)
    assert np.abs(found - true).max() < 0.005


def test_a_weak_beat_is_searched_back() -> None:
    """One beat of half the height is found, because an interval without it would be too long."""
    ecg, true = made(256.0)
    near = np.abs(np.arange(len(ecg)) / 256.0 - true[20]) < 0.12
    ecg[near] = np.interp(np.flatnonzero(near), *ends(ecg, near)) * 0.55 + ecg[near] * 0.45
    found = r_peaks(ecg, 256.0)
    assert np.abs(found - true[20]).min() < 0.01
    assert len(found) == len(true)


def ends(ecg: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    edges = np.flatnonzero(inside)[[0, -1]]
    return edges, ecg[edges]


def test_nothing_gives_nothing() -> None:
    """A flat line, one too short and one of NaN hold no beat."""
    for ecg in (np.zeros(5000), np.ones(20), np.full(5000, np.nan)):
        assert len(r_peaks(ecg, 256.0)) == 0


def test_gaps_are_bridged() -> None:
    """Missing samples cost the beats within them and no others."""
    ecg, true = made(256.0)
    hole = slice(int(10.0 * 256), int(10.3 * 256))
    ecg[hole] = np.nan
    found = r_peaks(ecg, 256.0)
    kept = true[(true < 9.9) | (true > 10.4)]
    assert np.abs(found[:, None] - kept).min(axis=0).max() < 0.003


def test_too_few_samples_are_refused() -> None:
    """At the rate of a video an ECG has no R peaks: an error, not a number."""
    with pytest.raises(ValueError, match="at least 60 samples a second"):
        r_peaks(np.zeros(500), 30.0)


def test_the_rate_is_beats_over_time() -> None:
    """The mean of the rate over time is the number of beats over their duration, not the mean of rates."""
    peaks = np.array([0.0, 1.0, 1.8, 3.0])
    at_s = np.arange(0, 3, 0.001)
    rate = rate_over_time(peaks, at_s)
    assert rate[at_s < 0.999] == pytest.approx(60.0)
    assert rate[(at_s > 1.001) & (at_s < 1.799)] == pytest.approx(75.0)
    assert 60 / np.mean(60 / rate[np.isfinite(rate)]) != pytest.approx(60.0)
    assert np.mean(rate / 60) == pytest.approx(1.0, abs=1e-3)


def test_the_rate_is_unknown_outside_and_at_missed_beats() -> None:
    """Before the first and after the last peak, and in an interval twice as long as others, it is NaN."""
    peaks = np.delete(np.arange(0.0, 20.0, 0.8), 12)
    rate = rate_over_time(peaks, np.array([-0.1, 0.4, 9.0, 9.9, 10.5, 19.9]))
    assert np.isnan(rate).tolist() == [True, False, True, True, False, True]
    assert np.isnan(rate_over_time(np.array([1.0]), np.array([1.0]))).all()


def test_a_real_ecg_at_rest() -> None:
    """BioSPPy's 15 s at 1 kHz: 15 regular beats at 60.5 bpm."""
    ecg = np.loadtxt(real("biosppy_ecg.txt"), comments="#")
    peaks = r_peaks(ecg, 1000.0)
    assert len(peaks) == 15
    assert mean_bpm(peaks) == pytest.approx(60.5, abs=0.2)
    assert np.diff(peaks).min() > 0.9 and np.diff(peaks).max() < 1.06


def test_a_real_ecg_agrees_with_its_pleth() -> None:
    """Two leads of one patient (126 bpm) agree within 0.1 bpm, and with the finger pulse within 1.5 bpm."""
    lead, other, pleth = loadmat(real("a103l.mat"))["val"][:, : 250 * 250].astype(float)
    beats, _ = find_peaks(bandpass(pleth, 250.0, 0.7, 4.0), distance=80)
    rates = [mean_bpm(r_peaks(x, 250.0)) for x in (lead, other)]
    assert np.ptp(rates) < 0.1
    assert rates[0] == pytest.approx(mean_bpm(beats / 250), abs=1.5)


def test_real_leads_agree() -> None:
    """Two leads of a patient (103 bpm), whose tall QRS wraps around at 12 bits, agree within 0.5 bpm."""
    packed = np.fromfile(real("v102s.dat"), dtype=np.uint8).astype(int).reshape(-1, 3)
    pairs = np.stack([packed[:, 0] | (packed[:, 1] & 15) << 8, packed[:, 2] | (packed[:, 1] >> 4) << 8], 1)
    samples = np.where(pairs > 2047, pairs - 4096, pairs).reshape(-1, 4)
    rates = []
    for lead in range(2):
        peaks = r_peaks(np.unwrap(samples[:, lead].astype(float), period=4096), 250.0)
        rates.append(float(np.nanmean(rate_over_time(peaks, np.arange(1, 299, 0.25)))))
    assert np.ptp(rates) < 0.5
    assert rates[0] == pytest.approx(103.5, abs=1.0)
