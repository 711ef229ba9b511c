"""Each defect of a recording is flagged, copies are found among recordings, and nothing else is blamed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from commands.audit import skin_waveforms
from evaluation.audit.examine import Audited, compare, examine
from evaluation.audit.findings import Part, Signals
from evaluation.audit.twins import Fingerprint, find_twins, fingerprint
from preprocessing.times import increasing
from tests.audit_toys import SKIN, flags, put, signals


def replaced(**changes: Any) -> Callable[[Signals], Signals]:
    return lambda made: dataclasses.replace(made, **changes)


def stated(**changes: Any) -> Callable[[Signals], Signals]:
    return lambda made: dataclasses.replace(made, stated={**made.stated, **changes})


def on_label(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Signals], Signals]:
    return lambda made: dataclasses.replace(made, label=change(made.label.copy()))


def on_device(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Signals], Signals]:
    return lambda made: dataclasses.replace(made, hr_bpm=change(made.hr_bpm.copy()))


def on_times(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Signals], Signals]:
    return lambda made: dataclasses.replace(made, frame_time_s=change(made.frame_time_s.copy()))


def on_colours(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Signals], Signals]:
    return lambda made: dataclasses.replace(made, rgb=change(made.rgb.copy()))


def on_box(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Signals], Signals]:
    return lambda made: dataclasses.replace(made, box=change(made.box.copy()))


def lost(made: Signals) -> Signals:
    """One frame missing in the middle."""
    keep = np.arange(len(made.frame_time_s)) != 300
    return dataclasses.replace(
        made, frame_time_s=made.frame_time_s[keep], pulse=made.pulse[keep], rgb=made.rgb[keep],
        box=made.box[keep], face_found=made.face_found[keep],
        skin={name: row[keep] for name, row in made.skin.items()})


RNG = np.random.default_rng(2)
DEFECTS: dict[str, tuple[str, Callable[[Signals], Signals]]] = {
    "gap of a second": ("gap", on_times(put(450, 900, lambda t: t + 1.0))),
    "a missing frame": ("lost_frames", lost),
    "jitter": ("jitter", on_times(lambda t: np.sort(t + RNG.uniform(0, 0.06, len(t))))),
    "too few frames a second": ("fps", on_times(lambda t: t * 3)),
    "repeated stamps": ("repeated_stamps", replaced(
        warnings=tuple(increasing(np.array([0.0, 0.1, 0.1, 0.2]), "x")[1]))),
    "frames not decoded": ("frames_declared", stated(n_frames_declared=905, n_frames_decoded=900)),
    "frames not listed": ("frames_listed", stated(n_frames_listed=899, n_frames_decoded=900)),
    "longer label": ("lengths", on_times(lambda t: t * 0.9)),
    "reader's warning": ("reader_warning", replaced(warnings=("something odd was repaired",))),
    "flat stretch": ("flat_label", on_label(put(600, 760, 0.1))),
    "almost flat stretch": ("flat_label", on_label(put(600, 780, lambda x: 0.1 + 1e-3 * x))),
    "clipped": ("clipped_label", on_label(lambda x: np.clip(x, -1, 0.1))),
    "level step": ("label_steps", on_label(put(900, 1800, lambda x: x + 3.8))),
    "burst": ("label_steps", on_label(put(900, 1100, lambda x: x * 12))),
    "noise for a label": ("no_pulse_in_label", on_label(lambda x: RNG.standard_normal(len(x)))),
    "some noise in the label": ("noisy_label", on_label(put(0, 720, lambda x: RNG.standard_normal(len(x))))),
    "slow label": ("label_rate", on_label(lambda x: np.sin(2 * np.pi * 0.42 * np.arange(len(x)) / 60))),
    "rate jumps": ("rate_jumps", on_label(put(900, 1800, lambda x: np.sin(np.arange(900) / 3.0)))),
    "no label on frames": ("label_missing", lambda made: dataclasses.replace(
        made, pulse=put(0, 100, np.nan)(made.pulse.copy()))),
    "device drops out": ("device_dropouts", on_device(put(0, 100, np.nan))),
    "device says 0": ("device_dropouts", on_device(put(0, 100, 0))),
    "device says 255": ("device_dropouts", on_device(put(0, 100, 255))),
    "device says 127": ("device_dropouts", on_device(put(0, 100, 127))),
    "impossible device rate": ("device_rate", on_device(put(0, 30, 230))),
    "device disagrees": ("device_disagrees", on_device(lambda x: x + 6)),
    "face lost": ("face_lost", lambda made: dataclasses.replace(
        made, face_found=put(0, 200, False)(made.face_found.copy()))),
    "box trembles": ("box_tremble", on_box(lambda b: b + RNG.normal(0, 2, b.shape))),
    "box jumps": ("box_jumps", on_box(put(400, 500, lambda b: b + np.array([60, 0, 0, 0])))),
    "black frames": ("black_frames", on_colours(put(100, 110, 0.5))),
    "frozen frames": ("frozen", on_colours(put(100, 200, lambda x: x[:1]))),
    "exchanged colours": ("swapped_colours", on_colours(lambda x: x[:, ::-1])),
    "saturated": ("saturated", lambda made: dataclasses.replace(made, crops=made.crops.clip(252, 255))),
    "black": ("black", lambda made: dataclasses.replace(made, crops=made.crops // 50)),
    "dim": ("dim", lambda made: dataclasses.replace(made, crops=made.crops // 6)),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_flagged_and_the_rest_is_not_blamed(name: str) -> None:
    """Each planted defect raises its flag; without it the flag is not there."""
    flag, plant = DEFECTS[name]
    part, _ = examine(plant(signals()))
    assert flag in flags(part), part.findings


@pytest.mark.parametrize("name", ["frozen frames", "black frames", "face lost", "flat stretch"])
def test_what_is_mostly_bad_is_unusable(name: str) -> None:
    """A defect over most of a recording makes it unusable; over a little, suspicious."""
    everywhere = {
        "frozen frames": on_colours(put(0, 800, SKIN)), "black frames": on_colours(put(0, 800, 0.1)),
        "face lost": replaced(face_found=np.arange(900) < 10), "flat stretch": on_label(put(0, 1500, 0.1)),
    }
    for plant, is_fatal in ((DEFECTS[name][1], False), (everywhere[name], True)):
        part, _ = examine(plant(signals()))
        assert any(finding.is_fatal for finding in part.findings) is is_fatal


@pytest.mark.parametrize("n", [2, 3, 5, 12, 40, 100])
def test_short_recordings_are_examined(n: int) -> None:
    """A recording of a few frames gives numbers or reasons, no error."""
    made = signals()
    short = dataclasses.replace(
        made, frame_time_s=made.frame_time_s[:n], pulse=made.pulse[:n], rgb=made.rgb[:n], box=made.box[:n],
        face_found=made.face_found[:n], label=made.label[: 2 * n], label_time_s=made.label_time_s[: 2 * n],
        hr_bpm=made.hr_bpm[: 2 * n], skin=skin_waveforms(made.rgb[:n], made.frame_time_s[:n]))
    part, _ = examine(short)
    assert all(value is not None or part.reasons[column] for column, value in part.values.items())
    fingerprint(short, ("set", "a"), 30.0)


def test_without_labels_every_number_has_a_value_or_a_reason() -> None:
    """An unlabelled recording is no fault; what cannot be computed is null with a reason."""
    made = signals()
    bare = dataclasses.replace(
        made, pulse=np.full(900, np.nan), label=np.empty(0), label_time_s=np.empty(0), hr_bpm=np.empty(0),
        stated={"label_kind": "none", "face_finder": "none"})
    part, _ = examine(bare)
    assert part.findings == []
    for column, value in part.values.items():
        assert value is not None or part.reasons[column], column


def prints(**made: Signals) -> dict[str, Fingerprint]:
    return {name: fingerprint(one, ("set", name.partition("_")[0]), 30.0) for name, one in made.items()}


def test_copies_are_twins_and_takes_of_one_person_are_not() -> None:
    """The same frames under another name are found, also cut and coded anew; other takes are left alone."""
    one, rng = signals(seed=1), np.random.default_rng(0)
    cut = dataclasses.replace(
        one, rgb=one.rgb[60:] + rng.normal(0, 0.02, one.rgb[60:].shape), label=signals(seed=4).label[33:],
        crops=(one.crops + rng.normal(0, 3, one.crops.shape)).clip(0, 255).astype(np.uint8))
    take2 = dataclasses.replace(signals(seed=2), crops=one.crops, label=one.label[40:])
    found = find_twins(prints(a=one, b=one, c=cut, d=take2))
    assert {key: sum(f.flag == "twin" for f in findings) for key, findings in found.items()} == {
        "a": 2, "b": 2, "c": 2}
    texts = " ".join(finding.text for finding in found["a"])
    assert "identical frames as b" in texts and "nearly the same frames as c" in texts
    assert "must not be in different parts" in texts


def test_a_shared_label_is_a_finding_between_subjects_only() -> None:
    """Two cameras on one person share a label; two people do not."""
    one, two = signals(seed=1), signals(seed=2)
    assert find_twins(prints(a_1=one, a_2=two)) == {}
    found = find_twins(prints(a=one, b=two))
    assert [finding.flag for finding in found["a"]] == ["label_twin"]


def test_an_unusual_frame_rate_stands_out_from_its_dataset() -> None:
    """A recording of 19 frames a second among those of 30 is flagged."""
    rates = [30.0, 29.7, 30.2, 19.0, 30.0, 30.1]
    audited = [Audited(f"s.r{i}", "s", f"r{i}", f"r{i}", Part({"fps": fps})) for i, fps in enumerate(rates)]
    compare(audited, {})
    assert [item.flags for item in audited] == [[], [], [], ["fps"], [], []]
