"""How beats, their variability and respiration are measured: every choice by name.

The field's tables of LF, HF, LF/HF and respiration frequency leave most of these choices unsaid. A preset
is one entry of PRESETS; it is written whole into every result.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from utils.errors import UserError
from utils.registry import did_you_mean


@dataclass(frozen=True)
class VitalSettings:
    """Every choice that a vital sign depends on.

    Beats. low_hz, high_hz, order: zero-phase Butterworth band-pass before they are looked for. detector:
    "tracked" (one beat a cycle of the rate that is followed through the recording), "elgendi" (two moving
    averages, Elgendi et al. 2013) or "maxima" (local maxima at least `distance_s` apart). upsample_hz:
    cubic spline to this rate first, None: the signal's own. refine: parabola through the highest sample.
    margin_s: beats closer to either end are left out, as the filter knows one side of them only.

    Intervals. shortest_s, longest_s: others are dropped, None: none is. change: dropped when it differs by
    more than this share from the median of the five around it, None: none is. most_dropped: share of
    dropped intervals beyond which nothing is computed.

    Spectrum. Lomb-Scargle periodogram of the intervals, `oversampling` bins per 1/duration; parabolic: the
    respiration frequency is refined between bins. lf_hz, hf_hz: the bands [low, high).

    Respiration. resp_low_hz, resp_high_hz: where it is looked for. resp_detrend: lambda of the smoothness
    priors at the rate of the frames, None: what is slower than half of resp_low_hz is removed. resp_order:
    order of a Butterworth band-pass, None: none. resp_from: "pulse" takes the waveform itself, "fusion"
    the intervals, heights and baseline of its beats together.

    min_periods: periods of a band's lowest frequency that a recording must hold, else the numbers of that
    band are null.
    """

    name: str
    description: str
    low_hz: float = 0.5
    high_hz: float = 8.0
    order: int = 2
    detector: Literal["tracked", "elgendi", "maxima"] = "tracked"
    distance_s: float = 0.3
    upsample_hz: float | None = 256.0
    refine: bool = True
    margin_s: float = 0.3
    shortest_s: float | None = 0.25
    longest_s: float | None = 2.0
    change: float | None = 0.2
    most_dropped: float = 0.3
    oversampling: float = 5.0
    parabolic: bool = True
    lf_hz: tuple[float, float] = (0.04, 0.15)
    hf_hz: tuple[float, float] = (0.15, 0.40)
    resp_low_hz: float = 0.13
    resp_high_hz: float = 0.5
    resp_detrend: float | None = None
    resp_order: int | None = None
    resp_from: Literal["fusion", "pulse"] = "fusion"
    min_periods: float = 1.0

    def as_json(self) -> dict[str, Any]:
        """Every field as a JSON value."""
        return {name: list(value) if isinstance(value, tuple) else value
                for name, value in dataclasses.asdict(self).items()}


_AS_PUBLISHED: dict[str, Any] = {
    "shortest_s": None, "longest_s": None, "change": None, "most_dropped": 1.0, "parabolic": False,
    "min_periods": 0.0, "margin_s": 0.0,
}

PRESETS: dict[str, VitalSettings] = {
    preset.name: preset for preset in (
        VitalSettings(
            "default", "house settings: tracked beats at 256 Hz, outliers dropped, sub-bin frequencies",
        ),
        VitalSettings(
            "contrastphys", "Contrast-Phys: beats of Elgendi et al. at the signal's own rate, every "
            "interval kept, Lomb-Scargle",
            order=3, detector="elgendi", upsample_hz=None, refine=False, **_AS_PUBLISHED,
        ),
        VitalSettings(
            "nest", "NEST: spline to 256 Hz, every interval kept, Lomb-Scargle with 4 bins per 1/duration; "
            "the rule for beats is ours (local maxima), it is not published",
            detector="maxima", refine=False, oversampling=4.0, **_AS_PUBLISHED,
        ),
        VitalSettings(
            "toolbox", "respiration as rPPG-Toolbox computes it for BigSmall, on the waveform itself: "
            "lambda 100 at any rate, order 1, 0.13-0.5 Hz; beats as in default",
            resp_detrend=100.0, resp_order=1, resp_from="pulse",
        ),
    )
}


def get(name: str) -> VitalSettings:
    """The preset of that name; UserError listing the known ones for another."""
    if name not in PRESETS:
        known = ", ".join(PRESETS)
        raise UserError(f"no settings for vital signs {name!r}{did_you_mean(name, list(PRESETS))}  "
                        f"known: {known}")
    return PRESETS[name]
