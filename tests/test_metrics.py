"""Rates and metrics against hand calculations, known sinusoids and slow independent versions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal as ss

from evaluation import bootstrap, metrics
from evaluation.heart_rate import estimate, windows
from evaluation.presets import build
from evaluation.protocols import score
from evaluation.waveforms import RecordingWaveform

# Five rates by hand: errors +2, -1, 0, +4, -5.
REFERENCE = np.array([60.0, 70.0, 80.0, 90.0, 100.0])
PREDICTED = np.array([62.0, 69.0, 80.0, 94.0, 95.0])


def five_rows(**columns: np.ndarray) -> dict[str, float]:
    none = np.full(5, np.nan)
    sums = metrics.unit_sums(
        columns.get("predicted", PREDICTED), columns.get("reference", REFERENCE),
        columns.get("snr_db", none), columns.get("macc", none),
    )
    return {name: float(value) for name, value in metrics.from_sums(sums.sum(axis=0)).items()}


@pytest.mark.parametrize(("name", "by_hand"), [
    ("mae_bpm", (2 + 1 + 0 + 4 + 5) / 5),
    ("me_bpm", 0.0),
    ("rmse_bpm", (46 / 5) ** 0.5),
    ("sd_bpm", (46 / 5) ** 0.5),
    ("mape_percent", 100 * (2 / 60 + 1 / 70 + 0 + 4 / 90 + 5 / 100) / 5),
    ("pearson_r", 910 / (1000 * 866) ** 0.5),
])
def test_five_rows_by_hand(name: str, by_hand: float) -> None:
    """Every agreement metric of five rows equals the value calculated by hand."""
    assert five_rows()[name] == pytest.approx(by_hand, rel=1e-12)


def test_sample_deviation_is_an_option() -> None:
    """With ddof 1 the SD is larger by sqrt(n / (n - 1)) and nothing else changes."""
    sums = metrics.unit_sums(PREDICTED, REFERENCE, np.full(5, np.nan), np.full(5, np.nan)).sum(axis=0)
    population, sample = metrics.from_sums(sums, 0), metrics.from_sums(sums, 1)
    assert float(sample["sd_bpm"]) == pytest.approx(float(population["sd_bpm"]) * (5 / 4) ** 0.5)
    assert float(sample["rmse_bpm"]) == float(population["rmse_bpm"])


def test_identity_of_rmse_mean_and_deviation() -> None:
    """RMSE^2 = ME^2 + SD^2 for any rates, with ddof 0."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        found = five_rows(predicted=rng.uniform(40, 180, 5), reference=rng.uniform(40, 180, 5))
        assert found["rmse_bpm"] ** 2 == pytest.approx(found["me_bpm"] ** 2 + found["sd_bpm"] ** 2, rel=1e-9)


def test_pearson_of_constant_predictions_does_not_exist() -> None:
    """A method that always says the same rate has no r, not an r of 0."""
    assert np.isnan(five_rows(predicted=np.full(5, 77.7))["pearson_r"])


def test_two_units_have_no_pearson() -> None:
    """r of two units would be +-1 whatever they are, so it does not exist; neither has one unit an SD."""
    none = np.full(2, np.nan)
    sums = metrics.unit_sums(PREDICTED[:2], REFERENCE[:2], none, none)
    two, one = metrics.from_sums(sums.sum(axis=0)), metrics.from_sums(sums[0])
    assert np.isnan(two["pearson_r"]) and np.isfinite(two["sd_bpm"])
    assert np.isnan(one["sd_bpm"]) and np.isfinite(one["rmse_bpm"])


def test_failed_units_are_in_no_mean() -> None:
    """A NaN prediction changes no mean of the others, and SNR has a count of its own."""
    predicted = PREDICTED.copy()
    predicted[4] = np.nan
    found = five_rows(predicted=predicted, snr_db=np.array([1.0, 3.0, np.nan, 5.0, 99.0]))
    assert found["mae_bpm"] == pytest.approx(7 / 4)
    assert found["snr_db"] == pytest.approx(3.0)


@pytest.mark.parametrize("rate", [48.0, 55.3, 63.1, 71.77, 90.0, 118.4, 140.2, 171.9, 200.0])
@pytest.mark.parametrize("fps", [20.0, 29.97, 61.0])
def test_rate_of_a_sinusoid_is_finer_than_a_bin(rate: float, fps: float) -> None:
    """Fifteen seconds of a sinusoid: the default protocol is right within 0.1 bpm, in any phase."""
    time_s = np.arange(int(15 * fps)) / fps
    phases = np.arange(8)[:, None] * np.pi / 4
    found = estimate(np.sin(2 * np.pi * rate / 60 * time_s + phases), fps, build("default"))
    assert np.abs(found.rate_bpm - rate).max() < 0.1


def test_toolbox_rates_fall_into_power_of_two_bins() -> None:
    """Ten seconds at 30 fps under the toolbox: 512 points, so 72 bpm is reported as 70.3125."""
    time_s = np.arange(300) / 30
    found = estimate(np.sin(2 * np.pi * 1.2 * time_s)[None], 30.0, build("toolbox"))
    assert found.rate_bpm[0] == pytest.approx(20 * 30 / 512 * 60)


@pytest.mark.parametrize(("bad", "words"), [
    (np.full(300, 3.0), "constant"),
    (np.full(300, np.nan), "not finite"),
    (np.r_[np.sin(np.arange(299)), np.inf], "1 of 300 samples are not finite"),
    (np.arange(300.0), "nothing is left"),
])
def test_what_is_no_pulse_has_no_rate(bad: np.ndarray, words: str) -> None:
    """Constant, NaN, infinite and straight waveforms get NaN and a reason; their neighbour is scored."""
    good = np.sin(2 * np.pi * 1.5 * np.arange(300) / 30)
    found = estimate(np.stack([bad, good]), 30.0, build("default"))
    assert np.isnan(found.rate_bpm[0]) and words in found.failed[0]
    assert found.rate_bpm[1] == pytest.approx(90, abs=0.1) and not found.failed[1]


def test_windows_keep_or_drop_the_tail() -> None:
    """The toolbox keeps a short last window of 9 samples or more; the default keeps whole windows only."""
    keep = build("toolbox").model_copy(update={"window_s": 10.0})
    drop = build("default").model_copy(update={"window_s": 10.0})
    assert windows(709, 30.0, keep) == [(0, 300), (300, 600), (600, 709)]
    assert windows(608, 30.0, keep) == [(0, 300), (300, 600)]
    assert windows(709, 30.0, drop) == [(0, 300), (300, 600)]
    assert windows(200, 30.0, drop) == []


def test_macc_finds_a_shifted_and_inverted_copy() -> None:
    """MACC is 1 for a circular shift, also inverted, and equals the slow loop for noise."""
    rng = np.random.default_rng(1)
    p, t = rng.standard_normal((2, 97))
    slow = max(abs(np.corrcoef(p, np.roll(t, lag))[0, 1]) for lag in range(96))
    assert metrics.macc_circular(p, t) == pytest.approx(slow, abs=1e-12)
    assert metrics.macc_circular(-np.roll(t, 13), t) == pytest.approx(1.0)


def test_dehaan_snr_of_a_line_in_flat_noise() -> None:
    """One bin of power 100 over flat bins of 1: signal windows against the other bins of 0.5-4 Hz."""
    frequency = np.arange(0, 1500) / 200  # 0.005 Hz
    power = np.ones(1500)
    power[300] = 100.0  # 1.5 Hz
    signal = 41 + 81  # +-0.1 Hz of 1.5 and +-0.2 Hz of 3.0
    total = 701  # 0.5 to 4.0
    by_hand = 10 * np.log10((signal - 1 + 100) / (total - signal))
    assert metrics.snr_dehaan(frequency, power, 90.0, 0.7, 4.0) == pytest.approx(by_hand, abs=0.1)


def literal_toolbox(prediction: np.ndarray, label: np.ndarray, fs: float, band: tuple[float, float]) -> list:
    """(rate of the prediction, rate of the label, SNR, MACC) by the toolbox's steps, written plainly."""

    def detrended(x: np.ndarray) -> np.ndarray:
        n = len(x)
        second = np.zeros((n - 2, n))
        for row in range(n - 2):
            second[row, row : row + 3] = (1.0, -2.0, 1.0)
        return x - np.linalg.inv(np.eye(n) + 100.0**2 * second.T @ second) @ x

    b, a = ss.butter(1, [band[0] / fs * 2, band[1] / fs * 2], btype="bandpass")
    p = ss.filtfilt(b, a, detrended(np.asarray(prediction, float)))
    t = ss.filtfilt(b, a, detrended(np.asarray(label, float)))
    n_fft = 1
    while n_fft < len(p):
        n_fft *= 2

    def highest(x: np.ndarray) -> float:
        f, power = ss.periodogram(x, fs=fs, nfft=n_fft, detrend=False)
        rates = [(value, hz) for hz, value in zip(f, power, strict=True) if band[0] <= hz <= band[1]]
        return max(rates)[1] * 60

    rate = highest(t)
    f, power = ss.periodogram(p, fs=fs, nfft=n_fft, detrend=False)
    first = second = rest = 0.0
    for hz, value in zip(f, power, strict=True):
        near_one, near_two = abs(hz - rate / 60) <= 0.1, abs(hz - 2 * rate / 60) <= 0.1
        first += value * near_one
        second += value * near_two
        rest += value * (band[0] <= hz <= band[1] and not near_one and not near_two)
    snr = 10 * np.log10((first + second) / rest) if rest else 0.0
    lags = [abs(np.corrcoef(p, np.roll(t, lag))[0, 1]) for lag in range(len(p) - 1)]
    return [highest(p), rate, snr, max(lags)]


@pytest.mark.parametrize(("preset", "band"), [("toolbox", (0.6, 3.3)), ("toolbox2023", (0.75, 2.5))])
@pytest.mark.parametrize("window_s", [None, 10.0])
def test_toolbox_equals_a_literal_version(
    preset: str, band: tuple[float, float], window_s: float | None
) -> None:
    """Rates, SNR, MACC and their means equal the plain version to 1e-6, with tails and two-power bins."""
    rng = np.random.default_rng(2)
    fs, lengths = 30.0, (700, 612, 615, 900)
    recordings, plain = [], []
    for index, n in enumerate(lengths):
        time_s = np.arange(n) / fs
        label = np.sin(2 * np.pi * (0.9 + 0.3 * index) * time_s + 0.002 * rng.standard_normal(n).cumsum())
        noisy = label + 1.5 * rng.standard_normal(n) + 1.5 * time_s
        wave = RecordingWaveform(f"any.r{index}", f"s{index}", "any", fs, time_s, label, {"m": noisy})
        recordings.append(wave)
        step = n if window_s is None else int(window_s * fs)
        for start in range(0, n, step):
            stop = min(start + step, n)
            if stop - start > 9:
                pair = wave.predictions["m"][start:stop], wave.label[start:stop]
                plain.append(literal_toolbox(*pair, fs, band))
    found = score(recordings, preset, window_s=window_s, bootstrap=0)
    names = ("predicted_bpm", "reference_bpm", "snr_db", "macc")
    rows = [[row[name] for name in names] for row in found["windows"]]
    np.testing.assert_allclose(rows, plain, rtol=0, atol=1e-6)
    predicted, reference, snr_db, _ = np.array(plain).T
    errors = predicted - reference
    row = found["rows"][0]
    assert row["mae_bpm"] == pytest.approx(np.abs(errors).mean(), abs=1e-6)
    assert row["rmse_bpm"] == pytest.approx(np.sqrt((errors**2).mean()), abs=1e-6)
    assert row["pearson_r"] == pytest.approx(np.corrcoef(predicted, reference)[0, 1], abs=1e-6)
    assert row["snr_db"] == pytest.approx(snr_db.mean(), abs=1e-6)


def test_intervals_cover_the_truth() -> None:
    """Over 200 samples of 20 subjects, the 95 % interval of the mean error holds the truth 88 to 99 %."""
    rng = np.random.default_rng(3)
    counts = bootstrap.resamplings(20, 400, seed=0)
    covered = 0
    for _ in range(200):
        reference = rng.uniform(60, 110, 20)
        predicted = reference + rng.normal(2.0, 3.0, 20)
        none = np.full(20, np.nan)
        sums = metrics.unit_sums(predicted, reference, none, none)
        low, high = bootstrap.intervals(sums, counts)["me_bpm"] or (0, 0)
        covered += low <= 2.0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_windows_of_one_subject_do_not_narrow_the_interval() -> None:
    """Ten identical windows per subject give the interval of one: subjects are drawn, not windows."""
    rng = np.random.default_rng(4)
    reference = rng.uniform(60, 110, 12)
    predicted, none = reference + rng.normal(0, 3, 12), np.full(12, np.nan)
    once = metrics.unit_sums(predicted, reference, none, none)
    names = [f"s{i:02d}" for i in range(12)]
    many = bootstrap.subject_sums(np.repeat(once, 10, axis=0), [name for name in names for _ in range(10)])
    counts = bootstrap.resamplings(12, 300, seed=1)
    one = bootstrap.intervals(bootstrap.subject_sums(once, names), counts)["mae_bpm"]
    assert bootstrap.intervals(many, counts)["mae_bpm"] == pytest.approx(one)


@pytest.mark.parametrize("fps", [25.0, 30.0, 60.0, 120.0, 240.0])
def test_a_slow_pulse_keeps_its_rate_at_any_frame_rate(fps: float) -> None:
    """50 bpm with a strong harmonic is 50 bpm at every frame rate; a fixed lambda would say 100 at 60."""
    time_s = np.arange(int(30 * fps)) / fps
    phase = 2 * np.pi * 50 / 60 * time_s
    wave = np.sin(phase) + 0.5 * np.sin(2 * phase - 0.8)
    assert estimate(wave[None], fps, build("default")).rate_bpm[0] == pytest.approx(50, abs=0.2)


def test_rates_stay_in_the_band() -> None:
    """Drifting waveforms, whose power only falls in the band, give no rate outside it."""
    rng, protocol = np.random.default_rng(0), build("default")
    drift = rng.standard_normal((300, 450)).cumsum(axis=1).cumsum(axis=1)
    rates = estimate(drift, 30.0, protocol).rate_bpm
    assert rates.min() > 60 * protocol.peak_low_hz - 0.2 and rates.max() < 60 * protocol.peak_high_hz + 0.2
