"""Files of imported weights: a state dict that carries its net, its input and where it comes from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import nets
from nets.weights import read_content
from utils.errors import UserError
from utils.files import atomic
from utils.settings import NetInput, Preprocessing

FORMAT = "imported-weights-1"
SPEED_TOLERANCE = 0.2
"""How far a video's frame rate may be from that of the training, as a share, before it is named."""


@dataclass(frozen=True)
class Origin:
    """Where weights come from: what is not known is None.

    file, sha256: of the source; zoo: name of the entry; trained_on: dataset; fps: frame rate in Hz it was
    trained at; checked_fps: one it was found right at; conditions: what else its user must know.
    """

    file: str
    sha256: str
    zoo: str | None = None
    trained_on: str | None = None
    fps: float | None = None
    checked_fps: float | None = None
    licence: str | None = None
    citation: str | None = None
    conditions: tuple[str, ...] = ()

    def sentence(self) -> str:
        """What a user is told before the result."""
        told = f"trained on {self.trained_on}" if self.trained_on else "trained on data that is not stated"
        rate = "" if self.fps is None else f" at {self.fps:g} frames a second"
        terms = f"; terms: {self.licence}" if self.licence else "; its terms of use are not stated"
        return f"{told}{rate}{terms}"


@dataclass(frozen=True)
class Recipe:
    """How to build what the weights are for: net, its options, its input, how crops are made."""

    net: str
    options: dict[str, Any] = field(default_factory=dict)
    input: dict[str, Any] = field(default_factory=dict)
    preprocessing: dict[str, Any] = field(default_factory=dict)

    def build(self) -> nn.Module:
        """The net with fresh weights; UserError naming what is wrong."""
        if self.net not in nets.names():
            raise UserError(nets.NETS.unknown(self.net))
        try:
            net: nn.Module = nets.build(self.net, **self.options)
            changes = NetInput.model_validate(self.input).model_dump()
            net.input_spec = net.input_spec.replace(**changes)  # type: ignore[operator,union-attr]
            Preprocessing.model_validate(self.preprocessing)
        except ValueError as error:
            raise UserError(f"{self.net}: {error}") from None
        return net


def save(path: Path, state: dict[str, Tensor], recipe: Recipe, origin: Origin) -> None:
    """Write the file whole, in the place of an older one."""
    content = {
        "format": FORMAT, "recipe": dataclasses.asdict(recipe),
        "origin": {**dataclasses.asdict(origin), "conditions": list(origin.conditions)}, "state_dict": state,
    }
    with atomic(path) as temporary:
        torch.save(content, temporary)


def read_about(path: Path) -> tuple[Recipe, Origin] | None:
    """What an imported file tells of itself; None for weights of other kinds. UserError for a broken file."""
    content = read_content(path)
    if not isinstance(content, dict) or not str(content.get("format", "")).startswith("imported-weights"):
        return None
    if content["format"] != FORMAT:
        raise UserError(f"{path}: its format is {content['format']}, here {FORMAT} is read; import it again")
    try:
        told = dict(content["origin"])
        origin = Origin(**{**told, "conditions": tuple(told["conditions"])})
        return Recipe(**content["recipe"]), origin
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: its description is damaged ({error}); import it again") from None


def outside(origin: Origin, size: int, frames: int, fps: float, n_frames: int, face_px: float) -> list[str]:
    """In what a video is unlike what the weights were trained on, a sentence each.

    size, frames: of the net's clips; fps, n_frames, face_px: of the video, the last the box's median width.
    """
    told = []
    known = origin.fps or origin.checked_fps
    if known is not None and abs(fps / known - 1) > SPEED_TOLERANCE:
        word = "trained" if origin.fps else "checked"
        told.append(f"{fps:.1f} frames a second: these weights were {word} at {known:g}, and their answer at "
                    "another rate is not known to be right")
    if n_frames < frames:
        told.append(f"{n_frames} frames are fewer than a clip of this net ({frames}): the last was repeated")
    if face_px < size:
        told.append(f"the face's box is {face_px:.0f} pixels wide, the net was trained on pictures of {size}")
    return told
