"""RhythmNet: maps from stored crops and landmarks, rates of clips, and what evaluation makes of rates."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import nets
from dataset.maps import face_boxes, region_means, to_yuv
from dataset.reader import StoreClips
from evaluation.infer import infer
from evaluation.quality import assess_rates
from nets import methods
from nets.methods.base import Method
from nets.rhythmnet import RhythmNet
from preprocessing.store import RecordingWriter
from tests.fakes import FPS, FakeClips, FakeUpdater, clip_batch, make_adam, pulse_wave
from utils.contracts import InputSpec
from utils.errors import UserError
from utils.signal import power_spectrum, wave_of_rates

SKIN = np.array([180, 120, 90], dtype=np.uint8)
SIDE = 32


def small(**options: int) -> RhythmNet:
    torch.manual_seed(0)
    return nets.build("rhythmnet", **{"width": 8, "features": 16, "step": 4, **options})


def method(frames: int = 84, **options: float) -> Method:
    net = small()
    net.input_spec = net.input_spec.replace(frames=frames)
    return methods.build("rhythmnet", net, **options)


def stored(path: Path, n: int = 40, landmarks: bool = True) -> Path:
    """Crops on which a face of 10 x 20 pixels wanders over a black ground; no mesh in frames 5 to 9."""
    frames = np.zeros((n, SIDE, SIDE, 3), np.uint8)
    mesh = np.full((n, 468, 2), np.nan, np.float16)
    for t in range(n):
        left, top = 2 + t // 4, 8
        frames[t, top : top + 20, left : left + 10] = SKIN
        if not 5 <= t < 10 or t == 5:
            mesh[t] = np.linspace([left, top], [left + 10, top + 20], 468)
    arrays = {"frame_time_s": np.arange(n) / FPS, "pulse": pulse_wave(n).numpy(),
              "face_found": np.ones(n, bool), "box": np.zeros((n, 4), np.float32)}
    with RecordingWriter(path, SIDE) as writer:
        writer.append("frames", frames)
        if landmarks:
            writer.append("landmarks", mesh)
        writer.finish(arrays, {"fps": FPS, "dataset": "any", "subject": "s1", "recording": "r1"})
    return path


# Maps


def test_boxes_span_the_mesh() -> None:
    """In shares of the crop; frames without a mesh keep the box before, the first ones that of the first."""
    mesh = np.full((4, 3, 2), np.nan)
    mesh[1] = [[8, 4], [24, 20], [16, 40]]
    found = face_boxes(mesh, 32)
    np.testing.assert_allclose(found, np.tile([0.25, 0.125, 0.75, 1.0], (4, 1)))
    np.testing.assert_allclose(face_boxes(np.full((2, 3, 2), np.nan), 32), [[0, 0, 1, 1]] * 2)


def test_a_mesh_outside_the_crop_still_has_an_area() -> None:
    """A box is never empty, so that no mean is NaN."""
    video = torch.randint(0, 255, (1, 16, 16, 3), dtype=torch.uint8)
    for corner in (40.0, -40.0):
        boxes = face_boxes(np.full((1, 3, 2), corner), 16)
        assert region_means(video, boxes, 5).isfinite().all()


def test_means_are_those_of_the_covered_area() -> None:
    """Against a slow version that cuts every pixel into 30 x 30 parts."""
    video = torch.randint(0, 255, (2, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    boxes = np.array([[0.0, 0.0, 1.0, 1.0], [0.15, 0.3, 0.75, 0.9]])
    fine = np.kron(video.numpy().astype(float), np.ones((1, 30, 30, 1)))
    found = region_means(video, boxes, 3).numpy()
    for t, (left, top, right, low) in enumerate(np.rint(boxes * 240).astype(int)):
        rows, columns = (np.linspace(a, b, 4).astype(int) for a, b in ((top, low), (left, right)))
        for i in range(3):
            for j in range(3):
                part = fine[t, rows[i] : rows[i + 1], columns[j] : columns[j + 1]]
                np.testing.assert_allclose(found[t, i, j], part.mean((0, 1)), rtol=1e-4)


def test_colours_become_yuv() -> None:
    """Grey has its value and no colour; Y of red, green and blue is BT.601's."""
    found = to_yuv(torch.tensor([[100.0, 100, 100], [255, 0, 0], [0, 255, 0]]))
    torch.testing.assert_close(found[0], torch.tensor([100.0, 0, 0]), atol=2e-2, rtol=0)
    torch.testing.assert_close(found[1:, 0], torch.tensor([76.245, 149.685]))


def test_map_follows_the_face(tmp_path: Path) -> None:
    """Read from the store, a face that wanders over the crop has the same colour in every cell and frame."""
    spec = InputSpec(frames=40, size=5, video="st_map", target="standardised")
    video = next(StoreClips.from_file(stored(tmp_path / "r1.h5"), spec).batches(1)).video
    assert video.shape == (1, 3, 40, 5, 5)
    expected = to_yuv(torch.tensor(SKIN).float())
    at_mesh = [t for t in range(40) if not 6 <= t < 10]
    torch.testing.assert_close(
        video[0].permute(1, 2, 3, 0)[at_mesh], expected.expand(len(at_mesh), 5, 5, 3), rtol=1e-4, atol=0.05)


def test_maps_need_landmarks(tmp_path: Path) -> None:
    """A store without them is an error that names the file and the array, not the whole crop in secret."""
    spec = InputSpec(frames=40, size=5, video="st_map", target="standardised")
    with pytest.raises(UserError, match=r"r2\.h5: the net asks for 'landmarks'"):
        next(StoreClips.from_file(stored(tmp_path / "r2.h5", landmarks=False), spec).batches(1))


def test_clips_are_scaled_each_to_its_own_range() -> None:
    """Literal slices of the stretch, each region and channel from 0 to 255; without change 0."""
    net, video = small(clips=3), torch.randn(2, 3, 40, 5, 5)
    video[:, 1, :, 2, 3] = 7.0
    maps = net.maps(video)
    assert maps.shape == (2, 3, 3, 25, 32)
    for k in range(3):
        rows = video[:, :, 4 * k : 4 * k + 32].flatten(3).transpose(2, 3)
        low, high = rows.amin(-1, keepdim=True), rows.amax(-1, keepdim=True)
        expected = torch.where(high > low, 255 * (rows - low) / (high - low).clamp_min(1e-9), 0.0)
        torch.testing.assert_close(maps[:, k], expected, rtol=1e-4, atol=1e-3)
    assert maps[:, :, 1, 13].abs().max() == 0


# Net and losses


def test_submodules_have_the_sheets_sizes() -> None:
    """ResNet-18 without its classifier, a linear layer, a GRU and two heads."""
    net = nets.build("rhythmnet")
    sizes = {key: sum(p.numel() for p in child.parameters()) for key, child in net.named_children()}
    assert sizes == {"backbone": 11_176_512, "features": 513_000, "of_clip": 1_001, "recurrent": 6_006_000,
                     "of_sequence": 1_001}
    assert net.input_spec.frames == 300 + 5 * 15


@pytest.mark.parametrize(
    ("shape", "words"), [((1, 3, 30, 5, 5), "at least 36 frames"), ((3, 60, 5, 5), "B, 3, T")]
)
def test_other_shapes_are_refused(shape: tuple[int, ...], words: str) -> None:
    """With what is needed."""
    with pytest.raises(ValueError, match=words):
        small()(torch.zeros(shape))


def test_other_forms_are_refused() -> None:
    """The method does not learn rates from anything but maps."""
    net = small()
    net.input_spec = net.input_spec.replace(video="raw")
    with pytest.raises(ValueError, match="spatio-temporal maps"):
        methods.build("rhythmnet", net)


class Fixed(RhythmNet):
    """Gives rates it was told."""

    def __init__(self, of_clips: Tensor, of_sequence: Tensor) -> None:
        super().__init__(width=1, features=1, step=4)
        self.given = of_clips, of_sequence

    def rates(self, video: Tensor) -> tuple[Tensor, Tensor]:
        return self.given[0][: len(video)], self.given[1][: len(video)]


def test_loss_is_the_formula() -> None:
    """Error of the clips + of the GRU + 100 times the GRU's distance from its mean, in steps of 20 bpm."""
    of_clips = torch.tensor([[70.0] * 6, [90.0] * 6])
    of_sequence = torch.tensor([[75.0] * 3 + [85.0] * 3, [80.0] * 6])
    learner = methods.build("rhythmnet", Fixed(of_clips, of_sequence), sequence=1.0)
    batch = clip_batch(learner.input_spec.replace(frames=40))
    batch.hr_bpm = torch.tensor([80.0, 80.0])
    terms = {name: float(value) for name, value in learner.loss(batch).items()}
    assert terms == pytest.approx({
        "clip": 10 / 20, "sequence": 2.5 / 20, "roughness": 2.5 / 20, "loss": 0.5 + 0.125 + 12.5
    })


def test_rates_go_with_the_frame_rate() -> None:
    """The same map at half the frame rate is a heart of half the rate; the loss says so too."""
    learner = method().eval()
    clips = FakeClips.of_pulse(pulse_wave(200), learner.input_spec)
    slow = FakeClips(clips.video, clips.frames, fps=15.0)
    fast_bpm, slow_bpm = (learner.predict_rates(c)[0] for c in (clips, slow))
    torch.testing.assert_close(slow_bpm, fast_bpm / 2)


def test_unknown_rates_are_left_out() -> None:
    """A clip without a rate changes neither the loss nor the gradients, which stay finite."""
    learner = method().eval()
    batch = clip_batch(learner.input_spec)
    alone = learner.loss(batch.select([0]))["loss"]
    batch.hr_bpm[1] = math.nan
    both = learner.loss(batch)["loss"]
    both.backward()
    torch.testing.assert_close(both, alone, rtol=1e-4, atol=1e-5)
    assert all(p.grad is None or p.grad.isfinite().all() for p in learner.parameters())


def test_it_learns_rates_by_heart() -> None:
    """Eight stretches of rates from 50 to 120 bpm, in 60 steps: the error falls under 2 bpm."""
    learner = method().train()
    rates = torch.linspace(50, 120, 8) / 60
    parts = [FakeClips.of_pulse(pulse_wave(84, rate_hz=float(r)), learner.input_spec, seed=i)
             for i, r in enumerate(rates)]
    batch = clip_batch(learner.input_spec, n=8)
    batch.video, batch.hr_bpm = torch.stack([part.video for part in parts]), 60 * rates
    updater = FakeUpdater(learner.optimizers(make_adam))
    for _ in range(60):
        terms = learner.train_step(batch, updater)
    assert float(terms["clip"].detach()) * 20 < 2


# Answers


def test_rates_of_a_recording_have_times_of_their_own() -> None:
    """Six a stretch at the middles of their clips; the last stretch, which overlaps, adds only later ones."""
    learner = method().eval()
    clips = FakeClips.of_pulse(pulse_wave(200), learner.input_spec)
    rates, times = learner.predict_rates(clips)
    middles = [84 * k + 4 * i + 31.5 for k in range(2) for i in range(6)]
    middles += [m for m in (116 + 4 * i + 31.5 for i in range(6)) if m > middles[-1]]
    assert rates.shape == times.shape == (len(middles),)
    torch.testing.assert_close(times * FPS, torch.tensor(middles).round().double(), atol=0.51, rtol=0)


@pytest.mark.parametrize("sequence", [0.0, 1.0])
def test_who_answers_is_who_learnt(sequence: float) -> None:
    """The GRU where its error is in the loss, else the single clips."""
    told = torch.full((1, 6), 60.0), torch.full((1, 6), 90.0)
    learner = methods.build("rhythmnet", Fixed(*told), sequence=sequence)
    learner.net.input_spec = learner.input_spec.replace(frames=40)
    clips = FakeClips.of_pulse(pulse_wave(40), learner.input_spec)
    assert set(learner.predict_rates(clips)[0].tolist()) == {90.0 if sequence else 60.0}


def test_waveform_has_the_predicted_rate() -> None:
    """A sinusoid whose rate is that of the rates at every moment, without a jump."""
    times = np.arange(1800) / FPS
    wave = wave_of_rates([72.0, 72.0], [10.0, 20.0], times)
    frequency, power = power_spectrum(wave, FPS, bin_hz=0.001)
    assert 60 * frequency[power.argmax()] == pytest.approx(72.0, abs=0.2)
    rising = wave_of_rates([60.0, 120.0], [0.0, 60.0], times)
    assert np.abs(np.diff(rising)).max() < 2 * math.pi * 2.0 / FPS * 1.01
    crossings = np.flatnonzero((rising[:-1] < 0) & (rising[1:] >= 0))
    assert len(crossings) == pytest.approx(90, abs=1)


def test_drawn_waveform_is_not_stored() -> None:
    """Evaluation gets the rates and no waveform that nobody measured."""
    learner = method().eval()
    clips = FakeClips.of_pulse(pulse_wave(200), learner.input_spec)
    clips.key, clips.dataset, clips.conditions, clips.people = "any.r1", "any", {}, ""
    clips.reference_hr_bpm = clips.device_rate = clips.respiration = None
    clips.label = pulse_wave(200)
    wave, = infer({"rhythmnet": learner}, [clips])
    assert not wave.predictions and len(wave.rates["rhythmnet"][0]) == len(learner.predict_rates(clips)[0])


@pytest.mark.parametrize(("rate", "trusted"), [(75.0, True), (95.0, False)])
def test_quality_of_rates_is_not_that_of_the_drawn_wave(rate: float, trusted: bool) -> None:
    """It is high only where a waveform beside it is clear and has the same rate; there is no SNR."""
    times = np.arange(600) / FPS
    noise = np.random.default_rng(0).standard_normal((2, 600))
    clear = wave_of_rates([75.0], [10.0], times) + 0.3 * noise[0]
    drawn = wave_of_rates([rate], [10.0], times)
    found = assess_rates(drawn, times, [clear])
    assert (found.value > 0.6) == trusted and (found.value < 0.3) == (not trusted)
    assert found.snr_db is None and found.heart_rate_bpm == pytest.approx(rate, abs=0.5)
    assert assess_rates(drawn, times, [noise[1]]).value < 0.3 and assess_rates(drawn, times, []).value == 0
