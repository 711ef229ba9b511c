"""The tools everything stands on: signals, files, registry, interrupts."""

from __future__ import annotations

import errno
import os
import signal as posix
from pathlib import Path

import numpy as np
import pytest
from scipy import signal as ss

from utils import files, interrupt, signal
from utils.errors import Interrupted, Stopped, UserError
from utils.registry import Registry


@pytest.mark.parametrize("n", [3, 4, 5, 50, 400])
def test_detrend_equals_the_dense_formula(n: int) -> None:
    """The banded solve gives y - (I + lambda^2 D'D)^-1 y."""
    y = np.random.default_rng(n).normal(size=n).cumsum()
    d = np.diff(np.eye(n), 2, axis=0)
    dense = y - np.linalg.solve(np.eye(n) + 100.0**2 * d.T @ d, y)
    np.testing.assert_allclose(signal.detrend(y, 100.0), dense, atol=1e-7)


def test_detrend_takes_rows() -> None:
    """Along the last axis, row by row."""
    rows = np.random.default_rng(0).normal(size=(2, 3, 90))
    np.testing.assert_allclose(signal.detrend(rows)[1, 2], signal.detrend(rows[1, 2]), atol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_bandpass_equals_the_transfer_function(order: int) -> None:
    """Second-order sections with filtfilt's own padding give filtfilt's result."""
    y = np.random.default_rng(1).normal(size=500)
    b, a = ss.butter(order, [0.7, 3.0], "bandpass", fs=30)
    np.testing.assert_allclose(signal.bandpass(y, 30, 0.7, 3.0, order), ss.filtfilt(b, a, y), atol=1e-6)


def test_bandpass_refuses_an_empty_band() -> None:
    """A band above the Nyquist frequency is an error, not silence."""
    with pytest.raises(ValueError, match="empty band"):
        signal.bandpass(np.zeros(100), 2.0, 1.5, 4.0)


def test_spectrum_has_its_peak_at_the_rate() -> None:
    """A sinusoid's peak, refined, lies within a hundredth of a bin width of the truth."""
    t = np.arange(450) / 30
    f, p = signal.power_spectrum(np.sin(2 * np.pi * 1.234 * t), 30.0, bin_hz=0.005)
    index = int(p.argmax())
    assert signal.parabolic_peak(p, index) * f[1] == pytest.approx(1.234, abs=1e-3)


def test_uniform_grid_keeps_span_and_rate() -> None:
    """Irregular stamps become a grid over the same span with the mean rate."""
    t = np.sort(np.random.default_rng(2).uniform(0, 10, 301))
    x, fs = signal.to_uniform(2 * t + 1, t)
    assert fs == pytest.approx(300 / (t[-1] - t[0])) == signal.sample_rate(t)
    np.testing.assert_allclose(x, 2 * np.linspace(t[0], t[-1], 301) + 1)


def test_gaps_are_bridged_and_empty_columns_stay() -> None:
    """NaN between values is interpolated; a column without any value stays NaN."""
    x = np.array([[1.0, np.nan], [np.nan, np.nan], [3.0, np.nan]])
    filled = signal.fill_gaps(x)
    assert filled[:, 0].tolist() == [1, 2, 3] and np.isnan(filled[:, 1]).all()


def test_stamps_without_span_are_refused() -> None:
    """A rate needs time to pass."""
    with pytest.raises(ValueError, match="positive duration"):
        signal.sample_rate([1.0, 1.0])


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """An exception inside `atomic` keeps the target and removes the temporary file."""
    target = tmp_path / "a.txt"
    files.write_text(target, "old")
    with pytest.raises(RuntimeError), files.atomic(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    """ENOSPC becomes Stopped with what the disk has, and the old file stays."""
    target = tmp_path / "a.txt"
    files.write_text(target, "old")
    with pytest.raises(Stopped, match="disk full"), files.atomic(target):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert target.read_text() == "old"
    with pytest.raises(Stopped, match=r"needs .* MiB, has"):
        files.require_space(target, 1 << 60)


def test_atomic_syncs_before_it_renames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fsync of the file, rename, fsync of the folder: in this order."""
    calls: list[str] = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, n=name, o=original: (calls.append(n), o(*a))[1])
    files.write_text(tmp_path / "a.txt", "x")
    assert calls == ["fsync", "replace", "fsync"]


@pytest.mark.parametrize("name", ["../up", "/abs", "a/b", "", ".hidden", "a\0b", "C:\\x", "a" * 300, "a b"])
def test_unsafe_names_are_refused(name: str) -> None:
    """What could leave its folder, or hide, cannot be a file name."""
    with pytest.raises(UserError, match="cannot be a file name"):
        files.safe_name(name)


def test_source_identity_sees_every_part(tmp_path: Path) -> None:
    """A changed byte in the first, middle or last MiB, or anywhere with `whole`, changes the identity."""
    path = tmp_path / "big"
    content = bytearray(8 * files.MIB)
    seen = set()
    for where in (None, 10, len(content) // 2 + 5, len(content) - 1):
        if where is not None:
            content[where] ^= 1
        path.write_bytes(content)
        os.utime(path, ns=(0, 0))
        seen.add(str(files.source_identity(path)))
    assert len(seen) == 4
    before = files.source_identity(path, whole=True)
    content[2 * files.MIB] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(0, 0))
    assert files.source_identity(path, whole=True) != before


def test_natural_order() -> None:
    """subject2 comes before subject10."""
    names = ["subject10", "subject2", "p1-v10", "p1-v2"]
    assert sorted(names, key=files.natural_key) == ["p1-v2", "p1-v10", "subject2", "subject10"]
    assert sorted(["b", "\u00b2"], key=files.natural_key) == ["b", "\u00b2"]


def test_registry_refuses_twins_and_helps_with_typos() -> None:
    """A second class under one name names both modules; an unknown name lists the close one."""
    things = Registry("thing")

    @things.register("alpha")
    class Alpha:
        """First."""

        def __init__(self, *, width: int = 3, kind: str = "a") -> None:
            self.width = width

    with pytest.raises(ValueError, match="registered twice"):
        things.register("alpha")(Alpha)
    with pytest.raises(KeyError, match="did you mean"):
        things.get("alpa")
    with pytest.raises(ValueError, match=r"widht: unknown option.*did you mean"):
        things.build("alpha", widht=4)
    assert things.check("alpha", {"width": "4"}) and things.check("alpha", {"width": True})
    assert things.build("alpha", width=4).width == 4 and things.describe("alpha") == "First."


@pytest.mark.parametrize(("number", "code"), [(posix.SIGINT, 130), (posix.SIGTERM, 143)])
def test_signals_wait_for_a_whole_state(number: int, code: int) -> None:
    """The first signal is only noted; `check` raises with the exit code; a second Ctrl-C does not wait."""
    with interrupt.listening():
        os.kill(os.getpid(), number)
        assert interrupt.requested()
        with pytest.raises(Interrupted) as stop:
            interrupt.check()
        assert stop.value.exit_code == code
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), posix.SIGINT)
    interrupt.check()


def test_no_parabola_on_a_slope() -> None:
    """At the edge of a band, on a slope, the highest bin itself is the peak: a vertex may lie anywhere."""
    falling = np.array([3.0, 2.0, 1.01, 0.5])
    assert signal.parabolic_peak(falling, 1) == 1.0
    assert signal.parabolic_peak(np.array([0.0, 1.0, 0.5]), 1) == pytest.approx(1 + 0.25 / 1.5)
