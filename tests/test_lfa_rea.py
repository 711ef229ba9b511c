"""LFA, REA and their training without labels: counts, literal versions, who learns from what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nets
from commands.starting import start_from
from losses.self_supervised import ratio_consistency
from nets import methods
from nets.layers.colour import original, standardised
from nets.methods.base import Method
from nets.methods.ssl_lfa_rea import draw_ratios, draw_view
from nets.rea import Experts, regions, relative_change
from nets.summary import model_summary
from tests.fakes import FakeClips, FakeUpdater, clip_batch, make_adam, pulse_wave
from tests.training_toys import Batches, settings, train
from utils.contracts import ClipBatch, InputSpec
from utils.errors import Interrupted

SMALL = {"width": 4, "lfa_width": 4}


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def learner(
    frames: int = 16, size: int = 8, net: dict[str, Any] | None = None, seed: int = 0, **options: Any
) -> Method:
    torch.manual_seed(seed)
    module = nets.build("lfa_rea", **{**SMALL, **(net or {})})
    module.input_spec = module.input_spec.replace(frames=frames, size=size)
    return methods.build("ssl_lfa_rea", module, **options)


def item(method: Method, n: int = 2, labelled: bool = True) -> ClipBatch:
    spec = method.input_spec
    return clip_batch(spec.replace(frames=spec.train_frames), n, labelled)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [("lfa", {}, 449_175), ("lfa", {"learned_down": True}, 523_033), ("rea", {}, 5_139_152),
     ("rea", {"experts": 9}, 8_554_527), ("lfa_rea", {}, 5_588_327), ("lfa_rea", {"experts": 9}, 9_003_702),
     ("lfa_rea", {"learned_down": True}, 5_662_185)],
)
def test_counts_are_those_of_the_sheet(name: str, options: dict[str, Any], expected: int) -> None:
    """Every build has the published number of parameters."""
    assert count(nets.build(name, **options)) == expected


def test_parts_have_the_published_sizes() -> None:
    """Encoder, experts, gate and fusion each have their own count."""
    net = nets.build("rea")
    sizes = [count(net.stem) + count(net.layers), count(net.experts), count(net.gate), count(net.fusion)]
    assert sizes == [2_185_536, 2_731_528, 222_084, 4]


@pytest.mark.parametrize(("name", "gmac", "within"), [("rea", 1885.2, 1e-4), ("lfa", 275.33, 1e-3)])
def test_operations_are_those_of_the_sheet(name: str, gmac: float, within: float) -> None:
    """Multiply-accumulates of the canonical clip; LFA's last convolution before growing saves 0.07 %."""
    net = nets.build(name)
    _, values = model_summary(net, net.input_spec)
    assert values["macs_per_clip"] / 1e9 == pytest.approx(gmac, rel=within)


def literal_lfa(net: nn.Module, clip: Tensor, ratio: Tensor) -> Tensor:
    """The sheet's steps one after the other for one clip and one ratio: (1, 3, T, H, W), () -> the same."""
    x = F.leaky_relu(net.entry(clip), 0.1)
    for block in net.blocks:
        x = F.leaky_relu(block.b(F.leaky_relu(block.a(x), 0.1)) + x, 0.1)
    if net.down is None:
        levels = [x, x[..., ::2, ::2], x[..., ::4, ::4]]
    else:
        half = net.down[0].act(net.down[0].conv(x))
        levels = [x, half, net.down[1].act(net.down[1].conv(half))]
    grown = []
    for level, fmb, factor in zip(levels, net.modulation, (1, 2, 4), strict=True):
        row = fmb.mix(level.mean((3, 4)))
        both = torch.cat([row, ratio.expand_as(row)], dim=1)
        both = (fmb.b(fmb.a(both).relu()) + both).relu()
        m = fmb.recurrence(both.transpose(1, 2))[0].transpose(1, 2)
        m = m if fmb.join is None else fmb.join(m)
        q = level * m[..., None, None]
        grown.append(q.repeat_interleave(factor, 3).repeat_interleave(factor, 4))
    return net.act(net.out(torch.cat(grown, dim=1)))


@pytest.mark.parametrize(
    "options", [{}, {"learned_down": True}, {"bidirectional": True}, {"hidden": 3}, {"final": "none"}],
    ids=str,
)
def test_lfa_is_the_published_layer_table(options: dict[str, Any]) -> None:
    """K ratios at once, from features made once, are the K clips of the literal version."""
    torch.manual_seed(0)
    net = nets.build("lfa", width=4, **options)
    clip, ratio = torch.randn(2, 3, 7, 8, 8), torch.tensor([[0.4, 1.5, 1.3], [0.7, 0.5, 1.6]])
    made = net.augmented(clip, ratio)
    for i in range(2):
        for k in range(3):
            torch.testing.assert_close(made[i, k], literal_lfa(net, clip[i : i + 1], ratio[i, k])[0])


def test_features_are_reused_exactly() -> None:
    """A ratio gives the same clip alone, among others, and by the plain forward pass."""
    torch.manual_seed(0)
    net = nets.build("lfa", width=4)
    clip, ratio = torch.rand(1, 3, 9, 8, 8), torch.tensor([[0.4, 1.5, 1.3]])
    among = net.augmented(standardised(clip), ratio)
    alone = [net.augmented(standardised(clip), ratio[:, k : k + 1])[:, 0] for k in range(3)]
    torch.testing.assert_close(torch.stack(alone, 1), among, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(net(clip, ratio[:, 1]), original(alone[1]))


def test_odd_sizes_are_cut_after_growing() -> None:
    """Pictures of any size from 4 pixels come back whole; smaller ones are refused."""
    for learned in (False, True):
        net = nets.build("lfa", width=2, learned_down=learned)
        assert net(torch.rand(1, 3, 4, 7, 7)).shape == (1, 3, 4, 7, 7)
    with pytest.raises(ValueError, match="4 pixels"):
        net(torch.rand(1, 3, 4, 3, 3))


def literal_expert(experts: Experts, number: int, x: Tensor) -> Tensor:
    """One expert of width C on its own region: (B, C, T, h, w) -> (B, T)."""
    def conv(layer: nn.Module, y: Tensor) -> Tensor:
        size = layer.weight.shape[0] // experts.count
        mine = slice(number * size, (number + 1) * size)
        kind = F.conv1d if y.dim() == 3 else F.conv3d
        return kind(y, layer.weight[mine], layer.bias[mine], padding=layer.padding)

    def residual(a: nn.Module, b: nn.Module, y: Tensor) -> Tensor:
        return (conv(b, conv(a, y).relu()) + y).relu()

    x = residual(experts.before_a, experts.before_b, conv(experts.entry, x).relu())
    y = conv(experts.attention, x)
    mask = conv(experts.mask_b, conv(experts.mask_a, y.mean(2, keepdim=True)).relu()).sigmoid()
    x = residual(experts.after_a, experts.after_b, y * mask + x)
    return conv(experts.head, x.mean((3, 4))).squeeze(1)


@pytest.mark.parametrize(("number", "size"), [(4, 8), (9, 8), (9, 9), (1, 5), (4, 7)])
def test_grouped_experts_are_single_experts(number: int, size: int) -> None:
    """Every square number at any size: row by row, region boundaries cut down, as one by one."""
    torch.manual_seed(0)
    experts = Experts(number, 4)
    maps = torch.randn(2, 4, 5, size, size)
    made = experts(maps)
    assert made.shape == (2, number, 5)
    grid = int(number**0.5)
    for i in range(number):
        (top, left), step = divmod(i, grid), size / grid
        rows = slice(int(top * step), int((top + 1) * step))
        columns = slice(int(left * step), int((left + 1) * step))
        torch.testing.assert_close(made[:, i], literal_expert(experts, i, maps[..., rows, columns]))


def test_impossible_grids_are_refused() -> None:
    """A number that is no square, and maps smaller than the grid, are refused with what is needed."""
    with pytest.raises(ValueError, match="square"):
        nets.build("rea", experts=6)
    with pytest.raises(ValueError, match="3 x 3 pixels"):
        regions(torch.zeros(1, 1, 1, 2, 2), 9)


def test_gate_weights_sum_to_one_and_fuse_the_experts() -> None:
    """The waveform is the fusion of the gated experts; weights sum to 1 at every frame."""
    torch.manual_seed(0)
    net = nets.build("rea", width=4).eval()
    clip = torch.randn(2, 3, 6, 8, 8)
    x = net.stem(clip)
    for layer in net.layers:
        x = layer(x)
    weight = net.gate(x)
    torch.testing.assert_close(weight.sum(1), torch.ones(2, 6))
    fused = net.fusion((weight * net.experts(x)).sum(1, keepdim=True)).squeeze(1)
    torch.testing.assert_close(net.estimate(clip), fused)
    torch.testing.assert_close(net(original(clip)), fused, rtol=1e-4, atol=1e-5)


def test_encoder_starts_as_released() -> None:
    """Convolutions of the encoder are drawn with deviation sqrt(2 / (k k C_out))."""
    torch.manual_seed(0)
    net = nets.build("rea")
    for conv, expected in ((net.stem[0], (2 / (49 * 64)) ** 0.5), (net.layers[2].b, (2 / (9 * 128)) ** 0.5),
                           (net.layers[1].shortcut[0], (2 / 128) ** 0.5)):
        assert conv.weight.std().item() == pytest.approx(expected, rel=0.02) and conv.bias is None


def test_relative_net_ignores_the_still_picture() -> None:
    """With `relative` any gain of a pixel and colour changes nothing; without, it does."""
    clip, gain = 0.4 + 0.1 * torch.rand(1, 3, 12, 8, 8), 0.5 + torch.rand(1, 3, 1, 8, 8)
    for relative in (5, 0):
        torch.manual_seed(0)
        net = nets.build("rea", width=4, relative=relative).eval()
        assert torch.allclose(net(clip), net(clip * gain), atol=1e-4) == bool(relative)
    with pytest.raises(ValueError, match="odd"):
        nets.build("rea", relative=30)


def test_changes_are_in_per_cent_of_the_moving_mean() -> None:
    """Each frame against the mean of it and its neighbours, the ends held; a dark mean counts as 0.05."""
    bright = torch.tensor([0.50, 0.53, 0.47, 0.50])
    dark = torch.tensor([0.01, 0.04, 0.01, 0.01])
    clip = torch.stack([bright, dark, torch.full((4,), 0.5)]).view(1, 3, 4, 1, 1)
    found = relative_change(standardised(clip), 3).view(3, 4)
    mean = torch.tensor([0.51, 0.50, 0.50, 0.49])
    torch.testing.assert_close(found[0], 100 * (bright - mean) / mean, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found[1], torch.tensor([-20.0, 40, -20, 0]), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found[2], torch.zeros(4), atol=1e-3, rtol=0)


@pytest.mark.parametrize("experts", [4, 9])
def test_with_held_ends_a_still_clip_has_no_wave(experts: int) -> None:
    """A clip without change over time gets a flat answer; with zeros beyond its ends it gets a wave."""
    still = torch.rand(1, 3, 1, 8, 8).expand(-1, -1, 30, -1, -1)
    for ends in ("held", "zeros"):
        torch.manual_seed(0)
        signal = nets.build("rea", width=4, experts=experts, ends=ends).eval()(still)
        assert (signal.std().item() < 1e-5) == (ends == "held")


@pytest.mark.parametrize("where", ["net", "method"])
def test_recomputing_changes_no_bit(where: str) -> None:
    """Checkpointing of stages, or of whole passes, gives the same loss, gradients and statistics."""
    results = []
    for again in (False, True):
        method = learner(net={"checkpointing": again and where == "net"}, recompute=again).train()
        torch.manual_seed(3)
        loss = method.loss(item(method))["loss"]
        loss.backward()
        results.append([loss, *(p.grad for p in method.parameters()), *method.buffers()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_views_are_one_of_six_changes() -> None:
    """Each view is the clip upside down, mirrored or turned, the same in all frames; all six occur."""
    torch.manual_seed(0)
    clip = torch.arange(2 * 9.0).view(1, 1, 2, 3, 3)
    six = [clip.flip(3), clip.flip(4), *(clip.rot90(k, (3, 4)) for k in range(4))]
    seen = set()
    for _ in range(60):
        view = draw_view(clip, 1)
        seen.add(next(i for i, each in enumerate(six) if torch.equal(view, each)))
    assert seen == set(range(6))


def test_first_releases_views_are_two_different_changes() -> None:
    """With two changes a view is a pair of the six; the clip itself comes only by a turn and its reverse."""
    torch.manual_seed(0)
    clip = torch.arange(16.0).view(1, 1, 1, 4, 4)
    steps = [lambda x: x.flip(3), lambda x: x.flip(4),
             *(lambda x, k=k: x.rot90(k, (3, 4)) for k in range(4))]
    pairs = [steps[b](steps[a](clip)) for a in range(6) for b in range(a + 1, 6)]
    for _ in range(40):
        view = draw_view(clip, 2)
        assert any(torch.equal(view, pair) for pair in pairs)


def test_ratios_are_slower_or_faster() -> None:
    """Ratios lie in 0.3 to 0.8 or 1.2 to 1.7, each half of the time and evenly."""
    torch.manual_seed(0)
    ratio = draw_ratios(1000, 4).flatten()
    slower, faster = ratio[ratio < 1], ratio[ratio > 1]
    assert slower.min() >= 0.3 and slower.max() <= 0.8 and faster.min() >= 1.2 and faster.max() <= 1.7
    assert len(slower) == pytest.approx(2000, abs=120)
    assert slower.mean() == pytest.approx(0.55, abs=0.01) and faster.mean() == pytest.approx(1.45, abs=0.01)


class Told(nn.Module):
    """Stands for both nets: LFA scales the clip by the ratio, REA answers with the mean of each frame."""

    task = "pulse"

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.input_spec = InputSpec(frames=frames, size=4, video="unit", target="standardised")
        self.scale = nn.Parameter(torch.ones(1, 1, 1, 1, 1))
        self.lfa = self.rea = nn.Module()
        self.rea.weight = self.scale
        self.rea.estimate = self.answer
        self.lfa.augmented = lambda clip, r: clip[:, None] * r[:, :, None, None, None, None] * self.scale
        self.seen: list[Tensor] = []

    def answer(self, clip: Tensor) -> Tensor:
        self.seen.append(clip.detach())
        return (clip * self.scale).mean((1, 3, 4))


def test_an_item_is_an_anchor_and_three_neighbours() -> None:
    """The four quarters are the anchor (twice, K times) and the others in order of time, item by item."""
    torch.manual_seed(0)
    net = Told(10)
    method = methods.build("ssl_lfa_rea", net, negatives=3)
    batch = item(method)
    method.loss(batch)
    quarters = standardised(batch.video).unflatten(2, (4, 10)).mean((1, 3, 4, 5))
    p1, p2, n1, n2, n3, *others = (seen.mean((1, 2, 3, 4)) for seen in net.seen)
    anchors = []
    for i in range(2):
        anchor = (quarters[i] - p1[i]).abs().argmin().item()
        anchors.append(anchor)
        torch.testing.assert_close(quarters[i, anchor], p2[i], rtol=1e-4, atol=1e-5)
        rest = [k for k in range(4) if k != anchor]
        found = torch.stack([other[i] for other in others])
        torch.testing.assert_close(quarters[i, rest], found, rtol=1e-4, atol=1e-5)
    assert all(not torch.allclose(n, p1) for n in (n1, n2, n3))


@pytest.mark.parametrize("name", ["reconstruction", "contrast", "ratio", "agreement"])
def test_gradient_reaches_lfa_where_it_should(name: str) -> None:
    """Reconstruction, contrast and ratio consistency train LFA; agreement does not see its clips.

    With this start none of the two-channel rectifiers inside the modulation is shut, as some are with others.
    """
    method = learner(net={"relative": 5}, seed=2).train()
    method.loss(item(method))[name].backward()
    reached = all(p.grad is not None and p.grad.abs().max() > 0 for p in method.net.lfa.parameters())
    silent = all(p.grad is None for p in method.net.lfa.parameters())
    assert silent if name == "agreement" else reached
    estimated = any(p.grad is not None for p in method.net.rea.parameters())
    assert estimated == (name != "reconstruction")


def test_modulation_sees_the_clip_from_the_start() -> None:
    """Whatever the start, the recurrence of each size is given features and ratio, not a shut rectifier."""
    clip = standardised(0.3 + 0.4 * torch.rand(4, 3, 10, 8, 8, generator=torch.Generator().manual_seed(0)))
    given: list[Tensor] = []
    for seed in range(10):
        torch.manual_seed(seed)
        net = nets.build("lfa", width=8)
        for block in net.modulation:
            block.recurrence.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
        net.augmented(clip, torch.tensor([[0.4, 1.5]]).expand(4, -1))
    assert len(given) == 30 and all(x.amax((0, 1)).min() > 0 for x in given)


def test_ratio_loss_teaches_lfa_to_scale() -> None:
    """With an estimator that stays as it is, LFA's clips come closer to the rates that are asked for."""
    torch.manual_seed(0)
    net = nets.build("lfa", width=4)
    wave = 0.02 * torch.stack([pulse_wave(90, rate_hz=rate) for rate in (1.0, 1.6)])
    clip = standardised((0.5 - wave).view(2, 1, 90, 1, 1).expand(-1, 3, -1, 4, 4))
    fps = torch.full((2,), 30.0)
    view = clip.mean((1, 3, 4))
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    losses = []
    for _ in range(80):
        ratio = draw_ratios(2, 4)
        made = net.augmented(clip, ratio).mean((2, 4, 5))
        loss = ratio_consistency(view, view, made, ratio, fps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])


def test_lfa_learns_at_its_own_rate() -> None:
    """`lfa_rate` times the rate of REA, in one optimiser that holds every weight once; 1: as always."""
    method = learner(lfa_rate=5.0)
    groups = method.optimizers(make_adam)["net"].param_groups
    assert [group["lr"] for group in groups] == pytest.approx([3e-3, 1.5e-2])
    for group, part in zip(groups, (method.net.rea, method.net.lfa), strict=True):
        assert {id(p) for p in group["params"]} == {id(p) for p in part.parameters()}
    assert len(learner().optimizers(make_adam)["net"].param_groups) == 1


def test_released_form_trains_lfa_without_the_ratio() -> None:
    """In the release's form the ratio loss is logged and trains nothing."""
    method = learner(form="release").train()
    terms = method.loss(item(method))
    assert not terms["ratio"].requires_grad and terms["loss"].requires_grad
    assert method.distance == "mean" and learner().distance == "sum"


def test_loss_is_the_weighted_sum_and_terms_can_be_left_out() -> None:
    """Weights multiply the four terms; with weight 0 a term is logged only."""
    method = learner(contrast=2.0, ratio=0.0, agreement=0.5).eval()
    terms = method.loss(item(method))
    expected = terms["reconstruction"] + 2 * terms["contrast"] + 0.5 * terms["agreement"]
    torch.testing.assert_close(terms["loss"], expected)
    assert set(terms) == {"loss", "reconstruction", "contrast", "ratio", "agreement"}


def test_labels_are_never_read() -> None:
    """Batches without labels, and with labels of nonsense, train to the same bits."""
    states = []
    for spoil in (None, torch.nan, 7.0):
        method = learner().train()
        torch.manual_seed(5)
        updater = FakeUpdater(method.optimizers(make_adam))
        for _ in range(2):
            batch = item(method)
            if spoil is not None:
                batch.pulse.fill_(spoil)
                batch.hr_bpm.fill_(spoil)
                batch.has_label.fill_(False)
            method.train_step(batch, updater)
        states.append(method.state_dict())
    for other in states[1:]:
        assert all(torch.equal(states[0][key], other[key]) for key in other)
    assert method.label_share == 0


def test_draws_depend_on_the_cpu_generator_alone() -> None:
    """The same seed gives the same loss, another seed another one."""
    method = learner().eval()
    values = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        values.append(method.loss(item(method))["loss"])
    assert torch.equal(values[0], values[1]) and not torch.equal(values[0], values[2])


def test_rea_alone_answers() -> None:
    """Predicting does not touch LFA, covers the whole recording, and is turned to minus green."""
    method = learner(frames=32)
    pulse = pulse_wave(100)
    clips = FakeClips.of_pulse(pulse, method.input_spec)
    method.net.lfa = nn.Module()
    waveform = method.predict(clips)
    assert waveform.shape == (100,)
    with torch.no_grad():
        method.net.rea.fusion.weight.neg_()
        method.net.rea.fusion.bias.neg_()
    torch.testing.assert_close(method.predict(clips), waveform, rtol=1e-3, atol=1e-3)


def test_training_clips_are_four_times_as_long() -> None:
    """The loader is asked for 4 T frames, prediction for T; a remainder of frames is left out."""
    method = learner(frames=24)
    assert (method.input_spec.frames, method.input_spec.train_frames) == (24, 96)
    longer = clip_batch(method.input_spec.replace(train_frames=98))
    torch.manual_seed(0)
    first = method.loss(longer)["loss"]
    longer.video[:, :, 96:] = 0
    torch.manual_seed(0)
    assert torch.equal(first, method.loss(longer)["loss"])


class Items(Batches):
    """Batches of items, a function of (epoch, index); with `after`, stopped before that one."""

    def __init__(self, method: Method, after: int | None = None) -> None:
        super().__init__(steps=3)
        self.method, self.after = method, after

    def batch(self, epoch: int, index: int) -> ClipBatch:
        number = epoch * self.steps + index
        if number == self.after:
            raise Interrupted(143)
        made = item(self.method, labelled=False)
        return type(made)(**{**vars(made), "video": made.video * (1 + 0.1 * number)})


@pytest.mark.parametrize("after", [1, 4])
def test_resumed_training_has_the_same_bits(after: int, tmp_path: Path) -> None:
    """Stopped in the middle of an epoch, training ends with the bits of the undisturbed run."""
    section = settings(epochs=2, checkpoint_steps=1)
    _, straight = train(tmp_path / "a" / "checkpoints", section, Items(learner()), method=learner(lfa_rate=2))
    folder = tmp_path / "b" / "checkpoints"
    with pytest.raises(Interrupted):
        train(folder, section, Items(learner(), after), method=learner(lfa_rate=2))
    _, resumed = train(folder, section, Items(learner()), method=learner(lfa_rate=2))
    state, other = straight.state_dict(), resumed.state_dict()
    assert all(torch.equal(state[key], other[key]) for key in state)


def test_rea_starts_from_a_self_supervised_run(tmp_path: Path) -> None:
    """Fine-tuning takes REA's weights out of what was trained with LFA beside it."""
    method = learner()
    torch.save(method.net.state_dict(), tmp_path / "weights.pt")
    rea = nets.build("rea", width=4)
    start_from(rea, tmp_path / "weights.pt")
    state = method.net.rea.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in rea.state_dict().items())


LAST = ["experts.head", "gate.head", "fusion"]


def test_linear_evaluation_trains_the_last_layers_only() -> None:
    """With `only`, the named parts change; other weights and all batch statistics stay."""
    torch.manual_seed(0)
    net = nets.build("rea", width=4)
    net.input_spec = net.input_spec.replace(frames=16, size=8)
    method = methods.build("supervised", net, only=LAST).train()
    before = {key: value.clone() for key, value in method.state_dict().items()}
    updater = FakeUpdater(method.optimizers(make_adam))
    for _ in range(2):
        method.train_step(clip_batch(method.input_spec), updater)
    changed = {key.removeprefix("net.") for key, value in method.state_dict().items()
               if not torch.equal(before[key], value)}
    assert changed and all(key.startswith(tuple(LAST)) for key in changed)
    assert {"experts.head.weight", "gate.head.weight", "fusion.weight"} <= changed
    assert not any(m.training for m in net.modules() if isinstance(m, nn.BatchNorm3d))


def test_unknown_parts_are_refused() -> None:
    """A part the net has not got is refused, naming those it has."""
    with pytest.raises(ValueError, match=r"no part 'heads'; it has stem, layers, experts, gate, fusion"):
        methods.build("supervised", nets.build("rea", width=4), only=["heads"])
