from __future__ import annotations

import json
import math
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset import reader, statistics, targets, transforms
from dataset.index import load_failed, load_infos, mean_rate_bpm
from dataset.loader import ClipLoader
from dataset.reader import StoreClips
from dataset.transforms import Change, area_resize, draw_change
from preprocessing.store import Manifest, RecordingWriter, StoredRecording
from tests.stores import FPS, make_store, manifest_line, same
from utils.contracts import InputSpec
from utils.errors import UserError
from utils.seeding import sample_rng
from utils.settings import Augment

QUICK = settings(database=None, deadline=None, max_examples=60)

@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Six recordings of different lengths, 20 px."""
    return make_store(tmp_path_factory.mktemp("store"), [70, 45, 100, 64, 33, 90], size=20)


def area_reference(video, size):
    """Exact area means: pixels repeated until they divide evenly, then means over whole pixels."""
    _, height, width, _ = video.shape
    tall, wide = math.lcm(height, size), math.lcm(width, size)
    big = video.astype(np.float64).repeat(tall // height, 1).repeat(wide // width, 2)
    return big.reshape(len(video), size, tall // size, size, wide // size, 3).mean((2, 4))


# Transforms


@QUICK
@given(st.integers(5, 48), st.integers(5, 48), st.integers(1, 48), st.integers(0, 99))
def test_area_resize_is_exact(height, width, size, seed):
    """Every output pixel is the area mean of what it covers, for any whole or fractional factor."""
    size = min(size, height, width)
    video = np.random.default_rng(seed).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    made = area_resize(torch.from_numpy(video), size)
    assert made.dtype == torch.float32
    np.testing.assert_allclose(made.numpy(), area_reference(video, size), atol=1e-3)


def test_area_resize_at_the_sizes_in_use():
    """128 to 72, 64, 36 and 8 pixels, over more frames than one block."""
    video = np.random.default_rng(0).integers(0, 256, (35, 128, 128, 3), dtype=np.uint8)
    for size in (128, 64, 36, 8):
        made = area_resize(torch.from_numpy(video), size)[::17].numpy()
        np.testing.assert_allclose(made, area_reference(video[::17], size), atol=1e-3)


def test_growing_is_linear():
    """Upscaling equals bilinear interpolation between pixel centres."""
    video = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 16, 20, 3), dtype=np.uint8))
    expected = F.interpolate(video.float().permute(0, 3, 1, 2), (36, 36), mode="bilinear").permute(0, 2, 3, 1)
    torch.testing.assert_close(area_resize(video, 36), expected, atol=1e-3, rtol=0)


def toolbox_difference(video):
    """Difference-normalised frames of a whole video as the toolbox words it."""
    n = len(video)
    made = np.zeros(video.shape)
    for j in range(n - 1):
        made[j] = (video[j + 1] - video[j]) / (video[j + 1] + video[j] + 1e-7)
    made[: n - 1] = made[: n - 1] / np.std(made[: n - 1])
    made[np.isnan(made)] = 0
    return made


def toolbox_label(label):
    made = np.diff(label, axis=0)
    return np.append(made / np.std(made), 0.0)


@pytest.mark.parametrize("size", [20, 12, 7])
def test_difference_form_equals_the_toolbox(store, size):
    """Clips equal the chunks of the whole video normalised at once, also over chunk borders."""
    info = store[2]
    stored = StoredRecording(info.path)
    video = toolbox_difference(area_reference(stored.read_frames(0, 100), size))
    label = toolbox_label(stored.array("pulse").astype(np.float64))
    clips = StoreClips(info, InputSpec(frames=25, size=size))
    for batch in clips.batches(3):
        for i, start in enumerate(batch.start):
            made = batch.video[i].permute(1, 2, 3, 0).numpy()
            np.testing.assert_allclose(made, video[start : start + 25], atol=1e-5)
            np.testing.assert_allclose(batch.pulse[i].numpy(), label[start : start + 25], atol=1e-5)


def test_standardised_form_equals_the_toolbox(store):
    """Standardised frames and labels use the mean and deviation of the whole recording."""
    info = store[0]
    stored = StoredRecording(info.path)
    video = area_reference(stored.read_frames(0, 70), 12)
    label = stored.array("pulse").astype(np.float64)
    spec = InputSpec(frames=35, size=12, video="standardised", target="standardised")
    batch = next(StoreClips(info, spec).batches(2))
    made = batch.video.permute(0, 2, 3, 4, 1).reshape(70, 12, 12, 3).numpy()
    np.testing.assert_allclose(made, (video - video.mean()) / video.std(), atol=1e-5)
    expected = (label - label.mean()) / label.std()
    np.testing.assert_allclose(batch.pulse.reshape(70).numpy(), expected, atol=1e-5)


def test_stacked_form_is_the_difference_and_the_standardised_frames(store):
    """Six channels by the whole recording's statistics, as the toolbox stacks them, over borders too."""
    info = store[2]
    video = area_reference(StoredRecording(info.path).read_frames(0, 100), 12)
    expected = np.concatenate([toolbox_difference(video), (video - video.mean()) / video.std()], axis=-1)
    clips = StoreClips(info, InputSpec(frames=25, size=12, video="diff_standardised"))
    for batch in clips.batches(3):
        assert batch.video.shape[1] == clips.spec.channels == 6
        for i, start in enumerate(batch.start):
            made = batch.video[i].permute(1, 2, 3, 0).numpy()
            np.testing.assert_allclose(made, expected[start : start + 25], atol=1e-5)


@pytest.mark.parametrize(
    ("form", "formula"),
    [("raw", lambda x: x), ("unit", lambda x: x / 255), ("centred", lambda x: (x - 127.5) / 128)],
)
def test_plain_forms(store, form, formula):
    """The forms without statistics are the pixel values under their formula; the raw label is untouched."""
    stored = StoredRecording(store[0].path)
    batch = next(StoreClips(store[0], InputSpec(frames=16, size=20, video=form, target="raw")).batches(1))
    expected = formula(stored.read_frames(0, 16).astype(np.float32))
    np.testing.assert_allclose(batch.video[0].permute(1, 2, 3, 0).numpy(), expected, atol=1e-6)
    np.testing.assert_array_equal(batch.pulse[0].numpy(), stored.array("pulse", 0, 16))


def test_still_black_video_gives_zeros():
    """A video without change, or black, becomes zeros and never NaN."""
    frames = torch.zeros(9, 4, 4, 3)
    total = transforms.StatisticsSum()
    total.add(frames)
    for form, channels in (("standardised", 3), ("diff_normalised", 3), ("diff_standardised", 6)):
        made = transforms.video_form(frames, form, 8, total.result())
        assert torch.equal(made, torch.zeros(8, 4, 4, channels))


def test_flat_label_gives_zeros_and_gaps_stay():
    """A flat label becomes zeros; NaN samples stay NaN, in the step before them too."""
    flat = torch.full((9,), 3.0)
    label = torch.tensor([1.0, 2.0, math.nan, 5.0, 4.0])
    for form in ("standardised", "diff_normalised"):
        made = targets.target_form(flat, form, 8, targets.label_statistics(flat))
        assert torch.equal(made, torch.zeros(8))
    made = targets.target_form(label, "diff_normalised", 4, targets.label_statistics(label))
    assert made.isnan().tolist() == [False, True, True, False]


def test_statistics_do_not_depend_on_blocks():
    """Streaming in pieces gives the statistics of the whole."""
    frames = torch.rand(50, 6, 6, 3, generator=torch.Generator().manual_seed(0)) * 255
    whole, pieces = transforms.StatisticsSum(), transforms.StatisticsSum()
    whole.add(frames)
    for piece in frames.split([1, 7, 30, 12]):
        pieces.add(piece)
    assert whole.result().mean == pytest.approx(float(frames.double().mean()), rel=1e-6)
    assert whole.result().std == pytest.approx(float(frames.double().std(correction=0)), rel=1e-6)
    for name in ("mean", "std", "diff_std"):
        assert getattr(pieces.result(), name) == pytest.approx(getattr(whole.result(), name), rel=1e-9)


# Augmentation


@QUICK
@given(st.floats(0.6, 1.8), st.integers(2, 40))
def test_time_is_resampled_linearly(speed, n):
    """Frames between frames are interpolated: a ramp stays a ramp at its new slope."""
    span = transforms.span_at_speed(n, speed)
    ramp = torch.arange(span, dtype=torch.float32)[:, None].expand(span, 2)
    made = transforms.resample_time(ramp, speed, n)
    torch.testing.assert_close(made[:, 1], torch.arange(n) * torch.tensor(speed), atol=1e-4, rtol=0)


def test_speed_raises_the_rate_in_label_and_frames(tmp_path):
    """At speed 1.5 the reference rate, the label's spectrum and the frames' brightness all beat 1.5 times."""
    info, = make_store(tmp_path, [600], rate_bpm=60.0, hr=np.full(21, 60.0))
    clips = StoreClips(info, InputSpec(frames=256, size=8, video="raw", target="raw"))
    clip = clips.clip(10, 256, Change(speed=1.5))
    seconds = np.arange(256) / FPS
    assert clip.hr_bpm == pytest.approx(90.0)
    assert reader.spectral_rate_bpm(clip.pulse.numpy(), seconds) == pytest.approx(90.0, abs=1.0)
    brightness = -clip.video.mean((1, 2, 3)).numpy()
    assert reader.spectral_rate_bpm(brightness, seconds) == pytest.approx(90.0, abs=1.0)
    assert np.corrcoef(brightness, clip.pulse.numpy())[0, 1] > 0.95


@pytest.mark.parametrize("speed", [0.6, 1.0, 1.37, 1.8])
def test_label_and_frames_stay_in_step(tmp_path, speed):
    """A video that shows its own label differs from it nowhere, at any speed and in any form."""
    n = 60
    level = np.random.default_rng(0).integers(20, 230, n)
    folder = tmp_path / "made"
    folder.mkdir()
    with RecordingWriter(folder / "r1.h5", 8) as writer:
        writer.append("frames", np.broadcast_to(level[:, None, None, None], (n, 8, 8, 3)).astype(np.uint8))
        writer.finish({"frame_time_s": np.arange(n) / FPS, "pulse": level}, {"fps": FPS})
    for form in ("raw", "standardised"):
        clips = StoreClips.from_file(folder / "r1.h5", InputSpec(frames=20, size=8, video=form, target=form))
        clip = clips.clip(7, 20, Change(speed=speed))
        torch.testing.assert_close(clip.video[:, 0, 0, 0], clip.pulse, atol=1e-4, rtol=1e-5)
    clips = StoreClips.from_file(folder / "r1.h5", InputSpec(frames=20, size=8))
    clip = clips.clip(7, 20, Change(speed=speed))
    assert torch.equal(clip.video[:, 0, 0, 0].sign(), clip.pulse.sign())


def test_flip_mirrors_the_picture_only(store):
    """A flipped clip is the mirror image, its mask too, with the same label."""
    clips = StoreClips(store[0], InputSpec(frames=16, size=20, video="raw", extras=("skin",)))
    plain, mirrored = clips.clip(3, 16), clips.clip(3, 16, Change(flip=True))
    assert torch.equal(mirrored.video, plain.video.flip(2))
    assert torch.equal(mirrored.extras["skin"], plain.extras["skin"].flip(-1))
    assert torch.equal(mirrored.pulse, plain.pulse)


def test_speed_is_held_to_what_the_recording_has():
    """A speed that needs more frames than there are is lowered to the highest that fits."""
    always = Augment(speed=1.0, speed_low=1.0, speed_high=5.0)
    for index in range(50):
        change = draw_change(sample_rng(0, 0, index), always, 32, 40)
        assert 1.0 <= change.speed <= 39 / 31
        assert transforms.span_at_speed(32, change.speed) <= 40


def test_augmentation_off_changes_nothing():
    """At the defaults every clip is left as it is."""
    changes = {draw_change(sample_rng(0, 0, i), Augment(), 32, 400) for i in range(50)}
    assert changes == {transforms.UNCHANGED}


# Listing the store


def test_listing_reads_only_the_manifest(tmp_path):
    """Recordings come in natural order from the manifest, though their files are not even there."""
    (tmp_path / "made").mkdir()
    manifest = Manifest(tmp_path / "made" / "manifest.json")
    for i in (10, 2, 1):
        manifest.entries[f"r{i}"] = manifest_line("made", f"p{i}", f"r{i}", 100)
    manifest.entries["r3"] = {"status": "failed", "reason": "no face", "subject": "p3"}
    manifest.write()
    infos = load_infos(tmp_path, ["made"])
    assert [info.key for info in infos] == ["made.r1", "made.r2", "made.r10"]
    assert ForkingPickler.loads(ForkingPickler.dumps(infos)) == infos
    failed, = load_failed(tmp_path, ["made"])
    assert (failed.key, failed.subject, failed.reason) == ("made.r3", "p3", "no face")
    assert mean_rate_bpm(infos) == 72.0 and mean_rate_bpm([]) is None


def test_exclusions(tmp_path):
    """Excluded recordings are left out; one that nobody knows is refused with the close name."""
    make_store(tmp_path, [40, 40])
    assert [i.recording for i in load_infos(tmp_path, ["made"], {"made": ["r1"]})] == ["r2"]
    with pytest.raises(UserError, match=r"no recording 'r12' to exclude; did you mean"):
        load_infos(tmp_path, ["made"], {"made": ["r12"]})


def test_dataset_without_manifest_is_refused(tmp_path):
    """A dataset that was never preprocessed is named, with the command to do it."""
    with pytest.raises(UserError, match=r"manifest.json: no such file; run `python main.py preprocess`"):
        load_infos(tmp_path, ["pure"])


# One recording in clips


@pytest.mark.parametrize("n", [70, 64, 33])
def test_clips_tile_the_recording(store, n):
    """Clips follow each other, cover every frame, and only the last one overlaps its neighbour."""
    clips = StoreClips(next(i for i in store if i.n_frames == n), InputSpec(frames=32, size=20, video="raw"))
    starts = [start for batch in clips.batches(2) for start in batch.start]
    assert starts == {70: [0, 32, 38], 64: [0, 32], 33: [0, 1]}[n]
    whole = StoredRecording(clips.info.path).read_frames(0, n)
    for batch in clips.batches(2):
        for i, start in enumerate(batch.start):
            made = batch.video[i].permute(1, 2, 3, 0).numpy()
            np.testing.assert_array_equal(made, whole[start : start + 32])


def test_short_recording_is_extended(store):
    """A recording shorter than a clip repeats its last frame, zero in differences, and has no label there."""
    info = next(i for i in store if i.n_frames == 33)
    raw, = StoreClips(info, InputSpec(frames=48, size=20, video="raw", target="raw")).batches(4)
    assert raw.start == [0] and raw.video.shape == (1, 3, 48, 20, 20)
    assert torch.equal(raw.video[0, :, 33:], raw.video[0, :, 32:33].expand(-1, 15, -1, -1))
    diff, = StoreClips(info, InputSpec(frames=48, size=20)).batches(4)
    assert not diff.video[0, :, 32:].any() and diff.video[0, :, 31].any()
    assert diff.pulse[0, :32].isfinite().all() and diff.pulse[0, 32:47].isnan().all()
    assert raw.pulse[0, :33].isfinite().all() and raw.pulse[0, 33:].isnan().all()
    assert not bool(raw.has_label) and not bool(diff.has_label)


def test_clips_do_not_depend_on_batch_size(store):
    """A clip has the same bits alone and among others."""
    clips = StoreClips(store[2], InputSpec(frames=16, size=12))
    alone = torch.cat([batch.video for batch in clips.batches(1)])
    assert torch.equal(alone, torch.cat([batch.video for batch in clips.batches(5)]))


def test_no_more_than_a_clip_is_read_at_once(store, monkeypatch):
    """Reading a recording through never asks for more frames than a clip and one."""
    asked = []
    plain = StoredRecording.read_frames

    def watch(self, start, stop, out=None, name="frames"):
        asked.append(stop - start)
        return plain(self, start, stop, out, name)

    monkeypatch.setattr(StoredRecording, "read_frames", watch)
    for _ in StoreClips(store[2], InputSpec(frames=40, size=12, video="unit")).batches(1):
        pass
    assert asked and max(asked) <= 41


def test_what_predict_reads(store):
    """The attributes of RecordingClips are there, with their types and shapes."""
    clips = StoreClips(store[0], InputSpec(frames=32, size=20))
    assert (clips.recording, clips.subject, clips.dataset, clips.key) == ("r1", "p1", "made", "made.r1")
    assert clips.n_frames == 70 and clips.fps == FPS and clips.region_names == ("face",)
    assert clips.time_s.shape == (70,) and clips.time_s.dtype == torch.float64
    assert clips.label.shape == (70,) and clips.label.dtype == torch.float32
    assert clips.roi_rgb is not None and clips.roi_rgb.shape == (70, 1, 3)
    assert clips.conditions == {"motion": "still"} and clips.reference_hr_bpm is None


def test_file_outside_a_manifest(store):
    """A single stored file is read by its own attributes, with the same clips."""
    spec = InputSpec(frames=32, size=20)
    alone, listed = StoreClips.from_file(store[0].path, spec), StoreClips(store[0], spec)
    assert alone.key == "made.r1" and alone.fps == FPS and alone.conditions == {"motion": "still"}
    assert all(same(a, b) for a, b in zip(alone.batches(2), listed.batches(2), strict=True))


def test_unlabelled_recording_has_nan(tmp_path):
    """Without a label the pulse is NaN, has_label is false and there is no rate."""
    info, = make_store(tmp_path, [120], label=False)
    for target in ("raw", "standardised", "diff_normalised"):
        batch = next(StoreClips(info, InputSpec(frames=100, size=16, target=target)).batches(1))
        assert batch.pulse[0, :99].isnan().all() and not batch.has_label and batch.hr_bpm.isnan().all()


def test_clip_with_a_gap_in_its_label_counts_as_unlabelled(tmp_path):
    """Where the label has a gap, the clip says so, and the other clips keep their label."""
    pulse = np.sin(np.arange(90)).astype(np.float32)
    pulse[40:44] = np.nan
    info, = make_store(tmp_path, [90], pulse=pulse)
    batch = next(StoreClips(info, InputSpec(frames=30, size=16)).batches(3))
    assert batch.has_label.tolist() == [True, False, True]
    assert batch.pulse[[0, 2]].isfinite().all()


def test_a_difference_into_a_gap_counts_as_unlabelled(tmp_path):
    """A clip whose last difference needs a sample of the gap has NaN in it and says so."""
    pulse = np.sin(np.arange(90)).astype(np.float32)
    pulse[60:] = np.nan
    info, = make_store(tmp_path, [90], pulse=pulse)
    clips = StoreClips(info, InputSpec(frames=30, size=16, target="diff_normalised"))
    assert [clips.clip(start, 30).has_label for start in (29, 30)] == [True, False]


@pytest.mark.parametrize("target", ["raw", "diff_normalised"])
@pytest.mark.parametrize("augment", [Augment(), Augment(speed=1.0)])
def test_training_clips_lie_where_the_label_is(tmp_path, target, augment):
    """A label that starts late and ends early costs its ends only: every training clip is labelled."""
    pulse = np.sin(np.arange(200)).astype(np.float32)
    pulse[:23], pulse[170:] = np.nan, np.nan
    infos = make_store(tmp_path, [200], pulse=pulse)
    loader = ClipLoader(infos, InputSpec(frames=32, size=16, target=target), batch=4, seed=1,
                        augment=augment, clips_per_recording=100)
    batches = list(loader.epoch(0))
    assert all(batch.has_label.all() and batch.pulse.isfinite().all() for batch in batches)
    starts = [start for batch in batches for start in batch.start]
    assert 23 <= min(starts) < 30 and max(starts) > 100


def test_rate_of_a_clip_is_the_devices(tmp_path):
    """The mean of the device's samples inside the clip, and their mean over the recording; 0 is no rate."""
    info, = make_store(tmp_path, [150], hr=[60, 64, 0, 80, 84])
    clips = StoreClips(info, InputSpec(frames=60, size=16))
    assert clips.clip(0, 60).hr_bpm == pytest.approx(62.0)
    assert clips.clip(90, 60).hr_bpm == pytest.approx(82.0)
    assert clips.reference_hr_bpm == pytest.approx(72.0)


def test_meters_over_time_reach_the_reader(tmp_path):
    """Usable device rates and the respiration come with their times; impossible rates do not; else None."""
    resp = {"resp": np.arange(20, dtype=np.float32), "resp_time_s": np.arange(20) / 4}
    info, = make_store(tmp_path / "with", [150], hr=[60, 64, 0, 500, 84], **resp)
    clips = StoreClips(info, InputSpec(frames=60, size=16))
    assert [series.tolist() for series in clips.device_rate] == [[60, 64, 84], [0, 1, 4]]
    assert [series.tolist() for series in clips.respiration] == [list(range(20)), [i / 4 for i in range(20)]]
    other, = make_store(tmp_path / "without", [150])
    clips = StoreClips(other, InputSpec(frames=60, size=16))
    assert clips.device_rate is None and clips.respiration is None


def test_rate_of_a_clip_without_a_device_is_the_labels(tmp_path):
    """Without a device the strongest peak of the label is taken; two seconds are too short for it."""
    info, = make_store(tmp_path, [300], rate_bpm=83.0)
    clips = StoreClips(info, InputSpec(frames=150, size=16))
    assert clips.clip(20, 150).hr_bpm == pytest.approx(83.0, abs=1.0)
    assert clips.clip(20, 150, Change(speed=1.5)).hr_bpm == pytest.approx(124.5, abs=1.5)
    assert math.isnan(clips.clip(20, 60).hr_bpm)


def test_extras(tmp_path):
    """Further arrays come at the clip's frames; one that is not stored is refused by name."""
    info, = make_store(tmp_path, [60])
    spec = InputSpec(frames=20, size=16, extras=("roi_rgb",))
    batch = next(StoreClips(info, spec).batches(3))
    assert batch.extras["roi_rgb"].shape == (3, 20, 1, 3)
    expected = StoredRecording(info.path).array("roi_rgb", 20, 40)
    np.testing.assert_array_equal(batch.extras["roi_rgb"][1], expected)
    with pytest.raises(UserError, match="'nose', which is not stored"):
        StoreClips(info, spec.replace(extras=("nose",))).clip(0, 20)


# Statistics kept beside the store


@pytest.fixture
def fresh():
    """Each test, and each simulated restart, forgets what the process knew."""
    statistics.beside.cache_clear()
    yield statistics.beside.cache_clear
    statistics.beside.cache_clear()


def refuse(*given):
    raise AssertionError("measured again")


def test_statistics_are_kept_for_the_next_start(tmp_path, fresh, monkeypatch):
    """After a restart the statistics come from the file, with the same bits in the clips."""
    info, = make_store(tmp_path, [60])
    spec = InputSpec(frames=30, size=12)
    first = list(StoreClips(info, spec).batches(2))
    fresh()
    monkeypatch.setattr(statistics, "measure", refuse)
    again = list(StoreClips(info, spec).batches(2))
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    with pytest.raises(AssertionError, match="measured again"):
        StoreClips(info, spec.replace(size=11)).clip(0, 30)


@pytest.mark.parametrize("content", [
    "not json", "[]", '{"version": 1, "statistics": {"x": {"12": {"mean": -1}}}}', '{"version": 99}'])
def test_damaged_statistics_cost_only_time(tmp_path, fresh, content):
    """A damaged or foreign statistics file is measured anew and replaced."""
    info, = make_store(tmp_path, [60])
    spec = InputSpec(frames=30, size=12)
    expected = StoreClips(info, spec).clip(0, 30).video
    path = tmp_path / "made" / statistics.NAME
    path.write_text(content)
    fresh()
    assert torch.equal(StoreClips(info, spec).clip(0, 30).video, expected)
    assert info.sha256 in json.loads(path.read_text())["statistics"]


def test_read_only_store_works(tmp_path, fresh, monkeypatch):
    """Where statistics cannot be written, clips come all the same."""
    def refuse_writing(path, value):
        raise PermissionError(13, "read-only file system")

    info, = make_store(tmp_path, [60])
    monkeypatch.setattr(statistics.files, "write_json", refuse_writing)
    assert StoreClips(info, InputSpec(frames=30, size=12)).clip(0, 30).video.isfinite().all()


def test_statistics_of_several_writers_are_merged(tmp_path):
    """What another process wrote meanwhile is kept."""
    path = tmp_path / statistics.NAME
    first, second = statistics.StatisticsFile(path), statistics.StatisticsFile(path)
    figures = transforms.FrameStatistics(1.0, 2.0, 0.25)
    first.put("a", 36, figures)
    second.put("b", 36, figures)
    assert statistics.StatisticsFile(path).get("a", 36) == figures
    assert statistics.StatisticsFile(path).get("b", 36) == figures
