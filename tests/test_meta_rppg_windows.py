"""Meta-rPPG is given prepared windows, the face's contour, and episodes of consecutive windows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy import signal as ss

from dataset import contour, samplers
from dataset.loader import ClipLoader
from dataset.reader import StoreClips
from dataset.transforms import Change
from nets.layers.face_window import prepare_window
from preprocessing.regions import OVAL
from tests.meta_rppg_toys import WINDOW, learner
from tests.stores import make_store
from utils.contracts import InputSpec
from utils.errors import UserError

# Windows


def test_window_is_prepared_as_described() -> None:
    """Mean over the face removed, frame means replaced by their band-passed part, nothing outside."""
    rng = np.random.default_rng(0)
    video, fps = rng.uniform(0, 255, (2, 3, 60, 6, 6)), [30.0, 61.0]
    face = (rng.random((2, 60, 6, 6)) > 0.3).astype(float)
    found = prepare_window(*(torch.from_numpy(x) for x in (video, face)), torch.tensor(fps), 1.0, 8.0).numpy()
    for clip, channel in np.ndindex(2, 3):
        inside = face[clip] > 0
        x = (video[clip, channel] - video[clip, channel][inside].mean()) * inside
        trace = np.array([x[t][inside[t]].mean() for t in range(60)])
        b, a = ss.butter(3, [1.0, 8.0], "bandpass", fs=fps[clip])
        wanted = (x + (ss.filtfilt(b, a, trace) - trace)[:, None, None]) * inside
        np.testing.assert_allclose(found[clip, channel], wanted, atol=1e-8)


def test_a_frame_without_a_face_stays_black() -> None:
    """No pixel of a face in a frame, or in none at all, gives zeros and not NaN."""
    face = torch.ones(2, 60, 4, 4)
    face[0, 5], face[1] = 0, 0
    made = prepare_window(torch.rand(2, 3, 60, 4, 4), face, torch.tensor([30.0, 30.0]), 1.0, 8.0)
    assert made.isfinite().all() and not made[0, :, 5].any() and not made[1].any() and made[0].any()


def test_windows_are_prepared_in_full_precision() -> None:
    """Autocast does not round the trace of the frames' means."""
    video, face, fps = 255 * torch.rand(1, 3, 60, 4, 4), torch.ones(1, 60, 4, 4), torch.tensor([30.0])
    with torch.autocast("cpu", torch.bfloat16):
        mixed = prepare_window(video, face, fps, 1.0, 8.0)
    assert torch.equal(mixed, prepare_window(video, face, fps, 1.0, 8.0))


def test_an_empty_band_is_refused() -> None:
    """low_hz must lie below high_hz."""
    with pytest.raises(ValueError, match="below high_hz"):
        learner(low_hz=9.0)


def oval(frames: int, side: int) -> np.ndarray:
    """Landmarks whose outline is a circle in the left half of the crop: (T, 468, 2)."""
    points = np.full((frames, 468, 2), side / 2.0)
    angle = np.linspace(0, 2 * np.pi, len(OVAL), endpoint=False)
    points[:, list(OVAL)] = np.stack([0.3 + 0.2 * np.cos(angle), 0.5 + 0.2 * np.sin(angle)], 1) * side
    return points


def test_contour_is_the_oval_at_any_size() -> None:
    """The area inside is that of the outline; without landmarks it is the nearest frame's, or all."""
    points = oval(4, 128)
    points[1:3] = np.nan
    for size in (32, 64, 128):
        made = contour.masks(points, 128, size)
        assert made.mean() == pytest.approx(np.pi * 0.04, rel=0.2) and (made == made[0]).all()
    assert contour.masks(np.full((3, 468, 2), np.nan), 128, 16).all()


def test_contour_turns_with_the_picture(tmp_path: Path) -> None:
    """A clip brings the mask at its own size; a mirrored clip brings it mirrored."""
    (info,) = make_store(tmp_path, [30], size=20)
    spec = InputSpec(frames=16, size=10, video="raw", extras=("contour",))
    with pytest.raises(UserError, match="'landmarks', which is not stored"):
        StoreClips(info, spec).clip(0, 16)
    clips = StoreClips(info, spec)
    clips._stored = _With(clips._stored, oval(30, 20))
    plain, turned = (clips.clip(3, 16, Change(flip=flip)).extras["contour"] for flip in (False, True))
    assert plain.shape == (16, 10, 10) and plain[:, :, :5].sum() > plain[:, :, 5:].sum()
    assert torch.equal(turned, plain.flip(-1))


class _With:
    """A stored recording and landmarks beside it."""

    def __init__(self, stored: Any, landmarks: np.ndarray) -> None:
        self._stored, self._landmarks = stored, landmarks

    def __contains__(self, name: str) -> bool:
        return name == "landmarks" or name in self._stored

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stored, name)

    def array(self, name: str, *span: int) -> np.ndarray:
        return self._landmarks[slice(*span)] if name == "landmarks" else self._stored.array(name, *span)


# Episodes


LENGTHS = st.lists(st.integers(48, 300), min_size=1, max_size=9)


@hypothesis_settings(max_examples=60, deadline=None)
@given(LENGTHS, st.integers(1, 5), st.one_of(st.none(), st.integers(1, 40)),
       st.one_of(st.none(), st.integers(1, 4)), st.integers(0, 99), st.integers(0, 9))
def test_episodes_are_sequential_and_disjoint(
    lengths: list[int], batch: int, step: int | None, share: int | None, seed: int, epoch: int
) -> None:
    """Different recordings from one start each time; starts go on by the step; no windows overlap."""
    made = samplers.get("episodes", step)(lengths, 3 * WINDOW, batch, share, seed, epoch)
    width = min(batch, len(lengths))
    last = sorted(length - 3 * WINDOW for length in lengths)[-width]
    starts = [row[0].start for row in made]
    for row in made:
        assert len({sample.recording for sample in row}) == len(row) == width
        assert len({sample.start for sample in row}) == 1
        assert all(sample.start + 3 * WINDOW <= lengths[sample.recording] for sample in row)
        windows = [range(row[0].start + k * WINDOW, row[0].start + (k + 1) * WINDOW) for k in range(3)]
        assert all(not set(a) & set(b) for a in windows for b in windows if a is not b)
    assert [sample.index for row in made for sample in row] == list(range(width * len(made)))
    if step is not None or share is None:
        assert starts == list(range(0, last + 1, step or 1))
    else:
        assert len(starts) == math.ceil(share * len(lengths) / width) and starts == sorted(starts)


def test_loader_brings_episodes(tmp_path: Path) -> None:
    """A batch holds support and query windows of different recordings from the start of the plan."""
    infos = make_store(tmp_path, [70, 60, 64], size=20)
    spec = learner(mask=False, step=5).input_spec
    assert (spec.plan, spec.step, spec.train_frames, spec.frames) == ("episodes", 5, 48, 16)
    loader = ClipLoader(infos, spec, batch=2, seed=0)
    batches = list(loader.epoch(1))
    assert [b.start for b in batches] == [[0, 0], [5, 5], [10, 10], [15, 15]]
    assert all(b.video.shape == (2, 3, 48, 32, 32) and len(set(b.recording)) == 2 for b in batches)


def test_a_step_for_a_plan_without_order_is_refused() -> None:
    """No silent change of a plan that does not go by steps."""
    with pytest.raises(UserError, match="at least 1"):
        samplers.get("episodes", 0)([100], 48, 1, None, 0, 0)
