"""Training clips: batches that are a function of (seed, epoch, step), prepared here or by workers."""

from __future__ import annotations

import dataclasses
import math
import signal
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from dataset import episodes, samplers  # noqa: F401
from dataset.frames import FROM_STORE, Frames
from dataset.index import RecordingInfo
from dataset.labels import without_label
from dataset.reader import Clip, StoreClips, collate
from dataset.samplers import Batches, Sample
from dataset.shares import subject_name
from dataset.targets import DIFFERENCES
from dataset.transforms import UNCHANGED, Change, draw_change, single_thread, span_at_speed
from utils import interrupt
from utils.contracts import ClipBatch, InputSpec
from utils.errors import UserError
from utils.seeding import sample_rng
from utils.settings import Augment

_KEPT_RECORDINGS = 512
_SAMPLE_STREAM, _COPY_STREAM = 3, 4
Step = tuple[int, int]


class _Maker(Dataset[ClipBatch | UserError]):
    """Makes the batch of (epoch, step); picklable, so each worker has its own."""

    def __init__(
        self, infos: Sequence[RecordingInfo], spec: InputSpec, batch: int, seed: int,
        augment: Augment, clips_per_recording: int | None, unlabelled: frozenset[str],
        part: tuple[int, int], frames: Frames,
    ) -> None:
        self.part, self.source_of_frames = part, frames
        self.unlabelled = unlabelled
        self.infos, self.spec, self.batch, self.seed = list(infos), spec, batch, seed
        self.augment, self.clips_per_recording = augment, clips_per_recording
        self.frames = spec.train_frames or spec.frames
        self._plan: tuple[int, Batches] | None = None
        self._sources: OrderedDict[int, StoreClips] = OrderedDict()

    def plan(self, epoch: int) -> Batches:
        """The samples of every batch of the epoch; the last epoch asked for is kept."""
        if self._plan is None or self._plan[0] != epoch:
            lengths = [info.n_frames for info in self.infos]
            draw = samplers.get(self.spec.plan, self.spec.step)
            people = [subject_name(info) for info in self.infos]
            made = draw(lengths, self.frames, self.batch, self.clips_per_recording, self.seed, epoch, people)
            self._plan = epoch, made
        return self._plan[1]

    def make(self, epoch: int, step: int) -> ClipBatch:
        """The batch, or this process's part of it, whoever asks."""
        samples, share = self._mine(self.plan(epoch)[step])
        with single_thread():
            sources = [self._source(sample.recording) for sample in samples]
            clips = [self._clip(s, epoch, source) for s, source in zip(samples, sources, strict=True)]
            batch = collate(clips, sources)
        batch.epoch, batch.share = epoch, share
        sides = [sample.side for sample in samples if sample.side is not None]
        if sides:
            batch.extras["side"] = torch.tensor(sides)
        return batch

    def _mine(self, samples: list[Sample]) -> tuple[list[Sample], float]:
        """This process's samples and their share of the batch; one without weight where none is left.

        Of each side of a plan that deals clips to sides, every process gets its part.
        """
        first, of = self.part
        sides = dict.fromkeys(sample.side for sample in samples)
        mine = [s for side in sides for s in [s for s in samples if s.side == side][first::of]]
        return (mine, len(mine) / len(samples)) if mine else (samples[:1], 0.0)

    def __getitem__(self, at: Step) -> ClipBatch | UserError:
        """As `make`, with a user's error as a value: raised in a worker it would lose its words."""
        try:
            return self.make(*at)
        except UserError as error:
            return UserError(str(error))

    def _clip(self, sample: Sample, epoch: int, source: StoreClips) -> Clip:
        """The clip, within the labelled stretch of a recording whose label does not reach everywhere.

        From anywhere, and without what its label tells, where that is kept from the method.
        """
        hidden = source.key in self.unlabelled
        first, n = (0, source.n_frames) if hidden else source.labelled_run(self.frames + self._ahead)
        # differences look beyond the clip, where the recording does not end with the label
        frames, change = self.frames + self._ahead * (first + n < source.n_frames), UNCHANGED
        start = _start(sample, source, self.frames, (first, n), frames, change)
        if self._augments:
            rng = sample_rng(self.seed, epoch, sample.index, _SAMPLE_STREAM)
            rate = source.rate_bpm(start, start + self.frames) if self.augment.tempo else math.nan
            change = draw_change(rng, self.augment, frames, n, rate)
            start = _start(sample, source, self.frames, (first, n), frames, change)
        copy = None
        if self.spec.qualities:
            rng = sample_rng(self.seed, epoch, sample.index, _COPY_STREAM)
            copy = int(rng.integers(len(self.spec.qualities)))
        clip = source.clip(start, self.frames, change, copy)
        return _blinded(clip) if hidden else clip

    @property
    def _ahead(self) -> int:
        """Frames that are kept free behind a clip; one for forms of the video, whatever the label's."""
        return max(1, DIFFERENCES.get(self.spec.target, 1))

    @property
    def _augments(self) -> bool:
        augment = self.augment
        return bool(augment.flip or augment.speed or augment.tempo or augment.erase)

    def _source(self, recording: int) -> StoreClips:
        if recording not in self._sources:
            self._sources[recording] = StoreClips(self.infos[recording], self.spec,
                                                   frames=self.source_of_frames)
            if len(self._sources) > _KEPT_RECORDINGS:
                self._sources.popitem(last=False)
        self._sources.move_to_end(recording)
        return self._sources[recording]


def _start(
    sample: Sample, source: StoreClips, clip: int, run: tuple[int, int], frames: int, change: Change
) -> int:
    """Where in the run (first, length) the start of a sample of `clip` frames lies, at the change's speed.

    frames: that are read of the recording at its own speed.
    """
    room = run[1] - span_at_speed(frames, change.speed)
    return run[0] + sample.start * (room + 1) // (source.n_frames - clip + 1)


def _blinded(clip: Clip) -> Clip:
    """The clip without its label and its rate."""
    return dataclasses.replace(
        clip, pulse=torch.full_like(clip.pulse, math.nan), has_label=False, hr_bpm=math.nan
    )


class _Steps(Sampler[Step]):
    """The steps still to be made of the current epoch."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)


class ClipLoader:
    """Batches of training clips; implements utils.contracts.BatchSource.

    The batches are the same bits for any number of workers and threads, and for an epoch entered at
    any step. Clips start at random frames; where the plan and the augmentation put them is a function
    of (seed, epoch, number of the clip in the epoch).
    """

    def __init__(
        self, infos: Sequence[RecordingInfo], spec: InputSpec, *, batch: int, seed: int,
        augment: Augment | None = None, clips_per_recording: int | None = None, workers: int = 0,
        label_share: float = 1.0, part: tuple[int, int] = (0, 1), frames: Frames = FROM_STORE,
        pin: bool = False,
    ) -> None:
        """batch: clips in a batch; clips_per_recording: per epoch, None: length over clip length.

        workers: processes that prepare batches ahead, 0: this one does. label_share: of the recordings'
        labels, the method may see; what the others' would tell is NaN, see `labels.without_label`.
        part: (number, count) of the processes that share each batch out; the batches as wholes do not
        depend on it. frames: where frames come from; where they are kept, workers have nothing to do and
        are not started. pin: workers' batches come in page-locked memory, for a GPU. UserError when
        there is no recording or when one is shorter than a clip.
        """
        _require_length(infos, spec.train_frames or spec.frames)
        augment = augment or Augment()
        if label_share < 1 and augment.tempo:
            raise UserError("data.augment.tempo goes by the rates of the labels, which this method does not "
                            "read (all of); set it to 0, data.augment.speed needs no labels")
        self.unlabelled = without_label(infos, label_share, seed)
        self._maker = _Maker(infos, spec, batch, seed, augment, clips_per_recording, self.unlabelled,
                             part, frames)
        self._n_steps = len(self._maker.plan(0))
        self._workers, self._seed, self._pin = 0 if frames.keep else workers, seed, pin
        self._steps = _Steps()
        self._loader: DataLoader[ClipBatch | UserError] | None = None

    @property
    def infos(self) -> list[RecordingInfo]:
        """The recordings clips are drawn from."""
        return self._maker.infos

    def __len__(self) -> int:
        """Steps in an epoch."""
        return self._n_steps

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[ClipBatch]:
        """The batches of one epoch from `first_step` on."""
        if not self._workers:
            return (self._maker.make(epoch, step) for step in range(first_step, self._n_steps))
        return self._from_workers(epoch, first_step)

    def _from_workers(self, epoch: int, first_step: int) -> Iterator[ClipBatch]:
        if self._loader is None:
            self._loader = self._start()
        self._steps.steps = [(epoch, step) for step in range(first_step, self._n_steps)]
        batches = iter(self._loader)
        while True:
            try:
                batch = next(batches, None)
            except RuntimeError:
                interrupt.check()
                raise
            if batch is None:
                return
            if isinstance(batch, UserError):
                raise UserError(str(batch))
            yield batch

    def _start(self) -> DataLoader[ClipBatch | UserError]:
        """Spawned workers that live as long as this loader; the global random state is not touched."""
        return DataLoader(
            self._maker, batch_size=None, sampler=self._steps, num_workers=self._workers,
            collate_fn=_unchanged, worker_init_fn=_leave_signals_to_parent, persistent_workers=True,
            multiprocessing_context="spawn", pin_memory=self._pin,
            generator=torch.Generator().manual_seed(self._seed),
        )


def _unchanged(batch: Any) -> Any:
    return batch


def _leave_signals_to_parent(worker: int) -> None:
    """Ctrl-C reaches the whole process group; the parent ends its workers itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _require_length(infos: Sequence[RecordingInfo], frames: int) -> None:
    if not infos:
        raise UserError("there is no recording to train on; check the train part of the split")
    short = [info for info in infos if info.n_frames < frames]
    if short:
        shown = ", ".join(f"{info.key} ({info.n_frames} frames)" for info in short[:10])
        more = f" and {len(short) - 10} more" if len(short) > 10 else ""
        raise UserError(
            f"{len(short)} recording(s) are shorter than a training clip of {frames} frames: {shown}{more}; "
            f"lower net.input.frames, or list them under exclude of their set in data.sets"
        )
