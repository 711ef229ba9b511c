"""AutoHR's supernet: every candidate operation on every edge, weighted (Yu et al., IEEE SPL 2020).

First-order differentiable search with partial channels and edge weights (Xu et al., ICLR 2020).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from nets.layers import cells
from nets.layers.genotype import (
    BLOCKS,
    IDENTITY,
    NODES,
    OPERATIONS,
    ZERO,
    Cell,
    Genotype,
    kernel_of,
    sources_of,
)
from nets.layers.tdc import temporal_difference_conv
from nets.registry import NETS

Operations = Annotated[list[str], Field(min_length=2)]


@NETS.register("autohr_supernet")
class AutoHRSupernet(cells.CellNet):
    """The search space of AutoHR as one net; method autohr_search learns it and keeps its best edges.

    alphas (blocks or 1, edges, operations) and betas (blocks or 1, edges) become weights by a softmax over
    the operations of an edge, and over the edges into a node.
    """

    task = "search"
    default_method = "autohr_search"
    small_sizes = (24, 32)
    small_options: ClassVar[dict[str, Any]] = {
        "node_channels": 8, "partial": 2, "operations": [ZERO, IDENTITY, "conv_1x3x3", "tdc_3x3x3_0.2"],
    }

    def __init__(
        self, *, inputs: Literal[1, 2] = 2, shared: bool = True, operations: Operations | None = None,
        partial: int = 4, affine: bool = False, rule: Literal["edges", "operations"] = "edges",
        stem_channels: int = 8, node_channels: int = 16, multipliers: cells.Multipliers | None = None,
        checkpointing: bool = False,
    ) -> None:
        """inputs: 2, cells see the two cells before them, or 1. shared: one cell for all blocks.

        operations: the candidates, by default the paper's nine. partial: 1/partial of the channels pass
        through the operations, the others by them. affine: of the operations' batch norms. rule: what the
        genotype keeps, see `genotype`. The others: as for autohr.
        """
        super().__init__(stem_channels, node_channels, multipliers, checkpointing)
        self.operations = tuple(operations or OPERATIONS)
        _check_operations(self.operations)
        if partial < 1 or any(width % partial for width in self.widths):
            raise ValueError(f"partial = {partial} must divide the channels of the nodes, {self.widths}")
        self.inputs, self.rule = inputs, rule
        self.edges = [(node, source) for i, node in enumerate(NODES) for source in sources_of(i, inputs)]
        n_cells = 1 if shared else BLOCKS
        self.choices = nn.ParameterDict({
            "alphas": nn.Parameter(torch.zeros(n_cells, len(self.edges), len(self.operations))),
            "betas": nn.Parameter(torch.zeros(n_cells, len(self.edges))),
        })
        for _ in range(cells.CELLS_IN_A_BLOCK * BLOCKS):
            self.append(self._make_cell(partial, affine))

    def architecture(self) -> Iterator[nn.Parameter]:
        """What the search chooses by: alphas and betas."""
        return iter(self.choices.values())

    def weights(self) -> Iterator[nn.Parameter]:
        """All other parameters."""
        chosen = {id(p) for p in self.architecture()}
        return (p for p in self.parameters() if id(p) not in chosen)

    def cell(self, number: int) -> cells.CellOf:
        """The cell with the weights of its block."""
        place = number // cells.CELLS_IN_A_BLOCK if len(self.choices["alphas"]) > 1 else 0
        alpha, beta = self.operation_weights()[place], self.edge_weights()[place]
        return functools.partial(self.cells[number], alpha, beta)

    def operation_weights(self) -> Tensor:
        """(cells, edges, operations), summing to 1 over the operations."""
        weights: Tensor = self.choices["alphas"].softmax(-1)
        return weights

    def edge_weights(self) -> Tensor:
        """(cells, edges), summing to 1 over the edges into a node."""
        places = [[i for i, (to, _) in enumerate(self.edges) if to == node] for node in NODES]
        return torch.cat([self.choices["betas"][:, rows].softmax(-1) for rows in places], dim=1)

    def genotype(self) -> Genotype:
        """The strongest edges, each with its best operation; zero is never kept.

        An edge is as strong as its weight times that of its best operation other than zero. rule "edges"
        keeps, of the edges into a node, the two strongest (from two sources); "operations" the two
        strongest operations, which may stand on one edge.
        """
        strength = (self.operation_weights() * self.edge_weights()[:, :, None]).detach().cpu().tolist()
        return Genotype(tuple(self._strongest(rows) for rows in strength), self.inputs)

    def artifacts(self) -> dict[str, str]:
        """Files that belong into the folder of a run: the genotype, with the weights it was chosen by."""
        return {"genotype.json": self.genotype().text(
            operations=list(self.operations), edges=[f"{source} -> {node}" for node, source in self.edges],
            operation_weights=_rounded(self.operation_weights()), edge_weights=_rounded(self.edge_weights()),
            rule=self.rule,
        )}

    def _strongest(self, strength: list[list[float]]) -> Cell:
        cell: Cell = {}
        for node in NODES:
            found = [
                (value, row, operation) for row, (to, _) in enumerate(self.edges) if to == node
                for value, operation in zip(strength[row], self.operations, strict=True) if operation != ZERO
            ]
            found.sort(key=lambda item: -item[0])
            if self.rule == "edges":
                best = {row: (value, row, op) for value, row, op in reversed(found)}
                found = sorted(best.values(), key=lambda item: -item[0])
            kept = sorted(found[:2], key=lambda item: item[1])
            cell[node] = [(op, self.edges[row][1]) for _, row, op in kept]
        return cell

    def _make_cell(self, partial: int, affine: bool) -> Callable[[int, int, int], nn.Module]:
        return lambda before, last, width: MixedCell(
            self.edges, self.operations, before, last, width, partial, affine
        )


def _rounded(weights: Tensor) -> Any:
    return (weights.detach().double().cpu() * 1e6).round().div(1e6).tolist()


def _check_operations(names: tuple[str, ...]) -> None:
    """ValueError for unknown and doubled names, and where nothing but zero and identity is left."""
    kernels = [kernel_of(name) for name in names]
    if len(set(names)) < len(names) or not any(kernels):
        raise ValueError(f"operations must differ and hold a convolution, got {', '.join(names)}")


class MixedCell(nn.Module):
    """A cell with all candidate edges: (edges, operations), (edges,), s0, s1 -> (B, 3 C, T, H, W)."""

    def __init__(
        self, edges: list[tuple[str, str]], operations: tuple[str, ...], channels_s0: int, channels_s1: int,
        channels: int, partial: int, affine: bool,
    ) -> None:
        """edges: (node, source) in the order of the weights' rows."""
        super().__init__()
        self.edges, self.mixed_channels, self.partial = edges, channels // partial, partial
        given = {"s0": channels_s0, "s1": channels_s1}
        sources = list(dict.fromkeys(source for _, source in edges))
        self.inputs = nn.ModuleDict({
            name: cells.to_nodes(given[name], channels) for name in given if name in sources
        })
        self.rows = {name: [i for i, (_, source) in enumerate(edges) if source == name] for name in sources}
        self.mixed = nn.ModuleDict({
            name: MixedOperations(operations, len(rows), self.mixed_channels, affine)
            for name, rows in self.rows.items()
        })

    def forward(self, alpha: Tensor, beta: Tensor, s0: Tensor, s1: Tensor) -> Tensor:
        """Every node: the weighted sum of its edges, its channels shuffled."""
        given = {"s0": s0, "s1": s1}
        known = {name: part(given[name]) for name, part in self.inputs.items()}
        passed: dict[int, tuple[Tensor, Tensor]] = {}
        for source in (*self.inputs, *NODES):
            if source in NODES:
                known[source] = self._node(source, passed, beta)
            if source in self.rows:
                rows, x = self.rows[source], known[source]
                through, by = x[:, : self.mixed_channels], x[:, self.mixed_channels :]
                for row, mixed in zip(rows, self.mixed[source](through, alpha[rows]), strict=True):
                    passed[row] = mixed, by
        return torch.cat([known[node] for node in NODES], dim=1)

    def _node(self, node: str, passed: dict[int, tuple[Tensor, Tensor]], beta: Tensor) -> Tensor:
        """The weighted sum of the edges into a node; the shuffle lets other channels be mixed next."""
        rows = [row for row, (to, _) in enumerate(self.edges) if to == node]
        parts = [
            functools.reduce(torch.add, [beta[row].to(passed[row][i].dtype) * passed[row][i] for row in rows])
            for i in (0, 1)
        ]
        joined = torch.cat(parts, dim=1)
        return joined.unflatten(1, (self.partial, -1)).transpose(1, 2).flatten(1, 2)


class MixedOperations(nn.Module):
    """All operations on all edges out of one source, (B, C, T, H, W) -> a (B, C, T, H, W) per edge.

    Operations with one kernel, on every edge, are one convolution with so many more output channels: the
    results are those of separate ones, in a fraction of the calls.
    """

    def __init__(self, operations: tuple[str, ...], n_edges: int, channels: int, affine: bool) -> None:
        """Candidates of each of `n_edges` edges, all at `channels` channels."""
        super().__init__()
        self.n_edges, self.channels = n_edges, channels
        self.identity = operations.index(IDENTITY) if IDENTITY in operations else None
        kernels = {i: kernel for i, name in enumerate(operations) if (kernel := kernel_of(name))}
        extents = list(dict.fromkeys((kernel.time, kernel.space) for kernel in kernels.values()))
        groups = [[i for i, k in kernels.items() if (k.time, k.space) == extent] for extent in extents]
        self.order = [i for group in groups for i in group]
        self.weights = nn.ParameterList(
            _drawn(n_edges * len(group) * channels, channels, time, space)
            for group, (time, space) in zip(groups, extents, strict=True)
        )
        for place, group in enumerate(groups):
            thetas = torch.tensor([kernels[i].theta for i in group]).repeat_interleave(channels)
            self.register_buffer(f"theta{place}", thetas.repeat(n_edges), persistent=False)
        self.norm = nn.BatchNorm3d(n_edges * len(self.order) * channels, affine=affine)

    def forward(self, x: Tensor, alpha: Tensor) -> list[Tensor]:
        """alpha: (edges, operations), the weights of the operations."""
        made = torch.cat([part.unflatten(1, (self.n_edges, -1)) for part in self._convolved(x.relu())], dim=2)
        normed = self.norm(made.flatten(1, 2)).unflatten(1, (self.n_edges, len(self.order), self.channels))
        scale = alpha[:, self.order].to(normed.dtype)
        mixed = torch.einsum("beocthw,eo->ebcthw", normed, scale)
        if self.identity is None:
            return list(mixed)
        kept = alpha[:, self.identity].to(x.dtype)
        return [row + weight * x for row, weight in zip(mixed, kept, strict=True)]

    def _convolved(self, x: Tensor) -> Iterator[Tensor]:
        """Per kernel (B, edges * its operations * C, T, H, W)."""
        for place, weight in enumerate(self.weights):
            margin = (weight.shape[2] // 2, weight.shape[3] // 2, weight.shape[4] // 2)
            theta = self.get_buffer(f"theta{place}")
            if weight.shape[2:] == (3, 3, 3):
                yield temporal_difference_conv(x, weight, theta, padding=margin)
            else:
                yield F.conv3d(x, weight, padding=margin)


def _drawn(channels_out: int, channels_in: int, time: int, space: int) -> nn.Parameter:
    """Weights drawn as torch draws those of a convolution."""
    weight = torch.empty(channels_out, channels_in, time, space, space)
    nn.init.kaiming_uniform_(weight, a=5**0.5)
    return nn.Parameter(weight)
