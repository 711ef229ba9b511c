"""Recordings shorter than what a net takes at once: nothing is made of the frames that are repeated."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dataset.reader import StoreClips
from evaluation.infer import infer, validation_loss
from nets.methods.base import Method
from tests.fakes import FPS, FakeClips, pulse_wave
from tests.meta_rppg_toys import BOTH, WINDOW, after_an_episode
from tests.stores import make_store
from tests.test_rhythmnet import method
from utils.contracts import ClipBatch, InputSpec
from utils.errors import UserError

CLIP, STEP = 64, 4
"""Of `tests.test_rhythmnet.method`, whose stretches have 84 frames."""


def cut(clips: FakeClips, n: int) -> FakeClips:
    """The first n frames of a recording."""
    return FakeClips(clips.video[:, :n], clips.frames)


def long(learner: Method) -> FakeClips:
    return FakeClips.of_pulse(pulse_wave(200), learner.input_spec)


@pytest.mark.parametrize("sequence", [0.0, 1.0])
@pytest.mark.parametrize(("n", "expected"), [(CLIP, 1), (70, 2), (83, 5), (84, 6)])
def test_rates_are_those_of_clips_within_the_recording(n: int, expected: int, sequence: float) -> None:
    """Rates and times of the first clips of a longer recording, and no others."""
    learner = method(sequence=sequence).eval()
    rates, times = learner.predict_rates(cut(long(learner), n))
    whole = learner.predict_rates(long(learner))
    assert len(rates) == len(times) == expected
    assert torch.equal(rates, whole[0][:expected]) and torch.equal(times, whole[1][:expected])


def test_still_clips_are_never_shown_as_rates() -> None:
    """A net that answers with the share of still frames answers 0 for a recording that moves throughout."""
    learner = method()

    def stillness(video: Tensor) -> tuple[Tensor, Tensor]:
        pieces = video.unfold(2, CLIP, STEP)
        share = (pieces.diff(dim=-1).abs().amax((1, 3, 4)) == 0).float().mean(-1)
        return share, share

    learner.net.rates = stillness  # type: ignore[assignment]
    for n in (CLIP, 70, 83, 84, 100):
        assert not learner.predict_rates(cut(long(learner), n))[0].any()


def test_a_recording_shorter_than_a_clip_is_refused_by_name() -> None:
    """With its length, what is needed and the remedy; evaluation goes on without its rates."""
    learner = method()
    clips = cut(long(learner), CLIP - 1)
    with pytest.raises(UserError, match=r"s1-a: 63 frames are fewer than the 64 .*net\.input\.frames"):
        learner.predict_rates(clips)
    there = long(learner)
    for one in (clips, there):
        one.key, one.dataset, one.conditions, one.people = "any.r1", "any", {}, ""
        one.reference_hr_bpm = one.device_rate = one.respiration = None
        one.label = pulse_wave(one.n_frames)
    found = infer({"rhythmnet": learner}, [clips, there])
    assert [len(wave.rates.get("rhythmnet", ((), ()))[0]) for wave in found] == [0, 18]


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    return all(torch.equal(value, second.get_parameter(key)) for key, value in first.named_parameters())


@BOTH
def test_less_than_a_window_adapts_nothing(make: Any) -> None:
    """The answer of a recording shorter than a window is that of the net as it is."""
    learner = after_an_episode(make, rate=0.05)
    adapted = [learner.adapted_copy(cut(long(learner), n)) for n in (WINDOW - 1, WINDOW)]
    assert [same_weights(net, learner.net) for net in adapted] == [True, False]
    assert learner.predict(cut(long(learner), WINDOW - 1)).isfinite().all()


def test_windows_of_repeated_frames_are_not_adapted_to() -> None:
    """Of two windows that are asked for, the one that the recording has is adapted to alone."""
    learner = after_an_episode(rate=0.05, support=2)
    learner.net.input_spec = learner.net.input_spec.replace(frames=2 * WINDOW)
    short, two = (learner.adapted_copy(cut(long(learner), n)) for n in (WINDOW + 5, 2 * WINDOW))
    learner.options = dataclasses.replace(learner.options, support=1)
    one = learner.adapted_copy(cut(long(learner), 2 * WINDOW))
    assert same_weights(short, one) and not same_weights(two, one)


class Counting:
    """An answer to validation that notes the clips whose loss it is asked for."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    def loss(self, batch: ClipBatch) -> dict[str, Tensor]:
        self.seen += zip(batch.recording, batch.start, strict=True)
        return {"loss": torch.tensor(1.0)}

    def predict(self, clips: Any, batch_size: int = 8) -> Tensor:
        raise AssertionError("nobody asks for it")


@pytest.mark.parametrize("target", ["raw", "standardised", "diff_normalised", "second_derivative"])
def test_validation_has_no_loss_for_what_nobody_measured(target: str, tmp_path: Path) -> None:
    """Clips that reach beyond the end do not choose the epoch; one frame too few is too few."""
    infos = make_store(tmp_path, [48, 47, 20, 50])
    spec, counting = InputSpec(frames=48, size=8, video="raw", target=target), Counting()
    assert validation_loss(counting, [StoreClips(info, spec) for info in infos]) == 1.0
    assert counting.seen == [("made.r1", 0), ("made.r4", 0), ("made.r4", 2)]
    assert math.isnan(validation_loss(counting, [StoreClips(info, spec) for info in infos[1:3]]))


def test_time_of_a_rate_is_a_time_of_the_recording() -> None:
    """The middle of a clip lies within the recording, so that it needs no bound."""
    learner = method()
    clips = cut(long(learner), CLIP)
    assert float(learner.predict_rates(clips)[1][0]) == pytest.approx(32 / FPS)
