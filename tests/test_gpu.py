"""What only a GPU can show; skipped without one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import nets
from dataset.frames import Frames
from dataset.loader import ClipLoader
from nets import methods
from tests.fakes import FakeClips, clip_batch, pulse_wave
from tests.stores import make_store
from training.updater import Updater
from utils.contracts import InputSpec
from utils.seeding import seed_everything
from utils.settings import Augment, Train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
LEARNT = nets.names(task="pulse")


def trained(name: str, amp: str, steps: int = 4) -> list[float]:
    """Losses of a few steps on the GPU from a fixed seed."""
    seed_everything(0)
    net = nets.build(name)
    net.input_spec = net.input_spec.replace(frames=32, size=32)
    method = methods.build("supervised", net).to("cuda")
    settings = Train.model_validate({"amp": amp, "learning_rate": 1e-3})
    updater = Updater(method, settings, "cuda", total_steps=steps, steps_per_epoch=steps)
    losses = []
    for step in range(steps):
        batch = clip_batch(method.input_spec, n=2).to("cuda")
        with updater.autocast():
            terms = method.train_step(batch, updater)
        updater.finish_batch(last=step == steps - 1)
        losses.append(float(terms["loss"]))
    return losses


@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
@pytest.mark.parametrize("name", LEARNT)
def test_training_repeats_to_the_bit(name: str, amp: str) -> None:
    """Deterministic mode accepts the backward pass, and two trainings give the same losses."""
    first = trained(name, amp)
    assert first == trained(name, amp)
    assert all(loss == loss for loss in first)


@pytest.mark.parametrize("name", LEARNT)
def test_prediction_is_that_of_the_cpu(name: str) -> None:
    """The waveform of the GPU is the CPU's up to rounding, and predict leaves the state alone."""
    seed_everything(0)
    net = nets.build(name)
    net.input_spec = net.input_spec.replace(frames=32, size=32)
    method = methods.build("supervised", net).eval()
    clips = FakeClips.of_pulse(pulse_wave(80), method.input_spec)
    here = method.predict(clips)
    there = method.to("cuda").predict(clips)
    correlation = torch.corrcoef(torch.stack([here, there]))[0, 1]
    assert there.device.type == "cpu" and correlation > 0.999


def test_checkpoints_of_a_gpu_load_on_a_cpu(tmp_path: Path) -> None:
    """Weights saved on the GPU are read without one."""
    from nets.weights import load_weights

    torch.save(nets.build("physnet").to("cuda").state_dict(), tmp_path / "w.pt")
    load_weights(nets.build("physnet"), tmp_path / "w.pt")


def test_kept_clips_are_those_read_from_the_store(tmp_path: Path) -> None:
    """Batches of frames that the GPU keeps are those of frames it gets from the store, and a CPU's nearly."""
    infos = make_store(tmp_path, [64, 50], size=20)
    spec, options = InputSpec(frames=24, size=12), {"batch": 2, "seed": 3, "augment": Augment(speed=0.5)}
    kept, read, cpu = (
        list(ClipLoader(infos, spec, frames=frames, **options).epoch(0))
        for frames in (Frames("cuda", keep=True), Frames("cuda"), Frames())
    )
    for one, other, plain in zip(kept, read, cpu, strict=True):
        assert one.video.is_cuda and torch.equal(one.video, other.video)
        torch.testing.assert_close(one.video.cpu(), plain.video, atol=1e-4, rtol=1e-4)
