"""Protocols as data: every choice that a number depends on, by name.

A result of the field is fixed by its ground truth, the unit that is scored, the filter, the band, the
spectrum, the peak rule and the statistics; each is a field here. A preset is one entry of PRESETS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from utils.errors import UserError
from utils.registry import did_you_mean
from utils.settings import Protocol as OwnProtocol
from utils.settings import Section


class Protocol(Section):
    """How waveforms become numbers."""

    name: str = Field(description="Name of the protocol.")
    description: str = Field(description="One line on where it comes from.")
    ground_truth: Literal["label", "device", "label_or_device"] = Field(
        description="Reference rate: of the label's waveform by the same estimator, the device's mean "
        "rate, or the label's with the device's where a recording has no label."
    )
    window_s: float | None = Field(gt=0, description="Length of a scored unit; null: the whole recording.")
    hop_s: float | None = Field(None, gt=0, description="Step between windows; null: they do not overlap.")
    tail: Literal["drop", "keep"] = Field(description="What becomes of a last window that is too short.")
    min_samples: int = Field(9, ge=9, description="Kept tails below this length are skipped.")
    resample: Literal["uniform", "none"] = Field(
        description="Onto a uniform grid by the time stamps, or samples taken as they come."
    )
    detrend: float | None = Field(ge=0, description="Lambda of the smoothness priors; null: none.")
    detrend_at: Literal["any_rate", "30_fps"] = Field(
        "any_rate", description="The same lambda at any frame rate, or, at others than 30, the lambda "
        "with the same cut-off in Hz."
    )
    filter: Literal["butterworth", "none"] = Field(description="Zero-phase filter of both waveforms.")
    filter_order: int = Field(ge=1, le=10, description="Order given to the design of the band-pass.")
    filter_low_hz: float = Field(gt=0, description="Lower edge of the filter.")
    filter_high_hz: float = Field(gt=0, description="Upper edge of the filter.")
    estimator: Literal["spectral_peak"] = Field(description="How a waveform becomes a rate.")
    spectrum_window: Literal["hann", "hamming", "boxcar"] = Field(description="Taper of the spectrum.")
    n_fft: Literal["power_of_two", "bin_width"] = Field(
        description="Next power of two, or zero-padded until bins are bin_bpm or finer."
    )
    bin_bpm: float | None = Field(None, gt=0, description="Width of a spectral bin for bin_width.")
    peak: Literal["argmax", "parabolic"] = Field(description="The highest bin, or a parabola through it.")
    peak_low_hz: float = Field(gt=0, description="Lower end of the band searched for the peak.")
    peak_high_hz: float = Field(gt=0, description="Upper end of the band searched for the peak.")
    snr: Literal["toolbox", "dehaan"] = Field(description="Variant of the signal-to-noise ratio.")
    macc: Literal["circular"] = Field("circular", description="Variant of the maximum cross-correlation.")
    ddof: Literal[0, 1] = Field(0, description="Delta degrees of freedom of the standard deviation.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Refuse bands and bins that contradict each other."""
        for low, high in (("filter_low_hz", "filter_high_hz"), ("peak_low_hz", "peak_high_hz")):
            if getattr(self, low) >= getattr(self, high):
                raise ValueError(f"{low} must be below {high}")
        if (self.n_fft == "bin_width") != (self.bin_bpm is not None):
            raise ValueError('bin_bpm belongs to n_fft = "bin_width" and only to it')
        if self.hop_s is not None and self.window_s is None:
            raise ValueError("hop_s needs window_s")
        return self


_TOOLBOX: dict[str, Any] = {
    "description": "rPPG-Toolbox: order 1, 0.6-3.3 Hz, power-of-two bins, short last window kept",
    "ground_truth": "label", "window_s": None, "tail": "keep", "resample": "none",
    "detrend": 100.0, "filter": "butterworth", "filter_order": 1,
    "filter_low_hz": 0.6, "filter_high_hz": 3.3,
    "estimator": "spectral_peak", "spectrum_window": "boxcar", "n_fft": "power_of_two",
    "peak": "argmax", "peak_low_hz": 0.6, "peak_high_hz": 3.3, "snr": "toolbox",
}

PRESETS: dict[str, dict[str, Any]] = {
    "default": {
        "description": "house protocol: order 2, 0.7-4 Hz, bins of 0.1 bpm with parabolic refinement",
        "ground_truth": "label_or_device", "window_s": None, "tail": "drop", "resample": "uniform",
        "detrend": 100.0, "detrend_at": "30_fps", "filter": "butterworth", "filter_order": 2,
        "filter_low_hz": 0.7, "filter_high_hz": 4.0,
        "estimator": "spectral_peak", "spectrum_window": "hann", "n_fft": "bin_width", "bin_bpm": 0.1,
        "peak": "parabolic", "peak_low_hz": 0.7, "peak_high_hz": 4.0, "snr": "dehaan",
    },
    "toolbox": _TOOLBOX,
    "toolbox2023": _TOOLBOX | {
        "description": "rPPG-Toolbox as of its NeurIPS 2023 tables: order 1, 0.75-2.5 Hz",
        "filter_low_hz": 0.75, "filter_high_hz": 2.5, "peak_low_hz": 0.75, "peak_high_hz": 2.5,
    },
}


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
