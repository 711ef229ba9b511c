"""Methods' answers become waveforms, and waveform files come back as written or are refused by name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evaluation import protocols
from evaluation.infer import infer, validation_loss
from evaluation.waveforms import read_waveforms, write_waveforms
from tests.waves import FPS, recording
from utils.contracts import ClipBatch
from utils.errors import UserError

# Files


def test_waveforms_come_back_as_written(tmp_path: Path) -> None:
    """Arrays, attributes, conditions, parts and the order of methods survive the file."""
    wave = recording(1, conditions={"light": "dim"}, part="hard", reference_hr_bpm=65.5)
    wave.predictions = {"zeta": wave.label, "alpha": -wave.label}
    path = tmp_path / "waveforms.h5"
    about = {"constant_bpm": 71.5, "net": "zeta", "x": None}
    write_waveforms(path, [recording(10), wave, recording(2)], about)
    read, about = read_waveforms(path)
    assert [w.key for w in read] == ["any.r1", "any.r2", "any.r10"]
    assert about == {"constant_bpm": 71.5, "net": "zeta"}
    assert list(read[0].predictions) == ["zeta", "alpha"]
    assert (read[0].conditions, read[0].part, read[0].reference_hr_bpm) == ({"light": "dim"}, "hard", 65.5)
    np.testing.assert_array_equal(read[0].label, wave.label)
    np.testing.assert_array_equal(read[0].time_s, wave.time_s)


def test_equal_waveforms_give_equal_bytes(tmp_path: Path) -> None:
    """Writing the same content twice, in any order of recordings, gives the same file."""
    for name, order in (("a.h5", (0, 1, 2)), ("b.h5", (2, 0, 1))):
        write_waveforms(tmp_path / name, [recording(i) for i in order], {"net": "net"})
    digests = {hashlib.sha256((tmp_path / name).read_bytes()).digest() for name in ("a.h5", "b.h5")}
    assert len(digests) == 1


def minimal(path: Path, change: Callable[[h5py.Group], None] | None = None) -> Path:
    """A file with the contract's fields only, then changed."""
    with h5py.File(path, "w") as handle:
        group = handle.create_group("mine.r1")
        group.attrs.update(subject="s", dataset="mine", fps=FPS)
        group["time_s"] = np.arange(300) / FPS
        group["label"] = np.sin(np.arange(300) / 4).astype(np.float32)
        group["prediction/own"] = np.sin(np.arange(300) / 4).astype(np.float32)
        if change:
            change(group)
    return path


def test_minimal_file_is_scored(tmp_path: Path) -> None:
    """A file with nothing but the contract's fields is scored, whole and in windows."""
    path = minimal(tmp_path / "own.h5")
    assert protocols.score(path)["rows"][0]["mae_bpm"] == pytest.approx(0, abs=1e-6)
    assert protocols.score(path, "toolbox", window_s=4)["test"]["n_windows"] == 3


def replace(name: str, value: np.ndarray) -> Callable[[h5py.Group], None]:
    """A change that puts another array in the place of `name`."""

    def change(group: h5py.Group) -> None:
        del group[name]
        group[name] = value

    return change


@pytest.mark.parametrize(("change", "words"), [
    (lambda g: g.__delitem__("label"), ["label", "not in the file"]),
    (lambda g: g.__delitem__("time_s"), ["time_s", "not in the file"]),
    (lambda g: g.__delitem__("prediction"), ["prediction", "not in the file"]),
    (lambda g: g.attrs.__delitem__("subject"), ['"subject" is missing']),
    (replace("prediction/own", np.zeros(299, np.float32)), ["prediction/own has shape (299,)", "(300,)"]),
    (replace("label", np.zeros((300, 2), np.float32)), ["label has shape (300, 2)"]),
    (replace("time_s", np.r_[np.arange(299) / FPS, np.nan]), ["1 values that are not finite"]),
    (replace("time_s", np.r_[np.arange(200) / FPS, np.arange(100) / FPS]), ["backwards at sample 200"]),
    (replace("time_s", np.zeros(300)), ["positive duration"]),
    (lambda g: g.attrs.update(fps=25.0), ["fps says 25.000", "30.000"]),
    (lambda g: g.attrs.update(reference_hr_bpm=-3.0), ["reference_hr_bpm = -3.0"]),
])
def test_malformed_file_is_named(tmp_path: Path, change: Callable, words: list[str]) -> None:
    """Each malformed file is refused with the file, the recording and the fault in the message."""
    path = minimal(tmp_path / "own.h5", change)
    with pytest.raises(UserError) as caught:
        read_waveforms(path)
    for word in [str(path), "mine.r1", *words]:
        assert word in str(caught.value)


def test_links_out_of_the_file_are_not_followed(tmp_path: Path) -> None:
    """A label that is an external link to another file is refused."""
    minimal(tmp_path / "other.h5")

    def change(group: h5py.Group) -> None:
        del group["label"]
        group["label"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/mine.r1/label")

    with pytest.raises(UserError, match="external link"):
        read_waveforms(minimal(tmp_path / "own.h5", change))


def test_other_files_are_refused(tmp_path: Path) -> None:
    """A text file, an empty HDF5 file and a missing one are named, without a traceback."""
    (tmp_path / "text.h5").write_text("no HDF5")
    h5py.File(tmp_path / "empty.h5", "w").close()
    for name in ("text.h5", "empty.h5", "absent.h5"):
        with pytest.raises(UserError, match=name):
            read_waveforms(tmp_path / name)


# Inference


class Clips:
    """A recording of 60 frames in clips of 20."""

    key, recording, subject, dataset, fps, n_frames = "any.r0", "r0", "s0", "any", FPS, 60
    roi_rgb, region_names, people = None, (), ""
    reference_hr_bpm = device_rate = respiration = None

    def __init__(self, labelled: bool = True) -> None:
        self.conditions = {"light": "dim"}
        self.time_s = torch.arange(60, dtype=torch.float64) / FPS
        self.label = torch.sin(torch.arange(60) / 3.0) if labelled else torch.full((60,), float("nan"))

    def batches(self, size: int) -> Iterator[ClipBatch]:
        for start in range(0, 60, 20 * size):
            starts = list(range(start, min(start + 20 * size, 60), 20))
            pulses = torch.stack([self.label[s : s + 20] for s in starts])
            n = len(starts)
            yield ClipBatch(torch.zeros(n, 3, 20, 4, 4), pulses, torch.ones(n, dtype=torch.bool),
                            torch.full((n,), FPS), torch.full((n,), 80.0), ["r0"] * n, starts)


class Constant(nn.Module):
    """Answers with ones; its loss is the largest frame number of the batch and needs evaluation mode."""

    def predict(self, clips: object, batch_size: int = 8) -> Tensor:
        assert not self.training and not torch.is_grad_enabled()
        return torch.ones(60)

    def loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        assert not self.training
        return {"loss": torch.tensor(batch.start, dtype=torch.float32).mean()}


class Refusing(Constant):
    """Cannot answer for this recording."""

    def predict(self, clips: object, batch_size: int = 8) -> Tensor:
        raise UserError("no skin region here")


def test_infer_asks_every_method_in_evaluation_mode() -> None:
    """Methods answer in evaluation mode without gradients, and are left in the mode they were in."""
    method = Constant()
    (wave,) = infer({"a": method, "b": Constant()}, [Clips()], part="hard")
    assert method.training and list(wave.predictions) == ["a", "b"]
    assert (wave.part, wave.conditions, wave.key) == ("hard", {"light": "dim"}, "any.r0")


def test_refused_recording_becomes_a_failed_one() -> None:
    """A method that refuses a recording gives NaN, which the table counts as failed."""
    (wave,) = infer({"bad": Refusing()}, [Clips()])
    assert np.isnan(wave.predictions["bad"]).all()
    assert protocols.score([wave], "toolbox")["rows"][0]["n_failed"] == 1


def test_validation_loss_is_the_mean_over_clips() -> None:
    """Every clip counts once, whatever the batch; recordings without a label are left out."""
    for batch in (1, 2, 3):
        assert validation_loss(Constant(), [Clips(), Clips(False)], batch) == pytest.approx(20.0)
    assert np.isnan(validation_loss(Constant(), [Clips(False)]))


def test_validation_loss_leaves_out_clips_without_a_label() -> None:
    """A label that ends early costs the clips it does not reach, not the training."""
    class Partly(Clips):
        def batches(self, size: int) -> Iterator[ClipBatch]:
            for batch in super().batches(size):
                batch.has_label = torch.tensor([start < 40 for start in batch.start])
                yield batch

    for batch in (1, 2, 3):
        assert validation_loss(Constant(), [Partly()], batch) == pytest.approx(10.0)
