"""What only a GPU can show; skipped without one. PhysNet takes the same tests on a CPU, to try them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import nets
from benchmarks.training_step import fitting, small_net, small_spec, trainable
from dataset.frames import Frames
from dataset.loader import ClipLoader
from nets import methods
from nets.methods.base import Method
from nets.summary import model_summary
from tests.fakes import FakeClips, clip_batch, pulse_wave
from tests.stores import make_store
from training.checkpoint import Checkpoints
from training.fit import fit
from training.updater import Updater
from utils.contracts import InputSpec
from utils.errors import Interrupted
from utils.runlog import RunLog
from utils.seeding import seed_everything
from utils.settings import Augment, Train

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
STEPS = 10
"""fp16 needs some to find its scale."""


def cases(*names: str) -> list[Any]:
    """PhysNet on a CPU, and all of these on a GPU."""
    return [("cpu", "physnet"), *(pytest.param("cuda", name, marks=GPU) for name in names)]


def built(name: str) -> Method:
    """A small net with the first method it can be trained by."""
    seed_everything(0)
    net = small_net(name)
    net.input_spec = net.input_spec.replace(**small_spec(name))
    return methods.build(fitting(name, net)[0], net)


def trained(device: str, name: str, amp: str) -> tuple[list[float], dict[str, Tensor], dict[str, Tensor]]:
    """Losses of some steps from a fixed seed, and the weights before and after them."""
    method = built(name)
    before = {key: value.detach().clone() for key, value in method.named_parameters()}
    settings = Train.model_validate({"amp": amp, "learning_rate": 1e-3, "scheduler": "constant"})
    updater = Updater(method.train(), settings, device, total_steps=STEPS, steps_per_epoch=STEPS)
    losses = []
    for step in range(STEPS):
        batch = clip_batch(method.input_spec, n=4).to(device)
        with updater.autocast():
            terms = method.train_step(batch, updater)
        updater.finish_batch(last=step == STEPS - 1)
        losses.append(float(terms["loss"].detach()))
    return losses, before, {key: value.detach().cpu() for key, value in method.named_parameters()}


@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
@pytest.mark.parametrize(("device", "name"), cases(*trainable()))
def test_training_repeats_to_the_bit(device: str, name: str, amp: str) -> None:
    """Deterministic mode accepts every method's steps, they change weights, two trainings are the same."""
    if amp == "fp16" and (device == "cpu" or built(name).reads_gradients):
        pytest.skip("not with fp16")
    losses, before, after = trained(device, name, amp)
    assert all(loss == loss for loss in losses)
    assert any(not torch.equal(before[key], after[key]) for key in before)
    again, _, weights = trained(device, name, amp)
    assert losses == again
    assert all(torch.equal(after[key], weights[key]) for key in after)


@pytest.mark.parametrize(("device", "name"), cases(*nets.names(task="pulse")))
def test_prediction_is_that_of_the_cpu(device: str, name: str) -> None:
    """The waveform of the GPU is the CPU's up to rounding: float32 is not cut to TF32."""
    method = built(name).eval()
    clips = FakeClips.of_pulse(pulse_wave(160), method.input_spec)
    here = method.predict(clips)
    there = method.to(device).predict(clips)
    correlation = torch.corrcoef(torch.stack([here, there]))[0, 1]
    assert there.device.type == "cpu" and correlation > 0.999


@pytest.mark.parametrize(("device", "name"), cases(*trainable()))
def test_summary_is_that_of_the_cpu(device: str, name: str) -> None:
    """Layers and operations do not depend on where the net is."""
    method = built(name)
    here = model_summary(method.net, method.input_spec)
    assert model_summary(method.to(device).net, method.input_spec) == here


@GPU
def test_checkpoints_of_a_gpu_load_on_a_cpu(tmp_path: Path) -> None:
    """Weights saved on the GPU are read without one."""
    from nets.weights import load_weights

    torch.save(nets.build("physnet").to("cuda").state_dict(), tmp_path / "w.pt")
    load_weights(nets.build("physnet"), tmp_path / "w.pt")


@GPU
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


class Cut:
    """A loader whose run is interrupted before a batch of the first epoch."""

    def __init__(self, loader: ClipLoader, before: int) -> None:
        self.loader, self.before = loader, before

    def __len__(self) -> int:
        return len(self.loader)

    def epoch(self, epoch: int, first_step: int = 0) -> Any:
        for step, batch in enumerate(self.loader.epoch(epoch, first_step), first_step):
            if (epoch, step) == (0, self.before):
                raise Interrupted(143)
            yield batch


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=GPU)])
@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_a_run_is_the_same_from_any_place_and_after_any_stop(device: str, amp: str, tmp_path: Path) -> None:
    """Losses of the loop: frames kept or read, clips made ahead or not, stopped in the middle or not."""
    infos = make_store(tmp_path, [100, 90, 80], size=20)
    section = Train.model_validate({"amp": amp, "epochs": 2, "batch": 2, "scheduler": "constant"})

    def run(name: str, keep: bool, cut: int | None = None) -> list[float]:
        seed_everything(0)
        net = nets.build("physnet")
        net.input_spec = InputSpec(frames=32, size=16)
        method = methods.build("supervised", net)
        loader = ClipLoader(infos, net.input_spec, batch=2, seed=3, augment=Augment(speed=0.5),
                            frames=Frames(device, keep=keep), pin=device == "cuda")
        updater = Updater(method, section, device, total_steps=2 * len(loader), steps_per_epoch=len(loader))
        result = fit(method, updater, loader if cut is None else Cut(loader, cut), settings=section,
                     device=device, checkpoints=Checkpoints(tmp_path / name, {}), log=RunLog(None),
                     progress=False)
        return result.step_losses

    whole = run("whole", keep=True)
    assert len(whole) > 2 and run("read", keep=False) == whole
    with pytest.raises(Interrupted):
        run("stopped", keep=True, cut=2)
    assert run("stopped", keep=True) == whole
