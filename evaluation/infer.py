"""From recordings to waveforms: every method answers for every recording, once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evaluation.waveforms import RecordingWaveform
from utils import interrupt
from utils.contracts import BatchSource, ClipBatch, RecordingClips
from utils.errors import UserError
from utils.runlog import track, warn


class Answers(Protocol):
    """What evaluation knows of a method."""

    def loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        """Terms by name, with "loss"."""
        ...

    def predict(self, clips: RecordingClips, batch_size: int = 8) -> Tensor:
        """The waveform (T,) of one recording."""
        ...


@runtime_checkable
class GivesRates(Protocol):
    """A method whose net has a heart-rate head."""

    def predict_rates(self, clips: RecordingClips, batch_size: int = 8) -> tuple[Tensor, Tensor]:
        """Rates of consecutive clips of one recording in bpm, and the clips' middles in s: (K,), (K,)."""
        ...


def infer(
    methods: Mapping[str, Answers], recordings: Sequence[RecordingClips], *, batch: int = 8,
    part: str = "test", progress: bool = False,
) -> list[RecordingWaveform]:
    """Waveforms of all methods, in the order given, for all recordings of one part.

    A recording that a method refuses with a UserError gets a NaN waveform and a warning, so that it
    counts as failed in every table; other errors stop the work. A method that GivesRates is asked for its
    rates as well, and for nothing else where its waveform is only drawn from them (`waveform_from_rates`):
    a waveform that nobody measured must not be stored as one.
    """
    waveforms = []
    for clips in track(recordings, f"predicting {part}", len(recordings), progress):
        interrupt.check()
        predictions = {name: _predict(name, method, clips, batch) for name, method in methods.items()
                       if not getattr(method, "waveform_from_rates", False)}
        waveforms.append(RecordingWaveform(
            key=clips.key, subject=clips.subject, dataset=clips.dataset, fps=float(clips.fps),
            time_s=np.asarray(clips.time_s, dtype=np.float64), label=np.asarray(clips.label),
            predictions=predictions, reference_hr_bpm=clips.reference_hr_bpm,
            conditions=dict(clips.conditions), part=part, people=clips.people,
            rates=_rates(methods, clips, batch), **_sensors(clips),
        ))
    return waveforms


def _rates(
    methods: Mapping[str, Answers], clips: RecordingClips, batch: int
) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """Rates and their times of the methods that have a heart-rate head."""
    found = {}
    for name, method in methods.items():
        if not isinstance(method, GivesRates):
            continue
        try:
            with _evaluating(method), torch.no_grad():
                rate_bpm, time_s = method.predict_rates(clips, batch)
        except UserError as error:
            if error.exit_code != UserError.exit_code:
                raise
            warn(f"{clips.key}: {name} gave no rates: {error}")
            rate_bpm = time_s = torch.empty(0)  # a failed recording, not one that nobody was asked about
        found[name] = (rate_bpm.detach().cpu().numpy(), time_s.detach().cpu().numpy())
    return found


def _sensors(clips: RecordingClips) -> dict[str, Any]:
    """What the set's meters recorded over time, by field of RecordingWaveform."""
    found: dict[str, Any] = {}
    if clips.device_rate is not None:
        found["hr_bpm"], found["hr_time_s"] = (np.asarray(series) for series in clips.device_rate)
    if clips.respiration is not None:
        found["resp"], found["resp_time_s"] = (np.asarray(series) for series in clips.respiration)
    return found


def _predict(name: str, method: Answers, clips: RecordingClips, batch: int) -> NDArray[np.float32]:
    """One method's waveform (T,)."""
    try:
        with _evaluating(method), torch.no_grad():
            waveform = method.predict(clips, batch)
    except UserError as error:
        if error.exit_code != UserError.exit_code:
            raise
        warn(f"{clips.key}: {name} gave no waveform: {error}")
        return np.full(clips.n_frames, np.nan, dtype=np.float32)
    if waveform.shape != (clips.n_frames,):
        raise ValueError(f"{name}.predict gave {tuple(waveform.shape)} for {clips.n_frames} frames")
    return waveform.detach().cpu().float().numpy()


def validation_loss(method: Answers, recordings: Sequence[RecordingClips], batch: int = 8) -> float:
    """Mean of the method's loss over the tiled clips that have a label throughout, in evaluation mode.

    NaN when there is none, or when the loss is not finite.
    """
    total, count = 0.0, 0
    with _evaluating(method), torch.no_grad():
        for clips in recordings:
            if not bool(torch.isfinite(torch.as_tensor(clips.label)).any()):
                continue
            for piece in clips.batches(batch):
                interrupt.check()
                labelled = [i for i, known in enumerate(piece.has_label.tolist()) if known]
                if not labelled:
                    continue
                piece = piece if len(labelled) == len(piece) else piece.select(labelled)
                loss = method.loss(piece.to(_device(method)))["loss"]
                total, count = total + float(loss) * len(piece), count + len(piece)
    return total / count if count else float("nan")


def drawn_loss(method: Answers, batches: BatchSource, seed: int) -> float:
    """Mean of the method's loss over the batches of epoch 0, in evaluation mode.

    The random numbers that it draws are those of the seed every time, and torch's go on as if none had been.
    """
    total, count = 0.0, 0
    with _evaluating(method), torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for batch in batches.epoch(0):
            interrupt.check()
            total += float(method.loss(batch.to(_device(method)))["loss"]) * len(batch)
            count += len(batch)
    return total / count if count else float("nan")


def _device(method: Answers) -> torch.device:
    """Where the method's weights lie; the CPU for a method without any."""
    weights = method.parameters() if isinstance(method, nn.Module) else iter(())
    return next((weight.device for weight in weights), torch.device("cpu"))


@contextmanager
def _evaluating(method: object) -> Iterator[None]:
    """Evaluation mode inside, every module's own mode again afterwards."""
    modules = list(method.modules()) if isinstance(method, nn.Module) else []
    modes = [module.training for module in modules]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
