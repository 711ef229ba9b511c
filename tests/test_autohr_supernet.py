"""AutoHR's supernet mixes operations as if they stood one by one, and keeps the strongest as a genotype."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nets
from nets.autohr_supernet import MixedOperations
from nets.layers.genotype import OPERATIONS, kernel_of
from nets.layers.tdc import temporal_difference_conv
from tests.autohr_toys import supernet


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


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
