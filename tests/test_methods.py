"""Contracts every registered method keeps, with every net it takes."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nets
from losses.waveform import LOSSES, neg_pearson
from nets import methods
from nets.methods.base import Method, integrate, standardise
from nets.methods.registry import METHODS
from nets.registry import NETS
from nets.weights import load_weights
from tests.fakes import FPS, FakeClips, FakeUpdater, clip_batch, in_form, make_adam, pulse_wave
from utils.autocast import autocast
from utils.contracts import ClipBatch, InputSpec
from utils.errors import UserError
from utils.signal import bandpass, power_spectrum

DATA = os.environ.get("RPPG_REAL_DATA")


def takes(method: str, net: str) -> bool:
    """Whether the method is one for this net."""
    kind = METHODS.get(method)
    return NETS.get(net).task in kind.tasks and all(hasattr(small(net), name) for name in kind.needs)


def tried(method: str, net: str) -> bool:
    """Pairs worth their seconds: every net with `supervised`, and with what needs something of a net.

    A further method for any net is tried on the net of its own name and on PhysNet.
    """
    kind = METHODS.get(method)
    further = kind.trainable and not kind.needs and method != "supervised"
    return takes(method, net) and (not further or net in (method, "physnet"))


def small(net: str) -> nn.Module:
    """A net small enough to try: a class may name options that make it so."""
    return nets.build(net, **getattr(NETS.get(net), "small_options", {}))


PAIRS = [(m, n) for m in methods.names() for n in nets.names() if tried(m, n)]
TRAINED = [(m, n) for m, n in PAIRS if METHODS.get(m).trainable]
EACH = pytest.mark.parametrize(("method", "net"), PAIRS)
EACH_TRAINED = pytest.mark.parametrize(("method", "net"), TRAINED)
DRAWN = [m for m in methods.names()
         if getattr(METHODS.get(m), "waveform_from_rates", False) or METHODS.get(m).label_share == 0]
"""Methods that answer with rates, or learn without labels: what they learn has neither a phase nor a sign."""


def built(method: str, net: str, seed: int = 1, **options: Any) -> Method:
    torch.manual_seed(seed)
    module = small(net)
    spec: InputSpec = module.input_spec
    frames = -(-64 // spec.multiple_of) * spec.multiple_of
    module.input_spec = spec.replace(frames=frames, size=getattr(module, "small_sizes", (16, 24))[0])
    return methods.build(method, module, **options)


def recording(method: Method, frames: int = 150) -> FakeClips:
    return FakeClips.of_pulse(pulse_wave(frames), method.input_spec)


def trained(method: Method, steps: int = 3) -> Method:
    updater = FakeUpdater(method.optimizers(make_adam))
    for _ in range(steps):
        method.train_step(clip_batch(method.input_spec), updater)
    return method


def snapshot(method: Method) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in method.state_dict().items()}


@EACH_TRAINED
def test_three_steps_change_the_weights(method: str, net: str) -> None:
    """Three steps leave every weight that is trained changed and finite, and the terms are scalars."""
    learner = built(method, net).train()
    before = snapshot(learner)
    updater = FakeUpdater(learner.optimizers(make_adam))
    for _ in range(3):
        terms = learner.train_step(clip_batch(learner.input_spec), updater)
        assert "loss" in terms
        assert all(term.shape == () and term.isfinite() for term in terms.values())
    exceptions = getattr(learner.net, "no_gradient", {})
    for key, parameter in learner.named_parameters():
        assert parameter.isfinite().all(), key
        excepted = key.removeprefix("net.") in exceptions or not parameter.requires_grad
        assert excepted or not torch.equal(before[key], parameter), key


@EACH_TRAINED
def test_the_net_is_called_as_often_as_stated(method: str, net: str) -> None:
    """What torch.compile reaches in a step: calls of the net itself, not of its parts."""
    learner, calls = built(method, net).train(), []
    learner.net.register_forward_hook(lambda *_: calls.append(1))
    learner.train_step(clip_batch(learner.input_spec), FakeUpdater(learner.optimizers(make_adam)))
    assert len(calls) == learner.net_calls


@EACH_TRAINED
def test_loss_is_differentiable_under_autocast(method: str, net: str) -> None:
    """Under bf16 the loss is a float32 scalar with finite gradients."""
    learner = built(method, net).train()
    with autocast("cpu", "bf16"):
        loss = learner.loss(clip_batch(learner.input_spec))["loss"]
    with autocast("cpu", "bf16", enabled=False):
        loss.backward()
    assert loss.dtype == torch.float32
    assert all(p.grad is None or p.grad.isfinite().all() for p in learner.parameters())


WAITS = {
    "contrast_phys": "the grid of its spectra follows from the frame rates",
    "meta_rppg": "its filters follow from the frame rates",
    "physformer": "it names the rates outside the classes of its loss",
}
"""Methods whose loss reads values of a batch back from the device in every step, and what for."""


@EACH_TRAINED
def test_loss_does_not_wait_for_the_device(method: str, net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a device whose values cannot be read the loss is computed, but by methods that say why not."""
    # which knows no such device
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    learner = built(method, net).train()
    batch = clip_batch(learner.input_spec).to("meta")
    reads = pytest.raises((RuntimeError, NotImplementedError), match="meta tensor")
    with reads if method in WAITS else contextlib.nullcontext():
        assert learner.to("meta").loss(batch)["loss"].is_meta


@EACH
@pytest.mark.parametrize("frames", [56, 64, 128, 150])
def test_waveform_has_a_sample_per_frame(method: str, net: str, frames: int) -> None:
    """Shorter than a clip, exactly one or two, or longer: float32 (T,), finite."""
    learner = built(method, net)
    waveform = learner.predict(recording(learner, frames))
    assert waveform.shape == (frames,) and waveform.dtype == torch.float32
    assert waveform.device.type == "cpu" and waveform.isfinite().all()
    assert waveform.std() > 0


@EACH
def test_predicting_changes_nothing(method: str, net: str) -> None:
    """Weights, buffers, training flags of every part, gradients and random numbers stay as they were."""
    learner = built(method, net).train()
    next(iter(learner.net.children()), learner.net).eval()
    before, flags = snapshot(learner), [m.training for m in learner.modules()]
    state, clips = torch.get_rng_state(), recording(learner)
    video = clips.video.clone()
    learner.predict(clips)
    assert all(torch.equal(before[key], value) for key, value in learner.state_dict().items())
    assert flags == [m.training for m in learner.modules()]
    assert torch.equal(state, torch.get_rng_state()) and torch.equal(video, clips.video)
    assert all(p.grad is None for p in learner.parameters()) and torch.is_grad_enabled()


@EACH
def test_waveform_does_not_depend_on_the_batch_size(method: str, net: str) -> None:
    """Clips one by one, three or eight at a time: the same bits on a CPU."""
    learner = built(method, net)
    clips = recording(learner, 300)
    first = learner.predict(clips, batch_size=1)
    assert all(torch.equal(first, learner.predict(clips, batch_size=size)) for size in (3, 8))


@EACH
def test_waveform_does_not_depend_on_the_mode(method: str, net: str) -> None:
    """A method in training mode predicts as in evaluation mode."""
    learner = built(method, net)
    clips = recording(learner)
    assert torch.equal(learner.train().predict(clips), learner.eval().predict(clips))


@EACH
def test_state_goes_through_a_file(method: str, net: str, tmp_path: Path) -> None:
    """A saved and loaded method predicts the same bits."""
    learner = built(method, net)
    if learner.trainable:
        trained(learner)
    torch.save(learner.state_dict(), tmp_path / "m.pt")
    other = built(method, net, seed=2)
    other.load_state_dict(torch.load(tmp_path / "m.pt", weights_only=True))
    clips = recording(learner)
    assert torch.equal(learner.predict(clips), other.predict(clips))


@pytest.mark.parametrize("net", [n for m, n in PAIRS if not METHODS.get(m).trainable])
@pytest.mark.parametrize("rate_hz", [0.95, 1.25, 2.0])
def test_untrained_methods_rise_when_skin_darkens(net: str, rate_hz: float) -> None:
    """On skin with a known pulse the waveform follows it, at its rate, without a frame being read."""
    learner = built("classical", net)
    pulse = pulse_wave(600, rate_hz=rate_hz)
    clips = FakeClips.of_pulse(pulse, learner.input_spec)
    band = bandpass(learner.predict(clips).numpy(), FPS, 0.7, 4)
    assert np.corrcoef(band, bandpass(pulse.numpy(), FPS, 0.7, 4))[0, 1] > 0.8
    assert clips.frames_read == 0


@pytest.mark.parametrize(("method", "net"), [pair for pair in TRAINED if pair[0] not in DRAWN])
def test_trained_method_answers_with_the_sign_of_its_labels(method: str, net: str) -> None:
    """A net that learnt clips by heart (with nothing frozen) predicts the pulse upright; some take longer."""
    thawed = {"freeze": False} if "freeze" in METHODS.options(method) else {}
    learner = built(method, net, **thawed).train()
    spec = learner.input_spec
    batch, updater = clip_batch(spec, n=2), FakeUpdater(learner.optimizers(make_adam))
    pulse, found = pulse_wave(spec.frames), 0.0
    for _ in range(2):
        for _ in range(30 * (found <= 0.6)):
            learner.train_step(batch, updater)
        band = bandpass(learner.predict(FakeClips.of_pulse(pulse, spec, seed=0)).numpy(), FPS, 0.7, 4)
        found = np.corrcoef(band, bandpass(pulse.numpy(), FPS, 0.7, 4))[0, 1]
    assert found > 0.6


class Shade(nn.Module):
    """Puts out the mean of each frame: what is fed in can be followed through `predict`."""

    task = "pulse"

    def __init__(self, target: str = "standardised", frames: int = 48) -> None:
        super().__init__()
        self.input_spec = InputSpec(frames=frames, size=4, video="raw", target=target)
        self.sizes: list[int] = []

    def forward(self, video: Tensor) -> Tensor:
        self.sizes.append(len(video))
        return video.mean((1, 3, 4))


def shaded(values: Tensor, frames: int = 48) -> FakeClips:
    return FakeClips(values.double().view(1, -1, 1, 1).expand(3, -1, 4, 4), frames)


@pytest.mark.parametrize("n", [12, 36, 48, 60, 96, 120, 132])
def test_clips_are_joined_without_overlap_or_gap(n: int) -> None:
    """A wave with whole periods in every clip comes back as it was, at any length."""
    wave = (torch.arange(n) * (2 * math.pi / 12) + 0.3).sin()
    waveform = methods.build("supervised", Shade()).predict(shaded(wave))
    torch.testing.assert_close(waveform, wave * math.sqrt(2), rtol=1e-4, atol=1e-5)


def test_last_clip_gives_only_its_new_samples() -> None:
    """What a clip has answered stays, bit for bit, when a later clip overlaps it."""
    values = torch.randn(130, generator=torch.Generator().manual_seed(0))
    method = methods.build("supervised", Shade())
    whole = method.predict(shaded(values))
    assert torch.equal(whole[:96], method.predict(shaded(values[:96])))
    torch.testing.assert_close(whole[96:], standardise(values[82:].double())[14:].float())


@pytest.mark.parametrize("n", [36, 48, 120])
def test_derivative_is_summed_up_in_step_with_the_label(n: int) -> None:
    """A net that puts out pulse[t + 1] - pulse[t] answers with the pulse, not one frame ahead of it."""
    wave = (torch.arange(n + 1).double() * (2 * math.pi / 12) + 0.3).sin()
    method = methods.build("supervised", Shade("diff_normalised"))
    waveform = method.predict(shaded(wave.diff())).double()
    scale = (waveform.max() - waveform.min()) / (wave[:-1].max() - wave[:-1].min())
    torch.testing.assert_close(waveform / scale, wave[:-1] - wave[0], atol=1e-5, rtol=0)


def test_flat_output_stays_flat() -> None:
    """A net that says nothing is not turned into a waveform by dividing by its rounding noise."""
    values = 100 + 1e-6 * torch.randn(100, dtype=torch.float64)
    assert methods.build("supervised", Shade()).predict(shaded(values)).abs().max() == 0


def test_non_finite_output_is_not_hidden() -> None:
    """NaN from a net reaches the caller."""
    wave = (torch.arange(96) / 5).sin()
    wave[60] = torch.nan
    waveform = methods.build("supervised", Shade()).predict(shaded(wave))
    assert waveform[:48].isfinite().all() and waveform[48:].isnan().all()


class Holey(FakeClips):
    """A recording whose clips leave frames out."""

    def batches(self, size: int) -> Iterator[ClipBatch]:
        """Without the second clip."""
        for batch in super().batches(1):
            if batch.start[0] != 48:
                yield batch


@pytest.mark.parametrize("n", [96, 144])
def test_missing_clips_are_an_error(n: int) -> None:
    """Frames that no clip covers are an error, not zeros in the waveform."""
    clips = Holey(shaded((torch.arange(n) / 5).sin()).video, 48)
    with pytest.raises(ValueError, match="frames"):
        methods.build("supervised", Shade()).predict(clips)


def test_standardised_rows_have_unit_variance() -> None:
    """Mean 0 and deviation 1 along time, per row."""
    rows = standardise(torch.randn(3, 100, dtype=torch.float64) * 5 + 20)
    torch.testing.assert_close(rows.mean(-1), torch.zeros(3).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(rows.std(-1, correction=0), torch.ones(3).double())


def test_integral_begins_at_zero() -> None:
    """Sample t is the sum of the differences before it."""
    assert integrate(torch.tensor([1.0, 2.0, 4.0, 8.0])).tolist() == [0, 1, 3, 7]


def test_unlabelled_clips_are_refused_by_name() -> None:
    """Supervised learning names the recordings without a label instead of learning from NaN."""
    learner = built("supervised", "physnet")
    batch = clip_batch(learner.input_spec, n=3)
    batch.has_label[1] = False
    with pytest.raises(UserError, match="r1"):
        learner.loss(batch)


@pytest.mark.parametrize("name", list(LOSSES))
def test_supervised_uses_the_loss_it_is_told(name: str) -> None:
    """Each loss by name gives the value of its function."""
    learner = built("supervised", "physnet", loss=name).eval()
    batch = clip_batch(learner.input_spec)
    with torch.no_grad():
        expected = LOSSES[name](learner.net(batch.video), batch.pulse)
        assert torch.equal(learner.loss(batch)["loss"], expected)


def test_supervised_correlates_by_default() -> None:
    """Without an option the loss is the negative Pearson correlation."""
    learner = built("supervised", "physnet").eval()
    batch = clip_batch(learner.input_spec)
    with torch.no_grad():
        assert torch.equal(learner.loss(batch)["loss"], neg_pearson(learner.net(batch.video), batch.pulse))


def test_unsuitable_loss_is_a_problem_of_the_params() -> None:
    """The check of the options gives the reason, before anything is built."""
    ((key, message),) = METHODS.check("supervised", {"loss": "ctc"})
    assert key == "loss" and "no symbols" in message
    with pytest.raises(ValueError, match="no symbols"):
        methods.build("supervised", nets.build("physnet"), loss="ctc")


@pytest.mark.parametrize(("method", "net"), [("supervised", "pos"), ("classical", "physnet")])
def test_net_of_another_task_is_refused(method: str, net: str) -> None:
    """A method says which kind of net it takes."""
    with pytest.raises(ValueError, match="takes nets for"):
        methods.build(method, nets.build(net))


def test_region_is_the_named_one() -> None:
    """The classical method reads the region it is told to."""
    clips = recording(built("classical", "pos"))
    face, forehead = (built("classical", "pos", region=r).predict(clips) for r in ("face", "forehead"))
    assert not torch.equal(face, forehead)


def test_absent_region_is_named() -> None:
    """A region the store does not have is an error with those it has."""
    learner = built("classical", "pos", region="forhead")
    with pytest.raises(UserError, match='did you mean "forehead"'):
        learner.predict(recording(learner))
    clips = recording(learner)
    clips.roi_rgb = None
    with pytest.raises(UserError, match="no mean colours"):
        learner.predict(clips)


def test_training_nothing_is_refused() -> None:
    """A method without training has no loss."""
    learner = built("classical", "pos")
    with pytest.raises(TypeError, match="not trained"):
        learner.loss(clip_batch(learner.input_spec))


@pytest.mark.skipif(not DATA, reason="RPPG_REAL_DATA does not name the folder with real data")
def test_released_weights_find_the_rate_of_a_real_face() -> None:
    """The public Contrast-Phys weights load whole and give 75.2 +- 1 bpm.

    The loss they were trained with does not tie the phase to the pulse: their waveform lags the contact
    PPG by about 0.2 s, where it correlates positively.
    """
    net = nets.build("contrast_phys")
    load_weights(net, Path(DATA or ".") / "model" / "contrast_phys_ubfc_physnet.pt")
    with np.load(Path(DATA or ".") / "fixtures" / "vitallens_sample_1_face72.npz") as data:
        frames, ppg, fps = data["frames"], data["ppg"], float(data["fps"])
    net.input_spec = net.input_spec.replace(frames=len(frames), size=72)
    video = in_form(torch.from_numpy(frames).permute(3, 0, 1, 2).float(), net.input_spec.video)
    waveform = methods.build("supervised", net).predict(FakeClips(video, len(frames), fps=fps)).numpy()
    band = bandpass(waveform, fps, 0.7, 4)
    frequency, power = power_spectrum(band, fps, bin_hz=0.002)
    assert abs(60 * frequency[power.argmax()] - 75.2) < 1
    lag = round(0.2 * fps)
    assert np.corrcoef(band[lag:], bandpass(ppg, fps, 0.7, 4)[:-lag])[0, 1] > 0.6
