"""The house style of figures: colours that colour-blind readers tell apart, legible sizes, equal bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from utils.files import atomic

Array = NDArray[np.float64]
P = ParamSpec("P")

LABEL, BAND, GREY, GRID = "#3b3b3b", "#dfe7ef", "#8a8a8a", "#ececec"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#8c6d31",
           "#882255", "#44aa99")
"""Okabe and Ito's colours without black and yellow, and four that stand apart from them."""
MARKERS = ("o", "D", "s", "^", "v", "P", "X", "p", "<", ">")
STYLE: Any = {
    "font.size": 9, "axes.titlesize": 9.5, "axes.labelsize": 9, "legend.fontsize": 8.5,
    "xtick.labelsize": 8.5, "ytick.labelsize": 8.5, "axes.spines.top": False, "axes.spines.right": False,
    "axes.linewidth": 0.8, "legend.frameon": False, "lines.linewidth": 1.3, "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "text.parse_math": False,  # names come from files: a dollar in one is no formula
    "pdf.fonttype": 42,
}
DPI = 150
SMALL = 8
RASTER_FROM = 4000
MAX_NAME, MAX_TITLE = 34, 22
DATELESS: Any = {"png": {"Software": None}, "pdf": {"CreationDate": None}}


def house() -> Any:
    """The style as a context; matplotlib's own settings stay as they are."""
    return matplotlib.rc_context({**dict(matplotlib.rcParamsDefault), **STYLE, "backend": "agg"})


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw under the house style without touching matplotlib's own settings."""

    @wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with house():
            return draw(*args, **kwargs)

    return wrapper


def save(figure: Figure, path: Path) -> None:
    """Write a .png or .pdf atomically; equal figures give equal bytes (no time stamp inside)."""
    kind = path.suffix.removeprefix(".")
    with house(), atomic(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=DPI, metadata=DATELESS[kind])


def colours(methods: Sequence[str]) -> dict[str, str]:
    """One colour per method, in order; the first has its own however many follow, `constant` is grey."""
    named = [method for method in methods if method != "constant"]
    rest = PALETTE[1:]
    tint = {name: rest[(i - 1) % len(rest)] if i else PALETTE[0] for i, name in enumerate(named)}
    return tint | {"constant": GREY}


def markers(methods: Sequence[str]) -> dict[str, str]:
    """One marker per method, in order, so that colour is never the only difference."""
    named = [method for method in methods if method != "constant"]
    return {name: MARKERS[i % len(MARKERS)] for i, name in enumerate(named)} | {"constant": "|"}


def new(width: float, height: float, rows: int = 1, columns: int = 1, **grid: Any) -> tuple[Figure, Any]:
    """A figure of that many inches, and its axes (rows, columns)."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **grid)


def panels(n: int, width: float, height: float, n_columns: int, **grid: Any) -> tuple[Figure, list[Axes]]:
    """n panels of that many inches each in even rows of up to n_columns; what is left over stays empty.

    Of shared axes, the outer panels bear the numbers, also where the panel below is an empty one.
    """
    rows = -(-n // n_columns)
    columns = -(-n // rows)
    figure, axes = new(width * columns + 0.5, height * rows + 0.3, rows, columns, **grid)
    for axis in axes.flat[n:]:
        axis.set_visible(False)
    for index, axis in enumerate(axes.flat[:n]):
        axis.tick_params(labelbottom=index + columns >= n or not grid.get("sharex"),
                         labelleft=index % columns == 0 or not grid.get("sharey"))
    return figure, list(axes.flat[:n])


def short(name: str, most: int = MAX_NAME) -> str:
    """A name that leaves room for the figure: its middle is left out where it is long."""
    if len(name) <= most:
        return name
    return f"{name[: most // 2]}…{name[-(most // 2 - 1):]}"


def without_common_prefix(names: Sequence[str]) -> list[str]:
    """Names without the dataset that all of them begin with."""
    sets = {name.partition(".")[0] for name in names}
    return [short(name.partition(".")[2] or name if len(sets) == 1 else name) for name in names]


def cloud(n: int) -> dict[str, Any]:
    """How n points are drawn: smaller and fainter when there are many, as pixels in a PDF of thousands."""
    size, alpha = (16, 0.75) if n <= 300 else (8, 0.45) if n <= RASTER_FROM else (4, 0.2)
    return {"s": size, "alpha": alpha, "linewidths": 0, "rasterized": n > RASTER_FROM}


def signed(value: float, digits: int = 2) -> str:
    """A number with its sign, with a real minus."""
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text if any(sign in text for sign in "123456789") else text[1:]


def padded(values: Array, share: float = 0.06, least: float = 3.0) -> tuple[float, float]:
    """Limits around finite values with some room."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    room = max(share * (high - low), least)
    return low - room, high + room


def legend(figure: Figure, handles: Mapping[str, Any], **where: Any) -> None:
    """A legend of the figure with names of any kind; left out where it would be empty."""
    if handles:
        names = [short(name, MAX_TITLE).lstrip("_") for name in handles]
        figure.legend(list(handles.values()), names, **where)
