"""Which clips make a batch, and the batches that come out, from the store or kept on a device."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset import samplers
from dataset.frames import Frames, choose, n_bytes
from dataset.loader import ClipLoader
from dataset.reader import StoreClips
from preprocessing.store import StoredRecording
from tests.stores import FPS, all_same, make_store
from utils.contracts import ST_MAP, VIDEO_FORMS, InputSpec
from utils.errors import UserError
from utils.settings import Augment

QUICK = settings(database=None, deadline=None, max_examples=60)
@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Six recordings of different lengths, 20 px."""
    return make_store(tmp_path_factory.mktemp("store"), [70, 45, 100, 64, 33, 90], size=20)

# Plans


LENGTHS = st.lists(st.integers(20, 400), min_size=2, max_size=12)
SHARES = st.one_of(st.none(), st.integers(1, 5))


@QUICK
@given(LENGTHS, st.integers(1, 9), SHARES, st.integers(0, 99), st.integers(0, 9))
def test_plan_of_clips(lengths, batch, per_recording, seed, epoch):
    """Every recording is visited its share of times, at starts that fit; full batches but the last."""
    made = samplers.get("clips")(lengths, 20, batch, per_recording, seed, epoch)
    flat = [sample for part in made for sample in part]
    counts = np.bincount([s.recording for s in flat], minlength=len(lengths)).tolist()
    assert counts == [per_recording or n // 20 for n in lengths]
    assert all(0 <= s.start <= lengths[s.recording] - 20 for s in flat)
    assert [s.index for s in flat] == list(range(len(flat)))
    assert all(len(part) == batch for part in made[:-1]) and 1 <= len(made[-1]) <= batch


@QUICK
@given(LENGTHS, st.integers(2, 9), SHARES, st.integers(0, 99), st.integers(0, 9))
def test_plan_of_distinct_clips(lengths, batch, per_recording, seed, epoch):
    """No recording meets itself, all batches are full, and nobody gets less than its share."""
    made = samplers.get("distinct")(lengths, 20, batch, per_recording, seed, epoch)
    width = min(batch, len(lengths))
    assert all(len({s.recording for s in part}) == len(part) == width for part in made)
    counts = np.bincount([s.recording for part in made for s in part], minlength=len(lengths))
    share = np.array([per_recording or n // 20 for n in lengths])
    assert (counts >= share).all() and len(made) == max(math.ceil(share.sum() / width), share.max())
    assert all(0 <= s.start <= lengths[s.recording] - 20 for part in made for s in part)


@QUICK
@given(LENGTHS, st.integers(1, 9), SHARES)
def test_plan_without_chance(lengths, batch, per_recording):
    """In order: recording after recording, from its first clip to the last that fits, always the same."""
    made = samplers.get("in_order")(lengths, 20, batch, per_recording, 0, 0)
    assert made == samplers.get("in_order")(lengths, 20, batch, per_recording, 5, 7)
    flat = [sample for part in made for sample in part]
    places = [(s.recording, s.start) for s in flat]
    assert places == sorted(places) and [s.index for s in flat] == list(range(len(flat)))
    counts = np.bincount([s.recording for s in flat], minlength=len(lengths)).tolist()
    assert counts == [per_recording or n // 20 for n in lengths]
    for recording, length in enumerate(lengths):
        starts = [s.start for s in flat if s.recording == recording]
        assert starts[0] == 0 and (len(starts) == 1 or starts[-1] == length - 20)


@pytest.mark.parametrize("name", sorted(set(samplers.PLANS) - {"in_order"}))
def test_plans_are_functions_of_seed_and_epoch(name):
    """The same seed and epoch give the same plan, others another one; all epochs have one length."""
    def draw(seed, epoch):
        return samplers.get(name)([100, 230, 60, 400], 20, 3, None, seed, epoch, list("abcd"))

    assert draw(1, 2) == draw(1, 2)
    assert draw(1, 2) != draw(1, 3) and draw(1, 2) != draw(2, 2)
    assert all(len({len(draw(seed, epoch)) for epoch in range(4)}) == 1 for seed in range(4))


def test_distinct_needs_two_recordings():
    """Contrasting one recording with itself is refused."""
    with pytest.raises(UserError, match="at least 2 of them"):
        samplers.get("distinct")([100], 20, 4, None, 0, 0)


def test_unknown_plan_is_refused():
    """An unknown plan is refused with the close name."""
    with pytest.raises(UserError, match="did you mean \"clips\""):
        samplers.get("clip")


def test_long_lists_are_planned_quickly():
    """Ten thousand recordings are planned at once, not recording by recording against all others."""
    made = samplers.get("distinct")([900] * 10_000, 128, 4, None, 0, 0)
    assert len(made) == 17_500


# The loader


SPEC = InputSpec(frames=24, size=12)
AUGMENT = Augment(flip=0.5, speed=0.7)


def batches(infos, epoch=1, first_step=0, workers=0, **options):
    made = ClipLoader(infos, SPEC, batch=4, seed=7, augment=AUGMENT, workers=workers, **options)
    return list(made.epoch(epoch, first_step))


def test_batches_have_the_contracts_shapes(store):
    """Video (B, C, T, H, W), pulse (B, T) and one flag, rate and frame rate a clip."""
    made = ClipLoader(store, SPEC, batch=4, seed=0)
    batch = next(iter(made.epoch(0)))
    assert batch.video.shape == (4, 3, 24, 12, 12) and batch.video.dtype == torch.float32
    assert batch.video.is_contiguous() and batch.pulse.shape == (4, 24)
    assert batch.fps.tolist() == [FPS] * 4 and batch.has_label.all() and batch.hr_bpm.shape == (4,)
    assert len(made) == len(list(made.epoch(3))) == 4


def test_entering_an_epoch_late_gives_its_tail(store):
    """The batches from a step on are those of the whole epoch, whatever was read before."""
    assert all_same(batches(store, first_step=2), batches(store)[2:])


def test_batches_repeat_and_epochs_differ(store):
    """The same epoch twice is the same bits; another epoch is not."""
    assert all_same(batches(store), batches(store))
    assert not all_same(batches(store), batches(store, epoch=2))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_batches(store, workers):
    """Spawned workers deliver the bits this process delivers, epoch after epoch, entered anywhere."""
    made = ClipLoader(store, SPEC, batch=4, seed=7, augment=AUGMENT, workers=workers)
    state = torch.get_rng_state()
    assert all_same(list(made.epoch(1)), batches(store))
    next(iter(made.epoch(2)))
    assert all_same(list(made.epoch(1, 1)), batches(store)[1:])
    assert torch.equal(torch.get_rng_state(), state)


def test_threads_do_not_change_batches(store):
    """One thread or four: the same bits, and the number of threads is left as it was."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        first = batches(store)
        torch.set_num_threads(4)
        assert all_same(first, batches(store)) and torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


def test_an_error_in_a_worker_keeps_its_words(tmp_path):
    """A file that disappeared is named by the worker's error as it is without workers."""
    infos = make_store(tmp_path, [50, 50])
    for info in infos:
        info.path.unlink()
    for workers in (0, 1):
        with pytest.raises(UserError, match=r"^\S+r[12].h5: No such file or directory$"):
            list(ClipLoader(infos, SPEC, batch=2, seed=0, workers=workers).epoch(0))


def test_starts_reach_both_ends(store):
    """Random clips start anywhere from the first frame to the last that fits, at any speed."""
    info = [i for i in store if i.n_frames == 33]
    for augment in (Augment(), Augment(speed=1.0, speed_low=0.9, speed_high=1.1)):
        made = ClipLoader(info, SPEC, batch=50, seed=0, augment=augment, clips_per_recording=100)
        starts = {start for batch in made.epoch(0) for start in batch.start}
        assert {0, 8} <= starts and max(starts) <= 11


def test_training_clip_length_may_differ(store):
    """train_frames sets the length of training clips, frames that of prediction."""
    spec = InputSpec(frames=30, train_frames=16, size=12)
    assert next(iter(ClipLoader(store, spec, batch=2, seed=0).epoch(0))).video.shape[2] == 16
    assert next(StoreClips(store[0], spec).batches(1)).video.shape[2] == 30


def test_short_recordings_are_refused_for_training(store):
    """Recordings shorter than a clip are named with their lengths and the remedy."""
    named = r"made.r2 \(45 frames\), made.r5 \(33 frames\); lower net.input.frames"
    with pytest.raises(UserError, match=named):
        ClipLoader(store, InputSpec(frames=60, size=12), batch=2, seed=0)
    with pytest.raises(UserError, match="no recording to train on"):
        ClipLoader([], SPEC, batch=2, seed=0)


def test_read_buffer_is_long_enough_for_every_speed(store, monkeypatch):
    """With speed on, clips are read into the reused buffer, never into fresh memory."""
    fresh_reads = []
    plain = StoredRecording.read_frames

    def watch(self, start, stop, out=None, name="frames"):
        fresh_reads.extend([stop - start] if out is None else [])
        return plain(self, start, stop, out, name)

    monkeypatch.setattr(StoredRecording, "read_frames", watch)
    made = ClipLoader(store, SPEC, batch=4, seed=0, augment=Augment(speed=1.0, speed_high=3.0))
    assert len(list(made.epoch(0))) == 4 and fresh_reads == []


# Frames kept in a device's memory


def everything(form, **changes):
    """A spec with this form of the video, and all that a clip may bring beside it."""
    return InputSpec(frames=24, size=12, video=form, extras=("skin",), **changes)


@pytest.fixture(scope="module")
def meshed(tmp_path_factory):
    """Two recordings with a face mesh."""
    mesh = np.random.default_rng(3).uniform(2, 18, (64, 468, 2)).astype(np.float16)
    return make_store(tmp_path_factory.mktemp("meshed"), [64, 64], size=20, landmarks=mesh)


@pytest.mark.parametrize("form", VIDEO_FORMS)
def test_kept_frames_give_the_same_batches(meshed, form):
    """Clips of frames that a device keeps are, bit for bit, those read from the store, epoch after epoch."""
    augment = Augment(flip=0.5, speed=0.5) if form == ST_MAP else Augment(flip=0.5, speed=0.5, erase=0.5)
    options = {"batch": 4, "seed": 7, "augment": augment, "clips_per_recording": 6}
    kept = ClipLoader(meshed, everything(form), **options, frames=Frames(keep=True))
    read = ClipLoader(meshed, everything(form), **options)
    for epoch in (0, 1, 0):
        assert all_same(list(kept.epoch(epoch)), list(read.epoch(epoch)))


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("form", VIDEO_FORMS)
def test_clips_are_made_without_waiting_for_the_device(meshed, form, keep):
    """On a device whose values cannot be read, clips are made all the same: nothing on the way reads one."""
    augment = Augment(flip=1.0, speed=1.0, erase=1.0)
    made = ClipLoader(meshed, everything(form), batch=2, seed=7, augment=augment,
                      frames=Frames("meta", keep=keep))
    batch = next(iter(made.epoch(0)))
    assert batch.video.is_meta and batch.video.shape[0] == 2 and batch.pulse.isfinite().all()


def test_kept_recordings_are_read_once(store, monkeypatch):
    """A recording is read whole, once, and no worker is started."""
    reads = []
    plain = StoredRecording.read_frames

    def watch(self, start, stop, out=None, name="frames"):
        reads.append((self.path, start, stop))
        return plain(self, start, stop, out, name)

    spec = InputSpec(frames=24, size=12, video="unit")
    monkeypatch.setattr(StoredRecording, "read_frames", watch)
    made = ClipLoader(store, spec, batch=4, seed=0, workers=2, frames=Frames(keep=True))
    for epoch in range(2):
        assert len(list(made.epoch(epoch))) == len(made)
    assert sorted(reads) == [(info.path, 0, info.n_frames) for info in store]


def test_where_frames_come_from_follows_the_room(store, monkeypatch):
    """auto: kept on a GPU with twice the room; device: kept in 90 % of the room; else read from the store."""
    spec, room = InputSpec(frames=24, size=12), {}
    monkeypatch.setattr("dataset.frames.free_bytes", lambda device: room[device.type])
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 0)
    wanted = n_bytes(store, spec)
    assert wanted == sum(info.n_frames for info in store) * 20 * 20 * 3
    room.update(cpu=math.ceil(wanted / 0.9), cuda=2 * wanted)
    assert choose("auto", gpu, store, spec, workers=2).keep and not choose("auto", cpu, store, spec).keep
    assert choose("device", cpu, store, spec).keep and choose("device", gpu, store, spec).device == gpu
    room.update(cpu=math.ceil(wanted / 0.9) - 2, cuda=2 * wanted - 2)
    plain, worked = choose("auto", gpu, store, spec), choose("auto", gpu, store, spec, workers=2)
    assert not plain.keep and plain.device == gpu and worked.device == cpu
    assert not choose("store", gpu, store, spec).keep
    with pytest.raises(UserError, match=r'data.keep = "device": the frames take .* set data.keep to "store"'):
        choose("device", cpu, store, spec)


def test_compressed_copies_count(store):
    """A method that reads compressed copies keeps them as well."""
    spec = InputSpec(frames=24, size=12)
    assert n_bytes(store, spec.replace(qualities=("x264_250", "x265_250"))) == 3 * n_bytes(store, spec)
