"""The method of the untrained nets: the colours it reads, and released forms that end early."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nets
from commands.building import classical_methods
from commands.params import check_names, load_config
from commands.predict import Predictor, other_opinions
from dataset.reader import StoreClips
from evaluation import protocols
from evaluation.waveforms import RecordingWaveform
from nets import methods
from nets.methods.base import Method, standardise
from nets.methods.classical import CROP
from preprocessing.regions import NAMES
from preprocessing.stored import StoredRecording
from tests.fakes import FPS, FakeClips, pulse_wave
from tests.stores import write_recording
from utils.contracts import InputSpec
from utils.settings import Preprocessing

TABLES = Path(__file__).parent.parent / "params" / "tables"
N = 150
SPEC = InputSpec(frames=32, size=16, video="raw", target="raw")


def method(name: str = "pos", region: str = "face", **options: Any) -> Method:
    return methods.build("classical", nets.build(name, **options), region=region)


@pytest.fixture
def clips(tmp_path: Path) -> StoreClips:
    """Crops whose mean pulses; as mean of the face another colour is stored, and none in half the frames."""
    other = np.random.default_rng(1).uniform(80, 120, (N, 1, 3)).astype(np.float32)
    other[N // 2 :] = np.nan
    write_recording(tmp_path / "r1.h5", N, roi_rgb=other)
    return StoreClips.from_file(tmp_path / "r1.h5", SPEC)


def frames_of(clips: StoreClips, name: str = "frames") -> np.ndarray:
    return StoredRecording(clips.info.path).read_frames(0, clips.n_frames, name=name)


# The whole crop


def test_mean_is_that_of_all_pixels_of_every_frame(clips: StoreClips) -> None:
    """Rounded once, to float32; frames without a face are frames as others are."""
    expected = frames_of(clips).mean((1, 2), dtype=np.float64).astype(np.float32)
    assert clips.crop_rgb.dtype == torch.float32
    np.testing.assert_array_equal(clips.crop_rgb.numpy(), expected)


def test_method_reads_the_crop_where_it_is_told_to(clips: StoreClips) -> None:
    """With "crop" the net is given the mean of the crop, not the stored colours of the face."""
    pos = method(region=CROP)
    colours = torch.from_numpy(frames_of(clips).mean((1, 2)).astype(np.float32))
    expected = standardise(pos.net(colours[None], FPS)[0])
    torch.testing.assert_close(pos.predict(clips), expected.float(), rtol=0, atol=1e-5)
    assert not torch.equal(pos.predict(clips), method().predict(clips))


def test_frames_are_read_once_and_in_pieces(clips: StoreClips, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three methods ask for the whole crop; each frame is read once, 32 at a time at most."""
    asked: list[int] = []
    plain = StoredRecording.read_frames

    def watch(self: Any, start: int, stop: int, **options: Any) -> np.ndarray:
        asked.append(stop - start)
        return plain(self, start, stop, **options)

    monkeypatch.setattr(StoredRecording, "read_frames", watch)
    for name in ("green", "chrom", "pos"):
        method(name, CROP).predict(clips)
    assert sum(asked) == N and max(asked) <= 32


def test_regions_read_no_frame(clips: StoreClips, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a named region nor predict's other opinions, which know the stored regions alone."""
    monkeypatch.setattr(StoredRecording, "read_frames", None)
    pos = method()
    expected = standardise(pos.net(clips.roi_rgb[:, 0][None], clips.fps)[0]).float()  # type: ignore[index]
    assert torch.equal(pos.predict(clips), expected)
    opinions = other_opinions(Predictor("pos", pos, Preprocessing()), clips)
    assert len(opinions) == 1 and np.array_equal(opinions[0], expected.double().numpy())


def test_crop_is_that_of_the_copy_that_is_read(tmp_path: Path) -> None:
    """A net that reads a compressed copy stands beside classical methods that read the same one."""
    copy = np.random.default_rng(0).integers(0, 255, (N, 16, 16, 3), dtype=np.uint8)
    write_recording(tmp_path / "r1.h5", N)
    there = StoreClips.from_file(tmp_path / "r1.h5", SPEC)
    there._stored = _WithCopy(there._stored, copy)
    its = StoreClips(there.info, SPEC.replace(quality="low"), there._stored)
    np.testing.assert_array_equal(its.crop_rgb.numpy(), copy.mean((1, 2)).astype(np.float32))
    assert not torch.equal(its.crop_rgb, there.crop_rgb)


class _WithCopy:
    """A stored recording with the frames of a compressed copy beside its own."""

    NAME = "quality/low/frames"

    def __init__(self, stored: Any, copy: np.ndarray) -> None:
        self._stored, self._copy = stored, copy

    def __contains__(self, name: str) -> bool:
        return name == self.NAME or name in self._stored

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stored, name)

    def read_frames(self, start: int, stop: int, out: np.ndarray, name: str) -> np.ndarray:
        if name != self.NAME:
            return self._stored.read_frames(start, stop, out=out, name=name)
        out[:] = self._copy[start:stop]
        return out


def test_params_know_the_crop_beside_the_regions() -> None:
    """evaluation.region takes the stored regions and the crop; another name is refused with all of them."""
    for name in (*NAMES, CROP):
        assert not check_names({"evaluation": {"region": name}})
    ((path, text),) = check_names({"evaluation": {"region": "corp"}})
    assert path == "evaluation.region" and all(name in text for name in (*NAMES, CROP))


@pytest.mark.parametrize("recipe", [
    TABLES / "pure" / "classical.json", TABLES / "ubfc" / "classical.json",
    *(path for path in sorted((TABLES / "cross").glob("*.json")) if '"classical"' in path.read_text()),
], ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_rows_as_in_the_toolbox_read_what_it_reads(recipe: Path) -> None:
    """Its untrained methods average the whole crop: so do the rows beside its published ones."""
    config = load_config(str(recipe), [])
    rows = list(classical_methods(config.evaluation).values())
    own = methods.build(config.method.name, nets.build(config.net.name), **config.method.options) \
        if config.method.name == "classical" else rows[0]
    assert len(rows) == 3 and {row.region for row in [*rows, own]} == {CROP}


# Released forms


def test_released_tail_is_zero() -> None:
    """CHROM's released form loses the tail; the rest is what it gives, and the waveform has no hole."""
    chrom = method("chrom", compat=True)
    clips = FakeClips.of_pulse(pulse_wave(300), InputSpec(size=8, video="raw"))
    waveform = chrom.predict(clips)
    assert clips.roi_rgb is not None
    released = chrom.net(clips.roi_rgb[:, clips.region_names.index("face")][None], FPS)[0]
    assert waveform.shape == (300,) and released.shape == (288,)
    assert torch.equal(waveform[:288], standardise(released).float()) and not waveform[288:].any()
    assert waveform[285:288].abs().max() < 0.1  # no step


@pytest.mark.parametrize("protocol", ["toolbox", "toolbox2023"])
@pytest.mark.parametrize("n", [310, 1811])
def test_released_form_scores_as_what_it_leaves(n: int, protocol: str) -> None:
    """The whole recording has the rate and the SNR of the samples that the release gives and scores."""
    pulse = pulse_wave(n)
    clips = FakeClips.of_pulse(pulse, InputSpec(size=8, video="raw"))
    waveform = method("chrom", compat=True).predict(clips).numpy()
    kept = n - n % 24
    whole, left = (_row(pulse[:k].numpy(), waveform[:k], protocol) for k in (n, kept))
    assert (whole["n"], whole["n_failed"]) == (1, 0) and whole["failed"] == []
    assert whole["mae_bpm"] == left["mae_bpm"]
    assert whole["snr_db"] == pytest.approx(left["snr_db"], abs=0.05)


def _row(label: np.ndarray, waveform: np.ndarray, protocol: str) -> dict[str, Any]:
    times = np.arange(len(label)) / FPS
    wave = RecordingWaveform("any.r1", "s1", "any", FPS, times, label, {"chrom": waveform})
    row: dict[str, Any] = protocols.score([wave], protocol, bootstrap=0)["rows"][0]
    return row
