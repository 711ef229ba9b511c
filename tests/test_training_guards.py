"""What is not finite stops the training with its cause, or is skipped and counted, and is never saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nets.methods.base import Method
from tests.training_toys import Batches, Plain, Spoiled, TinyNet, assert_same_bits, settings, train
from training.checkpoint import read_checkpoint
from training.updater import NonFinite
from utils.contracts import ClipBatch
from utils.errors import Stopped


def test_a_nan_in_a_clip_stops_before_any_step_and_names_it(tmp_path: Path) -> None:
    """The weights are those before the batch, the message names recordings and the guilty clip."""
    method = Plain(TinyNet())
    with pytest.raises(NonFinite, match=r"loss is not finite at epoch 2 step 2.*toy\.e1b1c0 from frame 0, "
                       r"toy\.e1b1c1 from frame 10 \(its data is not finite\)") as caught:
        train(tmp_path / "c", settings(checkpoint_steps=1), Spoiled([(1, 1)]), method=method)
    saved = read_checkpoint(tmp_path / "c" / "last.pt")
    assert saved["position"]["steps"] == 5
    assert caught.value.exit_code == 4
    for name, parameter in method.named_parameters():
        assert torch.equal(parameter, saved["method"][name])


class InfiniteGradient(Method):
    """A finite loss whose gradient is infinite."""

    def loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        loss = self.net(batch.video).square().mean() + (self.net.last.bias - self.net.last.bias).sqrt().sum()
        return {"loss": loss}


def test_an_infinite_gradient_of_a_finite_loss_is_caught() -> None:
    """The guard looks at the gradient too, and names the parameter."""
    with pytest.raises(NonFinite, match=r"gradient of net\.last\.bias"):
        train(None, settings(), make=InfiniteGradient)


class BadTerm(Plain):
    """A term that is only logged is NaN."""

    def loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        return {**super().loss(batch), "smoothness": torch.tensor(torch.nan)}


def test_a_logged_term_that_is_not_finite_is_named() -> None:
    """A NaN in a term beside the loss stops the run with the name of the term."""
    with pytest.raises(NonFinite, match="smoothness"):
        train(None, settings(), make=BadTerm)


class BlownUp(Plain):
    """The weights overflow in the last step of the first epoch."""

    def train_step(self, batch: ClipBatch, updater: Any) -> dict[str, Tensor]:
        terms = super().train_step(batch, updater)
        if batch.recording[0].startswith("toy.e0b3"):
            self.net.last.weight.data.fill_(torch.inf)
        return terms


def test_blown_up_weights_are_not_saved(tmp_path: Path) -> None:
    """A checkpoint never holds weights that are not finite."""
    with pytest.raises(NonFinite, match=r"net\.last\.weight"):
        train(tmp_path / "c", settings(), make=BlownUp)
    weights = read_checkpoint(tmp_path / "c" / "last.pt")["method"]
    assert all(bool(torch.isfinite(v).all()) for v in weights.values())


@pytest.mark.parametrize("accumulate", [1, 2])
def test_skipping_counts_and_leaves_weights_and_statistics_alone(accumulate: int, tmp_path: Path) -> None:
    """A batch with NaN changes neither weights nor running statistics; the run goes on."""
    section = settings(non_finite="skip", accumulate=accumulate, epochs=2)
    result, method = train(tmp_path / "c", section, Spoiled([(0, 1), (1, 0)]))
    assert result.skipped == 2
    assert len(result.step_losses) == 6
    assert all(bool(torch.isfinite(v).all()) for v in method.state_dict().values())


def test_too_many_skipped_batches_stop() -> None:
    """One more than max_skipped ends the run."""
    section = settings(non_finite="skip", max_skipped=1)
    with pytest.raises(NonFinite, match="max_skipped = 1"):
        train(None, section, Spoiled([(0, 1), (0, 2)]))


def test_a_skipped_batch_is_as_if_it_had_not_been(tmp_path: Path) -> None:
    """Without dropout and with a constant rate, skipping the last batch equals a shorter epoch."""
    section = settings(non_finite="skip", scheduler="constant", epochs=1)
    torch.manual_seed(5)
    first, second = Plain(TinyNet(dropout=0.0)), Plain(TinyNet(dropout=0.0))
    second.load_state_dict(first.state_dict())
    train(None, section, Spoiled([(0, 3)]), method=first)
    train(None, section, Batches(steps=3), method=second)
    assert_same_bits(dict(first.state_dict()), dict(second.state_dict()))


def test_running_out_of_memory_says_what_to_change() -> None:
    """Every way of running out of memory ends in a named stop with advice."""
    errors = [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"),
              RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
              RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
              RuntimeError("CUDA error: out of memory")]
    for error in errors:

        class Hungry(Plain):
            def loss(self, batch: ClipBatch, error: Exception = error) -> dict[str, Tensor]:
                raise error

        with pytest.raises(Stopped, match=r"epoch 1 step 1, 2 clips of 3x6x6x6.*train\.batch.*data\.keep"):
            train(None, settings(), make=Hungry)


def test_other_faults_pass_unchanged() -> None:
    """A fault of a method is not dressed up."""

    class Broken(Plain):
        def loss(self, batch: ClipBatch) -> dict[str, Tensor]:
            raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        train(None, settings(), make=Broken)
