"""Adapting to a recording's first window moves a copy alone, by the steps described, without its label."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch

from nets.layers.ordinal import level_probabilities
from nets.layers.statistics import batch_statistics
from tests.fakes import FPS, FakeClips, pulse_wave
from tests.meta_rppg_toys import (
    BOTH,
    WINDOW,
    Hand,
    after_an_episode,
    changed,
    learner,
    state_of,
    wrapped,
)


def recording(method: Any, frames: int = 90) -> FakeClips:
    """Skin with a pulse, in the form of the method's net."""
    return FakeClips.of_pulse(pulse_wave(frames), method.input_spec)


def test_synthetic_gradients_move_what_is_adapted_and_nothing_else() -> None:
    """Only the extractor, or only the recurrent layers, or both get synthetic gradients."""
    for adapt, parts in (("extractor", ["extractor"]), ("estimator", ["estimator.lstm"]),
                         ("both", ["extractor", "estimator.lstm"])):
        method = after_an_episode(adapt=adapt)
        net = method.adapted_copy(recording(method))
        moved = {k for k, v in net.named_parameters() if not torch.equal(v, method.net.get_parameter(k))}
        expected = {k for k, _ in method.net.named_parameters() if k.startswith(tuple(parts))}
        assert moved == expected


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
