"""Every preset against a plain version of its description, and against a pulse of known rate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import signal as ss

from evaluation import protocols
from evaluation.heart_rate import estimate
from evaluation.presets import PRESETS, build
from evaluation.sliding import sliding_rates
from evaluation.waveforms import RecordingWaveform

Array = np.ndarray


def pair(
    seconds: float, fs: float, rate_bpm: float, seed: int, noise: float = 0.8
) -> tuple[Array, Array, Array]:
    """Times, a label whose rate wanders with its breath, and the same late, in noise and drift: (n,) each."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(int(seconds * fs)) / fs
    phase = 2 * np.pi * rate_bpm / 60 * time_s + 0.4 * np.sin(2 * np.pi * 0.25 * time_s)
    label = np.cos(phase) + 0.3 * np.cos(2 * phase + 1)
    late = np.cos(phase - 0.5) + 0.3 * np.cos(2 * phase)
    return time_s, label, late + noise * rng.standard_normal(len(time_s)) + 0.1 * time_s


def wave(index: int, parts: tuple[Array, Array, Array], **fields: object) -> RecordingWaveform:
    """A recording with one method, "m"."""
    time_s, label, prediction = parts
    fs = (len(time_s) - 1) / (time_s[-1] - time_s[0])
    names = f"any.r{index}", f"s{index}", "any"
    return RecordingWaveform(*names, fs, time_s, label, {"m": prediction}, **fields)  # type: ignore[arg-type]


def dense_detrend(x: Array, strength: float) -> Array:
    """Tarvainen's detrending by a dense inverse."""
    n = len(x)
    second = np.zeros((n - 2, n))
    for row in range(n - 2):
        second[row, row : row + 3] = (1.0, -2.0, 1.0)
    return x - np.linalg.inv(np.eye(n) + strength**2 * second.T @ second) @ x


def highest(f: Array, power: Array, low: float, high: float) -> float:
    """Rate in bpm of the highest bin of a band."""
    return max((value, hz) for hz, value in zip(f, power, strict=True) if low <= hz <= high)[1] * 60


def band_snr(
    f: Array, power: Array, rate: float, widths: tuple[float, float], band: tuple[float, float]
) -> float:
    """Power near the rate and its double over the rest, bin by bin, inside a band."""
    kept = rest = 0.0
    for hz, value in zip(f, power, strict=True):
        if band[0] <= hz <= band[1]:
            near = abs(hz - rate / 60) <= widths[0] + 1e-9 or abs(hz - 2 * rate / 60) <= widths[1] + 1e-9
            kept, rest = (kept + value, rest) if near else (kept, rest + value)
    return 10 * np.log10(kept / rest)


def filtered_physformer(x: Array, fs: float) -> Array:
    order = len(x) // 10
    taps = ss.firwin(order + 1, [0.8 / (fs / 2), 3 / (fs / 2)], pass_zero=False, window="hamming")
    y = ss.filtfilt(taps, [1.0], x, padlen=3 * order)
    return (y - y.mean()) / y.std()


def filtered_physbench(x: Array, fs: float) -> Array:
    b, a = ss.butter(3, [0.5 / (fs / 2), 3 / (fs / 2)], "bandpass")
    strength = 25.0 * (fs / 30) ** 2
    flat = [dense_detrend(x[i : i + 900], strength) for i in range(0, len(x), 900)]
    return ss.lfilter(b, a, np.concatenate(flat))


def filtered_contrastphys(x: Array, fs: float) -> Array:
    return ss.filtfilt(*ss.butter(2, [0.6 / (fs / 2), 4 / (fs / 2)], "bandpass"), x)


def filtered_iphys(x: Array, fs: float) -> Array:
    return ss.filtfilt(*ss.butter(3, [0.7 / (fs / 2), 2.5 / (fs / 2)], "bandpass"), x)


FILTERED = [filtered_physformer, filtered_physbench, filtered_contrastphys, filtered_iphys]


# One function per preset: (prediction, label, sample rate) -> rows of (predicted, reference, SNR or None)


def contrastphys(p: Array, t: Array, fs: float) -> list[tuple]:
    rows, length = [], int(30 * fs)

    def spectrum(x: Array) -> tuple[Array, Array]:
        power = np.abs(np.fft.fft(filtered_contrastphys(x, fs) * np.hanning(length))) ** 2
        return np.fft.fftfreq(length, 1 / fs), power

    def rate(f: Array, power: Array) -> float:
        half = [(hz * 60, value) for hz, value in zip(f, power, strict=True) if 0.6 <= hz <= 4.0]
        peaks = [half[i] for i in range(1, len(half) - 1)
                 if half[i - 1][1] < half[i][1] > half[i + 1][1]]
        peaks.sort(key=lambda item: -item[1])
        one = peaks[0][0]
        return peaks[1][0] if len(peaks) > 1 and abs(one - 2 * peaks[1][0]) < 10 else one

    for start in range(0, len(p) - length + 1, length):
        f, power = spectrum(p[start : start + length])
        reference = rate(*spectrum(t[start : start + length]))
        near = [abs(abs(60 * hz) - reference) < 5.001 or abs(abs(60 * hz) - 2 * reference) < 10.001
                for hz in f]
        snr = 10 * np.log10(power[near].sum() / power[~np.array(near)].sum())
        rows.append((rate(f, power), reference, snr))
    return rows


def meta_rppg(p: Array, t: Array, fs: float) -> list[tuple]:
    rows, length = [], round(30 * fs)

    def rate(x: Array) -> float:
        y = ss.filtfilt(*ss.butter(3, [0.4 / (fs / 2), 4 / (fs / 2)], "bandpass"), x)
        f, power = ss.welch(y - y.mean(), fs, "hann", nperseg=length, detrend=False)
        return round(highest(f, power, 0.4, 4.0))

    for start in range(0, len(p) - length + 1, length):
        rows.append((rate(p[start : start + length]), rate(t[start : start + length]), None))
    return rows


def gideon(p: Array, t: Array, fs: float) -> list[tuple]:
    n = round((len(p) - 1) / fs * 30) + 1

    def spectrum(x: Array) -> tuple[Array, Array]:
        at_30 = np.interp(np.arange(n) / 30, np.arange(len(x)) / fs, x)
        padded = np.concatenate([np.zeros(50 * n), at_30 - at_30.mean(), np.zeros(50 * n)])
        return np.fft.rfftfreq(len(padded), 1 / 30), np.abs(np.fft.rfft(padded)) ** 2

    def rate(f: Array, power: Array) -> float:
        inside = [i for i in range(len(f)) if 40 <= f[i] * 60 <= 180]
        top = max(inside, key=lambda i: power[i])
        left, right = power[top] - power[top - 1], power[top] - power[top + 1]
        shift = 0.5 * (1 - right / left) if right < left else -0.5 * (1 - left / right)
        return (top + shift) * f[1] * 60

    f, power = spectrum(p)
    reference = rate(*spectrum(t))
    return [(rate(f, power), reference, band_snr(f, power, reference, (0.1, 0.2), (0.5, 4.0)))]


def sinc(p: Array, t: Array, fs: float) -> list[tuple]:
    length, rows = int(10 * fs), []
    for start in range(len(p) - length + 1):
        rates = []
        for x in (p, t):
            piece = x[start : start + length]
            standard = (piece - piece.mean()) / piece.std()
            f, power = ss.periodogram(standard, fs, "hamming", 5400, detrend=False)
            rates.append(highest(f, power, 40 / 60, 3.0))
        rows.append((*rates, None))
    return rows


def physformer(p: Array, t: Array, fs: float) -> list[tuple]:
    def rate(x: Array) -> float:
        y = filtered_physformer(x, fs)
        third = len(y) // 3
        rates = []
        for part in range(3):
            length = int(third / 4.5)
            f, power = ss.welch(y[part * third : (part + 1) * third], fs, np.hamming(length), length,
                                length // 2, 8192, detrend=False)
            rates.append(highest(f, power, 0.7, 4.0))
        return float(np.mean(rates))

    return [(rate(p), rate(t), None)]


def bob(p: Array, t: Array, fs: float) -> list[tuple]:
    length = 2 * len(p) // 13

    def rate(x: Array) -> float:
        return highest(*ss.welch(x, fs, nperseg=length, nfft=8192), 0.7, 4.0)

    return [(rate(p), rate(t), None)]


def physbench(p: Array, t: Array, fs: float) -> list[tuple]:
    def rate(x: Array) -> float:
        f, power = ss.welch(filtered_physbench(x, fs), fs, nperseg=256, nfft=int(1e5 / fs))
        return highest(f, power, 0.5, 3.0)

    return [(rate(p), rate(t), None)]


def pyvhr(p: Array, t: Array, fs: float) -> list[tuple]:
    rows, length, hop = [], int(8 * fs), int(fs)
    segment = min(256, length)
    overlap = 200 if segment > 200 else int(0.8 * segment)
    for start in range(0, len(p) - length + 1, hop):
        spectra = [ss.welch(x[start : start + length], fs, nperseg=segment, noverlap=overlap, nfft=2048)
                   for x in (p, t)]
        rates = [highest(*spectrum, 0.65, 4.0) for spectrum in spectra]
        rows.append((*rates, band_snr(*spectra[0], rates[1], (0.2, 0.2), (0.65, 4.0))))
    return rows


def iphys(p: Array, t: Array, fs: float) -> list[tuple]:
    f = np.arange(0, 600) * 0.5 / 60

    def spectrum(x: Array) -> Array:
        y = filtered_iphys(x, fs) * np.hamming(len(x))
        times = np.arange(len(y)) / fs
        return np.array([abs((y * np.exp(-2j * np.pi * hz * times)).sum()) ** 2 for hz in f])

    power = spectrum(p)
    reference = highest(f, spectrum(t), 40 / 60, 4.0)
    snr_db = band_snr(f, power, reference, (0.1, 0.2), (0.5, 4.0))
    return [(highest(f, power, 40 / 60, 4.0), reference, snr_db)]


CASES: list[tuple[Callable, float, float]] = [
    (contrastphys, 65, 30), (contrastphys, 61, 20), (gideon, 40, 30), (gideon, 40.04, 25), (sinc, 13, 30),
    (sinc, 12, 20), (physformer, 40, 30), (physformer, 47, 25), (bob, 40, 30), (bob, 33, 60),
    (physbench, 35, 30), (physbench, 40, 25), (pyvhr, 14, 30), (pyvhr, 12, 20), (pyvhr, 12, 60),
    (iphys, 40, 30), (iphys, 150, 30), (meta_rppg, 65, 30), (meta_rppg, 40.3, 25.1),
]


@pytest.mark.parametrize(("plain", "seconds", "fs"), CASES)
def test_preset_equals_a_plain_version(plain: Callable, seconds: float, fs: float) -> None:
    """Rates and SNR of every window equal the steps of the description, written plainly, to 1e-6."""
    parts = pair(seconds, fs, 74.0, seed=int(seconds))
    recording = wave(0, parts)
    found = protocols.score([recording], plain.__name__, bootstrap=0)
    stored = recording.predictions["m"].astype(float), recording.label.astype(float)
    expected = plain(*stored, recording.fps)
    rows = [row for row in found["windows"] if row["method"] == "m"]
    assert len(rows) == len(expected) > 0
    for row, (predicted, reference, snr_db) in zip(rows, expected, strict=True):
        assert row["predicted_bpm"] == pytest.approx(predicted, abs=1e-6)
        assert row["reference_bpm"] == pytest.approx(reference, abs=1e-6)
        assert (row["snr_db"] is None) if snr_db is None else row["snr_db"] == pytest.approx(snr_db, abs=1e-6)
    errors = np.array([row[0] - row[1] for row in expected])
    assert found["rows"][0]["mae_bpm"] == pytest.approx(np.abs(errors).mean(), abs=1e-6)
    assert found["rows"][0]["rmse_bpm"] == pytest.approx(np.sqrt((errors**2).mean()), abs=1e-6)


@pytest.mark.parametrize("plain", FILTERED)
@pytest.mark.parametrize("fs", [25.0, 30.0])
def test_what_a_preset_transforms_equals_a_plain_version(plain: Callable, fs: float) -> None:
    """The detrended and filtered waveform itself, ends included, equals scipy's plain form to 1e-6."""
    x = pair(40, fs, 74.0, seed=9)[2]
    made = estimate(x[None], fs, build(plain.__name__.removeprefix("filtered_"))).filtered[0]
    np.testing.assert_allclose(made, plain(x, fs), atol=1e-6)


@pytest.mark.parametrize("fps", [20.0, 25.0, 29.97, 60.0])
@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_preset_finds_a_known_rate(preset: str, fps: float) -> None:
    """A clean pulse of 71.3 bpm is found within one spectral bin at every frame rate, in every window."""
    rate = 71.3
    time_s = np.arange(int(62 * fps)) / fps
    phase = 2 * np.pi * rate / 60 * time_s
    pulse = np.sin(phase) + 0.3 * np.sin(2 * phase + 0.5)
    one = wave(0, (time_s, pulse, pulse), rates={"m": (np.full(5, rate), np.arange(5) * 10.0)})
    found = protocols.score([one], preset, bootstrap=0)
    predicted = [row["predicted_bpm"] for row in found["windows"]]
    assert len(predicted) >= 1 and found["test"]["n_missing"] == 0
    assert np.abs(np.array(predicted) - rate).max() <= max(found["test"]["bin_bpm"], 0.1)


def test_short_segments_overlap_by_four_fifths() -> None:
    """pyVHR's overlap of 200 samples is 80 % of a segment that has no more: scipy's with 80 of 100."""
    own = protocols.get("own", {"own": {"base": "pyvhr", "changes": {"welch_samples": 100}}})
    x = pair(8, 30.0, 74.0, seed=5)[2]
    plain = highest(*ss.welch(x, 30.0, nperseg=100, noverlap=80, nfft=2048), 0.65, 4.0)
    half = highest(*ss.welch(x, 30.0, nperseg=100, noverlap=50, nfft=2048), 0.65, 4.0)
    assert estimate(x[None], 30.0, own).rate_bpm[0] == pytest.approx(plain) and plain != half


def test_the_harmonic_rule_prefers_the_fundamental() -> None:
    """A second harmonic above the fundamental is not taken for the pulse; without the rule it is."""
    time_s = np.arange(900) / 30
    x = 0.8 * np.sin(2 * np.pi * 1.1 * time_s) + np.sin(2 * np.pi * 2.2 * time_s)
    protocol = build("contrastphys")
    assert estimate(x[None], 30.0, protocol).rate_bpm[0] == pytest.approx(66.0)
    plain = protocol.model_copy(update={"peak": "argmax"})
    assert estimate(x[None], 30.0, plain).rate_bpm[0] == pytest.approx(132.0)


@pytest.mark.parametrize("fs", [20.0, 30.0, 60.0])
def test_sliding_windows_equal_one_transform_each(fs: float) -> None:
    """The fast way for windows at every frame gives the same bin as a full transform, also in plain noise."""
    rng, protocol = np.random.default_rng(3), build("sinc")
    n, length = int(16 * fs), int(10 * fs)
    noise = rng.standard_normal((4, n))
    signals = np.concatenate([noise, noise.cumsum(axis=1), np.sin(np.arange(n) * 7 / fs)[None] + noise[:1]])
    rates, failed = sliding_rates(signals, length, fs, protocol)
    pieces = np.lib.stride_tricks.sliding_window_view(signals, length, axis=-1)
    slow = estimate(pieces.reshape(-1, length), fs, protocol)
    np.testing.assert_array_equal(rates.ravel(), slow.rate_bpm)
    assert not (failed != "").any()


def test_sliding_windows_fail_where_the_waveform_does() -> None:
    """Only the windows that touch a NaN, or see a constant, fail, each with its reason."""
    x = np.random.default_rng(0).standard_normal((3, 600))
    x[0, 100], x[1, 200:550], x[2] = np.nan, 1.0, 1.0 + 1e-7 * x[2]
    rates, failed = sliding_rates(x, 300, 30.0, build("sinc"))
    assert (failed[0, :101] == "1 of 300 samples are not finite").all() and not failed[0, 101:].any()
    assert np.flatnonzero(failed[1] == "the waveform is constant").tolist() == list(range(200, 251))
    assert (failed[2] == "the waveform is constant").all()  # but for rounding
    np.testing.assert_array_equal(np.isnan(rates), failed != "")


def test_bins_outside_the_band_give_no_rate() -> None:
    """Where the transform has no bin in the band, or no power in it, there is no rate, and a reason."""
    own = protocols.get("own", {"own": {"base": "sinc", "changes": {"n_fft_value": 8}}})
    rates, failed = sliding_rates(np.random.default_rng(0).standard_normal((1, 400)), 300, 30.0, own)
    assert np.isnan(rates).all()
    assert (failed == "no spectral peak in the band: the window is too short").all()
    found = estimate(np.sin(np.arange(9.0))[None], 30.0, build("bob"))  # one-sample segments
    assert np.isnan(found.rate_bpm[0]) and "no spectral peak" in found.failed[0]


def test_the_mean_interval_is_a_choice() -> None:
    """The toolbox's other estimator: 60 over the mean interval between all local maxima."""
    own = {"peaks": {"base": "toolbox", "changes": {"estimator": "mean_interval"}}}
    rate = estimate(np.sin(2 * np.pi * 1.25 * np.arange(600) / 30)[None], 30.0, protocols.get("peaks", own))
    assert rate.rate_bpm[0] == pytest.approx(75.0, abs=0.3)


@pytest.mark.parametrize(("changes", "words"), [
    ({"filter": "fir_hamming"}, "needs filter_order_share"),
    ({"n_fft": "samples", "bin_bpm": None}, "n_fft_value belongs"),
    ({"estimator": "welch_peak"}, "needs welch_samples or welch_segments"),
    ({"peak": "harmonic_rule"}, "needs harmonic_bpm"),
    ({"hop_frames": 1}, "hop_frames needs window_s"),
    ({"hop_frames": 1, "hop_s": 1.0, "window_s": 5.0}, "exclude each other"),
    ({"unit": "frame", "window_s": 5.0, "hop_s": 1.0}, "do not overlap"),
    ({"estimator": "rate_head"}, 'needs unit = "recording"'),
    ({"resample": "none", "resample_hz": 30.0}, 'needs resample = "uniform"'),
    ({"n_fft": "multiple", "n_fft_value": 0.5, "bin_bpm": None}, "1 or more"),
])
def test_contradictions_of_an_own_protocol_are_named(changes: dict, words: str) -> None:
    """Fields that need or exclude each other are refused in a sentence that names them."""
    with pytest.raises(protocols.ProtocolError, match="own") as caught:
        protocols.get("own", {"own": {"base": "default", "changes": changes}})
    assert words in str(caught.value)


@pytest.mark.parametrize("preset", list(PRESETS))
def test_an_own_protocol_may_start_from_any_preset(preset: str) -> None:
    """Every preset is a base: with another deviation it scores the same errors."""
    own = protocols.get("own", {"own": {"base": preset, "changes": {"ddof": 1}}})
    recording = wave(0, pair(32, 30, 70.0, 1), rates={"m": (np.array([75.0]), np.array([16.0]))})
    mine, theirs = (protocols.score([recording], name, bootstrap=0)["rows"][0] for name in (own, preset))
    assert mine["mae_bpm"] == theirs["mae_bpm"] is not None
