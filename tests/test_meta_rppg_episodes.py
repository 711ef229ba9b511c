"""An episode teaches Meta-rPPG's parts in the paper's order and by its gradients, and resumes to the bit."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from losses.ordinal import ordinal_loss, to_levels
from nets.layers.face_window import prepare_window
from nets.layers.ordinal import level_probabilities
from nets.methods.adaptation import Point
from tests.fakes import FakeClips, FakeUpdater, clip_batch, make_adam
from tests.meta_rppg_toys import (
    BOTH,
    SGD,
    WINDOW,
    Hand,
    after_an_episode,
    changed,
    learner,
    state_of,
    updater,
)
from tests.training_toys import NoisyClips, settings, train
from utils.contracts import ClipBatch
from utils.errors import Interrupted, UserError


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


@BOTH
def test_resumes_to_the_same_bits(make: Any, tmp_path: Path) -> None:
    """Stopped between two episodes of an epoch, while pre-training or after, it ends with the same bits."""
    section = settings(epochs=2, checkpoint_steps=1, **SGD)
    spec = make().input_spec
    _, straight = train(tmp_path / "a" / "checkpoints", section, NoisyClips(spec),
                        method=make(pretrain_epochs=1))
    for after in (1, 3):
        folder = tmp_path / str(after) / "checkpoints"
        with pytest.raises(Interrupted):
            train(folder, section, NoisyClips(spec, after), method=make(pretrain_epochs=1))
        _, resumed = train(folder, section, NoisyClips(spec), method=make(pretrain_epochs=1))
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
