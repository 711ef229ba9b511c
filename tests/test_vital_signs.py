"""Vital signs beyond the heart rate: beats, variability, respiration, and their tables."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import signal as ss

from evaluation import vital_presets
from evaluation.beats import Beats, find_beats, intervals
from evaluation.respiration import pulse_rate_bpm, sensor_rate_bpm
from evaluation.variability import ibi_mae_4hz, lomb_scargle, measures
from evaluation.vital_presets import PRESETS, VitalSettings
from evaluation.vital_signs import QUANTITIES, agreement, attach, by_part, vital_signs
from evaluation.vital_waveforms import measure
from evaluation.waveforms import RecordingWaveform
from preprocessing.synthetic import LongSignal, long_signal
from utils.errors import UserError

DEFAULT = PRESETS["default"]
AS_PUBLISHED = PRESETS["contrastphys"]
REAL = os.environ.get("RPPG_REAL_DATA")


def at_30(seed: int, noise: float = 0.0, duration_s: float = 60.0, **rhythm: float) -> LongSignal:
    """A pulse as a camera sees it; without amplitude modulation its maxima are where the truth says."""
    return long_signal(seed, duration_s=duration_s, fs_hz=30.0, noise=noise, **{"depth": 0.0, **rhythm})


def errors_ms(found_s: np.ndarray, true_s: np.ndarray) -> np.ndarray:
    """Distance of every found beat from the nearest true one."""
    return 1000 * (found_s - true_s[np.abs(found_s[:, None] - true_s[None]).argmin(1)])


def of_beats(time_s: np.ndarray, settings: VitalSettings = AS_PUBLISHED) -> dict[str, Any]:
    return measures(intervals(Beats(np.asarray(time_s, dtype=np.float64), 1000.0), settings), settings)


def recording(index: int, wave: LongSignal, predictions: dict, **more: Any) -> RecordingWaveform:
    return RecordingWaveform(
        key=f"set.s{index}", subject=f"s{index}", dataset="set", fps=30.0, time_s=wave.time_s,
        label=more.pop("label", wave.pulse), predictions=predictions, **more,
    )


# --- beats ---------------------------------------------------------------------------------------


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


# --- intervals and their variability -------------------------------------------------------------


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


@pytest.mark.skipif(not REAL, reason="RPPG_REAL_DATA is not set")
def test_a_fast_contact_pulse_is_followed_where_fixed_windows_fail() -> None:
    """PLETH of a103l (126 bpm): the tracked beats give 124 bpm or more; 667 ms windows lose some of them."""
    wave = np.fromfile(Path(REAL or "") / "signal" / "a103l.mat", dtype="<i2", offset=24)
    pulse = wave[: len(wave) // 3 * 3].reshape(-1, 3)[:, 2].astype(float)
    tracked, fixed = (len(find_beats(pulse, 250.0, preset).time_s) for preset in (DEFAULT, AS_PUBLISHED))
    assert tracked / 330 * 60 > 122 and fixed < tracked


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


# --- respiration ---------------------------------------------------------------------------------


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


# --- over recordings -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scored() -> dict[str, Any]:
    """Four recordings: a good method, one that fails on the third and is missing in the fourth."""
    waves = [at_30(seed, depth=0.1) for seed in range(4)]
    rng = np.random.default_rng(0)
    good = [wave.pulse + 0.05 * rng.standard_normal(len(wave.pulse)) for wave in waves]
    poor = [good[0], good[1], np.full(len(waves[2].pulse), np.nan)]
    recordings = [recording(i, wave, {"good": good[i], **({"poor": poor[i]} if i < 3 else {})})
                  for i, wave in enumerate(waves)]
    return vital_signs(recordings, missing=["set.s2", "set.s9"])


def test_the_result_is_json_with_every_setting(scored: dict[str, Any]) -> None:
    """It can be written, and holds every field of the settings."""
    again = json.loads(json.dumps(scored, allow_nan=False))
    assert set(again["settings"]) == {field.name for field in dataclasses.fields(VitalSettings)}
    assert [row["method"] for row in again["rows"]] == ["good", "poor"]
    assert set(QUANTITIES) <= set(again["rows"][0])


def test_statistics_are_those_of_the_recordings_listed(scored: dict[str, Any]) -> None:
    """ME, SD, RMSE, MAE and r of a row follow from per_recording by their definitions."""
    lines = scored["per_recording"]
    for name in QUANTITIES[:-1]:
        truth = np.array([line[name] for line in lines if line["method"] == "reference"])
        error = np.array([line[name] for line in lines if line["method"] == "good"]) - truth
        cell = scored["rows"][0][name]
        assert cell["n"] == 4 and cell["n_failed"] == 0
        assert cell["me"] == pytest.approx(error.mean()) and cell["sd"] == pytest.approx(error.std())
        assert cell["mae"] == pytest.approx(np.abs(error).mean())
        assert cell["rmse"] ** 2 == pytest.approx(cell["me"] ** 2 + cell["sd"] ** 2)
        assert cell["pearson_r"] == pytest.approx(np.corrcoef(truth + error, truth)[0, 1])


def test_lf_and_hf_columns_are_equal(scored: dict[str, Any]) -> None:
    """SD, RMSE and r of LF n.u. and HF n.u. are the same, and ME has the other sign."""
    low, high = scored["rows"][0]["lf_nu"], scored["rows"][0]["hf_nu"]
    for name in ("sd", "rmse", "mae", "pearson_r"):
        assert low[name] == pytest.approx(high[name], abs=1e-12)
    assert low["me"] == pytest.approx(-high["me"], abs=1e-12)


def test_a_failed_or_missing_prediction_is_counted(scored: dict[str, Any]) -> None:
    """NaN and absence are failures of that method with a reason, and no statistic of two is an r."""
    cell = scored["rows"][1]["sdnn_ms"]
    assert (cell["n"], cell["n_failed"], cell["pearson_r"]) == (2, 2, None)
    assert "3 recordings" in cell["reason"]
    reasons = {line["recording"]: line["reasons"]["sdnn_ms"] for line in scored["per_recording"]
               if line["method"] == "poor" and line["reasons"]}
    assert "not finite" in reasons["set.s2"] and reasons["set.s3"] == "no waveform by this method"


def test_a_recording_that_should_be_there_is_missing_by_name(scored: dict[str, Any]) -> None:
    """Only those without a waveform are missing."""
    assert scored["n_recordings"] == 4 and scored["n_missing"] == 1
    assert scored["missing_reasons"] == {"set.s9": "failed before it could be predicted"}


def test_the_interval_error_is_a_mean_of_magnitudes(scored: dict[str, Any]) -> None:
    """ibi_mae_4hz has a mean and a spread, and says why it has nothing else."""
    cell = scored["rows"][0]["ibi_mae_4hz"]
    values = [line["ibi_mae_4hz"] for line in scored["per_recording"] if line["method"] == "good"]
    assert cell["mae"] == pytest.approx(np.mean(values)) and 0 < cell["mae"] < 20
    assert cell["me"] is None and cell["pearson_r"] is None and "no sign" in cell["reason"]


def test_a_perfect_prediction_has_no_error() -> None:
    """The label as its own prediction is right in everything."""
    waves = [at_30(seed) for seed in range(3)]
    row = vital_signs([recording(i, w, {"net": w.pulse}) for i, w in enumerate(waves)])["rows"][0]
    for name in QUANTITIES:
        assert row[name]["mae"] == pytest.approx(0.0, abs=1e-9)
    assert row["sdnn_ms"]["pearson_r"] == pytest.approx(1.0)


@pytest.mark.parametrize(("duration_s", "warned"), [(59.0, True), (61.0, False)])
def test_less_than_a_minute_is_warned_of(duration_s: float, warned: bool) -> None:
    """Below 60 s the result says that LF cannot be resolved."""
    wave = at_30(1, duration_s=duration_s)
    warnings = vital_signs([recording(0, wave, {"net": wave.pulse})])["warnings"]
    assert any("LF (0.04-0.15 Hz) cannot be resolved" in text for text in warnings) == warned


def test_many_dropped_intervals_are_warned_of() -> None:
    """A method whose beats had to be cleaned is named, as its variability flatters it."""
    wave = at_30(1, noise=0.8)
    warnings = vital_signs([recording(0, at_30(1), {"net": wave.pulse})])["warnings"]
    assert any(text.startswith("net: ") and "dropped as outliers" in text for text in warnings)


def test_respiration_is_compared_with_the_sensor_where_there_is_one() -> None:
    """The sensor's rate is the reference; mains hum at 500 samples a second does not fold into the band."""
    wave = at_30(1, depth=0.1)
    time_s = np.arange(0, 60, 1 / 500)
    sensor = np.sin(2 * np.pi * 0.4 * time_s) + 3 * np.sin(2 * np.pi * 60.2 * time_s)
    found = vital_signs([recording(0, wave, {"net": wave.pulse}, resp=sensor, resp_time_s=time_s),
                         recording(1, wave, {"net": wave.pulse})])
    truth = [line["resp_bpm"] for line in found["per_recording"] if line["method"] == "reference"]
    assert truth[0] == pytest.approx(24.0, abs=0.2)
    assert truth[1] == pytest.approx(60 * wave.rhythm.respiration_hz, abs=0.5)
    assert found["references"]["resp_bpm"] == {"label": 1, "sensor": 1}


def test_a_sensor_that_stops_gives_no_reference() -> None:
    """A belt over half of the recording is not compared with, and the reason says so."""
    wave = at_30(1)
    time_s = np.arange(0, 30, 1 / 50)
    line = vital_signs([recording(0, wave, {"net": wave.pulse}, resp=np.sin(time_s), resp_time_s=time_s)]
                       )["per_recording"][0]
    assert line["resp_bpm"] is None and "covers 50 % of the recording" in line["reasons"]["resp_bpm"]


def test_a_label_with_holes_is_no_reference_and_short_ones_are_bridged() -> None:
    """Two per cent of unknown samples are interpolated; with a tenth the recording is missing, with why."""
    wave = at_30(1)
    label = wave.pulse.copy()
    label[300:320] = np.nan
    found = vital_signs([recording(0, wave, {"net": wave.pulse}, label=label)])
    assert found["n_missing"] == 0
    label[300:500] = np.nan
    assert vital_signs([recording(0, wave, {"net": wave.pulse}, label=label)])["missing_reasons"] == {
        "set.s0": "11 % of the label are unknown"}


def test_every_part_has_its_own_vital_signs() -> None:
    """They are attached to the main part and to the others; a part without any reference has none."""
    wave = at_30(1)
    blind = np.full(len(wave.pulse), np.nan)
    made = by_part([
        recording(0, wave, {"net": wave.pulse}), recording(1, wave, {"net": wave.pulse}, part="hard"),
        recording(2, wave, {"net": wave.pulse}, part="control", label=blind),
    ], missing={"hard": ["set.s7", "set.s1"]})
    metrics: dict[str, Any] = {"parts": {"hard": {}, "control": {}}}
    attach(metrics, made)
    assert metrics["vital_signs"]["n_recordings"] == 1
    assert list(metrics["parts"]["hard"]["vital_signs"]["missing_reasons"]) == ["set.s7"]
    assert metrics["parts"]["control"] == {}


def test_agreement_of_five_pairs_by_hand() -> None:
    """Errors 1, -1, 2, 0, 3: ME 1, SD sqrt 2, RMSE sqrt 3, MAE 1.4."""
    found = agreement([11.0, 19.0, 32.0, 40.0, 53.0], [10.0, 20.0, 30.0, 40.0, 50.0])
    assert found["me"] == 1.0 and found["mae"] == pytest.approx(1.4)
    assert found["sd"] == pytest.approx(2**0.5) and found["rmse"] == pytest.approx(3**0.5)
    assert found["pearson_r"] == pytest.approx(1050 / 1110000**0.5)
    assert agreement([1.0, 2.0, 3.0], [5.0, 5.0, 5.0])["pearson_r"] is None
    assert agreement([], [])["mae"] is None


def test_an_unknown_preset_names_the_known_ones() -> None:
    """The message has a suggestion."""
    with pytest.raises(UserError, match=r"contrastfys.*did you mean.*contrastphys.*known"):
        vital_presets.get("contrastfys")


@pytest.mark.slow
def test_42_recordings_of_a_minute_and_four_methods_take_two_seconds() -> None:
    """Vital signs are as quick as they must be to be computed with every evaluation."""
    import time

    waves = [at_30(seed, 0.05) for seed in range(42)]
    recordings = [recording(i, w, {f"m{k}": w.pulse for k in range(4)}) for i, w in enumerate(waves)]
    start = time.process_time()
    vital_signs(recordings)
    assert time.process_time() - start < 4.0  # twice of what a core needs
