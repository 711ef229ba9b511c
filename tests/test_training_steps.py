"""A step moves the weights as its settings say: accumulated, clipped, scaled, scheduled, mixed precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nets.methods.base import Method
from tests.training_toys import Batches, MatrixNet, Plain, TinyNet, TwoOptimisers, settings, train
from training.precision import LossScale
from training.updater import Updater, resolve_amp
from utils.contracts import ClipBatch
from utils.errors import UserError


def step_once(section: Any, batches: list[ClipBatch], method: Method) -> None:
    """The batches as one epoch, without the loop."""
    updater = Updater(method, section, "cpu", total_steps=len(batches), steps_per_epoch=len(batches))
    for index, batch in enumerate(batches):
        method.train_step(batch, updater)
        updater.finish_batch(last=index == len(batches) - 1)


@pytest.mark.parametrize("group", [2, 3])
def test_accumulation_equals_a_larger_batch(group: int) -> None:
    """Without batch statistics, two batches of 2 give the step of one of 4, also in a group begun."""
    small, large = [Batches().batch(0, i) for i in range(2)], Batches().batch(0, 0)
    large.video = torch.cat([b.video for b in small])
    large.pulse = torch.cat([b.pulse for b in small])
    torch.manual_seed(0)
    a, b = (Plain(TinyNet(norm=False, dropout=0.0)) for _ in range(2))
    b.load_state_dict(a.state_dict())
    plain = {"optimizer": "sgd", "scheduler": "constant", "learning_rate": 0.1}
    step_once(settings(accumulate=group, **plain), small, a)
    step_once(settings(**plain), [large], b)
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-7)


def test_a_sum_is_no_gradient() -> None:
    """The first of a group is copied: where it lay, a CUDA graph makes the next one."""
    method = Plain(TinyNet(norm=False, dropout=0.0))
    updater = Updater(method, settings(accumulate=2), "cpu", total_steps=2, steps_per_epoch=2)
    made: list[Tensor] = []
    for parameter in method.parameters():
        parameter.register_post_accumulate_grad_hook(lambda p: made.append(p.grad))
    method.train_step(Batches().batch(0, 0), updater)
    before = [total.clone() for total in updater.state_dict()["sums"]["net"]]
    for grad in made:
        grad.zero_()
    assert made and all(map(torch.equal, before, updater.state_dict()["sums"]["net"]))


def test_clipping_limits_the_step() -> None:
    """With SGD at rate 1 the weights move by the clipping norm exactly."""
    method = Plain(TinyNet(norm=False, dropout=0.0))
    before = [p.detach().clone() for p in method.parameters()]
    section = settings(optimizer="sgd", scheduler="constant", learning_rate=1.0, clip_norm=0.01)
    step_once(section, [Batches().batch(0, 0)], method)
    moved = torch.cat([(p.detach() - q).flatten() for p, q in zip(method.parameters(), before, strict=True)])
    assert float(moved.norm()) == pytest.approx(0.01, rel=1e-3)


def test_minimise_leaves_other_parameters_alone() -> None:
    """Only the parameters of the named optimisers get gradients and move."""
    method = TwoOptimisers(TinyNet())
    updater = Updater(method, settings(), "cpu", 4, 4)
    batch = Batches().batch(0, 0)
    before = {name: p.detach().clone() for name, p in method.named_parameters()}
    hidden = method.net.conv(batch.video)
    hidden.retain_grad()
    loss = method.net.last(hidden.mean((3, 4)).transpose(1, 2)).square().mean()
    updater.minimise(loss, "first")
    moved = {name for name, p in method.named_parameters() if not torch.equal(before[name], p)}
    assert moved == {"net.conv.weight", "net.conv.bias"}
    assert hidden.grad is not None, "gradients that arrive inside the net can be read"
    assert all(p.grad is None for p in method.parameters())


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_mixed_precision_sees_the_weights_of_the_last_step(optimizer: str) -> None:
    """Within one batch, a forward pass after a step uses the new weights, not autocast's copies."""
    method, batch = Plain(TinyNet(dropout=0.0)), Batches().batch(0, 0)
    section = settings(amp="bf16", optimizer=optimizer, learning_rate=0.5, scheduler="constant")
    updater = Updater(method, section, "cpu", 4, 4)
    with updater.autocast():
        before = method.net(batch.video)
        method.train_step(batch, updater)
        inside = method.net(batch.video)
    with updater.autocast():
        fresh = method.net(batch.video)
    assert torch.equal(inside, fresh) and not torch.equal(inside, before)


def test_several_steps_a_batch_refuse_accumulation() -> None:
    """Adapting several times on one batch cannot be accumulated, and says so."""

    class Twice(Plain):
        def train_step(self, batch: ClipBatch, updater: Any) -> dict[str, Tensor]:
            super().train_step(batch, updater)
            return super().train_step(batch, updater)

    with pytest.raises(UserError, match=r"train\.accumulate must be 1"):
        train(None, settings(accumulate=2), make=Twice)
    with pytest.raises(UserError, match=r"train\.accumulate must be 1"):
        train(None, settings(accumulate=2), make=TwoOptimisers)


def test_unknown_optimiser_name_is_an_error() -> None:
    """A method that names an optimiser it did not make is told which there are."""
    updater = Updater(Plain(TinyNet()), settings(), "cpu", 4, 4)
    with pytest.raises(KeyError, match="this method made net"):
        updater.minimise(torch.zeros((), requires_grad=True), "head")


def test_fp16_is_refused_where_it_cannot_work() -> None:
    """On the CPU fp16 is an error that names what to set instead."""
    with pytest.raises(UserError, match="needs a CUDA device"):
        Updater(Plain(TinyNet()), settings(amp="fp16"), "cpu", 4, 4)
    assert resolve_amp("fp16", "cuda") == "fp16"
    assert resolve_amp("auto", "cpu") in ("bf16", "off")


def test_fp16_overflow_skips_the_step_and_halves_the_scale() -> None:
    """With a loss scale, an infinite gradient of a finite loss costs the step only."""
    method = Plain(TinyNet())
    updater = Updater(method, settings(), "cpu", 4, 4)
    updater._scale = LossScale()
    updater._scale.factor = 2.0**140  # overflows float32
    before = [p.detach().clone() for p in method.parameters()]
    method.train_step(Batches().batch(0, 0), updater)
    assert updater._scale.factor == 2.0**139
    assert all(torch.equal(p, q) for p, q in zip(method.parameters(), before, strict=True))
    restored = Updater(method, settings(), "cpu", 4, 4)
    restored._scale = LossScale()
    restored.load_state_dict(updater.state_dict())
    assert restored._scale.factor == 2.0**139


def test_a_loss_scale_gives_the_step_without_one() -> None:
    """Gradients are unscaled before they are clipped and used."""
    torch.manual_seed(3)
    a, b = (Plain(TinyNet(dropout=0.0)) for _ in range(2))
    b.load_state_dict(a.state_dict())
    section = settings(clip_norm=0.1)
    updater = Updater(a, section, "cpu", 4, 4)
    updater._scale = LossScale()
    a.train_step(Batches().batch(0, 0), updater)
    b.train_step(Batches().batch(0, 0), Updater(b, section, "cpu", 4, 4))
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-6)


def test_the_one_cycle_ends_where_it_should() -> None:
    """After the last step of a run with partial groups the rate is at its lowest."""
    method = Plain(TinyNet())
    section = settings(accumulate=3)
    updater = Updater(method, section, "cpu", total_steps=12, steps_per_epoch=4)
    for _ in range(3):
        for index in range(4):
            method.train_step(Batches().batch(0, index), updater)
            updater.finish_batch(last=index == 3)
        updater.finish_epoch(None)
    assert updater.learning_rates()["net"] == pytest.approx(0.01 / 25 / 1e4, rel=1e-6)


def test_channels_last_moves_only_the_layout() -> None:
    """Weights of 3D convolutions change their strides and keep their values and identity."""
    method = Plain(TinyNet())
    weight, before = method.net.conv.weight, method.net.conv.weight.detach().clone()
    Updater(method, settings(channels_last=True), "cpu", 4, 4)
    assert method.net.conv.weight is weight
    assert weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(weight, before)


def test_the_matrix_net_serves_muon(tmp_path: Path) -> None:
    """Muon trains a net of matrices."""
    before = MatrixNet()
    method = Plain(before)
    weight = before.last.weight.detach().clone()
    train(None, settings(optimizer="muon"), method=method)
    assert not torch.equal(weight, method.net.last.weight)
    assert isinstance(method.net, nn.Module)


@pytest.mark.parametrize(("asked", "mode"), [(True, "default"), ("reduce-overhead", "reduce-overhead")])
def test_compile_is_asked_for_by_mode(
    asked: bool | str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """train.compile compiles the net once, in the mode that was asked for; false leaves it alone."""
    modes: list[str] = []
    monkeypatch.setattr(TinyNet, "compile", lambda self, *, mode: modes.append(mode))
    train(None, settings(compile=asked))
    train(None, settings(compile=False))
    assert modes == [mode]
