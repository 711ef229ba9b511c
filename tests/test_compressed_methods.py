"""The three stages of STVEN and rPPGNet: what each minimises, trains and leaves alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nets
from losses.video import psnr_db, skin_bce
from losses.waveform import neg_pearson
from nets import methods
from tests.fakes import FakeUpdater, clip_batch, make_adam
from tests.training_toys import Batches, settings, train
from utils.contracts import ClipBatch, InputSpec
from utils.errors import Interrupted, UserError

SMALL = {"width": 4, "blocks": 1}


def stage(name: str, **options: object) -> methods.Method:
    torch.manual_seed(0)
    net = nets.build(name, **({} if name == "rppgnet" else SMALL))
    net.input_spec = net.input_spec.replace(frames=16, size=16)
    return methods.build(name, net, **options)


def trained_keys(method: methods.Method) -> set[str]:
    """The state that one training step changes."""
    method.train()
    before = {key: value.clone() for key, value in method.state_dict().items()}
    updater = FakeUpdater(method.optimizers(make_adam))
    method.train_step(clip_batch(method.input_spec), updater)
    return {key for key, value in method.state_dict().items() if not torch.equal(before[key], value)}


def test_rppgnet_loss_is_the_weighted_sum():
    """1 global + 0.5 mid + 0.1 skin + 0.5 over the parts, each term as the paper defines it."""
    method = stage("rppgnet").eval()
    batch = clip_batch(method.input_spec)
    terms, s = method.loss(batch), method.net.signals(batch.video)
    mask = F.avg_pool2d(batch.extras["skin"] / 255, 8)
    expected = {
        "whole": neg_pearson(s.whole, batch.pulse), "mid": neg_pearson(s.mid, batch.pulse),
        "parts": sum(neg_pearson(s.parts[:, i], batch.pulse) for i in range(4)),
        "skin": F.binary_cross_entropy(s.skin, mask),
    }
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)
    total = expected["whole"] + 0.5 * expected["mid"] + 0.5 * expected["parts"] + 0.1 * expected["skin"]
    torch.testing.assert_close(terms["loss"], total)


def test_rppgnet_trains_every_weight():
    """Every weight of the net gets a gradient, but the heads' biases, which a correlation does not see."""
    method = stage("rppgnet").eval()
    method.loss(clip_batch(method.input_spec))["loss"].backward()
    silent = [key for key, p in method.net.named_parameters() if p.grad is None or not p.grad.any()]
    assert all(key.startswith("head") and key.endswith("bias") for key in silent), silent


def test_without_the_skin_term_no_masks_are_needed():
    """With skin = 0 no stored masks are asked for, and the term is gone."""
    method = stage("rppgnet", skin=0.0)
    assert method.input_spec.extras == () and "skin" not in method.loss(clip_batch(method.input_spec))
    assert stage("rppgnet").input_spec.extras == ("skin",)


@pytest.mark.parametrize("side", [8, 16, 64, 128])
def test_masks_are_averaged_to_the_map(side):
    """A mask of any size is compared as its area average; a uniform one does not depend on the size."""
    logit = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    value = skin_bce(logit, torch.ones(1, 3, 64, 64))
    torch.testing.assert_close(value, F.softplus(-logit).mean())


def test_stven_loss_is_the_sum_of_the_four_terms():
    """Restoring squared; compressing and both cycles absolute; recomputed literally clip by clip."""
    method = stage("stven").eval()
    batch = clip_batch(method.input_spec, n=3)
    terms, net = method.loss(batch), method.net
    rows: list[list[Tensor]] = []
    for i in range(3):
        c0, ck = batch.video[i : i + 1], batch.extras["degraded"][i : i + 1]
        k, zero = batch.extras["level"][i : i + 1], torch.zeros(1, dtype=torch.long)
        rows.append([
            (c0 - net(ck, zero)).square().mean(), (ck - net(c0, k)).abs().mean(),
            (ck - net(net(ck, zero), k)).abs().mean(), (c0 - net(net(c0, k), zero)).abs().mean(),
        ])
    means = torch.stack([torch.stack(row) for row in rows]).mean(0)
    found = [terms[name] for name in ("restore", "compress", "cycle_copy", "cycle_original")]
    torch.testing.assert_close(torch.stack(found), means)
    torch.testing.assert_close(terms["loss"], means.sum())


def test_stven_trains_every_weight():
    """Every weight of STVEN gets a gradient."""
    method = stage("stven").eval()
    method.loss(clip_batch(method.input_spec))["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in method.parameters())


def test_joint_stage_changes_stven_only():
    """A step changes STVEN; rPPGNet keeps weights, statistics and evaluation mode."""
    method = stage("stven_rppgnet")
    changed = trained_keys(method)
    assert changed and all(key.startswith("net.stven.") for key in changed)
    assert {key for key, _ in method.net.stven.named_parameters()} <= {k[10:] for k in changed}
    assert not any(m.training for m in method.net.rppgnet.modules())
    assert method.net.stven.training


def test_joint_stage_can_be_thawed():
    """With freeze = false rPPGNet is trained as well."""
    changed = trained_keys(stage("stven_rppgnet", freeze=False))
    assert any(key.startswith("net.rppgnet.stem") for key in changed)


def test_joint_loss_is_the_papers():
    """Signal loss + perceptual distance + 1e-4 of the pixel differences, recomputed from the parts."""
    method = stage("stven_rppgnet").eval()
    batch, net = clip_batch(method.input_spec), method.net
    restored = net.stven(batch.extras["degraded"])
    made, wanted = net.rppgnet.signals(restored), net.rppgnet.signals(batch.video)
    alone = methods.build("rppgnet", net.rppgnet)
    signal = alone.loss(type(batch)(**{**vars(batch), "video": restored}))["loss"]
    perceptual = (
        F.mse_loss(made.shallow, wanted.shallow) + F.mse_loss(made.deep, wanted.deep)
        + 0.1 * F.mse_loss(made.skin, wanted.skin) + neg_pearson(made.whole, wanted.whole)
        + 0.5 * sum(neg_pearson(made.parts[:, i], wanted.parts[:, i]) for i in range(4))
    )
    pixel = (restored - batch.video).abs().mean() + (restored - batch.video).square().mean()
    torch.testing.assert_close(method.loss(batch)["loss"], signal + perceptual + 1e-4 * pixel)


def test_two_stages_need_labels_and_one_does_not():
    """Clips without a label are refused by the stages that read the pulse; STVEN alone takes them."""
    for name in ("rppgnet", "stven_rppgnet"):
        method = stage(name)
        with pytest.raises(UserError, match="no label for training"):
            method.loss(clip_batch(method.input_spec, labelled=False))
    method = stage("stven")
    assert method.loss(clip_batch(method.input_spec, labelled=False))["loss"].isfinite()


def test_too_many_qualities_are_refused():
    """More compressed copies than the net has levels are refused, naming the option."""
    for name in ("stven", "stven_rppgnet"):
        with pytest.raises(ValueError, match=r"set net\.options\.levels"):
            stage(name, qualities=["x264_1000", "x264_500", "x264_250", "x264_100"])


def test_methods_refuse_nets_without_what_they_need():
    """Method rppgnet needs a net with its signals, and says so."""
    with pytest.raises(ValueError, match="needs a net with signals, which PhysNet"):
        methods.build("rppgnet", nets.build("physnet"))


def test_psnr_is_that_of_the_definition():
    """An error of a tenth of the span everywhere is 20 dB."""
    first = torch.zeros(2, 3, 4, 4, 4)
    torch.testing.assert_close(psnr_db(first, first + 0.2, 2.0), torch.full((2,), 20.0))


def test_recomputing_in_the_joint_stage_changes_no_bit():
    """Checkpointing gives the joint stage the same loss and gradients."""
    results = []
    for again in (False, True):
        torch.manual_seed(0)
        net: nn.Module = nets.build("stven_rppgnet", checkpointing=again, **SMALL)
        net.input_spec = net.input_spec.replace(frames=8, size=16)
        method = methods.build("stven_rppgnet", net).train()
        loss = method.loss(clip_batch(method.input_spec))["loss"]
        loss.backward()
        results.append([loss, *(p.grad for p in net.stven.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


class Pairs(Batches):
    """Batches of a stage, a function of (epoch, index); with `after`, stopped before that one."""

    def __init__(self, spec: InputSpec, after: int | None = None) -> None:
        super().__init__(steps=3)
        self.spec, self.after = spec, after

    def batch(self, epoch: int, index: int) -> ClipBatch:
        if epoch * self.steps + index == self.after:
            raise Interrupted(143)
        batch = clip_batch(self.spec)
        scale = 1 + 0.1 * (epoch * self.steps + index)
        return type(batch)(**{**vars(batch), "video": batch.video * scale})


@pytest.mark.parametrize("name", ["rppgnet", "stven", "stven_rppgnet"])
@pytest.mark.parametrize("after", [1, 4])
def test_every_stage_resumes_to_the_same_bits(name, after, tmp_path):
    """A stage that was stopped in the middle of an epoch ends with the bits of the undisturbed one."""
    section = settings(epochs=2, checkpoint_steps=1)
    _, straight = train(tmp_path / "a" / "checkpoints", section, Pairs(stage(name).input_spec),
                        method=stage(name))
    folder = tmp_path / "b" / "checkpoints"
    with pytest.raises(Interrupted):
        train(folder, section, Pairs(stage(name).input_spec, after), method=stage(name))
    _, resumed = train(folder, section, Pairs(stage(name).input_spec), method=stage(name))
    state, other = straight.state_dict(), resumed.state_dict()
    assert all(torch.equal(state[key], other[key]) for key in state)


def test_stven_learns_to_undo_a_change():
    """Of copies that are darker and flatter STVEN learns to come back: under half of the copy's error."""
    method = stage("stven").train()
    batch = clip_batch(method.input_spec)
    batch.extras["degraded"] = 0.6 * batch.video - 0.2
    updater = FakeUpdater(method.optimizers(make_adam))
    gains = [float(method.train_step(batch, updater)["psnr_gain_db"]) for _ in range(80)]
    assert gains[0] < 0 and gains[-1] > 3
