"""AutoHR: the operator, the net and its genotypes against the formulas and the stated counts."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import nets
from evaluation.figures.cells import draw_cells, write_cells
from losses.spectral import (
    SPECTRAL,
    frequency_cross_entropy,
    log_power,
    rate_class,
    rate_power,
)
from losses.waveform import neg_pearson
from nets.layers.genotype import (
    FILES,
    NODES,
    OPERATIONS,
    Genotype,
    Kernel,
    kernel_of,
    load_genotype,
    random_genotype,
    sources_of,
)
from nets.layers.pool import FirstOverlappingMax, halving_max_pool
from nets.layers.tdc import TDC, temporal_difference_conv
from nets.summary import model_summary
from utils.errors import UserError


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def literal_tdc(
    video: Tensor, weight: Tensor, theta: float, stride: tuple[int, int, int], padding: tuple[int, int, int],
) -> Tensor:
    """The formula, place by place; pixels beyond the border are 0, as is the middle one where it is there."""
    padded = F.pad(video, [margin for size in reversed(padding) for margin in (size, size)])
    sizes = [(n - k) // s + 1 for n, k, s in zip(padded.shape[2:], weight.shape[2:], stride, strict=True)]
    made = video.new_zeros(len(video), len(weight), *sizes)
    middle = [k // 2 for k in weight.shape[2:]]
    for t, h, w in itertools.product(*map(range, sizes)):
        at = [place * step for place, step in zip((t, h, w), stride, strict=True)]
        centre = padded[:, :, at[0] + middle[0], at[1] + middle[1], at[2] + middle[2]]
        for dt, dh, dw in itertools.product(*map(range, weight.shape[2:])):
            seen = padded[:, :, at[0] + dt, at[1] + dh, at[2] + dw]
            if dt != middle[0]:
                seen = seen - theta * centre
            made[:, :, t, h, w] += seen @ weight[:, :, dt, dh, dw].T
    return made


@pytest.mark.parametrize("theta", [0.0, 0.2, 0.7, 1.0])
@pytest.mark.parametrize(("stride", "padding"), [
    ((1, 1, 1), (1, 1, 1)), ((2, 2, 2), (1, 1, 1)), ((1, 2, 1), (0, 0, 0)), ((2, 1, 3), (0, 1, 2)),
    ((1, 1, 1), (2, 2, 2)),
])
def test_operator_is_the_formula(theta, stride, padding):
    """Values and gradients equal the sums written out, for every theta, stride, border and precision."""
    generator = torch.Generator().manual_seed(3)
    video = torch.randn(2, 2, 3, 4, 5, generator=generator, dtype=torch.float64).requires_grad_()
    weight = (torch.randn(3, 2, 3, 3, 3, generator=generator, dtype=torch.float64) / 7).requires_grad_()
    expected = literal_tdc(video, weight, theta, stride, padding)
    functional = torch.linspace(-1, 1, expected.numel(), dtype=torch.float64).view_as(expected)
    wanted = torch.autograd.grad((expected * functional).sum(), (video, weight))
    for dtype, close in ((torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.06)):
        own = [value.detach().to(dtype).requires_grad_() for value in (video, weight)]
        found = temporal_difference_conv(*own, theta, None, stride, padding)
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), expected.detach(), rtol=close, atol=2 * close)
        made = torch.autograd.grad((found.double() * functional).sum(), own)
        for a, b in zip(made, wanted, strict=True):
            torch.testing.assert_close(a.double(), b, rtol=4 * close, atol=4 * close * float(b.abs().max()))


def test_theta_may_differ_between_channels():
    """One theta per output channel gives, channel by channel, what a single one gives."""
    video, weight = torch.randn(1, 2, 4, 5, 5), torch.randn(3, 2, 3, 3, 3)
    thetas = torch.tensor([0.0, 0.2, 1.0])
    found = temporal_difference_conv(video, weight, thetas)
    for channel, theta in enumerate(thetas.tolist()):
        single = temporal_difference_conv(video, weight, theta)[:, channel]
        torch.testing.assert_close(found[:, channel], single, rtol=1e-4, atol=1e-5)


def test_operator_costs_one_3d_and_one_1x1x1_convolution():
    """Multiply-accumulates are those of both convolutions, the weights those of the first alone."""
    layer = TDC(16, 16, 0.2)
    assert count(layer) == 27 * 16**2
    with FlopCounterMode(display=False) as counter:
        layer(torch.zeros(1, 16, 4, 6, 6))
    assert counter.get_total_flops() == 2 * (27 + 1) * 16**2 * 4 * 6 * 6


def test_zero_theta_is_a_plain_convolution():
    """With theta 0, or a kernel over one frame, the bits are those of the convolution."""
    layer = TDC(3, 4, 0.0)
    video = torch.randn(1, 3, 5, 6, 6)
    assert torch.equal(layer(video), F.conv3d(video, layer.weight, padding=1))
    flat = torch.randn(4, 3, 1, 3, 3)
    found = temporal_difference_conv(video, flat, 0.7, padding=(0, 1, 1))
    assert torch.equal(found, F.conv3d(video, flat, padding=(0, 1, 1)))


def test_bias_is_added_once():
    """A bias does not enter the difference."""
    layer = TDC(2, 3, 1.0, bias=True)
    video = torch.randn(1, 2, 4, 4, 4)
    without = temporal_difference_conv(video, layer.weight, 1.0)
    torch.testing.assert_close(layer(video), without + layer.bias[:, None, None, None])


def test_still_pictures_vanish_inside():
    """At theta 1, weights of the outer frames alone see nothing in a clip that does not change."""
    weight = torch.randn(2, 3, 3, 3, 3)
    weight[:, :, 1] = 0
    still = torch.rand(1, 3, 1, 1, 1).expand(-1, -1, 6, 6, 6)
    inside = temporal_difference_conv(still, weight, 1.0)[:, :, 1:-1, 1:-1, 1:-1]
    assert inside.abs().max() < 1e-5


@pytest.mark.parametrize("theta", [-0.1, 1.1])
def test_theta_outside_0_to_1_is_refused(theta):
    """The share of the middle frame lies within 0 and 1."""
    with pytest.raises(ValueError, match="0 to 1"):
        TDC(1, 1, theta)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("halve_time", [True, False])
@pytest.mark.parametrize("shape", [(2, 3, 8, 7, 9), (1, 2, 5, 4, 3), (1, 1, 4, 1, 2)])
def test_overlapping_pool_is_torchs(layout, halve_time, shape):
    """The element-wise backward pass gives torch's gradients to the bit, ties and borders included."""
    video = torch.randn(shape).mul(2).round().contiguous(memory_format=layout).requires_grad_()
    sizes = ((3, 3, 3), (2, 2, 2), (1, 1, 1)) if halve_time else ((1, 3, 3), (1, 2, 2), (0, 1, 1))
    expected = F.max_pool3d(video, *sizes)
    weight = torch.randint(-9, 9, expected.shape).float()
    (wanted,) = torch.autograd.grad((expected * weight).sum(), video)
    found = FirstOverlappingMax.apply(video, *sizes)
    (own,) = torch.autograd.grad((found * weight).sum(), video)
    assert torch.equal(found, expected) and torch.equal(own, wanted)
    assert torch.equal(halving_max_pool(video, halve_time), expected)


def test_counts_of_the_house_genotype():
    """222,009 parameters: 616 in the stem, 24,288, 24,928 and 6 x 25,568 in the cells, 18,769 in the head."""
    net = nets.build("autohr")
    assert count(net) == 222_009 and count(net.stem) == 616
    assert [count(cell) for cell in net.cells] == [24_288, 24_928, *[25_568] * 6]
    assert count(net.up1) == count(net.up2) == 9_264 + 96 and count(net.head) == 49


def test_shapes_of_the_full_clip():
    """(3, 128, 112, 112) leaves the body as (48, 32, 7, 7), after 24.229 GMAC for the whole net."""
    with torch.device("meta"):
        assert nets.build("autohr").features(torch.empty(1, 3, 128, 112, 112)).shape == (1, 48, 32, 7, 7)
    net = nets.build("autohr")
    _, facts = model_summary(net, net.input_spec)
    assert facts["macs_per_clip"] / 1e9 == pytest.approx(24.229, abs=5e-4)
    (head,) = [layer for layer in facts["layers"] if layer["name"] == "head"]
    assert head["output"][-3] == 128


@pytest.mark.parametrize(("name", "weights"), [
    ("conv_3x3x3", 6_944), ("conv_1x3x3", 2_336), ("conv_1x5x5", 6_432), ("conv_3x1x1", 800),
    ("conv_5x1x1", 1_312), ("tdc_3x3x3_0.2", 6_944), ("tdc_3x3x3_1.0", 6_944), ("identity", 0),
])
def test_counts_of_the_operations(name, weights, tmp_path):
    """Each operation has the stated parameters at 16 channels: an identity edge more or less shows them."""
    value = load_genotype("house").to_json()
    path = tmp_path / "g.json"

    def total(operation: str) -> int:
        value["cells"][0]["b3"][1]["operation"] = operation
        path.write_text(json.dumps(value))
        return count(nets.build("autohr", genotype=str(path)))

    assert (total(name) - total("identity")) == 8 * weights


def literal_autohr(net: nn.Module, video: Tensor) -> Tensor:
    """The layer table in training mode with the house genotype, written out with the net's own weights."""
    def normed(x: Tensor, norm: nn.Module) -> Tensor:
        return F.batch_norm(x, None, None, norm.weight, norm.bias, training=True)

    def edge(x: Tensor, part: nn.Module, theta: float, padding: tuple[int, int, int]) -> Tensor:
        weight = part.conv.weight
        outer = (weight[:, :, 0] + weight[:, :, -1]).sum((2, 3))[:, :, None, None, None]
        x = F.relu(x)
        y = F.conv3d(x, weight, padding=padding)
        return normed(y - theta * F.conv3d(x, outer) if theta else y, part.norm)

    x = F.relu(normed(F.conv3d(video, net.stem.conv.weight, padding=(0, 2, 2)), net.stem.norm))
    s1 = F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
    s0 = s1
    for number, cell in enumerate(net.cells):
        if number in (2, 4):
            s0, s1 = F.max_pool3d(s0, 3, 2, 1), F.max_pool3d(s1, 3, 2, 1)
        if number == 6:
            s0, s1 = (F.max_pool3d(s, (1, 3, 3), (1, 2, 2), (0, 1, 1)) for s in (s0, s1))
        p0, p1 = (normed(F.conv3d(F.relu(s), cell.inputs[name].conv.weight), cell.inputs[name].norm)
                  for name, s in (("s0", s0), ("s1", s1)))
        whole = (1, 1, 1)
        b1 = edge(p1, cell.nodes["b1"][0], 0.2, whole) + edge(p0, cell.nodes["b1"][1], 0, (0, 1, 1))
        b2 = edge(b1, cell.nodes["b2"][0], 0.2, whole) + edge(p1, cell.nodes["b2"][1], 0, (1, 0, 0))
        b3 = edge(b2, cell.nodes["b3"][0], 1.0, whole) + p1
        s0, s1 = s1, torch.cat([b1, b2, b3], 1)
    for up in (net.up1, net.up2):
        doubled = F.conv_transpose3d(s1, up.conv.weight, up.conv.bias, (2, 1, 1), (1, 0, 0))
        s1 = F.elu(normed(doubled, up.norm))
    return F.conv3d(s1.mean((3, 4), keepdim=True), net.head.weight, net.head.bias).flatten(1)


def test_net_is_the_layer_table_written_out():
    """Output and gradients equal those of the sheet's layers one after the other."""
    torch.manual_seed(0)
    net = nets.build("autohr", node_channels=4).train()
    video = torch.randn(2, 3, 8, 36, 36)
    found, expected = net(video), literal_autohr(net, video)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    weight = torch.linspace(-1, 1, found.numel()).view_as(found)
    parameters = list(net.parameters())
    own = torch.autograd.grad((found * weight).sum(), parameters)
    wanted = torch.autograd.grad((expected * weight).sum(), parameters)
    for a, b in zip(own, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-3 * float(b.abs().max()) + 1e-5)


@pytest.mark.parametrize("name", ["autohr", "autohr_supernet"])
def test_checkpointing_changes_no_bit(name):
    """With and without activation checkpointing: the same output, gradients and running statistics."""
    made = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        net = nets.build(name, node_channels=4, checkpointing=checkpointing).train()
        output = net(torch.randn(1, 3, 8, 16, 16, generator=torch.Generator().manual_seed(1)))
        output.square().sum().backward()
        made.append([output.detach(), *(p.grad for p in net.parameters()), *net.buffers()])
    assert all(torch.equal(a, b) for a, b in zip(*made, strict=True))


def test_widths_are_options():
    """Stem, nodes and blocks have the widths they are told, and the head takes the last block's."""
    net = nets.build("autohr", stem_channels=4, node_channels=2, multipliers=[1, 1, 2, 3])
    assert net.features(torch.zeros(1, 3, 8, 16, 16)).shape == (1, 3 * 6, 2, 1, 1)
    assert nets.build("autohr")(torch.zeros(1, 3, 4, 17, 31)).shape == (1, 4)


@pytest.mark.parametrize(("shape", "words"), [
    ((1, 3, 30, 16, 16), "multiple of 4"), ((3, 8, 16, 16), "B, 3, T"), ((1, 3, 8, 0, 16), "pixels"),
])
def test_impossible_clips_are_refused(shape, words):
    """A clip that cannot be answered for is refused with what is accepted."""
    with pytest.raises(ValueError, match=words):
        nets.build("autohr")(torch.zeros(shape))


# Genotypes


@pytest.mark.parametrize("name", sorted(path.stem for path in FILES.glob("*.json")))
def test_shipped_genotypes_say_what_they_are(name):
    """Every shipped genotype can be built, and none passes for the published one."""
    assert "paper" in json.loads((FILES / f"{name}.json").read_text())["about"]["what"]
    assert nets.build("autohr", genotype=name)(torch.zeros(1, 3, 8, 16, 16)).shape == (1, 8)


def test_a_genotype_goes_through_a_file(tmp_path):
    """What was written is read again: cell by cell, from a file or from the folder of a run."""
    varied = Genotype(tuple(random_genotype(i, 1).cells[0] for i in range(4)), 1)
    for genotype in (random_genotype(4), varied):
        (tmp_path / "genotype.json").write_text(genotype.text(found="by chance"))
        assert load_genotype(str(tmp_path)) == load_genotype(str(tmp_path / "genotype.json")) == genotype


def test_random_genotypes_are_functions_of_the_seed():
    """Equal seeds, equal cells; two edges from different sources into each node, none of them zero."""
    assert load_genotype("random:7") == random_genotype(7) != random_genotype(8)
    for seed in range(30):
        for number, node in enumerate(NODES):
            edges = random_genotype(seed).cells[0][node]
            assert len({source for _, source in edges}) == 2
            assert all(source in sources_of(number, 2) and op != "zero" for op, source in edges)
            assert all(op in OPERATIONS for op, _ in edges)


@pytest.mark.parametrize(("change", "words"), [
    (lambda v: v["cells"][0]["b1"][0].update(operation="conv_7x7x7"), "unknown operation"),
    (lambda v: v["cells"][0]["b1"][0].update({"from": "b1"}), "cannot come from"),
    (lambda v: v["cells"][0]["b1"][0].update(operation="zero"), "cannot be built"),
    (lambda v: v["cells"][0].update(b1=[]), "0 edges"),
    (lambda v: v["cells"][0]["b2"].extend(v["cells"][0]["b2"] * 9), "edges"),
    (lambda v: v["cells"][0].pop("b3"), "nodes"),
    (lambda v: v.update(cells=v["cells"] * 3), "1 cell or 4"),
    (lambda v: v.update(inputs=3), "1 or 2"),
    (lambda v: v.pop("cells"), "not a genotype"),
    (lambda v: v.update(cells=[None]), "genotype"),
    (lambda v: v.update(inputs=1), "cannot come from 's0'"),
])
def test_a_wrong_genotype_is_named_with_its_fault(change, words, tmp_path):
    """A file from anyone that cannot be built ends in a message with the file's name."""
    value = load_genotype("house").to_json()
    change(value)
    path = tmp_path / "g.json"
    path.write_text(json.dumps(value))
    with pytest.raises(UserError, match=words) as error:
        load_genotype(str(path))
    assert str(path) in str(error.value)


def test_an_absent_genotype_is_named_with_what_there_is(tmp_path):
    """Names and paths that lead nowhere list the shipped genotypes."""
    for name in ("huose", str(tmp_path / "none.json"), str(tmp_path)):
        with pytest.raises(UserError, match="house, plain"):
            load_genotype(name)


@pytest.mark.parametrize(("name", "kernel"), [
    ("conv_3x1x1", Kernel(3, 1)), ("conv_1x5x5", Kernel(1, 5)), ("tdc_3x3x3_0.45", Kernel(3, 3, 0.45)),
    ("identity", None), ("zero", None),
])
def test_operations_are_known_by_name(name, kernel):
    """A name says the kernel and theta."""
    assert kernel_of(name) == kernel


@pytest.mark.parametrize("name", ["conv_3x1x3", "tdc_3x3x3_1.2", "tdc_3x3x3", "conv_3x3x3_0.2", "skip", ""])
def test_unknown_operations_are_refused(name):
    """Names of no operation, and thetas outside 0 to 1, list what is known."""
    with pytest.raises(ValueError, match="unknown operation"):
        kernel_of(name)


def test_theta_replaces_that_of_every_difference():
    """The option changes all temporal differences and nothing else, and is refused where there is none."""
    net = nets.build("autohr", theta=0.5)
    thetas = [module.theta for module in net.modules() if isinstance(module, TDC)]
    assert thetas == [0.5] * 24 and count(net) == 222_009
    assert not any(isinstance(module, TDC) for module in nets.build("autohr", genotype="plain").modules())
    with pytest.raises(ValueError, match="no temporal difference"):
        Genotype(({node: [("identity", "s1")] for node in NODES},)).with_theta(0.5)


def test_weights_of_another_genotype_are_refused():
    """Weights whose shapes fit, but whose theta or identities differ, do not load: they would mislead."""
    state = nets.build("autohr").state_dict()
    nets.build("autohr").load_state_dict(state)
    with pytest.raises(UserError, match="another genotype"):
        nets.build("autohr", theta=0.3).load_state_dict(state)


def test_inputs_without_edges_have_no_weights(tmp_path):
    """A genotype that never uses the cell before the last builds nothing for it."""
    value = load_genotype("house").to_json()
    value["cells"][0]["b1"] = value["cells"][0]["b1"][:1]
    (tmp_path / "genotype.json").write_text(json.dumps(value))
    net = nets.build("autohr", genotype=str(tmp_path))
    assert all(list(cell.inputs) == ["s1"] for cell in net.cells)
    net.eval()(torch.randn(1, 3, 8, 16, 16)).square().sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_cells_are_drawn(tmp_path):
    """A drawing has a panel per cell and the name of every operation; equal genotypes, equal bytes."""
    value = load_genotype("house").to_json()
    figure = draw_cells({**value, "cells": value["cells"] * 4})
    assert len(figure.axes) == 4
    named = draw_cells({**value, "cells": value["cells"] * 2}, ["first", "second"])
    assert [axis.get_title(loc="left") for axis in named.axes] == ["first", "second"]
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert {"tdc 3x3x3 0.2", "tdc 3x3x3 1.0", "conv 1x3x3", "conv 3x1x1", "identity"} <= set(shown)
    for name in ("a.png", "b.png"):
        write_cells(tmp_path / "figures" / name, value)
    first, second = (Path(tmp_path / "figures" / name).read_bytes() for name in ("a.png", "b.png"))
    assert first == second


# The frequency loss


def wave(rate_bpm: float, n: int = 160, fps: float = 30.0) -> Tensor:
    t = torch.arange(n, dtype=torch.float64) / fps
    phase = 2 * math.pi * rate_bpm / 60 * t
    return (phase.sin() + 0.3 * (2 * phase + 1).sin()).float()[None]


def test_reference_values_of_the_released_form():
    """The stated signal: 72 bpm, largest share 0.0540418, cross entropies 4.894848 and 4.948030."""
    power, fps = rate_power(wave(72), torch.tensor([30.0])), torch.tensor([30.0])
    assert int(power.argmax()) + 40 == 72
    assert float(power.max() / power.sum()) == pytest.approx(0.0540418, abs=2e-7)
    for rate, value in ((72.0, 4.894848), (90.0, 4.948030)):
        found = frequency_cross_entropy(wave(72), fps, torch.tensor([rate]), "released")
        assert float(found) == pytest.approx(value, abs=2e-6)


def test_power_is_the_formula():
    """Each class is the sum of sines and of cosines squared, at each clip's own frame rate."""
    signals, fps = torch.cat([wave(72, 100), wave(110, 100)]), torch.tensor([30.0, 24.5])
    found = rate_power(signals, fps)
    for row, rate in enumerate(fps.tolist()):
        windowed = signals[row].double() * torch.hann_window(100, periodic=False, dtype=torch.float64)
        for bpm in (40, 72, 179):
            k = (bpm / 60) / (rate / 100)
            angle = 2 * math.pi * k * torch.arange(100, dtype=torch.float64) / 100
            value = (windowed * angle.sin()).sum() ** 2 + (windowed * angle.cos()).sum() ** 2
            assert float(found[row, bpm - 40]) == pytest.approx(float(value), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("fps", [15.0, 25.0, 29.97, 60.0])
def test_peak_follows_the_frame_rate(fps):
    """A pulse of 96 bpm has its peak at 96 bpm at any frame rate."""
    n = round(8 * fps)
    assert abs(int(log_power(wave(96, n, fps), torch.tensor([fps])).argmax()) + 40 - 96) <= 1


def test_log_power_teaches_where_released_hardly_does():
    """On noise the default's gradient is a hundred times the released one's, which barely leaves ln 140."""
    torch.manual_seed(0)
    signal = torch.randn(8, 128)
    fps, rate = torch.full((8,), 30.0), torch.full((8,), 72.0)
    norms = {}
    for form in SPECTRAL:
        x = signal.clone().requires_grad_()
        loss = frequency_cross_entropy(x, fps, rate, form)
        (grad,) = torch.autograd.grad(loss, x)
        norms[form] = float(grad.norm())
        if form == "released":
            assert loss.item() == pytest.approx(math.log(140), abs=0.02)
    assert norms["log_power"] > 100 * norms["released"] > 0


def test_descending_reaches_the_rate_with_log_power_only():
    """Gradient steps on a noisy signal find the wanted rate with the default, not with the released form."""
    def found(form: str) -> int:
        x = (0.1 * torch.randn(1, 128, generator=torch.Generator().manual_seed(2)) + wave(120, 128))
        x = x.requires_grad_()
        fps, rate = torch.tensor([30.0]), torch.tensor([75.0])
        for _ in range(60):
            (grad,) = torch.autograd.grad(frequency_cross_entropy(x, fps, rate, form), x)
            x = (x - 1.0 * grad).detach().requires_grad_()
        return int(log_power(x, fps).argmax()) + 40

    assert abs(found("log_power") - 75) <= 2 and abs(found("released") - 120) <= 2


def test_default_ignores_gain_and_offset():
    """The log-probabilities are the same for any positive gain and any offset."""
    fps = torch.tensor([30.0])
    changed = log_power(50 * wave(80) + 7, fps)
    torch.testing.assert_close(log_power(wave(80), fps), changed, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("form", list(SPECTRAL))
def test_a_flat_waveform_has_a_finite_gradient(form):
    """Without power all rates are equally likely, and nothing becomes NaN."""
    x = torch.zeros(2, 64, requires_grad=True)
    loss = frequency_cross_entropy(x, torch.full((2,), 30.0), torch.full((2,), 80.0), form)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(140), abs=1e-4) and x.grad.isfinite().all()


def test_classes_are_whole_rates_rounded_down():
    """72.9 bpm is class 32; below 40 and from 180 on the nearest class counts."""
    rates = torch.tensor([72.9, 40.0, 39.9, 179.99, 180.0, 250.0])
    assert rate_class(rates).tolist() == [32, 0, 0, 139, 139, 139]


def test_unknown_rates_are_left_out():
    """A clip without a rate changes neither value nor gradient; without any rate the loss is NaN."""
    signals, fps = torch.cat([wave(72), wave(100)]).requires_grad_(), torch.full((2,), 30.0)
    both = frequency_cross_entropy(signals, fps, torch.tensor([72.0, torch.nan]))
    torch.testing.assert_close(both, frequency_cross_entropy(signals[:1], fps[:1], torch.tensor([72.0])))
    (grad,) = torch.autograd.grad(both, signals)
    assert grad[1].abs().max() == 0 and grad[0].abs().max() > 0
    assert frequency_cross_entropy(signals, fps, torch.full((2,), torch.nan)).isnan()


def test_both_terms_agree_on_a_true_waveform():
    """The label itself is better than another rate under both losses."""
    fps, label = torch.tensor([30.0]), wave(72)
    for other in (wave(60), wave(95)):
        assert neg_pearson(label, label) < neg_pearson(other, label)
        rate = torch.tensor([72.0])
        assert frequency_cross_entropy(label, fps, rate) < frequency_cross_entropy(other, fps, rate)
