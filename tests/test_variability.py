"""Variability is that of the true beats and of neurokit and astropy, or null with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.beats import Beats, find_beats, intervals
from evaluation.variability import ibi_mae_4hz, lomb_scargle, measures
from evaluation.vital_presets import VitalSettings
from evaluation.vital_waveforms import measure
from preprocessing.synthetic import long_signal
from tests.vital_toys import AS_PUBLISHED, DEFAULT, REAL, at_30


def of_beats(time_s: np.ndarray, settings: VitalSettings = AS_PUBLISHED) -> dict[str, Any]:
    """The variability of beats at given times, exact to a millisecond."""
    return measures(intervals(Beats(np.asarray(time_s, dtype=np.float64), 1000.0), settings), settings)


def test_outliers_are_dropped_only_where_it_is_asked_for() -> None:
    """A missed beat and a doubled one are dropped by default, and kept by the published presets."""
    beats = np.delete(np.arange(0, 60, 0.8), 20)
    beats = np.sort(np.append(beats, 30.0))
    dropped = intervals(Beats(beats, 30.0), DEFAULT)
    assert dropped.n_dropped == 3 and np.allclose(dropped.ibi_s[dropped.kept], 0.8)
    assert intervals(Beats(beats, 30.0), AS_PUBLISHED).n_dropped == 0


def test_rmssd_steps_over_dropped_intervals() -> None:
    """Only differences of neighbours count: intervals on either side of a gap are none."""
    beats = np.concatenate([np.arange(10) * 0.8, 9.0 + np.arange(10) * 0.88])
    made = of_beats(beats, DEFAULT)
    assert made["rmssd_ms"] == pytest.approx(0.0, abs=1e-6)
    assert made["sdnn_ms"] == pytest.approx(np.std([800.0] * 9 + [880.0] * 9, ddof=1))


# Reference values of the beats (rounded to 1 ms) of long_signal(seed): neurokit2 0.2.13 hrv_time, and LF n.u.
# by its hrv_frequency(psd_method="lomb", interpolation_rate=None); LF and HF in ms^2 by astropy 8.0.2
# LombScargle (normalization "psd", times 2 T / n, T = span n / (n - 1)) on the frequencies k / (5 T).
REFERENCE = {
    11: (300.0, 34.735595, 35.306883, 0.77142, 907.171044, 268.793409),
    12: (300.0, 21.250180, 20.273823, 0.19792, 85.946238, 348.223029),
    13: (60.0, 32.103364, 39.053014, 0.38214, 381.031392, 595.889027),
    14: (120.0, 27.151739, 23.823985, 0.62770, 446.927160, 265.072389),
}


@pytest.mark.parametrize("seed", REFERENCE)
def test_variability_of_given_beats_is_that_of_neurokit_and_astropy(seed: int) -> None:
    """SDNN and RMSSD to 1e-5 ms, LF and HF to 1e-6 of themselves; LF n.u. to 0.01 (another grid)."""
    duration_s, sdnn, rmssd, lf_nu, lf, hf = REFERENCE[seed]
    made = of_beats(np.rint(1000 * long_signal(seed, duration_s=duration_s, fs_hz=100.0).peak_time_s) / 1000)
    assert made["sdnn_ms"] == pytest.approx(sdnn, abs=1e-5)
    assert made["rmssd_ms"] == pytest.approx(rmssd, abs=1e-5)
    assert made["lf_ms2"] == pytest.approx(lf, rel=1e-6) and made["hf_ms2"] == pytest.approx(hf, rel=1e-6)
    assert made["lf_nu"] == pytest.approx(lf_nu, abs=0.01)


# Beats found by neurokit2 0.2.13: ppg_clean and ppg_findpeaks, method "elgendi", at 100 samples a second:
# their number, SDNN and RMSSD.
DETECTED = {11: (300.0, 0.0, 284, 32.722, 30.177), 12: (300.0, 0.02, 396, 20.769, 20.790),
            13: (60.0, 0.0, 60, 30.009, 35.864), 14: (120.0, 0.02, 159, 26.742, 23.432)}


@pytest.mark.parametrize("seed", DETECTED)
def test_the_contrastphys_preset_finds_the_beats_of_neurokit(seed: int) -> None:
    """As many beats up to one at the ends; SDNN and RMSSD within 2 %."""
    duration_s, noise, n_beats, sdnn, rmssd = DETECTED[seed]
    wave = long_signal(seed, duration_s=duration_s, fs_hz=100.0, noise=noise)
    beats = find_beats(wave.pulse, 100.0, AS_PUBLISHED)
    made = measures(intervals(beats, AS_PUBLISHED), AS_PUBLISHED)
    assert abs(len(beats.time_s) - n_beats) <= 1
    assert made["sdnn_ms"] == pytest.approx(sdnn, rel=0.02)
    assert made["rmssd_ms"] == pytest.approx(rmssd, rel=0.02)


@pytest.mark.skipif(not REAL, reason="RPPG_REAL_DATA is not set")
@pytest.mark.parametrize(("name", "n_beats", "sdnn", "rmssd"), [
    ("plux", 120, 69.889, 59.722), ("biosppy", 31, 27.588, 23.236),
])
def test_contact_signals_have_the_variability_of_neurokit(
    name: str, n_beats: int, sdnn: float, rmssd: float
) -> None:
    """Finger pulses of two makers at 1000 Hz: values of neurokit2 0.2.13 (elgendi) within 3 %, both presets.

    The default low-passes more, so SDNN of the 20 s one is 3 ms lower.
    """
    for preset in (AS_PUBLISHED, DEFAULT):
        made = measure(contact(name), 1000.0, preset)
        assert abs(made.n_beats - n_beats) <= 1
        assert made.values["sdnn_ms"] == pytest.approx(sdnn, abs=max(0.03 * sdnn, 3.2))
        assert made.values["rmssd_ms"] == pytest.approx(rmssd, rel=0.03)


def contact(name: str) -> np.ndarray:
    """A real contact pulse at 1000 Hz."""
    folder = Path(REAL or "") / "signal"
    if name == "plux":
        import h5py

        with h5py.File(folder / "plux_bvp_rest_1000hz.h5") as file:
            device = next(iter(file))
            return np.asarray(file[device]["raw/channel_1"], dtype=np.float64).ravel()
    values = np.loadtxt(folder / "biosppy_ppg.txt")
    return values.reshape(len(values), -1)[:, -1]


@pytest.mark.parametrize("seed", range(4))
def test_spectral_powers_are_those_put_in(seed: int) -> None:
    """Over five minutes LF, HF and the respiration frequency of the beats are those of the rate's modulation.

    A modulation of depth d at f has the power (d T sinc(f T))^2 / 2 in intervals of mean length T, as an
    interval is the rate's mean over it.
    """
    wave = long_signal(seed, fs_hz=30.0, depth=0.0, wander=0.0)
    rhythm, made = wave.rhythm, of_beats(wave.peak_time_s)
    period_s = 60 / rhythm.rate_bpm

    def power(depth: float, hz: float) -> float:
        return float((1000 * period_s * depth * np.sinc(hz * period_s)) ** 2 / 2)

    assert made["lf_ms2"] == pytest.approx(power(rhythm.lf, rhythm.lf_hz), rel=0.1)
    assert made["hf_ms2"] == pytest.approx(power(rhythm.rsa, rhythm.respiration_hz), rel=0.1)
    assert made["rf_hz"] == pytest.approx(rhythm.respiration_hz, abs=0.002)


@pytest.mark.parametrize(("noise", "sdnn_ms", "rmssd_ms", "lf_nu", "rf_hz"), [
    (0.0, 1.5, 2.0, 0.04, 0.002), (0.05, 3.0, 6.0, 0.06, 0.003), (0.1, 6.0, 18.0, 0.12, 0.004),
])
def test_variability_of_a_minute_at_30_frames_is_that_of_its_true_beats(
    noise: float, sdnn_ms: float, rmssd_ms: float, lf_nu: float, rf_hz: float
) -> None:
    """The largest errors over eight pulses stay below what is stated for each level of noise."""
    limits = {"sdnn_ms": sdnn_ms, "rmssd_ms": rmssd_ms, "lf_nu": lf_nu, "rf_hz": rf_hz}
    for seed in range(8):
        wave = at_30(seed, noise)
        found = intervals(find_beats(wave.pulse, 30.0, DEFAULT), DEFAULT)
        inside = wave.peak_time_s[(wave.peak_time_s > 0.29) & (wave.peak_time_s < wave.time_s[-1] - 0.29)]
        made, true = measures(found, DEFAULT), of_beats(inside, DEFAULT)
        for name, limit in limits.items():
            assert abs(made[name] - true[name]) < limit, (seed, name)


def test_the_periodogram_of_a_sinusoid_has_its_variance() -> None:
    """The density of uneven samples, summed over the peak, is half the squared amplitude."""
    rng = np.random.default_rng(0)
    time_s = np.cumsum(rng.uniform(0.6, 1.1, 400))
    frequency, power = lomb_scargle(time_s, 7 * np.sin(2 * np.pi * 0.23 * time_s) + 900, 0.5, 5.0)
    peak = np.abs(frequency - 0.23) < 0.03
    assert power[peak].sum() * frequency[0] == pytest.approx(24.5, rel=0.05)


def test_lf_and_hf_shares_add_up_to_one() -> None:
    """LF n.u. + HF n.u. = 1 exactly, and LF/HF is their ratio."""
    made = of_beats(at_30(2).peak_time_s)
    assert made["lf_nu"] + made["hf_nu"] == 1.0
    assert made["lf_hf"] == pytest.approx(made["lf_nu"] / made["hf_nu"])


def test_too_short_recordings_have_no_low_frequency() -> None:
    """In 15 s LF is null with the reason; the published presets compute it all the same."""
    pulse = at_30(4, duration_s=15.0).pulse
    made = measure(pulse, 30.0, DEFAULT).values
    assert "period of 0.04 Hz" in made["lf_nu"] and made["lf_nu"] == made["lf_hf"] == made["lf_ms2"]
    assert isinstance(made["rf_hz"], float) and isinstance(made["sdnn_ms"], float)
    assert isinstance(measure(pulse, 30.0, AS_PUBLISHED).values["lf_nu"], float)


@pytest.mark.parametrize(("pulse", "reason"), [
    (np.full(900, np.nan), "900 of 900 samples are not finite"),
    (np.full(900, 3.0), "the waveform is constant"),
    (np.sin(np.arange(60) / 5.0), "too short"),
    (np.sin(2 * np.pi * 0.9 * np.arange(100) / 30), "intervals"),
    (np.random.default_rng(0).standard_normal(1800), "cannot be told from noise"),
])
def test_what_cannot_be_measured_is_null_with_its_reason(pulse: np.ndarray, reason: str) -> None:
    """NaN, a constant, two seconds, three beats and white noise give no number."""
    made = measure(pulse, 30.0, DEFAULT).values
    for name in ("sdnn_ms", "rmssd_ms", "lf_nu", "hf_nu", "lf_hf", "rf_hz"):
        assert isinstance(made[name], str) and reason in made[name]


@pytest.mark.slow
def test_noise_gives_hardly_ever_a_variability() -> None:
    """Of 200 minutes of noise in the band of the pulse at most 2 % pass for beats."""
    from utils.signal import bandpass

    rng = np.random.default_rng(1)
    passed = [isinstance(measure(bandpass(rng.standard_normal(1800), 30.0, 0.7, 3.0), 30.0, DEFAULT)
                         .values["sdnn_ms"], float) for _ in range(200)]
    assert np.mean(passed) <= 0.02


def test_interval_series_are_compared_at_4_hz_over_their_common_time() -> None:
    """Series of constant intervals differ by the difference of the two; without common time there is none."""
    first, second = (intervals(Beats(start + np.arange(0, 30, step), 30.0), DEFAULT)
                     for start, step in ((0.0, 0.8), (5.0, 0.83)))
    assert ibi_mae_4hz(first, second) == pytest.approx(30.0, abs=1e-6)
    late = intervals(Beats(100 + np.arange(0, 30, 0.8), 30.0), DEFAULT)
    assert ibi_mae_4hz(first, late) == "the beats of both have no time in common"
