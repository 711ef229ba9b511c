"""Rates and metrics against hand calculations, known sinusoids and slow independent versions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal as ss

from evaluation import bootstrap, metrics, signal_metrics
from evaluation.heart_rate import estimate, windows
from evaluation.presets import build
from evaluation.protocols import score
from evaluation.waveforms import RecordingWaveform

# Five rates by hand: errors +2, -1, 0, +4, -5.
REFERENCE = np.array([60.0, 70.0, 80.0, 90.0, 100.0])
PREDICTED = np.array([62.0, 69.0, 80.0, 94.0, 95.0])


def five_rows(**columns: np.ndarray) -> dict[str, float]:
    signals = np.full((5, len(metrics.SIGNAL_METRICS)), np.nan)
    for name in metrics.SIGNAL_METRICS:
        signals[:, metrics.SIGNAL_METRICS.index(name)] = columns.get(name, np.nan)
    sums = metrics.unit_sums(
        columns.get("predicted", PREDICTED), columns.get("reference", REFERENCE), signals
    )
    return {name: float(value) for name, value in metrics.from_sums(sums.sum(axis=0)).items()}


@pytest.mark.parametrize(("name", "by_hand"), [
    ("mae_bpm", (2 + 1 + 0 + 4 + 5) / 5),
    ("me_bpm", 0.0),
    ("rmse_bpm", (46 / 5) ** 0.5),
    ("sd_bpm", (46 / 5) ** 0.5),
    ("mape_percent", 100 * (2 / 60 + 1 / 70 + 0 + 4 / 90 + 5 / 100) / 5),
    ("pearson_r", 910 / (1000 * 866) ** 0.5),
    ("ccc", 2 * 910 / (1000 + 866)),
    ("within_2_5_percent", 60.0),
    ("within_5_percent", 80.0),
])
def test_five_rows_by_hand(name: str, by_hand: float) -> None:
    """Every agreement metric of five rows equals the value calculated by hand."""
    assert five_rows()[name] == pytest.approx(by_hand, rel=1e-12)


def test_sample_deviation_is_an_option() -> None:
    """With ddof 1 the SD is larger by sqrt(n / (n - 1)) and nothing else changes."""
    sums = metrics.unit_sums(PREDICTED, REFERENCE).sum(axis=0)
    population, sample = metrics.from_sums(sums), metrics.from_sums(sums, metrics.Statistics(ddof=1))
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
    sums = metrics.unit_sums(PREDICTED[:2], REFERENCE[:2])
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
    (3.0 + 1e-6 * np.sin(np.arange(300)), "constant"),
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
    assert signal_metrics.macc_circular(p, t, 30.0) == pytest.approx(slow, abs=1e-12)
    assert signal_metrics.macc_circular(-np.roll(t, 13), t, 30.0) == pytest.approx(1.0)


def test_dehaan_snr_of_a_line_in_flat_noise() -> None:
    """One bin of power 100 over flat bins of 1: signal windows against the other bins of 0.5-4 Hz."""
    frequency = np.arange(0, 1500) / 200  # 0.005 Hz
    power = np.ones(1500)
    power[300] = 100.0  # 1.5 Hz
    signal = 41 + 81  # +-0.1 Hz of 1.5 and +-0.2 Hz of 3.0
    total = 701  # 0.5 to 4.0
    by_hand = 10 * np.log10((signal - 1 + 100) / (total - signal))
    found = signal_metrics.snr_dehaan(frequency, power[None], np.array([90.0]), 0.7, 4.0)
    assert found[0] == pytest.approx(by_hand, abs=0.1)


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
        sums = metrics.unit_sums(predicted, reference)
        low, high = bootstrap.intervals(sums, counts)["me_bpm"] or (0, 0)
        covered += low <= 2.0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_windows_of_one_subject_do_not_narrow_the_interval() -> None:
    """Ten identical windows per subject give the interval of one: subjects are drawn, not windows."""
    rng = np.random.default_rng(4)
    reference = rng.uniform(60, 110, 12)
    once = metrics.unit_sums(reference + rng.normal(0, 3, 12), reference)
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


# Identities that hold for any rates

RATES = st.lists(
    st.tuples(st.floats(40, 200), st.floats(40, 200)), min_size=3, max_size=40
).map(lambda pairs: np.array(pairs).T)


def all_metrics(predicted: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    sums = metrics.unit_sums(predicted, reference).sum(axis=0)
    return {name: float(value) for name, value in metrics.from_sums(sums).items()}


@settings(max_examples=60, deadline=None)
@given(RATES)
def test_identities_of_any_rates(pair: np.ndarray) -> None:
    """RMSE^2 = ME^2 + SD^2, |ME| <= MAE <= RMSE, |ccc| <= |r|, and fewer are within 2.5 than 5 bpm."""
    found = all_metrics(*pair)
    assert found["rmse_bpm"] ** 2 == pytest.approx(found["me_bpm"] ** 2 + found["sd_bpm"] ** 2, abs=1e-7)
    assert abs(found["me_bpm"]) <= found["mae_bpm"] + 1e-9 <= found["rmse_bpm"] + 1e-8
    assert 0 <= found["within_2_5_percent"] <= found["within_5_percent"] <= 100
    if np.isfinite(found["pearson_r"]):
        assert abs(found["ccc"]) <= abs(found["pearson_r"]) + 1e-6


@settings(max_examples=60, deadline=None)
@given(RATES, st.randoms(use_true_random=False))
def test_the_order_of_units_does_not_matter(pair: np.ndarray, random: object) -> None:
    """Any permutation of the units gives the same metrics, up to rounding."""
    order = list(range(pair.shape[1]))
    random.shuffle(order)  # type: ignore[attr-defined]
    found, again = all_metrics(*pair), all_metrics(*pair[:, order])
    for name, value in found.items():
        assert again[name] == pytest.approx(value, rel=1e-6, abs=1e-6, nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(RATES, st.floats(0.2, 5.0))
def test_errors_scale_with_the_rates(pair: np.ndarray, factor: float) -> None:
    """Rates in another unit scale every error by the factor and leave MAPE, r and CCC alone."""
    found, scaled = all_metrics(*pair), all_metrics(*(factor * pair))
    for name in ("mae_bpm", "rmse_bpm", "sd_bpm", "me_bpm"):
        assert scaled[name] == pytest.approx(factor * found[name], rel=1e-5, abs=1e-5)
    assert scaled["mape_percent"] == pytest.approx(found["mape_percent"], rel=1e-9)
    if min(pair.std(axis=1)) > 0.1:
        for name in ("pearson_r", "ccc"):
            assert scaled[name] == pytest.approx(found[name], abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(RATES)
def test_metrics_equal_plain_formulas(pair: np.ndarray) -> None:
    """What comes from sums equals the formulas applied to the rates, Lin's coefficient included."""
    predicted, reference = pair
    found, e = all_metrics(predicted, reference), predicted - reference
    assert found["mae_bpm"] == pytest.approx(np.abs(e).mean(), abs=1e-9)
    assert found["sd_bpm"] == pytest.approx(e.std(), abs=1e-5)
    assert found["within_5_percent"] == pytest.approx(100 * (np.abs(e) < 5).mean())
    if min(predicted.std(), reference.std()) > 0.1:
        cov = ((predicted - predicted.mean()) * (reference - reference.mean())).mean()
        ccc = 2 * cov / (predicted.var() + reference.var() + (predicted.mean() - reference.mean()) ** 2)
        assert found["ccc"] == pytest.approx(ccc, abs=1e-6)
        assert found["pearson_r"] == pytest.approx(np.corrcoef(predicted, reference)[0, 1], abs=1e-6)


def test_shares_count_errors_below_their_limit() -> None:
    """Of errors of 2.4, 2.5, 4.9 and 5 bpm one is below 2.5 and three are below 5, whatever their sign."""
    found = all_metrics(80.0 + np.array([2.4, -2.5, 4.9, -5.0]), np.full(4, 80.0))
    assert (found["within_2_5_percent"], found["within_5_percent"]) == (25.0, 75.0)


def test_pearson_offset_of_nest() -> None:
    """With an offset, r is the sum of products over the product of norms plus that offset."""
    p, t = PREDICTED - PREDICTED.mean(), REFERENCE - REFERENCE.mean()
    by_hand = (p @ t) / (np.sqrt((p @ p) * (t @ t)) + 0.01)
    sums = metrics.unit_sums(PREDICTED, REFERENCE).sum(axis=0)
    found = metrics.from_sums(sums, metrics.Statistics(pearson_offset=0.01))["pearson_r"]
    assert float(found) == pytest.approx(by_hand, rel=1e-12)


def test_standard_errors_are_those_of_the_toolbox() -> None:
    """Each standard error of a toolbox table follows its formula; other protocols have none, and say so."""
    rng = np.random.default_rng(8)
    recordings = []
    for index in range(9):
        time_s, rate = np.arange(900) / 30, rng.uniform(50, 120)
        label = np.sin(2 * np.pi * rate / 60 * time_s)
        noisy = np.sin(2 * np.pi * (rate + rng.normal(0, 4)) / 60 * time_s) + rng.standard_normal(900)
        recordings.append(RecordingWaveform(f"a.{index}", f"{index}", "a", 30.0, time_s, label, {"m": noisy}))
    found = score(recordings, "toolbox")
    columns = ("predicted_bpm", "reference_bpm", "snr_db")
    p, t, snr_db = np.array([[row[name] for name in columns] for row in found["windows"]]).T
    e, n, se, r = p - t, len(p), found["rows"][0]["se"], np.corrcoef(p, t)[0, 1]
    assert np.abs(e).max() > 1 and se["mae_bpm"] == pytest.approx(np.abs(e).std() / np.sqrt(n))
    assert se["rmse_bpm"] == pytest.approx(np.sqrt((e**2).std() / np.sqrt(n)))
    assert se["mape_percent"] == pytest.approx(100 * np.abs(e / t).std() / np.sqrt(n))
    assert se["pearson_r"] == pytest.approx(np.sqrt((1 - r**2) / (n - 2)))
    assert se["snr_db"] == pytest.approx(snr_db.std() / np.sqrt(n))
    assert found["rows"][0]["max_bpm"] == pytest.approx(np.abs(e).max())
    plain = score(recordings)["rows"][0]
    assert plain["se"] is None and "no standard error" in plain["reasons"]["se"]


# Signal metrics


def test_old_toolbox_snr_is_twice_the_new_one() -> None:
    """20 log10 of the same ratio: twice the decibels."""
    rng = np.random.default_rng(0)
    frequency, power = np.arange(512) * 30 / 1024, rng.random((3, 512))
    given_ = frequency, power, np.array([60.0, 80.0, 100.0]), 0.6, 3.3
    new, old = signal_metrics.snr_toolbox(*given_), signal_metrics.snr_toolbox_old(*given_)
    np.testing.assert_allclose(old, 2 * new)


def test_irrelevant_power_is_a_share_of_magnitudes() -> None:
    """Two lines of amplitudes 3, in the band, and 1, outside: a quarter, not a tenth as of power."""
    time_s = np.arange(600) / 30
    wave = 3 * np.sin(2 * np.pi * 1.5 * time_s) + np.sin(2 * np.pi * 6.0 * time_s) + 7
    assert signal_metrics.irrelevant_power_ratio(wave[None], 30.0)[0] == pytest.approx(0.25, abs=1e-9)


def test_gideons_correlation_equals_a_slow_version() -> None:
    """The band's part of the linear cross-correlation, normalised as described; 1 for a copy in the band."""
    rng, n, fs = np.random.default_rng(2), 120, 30.0
    p, t = rng.standard_normal((2, n))
    a, b = p - p.mean(), t - t.mean()
    padded = np.zeros((2, 2 * n))
    padded[:, :n] = a, b
    cross = np.fft.fft(padded[0]) * np.conj(np.fft.fft(padded[1]))
    hz = np.abs(np.fft.fftfreq(2 * n, 1 / fs)) * 60
    inside = (hz >= 40) & (hz <= 250)
    share = np.abs(cross[inside]).sum() / np.abs(cross).sum()
    top = max(np.fft.ifft(np.where(inside, cross, 0)).real)
    slow = top / (n - 1) / share / a.std(ddof=1) / b.std(ddof=1)
    assert signal_metrics.mcc_gideon(p[None], t[None], fs)[0] == pytest.approx(slow, rel=1e-9)


@pytest.mark.parametrize("delay", [-20, -3, 0, 7, 30])
def test_best_lag_is_found_with_its_sign(delay: int) -> None:
    """A prediction that comes `delay` samples later has that lag, r of 1 and no error left."""
    rng = np.random.default_rng(4)
    long = ss.lfilter([1.0], [1.0, -0.9], rng.standard_normal(700))
    label, prediction = long[100:600], 5 * long[100 - delay : 600 - delay] + 3
    r, lag_s, error = signal_metrics.waveform_agreement(prediction[None], label[None], 30.0)
    assert lag_s[0] == pytest.approx(delay / 30) and r[0] == pytest.approx(1.0)
    assert error[0] == pytest.approx(0.0, abs=1e-9)


def test_lagged_correlation_equals_a_slow_version() -> None:
    """r at the best lag is the largest Pearson over the overlapping samples of every lag within a second."""
    rng = np.random.default_rng(5)
    p, t = rng.standard_normal((2, 150))
    slow = {}
    for lag in range(-30, 31):
        a = p[max(lag, 0) : 150 + min(lag, 0)]
        b = t[max(-lag, 0) : 150 - max(lag, 0)]
        slow[lag] = np.corrcoef(a, b)[0, 1]
    best = max(slow, key=slow.__getitem__)
    r, lag_s, _ = signal_metrics.waveform_agreement(p[None], t[None], 30.0)
    assert r[0] == pytest.approx(slow[best], abs=1e-9) and lag_s[0] == pytest.approx(best / 30)


def test_an_inverted_waveform_does_not_pass() -> None:
    """The best lag has the largest signed r: an upside-down aperiodic waveform has none near 1."""
    long = ss.lfilter([1.0], [1.0, -0.9], np.random.default_rng(6).standard_normal(500))
    r, _, _ = signal_metrics.waveform_agreement(-long[None], long[None], 30.0)
    assert r[0] < 0.6


def test_signal_metrics_of_constants_do_not_exist() -> None:
    """A constant has no correlation, lag, or irrelevant power: NaN, never 0."""
    flat, wave = np.zeros((1, 300)), np.sin(np.arange(300) / 3)[None]
    assert np.isnan(np.concatenate(signal_metrics.waveform_agreement(flat, wave, 30.0))).all()
    assert np.isnan(signal_metrics.irrelevant_power_ratio(flat, 30.0)).all()
    for variant in signal_metrics.MACC.values():
        assert np.isnan(variant(flat, wave, 30.0)).all()
    for variant in signal_metrics.SNR.values():
        value = variant(np.arange(300) / 20, flat, np.array([70.0]), 0.7, 4.0)
        assert np.isnan(value).all() or value[0] == 0.0
