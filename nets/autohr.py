"""AutoHR: a net of searched cells with temporal difference convolutions (Yu et al., IEEE SPL 2020)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from nets.layers import cells
from nets.layers.genotype import NODES, Cell, kernel_of, load_genotype
from nets.registry import NETS
from utils.errors import UserError

_DIGEST = "genotype_digest"


@NETS.register("autohr")
class AutoHR(cells.CellNet):
    """AutoHR built from a genotype: 222,009 parameters with the house genotype.

    The paper's own genotype was never published; "house" is this project's, not the paper's.
    """

    parameter_count = 222_009

    def __init__(
        self, *, genotype: str = "house", theta: Annotated[float, Field(ge=0, le=1)] | None = None,
        stem_channels: int = 8, node_channels: int = 16, multipliers: cells.Multipliers | None = None,
        checkpointing: bool = False,
    ) -> None:
        """genotype: house, plain, random:<seed>, a JSON file, or the run folder of a search.

        theta: of every temporal difference convolution, instead of the genotype's. stem_channels,
        node_channels: widths; multipliers: of node_channels, one for each of the four blocks.
        checkpointing: keep only the input of each cell for the backward pass, and compute it again.
        """
        super().__init__(stem_channels, node_channels, multipliers, checkpointing)
        found = load_genotype(genotype)
        self.genotype = found if theta is None else found.with_theta(theta)
        for number in range(cells.CELLS_IN_A_BLOCK * len(self.widths)):
            block = self.genotype.cell(number // cells.CELLS_IN_A_BLOCK)
            self.append(_maker(block))
        # theta and identities leave no trace in the shapes of weights: weights of another genotype would
        # load, and answer wrongly.
        self.register_buffer(_DIGEST, torch.tensor(list(self.genotype.digest), dtype=torch.uint8))

    def artifacts(self) -> dict[str, str]:
        """Files that belong into the folder of a run, by name."""
        return {"genotype.json": self.genotype.text()}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Refuse the weights of another genotype."""
        theirs = state_dict.get(prefix + _DIGEST)
        if theirs is not None and bytes(theirs.tolist()) != self.genotype.digest:
            raise UserError("these weights belong to another genotype than net.options.genotype (and theta) "
                            "give; the genotype.json of the run that made them is theirs")
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _maker(genotype: Cell) -> Callable[[int, int, int], nn.Module]:
    return lambda before, last, width: SearchedCell(genotype, before, last, width)


class SearchedCell(nn.Module):
    """A cell of a genotype: each node is the sum of its edges, the output all nodes' channels.

    (B, C0, T, H, W), (B, C1, T, H, W) -> (B, 3 C, T, H, W).
    """

    def __init__(self, genotype: Cell, channels_s0: int, channels_s1: int, channels: int) -> None:
        """An input that no edge comes from gets no weights."""
        super().__init__()
        self.genotype = genotype
        used = {source for edges in genotype.values() for _, source in edges}
        inputs = {"s0": channels_s0, "s1": channels_s1}
        self.inputs = nn.ModuleDict({
            name: cells.to_nodes(given, channels) for name, given in inputs.items() if name in used
        })
        self.nodes = nn.ModuleDict({
            node: nn.ModuleList(_edge(operation, channels) for operation, _ in genotype[node])
            for node in NODES
        })

    def forward(self, s0: Tensor, s1: Tensor) -> Tensor:
        """s0: output of the cell before the last, s1: of the last one."""
        known = {name: self.inputs[name](x) for name, x in (("s0", s0), ("s1", s1)) if name in self.inputs}
        for node in NODES:
            edges = zip(self.nodes[node], self.genotype[node], strict=True)  # type: ignore[call-overload]
            known[node] = functools.reduce(torch.add, [edge(known[source]) for edge, (_, source) in edges])
        return torch.cat([known[node] for node in NODES], dim=1)


def _edge(operation: str, channels: int) -> nn.Module:
    kernel = kernel_of(operation)
    return nn.Identity() if kernel is None else cells.operation(kernel, channels)
