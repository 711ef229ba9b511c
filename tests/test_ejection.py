"""The second difference as a label, back to the pulse, and the ejection time read from it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dataset.targets import label_statistics, target_form
from evaluation.ejection import find_ejections
from evaluation.vital_presets import PRESETS
from nets import methods
from nets.methods.base import integrate_twice
from preprocessing.synthetic.pulse import beat_shape, long_signal
from tests.fakes import FakeClips
from utils.contracts import InputSpec

SETTINGS = PRESETS["default"]


class Shade(nn.Module):
    """Puts out the mean of each frame."""

    task = "pulse"

    def __init__(self) -> None:
        super().__init__()
        self.input_spec = InputSpec(frames=300, size=4, video="raw", target="second_derivative")

    def forward(self, video: Tensor) -> Tensor:
        return video.mean((1, 3, 4))


def ejection_s(rate_bpm: float) -> float:
    """From the steepest rise of the beat's slope to its next such maximum, of the model itself."""
    parts = np.linspace(0, 1, 5001)
    step, shape = parts[1], beat_shape(parts)
    second, peak = np.gradient(np.gradient(shape, step), step), int(shape.argmax())
    notch = peak + int(second[peak : peak + 2000].argmax())
    return float(parts[notch] - parts[second[:peak].argmax()]) * 60 / rate_bpm


def labelled(pulse: np.ndarray) -> Tensor:
    """The label as a net gets it."""
    label = torch.from_numpy(pulse)
    return target_form(label, "second_derivative", len(label), label_statistics(label))


def test_form_is_the_second_difference() -> None:
    """Index t is y[t + 2] - 2 y[t + 1] + y[t] over its deviation; the recording's end is zero."""
    y = torch.tensor([0.0, 1.0, 4.0, 2.0, 3.0, 3.0], dtype=torch.float64)
    steps = torch.tensor([2.0, -5.0, 3.0, -1.0])
    made = target_form(y[:5], "second_derivative", 3, label_statistics(y))
    torch.testing.assert_close(made, steps[:3] / steps.std(correction=0))
    made = target_form(y[2:], "second_derivative", 4, label_statistics(y))
    torch.testing.assert_close(made[:2], steps[2:] / steps.std(correction=0))
    assert made[2:].tolist() == [0, 0]


def test_unknown_and_flat_labels() -> None:
    """NaN stays NaN in all that it touches; a flat label becomes zeros."""
    y = torch.sin(torch.arange(12.0))
    y[5] = math.nan
    made = target_form(y, "second_derivative", 8, label_statistics(y))
    assert made.isnan().tolist() == [False] * 3 + [True] * 3 + [False] * 2
    flat = torch.ones(9)
    assert target_form(flat, "second_derivative", 7, label_statistics(flat)).abs().max() == 0


@pytest.mark.parametrize("fps", [15.0, 30.0, 60.0])
def test_summed_up_twice_it_is_the_pulse(fps: float) -> None:
    """In step with the label, at its height, without drift."""
    wave = long_signal(1, duration_s=40.0, fs_hz=fps)
    found = integrate_twice(labelled(wave.pulse).double(), fps).numpy()
    assert np.corrcoef(found, wave.pulse)[0, 1] > 0.97
    there = slice(3, len(found) - 3)
    shifted = [np.corrcoef(found[there], np.roll(wave.pulse, -lag)[there])[0, 1] for lag in range(-3, 4)]
    assert int(np.argmax(shifted)) == 3


def test_noise_does_not_bury_the_pulse() -> None:
    """A tenth of noise in the second difference leaves the waveform recognisable."""
    wave = long_signal(2, duration_s=60.0, fs_hz=30.0)
    noise = torch.randn(1800, generator=torch.Generator().manual_seed(0))
    noisy = labelled(wave.pulse).double() + 0.1 * noise
    assert np.corrcoef(integrate_twice(noisy, 30.0).numpy(), wave.pulse)[0, 1] > 0.9


def test_non_finite_output_is_not_hidden() -> None:
    """NaN from a net reaches the caller."""
    second = torch.zeros(90, dtype=torch.float64)
    second[40] = math.nan
    assert integrate_twice(second, 30.0).isnan().all()


@pytest.mark.parametrize("fps", [25.0, 30.0, 60.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_ejection_time_is_the_models(fps: float, seed: int) -> None:
    """Read from the label's beats, within 5 ms of the model's own, and at nearly every beat."""
    wave = long_signal(seed, duration_s=60.0, fs_hz=fps)
    found = find_ejections(wave.pulse, fps, SETTINGS).duration_s
    assert len(found) > 0.9 * len(wave.peak_time_s)
    assert np.median(found) == pytest.approx(ejection_s(wave.rhythm.rate_bpm), abs=0.005)


def test_ejection_time_survives_prediction() -> None:
    """What a net of second differences answers with has the model's ejection time."""
    wave = long_signal(3, duration_s=60.0, fs_hz=30.0)
    video = labelled(wave.pulse).double().view(1, -1, 1, 1).expand(3, -1, 4, 4)
    pulse = methods.build("supervised", Shade()).predict(FakeClips(video, 300)).double().numpy()
    found = find_ejections(pulse, 30.0, SETTINGS).duration_s
    assert np.median(found) == pytest.approx(ejection_s(wave.rhythm.rate_bpm), abs=0.01)


def test_no_beats_no_ejections() -> None:
    """A flat signal has none."""
    assert len(find_ejections(np.zeros(600), 30.0, SETTINGS).duration_s) == 0
