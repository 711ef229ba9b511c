"""Meta-rPPG: its nets, ordinal levels, prepared windows, episodes, stages of training and adaptation."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy import signal as ss
from torch import Tensor, nn

import nets
from dataset import contour, samplers
from dataset.loader import ClipLoader
from dataset.reader import StoreClips
from dataset.transforms import Change
from losses.ordinal import ordinal_loss, to_levels
from nets import methods
from nets.layers.face_window import prepare_window
from nets.layers.ordinal import decoded_level, expected_level, level_probabilities
from nets.layers.statistics import batch_statistics
from nets.layers.synthetic_gradient import SyntheticGradient
from nets.methods.adaptation import Point
from nets.summary import model_summary
from preprocessing.regions import OVAL
from tests.fakes import FPS, FakeClips, FakeUpdater, clip_batch, make_adam, pulse_wave
from tests.stores import make_store
from tests.training_toys import Batches, settings, train
from training.updater import Updater
from utils.contracts import ClipBatch, InputSpec
from utils.errors import Interrupted, UserError

WINDOW = 16
FEW: dict[str, Any] = {"pretrain_epochs": 0, "rate": 1e-3, "steps": 2}
SGD = {"optimizer": "sgd", "optimizer_options": {"momentum": 0.9, "weight_decay": 5e-4},
       "learning_rate": 1e-3, "scheduler": "constant"}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def learner(**options: Any) -> Any:
    """The method around a net of short windows and small pictures."""
    torch.manual_seed(0)
    net = nets.build("meta_rppg", window=WINDOW)
    net.input_spec = net.input_spec.replace(size=32)
    return methods.build("meta_rppg", net, **{**FEW, **options}).train()


def wrapped(**options: Any) -> Any:
    """PhysNet in method adaptive."""
    torch.manual_seed(0)
    net = nets.build("physnet")
    net.input_spec = net.input_spec.replace(size=16, frames=16)
    return methods.build("adaptive", net, **{**FEW, **options}).train()


BOTH = pytest.mark.parametrize("make", [learner, wrapped])


def updater(method: Any, **changes: Any) -> Updater:
    return Updater(method, settings(**{**SGD, **changes}), "cpu", total_steps=9, steps_per_epoch=3)


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def changed(before: dict[str, Tensor], after: nn.Module) -> set[str]:
    return {key for key, value in after.state_dict().items() if not torch.equal(before[key], value)}


def after_an_episode(make: Any = learner, **options: Any) -> Any:
    method = make(**options)
    method.train_step(clip_batch(method.input_spec), updater(method))
    return method.eval()


def recording(method: Any, frames: int = 90) -> FakeClips:
    return FakeClips.of_pulse(pulse_wave(frames), method.input_spec)


# The nets


def test_counts_and_shapes_are_those_of_the_paper() -> None:
    """175,848, 184,400 and 19,560 parameters; features, states, probabilities, gradients as published."""
    net = nets.build("meta_rppg")
    parts = (net.extractor, net.estimator, net.generator)
    assert [count(part) for part in parts] == [175_848, 184_400, 19_560]
    features = net.extractor(torch.rand(2, 3, 60, 64, 64))
    recurrent, state = net.estimator.recurrent(features)
    assert features.shape == recurrent.shape == net.generator(features).shape == (2, 60, 120)
    assert state.shape == (2, 4, 2, 60) and net.estimator.probabilities(recurrent).shape == (2, 60, 40)


def test_parts_have_the_published_sizes() -> None:
    """Every layer has its own count, not only their sum."""
    net = nets.build("meta_rppg")
    stages = [count(conv) + count(norm) for conv, norm in
              zip(net.extractor.convs, net.extractor.norms, strict=True)]
    assert stages == [896 + 64, 13_872 + 96, 27_712 + 128, 46_160 + 160, 86_520 + 240]
    assert (count(net.estimator.lstm), count(net.estimator.head)) == (174_720, 9_680)
    g = net.generator
    pairs = [(g.down1, g.norm1), (g.down2, g.norm2), (g.up1, g.norm3)]
    assert [count(a) + count(b) for a, b in pairs] == [7_320, 2_460, 2_520] and count(g.up2) == 7_260


def test_operations_of_the_extractor() -> None:
    """1.746 G multiplications for a window of 60 frames of 64 pixels."""
    net = nets.build("meta_rppg")
    _, values = model_summary(net, net.input_spec)
    assert values["macs_per_clip"] / 1e9 == pytest.approx(1.746, abs=0.002)


def test_pooling_stands_before_the_relu() -> None:
    """A stage is convolution, norm, mean of 2 x 2 and then ReLU, frame by frame."""
    net = nets.build("meta_rppg").eval()
    video, x = torch.randn(2, 3, 4, 32, 32), None
    x = video.transpose(1, 2).reshape(8, 3, 32, 32)
    for conv, norm in zip(net.extractor.convs, net.extractor.norms, strict=True):
        y = norm(conv(x))
        n, c, h, w = y.shape
        x = y.view(n, c, h // 2, 2, w // 2, 2).mean((3, 5)).clamp_min(0)
    torch.testing.assert_close(net.extractor(video), x.mean((2, 3)).view(2, 4, 120))


def test_weights_begin_small() -> None:
    """Weights of convolutions and of the linear layer are drawn with deviation 0.02, in all three nets."""
    net = nets.build("meta_rppg")
    kinds = nn.Conv2d | nn.Conv1d | nn.ConvTranspose1d | nn.Linear
    drawn = [module.weight for module in net.modules() if isinstance(module, kinds)]
    assert len(drawn) == 10
    assert all(abs(float(weight.detach().std()) - 0.02) < 0.002 for weight in drawn)


def test_windows_are_answered_by_themselves() -> None:
    """The net's plain answer to a clip of two windows is that to each."""
    net = nets.build("meta_rppg", window=WINDOW).eval()
    video = torch.randn(1, 3, 2 * WINDOW, 32, 32)
    with torch.no_grad():
        parts = [net(part) for part in video.split(WINDOW, dim=2)]
        torch.testing.assert_close(net(video), torch.cat(parts, dim=1))
    with pytest.raises(ValueError, match="multiple of 16"):
        net(video[:, :, 1:])


def test_generator_is_the_published_layer_table() -> None:
    """Its output equals the layers written out, with the skip around the narrow ones."""
    net = SyntheticGradient(60).eval()
    z = torch.randn(2, 60, 120)
    u1 = net.norm1(net.down1(z)).relu()
    u2 = net.norm2(net.down2(u1)).relu()
    torch.testing.assert_close(net(z), net.up2(net.norm3(net.up1(u2)).relu() + u1))


# Levels


def literal_levels(pulse: list[float]) -> list[int]:
    low, high = min(pulse), max(pulse)
    return [0 if high == low else round((p - low) / ((high - low) / 39)) for p in pulse]


def test_levels_are_those_of_the_definition() -> None:
    """round((p - min) / ((max - min) / 39)) over each window, 0 to 39."""
    pulse = torch.randn(5, 60, dtype=torch.float64) * torch.tensor([[1e-3], [1], [50], [1e4], [0.2]])
    assert to_levels(pulse).tolist() == [literal_levels(row) for row in pulse.tolist()]


def test_a_constant_label_has_level_zero() -> None:
    """No division by nothing: zeros, and a finite loss; a NaN stays one."""
    assert to_levels(torch.full((2, 60), 3.7)).tolist() == [[0.0] * 60] * 2
    assert ordinal_loss(torch.full((1, 60, 40), 0.5), to_levels(torch.ones(1, 60))).isfinite()
    unlabelled = to_levels(torch.tensor([[1.0, math.nan, 2.0]]))
    assert unlabelled.isnan().all() and ordinal_loss(torch.rand(1, 3, 40), unlabelled).isnan()


def test_probabilities_are_those_of_the_pairs() -> None:
    """P_k = exp(b_k) / (exp(a_k) + exp(b_k)) of the clamped pairs, without overflow at large outputs."""
    outputs = torch.randn(2, 3, 80, dtype=torch.float64) * 3
    found = level_probabilities(outputs)
    for place in np.ndindex(2, 3, 40):
        a, b = (min(max(float(outputs[place[0], place[1], 2 * place[2] + i]), 1e-8), 1e8) for i in (0, 1))
        assert float(found[place]) == pytest.approx(math.exp(b) / (math.exp(a) + math.exp(b)))
    assert level_probabilities(torch.tensor([5e8, 1.0, 1.0, 5e8])).tolist() == [0.0, 1.0]


def test_ordinal_loss_is_the_slow_sum() -> None:
    """Sample by sample and level by level, up to and including the label's."""
    p, t = torch.rand(2, 7, 40), torch.randint(0, 40, (2, 7))
    p[0, 0, :3] = torch.tensor([0.0, 1.0, 0.5])
    total = 0.0
    for place in np.ndindex(2, 7):
        for k in range(40):
            chance = float(p[(*place, k)]) if k <= int(t[place]) else 1 - float(p[(*place, k)])
            total -= math.log(max(chance, 1e-8))
    assert float(ordinal_loss(p, t.float())) == pytest.approx(total / 14, rel=1e-5)


def test_a_perfect_answer_has_a_level_more() -> None:
    """Levels up to and including the label's: the waveform is one higher everywhere, and its loss nothing."""
    t = torch.randint(0, 40, (2, 9))
    p = (torch.arange(40) <= t[..., None]).float()
    assert torch.equal(decoded_level(p), t + 1.0) and torch.equal(expected_level(p), t + 1.0)
    assert float(ordinal_loss(p, t.float())) == pytest.approx(0, abs=1e-5)


# Windows


def test_window_is_prepared_as_described() -> None:
    """Mean over the face removed, frame means replaced by their band-passed part, nothing outside."""
    rng = np.random.default_rng(0)
    video, fps = rng.uniform(0, 255, (2, 3, 60, 6, 6)), [30.0, 61.0]
    face = (rng.random((2, 60, 6, 6)) > 0.3).astype(float)
    found = prepare_window(*(torch.from_numpy(x) for x in (video, face)), torch.tensor(fps), 1.0, 8.0).numpy()
    for clip, channel in np.ndindex(2, 3):
        inside = face[clip] > 0
        x = (video[clip, channel] - video[clip, channel][inside].mean()) * inside
        trace = np.array([x[t][inside[t]].mean() for t in range(60)])
        b, a = ss.butter(3, [1.0, 8.0], "bandpass", fs=fps[clip])
        wanted = (x + (ss.filtfilt(b, a, trace) - trace)[:, None, None]) * inside
        np.testing.assert_allclose(found[clip, channel], wanted, atol=1e-8)


def test_a_frame_without_a_face_stays_black() -> None:
    """No pixel of a face in a frame, or in none at all, gives zeros and not NaN."""
    face = torch.ones(2, 60, 4, 4)
    face[0, 5], face[1] = 0, 0
    made = prepare_window(torch.rand(2, 3, 60, 4, 4), face, torch.tensor([30.0, 30.0]), 1.0, 8.0)
    assert made.isfinite().all() and not made[0, :, 5].any() and not made[1].any() and made[0].any()


def test_windows_are_prepared_in_full_precision() -> None:
    """Autocast does not round the trace of the frames' means."""
    video, face, fps = 255 * torch.rand(1, 3, 60, 4, 4), torch.ones(1, 60, 4, 4), torch.tensor([30.0])
    with torch.autocast("cpu", torch.bfloat16):
        mixed = prepare_window(video, face, fps, 1.0, 8.0)
    assert torch.equal(mixed, prepare_window(video, face, fps, 1.0, 8.0))


def oval(frames: int, side: int) -> np.ndarray:
    """Landmarks whose outline is a circle in the left half of the crop: (T, 468, 2)."""
    points = np.full((frames, 468, 2), side / 2.0)
    angle = np.linspace(0, 2 * np.pi, len(OVAL), endpoint=False)
    points[:, list(OVAL)] = np.stack([0.3 + 0.2 * np.cos(angle), 0.5 + 0.2 * np.sin(angle)], 1) * side
    return points


def test_contour_is_the_oval_at_any_size() -> None:
    """The area inside is that of the outline; without landmarks it is the nearest frame's, or all."""
    points = oval(4, 128)
    points[1:3] = np.nan
    for size in (32, 64, 128):
        made = contour.masks(points, 128, size)
        assert made.mean() == pytest.approx(np.pi * 0.04, rel=0.2) and (made == made[0]).all()
    assert contour.masks(np.full((3, 468, 2), np.nan), 128, 16).all()


def test_contour_turns_with_the_picture(tmp_path: Path) -> None:
    """A clip brings the mask at its own size; a mirrored clip brings it mirrored."""
    (info,) = make_store(tmp_path, [30], size=20)
    spec = InputSpec(frames=16, size=10, video="raw", extras=("contour",))
    with pytest.raises(UserError, match="'landmarks', which is not stored"):
        StoreClips(info, spec).clip(0, 16)
    clips = StoreClips(info, spec)
    clips._stored = _With(clips._stored, oval(30, 20))
    plain, turned = (clips.clip(3, 16, Change(flip=flip)).extras["contour"] for flip in (False, True))
    assert plain.shape == (16, 10, 10) and plain[:, :, :5].sum() > plain[:, :, 5:].sum()
    assert torch.equal(turned, plain.flip(-1))


class _With:
    """A stored recording and landmarks beside it."""

    def __init__(self, stored: Any, landmarks: np.ndarray) -> None:
        self._stored, self._landmarks = stored, landmarks

    def __contains__(self, name: str) -> bool:
        return name == "landmarks" or name in self._stored

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stored, name)

    def array(self, name: str, *span: int) -> np.ndarray:
        return self._landmarks[slice(*span)] if name == "landmarks" else self._stored.array(name, *span)


# Episodes


LENGTHS = st.lists(st.integers(48, 300), min_size=1, max_size=9)


@hypothesis_settings(max_examples=60, deadline=None)
@given(LENGTHS, st.integers(1, 5), st.one_of(st.none(), st.integers(1, 40)),
       st.one_of(st.none(), st.integers(1, 4)), st.integers(0, 99), st.integers(0, 9))
def test_episodes_are_sequential_and_disjoint(
    lengths: list[int], batch: int, step: int | None, share: int | None, seed: int, epoch: int
) -> None:
    """Different recordings from one start each time; starts go on by the step; no windows overlap."""
    made = samplers.get("episodes", step)(lengths, 3 * WINDOW, batch, share, seed, epoch)
    width = min(batch, len(lengths))
    last = sorted(length - 3 * WINDOW for length in lengths)[-width]
    starts = [row[0].start for row in made]
    for row in made:
        assert len({sample.recording for sample in row}) == len(row) == width
        assert len({sample.start for sample in row}) == 1
        assert all(sample.start + 3 * WINDOW <= lengths[sample.recording] for sample in row)
        windows = [range(row[0].start + k * WINDOW, row[0].start + (k + 1) * WINDOW) for k in range(3)]
        assert all(not set(a) & set(b) for a in windows for b in windows if a is not b)
    assert [sample.index for row in made for sample in row] == list(range(width * len(made)))
    if step is not None or share is None:
        assert starts == list(range(0, last + 1, step or 1))
    else:
        assert len(starts) == math.ceil(share * len(lengths) / width) and starts == sorted(starts)


def test_loader_brings_episodes(tmp_path: Path) -> None:
    """A batch holds support and query windows of different recordings from the start of the plan."""
    infos = make_store(tmp_path, [70, 60, 64], size=20)
    spec = learner(mask=False, step=5).input_spec
    assert (spec.plan, spec.step, spec.train_frames, spec.frames) == ("episodes", 5, 48, 16)
    loader = ClipLoader(infos, spec, batch=2, seed=0)
    batches = list(loader.epoch(1))
    assert [b.start for b in batches] == [[0, 0], [5, 5], [10, 10], [15, 15]]
    assert all(b.video.shape == (2, 3, 48, 32, 32) and len(set(b.recording)) == 2 for b in batches)


def test_a_step_for_a_plan_without_order_is_refused() -> None:
    """No silent change of a plan that does not go by steps."""
    with pytest.raises(UserError, match="at least 1"):
        samplers.get("episodes", 0)([100], 48, 1, None, 0, 0)


# Training


class Spy:
    """Notes the steps and takes none."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, ...]] = []

    def minimise(self, loss: Tensor, *names: str, again: object = None) -> None:
        self.steps.append(names)

    def apply(self, name: str, grads: Any) -> None:
        list(grads)
        self.steps.append((name,))


LEARN = [("extractor", "estimator"), ("generator",)]


@pytest.mark.parametrize(("options", "expected"), [
    ({}, [("extractor",), ("synthetic",), *LEARN, *LEARN]),
    ({"train_steps": 2}, [("extractor",), ("synthetic",), ("extractor",), ("synthetic",), *LEARN, *LEARN]),
    ({"train_steps": 2, "compat": True}, [("extractor",), ("synthetic",), ("synthetic",), *LEARN, *LEARN]),
    ({"adapt": "both"}, [("extractor", "estimator"), ("synthetic",), *LEARN, *LEARN]),
    ({"adapt": "estimator", "queries": 1}, [("estimator",), ("synthetic",), *LEARN]),
    ({"pretrain_epochs": None}, [("extractor", "estimator")]),
])
def test_order_of_the_steps(options: dict[str, Any], expected: list[tuple[str, ...]]) -> None:
    """Adaptation on support, then learning on queries, in the paper's order or the released code's."""
    method, spy = learner(**options), Spy()
    method.train_step(clip_batch(method.input_spec), spy)
    assert spy.steps == expected


class Hand:
    """SGD with momentum and weight decay, written out."""

    def __init__(self, parameters: list[nn.Parameter], rate: float) -> None:
        self.parameters, self.rate = parameters, rate
        self.velocity = [torch.zeros_like(p) for p in parameters]

    def step(self, grads: Any) -> None:
        with torch.no_grad():
            for p, v, g in zip(self.parameters, self.velocity, grads, strict=True):
                v.mul_(0.9).add_(g + 5e-4 * p)
                p.sub_(self.rate * v)


def episode_by_hand(method: Any, batch: ClipBatch) -> None:
    """One training step of the paper's algorithm on `method`, with nothing of its own code.

    The generator learns 1000 times the gradient; the distance to the prototype weighs 30.
    """
    net, f, h = method.net, method.net.extractor, method.net.estimator
    theta, phi, psi = ([*part.parameters()] for part in (f, h, net.generator))
    opt_f, opt_h, opt_g, opt_s = Hand(theta, 1e-3), Hand(phi, 1e-3), Hand(psi, 1e-3), Hand(theta, 10.0)

    def window(start: int) -> tuple[Tensor, Tensor]:
        span = slice(start, start + WINDOW)
        video = prepare_window(batch.video[:, :, span], batch.extras["contour"][:, span], batch.fps, 1.0, 8.0)
        return video, to_levels(batch.pulse[:, span])

    def estimated(z: Tensor, state: Any) -> tuple[Tensor, Any]:
        out, after = h.lstm(z, state)
        return level_probabilities(h.head(out)), after

    def stored(after: Any) -> Any:
        return [s.detach().mean(1, keepdim=True) for s in after]

    n = len(batch)
    video, _ = window(0)
    z = f(video).detach()
    prototype = z.mean((0, 1))
    first = stored(estimated(z, [torch.zeros(4, n, 60)] * 2)[1])

    state = [s.repeat(1, n, 1) for s in first]
    for number in range(3):
        video, level = window(number * WINDOW)
        z = f(video)
        p, after = estimated(z, state)
        task = ordinal_loss(p, level)
        loss = task + 30 * (z - prototype).square().mean()
        if number == 0:  # support
            told = net.generator(z.detach()).detach() / 1000
            synthetic = torch.autograd.grad((z * told).sum(), theta, retain_graph=True)
            opt_f.step(torch.autograd.grad(loss, theta))
            opt_s.step(synthetic)
        else:
            (target,) = torch.autograd.grad(task, z, retain_graph=True)
            grads = torch.autograd.grad(loss, [*theta, *phi])
            opt_f.step(grads[: len(theta)])
            opt_h.step(grads[len(theta) :])
            missed = (net.generator(z.detach()) - 1000 * target).square().mean()
            opt_g.step(torch.autograd.grad(missed, psi))
        state = [s.detach() for s in after]
    start = int(torch.randint(2 * WINDOW + 1, ()))
    video, _ = window(start)
    z = f(video).detach()
    after = stored(estimated(z, [s.repeat(1, n, 1) for s in first])[1])
    method.prototype.copy_(0.8 * prototype + 0.2 * z.mean((0, 1)))
    method.state.copy_(torch.stack([0.8 * a + 0.2 * b for a, b in zip(first, after, strict=True)]))


def test_one_episode_followed_by_hand() -> None:
    """The generator learns dL/dz; its answer reaches the extractor as a gradient, at a rate of its own.

    Every weight, the prototype and the state after one episode through the real updater are those of the
    algorithm written out with nothing but tensors.
    """
    method = learner(gradient_scale=1000.0, prototype_weight=30.0, rate=10.0)
    other, batch = copy.deepcopy(method), clip_batch(method.input_spec, n=3)
    torch.manual_seed(5)
    method.train_step(batch, updater(method))
    torch.manual_seed(5)
    episode_by_hand(other, batch)
    wanted = other.state_dict()
    for key, value in method.state_dict().items():
        if key != "initialised":
            torch.testing.assert_close(value, wanted[key], rtol=1e-4, atol=1e-6, msg=key)


def test_synthetic_gradients_move_what_is_adapted_and_nothing_else() -> None:
    """Only the extractor, or only the recurrent layers, or both get synthetic gradients."""
    for adapt, parts in (("extractor", ["extractor"]), ("estimator", ["estimator.lstm"]),
                         ("both", ["extractor", "estimator.lstm"])):
        method = after_an_episode(adapt=adapt)
        net = method.adapted_copy(recording(method))
        moved = {k for k, v in net.named_parameters() if not torch.equal(v, method.net.get_parameter(k))}
        expected = {k for k, _ in method.net.named_parameters() if k.startswith(tuple(parts))}
        assert moved == expected


def test_generator_learns_the_gradient() -> None:
    """On a window seen again and again, of a net that stands still, it comes to tell dL/dz at its scale."""
    method = learner(gradient_scale=1280.0)
    batch, steps = clip_batch(method.input_spec), FakeUpdater(method.optimizers(make_adam))
    for name, rate in (("extractor", 0.0), ("estimator", 0.0), ("generator", 1e-2)):
        steps.optimizers[name].param_groups[0]["lr"] = rate
    window, pulse, state = method.window_of(batch, 0), batch.pulse[:, :WINDOW], method.first_state(2)
    missed = [float(method._learn(window, pulse, state, steps)[0]["synthetic"]) for _ in range(60)]
    z = method.net.extractor(window).detach().requires_grad_()
    loss = ordinal_loss(method.answer_at(method.net, Point(z, state)).features, to_levels(pulse))
    true = 1280 * torch.autograd.grad(loss, z)[0]
    pair = torch.stack([true.flatten(), method.net.generator(z.detach()).detach().flatten()])
    assert missed[-1] < 0.5 * missed[0] and torch.corrcoef(pair)[0, 1] > 0.5


def test_learning_end_to_end_needs_no_episodes() -> None:
    """While pre-training, generator, prototype and state stay as they are; afterwards they move."""
    method = learner(pretrain_epochs=2)
    before, steps = state_of(method), updater(method)
    batch = clip_batch(method.input_spec)
    method.train_step(dataclasses.replace(batch, epoch=1), steps)
    moved = changed(before, method)
    assert moved and all(key.startswith(("net.extractor", "net.estimator")) for key in moved)
    method.train_step(dataclasses.replace(batch, epoch=2), steps)
    assert {"prototype", "state", "initialised", "net.generator.up2.bias"} <= changed(before, method)


def test_prototype_and_state_keep_their_share() -> None:
    """With gamma = 1 both stay those of the first windows; slots are kept apart."""
    method = after_an_episode(gamma=1.0, slots=2)
    before = state_of(method)
    method.train().train_step(clip_batch(method.input_spec), updater(method))
    assert torch.equal(before["prototype"], method.prototype) and torch.equal(before["state"], method.state)
    assert not torch.equal(method.state[:, :, 0], method.state[:, :, 1])


@BOTH
def test_unlabelled_recordings_are_refused(make: Any) -> None:
    """Training needs labels, also in the episodes."""
    method = make()
    with pytest.raises(UserError, match="no label for training"):
        method.train_step(clip_batch(method.input_spec, labelled=False), updater(method))


class Clips(Batches):
    """Batches of episodes, a function of (epoch, index); with `after`, stopped before that one."""

    def __init__(self, spec: InputSpec, after: int | None = None) -> None:
        super().__init__(steps=2)
        self.spec, self.after = spec, after

    def batch(self, epoch: int, index: int) -> ClipBatch:
        if epoch * self.steps + index == self.after:
            raise Interrupted(143)
        batch = clip_batch(self.spec)
        return dataclasses.replace(
            batch, video=batch.video * (1 + 0.1 * (epoch * self.steps + index)), epoch=epoch
        )


@BOTH
def test_resumes_to_the_same_bits(make: Any, tmp_path: Path) -> None:
    """Stopped between two episodes of an epoch, while pre-training or after, it ends with the same bits."""
    section = settings(epochs=2, checkpoint_steps=1, **SGD)
    spec = make().input_spec
    _, straight = train(tmp_path / "a" / "checkpoints", section, Clips(spec), method=make(pretrain_epochs=1))
    for after in (1, 3):
        folder = tmp_path / str(after) / "checkpoints"
        with pytest.raises(Interrupted):
            train(folder, section, Clips(spec, after), method=make(pretrain_epochs=1))
        _, resumed = train(folder, section, Clips(spec), method=make(pretrain_epochs=1))
        assert not changed(state_of(straight), resumed)
    assert bool(straight.initialised)


def test_a_recording_is_learnt_by_heart() -> None:
    """After some episodes with one recording its rate and its waveform are told upright."""
    method = learner(mask=False, low_hz=0.7)
    batch = clip_batch(method.input_spec, n=1)
    steps = FakeUpdater(method.optimizers(make_adam))
    losses = [float(method.train_step(batch, steps)["task"]) for _ in range(30)]
    assert losses[-1] < 0.6 * losses[0]
    waveform = method.predict(FakeClips(batch.video[0], WINDOW))
    assert np.corrcoef(waveform.numpy(), batch.pulse[0].numpy())[0, 1] > 0.7


# Answering


@BOTH
@pytest.mark.parametrize("adaptation", ["none", "prototype", "synthetic", "both"])
def test_adapting_changes_only_the_copy(make: Any, adaptation: str) -> None:
    """The weights before the features move, but inductively; the method keeps every bit."""
    method = after_an_episode(make, adaptation=adaptation, rate=0.05)
    clips, before, random = recording(method), state_of(method), torch.get_rng_state()
    with torch.no_grad():
        net = method.adapted_copy(clips)
        first = method.predict(clips)
    assert not changed(before, method) and torch.equal(random, torch.get_rng_state())
    extractor = {id(p) for p in net.halves()[0]}
    for key, value in net.named_parameters():
        moved = not torch.equal(value, method.net.get_parameter(key))
        assert moved == (adaptation != "none" and id(value) in extractor), key
    assert torch.equal(first, method.predict(clips)) and first.isfinite().all()


def test_adapted_to_the_first_window_alone() -> None:
    """What follows the support window does not change the copy, what is in it does."""
    method = after_an_episode(rate=0.01)
    clips, later, earlier = (recording(method) for _ in range(3))
    later.video = torch.cat([clips.video[:, :WINDOW], clips.video[:, WINDOW:].flip(1)], dim=1)
    earlier.video = torch.cat([clips.video[:, :WINDOW].flip(1), clips.video[:, WINDOW:]], dim=1)
    nets_ = [method.adapted_copy(each) for each in (clips, later, earlier)]
    weights = [net.extractor.convs[4].weight for net in nets_]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_labels_are_not_read() -> None:
    """Adapting and answering are the same with another label."""
    method = after_an_episode(rate=0.01)
    clips = recording(method)
    first = method.predict(clips)
    clips.label = torch.randn(clips.n_frames)
    assert torch.equal(first, method.predict(clips))


def test_prototype_steps_come_nearer() -> None:
    """Prototype steps alone lower the distance of the support window's features to the prototype."""
    method = after_an_episode(adaptation="prototype", rate=0.5, steps=10)
    clips = recording(method)
    method.prototype += 0.5
    window = method.window_of(next(clips.batches(1)), 0)
    with torch.no_grad(), batch_statistics(method.net):
        before = method.distance(method.net.extractor(window))
    with torch.no_grad():
        after = method.distance(method.adapted_copy(clips).extractor(window))
    assert float(after) < 0.9 * float(before)


@pytest.mark.parametrize("compat", [False, True])
def test_steps_of_adaptation_by_hand(compat: bool) -> None:
    """Both gradients in each step, as in the paper; or all synthetic ones first, as in the released code."""
    method = after_an_episode(compat=compat, prototype_weight=3.0, gradient_scale=4.0)
    clips = recording(method)
    window = method.window_of(next(clips.batches(1)), 0)
    net = copy.deepcopy(method.net)
    theta = list(net.extractor.parameters())
    hand = Hand(theta, 1e-3)
    order = ["s", "s", "p", "p"] if compat else ["sp", "sp"]
    with batch_statistics(net):
        for kinds in order:
            z = net.extractor(window)
            told = net.generator(z.detach()).detach() / 4 if "s" in kinds else torch.zeros_like(z)
            near = 6.0 * (z.detach() - method.prototype) / z.numel() if "p" in kinds else 0
            hand.step(torch.autograd.grad(z, theta, told + near))
    found = method.adapted_copy(clips)
    for a, b in zip(found.extractor.parameters(), theta, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_state_is_carried_from_window_to_window() -> None:
    """Windows are answered one after the other, each from the state that the one before left behind."""
    method = after_an_episode(adaptation="none")
    clips = recording(method, 3 * WINDOW)
    pieces, state = [], (method.state[0], method.state[1])
    with torch.no_grad(), batch_statistics(method.net):
        for batch in clips.batches(1):
            z = method.net.extractor(method.window_of(batch, 0))
            out, state = method.net.estimator.lstm(z, state)
            level = level_probabilities(method.net.estimator.head(out)).sum(-1)[0].double()
            pieces.append((level - level.mean()) / level.std(correction=0))
    torch.testing.assert_close(method.predict(clips), torch.cat(pieces).float(), rtol=1e-4, atol=1e-4)


def test_levels_and_their_expectation() -> None:
    """The published waveform has whole levels; the expected one is smoother and goes with it."""
    rows = torch.rand(1, 50, 40).sort(-1, descending=True).values
    whole, smooth = learner(waveform="levels").waveform(rows), learner().waveform(rows)
    assert torch.equal(whole, (rows > 0.5).sum(-1).float()) and torch.equal(smooth, rows.sum(-1))


def test_statistics_are_the_windows_own_or_the_running_ones() -> None:
    """By the running statistics a brighter window is answered differently, by its own it is not."""
    for statistics, same in (("batch", True), ("running", False)):
        method = after_an_episode(wrapped, adaptation="none", statistics=statistics)
        clips = recording(method, 16)
        first = method.predict(clips)
        clips.video = 3 * clips.video
        assert torch.allclose(first, method.predict(clips), atol=1e-2) == same


def test_without_an_episode_recordings_are_answered_plainly(capsys: pytest.CaptureFixture[str]) -> None:
    """Before the first episode there is nothing to adapt by: said once, answered as without adaptation."""
    method = learner()
    clips = recording(method)
    first, second = method.predict(clips), method.predict(clips)
    method.options = dataclasses.replace(method.options, adaptation="none")
    assert torch.equal(first, second) and torch.equal(first, method.predict(clips))
    assert capsys.readouterr().err.count("without adaptation") == 1


def test_frame_rate_is_that_of_the_recording() -> None:
    """The same frames at another rate are prepared with another filter."""
    method = after_an_episode(adaptation="none", mask=False)
    clips = recording(method)
    first = method.predict(clips)
    clips.fps = 2 * FPS
    assert not torch.equal(first, method.predict(clips))


def test_other_methods_do_not_take_unprepared_windows() -> None:
    """The net learns from prepared windows alone: plain supervised learning is refused."""
    with pytest.raises(ValueError, match="takes nets for pulse, and MetaRPPG is one for levels"):
        methods.build("supervised", nets.build("meta_rppg"))


def test_an_empty_band_is_refused() -> None:
    """low_hz must lie below high_hz."""
    with pytest.raises(ValueError, match="below high_hz"):
        learner(low_hz=9.0)


def test_physnet_keeps_its_bits_and_its_keys() -> None:
    """Divided into features and head, PhysNet computes what it did before, bit for bit, in any layout."""
    net = nets.build("physnet").eval()
    assert len(net.state_dict()) == 79 and not any("features" in key for key in net.state_dict())
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        net = net.to(memory_format=layout)
        video = torch.randn(2, 3, 16, 32, 32).contiguous(memory_format=layout)
        with torch.no_grad():
            x = net.block3(net.block2(net.block1(video)))
            x = net.block7(net.block6(net.block5(net.block4(x))))
            x = net.up2(net.up1(net.block9(net.block8(x))))
            assert torch.equal(net(video), net.head(x.mean((3, 4), keepdim=True)).flatten(1))
    assert sum(p.numel() for half in net.halves() for p in half) == count(net)
