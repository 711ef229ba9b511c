"""Meta-rPPG's nets have the published layers and sizes; its ordinal levels are those of their definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import nets
from losses.ordinal import ordinal_loss, to_levels
from nets import methods
from nets.layers.ordinal import decoded_level, expected_level, level_probabilities
from nets.layers.synthetic_gradient import SyntheticGradient
from nets.summary import model_summary
from tests.meta_rppg_toys import WINDOW


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


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


def test_other_methods_do_not_take_unprepared_windows() -> None:
    """The net learns from prepared windows alone: plain supervised learning is refused."""
    with pytest.raises(ValueError, match="takes nets for pulse, and MetaRPPG is one for levels"):
        methods.build("supervised", nets.build("meta_rppg"))


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
