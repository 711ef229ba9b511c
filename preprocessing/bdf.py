"""BioSemi's BDF files: 24-bit channels read one by one, in blocks, without loading the rest."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from preprocessing.frames import Series
from utils.errors import UserError

_MAGIC = b"\xffBIOSEMI"
_FIXED_BYTES, _CHANNEL_BYTES, _SAMPLE_BYTES = 256, 256, 3
_MOST_CHANNELS = 1024
_MOST_SAMPLES = 1 << 23
"""Of one channel: nine hours at 256 Hz."""
_BLOCK_BYTES = 1 << 20
_WIDTHS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)
"""Bytes a channel has in each field of the header."""


@dataclass(frozen=True)
class _Channel:
    label: str
    per_record: int
    offset: int
    """Samples of the channels before it in a record."""
    gain: float
    zero: float


class BdfFile:
    """The channels of a BDF file by label; nothing but the header is read before it is asked for.

    Layout as BioSemi publishes it: 256 bytes about the recording, 256 a channel, then records
    that hold some samples of each channel in turn, as 24-bit little-endian whole numbers.
    """

    def __init__(self, path: Path) -> None:
        """Read and check the header; UserError says what is wrong with the file."""
        self.path = path
        try:
            with open(path, "rb") as handle:
                self._read_header(handle.read(_FIXED_BYTES + _MOST_CHANNELS * _CHANNEL_BYTES))
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}; copy the recording again") from None
        except ValueError:
            raise UserError(f"{path}: the BDF header holds something that is not a number") from None

    @property
    def labels(self) -> list[str]:
        """Labels of the channels in the file's order."""
        return [channel.label for channel in self._channels]

    def rate_hz(self, label: str) -> float:
        """Samples a second of a channel; UserError when the file lacks it."""
        return self._channel(label).per_record / self._record_s

    def read(self, label: str) -> Series:
        """(N,) a channel in its physical unit; UserError when the file lacks it or is cut short."""
        channel = self._channel(label)
        return channel.zero + channel.gain * self.read_digital(label).astype(np.float64)

    def read_digital(self, label: str) -> NDArray[np.int32]:
        """(N,) a channel as stored, signed; UserError as `read`."""
        channel = self._channel(label)
        n = channel.per_record
        found = np.empty(self._n_records * n, dtype=np.int32)
        step = max(1, _BLOCK_BYTES // self._record_bytes)
        with open(self.path, "rb") as handle:
            handle.seek(self._header_bytes)
            for first in range(0, self._n_records, step):
                count = min(step, self._n_records - first)
                data = handle.read(count * self._record_bytes)
                if len(data) != count * self._record_bytes:
                    raise UserError(f"{self.path}: the BDF file is cut short; copy it again")
                records = np.frombuffer(data, dtype=np.uint8).reshape(count, -1, _SAMPLE_BYTES)
                part = records[:, channel.offset : channel.offset + n].astype(np.int32)
                value = part[..., 0] | part[..., 1] << 8 | part[..., 2] << 16
                found[first * n : (first + count) * n] = (value - ((value & 0x800000) << 1)).ravel()
        return found

    def _channel(self, label: str) -> _Channel:
        for channel in self._channels:
            if channel.label.casefold() == label.casefold():
                return channel
        raise UserError(f"{self.path}: no channel {label!r}; it has {', '.join(self.labels)[:300]}")

    def _read_header(self, head: bytes) -> None:
        if head[:8] != _MAGIC:
            raise UserError(f"{self.path}: not a BDF file (BioSemi, 24 bits)")
        n_channels = _whole(head[252:256])
        self._header_bytes = _FIXED_BYTES + n_channels * _CHANNEL_BYTES
        if not 0 < n_channels <= _MOST_CHANNELS or _whole(head[184:192]) != self._header_bytes:
            raise UserError(f"{self.path}: the BDF header states {n_channels} channels and another length")
        if len(head) < self._header_bytes:
            raise UserError(f"{self.path}: the BDF file ends within its header; copy it again")
        self._record_s = _number(head[244:252])
        self._channels = self._read_channels(head, n_channels)
        self._record_bytes = _SAMPLE_BYTES * sum(channel.per_record for channel in self._channels)
        self._n_records = self._count_records(_whole(head[236:244]))
        most = max(channel.per_record for channel in self._channels) * self._n_records
        if not 0 < self._record_s < 1e6 or most > _MOST_SAMPLES:
            raise UserError(f"{self.path}: records of {self._record_s:g} s with {most:,} samples, not read")

    def _read_channels(self, head: bytes, n: int) -> list[_Channel]:
        starts = _FIXED_BYTES + n * np.cumsum([0, *_WIDTHS])
        fields = [
            [head[starts[k] + i * width : starts[k] + (i + 1) * width] for i in range(n)]
            for k, width in enumerate(_WIDTHS)
        ]
        channels, offset = [], 0
        for i in range(n):
            low, high, least, most = (_number(fields[k][i]) for k in (3, 4, 5, 6))
            per_record = _whole(fields[8][i])
            if per_record < 1 or most == least:
                raise UserError(f"{self.path}: channel {i + 1} of the BDF header is damaged")
            gain = (high - low) / (most - least)
            label = fields[0][i].decode("latin-1").strip("\0 ")
            channels.append(_Channel(label, per_record, offset, gain, low - gain * least))
            offset += per_record
        return channels

    def _count_records(self, stated: int) -> int:
        """Records in the file; -1 is stated by a recorder that was stopped before it could count."""
        there = (self.path.stat().st_size - self._header_bytes) // self._record_bytes
        if there < 1 or there < stated or (stated < 1 and stated != -1):
            raise UserError(
                f"{self.path}: the BDF file states {stated} records and holds {there}; copy it again"
            )
        return there if stated == -1 else stated


def _number(field: bytes) -> float:
    value = float(field.decode("latin-1"))
    if not math.isfinite(value):
        raise ValueError(value)
    return value


def _whole(field: bytes) -> int:
    """A whole number in ASCII; ValueError for anything else."""
    text = field.decode("latin-1").strip("\0 ")
    if not re.fullmatch(r"-?\d+", text, re.ASCII):
        raise ValueError(text)
    return int(text)
