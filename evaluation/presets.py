"""Protocols as data: every choice that a number depends on, by name.

A result of the field is fixed by its ground truth, the unit that is scored, the filter, the band, the
spectrum, the peak rule and the statistics; each is a field here. A preset is one entry of PRESETS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from evaluation.preset_table import PRESETS
from utils.errors import UserError
from utils.registry import did_you_mean
from utils.settings import Protocol as OwnProtocol
from utils.settings import Section

__all__ = ["PRESETS", "Protocol", "ProtocolError", "build", "shown_name"]


class Protocol(Section):
    """How waveforms become numbers."""

    name: str = Field(description="Name of the protocol.")
    description: str = Field(description="One line on where it comes from.")
    ground_truth: Literal["label", "device", "label_or_device", "device_or_label"] = Field(
        description="Reference rate: of the label's waveform by the same estimator, the device's mean "
        "rate over the unit, or the one with the other where a recording has not got the first."
    )
    window_s: float | None = Field(gt=0, description="Length of a window; null: the whole recording.")
    hop_s: float | None = Field(None, gt=0, description="Step between windows; null: they do not overlap.")
    hop_frames: int | None = Field(None, ge=1, description="Step between windows in frames, for hop_s.")
    tail: Literal["drop", "keep"] = Field(
        description="What becomes of a last window that is too short. Where it is dropped, no spectral peak "
        "is taken of less than 3 s or a beat at the band's lower end; where it is kept, min_samples rules."
    )
    min_samples: int = Field(9, ge=9, description="Kept tails below this length are skipped.")
    unit: Literal["window", "recording", "frame"] = Field(
        "window", description="What counts once in a mean: a window, a recording (mean of its windows' "
        "rates), or a frame (a window's rate is held over its frames, the last one's to the end)."
    )
    resample: Literal["uniform", "none"] = Field(
        description="Onto a uniform grid by the time stamps, or samples taken as they come."
    )
    resample_hz: float | None = Field(None, gt=0, description="Rate of that grid; null: the mean frame rate.")
    detrend: float | None = Field(ge=0, description="Lambda of the smoothness priors; null: none.")
    detrend_at: Literal["any_rate", "30_fps"] = Field(
        "any_rate", description="The same lambda at any frame rate, or, at others than 30, the lambda "
        "with the same cut-off in Hz."
    )
    detrend_block: int | None = Field(
        None, ge=3, description="Detrend blocks of so many samples one by one; null: all at once."
    )
    filter: Literal["butterworth", "fir_hamming", "none"] = Field(description="Filter of both waveforms.")
    filter_passes: Literal["zero_phase", "one_way"] = Field(
        "zero_phase", description="Forward and backward, or forward only."
    )
    filter_order: int | None = Field(
        None, ge=1, le=10, description="Order given to the design of the Butterworth band-pass."
    )
    filter_order_share: float | None = Field(
        None, gt=0, lt=0.33, description="Order of the FIR filter as a share of the waveform's length."
    )
    filter_low_hz: float | None = Field(None, gt=0, description="Lower edge of the filter.")
    filter_high_hz: float | None = Field(None, gt=0, description="Upper edge of the filter.")
    standardise: bool = Field(False, description="Zero mean and unit variance after the filter.")
    parts: int = Field(
        1, ge=1, description="A window's rate is the mean of the rates of so many equal parts."
    )
    estimator: Literal["spectral_peak", "welch_peak", "mean_interval", "rate_head"] = Field(
        description="How a waveform becomes a rate: peak of a periodogram, of Welch's mean of them, mean "
        "interval between the waveform's local maxima; or the rates a net puts out itself."
    )
    spectrum_window: Literal["hann", "hamming", "boxcar"] = Field(description="Taper of the spectrum.")
    taper: Literal["periodic", "symmetric"] = Field("periodic", description="Form of that taper.")
    remove_mean: bool = Field(True, description="Subtract the mean of what is transformed.")
    welch_samples: int | None = Field(None, ge=8, description="Longest segment of Welch's method.")
    welch_segments: int | None = Field(
        None, ge=1, description="Number of half-overlapping segments, for welch_samples."
    )
    welch_overlap_samples: int | None = Field(
        None, ge=0, description="Overlap of the segments, 80 % where they are no longer; null: half."
    )
    n_fft: Literal[
        "power_of_two", "bin_width", "exact_bins", "unpadded", "samples", "multiple", "per_rate"
    ] = Field(
        description="Length of the transform: next power of two; zero-padded until bins are bin_bpm or "
        "finer; bins of bin_bpm; as long as the waveform; n_fft_value samples; n_fft_value times the "
        "waveform; n_fft_value over the frame rate."
    )
    n_fft_value: float | None = Field(None, gt=0, description="The number that n_fft speaks of.")
    bin_bpm: float | None = Field(None, gt=0, description="Width of a spectral bin.")
    peak: Literal["argmax", "parabolic", "neighbour_drops", "band_drops", "harmonic_rule"] = Field(
        description="The highest bin; a parabola through it; moved between bins by the ratio of the drops "
        "to both neighbours; by twice as much, and between the two bins at the band's ends by their powers; "
        "the highest local peak, or the second where it is near half the first."
    )
    harmonic_bpm: float | None = Field(
        None, gt=0, description="How near |first - 2 second| counts for the harmonic rule."
    )
    peak_low_hz: float = Field(gt=0, description="Lower end of the band searched for the peak.")
    peak_high_hz: float = Field(gt=0, description="Upper end of the band searched for the peak.")
    whole_bpm: bool = Field(False, description="Rates are rounded to whole beats a minute.")
    snr: Literal["toolbox", "toolbox_old", "dehaan", "contrastphys", "pyvhr", "none"] = Field(
        description="Variant of the signal-to-noise ratio."
    )
    macc: Literal["circular", "gideon", "none"] = Field(
        "circular", description="Variant of the maximum cross-correlation."
    )
    waveform_metrics: bool = Field(
        True, description="Irrelevant power ratio, and r, lag and error of the waveform, per window."
    )
    ddof: Literal[0, 1] = Field(0, description="Delta degrees of freedom of the standard deviation.")
    mape_offset_bpm: float = Field(0.0, ge=0, description="Added to the reference that MAPE divides by.")
    pearson_offset: float = Field(
        0.0, ge=0, description="Added to the product of norms that r divides by."
    )
    standard_error: Literal["toolbox", "none"] = Field(
        "none", description="Formulas of the standard errors beside the means."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Refuse fields that contradict each other."""
        for problem in (*_bands(self), *_companions(self)):
            raise ValueError(problem)
        return self


def shown_name(stored: Mapping[str, Any]) -> str:
    """The name of a stored protocol, with a word of warning for an own one that bears a preset's name."""
    name = str(stored["name"])
    own = name in PRESETS and str(stored.get("description", "")).startswith("own:")
    return f"{name} (changed)" if own else name


def _bands(chosen: Protocol) -> list[str]:
    """What is wrong with the filter and the bands."""
    found = []
    if chosen.peak_low_hz >= chosen.peak_high_hz:
        found.append("peak_low_hz must be below peak_high_hz")
    low, high = chosen.filter_low_hz, chosen.filter_high_hz
    if chosen.filter != "none" and (low is None or high is None):
        found.append(f'filter = "{chosen.filter}" needs filter_low_hz and filter_high_hz')
    if low is not None and high is not None and low >= high:
        found.append("filter_low_hz must be below filter_high_hz")
    for kind, field in (("butterworth", "filter_order"), ("fir_hamming", "filter_order_share")):
        if chosen.filter == kind and getattr(chosen, field) is None:
            found.append(f'filter = "{kind}" needs {field}')
    return found


def _companions(chosen: Protocol) -> list[str]:
    """Fields that need another one, or exclude it."""
    padded = chosen.n_fft in ("samples", "multiple", "per_rate")
    hops = [name for name in ("hop_s", "hop_frames") if getattr(chosen, name) is not None]
    lengths = (chosen.welch_samples is None) + (chosen.welch_segments is None)
    head, welch = chosen.estimator == "rate_head", chosen.estimator == "welch_peak"
    rules = {
        'bin_bpm belongs to n_fft = "bin_width" or "exact_bins" and only to them':
            (chosen.n_fft in ("bin_width", "exact_bins")) == (chosen.bin_bpm is not None),
        'n_fft_value belongs to n_fft = "samples", "multiple" or "per_rate" and only to them':
            padded == (chosen.n_fft_value is not None),
        "n_fft_value must be 1 or more as a multiple":
            chosen.n_fft != "multiple" or (chosen.n_fft_value or 0) >= 1,
        f"{' and '.join(hops)} needs window_s": not hops or chosen.window_s is not None,
        "hop_s and hop_frames exclude each other": len(hops) < 2,
        'estimator = "welch_peak" needs welch_samples or welch_segments, one of them':
            not welch or lengths == 1,
        'peak = "harmonic_rule" needs harmonic_bpm':
            chosen.peak != "harmonic_rule" or chosen.harmonic_bpm is not None,
        'unit = "frame" needs windows that do not overlap': chosen.unit != "frame" or not hops,
        'estimator = "rate_head" needs unit = "recording" and window_s = null':
            not head or (chosen.unit == "recording" and chosen.window_s is None),
        'resample_hz needs resample = "uniform"':
            chosen.resample_hz is None or chosen.resample == "uniform",
    }
    return [sentence for sentence, kept in rules.items() if not kept]


class ProtocolError(UserError, ValueError):
    """No such protocol, or an own one that cannot be; every problem is named."""


def build(
    name: str, own: OwnProtocol | Mapping[str, Any] | None = None, others: Sequence[str] = ()
) -> Protocol:
    """The preset `name`, or the own protocol `own` that is called `name`; `others`: further known names.

    ProtocolError lists every wrong field of an own protocol.
    """
    try:
        mine = own if isinstance(own, OwnProtocol | None) else OwnProtocol.model_validate(own)
    except ValidationError as error:
        raise ProtocolError(_sentences(name, error)) from None
    base = name if mine is None else mine.base
    if base not in PRESETS:
        known = [*PRESETS, *(other for other in others if mine is None and other not in PRESETS)]
        where = f'base "{base}" of {name}' if mine else f'"{name}"'
        raise ProtocolError(f"no protocol {where}{did_you_mean(base, known)}  known: {', '.join(known)}")
    changes = {} if mine is None else mine.changes
    settable = [field for field in Protocol.model_fields if field not in ("name", "description")]
    unknown = [
        f"{name}.changes.{key}: unknown field{did_you_mean(key, settable)}  known: {', '.join(settable)}"
        for key in changes if key not in settable
    ]
    fields = {**PRESETS[base], **{key: value for key, value in changes.items() if key in settable}}
    if mine is not None:
        fields["description"] = f"own: {base} with {', '.join(changes) or 'no change'}"
    try:
        protocol = Protocol.model_validate({**fields, "name": name})
    except ValidationError as error:
        unknown.append(_sentences(f"{name}.changes", error))
    if unknown:
        raise ProtocolError("; ".join(unknown))
    return protocol


def _sentences(path: str, error: ValidationError) -> str:
    """What pydantic found, one clause per field."""
    clauses = []
    for item in error.errors():
        where = ".".join([path, *(str(part) for part in item["loc"])])
        text = item["msg"].removeprefix("Value error, ")
        got = "" if item["type"] == "value_error" else f" (got {item['input']!r})"
        clauses.append(f"{where}: {text}{got}")
    return "; ".join(clauses)
