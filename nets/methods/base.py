"""What a method is: how a net learns from batches and answers for a recording."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from utils import interrupt
from utils.contracts import ClipBatch, InputSpec, RecordingClips, Updater
from utils.signal import bandpass, detrend, fill_gaps, strength_at

ROUNDING = 1e-6
FACE, BAND_HZ = "face", (0.7, 4.0)


class MakeOptimizer(Protocol):
    """Makes the optimiser of the params over the given parameters."""

    def __call__(self, params: Iterator[nn.Parameter], **overrides: object) -> Optimizer:
        """`overrides` replace options of the params, for example lr."""
        ...


class Method(nn.Module):
    """A net and the way it learns and answers; the loop knows nothing else.

    trainable: False where there is nothing to train. tasks: the `task` of the nets it takes; needs: what
    they must have beside a forward pass. reads_gradients: True where gradients are read outside the
    optimisers, which refuses the loss scaling of fp16. label_share: of the training recordings' labels,
    its loss reads, 0 to 1; of the others no batch tells anything. passes_unlabelled: True where the loss
    passes over clips without a label instead of refusing them. drawn_loss: True where the loss takes
    batches only as its plan draws them in training (of several recordings, of train_frames); validation
    then draws such. net_calls: of the net itself in a step, which is what torch.compile speeds up; 0 where
    only parts of it are called. published_as: the name under which documents print what was learned in this
    way, where that is not the net's. State that is not a weight is a registered buffer, so that checkpoints
    hold it.
    """

    trainable = True
    reads_gradients = False
    tasks: tuple[str, ...] = ("pulse",)
    needs: tuple[str, ...] = ()
    label_share: float = 1.0
    passes_unlabelled = False
    drawn_loss = False
    net_calls = 1
    published_as: str = ""

    def __init__(self, net: nn.Module) -> None:
        """`net` has an `input_spec` and a `task`; it becomes the submodule `net`."""
        super().__init__()
        task = getattr(net, "task", "pulse")
        if task not in self.tasks:
            raise ValueError(
                f"{type(self).__name__} takes nets for {' or '.join(self.tasks)}, and {type(net).__name__} "
                f"is one for {task}"
            )
        lacking = [name for name in self.needs if not hasattr(net, name)]
        if lacking:
            raise ValueError(
                f"{type(self).__name__} needs a net with {', '.join(lacking)}, which {type(net).__name__} "
                "does not have"
            )
        self.net = net

    @property
    def input_spec(self) -> InputSpec:
        """What this method is fed: by default what its net asks for."""
        spec: InputSpec = self.net.input_spec  # type: ignore[assignment]
        return spec

    def optimizers(self, make: MakeOptimizer) -> dict[str, Optimizer]:
        """Optimisers by name; `make` is given by the updater. By default one, named "net"."""
        return {"net": make(self.net.parameters())}

    def loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        """Scalar tensors by name: "loss" is what is minimised, the others are logged."""
        raise TypeError(f"{type(self).__name__} has no loss: it is not trained")

    def train_step(self, batch: ClipBatch, updater: Updater) -> dict[str, Tensor]:
        """One step of learning; by default the loss, minimised by the optimiser "net"."""
        terms = self.loss(batch)
        updater.minimise(terms["loss"], "net", again=lambda: self.loss(batch)["loss"])
        return terms

    def predict(self, clips: RecordingClips, batch_size: int = 8) -> Tensor:
        """The pulse waveform of one recording, float32 on the CPU (T,), T = clips.n_frames.

        It rises when skin darkens. Each clip's output is standardised over time, the clips are joined
        without overlap, and derivatives are summed up. Nothing is changed by it: no weight, buffer,
        training flag or random state. On the CPU clips pass the net one by one, so that the bits do not
        depend on `batch_size`; on a GPU `batch_size` clips at a time, equal up to rounding.
        """
        with evaluating(self), torch.no_grad():
            return self.joined(clips, batch_size, self.waveforms)

    def joined(
        self, clips: RecordingClips, batch_size: int, waveforms: Callable[[ClipBatch], Tensor]
    ) -> Tensor:
        """One recording's waveform (T,) from what `waveforms` gives for its batches, see `predict`."""
        joined = torch.zeros(clips.n_frames, dtype=torch.float64)
        filled = 0
        for batch in clips.batches(batch_size):
            interrupt.check()
            for start, waveform in zip(batch.start, waveforms(batch), strict=True):
                filled = _place(joined, filled, start, waveform)
        if filled != clips.n_frames:
            raise ValueError(f"{clips.recording}: clips cover {filled} of {clips.n_frames} frames")
        if self.input_spec.target == "diff_normalised":
            joined = integrate(joined)
        elif self.input_spec.target == "second_derivative":
            joined = integrate_twice(joined, float(clips.fps))
        return joined.float()

    @property
    def device(self) -> torch.device:
        """Where the net computes; the CPU for one without weights."""
        return next((p.device for p in self.net.parameters()), torch.device("cpu"))

    def waveforms(self, batch: ClipBatch) -> Tensor:
        """The net's output for each clip of a batch: (B, T) float64 on the CPU; gradients pass through."""
        share = 1 if self.device.type == "cpu" else max(1, len(batch))
        parts = [self.answer(video.to(self.device)).double().cpu() for video in batch.video.split(share)]
        return torch.cat(parts)

    def artifacts(self) -> dict[str, str]:
        """Files for the run folder beside the weights, as name -> text: by default what the net has."""
        made = getattr(self.net, "artifacts", dict)
        files: dict[str, str] = made()
        return files

    def answer(self, video: Tensor) -> Tensor:
        """Waveforms of clips in the net's form, by default the net's output: (B, C, T, H, W) -> (B, T)."""
        waveforms: Tensor = self.net(video)
        return waveforms


def _place(joined: Tensor, filled: int, start: int, waveform: Tensor) -> int:
    """Write the new samples of a clip into `joined`, in place; returns how many are filled now.

    A clip may start before `filled` (the last one) and may end after the recording (a short one):
    only samples that are new and exist are taken, and only existing ones are standardised over.
    """
    if start > filled:
        raise ValueError(f"a clip starts at frame {start}, but only {filled} frames came before it")
    waveform = standardise(waveform[: len(joined) - start])
    stop = max(filled, start + len(waveform))
    joined[filled:stop] = waveform[filled - start :]
    return stop


def standardise(signal: Tensor) -> Tensor:
    """Zero mean and unit variance along time, per row: (..., T) -> (..., T).

    A row without variation beyond rounding becomes 0, so that noise is not blown up into a waveform.
    """
    centred = signal - signal.mean(-1, keepdim=True)
    std = centred.square().mean(-1, keepdim=True).sqrt()
    flat = std <= ROUNDING * signal.abs().amax(-1, keepdim=True)
    return torch.where(flat, torch.zeros_like(centred), centred / std)


def integrate(derivative: Tensor) -> Tensor:
    """Sum of the differences before each sample: (..., T) -> (..., T), beginning with 0.

    Sample t of a difference stands for pulse[t + 1] - pulse[t], so the sum up to t - 1 gives pulse[t];
    a sum that included sample t would run one frame ahead of the label.
    """
    summed = derivative.double().cumsum(-1)
    return torch.cat([torch.zeros_like(summed[..., :1]), summed[..., :-1]], dim=-1)


def integrate_twice(second: Tensor, fps: float) -> Tensor:
    """The pulse from its second differences at `fps` Hz: (T,) -> (T,) float64.

    Summed up twice, noise grows with the square of its period, so that a drift would bury the pulse: each sum
    is freed of its trend (smoothness priors, half of what is slower than 0.48 Hz). Where a sample is not
    finite, all are NaN.
    """
    if not bool(second.isfinite().all()):
        return torch.full_like(second, torch.nan, dtype=torch.float64)
    strength = strength_at(100.0, fps)
    for _ in range(2):
        second = torch.from_numpy(detrend(integrate(second).numpy(), strength))
    return second


def upright(waveform: Tensor, clips: RecordingClips) -> Tensor:
    """`waveform` (T,) or its negative: whichever goes with minus the skin's green in the band of the pulse.

    For methods whose loss does not tell up from down. As it is where the store has no colours, or where the
    waveform has samples that are not finite.
    """
    colours = clips.roi_rgb
    if colours is None or not bool(waveform.isfinite().all()):
        return waveform
    names = list(clips.region_names)
    region = names.index(FACE) if FACE in names else 0
    green = fill_gaps(colours[:, region, 1].cpu().numpy())
    pair = bandpass(np.stack([waveform.double().numpy(), green]), clips.fps, *BAND_HZ)
    return -waveform if float(pair[0] @ pair[1]) > 0 else waveform


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, every submodule's own training flag afterwards."""
    flags = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in flags:
            part.training = training
