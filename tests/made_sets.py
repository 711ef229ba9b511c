"""Made datasets for tests: written once a session, extracted in this process, judged by rate and lag."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.signal import find_peaks

import nets
from preprocessing import sources
from preprocessing.extract import Extracted, ExtractSettings, extract
from preprocessing.sources import RawRecording
from preprocessing.synthetic import layouts
from preprocessing.synthetic.layouts import Truth
from utils import signal

SETTINGS = ExtractSettings(face_finder="none", size=48, landmarks=False)
BAND_HZ = (0.7, 3.0)


class NoSink:
    """Takes the crops and forgets them."""

    def append(self, name: str, block: np.ndarray) -> None:
        pass


@dataclass
class Made:
    """A written set, its reader's recordings, and what is true of them."""

    root: Path
    truths: list[Truth]
    recordings: list[RawRecording]


def make(root: Path, name: str, people: int = 2, seconds: float = 10.0, seed: int = 0,
         defects: tuple[str, ...] = (), **options: Any) -> Made:
    truths = layouts.build(name).write(root, people, seconds, seed, defects)
    return Made(root, truths, list(sources.build(name, root, **options)))


def extracted(recording: RawRecording, settings: ExtractSettings = SETTINGS) -> Extracted:
    return extract(recording, settings, NoSink(), lambda: None)


def label_rate_bpm(samples: np.ndarray, time_s: np.ndarray) -> float:
    """Mean rate of a clean label by its peaks."""
    grid = np.arange(time_s[0], time_s[-1], 0.004)
    high = np.interp(grid, time_s, samples)
    high = (high - high.min()) / np.ptp(high)
    peaks, _ = find_peaks(high, distance=100, prominence=0.4)
    return 60 * (len(peaks) - 1) / float(grid[peaks[-1]] - grid[peaks[0]])


def skin_pulse(made: Extracted) -> np.ndarray:
    """POS over the skin, at the frames' times."""
    rgb = torch.from_numpy(made.arrays["roi_rgb"][None, :, 0].astype(np.float64))
    return nets.build("pos")(rgb, float(made.attributes["fps"]))[0].numpy()


def on_grid(made: Extracted, values: np.ndarray) -> tuple[np.ndarray, float]:
    """A signal at the frames' times, uniform and band-passed."""
    uniform, fs = signal.to_uniform(values, made.arrays["frame_time_s"])
    return signal.bandpass(uniform, fs, *BAND_HZ), fs


def skin_rate_bpm(made: Extracted) -> float:
    wave, fs = on_grid(made, skin_pulse(made))
    power = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 1 << 15)) ** 2
    return 60 * float(np.fft.rfftfreq(1 << 15, 1 / fs)[np.argmax(power)])


def lag_s(made: Extracted) -> float:
    """How much later the label is than the skin, within half a beat of 120 bpm."""
    pulse = made.arrays["pulse"].astype(np.float64)
    good = np.flatnonzero(np.isfinite(pulse))
    kept = slice(good[0], good[-1] + 1)
    time_s = made.arrays["frame_time_s"][kept]
    skin, fs = signal.to_uniform(skin_pulse(made)[kept], time_s)
    label, _ = signal.to_uniform(np.interp(time_s, made.arrays["frame_time_s"][good], pulse[good]), time_s)
    skin, label = (signal.bandpass(x, fs, *BAND_HZ) for x in (skin, label))
    most = round(0.4 * fs)
    lags = np.arange(-most, most + 1)
    middle = slice(most, len(skin) - most)
    match = np.array([np.corrcoef(skin[middle], np.roll(label, -lag)[middle])[0, 1] for lag in lags])
    best = int(np.argmax(match))
    return float(lags[0] + signal.parabolic_peak(match, best)) / fs
