"""A pulse whose beats, rate, respiration and heart rate variability are known exactly."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

# Systolic and dicrotic wave over one beat: (height, position, width), in parts of a beat. They are
# wide enough that the second harmonic stays a third of the first: with more of it a pulse of
# 52 bpm is read as 104 by classical methods and networks alike.
_WAVES = ((1.0, 0.32, 0.14), (0.16, 0.66, 0.085))
_GRID_HZ = 1000.0


@dataclass(frozen=True)
class Rhythm:
    """How the heart rate moves.

    rate_bpm: mean over the recording, exact. respiration_hz, rsa: frequency and depth (part of the
    rate) of the respiratory sinus arrhythmia. lf_hz, lf: the same for the low-frequency component.
    wander: depth of each of three slow components below 0.04 Hz. depth: part by which respiration
    modulates the amplitude of the pulse.
    """

    rate_bpm: float
    respiration_hz: float = 0.25
    rsa: float = 0.03
    lf_hz: float = 0.1
    lf: float = 0.02
    wander: float = 0.004
    depth: float = 0.12


@dataclass(frozen=True)
class Pulse:
    """A pulse over [0, duration_s]: phase in beats is the integral of the rate in closed form.

    components: (frequency in Hz, depth, phase in radians) of each modulation; the first is
    respiration. offset: phase at time 0 in beats.
    """

    rhythm: Rhythm
    duration_s: float
    components: tuple[tuple[float, float, float], ...]
    offset: float

    def _unit_phase(self, time_s: Array) -> Array:
        """Integral of 1 + sum depth cos(2 pi f t + phase), from an arbitrary origin."""
        total = time_s.copy()
        for hz, depth, phase in self.components:
            total += depth * np.sin(2 * np.pi * hz * time_s + phase) / (2 * np.pi * hz)
        return total

    def _beats_per_unit(self) -> float:
        """Beats per unit of `_unit_phase` that make the mean rate over the duration exact."""
        first, last = self._unit_phase(np.array([0.0, self.duration_s]))
        return self.rhythm.rate_bpm / 60 * self.duration_s / float(last - first)

    def phase(self, time_s: ArrayLike) -> Array:
        """Phase in beats at `time_s` (N,): whole at the foot of each pulse wave."""
        t = np.asarray(time_s, dtype=np.float64)
        start = self._unit_phase(np.zeros(1))
        return self.offset + self._beats_per_unit() * (self._unit_phase(t) - start)

    def rate_bpm(self, time_s: ArrayLike) -> Array:
        """Instantaneous rate in bpm at `time_s` (N,)."""
        t = np.asarray(time_s, dtype=np.float64)
        rate = np.ones_like(t)
        for hz, depth, phase in self.components:
            rate += depth * np.cos(2 * np.pi * hz * t + phase)
        return 60 * self._beats_per_unit() * rate

    def respiration(self, time_s: ArrayLike) -> Array:
        """Respiration in [-1, 1] at `time_s` (N,); it rises while the heart rate rises."""
        hz, _, phase = self.components[0]
        return np.cos(2 * np.pi * hz * np.asarray(time_s, dtype=np.float64) + phase)

    def wave(self, time_s: ArrayLike) -> Array:
        """The pulse at `time_s` (N,): rises at systole, about zero mean and one peak to peak."""
        amplitude = 1 - self.rhythm.depth * self.respiration(time_s)
        return amplitude * beat_shape(self.phase(time_s))

    def times_of(self, part: float) -> Array:
        """Times in [0, duration_s] at which each beat reaches `part` of its wave (0: its foot)."""
        grid = np.linspace(0, self.duration_s, int(self.duration_s * _GRID_HZ) + 2)
        phase = self.phase(grid)
        whole = np.arange(np.ceil(phase[0] - part), np.floor(phase[-1] - part) + 1)
        time_s = np.interp(whole + part, phase, grid)
        for _ in range(2):  # Newton steps: the phase is smooth and its slope is the rate
            time_s = time_s - (self.phase(time_s) - whole - part) / (self.rate_bpm(time_s) / 60)
        return np.clip(time_s, 0.0, self.duration_s)

    def beat_time_s(self) -> Array:
        """Times of the feet of the pulse waves (N,)."""
        return self.times_of(0.0)

    def peak_time_s(self) -> Array:
        """Times of the systolic maxima of the beat shape (N,)."""
        parts = np.linspace(0, 1, 4001)
        return self.times_of(float(parts[np.argmax(beat_shape(parts))]))


def beat_shape(phase: ArrayLike) -> Array:
    """One beat as a function of its phase in beats (any shape): zero mean, one peak to peak."""
    value = _raw_shape(np.asarray(phase, dtype=np.float64))
    whole = _raw_shape(np.linspace(0, 1, 1000, endpoint=False))
    return (value - whole.mean()) / (whole.max() - whole.min())


def _raw_shape(phase: Array) -> Array:
    total = np.zeros_like(phase)
    for height, position, width in _WAVES:
        distance = (phase - position + 0.5) % 1.0 - 0.5
        total += height * np.exp(-0.5 * (distance / width) ** 2)
    return total


def make_pulse(rhythm: Rhythm, duration_s: float, rng: np.random.Generator) -> Pulse:
    """A pulse with random phases of its modulations; the mean rate is `rhythm.rate_bpm` exactly."""
    slow = [(float(rng.uniform(0.01, 0.04)), rhythm.wander) for _ in range(3)]
    wanted = [(rhythm.respiration_hz, rhythm.rsa), (rhythm.lf_hz, rhythm.lf), *slow]
    components = tuple((hz, depth, float(rng.uniform(0, 2 * np.pi))) for hz, depth in wanted)
    return Pulse(rhythm, float(duration_s), components, float(rng.uniform(0, 1)))


@dataclass(frozen=True)
class LongSignal:
    """A pulse without video, for heart rate variability.

    time_s, pulse, respiration: (N,); beat_time_s, peak_time_s: (beats,), exact; rhythm: what was
    asked for; low_over_high: ratio of the LF to the HF power put in, (lf / rsa)^2.
    """

    time_s: Array
    pulse: Array
    respiration: Array
    beat_time_s: Array
    peak_time_s: Array
    rhythm: Rhythm
    low_over_high: float


def long_signal(
    seed: int, *, duration_s: float = 300.0, fs_hz: float = 60.0, noise: float = 0.0, **rhythm: float
) -> LongSignal:
    """Five minutes of pulse with known beats, RSA and LF component; a function of its arguments.

    noise: standard deviation of white noise, as a part of the pulse's peak-to-peak height.
    rhythm: fields of `Rhythm`; what is not given is drawn from the seed. ValueError when the
    duration does not hold two samples.
    """
    if fs_hz <= 0 or duration_s * fs_hz < 2:
        raise ValueError(f"duration_s = {duration_s} at fs_hz = {fs_hz}: fewer than two samples")
    rng = np.random.default_rng([seed, 300])
    drawn = Rhythm(
        rate_bpm=float(rng.uniform(55, 95)), respiration_hz=float(rng.uniform(0.18, 0.35)),
        rsa=float(rng.uniform(0.02, 0.05)), lf_hz=float(rng.uniform(0.08, 0.12)),
        lf=float(rng.uniform(0.015, 0.045)),
    )
    wanted = dataclasses.replace(drawn, **rhythm)
    pulse = make_pulse(wanted, duration_s, rng)
    time_s = np.arange(int(duration_s * fs_hz)) / fs_hz
    wave = pulse.wave(time_s) + noise * rng.standard_normal(len(time_s))
    ratio = (wanted.lf / wanted.rsa) ** 2 if wanted.rsa else float("inf")
    return LongSignal(
        time_s, wave, pulse.respiration(time_s), pulse.beat_time_s(), pulse.peak_time_s(), wanted, ratio
    )
