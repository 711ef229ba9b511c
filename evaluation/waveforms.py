"""The waveform file: what methods predicted for each recording, beside its label.

One HDF5 group `<dataset>.<recording id>` per recording holds `label` float32 (T,), `time_s` float64
(T,), `prediction/<method>` float32 (T,), and the attributes `subject`, `dataset`, `fps` and, where
known, `reference_hr_bpm`, `part`, `condition.*` and `people` (the numbering that `subject` follows, where
datasets share people). Optional: `hr_bpm` with `hr_time_s` (M,), the device's rate over time; `resp` with
`resp_time_s` (N,), the respiration sensor; `rate/<method>` with `rate_time_s/<method>` (K,), rates that a net
with a heart-rate head gave for its clips, at their middles.
All times are on one clock. Anyone's predictions in this form can be scored.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from utils.errors import UserError
from utils.files import atomic, natural_key
from utils.hdf5 import group, names, open_untrusted, read_array
from utils.signal import sample_rate

FPS_TOLERANCE = 0.01
Series = NDArray[np.floating[Any]]


@dataclass
class RecordingWaveform:
    """One recording's label and predictions.

    key: "<dataset>.<recording id>"; time_s float64 (T,); label float32 (T,), NaN where there is none;
    predictions: method -> float32 (T,); reference_hr_bpm: mean rate of the device, None where
    unknown; part: the list of the split it belongs to; hr_bpm, hr_time_s (M,): the device's rate over time;
    people: the numbering of subjects that several datasets share, "" where subject is the dataset's own;
    resp, resp_time_s (N,): the respiration sensor; rates: method -> (rates in bpm, their times in s), (K,)
    each, of a heart-rate head. None where there is no such series; all times on the clock of time_s.
    """

    key: str
    subject: str
    dataset: str
    fps: float
    time_s: NDArray[np.float64]
    label: NDArray[np.floating[Any]]
    predictions: Mapping[str, NDArray[np.floating[Any]]] = field(default_factory=dict)
    reference_hr_bpm: float | None = None
    conditions: dict[str, str] = field(default_factory=dict)
    part: str = "test"
    people: str = ""
    hr_bpm: Series | None = None
    hr_time_s: Series | None = None
    resp: Series | None = None
    resp_time_s: Series | None = None
    rates: Mapping[str, tuple[Series, Series]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Bring the arrays to their types and refuse what cannot be scored."""
        self.time_s = np.asarray(self.time_s, dtype=np.float64)
        self.label = np.asarray(self.label, dtype=np.float32)
        self.predictions = {
            name: np.asarray(values, dtype=np.float32) for name, values in self.predictions.items()
        }
        self.hr_bpm, self.resp = (_typed(x, np.float32) for x in (self.hr_bpm, self.resp))
        self.hr_time_s, self.resp_time_s = (
            _typed(x, np.float64) for x in (self.hr_time_s, self.resp_time_s)
        )
        self.rates = {
            name: (np.asarray(values, dtype=np.float32), np.asarray(times, dtype=np.float64))
            for name, (values, times) in self.rates.items()
        }
        for problem in _problems(self):
            raise UserError(f"{self.key}: {problem}")

    @property
    def person(self) -> str:
        """Who is seen: "<dataset>.<subject>", or "<people>.<subject>" where datasets share people."""
        return f"{self.people or self.dataset}.{self.subject}"

    @property
    def has_label(self) -> bool:
        """Whether any sample of the label is known."""
        return bool(np.isfinite(self.label).any())

    @property
    def has_device_rate(self) -> bool:
        """Whether the device's rate is known, over time or as a mean."""
        return self.hr_bpm is not None or self.reference_hr_bpm is not None

    @property
    def methods(self) -> list[str]:
        """Every method that gave a waveform or rates."""
        return list(dict.fromkeys([*self.predictions, *self.rates]))


def _typed(values: Series | None, kind: type) -> Series | None:
    """As an array of that type; None for a series that is absent or empty."""
    found: Series | None = None if values is None else np.asarray(values, dtype=kind)
    return found if found is None or found.size else None


def _problems(wave: RecordingWaveform) -> Iterable[str]:
    """Sentences on what is wrong, the first one first."""
    times = wave.time_s
    if "/" in wave.key or not wave.key.strip("."):
        yield "the group's name must be <dataset>.<recording id>"
    if times.ndim != 1 or len(times) < 2:
        yield f"time_s has shape {times.shape}; one dimension with 2 samples or more is needed"
    if not np.isfinite(times).all():
        yield f"time_s holds {int((~np.isfinite(times)).sum())} values that are not finite"
    if (np.diff(times) < 0).any():
        yield f"time_s runs backwards at sample {int(np.argmax(np.diff(times) < 0)) + 1}"
    for name, values in [("label", wave.label), *(
        (f"prediction/{method}", values) for method, values in wave.predictions.items()
    )]:
        if values.shape != times.shape:
            yield f"{name} has shape {values.shape}, but time_s has {times.shape}"
    if not times[-1] > times[0]:
        yield "time_s does not span a positive duration"
    rate = sample_rate(times)
    if not np.isfinite(wave.fps) or abs(rate - wave.fps) > FPS_TOLERANCE * rate:
        yield f"fps says {wave.fps:.3f}, but time_s holds {rate:.3f} samples a second"
    reference = wave.reference_hr_bpm
    if reference is not None and not (np.isfinite(reference) and 0 < reference < 400):
        yield f"reference_hr_bpm = {reference} is not a heart rate; leave it out where unknown"
    yield from _series_problems(wave)


def _series_problems(wave: RecordingWaveform) -> Iterable[str]:
    """What is wrong with the optional series."""
    series = [("hr_bpm", wave.hr_bpm, wave.hr_time_s), ("resp", wave.resp, wave.resp_time_s),
              *((f"rate/{method}", *pair) for method, pair in wave.rates.items())]
    for name, values, at in series:
        if values is None and at is None:
            continue
        if values is None or at is None:
            yield f"{name} and its times belong together; one of them is missing or empty"
        elif values.ndim != 1 or values.shape != at.shape:
            yield f"{name} has shape {values.shape}, but its times have {at.shape}"
        elif not np.isfinite(at).all():
            yield f"the times of {name} hold {int((~np.isfinite(at)).sum())} values that are not finite"
    rates = wave.hr_bpm
    if rates is not None and not (np.isfinite(rates) & (rates > 0) & (rates < 400)).all():
        yield "hr_bpm holds values that are no heart rates; leave those samples out"


def write_waveforms(
    path: Path, waveforms: Iterable[RecordingWaveform], attributes: Mapping[str, Any] | None = None
) -> None:
    """Write the file atomically, recordings in natural order; equal content gives equal bytes.

    attributes: written on the file itself, for example `constant_bpm` and `net`; None is left out.
    """
    ordered = sorted(waveforms, key=lambda wave: natural_key(wave.key))
    image = io.BytesIO()  # HDF5 does not survive a full disk; plain writing does
    with h5py.File(image, "w") as handle:
        for name, value in (attributes or {}).items():
            if value is not None:
                handle.attrs[name] = value
        for wave in ordered:
            if wave.key in handle:
                raise UserError(f"{path}: recording {wave.key} appears twice")
            _write_one(handle.create_group(wave.key), wave)
    with atomic(path) as temporary:
        temporary.write_bytes(image.getbuffer())


def _write_one(place: h5py.Group, wave: RecordingWaveform) -> None:
    place["label"], place["time_s"] = wave.label, wave.time_s
    predictions = place.create_group("prediction", track_order=True)
    for method, values in wave.predictions.items():
        predictions[method] = values
    for name in ("hr_bpm", "hr_time_s", "resp", "resp_time_s"):
        if getattr(wave, name) is not None:
            place[name] = getattr(wave, name)
    if wave.rates:
        rates, rate_times = (place.create_group(name, track_order=True) for name in ("rate", "rate_time_s"))
        for method, pair in wave.rates.items():
            rates[method], rate_times[method] = pair
    place.attrs["subject"], place.attrs["dataset"] = wave.subject, wave.dataset
    place.attrs["fps"], place.attrs["part"] = float(wave.fps), wave.part
    if wave.people:
        place.attrs["people"] = wave.people
    if wave.reference_hr_bpm is not None:
        place.attrs["reference_hr_bpm"] = float(wave.reference_hr_bpm)
    for name, value in sorted(wave.conditions.items()):
        place.attrs[f"condition.{name}"] = str(value)


def read_waveforms(path: Path) -> tuple[list[RecordingWaveform], dict[str, Any]]:
    """Every recording of a waveform file in natural order, and the attributes of the file itself.

    UserError names the file, the recording and what is missing or malformed. The file may come from
    anyone: no link out of it is followed, and nothing is read that is larger than it claims.
    """
    with open_untrusted(path) as handle:
        keys = sorted(names(handle), key=natural_key)
        if not keys:
            raise UserError(f"{path}: holds no recording")
        about = {name: _plain(value) for name, value in sorted(handle.attrs.items())}
        return [_read_one(path, handle, key) for key in keys], about


def training_of(attributes: Mapping[str, Any]) -> dict[str, list[str]] | None:
    """What the attributes of a run's file say of its net's training part; None where they do not.

    datasets: none where nothing is trained; origins: such as "synthetic", of recordings that only have the
    layout of their dataset.
    """
    told = {key: attributes.get(f"train_{key}") for key in ("datasets", "origins")}
    if not all(isinstance(text, str) for text in told.values()):
        return None
    return {key: [name for name in str(text).split(", ") if name] for key, text in told.items()}


def _plain(value: Any) -> Any:
    """An HDF5 attribute as str, int, float, bool or list."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _read_one(path: Path, handle: h5py.File, key: str) -> RecordingWaveform:
    recording = group(handle, key)
    where = f"{path}, recording {key}"
    named = {name: _plain(value) for name, value in recording.attrs.items()}
    for name in ("subject", "dataset", "fps"):
        if name not in named:
            raise UserError(f'{where}: attribute "{name}" is missing')
    predictions = group(recording, "prediction")
    reference = named.get("reference_hr_bpm")
    try:
        return RecordingWaveform(
            key=key,
            subject=str(named["subject"]),
            dataset=str(named["dataset"]),
            fps=float(named["fps"]),
            time_s=read_array(recording, "time_s"),
            label=read_array(recording, "label"),
            predictions={name: read_array(predictions, name) for name in predictions},
            reference_hr_bpm=None if reference is None else float(reference),
            conditions={k.removeprefix("condition."): str(v) for k, v in sorted(named.items())
                        if k.startswith("condition.")},
            part=str(named.get("part", "test")), people=str(named.get("people", "")),
            **_read_series(recording),
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: {error}") from None
    except UserError as error:
        text = str(error)
        raise UserError(text if str(path) in text else f"{path}, recording {text}") from None


def _read_series(recording: h5py.Group) -> dict[str, Any]:
    """The optional arrays that the recording has, by field of RecordingWaveform."""
    pairs = (("hr_bpm", "hr_time_s"), ("resp", "resp_time_s"))
    present = set(names(recording))
    found: dict[str, Any] = {name: read_array(recording, name) for pair in pairs for name in pair
                             if present.intersection(pair)}
    if "rate" in present:
        rates, times = group(recording, "rate"), group(recording, "rate_time_s")
        found["rates"] = {name: (read_array(rates, name), read_array(times, name)) for name in rates}
    return found
