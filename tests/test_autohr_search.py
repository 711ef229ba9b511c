"""The search for AutoHR's cells, its supernet, the halves it learns from, and what comes of it in a run."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nets
from commands.building import resolved, trained_method
from commands.earlier import learn_earlier
from commands.learning import learn
from commands.params import check_names
from dataset import samplers, transforms
from dataset.loader import ClipLoader
from dataset.rates import spectral_rate_bpm
from dataset.reader import StoreClips
from dataset.split import Part, Parts
from dataset.transforms import Change, Tube, draw_change, erased
from evaluation import ablation
from evaluation.ablation import ablation_table
from nets import methods
from nets.autohr_supernet import MixedOperations
from nets.layers.genotype import OPERATIONS, kernel_of, load_genotype
from nets.layers.tdc import temporal_difference_conv
from tests.fakes import FakeUpdater, clip_batch, make_adam
from tests.stores import FPS, all_same, make_store
from tests.test_training import assert_same_bits
from tests.training_toys import StopAfter, settings, train
from training.checkpoint import read_checkpoint
from utils.config import validate
from utils.contracts import ClipBatch, InputSpec
from utils.errors import Interrupted, UserError
from utils.files import read_json
from utils.runlog import RunLog
from utils.seeding import sample_rng
from utils.settings import Augment

SMALL: dict[str, Any] = {"stem_channels": 2, "node_channels": 4, "partial": 2}
FEW = ["zero", "identity", "conv_3x1x1", "tdc_3x3x3_0.2"]


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def supernet(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return nets.build("autohr_supernet", **{**SMALL, **options})


# The supernet


def test_counts_of_the_full_search_space() -> None:
    """With all channels and affine norms, an edge has 31,712 operation parameters, nine edges 285,408."""
    assert count(MixedOperations(OPERATIONS, 1, 16, affine=True)) == 31_712
    net = nets.build("autohr_supernet", partial=1, affine=True)
    assert all(count(cell.mixed) == 285_408 for cell in net.cells)
    assert [tuple(p.shape) for p in net.architecture()] == [(1, 9, 9), (1, 9)]


def test_varied_alphas_and_single_inputs_have_their_shapes() -> None:
    """A cell for each block gives four rows; cells of one input have six edges."""
    net = supernet(shared=False, inputs=1)
    assert [tuple(p.shape) for p in net.architecture()] == [(4, 6, 9), (4, 6)]
    assert net.edges == [("b1", "s1"), ("b2", "s1"), ("b2", "b1"), ("b3", "s1"), ("b3", "b1"), ("b3", "b2")]
    assert net(torch.zeros(1, 3, 8, 16, 16)).shape == (1, 8)


def literal_edge(x: Tensor, mixed: MixedOperations, edge: int, alpha: Tensor) -> Tensor:
    """One edge's operations one by one, with the weights the merged convolutions hold for it."""
    kernels = {i: kernel for i, name in enumerate(OPERATIONS) if (kernel := kernel_of(name))}
    made = alpha[edge, OPERATIONS.index("identity")] * x
    for weight in mixed.weights:
        group = [i for i, k in kernels.items() if (k.time, k.space) == (weight.shape[2], weight.shape[3])]
        per_edge = weight.unflatten(0, (mixed.n_edges, len(group), mixed.channels))
        for number, operation in enumerate(group):
            kernel = kernels[operation]
            margin = (kernel.time // 2, kernel.space // 2, kernel.space // 2)
            y = temporal_difference_conv(F.relu(x), per_edge[edge, number], kernel.theta, padding=margin)
            normed = F.batch_norm(y, None, None, training=True)
            made = made + alpha[edge, operation] * normed
    return made


def test_merged_operations_are_the_separate_ones() -> None:
    """Every edge's mixture equals its nine operations evaluated one by one, gradients of alpha included."""
    torch.manual_seed(0)
    mixed = MixedOperations(OPERATIONS, 3, 4, affine=False).train()
    x = torch.randn(2, 4, 4, 6, 6)
    alpha = torch.randn(3, 9).softmax(-1).requires_grad_()
    found = mixed(x, alpha)
    for edge in range(3):
        expected = literal_edge(x, mixed, edge, alpha)
        torch.testing.assert_close(found[edge], expected, rtol=1e-3, atol=1e-4)
        functional = torch.linspace(-1, 1, expected.numel()).view_as(expected)
        own, wanted = (torch.autograd.grad((y * functional).sum(), alpha, retain_graph=True)[0]
                       for y in (found[edge], expected))
        torch.testing.assert_close(own, wanted, rtol=1e-3, atol=1e-2)


def test_an_edge_decided_for_one_operation_is_that_operation() -> None:
    """With all weight on identity and all channels mixed, a cell passes on what its edges bring."""
    net = supernet(partial=1).eval()
    with torch.no_grad():
        net.choices["alphas"][..., OPERATIONS.index("identity")] = 50.0
    cell, s0, s1 = net.cells[1], torch.randn(1, 2, 4, 6, 6), torch.randn(1, 12, 4, 6, 6)
    p0, p1 = cell.inputs["s0"](s0), cell.inputs["s1"](s1)
    found = net.cell(1)(s0, s1)
    b1 = (p0 + p1) / 2
    b2 = (p0 + p1 + b1) / 3
    expected = torch.cat([b1, b2, (p0 + p1 + b1 + b2) / 4], dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_partial_channels_shuffle_but_keep_everything() -> None:
    """With all weight on identity, partial channels only reorder what passes through and by the edges."""
    net = supernet(partial=2, node_channels=8).eval()
    with torch.no_grad():
        net.choices["alphas"][..., OPERATIONS.index("identity")] = 50.0
    cell, s0, s1 = net.cells[1], torch.randn(1, 2, 4, 6, 6), torch.randn(1, 24, 4, 6, 6)
    b1 = net.cell(1)(s0, s1)[:, :8]
    expected = (cell.inputs["s0"](s0) + cell.inputs["s1"](s1)) / 2
    torch.testing.assert_close(b1, expected[:, [0, 4, 1, 5, 2, 6, 3, 7]], rtol=1e-4, atol=1e-5)


def test_weights_sum_to_one() -> None:
    """Over the operations of an edge and over the edges into a node, equal at the start."""
    net = supernet()
    torch.testing.assert_close(net.operation_weights().sum(-1), torch.ones(1, 9))
    torch.testing.assert_close(net.operation_weights(), torch.full((1, 9, 9), 1 / 9))
    expected = torch.tensor([[1 / 2] * 2 + [1 / 3] * 3 + [1 / 4] * 4])
    torch.testing.assert_close(net.edge_weights(), expected)


def decided(net: nn.Module, strong: dict[tuple[int, str], float]) -> Any:
    with torch.no_grad():
        for (edge, operation), value in strong.items():
            net.choices["alphas"][0, edge, OPERATIONS.index(operation)] = value
    return net.genotype()


def test_genotype_keeps_the_two_strongest_edges() -> None:
    """Two edges from two sources into each node, each with its best operation; zero is never kept."""
    found = decided(supernet(), {
        (0, "conv_1x5x5"): 1.0, (1, "tdc_3x3x3_0.2"): 2.0, (2, "zero"): 9.0, (2, "identity"): 0.5,
        (3, "conv_3x1x1"): 3.0, (4, "tdc_3x3x3_1.0"): 2.0, (4, "conv_3x3x3"): 1.9, (6, "identity"): 2.0,
        (8, "conv_1x3x3"): 2.5,
    })
    assert found.cells == ({
        "b1": [("conv_1x5x5", "s0"), ("tdc_3x3x3_0.2", "s1")],
        "b2": [("conv_3x1x1", "s1"), ("tdc_3x3x3_1.0", "b1")],
        "b3": [("identity", "s1"), ("conv_1x3x3", "b2")],
    },)


def test_edge_weights_decide_between_edges() -> None:
    """Of equal operations, those on the edge with more weight are kept."""
    net = supernet()
    with torch.no_grad():
        net.choices["betas"][0, 8] = 1.0
        net.choices["betas"][0, 5] = 0.9
    assert [source for _, source in net.genotype().cells[0]["b3"]] == ["s0", "b2"]


def test_the_other_rule_keeps_the_two_strongest_operations() -> None:
    """They may stand on one edge."""
    found = decided(supernet(rule="operations"), {(1, "conv_3x3x3"): 3.0, (1, "tdc_3x3x3_0.2"): 2.9})
    assert found.cells[0]["b1"] == [("conv_3x3x3", "s1"), ("tdc_3x3x3_0.2", "s1")]


def test_first_node_of_single_inputs_has_one_edge() -> None:
    """Where only one edge comes in, one is kept, and the net can be built."""
    net = supernet(inputs=1, shared=False)
    found = net.genotype()
    assert len(found.cells) == 4 and all(len(cell["b1"]) == 1 for cell in found.cells)


@pytest.mark.parametrize(("options", "words"), [
    ({"operations": ["zero", "conv_9x9x9"]}, "unknown operation"), ({"partial": 3}, "must divide"),
    ({"operations": ["zero", "identity"]}, "convolution"), ({"multipliers": [1, 1, 1, 0]}, "at least 1"),
    ({"operations": ["conv_3x3x3", "conv_3x3x3"]}, "differ"),
])
def test_impossible_search_spaces_are_refused(options: dict[str, Any], words: str) -> None:
    """Each fault is named."""
    with pytest.raises(ValueError, match=words):
        supernet(**options)


# The search


class Spy(FakeUpdater):
    """Notes which optimiser was stepped, and which of its parameters moved."""

    def __init__(self, method: nn.Module) -> None:
        super().__init__(method.optimizers(make_adam))
        self.stepped: list[str] = []

    def minimise(self, loss: Tensor, *names: str, again: object = None) -> None:
        self.stepped += names
        super().minimise(loss, *names)


def search(**options: Any) -> Any:
    net = supernet(operations=FEW)
    net.input_spec = net.input_spec.replace(frames=16, size=16)
    return methods.build("autohr_search", net, **options).train()


def batch_of(method: Any, epoch: int, n: int = 4) -> ClipBatch:
    return dataclasses.replace(clip_batch(method.input_spec, n), epoch=epoch)


def test_choices_wait_for_the_warm_up() -> None:
    """Before its end only the weights learn; from then on the choices are stepped first, then the weights."""
    method = search(warmup_epochs=2)
    spy = Spy(method)
    for epoch in (0, 1):
        assert "choice_loss" not in method.train_step(batch_of(method, epoch), spy)
    assert spy.stepped == ["weights", "weights"]
    assert all(not p.any() for p in method.net.architecture())
    assert "choice_loss" in method.train_step(batch_of(method, 2), spy)
    assert spy.stepped[2:] == ["choices", "weights"]
    assert all(p.any() for p in method.net.architecture())


def test_the_search_tells_how_much_is_chosen() -> None:
    """The entropy of the operations' weights falls from ln of their number, to 0 when all is decided."""
    method = search(warmup_epochs=0, choice_rate=1e-9)
    spy = Spy(method)
    uniform = method.train_step(batch_of(method, 0), spy)["choice_entropy"]
    assert float(uniform) == pytest.approx(math.log(len(FEW)), abs=1e-4) and not uniform.requires_grad
    with torch.no_grad():
        method.net.choices["alphas"][..., 2] = 200
    assert float(method.train_step(batch_of(method, 0), spy)["choice_entropy"]) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("side", [0, 1])
def test_each_half_teaches_its_own(side: int) -> None:
    """What the choices learn depends on side 1 alone, what the weights learn on side 0 alone."""
    def learnt(spoiled: bool, warmup: int) -> list[Tensor]:
        method = search(warmup_epochs=warmup)
        batch = batch_of(method, 5)
        if spoiled:
            batch.pulse[batch.extras["side"] == side] *= torch.linspace(-1, 2, batch.pulse.shape[1])
        method.train_step(batch, FakeUpdater(method.optimizers(make_adam)))
        part = method.net.architecture() if side == 0 else method.net.weights()
        return [p.detach().clone() for p in part]

    warmup = 0 if side == 0 else 99  # the weights' step sees the choices that were just stepped
    same = [torch.equal(a, b) for a, b in zip(learnt(False, warmup), learnt(True, warmup), strict=True)]
    assert all(same)


def test_the_other_half_does_teach() -> None:
    """The test above would notice: spoiling the half that teaches changes what is learnt."""
    def learnt(spoiled: bool) -> list[Tensor]:
        method = search(warmup_epochs=0)
        batch = batch_of(method, 5)
        if spoiled:
            batch.pulse[batch.extras["side"] == 1] *= torch.linspace(-1, 2, batch.pulse.shape[1])
        method.train_step(batch, FakeUpdater(method.optimizers(make_adam)))
        return [p.detach().clone() for p in method.net.architecture()]

    assert not torch.equal(learnt(False)[0], learnt(True)[0])


def test_optimisers_share_all_parameters_between_them() -> None:
    """Every parameter is learnt by exactly one of the two; the choices by Adam at their own rate."""
    method = search(choice_rate=2e-3)
    made: dict[str, dict[str, Any]] = {}

    def make(params: Any, **overrides: Any) -> torch.optim.Optimizer:
        made[str(len(made))] = overrides
        return torch.optim.SGD(list(params), lr=1.0)

    groups = {name: o.param_groups[0]["params"] for name, o in method.optimizers(make).items()}
    learnt = [id(p) for group in groups.values() for p in group]
    assert sorted(learnt) == sorted(id(p) for p in method.parameters())
    (told,) = [o for o in made.values() if o]
    assert (told["optimizer"], told["lr"], told["betas"]) == ("adam", 2e-3, [0.5, 0.999])


class Sides(StopAfter):
    """Toy batches of both sides; stops before batch number `after`."""

    def __init__(self, spec: InputSpec, after: int = 10**6) -> None:
        super().__init__(after, steps=2)
        self.spec = spec

    def batch(self, epoch: int, index: int) -> ClipBatch:
        made = clip_batch(self.spec, 2)
        noise = torch.from_numpy(sample_rng(0, epoch, index).standard_normal(made.video.shape))
        return dataclasses.replace(made, video=made.video + 0.01 * noise.float(), epoch=epoch)


def test_resume_inside_the_search_gives_the_same_bits(tmp_path: Path, monkeypatch: Any) -> None:
    """Stopped in the warm-up, at its end or after it, amid an epoch or not, all state ends the same."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    section = settings(epochs=3, scheduler="cosine_annealing")
    spec = search().input_spec
    options: dict[str, Any] = {"make": lambda _: search(warmup_epochs=1, frequency="log_power")}
    train(tmp_path / "straight", section, Sides(spec), **options)
    expected = read_checkpoint(tmp_path / "straight" / "last.pt")
    assert expected["method"]["net.choices.alphas"].any()
    for after in (1, 2, 3, 5):
        folder = tmp_path / f"after{after}"
        with pytest.raises(Interrupted):
            train(folder, section, Sides(spec, after), **options)
        train(folder, section, Sides(spec), seed=99, **options)
        assert_same_bits(read_checkpoint(folder / "last.pt"), expected)


# The loss of the supervised method


def test_frequency_term_is_weighted_in() -> None:
    """The loss is loss_weight times the time term plus frequency_weight times the rate term."""
    learner = methods.build("supervised", nets.build("autohr", node_channels=2), loss_weight=0.2,
                            frequency="released", frequency_weight=3.0)
    learner.net.input_spec = learner.net.input_spec.replace(frames=32, size=16)
    terms = learner.loss(clip_batch(learner.input_spec))
    torch.testing.assert_close(terms["loss"], 0.2 * terms["time"] + 3.0 * terms["rate"])
    with pytest.raises(ValueError, match="leaves no loss"):
        methods.build("supervised", nets.build("physnet"), loss_weight=0.0)


def test_strange_rates_are_warned_of_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A rate outside the classes, or none, is named the first time it is met."""
    learner = methods.build("supervised", nets.build("autohr", node_channels=2), frequency="log_power")
    learner.net.input_spec = learner.net.input_spec.replace(frames=32, size=16)
    batch = clip_batch(learner.input_spec)
    learner.loss(batch)
    assert not capsys.readouterr().err
    batch.hr_bpm[1] = 191.5
    for _ in range(2):
        learner.loss(batch)
    told = capsys.readouterr().err
    assert told.count("r1: 191.5 bpm") == 1 and "r0" not in told


# Halves of the training part


def test_halves_share_nobody() -> None:
    """Each batch is full, one half of the people first, then the other; who is where never changes."""
    people = [f"p{i // 2}" for i in range(10)]
    lengths = [100, 300, 80, 90, 500, 60, 60, 200, 120, 110]
    sides: dict[str, set[int]] = {}
    seen = []
    for epoch in range(5):
        plan = samplers.get("halves")(lengths, 20, 3, None, 4, epoch, people)
        assert [[s.side for s in row] for row in plan] == [[0, 0, 0, 1, 1, 1]] * len(plan)
        assert len({s.index for row in plan for s in row}) == 6 * len(plan)
        assert all(0 <= s.start <= lengths[s.recording] - 20 for row in plan for s in row)
        for sample in (s for row in plan for s in row):
            sides.setdefault(people[sample.recording], set()).add(sample.side)
        seen.append(plan)
    assert all(len(side) == 1 for side in sides.values()) and len(sides) == 5
    assert len({len(plan) for plan in seen}) == 1 and seen[0] != seen[1]


def test_halves_visit_every_clip() -> None:
    """Within an epoch each recording is visited at least as often as by the plain plan."""
    lengths, people = [100, 300, 80, 90], list("abcd")
    plan = samplers.get("halves")(lengths, 20, 2, None, 0, 0, people)
    counts = np.bincount([s.recording for row in plan for s in row], minlength=4)
    assert (counts >= samplers.visits(lengths, 20, None)).all()


def test_halves_are_about_equal() -> None:
    """Of many people with recordings of a length, half are on each side; the seed decides who."""
    lengths, people = [100] * 40, [f"p{i}" for i in range(40)]
    sides = [samplers.two_sides(lengths, people, seed) for seed in (0, 1)]
    assert all(side.sum() == 20 for side in sides) and (sides[0] != sides[1]).any()


def test_one_person_cannot_be_halved() -> None:
    """A training part of one person ends in a message."""
    with pytest.raises(UserError, match="two sides"):
        samplers.get("halves")([100, 100], 20, 2, None, 0, 0, ["p", "p"])


def test_batches_say_their_sides_and_epoch(tmp_path: Path) -> None:
    """The loader marks each clip's side and each batch's epoch, with and without workers."""
    infos = make_store(tmp_path, [60, 60, 60])
    spec = InputSpec(frames=20, size=8, plan="halves")
    batches = list(ClipLoader(infos, spec, batch=2, seed=0).epoch(3))
    people = {info.key: samplers.two_sides([60] * 3, [f"made/p{i}" for i in (1, 2, 3)], 0)[i]
              for i, info in enumerate(infos)}
    for batch in batches:
        assert batch.epoch == 3 and batch.extras["side"].tolist() == [0, 0, 1, 1]
        assert [people[key] for key in batch.recording] == [0, 0, 1, 1]
        assert batch.select([2, 3]).extras["side"].tolist() == [1, 1] and batch.select([0]).epoch == 3


# Augmentation


def test_tempo_follows_the_rate() -> None:
    """Above 90 bpm half speed, below 70 double, between them and without a rate none; or by its chance."""
    always = Augment(tempo=1.0)
    for rate, speed in ((91.0, 0.5), (69.0, 2.0), (80.0, 1.0), (np.nan, 1.0), (90.0, 1.0), (70.0, 1.0)):
        assert draw_change(sample_rng(0), always, 32, 400, rate).speed == speed
    one = Augment(tempo=1.0, tempo_high_bpm=88, tempo_low_bpm=88)
    assert [draw_change(sample_rng(0), one, 32, 400, rate).speed for rate in (87.0, 89.0)] == [2.0, 0.5]
    drawn = [draw_change(sample_rng(i), Augment(tempo=0.5), 32, 400, 120.0).speed for i in range(200)]
    assert 60 < drawn.count(0.5) < 140 and set(drawn) == {0.5, 1.0}


def test_tempo_is_left_out_where_frames_are_missing() -> None:
    """Doubling needs twice the frames; a shorter recording is left as it is, never repeated."""
    always = Augment(tempo=1.0)
    assert draw_change(sample_rng(0), always, 32, 63, 60.0).speed == 2.0
    assert draw_change(sample_rng(0), always, 32, 62, 60.0).speed == 1.0


def test_double_tempo_stays_inside_the_recording(tmp_path: Path) -> None:
    """Clips at double speed start where twice their frames are left: no frame is repeated at the end."""
    infos = make_store(tmp_path, [90], rate_bpm=60.0, hr=np.full(4, 60.0))
    loader = ClipLoader(infos, InputSpec(frames=40, size=8, video="raw", target="raw"), batch=80, seed=0,
                        augment=Augment(tempo=1.0), clips_per_recording=80)
    (batch,) = loader.epoch(0)
    assert batch.hr_bpm.tolist() == [120.0] * 80
    assert (min(batch.start), max(batch.start)) == (0, 90 - 79)


@pytest.mark.parametrize(("rate_bpm", "expected"), [(104.0, 52.0), (60.0, 120.0)])
def test_tempo_takes_frames_label_and_rate_along(tmp_path: Path, rate_bpm: float, expected: float) -> None:
    """A clip of 104 bpm comes as one of 52, one of 60 as one of 120, in pictures, label and rate."""
    infos = make_store(tmp_path, [700], rate_bpm=rate_bpm)
    spec = InputSpec(frames=200, size=8, video="raw", target="raw")
    loader = ClipLoader(infos, spec, batch=2, seed=0, augment=Augment(tempo=1.0), clips_per_recording=2)
    (batch,) = loader.epoch(0)
    seconds = np.arange(200) / FPS
    for i in range(2):
        assert float(batch.hr_bpm[i]) == pytest.approx(expected, abs=2.0)
        assert spectral_rate_bpm(batch.pulse[i].numpy(), seconds) == pytest.approx(expected, abs=2.0)
        brightness = -batch.video[i].mean((0, 2, 3)).numpy()
        assert spectral_rate_bpm(brightness, seconds) == pytest.approx(expected, abs=2.0)
    assert batch.fps.tolist() == [FPS] * 2


def test_half_speed_inserts_means_of_neighbours(tmp_path: Path) -> None:
    """Every second sample is an original, the ones between are the mean of both sides."""
    (info,) = make_store(tmp_path, [80])
    clips = StoreClips(info, InputSpec(frames=21, size=16, video="raw", target="raw"))
    slow, plain = clips.clip(5, 21, Change(speed=0.5)), clips.clip(5, 21)
    torch.testing.assert_close(slow.pulse[::2], plain.pulse[:11])
    torch.testing.assert_close(slow.pulse[1::2], (plain.pulse[:10] + plain.pulse[1:11]) / 2)
    torch.testing.assert_close(slow.video[1::2], (plain.video[:10] + plain.video[1:11]) / 2)
    fast = clips.clip(5, 21, Change(speed=2.0))
    assert torch.equal(fast.pulse[:11], plain.pulse[::2]) and torch.equal(fast.video[:11], plain.video[::2])


def test_erased_tubes_stay_below_their_shares() -> None:
    """Less than a fifth of the picture for less than a fifth of the clip, anywhere, 0 and nothing else."""
    shares, lengths, where = [], [], torch.zeros(50, 40, 40)
    for index in range(300):
        change = draw_change(sample_rng(1, index), Augment(erase=1.0), 50, 400)
        video = erased(torch.ones(50, 40, 40, 3), change.erased)
        gone = video[..., 0] == 0
        assert torch.equal(gone, video[..., 2] == 0) and set(video.unique().tolist()) <= {0.0, 1.0}
        frames = gone.any(2).any(1)
        lengths.append(int(frames.sum()))
        shares.append(float(gone[frames].float().mean()) if lengths[-1] else 0.0)
        where += gone
    assert max(lengths) < 10 and max(shares) < 0.2 and max(shares) > 0.15
    assert all((where.sum(others)[4:-4] > 0).all() for others in ((1, 2), (0, 2), (0, 1)))


def test_a_tube_is_erased_after_normalisation(tmp_path: Path) -> None:
    """Inside the tube the form's 0, outside the clip as it was; label, mask and rate stay."""
    (info,) = make_store(tmp_path, [80], size=20)
    tube = Tube(time=(0.25, 0.5), rows=(0.5, 0.5), columns=(0.0, 0.25))
    for form in ("centred", "diff_normalised"):
        clips = StoreClips(info, InputSpec(frames=16, size=20, video=form, extras=("skin",)))
        plain, changed = clips.clip(3, 16), clips.clip(3, 16, Change(erased=tube))
        assert not changed.video[4:12, 10:, :5].any()
        expected = plain.video.clone()
        expected[4:12, 10:, :5] = 0
        assert torch.equal(changed.video, expected) and torch.equal(changed.pulse, plain.pulse)
        assert torch.equal(changed.extras["skin"], plain.extras["skin"])


def test_new_augmentations_are_functions_of_the_place(tmp_path: Path) -> None:
    """The same epoch twice is the same bits with tube and tempo, another epoch is not."""
    infos = make_store(tmp_path, [200, 150], rate_bpm=60.0)
    spec = InputSpec(frames=24, size=12)

    def batches(epoch: int) -> list[ClipBatch]:
        augment = Augment(tempo=0.5, erase=0.5, flip=0.5)
        return list(ClipLoader(infos, spec, batch=4, seed=7, augment=augment).epoch(epoch))

    assert all_same(batches(1), batches(1)) and not all_same(batches(1), batches(2))


def test_older_augmentations_draw_what_they_drew() -> None:
    """Flip and speed of a seed do not depend on whether tube and tempo are there to be drawn."""
    old = Augment(flip=0.5, speed=0.7)
    for index in range(50):
        first = draw_change(sample_rng(index), old, 32, 400)
        rng = sample_rng(index)
        flip, fast, speed = rng.random(), rng.random(), rng.uniform(0.6, 1.8)
        assert first == Change(float(speed) if fast < 0.7 else 1.0, bool(flip < 0.5))
        second = draw_change(sample_rng(index), old.model_copy(update={"erase": 1.0}), 32, 400)
        assert dataclasses.replace(second, erased=None) == first and second.erased is not None
    assert Change() == transforms.UNCHANGED


# A run with a search before it


def config_of(folder: Path) -> dict[str, Any]:
    stage = {
        "name": "search", "train": {"epochs": 2, "batch": 1},
        "net": {"name": "autohr_supernet", "options": {**SMALL, "operations": FEW},
                "input": {"frames": 16, "size": 16}},
        "method": {"name": "autohr_search", "options": {"warmup_epochs": 1, "choice_rate": 0.1}},
    }
    return {
        "data": {"sets": [{"name": "folder", "root": str(folder)}], "store": str(folder)},
        "net": {"name": "autohr", "input": {"frames": 16, "size": 16},
                "options": {"genotype": "before:search", "node_channels": 2}},
        "train": {"epochs": 1, "batch": 2}, "run": {"name": "r", "threads": 1, "device": "cpu",
                                                    "before": [stage]},
        "logging": {"progress": False, "summary": False},
    }


def test_a_run_searches_then_learns_what_was_found(tmp_path: Path, capsys: Any) -> None:
    """The genotype lies in the search's folder with its drawing, and is the net's; done once, it stays."""
    infos = {info.key: info for info in make_store(tmp_path / "store", [40, 40, 40])}
    parts = Parts("lists", "subject", {
        "train": Part(["made/p1", "made/p2", "made/p3"], list(infos)), "test": Part(),
    })
    config, folder = validate(config_of(tmp_path), "params"), tmp_path / "run"
    folder.mkdir()
    learn_earlier(config, folder, infos, parts)
    own = folder / "before" / "search"
    made = read_json(own / "genotype.json")
    weights = np.array(made["about"]["operation_weights"])
    assert weights.shape == (1, 9, 4) and np.abs(weights - 0.25).max() > 0.01
    assert (own / "figures" / "cells.png").stat().st_size > 5000
    ready = resolved(config, folder)
    assert ready.net.options["genotype"] == str(own)
    method = learn(ready, folder, RunLog(folder / "log.jsonl"), infos, parts)
    assert method.net.genotype == load_genotype(str(own))
    assert read_json(folder / "genotype.json")["cells"] == made["cells"]
    (folder / "params.json").write_text(json.dumps(config.model_dump(mode="json")))
    again, _ = trained_method(folder)
    assert_same_bits(dict(again.state_dict()), dict(method.state_dict()))
    capsys.readouterr()
    before = (own / "checkpoints" / "last.pt").read_bytes()
    learn_earlier(config, folder, infos, parts)
    assert (own / "checkpoints" / "last.pt").read_bytes() == before
    assert read_json(own / "genotype.json") == made


@pytest.mark.parametrize(("change", "where", "words"), [
    (lambda c: c["net"]["options"].update(genotype="before:serch"), "net.options.genotype", "no earlier"),
    (lambda c: c["run"]["before"].append(dict(c["run"]["before"][0])), "run.before.1.name", "twice"),
    (lambda c: c["run"]["before"][0]["net"].update(name="autohr_supernt"), "run.before.0.net.name", "mean"),
    (lambda c: c["run"]["before"][0]["method"].update(options={"rate": 1}),
     "run.before.0.method.options.rate", "unknown"),
    (lambda c: c["net"].update(init_from={"stem": "before:later"}), "net.init_from.stem", "run.before has"),
    (lambda c: c["run"]["before"][0]["train"].update(optimizer="adem"), "run.before.0.train", "adem"),
])
def test_faults_of_earlier_trainings_are_found_before_any_work(
    change: Any, where: str, words: str, tmp_path: Path
) -> None:
    """Names, options and references inside run.before are checked as those of the run itself."""
    raw = config_of(tmp_path)
    assert not [text for path, text in check_names(raw) if path.startswith(("run", "net"))]
    change(raw)
    found = [(path, text) for path, text in check_names(raw) if path.startswith(("run", "net"))]
    assert any(path.startswith(where) and words in text for path, text in found), found


# The ablation table


def test_ablation_stands_beside_the_published_values(tmp_path: Path) -> None:
    """Means over runs, differences to the first variant, and published rows for what was not run."""
    def run(name: str, value: float | None) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "params.json").write_text('{"net": {"name": "autohr"}}')
        rows = [{"method": "constant", "rmse_bpm": 99.0}, {"method": "autohr", "rmse_bpm": value}]
        test = {"origins": ["synthetic"], "n_missing": 2, "n_recordings": 5} if name == "c" else {}
        (folder / "metrics.json").write_text(json.dumps({"rows": rows, "test": test}))
        return folder

    table = ablation_table("autohr_ablation", {
        "search_shared_tdc": [run("a", 8.0), run("b", 9.0)], "da1": [run("c", 10.0)], "da2": [run("d", None)],
    })
    assert table is not None
    rows = {(row[0], row[1]): row[2:] for row in table.rows}
    assert rows["augmentation", "none"] == ["8.59", "+0.00", "8.50 ± 0.71", "+0.00", "2 of 2",
                                            "search_shared_tdc"]
    assert rows["augmentation", "erasing"] == ["9.08", "+0.49", "10.00", "+1.50", "1 of 1", "da1"]
    assert rows["augmentation", "tempo"][2:5] == ["–", "–", "0 of 1"]
    assert rows["theta, no search", "0.8"][:4] == ["12.97", "+3.07", "–", "–"]
    assert table.notes[-1] == (
        "c: synthetic recordings, not the dataset's; 2 recordings are missing beside 5 scored")
    assert len(table.rows) == 23 and ablation_table("pure", {}) is None


def test_every_variant_has_a_recipe() -> None:
    """Each published row names a recipe of its table, and each recipe stands in a row."""
    for name, table in read_json(ablation.FACTS)["tables"].items():
        folder = Path(__file__).parent.parent / "params" / "tables" / name
        assert {row["recipe"] for row in table["rows"]} == {path.stem for path in folder.glob("*.json")}
