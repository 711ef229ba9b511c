"""AutoHR's training is given halves that share nobody, clips at another tempo and with erased tubes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from dataset import samplers, transforms
from dataset.loader import ClipLoader
from dataset.rates import spectral_rate_bpm
from dataset.reader import StoreClips
from dataset.transforms import Change, Tube, draw_change, erased
from tests.stores import FPS, all_same, make_store
from utils.contracts import ClipBatch, InputSpec
from utils.errors import UserError
from utils.seeding import sample_rng
from utils.settings import Augment

# Halves of the training part


def test_halves_share_nobody() -> None:
    """Each batch is full, one half of the people first, then the other; who is where never changes."""
    people = [f"p{i // 2}" for i in range(10)]
    lengths = [100, 300, 80, 90, 500, 60, 60, 200, 120, 110]
    sides: dict[str, set[int]] = {}
    seen = []
    for epoch in range(5):
        plan = samplers.get("halves")(lengths, 20, 3, None, 4, epoch, people)
        assert [[s.side for s in row] for row in plan] == [[0, 0, 0, 1, 1, 1]] * len(plan)
        assert len({s.index for row in plan for s in row}) == 6 * len(plan)
        assert all(0 <= s.start <= lengths[s.recording] - 20 for row in plan for s in row)
        for sample in (s for row in plan for s in row):
            sides.setdefault(people[sample.recording], set()).add(sample.side)
        seen.append(plan)
    assert all(len(side) == 1 for side in sides.values()) and len(sides) == 5
    assert len({len(plan) for plan in seen}) == 1 and seen[0] != seen[1]


def test_halves_visit_every_clip() -> None:
    """Within an epoch each recording is visited at least as often as by the plain plan."""
    lengths, people = [100, 300, 80, 90], list("abcd")
    plan = samplers.get("halves")(lengths, 20, 2, None, 0, 0, people)
    counts = np.bincount([s.recording for row in plan for s in row], minlength=4)
    assert (counts >= samplers.visits(lengths, 20, None)).all()


def test_halves_are_about_equal() -> None:
    """Of many people with recordings of a length, half are on each side; the seed decides who."""
    lengths, people = [100] * 40, [f"p{i}" for i in range(40)]
    sides = [samplers.two_sides(lengths, people, seed) for seed in (0, 1)]
    assert all(side.sum() == 20 for side in sides) and (sides[0] != sides[1]).any()


def test_one_person_cannot_be_halved() -> None:
    """A training part of one person ends in a message."""
    with pytest.raises(UserError, match="two sides"):
        samplers.get("halves")([100, 100], 20, 2, None, 0, 0, ["p", "p"])


def test_batches_say_their_sides_and_epoch(tmp_path: Path) -> None:
    """The loader marks each clip's side and each batch's epoch, with and without workers."""
    infos = make_store(tmp_path, [60, 60, 60])
    spec = InputSpec(frames=20, size=8, plan="halves")
    batches = list(ClipLoader(infos, spec, batch=2, seed=0).epoch(3))
    people = {info.key: samplers.two_sides([60] * 3, [f"made/p{i}" for i in (1, 2, 3)], 0)[i]
              for i, info in enumerate(infos)}
    for batch in batches:
        assert batch.epoch == 3 and batch.extras["side"].tolist() == [0, 0, 1, 1]
        assert [people[key] for key in batch.recording] == [0, 0, 1, 1]
        assert batch.select([2, 3]).extras["side"].tolist() == [1, 1] and batch.select([0]).epoch == 3


# Augmentation


def test_tempo_follows_the_rate() -> None:
    """Above 90 bpm half speed, below 70 double, between them and without a rate none; or by its chance."""
    always = Augment(tempo=1.0)
    for rate, speed in ((91.0, 0.5), (69.0, 2.0), (80.0, 1.0), (np.nan, 1.0), (90.0, 1.0), (70.0, 1.0)):
        assert draw_change(sample_rng(0), always, 32, 400, rate).speed == speed
    one = Augment(tempo=1.0, tempo_high_bpm=88, tempo_low_bpm=88)
    assert [draw_change(sample_rng(0), one, 32, 400, rate).speed for rate in (87.0, 89.0)] == [2.0, 0.5]
    drawn = [draw_change(sample_rng(i), Augment(tempo=0.5), 32, 400, 120.0).speed for i in range(200)]
    assert 60 < drawn.count(0.5) < 140 and set(drawn) == {0.5, 1.0}


def test_tempo_is_left_out_where_frames_are_missing() -> None:
    """Doubling needs twice the frames; a shorter recording is left as it is, never repeated."""
    always = Augment(tempo=1.0)
    assert draw_change(sample_rng(0), always, 32, 63, 60.0).speed == 2.0
    assert draw_change(sample_rng(0), always, 32, 62, 60.0).speed == 1.0


def test_double_tempo_stays_inside_the_recording(tmp_path: Path) -> None:
    """Clips at double speed start where twice their frames are left: no frame is repeated at the end."""
    infos = make_store(tmp_path, [90], rate_bpm=60.0, hr=np.full(4, 60.0))
    loader = ClipLoader(infos, InputSpec(frames=40, size=8, video="raw", target="raw"), batch=80, seed=0,
                        augment=Augment(tempo=1.0), clips_per_recording=80)
    (batch,) = loader.epoch(0)
    assert batch.hr_bpm.tolist() == [120.0] * 80
    assert (min(batch.start), max(batch.start)) == (0, 90 - 79)


@pytest.mark.parametrize(("rate_bpm", "expected"), [(104.0, 52.0), (60.0, 120.0)])
def test_tempo_takes_frames_label_and_rate_along(tmp_path: Path, rate_bpm: float, expected: float) -> None:
    """A clip of 104 bpm comes as one of 52, one of 60 as one of 120, in pictures, label and rate."""
    infos = make_store(tmp_path, [700], rate_bpm=rate_bpm)
    spec = InputSpec(frames=200, size=8, video="raw", target="raw")
    loader = ClipLoader(infos, spec, batch=2, seed=0, augment=Augment(tempo=1.0), clips_per_recording=2)
    (batch,) = loader.epoch(0)
    seconds = np.arange(200) / FPS
    for i in range(2):
        assert float(batch.hr_bpm[i]) == pytest.approx(expected, abs=2.0)
        assert spectral_rate_bpm(batch.pulse[i].numpy(), seconds) == pytest.approx(expected, abs=2.0)
        brightness = -batch.video[i].mean((0, 2, 3)).numpy()
        assert spectral_rate_bpm(brightness, seconds) == pytest.approx(expected, abs=2.0)
    assert batch.fps.tolist() == [FPS] * 2


def test_half_speed_inserts_means_of_neighbours(tmp_path: Path) -> None:
    """Every second sample is an original, the ones between are the mean of both sides."""
    (info,) = make_store(tmp_path, [80])
    clips = StoreClips(info, InputSpec(frames=21, size=16, video="raw", target="raw"))
    slow, plain = clips.clip(5, 21, Change(speed=0.5)), clips.clip(5, 21)
    torch.testing.assert_close(slow.pulse[::2], plain.pulse[:11])
    torch.testing.assert_close(slow.pulse[1::2], (plain.pulse[:10] + plain.pulse[1:11]) / 2)
    torch.testing.assert_close(slow.video[1::2], (plain.video[:10] + plain.video[1:11]) / 2)
    fast = clips.clip(5, 21, Change(speed=2.0))
    assert torch.equal(fast.pulse[:11], plain.pulse[::2]) and torch.equal(fast.video[:11], plain.video[::2])


def test_erased_tubes_stay_below_their_shares() -> None:
    """Less than a fifth of the picture for less than a fifth of the clip, anywhere, 0 and nothing else."""
    shares, lengths, where = [], [], torch.zeros(50, 40, 40)
    for index in range(300):
        change = draw_change(sample_rng(1, index), Augment(erase=1.0), 50, 400)
        video = erased(torch.ones(50, 40, 40, 3), change.erased)
        gone = video[..., 0] == 0
        assert torch.equal(gone, video[..., 2] == 0) and set(video.unique().tolist()) <= {0.0, 1.0}
        frames = gone.any(2).any(1)
        lengths.append(int(frames.sum()))
        shares.append(float(gone[frames].float().mean()) if lengths[-1] else 0.0)
        where += gone
    assert max(lengths) < 10 and max(shares) < 0.2 and max(shares) > 0.15
    assert all((where.sum(others)[4:-4] > 0).all() for others in ((1, 2), (0, 2), (0, 1)))


def test_a_tube_is_erased_after_normalisation(tmp_path: Path) -> None:
    """Inside the tube the form's 0, outside the clip as it was; label, mask and rate stay."""
    (info,) = make_store(tmp_path, [80], size=20)
    tube = Tube(time=(0.25, 0.5), rows=(0.5, 0.5), columns=(0.0, 0.25))
    for form in ("centred", "diff_normalised"):
        clips = StoreClips(info, InputSpec(frames=16, size=20, video=form, extras=("skin",)))
        plain, changed = clips.clip(3, 16), clips.clip(3, 16, Change(erased=tube))
        assert not changed.video[4:12, 10:, :5].any()
        expected = plain.video.clone()
        expected[4:12, 10:, :5] = 0
        assert torch.equal(changed.video, expected) and torch.equal(changed.pulse, plain.pulse)
        assert torch.equal(changed.extras["skin"], plain.extras["skin"])


def test_new_augmentations_are_functions_of_the_place(tmp_path: Path) -> None:
    """The same epoch twice is the same bits with tube and tempo, another epoch is not."""
    infos = make_store(tmp_path, [200, 150], rate_bpm=60.0)
    spec = InputSpec(frames=24, size=12)

    def batches(epoch: int) -> list[ClipBatch]:
        augment = Augment(tempo=0.5, erase=0.5, flip=0.5)
        return list(ClipLoader(infos, spec, batch=4, seed=7, augment=augment).epoch(epoch))

    assert all_same(batches(1), batches(1)) and not all_same(batches(1), batches(2))


def test_older_augmentations_draw_what_they_drew() -> None:
    """Flip and speed of a seed do not depend on whether tube and tempo are there to be drawn."""
    old = Augment(flip=0.5, speed=0.7)
    for index in range(50):
        first = draw_change(sample_rng(index), old, 32, 400)
        rng = sample_rng(index)
        flip, fast, speed = rng.random(), rng.random(), rng.uniform(0.6, 1.8)
        assert first == Change(float(speed) if fast < 0.7 else 1.0, bool(flip < 0.5))
        second = draw_change(sample_rng(index), old.model_copy(update={"erase": 1.0}), 32, 400)
        assert dataclasses.replace(second, erased=None) == first and second.erased is not None
    assert Change() == transforms.UNCHANGED
