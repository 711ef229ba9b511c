"""SCAMPS as its reader finds it: the chosen pictures upright, signals of their number, breath where it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from preprocessing import sources
from utils.errors import UserError

T, H, W = 30, 6, 8
VIDEO = np.random.default_rng(0).integers(0, 256, (T, H, W, 3), dtype=np.uint8)


def write(root: Path, name: str = "P000001", **changes: Any) -> None:
    root.mkdir(exist_ok=True)
    values = {"RawFrames": VIDEO / 255, "Xsub": VIDEO[:, :, 1:7] / 255, "d_ppg": np.arange(T)[None] * 1.0,
              "d_br": np.arange(T)[:, None] * 2.0, **changes}
    with h5py.File(root / f"{name}.mat", "w", userblock_size=512) as handle:
        for key, value in values.items():
            if value is not None:
                handle[key] = value.T


def test_the_pictures_are_upright(tmp_path: Path) -> None:
    """MATLAB's reversed axes are put right: time, rows, columns, red first."""
    write(tmp_path)
    (item,) = sources.build("scamps", tmp_path).recordings()
    np.testing.assert_array_equal(np.stack(list(item.open_frames())), VIDEO)
    assert not item.is_crop


def test_the_crop_of_the_file_may_be_chosen(tmp_path: Path) -> None:
    """Xsub is a face crop by declaration, in which no face is looked for."""
    write(tmp_path)
    (item,) = sources.build("scamps", tmp_path, frames="Xsub").recordings()
    np.testing.assert_array_equal(np.stack(list(item.open_frames())), VIDEO[:, :, 1:7])
    assert item.is_crop


def test_signals_are_at_the_frames(tmp_path: Path) -> None:
    """Pulse and respiration, row or column, have a value a frame at 30 Hz."""
    write(tmp_path)
    labels = sources.build("scamps", tmp_path).recordings()[0].labels()
    np.testing.assert_array_equal(labels.samples, np.arange(T))
    np.testing.assert_array_equal(labels.resp, 2 * np.arange(T))
    np.testing.assert_allclose(labels.time_s, np.arange(T) / 30)
    assert labels.warnings == () and labels.kind == "ppg"


def test_a_file_without_breath_says_so(tmp_path: Path) -> None:
    """A missing d_br costs a warning only."""
    write(tmp_path, d_br=None)
    labels = sources.build("scamps", tmp_path).recordings()[0].labels()
    assert len(labels.resp) == 0 and "no respiration" in labels.warnings[0]


@pytest.mark.parametrize("changes, message", [
    ({"d_ppg": np.arange(T - 1.0)}, "29 values of d_ppg for 30 frames"),
    ({"d_ppg": None}, "no variable 'd_ppg'; it holds RawFrames, Xsub, d_br"),
    ({"RawFrames": None}, "no variable 'RawFrames'"),
    ({"d_ppg": np.zeros((T, 2))}, "d_ppg is not a row or column"),
])
def test_what_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """Signals of another length and missing variables are errors that name them."""
    write(tmp_path, **changes)
    with pytest.raises(UserError, match=message):
        sources.build("scamps", tmp_path).recordings()[0].labels()


def test_each_file_is_a_person(tmp_path: Path) -> None:
    """Subjects are files, in the order of their numbers."""
    for name in ("P000010", "P000002"):
        write(tmp_path, name)
    assert [item.subject for item in sources.build("scamps", tmp_path)] == ["P000002", "P000010"]
    with pytest.raises(UserError, match="P000001.mat"):
        sources.build("scamps", tmp_path / "nowhere")


def test_a_part_of_the_set_is_said_to_be_one(tmp_path: Path) -> None:
    """Fewer files than the set has are a note."""
    write(tmp_path)
    assert sources.build("scamps", tmp_path).notes() == ["1 of 2800 files"]
