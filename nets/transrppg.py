"""After TransRPPG: whether a face is alive, by maps of face and background (Yu et al., IEEE SPL 2021)."""

from __future__ import annotations

import itertools
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from nets.registry import NETS
from utils.contracts import InputSpec

PATCH, STRIDE = (3, 30), (1, 15)
"""Rows and frames of a patch, and the steps between patches."""
FACE_CELLS, CORNERS = (3, 2), 4
"""The face is the middle of the crop in 3 x 2 cells; the background its four corners."""
BORDER = 4
"""A corner is a fourth of the crop's side; so is the margin around the middle."""
MIN_SIZE, WIDTH = 12, 96


@NETS.register("transrppg")
class TransRPPG(nn.Module):
    """After TransRPPG: a liveness classifier, not a heart-rate net, and untrained: 553,347 parameters.

    The paper's abstract gives 547 thousand parameters and 763 million FLOPs. This reading has 1.2 % more
    parameters, but takes 5.2 billion FLOPs for 300 frames: the paper's own must have fewer tokens.
    Nothing here reads liveness data, so no weights come with it and no method trains it.
    """

    task = "liveness"
    parameter_count = 553_347
    small_sizes = (16, 24)
    small_options: ClassVar[dict[str, Any]] = {"frames": 96, "layers": 2}
    no_gradient: ClassVar[dict[str, str]] = {
        f"heads.{name}.{part}": "this logit only enters the loss" for name in ("face", "background")
        for part in ("weight", "bias")
    }

    def __init__(
        self, *, frames: Annotated[int, Field(ge=30)] = 300, layers: Annotated[int, Field(ge=1)] = 6,
        heads: Annotated[int, Field(ge=1)] = 3,
    ) -> None:
        """frames: the longest clip there are places for; layers: that face and background share."""
        super().__init__()
        if frames < PATCH[1] or WIDTH % heads:
            raise ValueError(f"frames = {frames}, heads = {heads}: at least {PATCH[1]} frames, and heads "
                             f"that {WIDTH} channels can be divided among")
        self.input_spec = InputSpec(frames=frames, size=128, video="raw", target="standardised")
        self.unions = _unions(FACE_CELLS[0] * FACE_CELLS[1]), _unions(CORNERS)
        self.tokens = nn.Linear(3 * PATCH[0] * PATCH[1], WIDTH)
        self.times = _steps(frames, 1)
        self.face, self.background = (
            Places(_steps(len(unions), 0), self.times) for unions in self.unions
        )
        self.leader = Places(0, 0)
        self.shared = nn.ModuleList(Layer(heads) for _ in range(layers))
        self.joint = Layer(heads)
        self.heads = nn.ModuleDict({
            name: nn.Linear(WIDTH, 1) for name in ("joint", "face", "background")
        })

    def forward(self, video: Tensor) -> Tensor:
        """Logit that the face is alive: crops (B, 3, T, S, S), 0..255 -> (B,).

        T from 30 to the option `frames`, S at least 12 (ValueError).
        """
        face, background = self.maps(video)
        return self.logits(face, background)["joint"]

    def maps(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Multi-scale maps of a crop's middle and corners: (B, 3, T, S, S) -> (B, 3, 63, T), (B, 3, 15, T).

        A row for every union of regions, each row and channel scaled to 0..255 over the clip.
        """
        self._check(video)
        regions = _face_cells(video.float()), _corners(video.float())
        face, background = (_scaled(torch.matmul(_mixing(unions, video.device), means))
                            for unions, means in zip(self.unions, regions, strict=True))
        return face, background

    def logits(self, face: Tensor, background: Tensor) -> dict[str, Tensor]:
        """Logits "joint", "face" and "background", (B,) each, of maps (B, 3, 63, T) and (B, 3, 15, T)."""
        x, y = self._encoded(face, self.face), self._encoded(background, self.background)
        both = self.leader(torch.cat([x[:, 1:], y[:, 1:]], dim=1))
        ends = {"joint": self.joint(both), "face": x, "background": y}
        return {name: self.heads[name](end[:, 0]).float().squeeze(-1) for name, end in ends.items()}

    def loss(self, logits: dict[str, Tensor], alive: Tensor) -> Tensor:
        """Sum of three binary cross entropies, the background never alive; alive: (B,) of 0 and 1 -> ()."""
        wanted = {"joint": alive, "face": alive, "background": torch.zeros_like(alive)}
        terms = [F.binary_cross_entropy_with_logits(logits[name], wanted[name]) for name in wanted]
        return torch.stack(terms).sum()

    def _encoded(self, maps: Tensor, places: Places) -> Tensor:
        """Class token and patches of maps with their places, after the shared layers: (B, 1 + N, C)."""
        parts = (maps / 255).unfold(2, PATCH[0], STRIDE[0]).unfold(3, PATCH[1], STRIDE[1])
        x = places(self.tokens(parts.permute(0, 2, 3, 1, 4, 5).flatten(3)))
        for layer in self.shared:
            x = layer(x)
        return x

    def _check(self, video: Tensor) -> None:
        if video.dim() != 5 or video.shape[1] != 3:
            raise ValueError(f"transrppg takes (B, 3, T, S, S), got a tensor of shape {tuple(video.shape)}")
        frames, side = video.shape[2], min(video.shape[3:])
        longest = PATCH[1] + self.times * STRIDE[1] - 1
        if not PATCH[1] <= frames <= longest or side < MIN_SIZE:
            raise ValueError(
                f"transrppg takes clips of {PATCH[1]} to {longest} frames of at least {MIN_SIZE} pixels, got "
                f"{frames} of {side}; set net.input, or net.options.frames"
            )


class Places(nn.Module):
    """Learned places of tokens on a grid of rows and times, and the class token before them."""

    def __init__(self, rows: int, times: int) -> None:
        """rows, times: of the grid; 0 for a class token alone, before tokens in a line."""
        super().__init__()
        self.leader = nn.Parameter(0.02 * torch.randn(WIDTH))
        self.place = nn.Parameter(0.02 * torch.randn(rows, times, WIDTH)) if rows else None

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, rows, up to times, C), or (B, N, C) without places -> (B, 1 + N, C)."""
        if self.place is not None:
            tokens = (tokens + self.place[:, : tokens.shape[2]]).flatten(1, 2)
        return torch.cat([self.leader.expand(len(tokens), 1, -1).to(tokens.dtype), tokens], dim=1)


class Layer(nn.Module):
    """Attention and two linear layers, each after a layer norm and added to what came in."""

    def __init__(self, heads: int) -> None:
        """heads: of WIDTH / heads channels each."""
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.projection = nn.Linear(WIDTH, WIDTH)
        self.feedforward = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        parts = self.qkv(self.norm1(tokens)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts
        scores = torch.matmul(query, key.transpose(2, 3)) / query.shape[-1] ** 0.5
        mixed = torch.matmul(scores.softmax(-1), value).transpose(1, 2).flatten(2)
        tokens = tokens + self.projection(mixed)
        added: Tensor = tokens + self.feedforward(self.norm2(tokens))
        return added


def _steps(n: int, axis: int) -> int:
    """Patches along an axis of n entries."""
    return (n - PATCH[axis]) // STRIDE[axis] + 1


def _unions(n: int) -> list[tuple[int, ...]]:
    """Every non-empty choice of n regions, single ones first."""
    return [some for size in range(1, n + 1) for some in itertools.combinations(range(n), size)]


def _mixing(unions: list[tuple[int, ...]], device: torch.device) -> Tensor:
    """Rows of means over each union's regions, which are of one size: (unions, regions)."""
    mix = torch.zeros(len(unions), len(unions[-1]))
    for row, some in zip(mix, unions, strict=True):
        row[list(some)] = 1 / len(some)
    return mix.to(device)


def _face_cells(video: Tensor) -> Tensor:
    """Means of the cells of the middle: (B, 3, T, H, W) -> (B, 3, 6, T)."""
    height, width = video.shape[3:]
    rows, columns = (_cuts(side, n) for side, n in zip((height, width), FACE_CELLS, strict=True))
    cells = [video[..., top:low, left:right].mean((3, 4)) for top, low in rows for left, right in columns]
    return torch.stack(cells, dim=2)


def _cuts(side: int, n: int) -> list[tuple[int, int]]:
    """n stretches between the margins of a side."""
    first, last = side // BORDER, side - side // BORDER
    edges = [first + (last - first) * i // n for i in range(n + 1)]
    return list(itertools.pairwise(edges))


def _corners(video: Tensor) -> Tensor:
    """Means of the corners: (B, 3, T, H, W) -> (B, 3, 4, T)."""
    ends = [(slice(None, side // BORDER), slice(side - side // BORDER, None)) for side in video.shape[3:]]
    return torch.stack([video[..., row, column].mean((3, 4)) for row in ends[0] for column in ends[1]], dim=2)


def _scaled(maps: Tensor) -> Tensor:
    """Each row from 0 to 255 over time; 0 where it does not change: (..., T) -> (..., T)."""
    low = maps.amin(-1, keepdim=True)
    spread = maps.amax(-1, keepdim=True) - low
    return 255 * (maps - low) / torch.where(spread > 0, spread, torch.ones_like(spread))
