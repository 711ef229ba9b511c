from __future__ import annotations

import json
import math
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset import reader, samplers, statistics, targets, transforms
from dataset.index import load_failed, load_infos, mean_rate_bpm
from dataset.loader import ClipLoader
from dataset.reader import StoreClips
from dataset.transforms import Change, area_resize, draw_change
from preprocessing.store import Manifest, RecordingWriter, StoredRecording
from utils.contracts import InputSpec
from utils.errors import UserError
from utils.seeding import sample_rng
from utils.settings import Augment

QUICK = settings(database=None, deadline=None, max_examples=60)
FPS = 30.0


def write_recording(path, n, size=16, rate_bpm=72.0, seed=0, label=True, hr=None, **arrays):
    """One stored recording: a patch whose brightness beats at `rate_bpm`, with noise."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(n) / FPS + 0.004 * rng.random(n)
    pulse = np.sin(2 * np.pi * rate_bpm / 60 * time_s) if label else np.full(n, np.nan)
    frames = 120 - 8 * np.nan_to_num(pulse)[:, None, None, None] + rng.normal(0, 20, (n, size, size, 3))
    content = {"frame_time_s": time_s, "pulse": pulse.astype(np.float32),
               "roi_rgb": frames.mean((1, 2))[:, None].astype(np.float32), **arrays}
    if hr is not None:
        content |= {"hr_bpm": np.asarray(hr, np.float32), "hr_time_s": np.arange(len(hr), dtype=np.float64)}
    with RecordingWriter(path, size) as writer:
        writer.append("frames", frames.clip(0, 255).astype(np.uint8))
        writer.append("skin", rng.integers(0, 2, (n, 64, 64), dtype=np.uint8))
        told = {"fps": FPS, "region_names": ["face"], "dataset": path.parent.name, "subject": path.stem,
                "recording": path.stem, "condition.motion": "still"}
        return writer.finish(content, told)


def manifest_line(dataset, subject, recording, n, sha256="", size=16, n_bytes=0, has_label=True):
    return {"status": "done", "subject": subject, "dataset": dataset, "conditions": {"motion": "still"},
            "n_frames": n, "fps": FPS, "duration_s": n / FPS, "size": size, "label_kind": "ppg",
            "has_label": has_label, "hr_mean_bpm": 72.0 if has_label else None, "face_found_share": 1.0,
            "warnings": [], "file": f"{recording}.h5", "bytes": n_bytes, "sha256": sha256, "settings": {},
            "settings_hash": "", "identity": {}, "schema": 1}


def make_store(root, lengths, dataset="made", **options):
    """A store of one dataset with recordings r1, r2, ... of the given lengths."""
    folder = Path(root) / dataset
    folder.mkdir(parents=True)
    manifest = Manifest(folder / "manifest.json")
    for i, n in enumerate(lengths, 1):
        n_bytes, sha256 = write_recording(folder / f"r{i}.h5", n, seed=i, **options)
        told = {"size": options.get("size", 16), "has_label": options.get("label", True)}
        told["n_bytes"] = n_bytes
        manifest.entries[f"r{i}"] = manifest_line(dataset, f"p{i}", f"r{i}", n, sha256, **told)
    manifest.write()
    return load_infos(root, [dataset])


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Six recordings of different lengths, 20 px."""
    return make_store(tmp_path_factory.mktemp("store"), [70, 45, 100, 64, 33, 90], size=20)


def same(first, second):
    """Whether two batches are equal bit for bit, NaN equal to NaN."""
    if (first.start, first.recording) != (second.start, second.recording):
        return False
    names = ("video", "pulse", "has_label", "fps", "hr_bpm")
    pairs = [(getattr(first, name).float(), getattr(second, name).float()) for name in names]
    return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)


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
    """A recording shorter than a clip repeats its last frame, which in differences is zero."""
    info = next(i for i in store if i.n_frames == 33)
    raw, = StoreClips(info, InputSpec(frames=48, size=20, video="raw", target="raw")).batches(4)
    assert raw.start == [0] and raw.video.shape == (1, 3, 48, 20, 20)
    assert torch.equal(raw.video[0, :, 33:], raw.video[0, :, 32:33].expand(-1, 15, -1, -1))
    diff, = StoreClips(info, InputSpec(frames=48, size=20)).batches(4)
    assert not diff.video[0, :, 32:].any() and diff.video[0, :, 31].any()
    assert not diff.pulse[0, 32:].any() and bool(diff.has_label)


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


def all_same(first, second):
    return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))


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
