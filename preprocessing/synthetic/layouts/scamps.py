"""SCAMPS: P000001.mat, ..., MATLAB version 7.3, that is HDF5 with all axes reversed."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from preprocessing.synthetic.layouts.base import LAYOUTS, Array, Layout, Take, Truth, make_take, truth_of

_SIZE = (80, 60)
_FPS = 30.0
_LATE_S = 0.25
_HEADER = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Jan  3 10:00:00 2022 HDF5 schema 1.00 ."
_NOT_USABLE = frozenset({"cut_file", "flat_label", "short_label"})


@LAYOUTS.register("scamps")
class ScampsLayout(Layout):
    """PNNNNNN.mat with RawFrames (in compressed chunks), Xsub (its middle), d_ppg and d_br.

    In the first file: late_label: the pulse is 0.25 s late. flat_label: it is constant. short_label:
    it lacks half a second. cut_file: the file ends in the middle. no_respiration: d_br is missing.
    """

    name = "scamps"
    description = "SCAMPS: MATLAB 7.3 files with two videos, pulse and respiration"
    defects = ("late_label", "flat_label", "short_label", "cut_file", "no_respiration")

    def _write(
        self, root: Path, people: int, seconds: float, seed: int, defects: frozenset[str]
    ) -> list[Truth]:
        return [
            _write_file(root / f"P{person + 9:06}.mat", make_take(seed, person, seconds=seconds),
                        defects if person == 0 else frozenset())
            for person in range(people)
        ]


def _write_file(path: Path, take: Take, defects: frozenset[str]) -> Truth:
    time_s = np.arange(round(take.seconds * _FPS)) / _FPS
    lag_s = _LATE_S if "late_label" in defects else 0.0
    pulse = take.pulse(time_s - lag_s)
    if "flat_label" in defects:
        pulse[:] = 0.25
    if "short_label" in defects:
        pulse = pulse[: -round(_FPS / 2)]
    video = np.stack([frame[..., ::-1] for frame in take.frames(time_s, _SIZE)])
    edge = (_SIZE[0] - _SIZE[1]) // 2
    with h5py.File(path, "w", userblock_size=512) as handle:
        _keep(handle, "RawFrames", video.astype(np.float32) / 255, (1, 20, _SIZE[1], len(video)))
        _keep(handle, "Xsub", video[:, :, edge : edge + _SIZE[1]] / 255)
        _keep(handle, "d_ppg", pulse[:, None])
        if "no_respiration" not in defects:
            _keep(handle, "d_br", take.respiration(time_s)[:, None])
    with open(path, "r+b") as raw:
        raw.write(_HEADER.ljust(124) + b"\x00\x02IM")
        if "cut_file" in defects:
            raw.truncate(path.stat().st_size // 2)
    return truth_of(
        take, path.stem, path.stem, time_s, lag_s=lag_s, usable=not defects & _NOT_USABLE,
        defect=", ".join(sorted(defects)), conditions={"origin": "synthetic"},
    )


def _keep(handle: h5py.File, name: str, values: Array, chunks: tuple[int, ...] | None = None) -> None:
    """A variable as MATLAB keeps it: the last axis first."""
    packing = {"compression": "gzip", "compression_opts": 1} if chunks else {}
    kept = handle.create_dataset(name, data=np.ascontiguousarray(values.T), chunks=chunks, **packing)
    kept.attrs["MATLAB_class"] = np.bytes_("double" if values.dtype == np.float64 else "single")
