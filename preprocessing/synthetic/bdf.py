"""BDF files, BioSemi's 24-bit form of EDF."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

_DIGITAL = (-(1 << 23), (1 << 23) - 1)


@dataclass(frozen=True)
class BdfChannel:
    """One channel: samples (N,) in the unit, and the physical range the digital one stands for."""

    label: str
    samples: ArrayLike
    unit: str = "uV"
    low: float = -262144.0
    high: float = 262143.0


def write_bdf(path: Path, channels: list[BdfChannel], rate_hz: int) -> None:
    """Write channels of one rate and length as records of a second; a last part of a second is left out."""
    n_records = len(np.asarray(channels[0].samples)) // rate_hz
    digital = np.stack([_digital(channel)[: n_records * rate_hz] for channel in channels])
    records = digital.reshape(len(channels), n_records, rate_hz).transpose(1, 0, 2)
    data = np.ascontiguousarray(records, dtype="<i4").view(np.uint8).reshape(-1, 4)[:, :3]
    path.write_bytes(_header(channels, rate_hz, n_records) + data.tobytes())


def _digital(channel: BdfChannel) -> np.ndarray:
    share = (np.asarray(channel.samples, dtype=np.float64) - channel.low) / (channel.high - channel.low)
    return np.rint(_DIGITAL[0] + share * (_DIGITAL[1] - _DIGITAL[0])).clip(*_DIGITAL).astype(np.int32)


def _header(channels: list[BdfChannel], rate_hz: int, n_records: int) -> bytes:
    n = len(channels)
    fixed = [b"\xffBIOSEMI", _text("", 80), _text("", 80), b"01.01.09", b"12.00.00", _text(256 * (n + 1), 8),
             _text("24BIT", 44), _text(n_records, 8), _text(1, 8), _text(n, 4)]
    fields = [
        [_text(c.label, 16) for c in channels], [_text("Active Electrode", 80)] * n,
        [_text(c.unit, 8) for c in channels], [_text(f"{c.low:.0f}", 8) for c in channels],
        [_text(f"{c.high:.0f}", 8) for c in channels], [_text(_DIGITAL[0], 8)] * n,
        [_text(_DIGITAL[1], 8)] * n, [_text("No filtering", 80)] * n, [_text(rate_hz, 8)] * n,
        [_text("Reserved", 32)] * n,
    ]
    return b"".join(fixed) + b"".join(b"".join(field) for field in fields)


def _text(value: object, width: int) -> bytes:
    return str(value).ljust(width).encode("ascii")
