"""What a cell consists of: the candidate operations, and genotypes as JSON files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import UserError
from utils.files import digest, read_json, to_json

ZERO, IDENTITY = "zero", "identity"
OPERATIONS = (
    ZERO, IDENTITY, "conv_3x3x3", "conv_1x3x3", "conv_1x5x5", "conv_3x1x1", "conv_5x1x1", "tdc_3x3x3_0.2",
    "tdc_3x3x3_1.0",
)
"""The nine candidates of the paper's search (Yu et al., SPL 2020)."""
BLOCKS = 4
NODES = ("b1", "b2", "b3")
FILES = Path(__file__).parent.parent / "genotypes"
FILE_NAME = "genotype.json"
_CONV = re.compile(r"conv_([135])x([135])x\2")
_TDC = re.compile(r"tdc_3x3x3_(0(?:\.\d{1,4})?|1(?:\.0{1,4})?)")
_MAX_BYTES, _MAX_EDGES = 100_000, 8

Edge = tuple[str, str]
Cell = dict[str, list[Edge]]


@dataclass(frozen=True)
class Kernel:
    """The convolution behind the name of an operation: extent over time and space, and theta."""

    time: int
    space: int
    theta: float = 0.0


def kernel_of(operation: str) -> Kernel | None:
    """The kernel of a named operation, None for zero and identity; ValueError for an unknown name."""
    if operation in (ZERO, IDENTITY):
        return None
    if match := _CONV.fullmatch(operation):
        return Kernel(int(match[1]), int(match[2]))
    if match := _TDC.fullmatch(operation):
        return Kernel(3, 3, float(match[1]))
    known = ", ".join(OPERATIONS)
    raise ValueError(f"unknown operation {operation!r}; known: {known}, and tdc_3x3x3_<theta>")


def sources_of(node: int, inputs: int) -> list[str]:
    """Where the edges into node number `node` (from 0) may come from, in their order."""
    return [*(("s0", "s1") if inputs == 2 else ("s1",)), *NODES[:node]]


@dataclass(frozen=True)
class Genotype:
    """Cells as node -> [(operation, source), ...]: one for all blocks, or one for each of the four.

    inputs: 2, a cell sees the outputs of the two cells before it (s0, then s1), or 1, only of the last.
    """

    cells: tuple[Cell, ...]
    inputs: int = 2

    def cell(self, block: int) -> Cell:
        """The cell of a block."""
        return self.cells[block if len(self.cells) > 1 else 0]

    def with_theta(self, theta: float) -> Genotype:
        """The same with one theta in every temporal difference convolution; ValueError where none is."""
        if not any(op.startswith("tdc") for cell in self.cells for edges in cell.values() for op, _ in edges):
            raise ValueError("theta is given, and this genotype has no temporal difference convolution")

        def changed(op: str) -> str:
            return f"tdc_3x3x3_{theta:g}" if op.startswith("tdc") else op

        return Genotype(tuple(
            {node: [(changed(op), source) for op, source in edges] for node, edges in cell.items()}
            for cell in self.cells
        ), self.inputs)

    def to_json(self) -> dict[str, Any]:
        """The content of a genotype file."""
        cells = [{node: [{"operation": op, "from": source} for op, source in edges]
                  for node, edges in cell.items()} for cell in self.cells]
        return {"inputs": self.inputs, "cells": cells}

    def text(self, **notes: Any) -> str:
        """The file's text; `notes` stand in it as "about" and change nothing."""
        return to_json({"about": notes, **self.to_json()} if notes else self.to_json())

    @property
    def digest(self) -> bytes:
        """SHA-256 of what is built: equal for equal nets."""
        kernels = [[[node, [[repr(kernel_of(op) or op), source] for op, source in edges]]
                    for node, edges in cell.items()] for cell in self.cells]
        return bytes.fromhex(digest([self.inputs, kernels]))

    @classmethod
    def from_json(cls, value: Any, origin: str) -> Genotype:
        """Read a genotype file's content, from anyone; UserError names what is wrong with it."""
        try:
            inputs, cells = value["inputs"], value["cells"]
            if inputs not in (1, 2) or len(cells) not in (1, BLOCKS):
                raise ValueError(f'"inputs" must be 1 or 2, and "cells" hold 1 cell or {BLOCKS}')
            return cls(tuple(_cell(cell, inputs) for cell in cells), inputs)
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{origin}: not a genotype ({error!r}); compare nets/genotypes/house.json"
                            ) from None
        except ValueError as error:
            raise UserError(f"{origin}: {error}") from None


def _cell(value: dict[str, Any], inputs: int) -> Cell:
    """One cell, checked: every node has edges, from what comes before it, and none is zero."""
    if set(value) != set(NODES):
        raise ValueError(f"a cell has the nodes {', '.join(NODES)}, not {', '.join(map(str, value))}")
    cell: Cell = {}
    for number, node in enumerate(NODES):
        edges = [(str(edge["operation"]), str(edge["from"])) for edge in value[node]]
        if not 1 <= len(edges) <= _MAX_EDGES:
            raise ValueError(f"{node} has {len(edges)} edges; 1 to {_MAX_EDGES} are possible")
        for operation, source in edges:
            if kernel_of(operation) is None and operation != IDENTITY:
                raise ValueError(f"{node}: operation {operation!r} cannot be built; leave the edge out")
            if source not in sources_of(number, inputs):
                raise ValueError(f"{node} cannot come from {source!r}; "
                                 f"use {', '.join(sources_of(number, inputs))}")
        cell[node] = edges
    return cell


def load_genotype(name: str) -> Genotype:
    """A genotype by name.

    The name of a file of nets/genotypes, "random:<seed>", a JSON file, or a run folder with a
    genotype.json. UserError when there is none or when it cannot be built.
    """
    if match := re.fullmatch(r"random:(\d{1,9})", name):
        return random_genotype(int(match[1]))
    path = FILES / f"{name}.json" if re.fullmatch(r"\w+", name) else Path(name)
    path = path / FILE_NAME if path.is_dir() else path
    if not path.is_file():
        shipped = ", ".join(sorted(file.stem for file in FILES.glob("*.json")))
        raise UserError(f"no genotype {name!r}: give a JSON file, the run folder of a search, random:<seed>, "
                        f"or one of {shipped}")
    return Genotype.from_json(read_json(path, _MAX_BYTES), str(path))


def random_genotype(seed: int, inputs: int = 2, operations: Sequence[str] = OPERATIONS) -> Genotype:
    """Two edges from different sources into each node, any operation but zero, all equally likely."""
    rng = np.random.default_rng(seed)
    usable = [name for name in operations if name != ZERO]
    cell: Cell = {}
    for number, node in enumerate(NODES):
        sources = sources_of(number, inputs)
        chosen = rng.permutation(len(sources))[: min(2, len(sources))]
        cell[node] = [(usable[rng.integers(len(usable))], sources[place]) for place in sorted(chosen)]
    return Genotype((cell,), inputs)
