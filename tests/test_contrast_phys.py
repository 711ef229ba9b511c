"""Contrast-Phys: its loss against a literal one, labels given in part or not at all, runs without any."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nets
from commands.building import trained_method
from commands.learning import learn
from dataset.labels import without_label
from dataset.loader import ClipLoader
from dataset.reader import StoreClips
from dataset.split import Part, Parts
from evaluation.infer import drawn_loss, infer
from evaluation.quality import mean_irrelevant_power
from evaluation.report.files import read_curves
from evaluation.signal_metrics import irrelevant_power_ratio
from losses import contrast
from nets import methods
from nets.methods.base import upright
from preprocessing.synthetic.subjects import make_subjects
from tests.fakes import FPS, FakeClips, FakeUpdater, clip_batch, make_adam, pulse_wave
from tests.stores import make_store, same
from tests.training_toys import NoisyClips, assert_same_bits, settings, train
from training.checkpoint import read_checkpoint
from utils.config import validate
from utils.contracts import ClipBatch, InputSpec
from utils.errors import Interrupted, UserError
from utils.files import natural_key
from utils.runlog import RunLog
from utils.settings import Augment


def learner(frames: int = 64, **options: Any) -> methods.Method:
    torch.manual_seed(0)
    net = nets.build("contrast_phys", width=4)
    net.input_spec = net.input_spec.replace(frames=frames, size=16)  # type: ignore[operator, union-attr]
    return methods.build("contrast_phys", net, **options)


def rates(n: int, fps: float = 30.0) -> Tensor:
    return torch.full((n,), fps)


# Spectra


def test_canonical_windows_have_seventeen_frequencies() -> None:
    """150 samples at 30 fps are compared at 17 bins, 48 to 240 bpm."""
    grid = contrast.band_grid(150, rates(2))
    assert len(grid) == 17
    assert (60 * grid[[0, -1]]).tolist() == pytest.approx([48.0, 240.0])


@pytest.mark.parametrize(("length", "fps"), [(150, 30.0), (150, 29.97), (75, 25.0), (149, 30.0), (300, 61.3)])
def test_spectra_are_those_of_the_fourier_transform(length: int, fps: float) -> None:
    """At one frame rate: bins of the FFT within 40 to 250 bpm, mean-free, summing to 1."""
    windows = torch.randn(2, 3, length, generator=torch.Generator().manual_seed(1)) + 5
    grid = contrast.band_grid(length, rates(2, fps))
    power = np.abs(np.fft.rfft((windows - windows.mean(-1, keepdim=True)).double().numpy())) ** 2
    bpm = 60 * np.fft.rfftfreq(length, 1 / float(rates(1, fps)))
    power = power[..., (bpm >= 40) & (bpm <= 250)]
    made = contrast.spectra(windows, rates(2, fps), grid)
    assert made.dtype == torch.float32 and made.shape == power.shape
    np.testing.assert_allclose(made, power / power.sum(-1, keepdims=True), atol=1e-5)


def test_frame_rates_meet_at_the_same_frequencies() -> None:
    """One pulse filmed at 30 and at 60 fps has its peak at one place, not at one bin number."""
    fps = torch.tensor([30.0, 60.0])
    grid = contrast.band_grid(240, fps)
    waves = torch.stack([(2 * math.pi * 1.5 * torch.arange(240) / rate).sin() for rate in fps])[:, None]
    psd = contrast.spectra(waves, fps, grid)
    assert grid[psd.argmax(-1)].flatten().tolist() == [1.5, 1.5]
    assert float(grid.max()) <= 250 / 60 and float(grid.min()) >= 40 / 60


def test_flat_windows_have_an_empty_spectrum_and_a_finite_gradient() -> None:
    """A constant signal is at no frequency: zeros, and no NaN on the way back."""
    flat = torch.full((1, 1, 60), 3.0, requires_grad=True)
    psd = contrast.spectra(flat, rates(1), contrast.band_grid(60, rates(1)))
    psd.square().sum().backward()
    assert not psd.any() and flat.grad is not None and flat.grad.isfinite().all()


def test_windows_too_short_for_the_band_are_refused() -> None:
    """A window in which fewer than two frequencies can be told ends in a message that names the setting."""
    with pytest.raises(ValueError, match="net.input.frames"):
        contrast.band_grid(10, rates(2))


def test_windows_are_pieces_of_their_row() -> None:
    """Each window is a stretch of its own row; every start that fits occurs; the generator decides."""
    rows = torch.arange(2 * 3 * 12.0).view(2, 3, 12)
    torch.manual_seed(0)
    made = contrast.sample_windows(rows, 9, 50)
    assert made.shape == (2, 150, 9) and (made.diff(dim=-1) == 1).all()
    starts = made[..., 0].view(2, 3, 50) - rows[..., :1]
    assert set(starts.flatten().tolist()) == {0, 1, 2, 3}
    torch.manual_seed(0)
    assert torch.equal(made, contrast.sample_windows(rows, 9, 50))
    assert torch.equal(contrast.sample_windows(rows, 12, 2)[:, ::2], rows)


# Distances


def literal(psd: Tensor) -> tuple[float, float]:
    """Positive and negative distance by loops over clips and windows."""
    near, far = [], []
    for a in range(len(psd)):
        pairs = [float((psd[a, i] - psd[a, j]).square().mean())
                 for i in range(psd.shape[1]) for j in range(psd.shape[1]) if i != j]
        near.append(sum(pairs) / len(pairs))
        far += [float((psd[a, i] - psd[b, j]).square().mean()) for b in range(a + 1, len(psd))
                for i in range(psd.shape[1]) for j in range(psd.shape[1])]
    return sum(near) / len(near), sum(far) / len(far)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_distances_are_means_over_all_pairs(n: int) -> None:
    """For two clips as in the paper, and for more: every pair of windows counts once."""
    psd = torch.rand(n, 6, 9, generator=torch.Generator().manual_seed(n))
    near, far = literal(psd)
    assert float(contrast.positive_distance(psd)) == pytest.approx(near, rel=1e-5)
    assert float(contrast.negative_distance(psd)) == pytest.approx(far, rel=1e-5)


def test_label_distances_count_labelled_clips_only() -> None:
    """Own and other labels, a mean over the labelled clips; what stands for a missing label is not read."""
    generator = torch.Generator().manual_seed(0)
    psd, labels = torch.rand(3, 4, 7, generator=generator), torch.rand(3, 2, 7, generator=generator)
    has = torch.tensor([True, False, True])

    def apart(a: int, b: int) -> float:
        return float(np.mean([float((x - y).square().mean()) for x in psd[a] for y in labels[b]]))

    own, others = contrast.label_distances(psd, labels, has)
    assert float(own) == pytest.approx((apart(0, 0) + apart(2, 2)) / 2, rel=1e-5)
    assert float(others) == pytest.approx(
        (apart(1, 0) + apart(2, 0) + apart(0, 2) + apart(1, 2)) / 4, rel=1e-5)
    none = contrast.label_distances(psd, labels, torch.zeros(3, dtype=torch.bool))
    assert [float(value) for value in none] == [0, 0]


def test_loss_is_the_signed_sum_of_its_terms() -> None:
    """positive - negative, and with labels + label_positive - label_negative."""
    plain, plus = learner().train(), learner(label_share=0.5).train()
    terms = plain.loss(clip_batch(plain.input_spec))
    assert set(terms) == {"loss", "positive", "negative"}
    assert terms["loss"].item() == pytest.approx((terms["positive"] - terms["negative"]).item(), abs=1e-7)
    terms = plus.loss(clip_batch(plus.input_spec))
    total = terms["positive"] - terms["negative"] + terms["label_positive"] - terms["label_negative"]
    assert terms["loss"].item() == pytest.approx(total.item(), abs=1e-7)


class Rows(nn.Module):
    """A net whose local signals are those of the colours of its clips."""

    task = "pulse"

    def __init__(self) -> None:
        super().__init__()
        self.input_spec = InputSpec(frames=300, size=8, video="raw")

    def st_block(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, 3, T)."""
        return video.mean((3, 4))


def test_the_loss_prefers_the_pulse() -> None:
    """Clips whose signals beat at rates of their own have a lower loss than those of one rate for all."""
    method = methods.build("contrast_phys", Rows(), label_share=1.0)
    time_s = torch.arange(300) / FPS

    def loss(*rates_hz: float, labels: tuple[float, ...] = (1.0, 1.6)) -> dict[str, Tensor]:
        torch.manual_seed(0)
        batch = clip_batch(method.input_spec.replace(frames=300, size=8))
        waves = torch.stack([(2 * math.pi * rate * time_s).sin() for rate in rates_hz])
        truth = torch.stack([(2 * math.pi * rate * time_s).sin() for rate in labels])
        video = waves[:, None, :, None, None].expand(2, 3, 300, 8, 8)
        return method.loss(dataclasses.replace(batch, video=video, pulse=truth))

    good, shared, swapped = loss(1.0, 1.6), loss(1.2, 1.2), loss(1.6, 1.0)
    assert good["loss"] < swapped["loss"] and good["loss"] < shared["loss"]
    assert good["label_positive"] < 1e-3 < swapped["label_positive"]
    assert good["positive"] < 1e-3 and shared["negative"] < 1e-3 < good["negative"]


def test_unlabelled_and_labelled_clips_mix() -> None:
    """A NaN label beside a known one leaves the loss and its gradients finite, and is not learnt from."""
    method = learner(label_share=0.5).train()
    batch = clip_batch(method.input_spec, n=3)
    batch.pulse[1], batch.has_label[1] = torch.nan, False
    torch.manual_seed(3)
    first = method.loss(batch)["loss"]
    first.backward()
    grads = [p.grad for p in method.parameters() if p.grad is not None]
    assert first.isfinite() and grads and all(grad.isfinite().all() for grad in grads)
    batch.pulse[1] = 7.0
    torch.manual_seed(3)
    assert torch.equal(first, method.loss(batch)["loss"])


@pytest.mark.parametrize("options", [{"label_share": 1.5}, {"windows": 1}, {"window_share": 0.0}])
def test_impossible_options_are_named(options: dict[str, Any]) -> None:
    """Shares and counts out of range are problems of the params."""
    ((key, _),) = methods.METHODS.check("contrast_phys", options)
    assert key == next(iter(options))


def test_the_released_size_is_the_default() -> None:
    """Width 64 gives the published parameters; others are cheaper, down to 2 channels."""
    assert sum(p.numel() for p in nets.build("contrast_phys").parameters()) == 858_497
    assert sum(p.numel() for p in nets.build("contrast_phys", width=8).parameters()) < 15_000
    with pytest.raises(ValueError, match="width"):
        nets.build("contrast_phys", width=1)


# Sign


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_waveforms_are_turned_with_the_skin(sign: float) -> None:
    """Whichever sign a net has learnt, its answer rises when the skin darkens."""
    pulse = pulse_wave(300)
    clips = FakeClips.of_pulse(pulse, InputSpec(frames=100, size=8, video="raw"))
    assert torch.equal(upright(sign * pulse, clips), pulse)
    clips.roi_rgb = None
    assert torch.equal(upright(sign * pulse, clips), sign * pulse)


# Labels kept back


def test_smaller_shares_read_part_of_larger_ones(tmp_path: Path) -> None:
    """Rounded shares of the labelled recordings, nested, a function of the seed, of no order."""
    (one,) = make_store(tmp_path, [40])
    infos = [dataclasses.replace(one, key=f"made.r{i}", has_label=i != 3) for i in range(11)]
    keys = {info.key for info in infos}
    read = {share: keys - without_label(infos, share, 5) for share in (0.0, 0.01, 0.3, 0.5, 0.99)}
    assert [len(part) for part in read.values()] == [0, 1, 3, 5, 10]
    assert read[0.01] < read[0.3] < read[0.5] < read[0.99] and "made.r3" not in read[0.99]
    assert without_label(infos, 1.0, 5) == frozenset()
    assert without_label(infos[::-1], 0.3, 5) == without_label(infos, 0.3, 5)
    assert len({without_label(infos, 0.3, seed) for seed in range(8)}) > 3
    with pytest.raises(UserError, match="set this share to 0"):
        without_label([infos[3]], 0.5, 0)


def loaded(infos: list, share: float, **options: Any) -> list[ClipBatch]:
    spec = InputSpec(frames=32, size=16, video="raw", target="standardised", plan="distinct")
    return list(ClipLoader(infos, spec, batch=2, seed=4, label_share=share, **options).epoch(1))


def test_kept_back_labels_reach_no_batch(tmp_path: Path) -> None:
    """Pulse and rate are NaN, has_label is False; the pictures are those of the other share."""
    infos = make_store(tmp_path, [70, 60, 50, 80], hr=np.full(3, 72.0))
    hidden = without_label(infos, 0.5, 4)
    assert len(hidden) == 2
    for part, whole in zip(loaded(infos, 0.5), loaded(infos, 1.0), strict=True):
        assert torch.equal(part.video, whole.video) and part.start == whole.start
        for i, key in enumerate(part.recording):
            kept_back = key in hidden
            assert bool(part.has_label[i]) is not kept_back
            assert bool(part.pulse[i].isnan().all()) is kept_back
            assert bool(part.hr_bpm[i].isnan()) is kept_back


def test_clips_without_labels_come_from_anywhere(tmp_path: Path) -> None:
    """A label that covers the end of a recording only does not confine a method that does not read it."""
    pulse = np.where(np.arange(200) < 140, np.nan, np.sin(np.arange(200) / 4)).astype(np.float32)
    infos = make_store(tmp_path, [200, 200], pulse=pulse)
    first = [start for share in (0.0, 1.0) for start in [min(
        start for batch in loaded(infos, share, clips_per_recording=40) for start in batch.start)]]
    assert first[0] < 40 and first[1] >= 140


def test_recordings_without_labels_give_the_same_batches(tmp_path: Path) -> None:
    """What was never labelled and what is kept back cannot be told apart."""
    labelled = make_store(tmp_path / "a", [70, 60, 50])
    bare = wiped(make_store(tmp_path / "b", [70, 60, 50]))
    pairs = zip(loaded(labelled, 0.0), loaded(bare, 0.0), strict=True)
    assert all(same(first, second) for first, second in pairs)


def wiped(infos: list) -> list:
    """The same recordings, of which nobody ever took a label."""
    for info in infos:
        with h5py.File(info.path, "r+") as file:
            file["pulse"][...] = np.nan
    return [dataclasses.replace(info, has_label=False, hr_mean_bpm=None) for info in infos]


def test_tempo_by_rates_is_refused_without_labels(tmp_path: Path) -> None:
    """An augmentation that goes by the labels' rates would let them in."""
    infos = make_store(tmp_path, [70, 60])
    with pytest.raises(UserError, match="data.augment.tempo"):
        loaded(infos, 0.0, augment=Augment(tempo=0.5))


def claims() -> list[tuple[str, str]]:
    """Every method that says it reads no labels, with a net it takes."""
    from tests.test_methods import TRAINED

    return [(m, n) for m, n in TRAINED if methods.METHODS.get(m).label_share == 0]


@pytest.mark.parametrize(("method", "net"), claims())
def test_methods_that_claim_to_read_no_labels_do_not(method: str, net: str) -> None:
    """Labels or NaN in their place: the same weights, bit for bit."""
    from tests.test_methods import built

    def train_on(labelled: bool) -> dict[str, Tensor]:
        made = built(method, net).train()
        assert made.label_share == 0
        updater = FakeUpdater(made.optimizers(make_adam))
        for _ in range(2):
            batch = clip_batch(made.input_spec, labelled=labelled)
            if not labelled:
                batch.hr_bpm = torch.full_like(batch.hr_bpm, torch.nan)
            made.train_step(batch, updater)
        return made.state_dict()

    assert_same_bits(dict(train_on(True)), dict(train_on(False)))


# Choosing a checkpoint without labels


def test_one_bad_waveform_leaves_no_mean(tmp_path: Path) -> None:
    """An epoch with a waveform that cannot be judged is not better than others."""
    method = learner(frames=40)
    recordings = [StoreClips(info, method.input_spec) for info in make_store(tmp_path, [60, 50])]
    waves = infer({"net": method}, recordings)
    ratios = [irrelevant_power_ratio(wave.predictions["net"].astype(np.float64), wave.fps) for wave in waves]
    assert mean_irrelevant_power(waves, "net") == pytest.approx(np.mean(ratios))
    waves[1].predictions["net"][3] = np.nan  # type: ignore[index]
    assert math.isnan(mean_irrelevant_power(waves, "net"))


def test_drawn_loss_is_the_same_every_time(tmp_path: Path) -> None:
    """The windows of a validation are those of the seed, and the training's random numbers go on."""
    method = learner(frames=40).train()
    loader = ClipLoader(make_store(tmp_path, [60, 50, 70]), method.input_spec, batch=2, seed=0)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = drawn_loss(method, loader, 7)
    assert torch.equal(state, torch.get_rng_state()) and method.training
    torch.rand(5)
    assert drawn_loss(method, loader, 7) == first != drawn_loss(method, loader, 8)


def config_of(folder: Path, **changes: dict[str, Any]) -> Any:
    params: dict[str, Any] = {
        "data": {"sets": [{"name": "folder", "root": str(folder)}], "store": str(folder)},
        "net": {"name": "contrast_phys", "options": {"width": 4}, "input": {"frames": 40, "size": 16}},
        "method": {"name": "contrast_phys"},
        "train": {"epochs": 2, "batch": 2, "learning_rate": 1e-3, "monitor": "irrelevant_power_ratio"},
        "run": {"name": "r", "threads": 1, "device": "cpu"},
        "logging": {"progress": False, "summary": False, "every": 1},
    }
    for section, values in changes.items():
        params[section] = {**params.get(section, {}), **values}
    return validate(params, "params")


def run_of(root: Path, folder: Path, label: bool, **changes: dict[str, Any]) -> tuple[methods.Method, list]:
    """One training on four recordings, two of them for validation, and its log."""
    stored = make_store(root, [60, 55, 50, 70])
    infos = {info.key: info for info in (stored if label else wiped(stored))}
    keys = sorted(infos, key=natural_key)
    parts = Parts("lists", "subject", {
        "train": Part(["made/p1", "made/p2"], keys[:2]), "valid": Part(["made/p3", "made/p4"], keys[2:]),
        "test": Part(),
    })
    folder.mkdir()
    config = config_of(root, **changes)
    (folder / "params.json").write_text(json.dumps(config.model_dump(mode="json")))
    method = learn(config, folder, RunLog(folder / "log.jsonl"), infos, parts)
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return method, [json.loads(line) for line in lines]


def events(log: list, name: str) -> list:
    return [line for line in log if name in (line.get("event"), line.get("kind"), line.get("type"))]


def test_a_run_without_any_label_trains_and_chooses(tmp_path: Path) -> None:
    """No label anywhere: the loss is known, the error is not, the lowest irrelevant power is the best."""
    method, log = run_of(tmp_path / "bare", tmp_path / "run", label=False)
    metrics = [line["metrics"] for line in events(log, "validation")]
    assert len(metrics) == 2
    for one in metrics:
        assert one["mae_bpm"] is None and math.isfinite(one["loss"])
        assert 0 < one["irrelevant_power_ratio"] < 1
    assert "irrelevant_power_ratio" in read_curves(tmp_path / "run" / "log.jsonl").epochs
    lowest = min(range(2), key=lambda i: metrics[i]["irrelevant_power_ratio"])
    assert [line["best"] for line in events(log, "epoch")][lowest]
    again, _ = trained_method(tmp_path / "run")
    assert_same_bits(dict(again.state_dict()), dict(method.state_dict()))


def test_labels_in_the_store_change_nothing(tmp_path: Path) -> None:
    """Trained on labelled recordings without reading their labels: the bits of bare recordings."""
    first, log = run_of(tmp_path / "labelled", tmp_path / "one", label=True)
    assert events(log, "labels")[0]["read"] == []
    second, _ = run_of(tmp_path / "bare", tmp_path / "two", label=False)
    assert_same_bits(dict(first.state_dict()), dict(second.state_dict()))


def test_choosing_by_labels_that_are_not_there_is_refused(tmp_path: Path) -> None:
    """The message names the setting before anything is trained."""
    with pytest.raises(UserError, match=r'train.monitor = "irrelevant_power_ratio"'):
        run_of(tmp_path / "bare", tmp_path / "run", label=False, train={"monitor": "mae_bpm"})
    assert not list((tmp_path / "run" / "checkpoints").glob("*"))


def test_choosing_by_labels_stays_possible(tmp_path: Path) -> None:
    """With labelled validation recordings the error of the rate chooses, though training reads no label."""
    _, log = run_of(tmp_path / "store", tmp_path / "run", label=True, train={"monitor": "mae_bpm"},
                    evaluation={"protocol": "toolbox"})  # which scores recordings of two seconds
    assert all(math.isfinite(line["metrics"]["mae_bpm"]) for line in events(log, "validation"))
    assert events(log, "labels")[0]["read"] == []


def test_a_share_of_labels_is_told(tmp_path: Path) -> None:
    """The log names whose labels are read and whose are not."""
    _, log = run_of(tmp_path / "store", tmp_path / "run", label=True,
                    method={"options": {"label_share": 0.5}})
    (told,) = events(log, "labels")
    assert len(told["read"]) == len(told["kept_back"]) == 1 and told["share"] == 0.5
    assert all("label_positive" in line["terms"] for line in events(log, "epoch"))


# Resuming


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_resumed_training_draws_the_same_windows(share: float, tmp_path: Path, monkeypatch: Any) -> None:
    """Stopped amid an epoch or at its end, weights and random state end as if undisturbed."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    section = settings(epochs=2)
    options: dict[str, Any] = {"make": lambda _: learner(frames=40, label_share=share)}
    spec = learner(frames=40).input_spec
    train(tmp_path / "straight", section, NoisyClips(spec), **options)
    expected = read_checkpoint(tmp_path / "straight" / "last.pt")
    for after in (1, 2):
        folder = tmp_path / f"after{after}"
        with pytest.raises(Interrupted):
            train(folder, section, NoisyClips(spec, after), **options)
        train(folder, section, NoisyClips(spec), seed=99, **options)
        assert_same_bits(read_checkpoint(folder / "last.pt"), expected)


# A steady light


def test_the_synthetic_light_can_be_steadied() -> None:
    """Without flicker the people, their pulses and their motion are the same; a negative one is refused."""
    counts = {"train": 2, "valid": 0, "test": 1, "hard": 1, "control": 1}
    usual, steady = make_subjects(3, counts), make_subjects(3, counts, flicker=0.0)
    assert all(subject.flicker > 0 for subject in usual)
    assert steady == [dataclasses.replace(subject, flicker=0.0) for subject in usual]
    with pytest.raises(UserError, match="flicker = -1"):
        make_subjects(3, counts, flicker=-1.0)
