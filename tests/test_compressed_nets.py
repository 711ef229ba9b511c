"""rPPGNet and STVEN against the published counts, shapes and formulas."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nets
from nets.layers.st_conv import STConv
from nets.rppgnet import attend
from nets.summary import model_summary


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def clip(n: int = 2, frames: int = 8, size: int = 32) -> Tensor:
    return torch.rand(n, 3, frames, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize(("into", "out", "middle", "total"), [
    (16, 32, 57, 13_883), (32, 32, 72, 27_896), (32, 64, 115, 55_609), (64, 64, 144, 111_088),
    (512, 512, 1152, 7_081_856),
])
def test_factorised_convolution_has_the_published_widths(into, out, middle, total):
    """The middle width and the number of parameters follow from the formula."""
    conv = STConv(into, out)
    assert (conv.space.out_channels, count(conv)) == (middle, total)


@pytest.mark.parametrize(("options", "total"), [
    ({}, 550_331), ({"build": "compat"}, 550_779), ({"stem_channels": 32}, 565_592),
    ({"build": "compat", "stem_channels": 32}, 566_040),
])
def test_rppgnet_counts(options, total):
    """Each build has the published number of parameters."""
    assert count(nets.build("rppgnet", **options)) == total


def test_rppgnet_submodules_have_the_published_sizes():
    """Each stage has its own count, not only their sum."""
    net = nets.build("rppgnet")
    assert count(net.stem) == 1_248
    assert [count(stage) for stage in net.shallow] == [13_947, 27_960]
    assert [count(stage) for stage in net.middle] == [55_737, 111_216]
    assert [count(stage) for stage in net.deep] == [111_216] * 3
    skin = [count(part) for part in (net.skin.main, net.skin.residual, net.skin.out)]
    assert skin == [5_832, 280, 73]
    assert [count(head) for head in (net.head_mid, net.head_whole, *net.head_parts)] == [65] * 6


@pytest.mark.parametrize(("name", "options", "gmac"), [
    ("rppgnet", {}, 29.989), ("stven", {"blocks": 4, "levels": 5}, 1428.8),
    ("stven", {"blocks": 6, "levels": 5}, 1892.7),
])
def test_operations_of_a_clip(name, options, gmac):
    """Multiply-accumulates of a 64-frame clip of 128 pixels are the published ones."""
    net = nets.build(name, **options)
    assert model_summary(net, net.input_spec)[1]["macs_per_clip"] / 1e9 == pytest.approx(gmac, rel=1e-4)


@pytest.mark.parametrize(("options", "total"), [
    ({"blocks": 4, "levels": 5}, 37_326_784), ({"blocks": 6, "levels": 5}, 51_490_496),
    ({"blocks": 4}, 37_317_376), ({}, 51_481_088),
])
def test_stven_counts(options, total):
    """Four or six blocks, four or five levels: the published numbers of parameters."""
    assert count(nets.build("stven", **options)) == total


def test_stven_layers_have_the_published_sizes():
    """Each convolution has its own count, and each instance norm two parameters a channel."""
    net = nets.build("stven", levels=5)
    stages = [*net.encoder, *net.decoder]
    assert [count(stage.conv) for stage in stages] == [75_264, 393_216, 4_194_304, 4_194_304, 131_072]
    assert [count(stage.norm) for stage in stages] == [128, 256, 1_024, 256, 128]
    assert count(net.out) == 9_408 and [count(block) for block in net.blocks] == [7_081_856] * 6


def test_rppgnet_puts_out_what_the_sheet_lists():
    """Skin map, six signals and two features come in the published shapes."""
    found = nets.build("rppgnet").signals(clip(frames=6, size=64))
    shapes = {name: tuple(value.shape) for name, value in found._asdict().items()}
    assert shapes == {
        "skin_logit": (2, 6, 32, 32), "mid": (2, 6), "whole": (2, 6), "parts": (2, 4, 6),
        "shallow": (2, 32, 6, 32, 32), "deep": (2, 64, 6, 16, 16),
    }
    assert found.skin.min() >= 0 and found.skin.max() <= 1


def test_attention_is_the_literal_formula():
    """Broadcast attention equals the formula written position by position, channel by channel."""
    torch.manual_seed(0)
    features, skin = torch.randn(2, 5, 3, 4, 4), torch.rand(2, 1, 3, 4, 4)
    expected = torch.empty_like(features)
    for b in range(2):
        for t in range(3):
            frame = features[b, :, t]
            score = torch.empty(4, 4)
            for y in range(4):
                for x in range(4):
                    values = frame[:, y, x]
                    score[y, x] = values.mean().sigmoid() + values.max().sigmoid() + skin[b, 0, t, y, x]
            weight = score.exp() / score.exp().sum()
            for c in range(5):
                expected[b, c, t] = frame[c] * weight
    torch.testing.assert_close(attend(features, skin), expected)


def test_parts_are_the_quarters_of_the_map():
    """Parts 1 to 4 read the upper left, lower left, upper right and lower right quarter."""
    torch.manual_seed(0)
    net = nets.build("rppgnet").eval()
    silent = net._parts(torch.zeros(1, 64, 4, 8, 8))
    for index, (row, column) in enumerate([(0, 0), (4, 0), (0, 4), (4, 4)]):
        attended = torch.zeros(1, 64, 4, 8, 8)
        attended[..., row : row + 4, column : column + 4] = 1.0
        moved = (net._parts(attended) - silent).abs().amax((0, 2))
        assert [i for i in range(4) if moved[i] > 0] == [index]


def test_released_slip_is_kept_on_request():
    """In the compat build the first part is read by the global head; in the fixed one by its own."""
    for build, same in (("compat", True), ("fixed", False)):
        net = nets.build("rppgnet", build=build).eval()
        with torch.no_grad():
            net.head_whole.weight.zero_()
            net.head_whole.bias.fill_(7.0)
        assert bool((net.signals(clip()).parts[:, 0] == 7.0).all()) == same


@pytest.mark.parametrize("name", ["rppgnet", "stven"])
def test_recomputing_changes_no_bit(name):
    """With checkpointing, output, gradients and running statistics are the same bits."""
    options = {} if name == "rppgnet" else {"width": 4, "blocks": 2}
    results = []
    for again in (False, True):
        torch.manual_seed(0)
        net = nets.build(name, checkpointing=again, **options).train()
        output = net(clip())
        (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
        grads = [p.grad for p in net.parameters() if p.grad is not None]
        results.append([output, *grads, *net.buffers()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_stven_adds_to_the_clip_and_keeps_its_shape():
    """The output is the clip plus something within -1 and 1, whatever the level."""
    net = nets.build("stven", width=4, blocks=1).eval()
    video = clip(3, 6, 12)
    with torch.no_grad():
        for level in (None, torch.tensor([0, 1, 3])):
            output = net(video, level)
            assert output.shape == video.shape and (output - video).abs().max() <= 1
        assert torch.equal(net(video), net(video, torch.zeros(3, dtype=torch.long)))
        assert not torch.equal(net(video), net(video, torch.ones(3, dtype=torch.long)))


def test_stven_is_the_literal_layer_table():
    """Output and gradients equal those of the published layers written one after the other."""
    torch.manual_seed(0)
    net = nets.build("stven", width=4, blocks=2, levels=5).train()

    def normed(module: nn.Module, channels: int) -> list[nn.Module]:
        return [module, nn.InstanceNorm3d(channels, affine=True, track_running_stats=True), nn.ReLU()]

    def st() -> list[nn.Module]:
        m = 27 * 32 * 32 // (9 * 32 + 3 * 32)
        return [nn.Conv3d(32, m, (1, 3, 3), padding=(0, 1, 1)), nn.BatchNorm3d(m), nn.ReLU(),
                nn.Conv3d(m, 32, (3, 1, 1), padding=(1, 0, 0))]

    up = nn.ConvTranspose3d
    other = nn.Sequential(
        *normed(nn.Conv3d(8, 4, (3, 7, 7), 1, (1, 3, 3), bias=False), 4),
        *normed(nn.Conv3d(4, 8, (3, 4, 4), (1, 2, 2), (1, 1, 1), bias=False), 8),
        *normed(nn.Conv3d(8, 32, (4, 4, 4), (2, 2, 2), (1, 1, 1), bias=False), 32), *st(), *st(),
        *normed(up(32, 8, (4, 4, 4), (2, 2, 2), (1, 1, 1), bias=False), 8),
        *normed(up(8, 4, (1, 4, 4), (1, 2, 2), (0, 1, 1), bias=False), 4),
        nn.Conv3d(4, 3, (1, 7, 7), 1, (0, 3, 3), bias=False), nn.Tanh(),
    ).train()
    other.load_state_dict(dict(zip(other.state_dict(), net.state_dict().values(), strict=True)))
    video, level = clip(2, 6, 12), torch.tensor([0, 4])
    planes = F.one_hot(level, 5).float()[:, :, None, None, None].expand(-1, -1, 6, 12, 12)
    expected = video + other(torch.cat([video, planes], 1))
    found = net(video, level)
    torch.testing.assert_close(found, expected)
    weight = torch.linspace(-1, 1, found.numel()).view_as(found)
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("name", "shape", "words"), [
    ("rppgnet", (1, 3, 8, 24, 32), "multiple of 16"), ("rppgnet", (3, 8, 16, 16), "B, 3, T"),
    ("stven", (1, 3, 7, 16, 16), "even number"), ("stven", (1, 3, 8, 18, 16), "multiple of 4"),
])
def test_impossible_clips_are_refused(name, shape, words):
    """A clip whose output would not fit is refused with what is accepted."""
    options = {"width": 2, "blocks": 1} if name == "stven" else {}
    with pytest.raises(ValueError, match=words):
        nets.build(name, **options)(torch.zeros(shape))
