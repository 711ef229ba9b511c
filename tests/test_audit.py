"""The audit: what is wrong with a recording is found, named, and nothing else is."""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commands.audit import skin_waveforms
from evaluation.audit import page
from evaluation.audit.examine import Audited, compare, examine, failed
from evaluation.audit.findings import Finding, Part, Signals
from evaluation.audit.twins import Fingerprint, find_twins, fingerprint
from preprocessing.synthetic import layouts
from preprocessing.synthetic.layouts.base import Take, frame_times, make_take
from preprocessing.times import increasing

DATA = os.environ.get("RPPG_REAL_DATA")
FRAME_S = 1 / 30
PULSE_RGB = np.array([0.33, 0.77, 0.53])
SKIN = np.array([150.0, 110.0, 90.0])
STATED = {
    "label_kind": "ppg", "label_rate_hz": 60.0, "fps_declared": 30.0, "face_finder": "mediapipe_mesh",
    "frame_times": "dataset",
}


@functools.cache
def take(rate_bpm: float = 58.0, seconds: float = 30.0) -> Take:
    made = make_take(3, 1, seconds=seconds)
    rhythm = dataclasses.replace(made.subject.rhythm, rate_bpm=rate_bpm)
    return Take(dataclasses.replace(made.subject, rhythm=rhythm), seconds)


def signals(
    lag: Callable[[np.ndarray], np.ndarray] = lambda t: 0 * t, wave: Callable | None = None,
    rate_bpm: float = 58.0, seconds: float = 30.0, sign: int = 1, seed: int = 0, noise: float = 0.05,
) -> Signals:
    """A recording without pictures: mean colours that follow the pulse, and a label `lag` seconds later."""
    wave = wave or take(rate_bpm, seconds).pulse
    rng = np.random.default_rng(seed)
    time_s = frame_times(seed, 30.0, seconds)
    label_time_s = np.arange(0, seconds, 1 / 60)
    rgb = SKIN * (1 - 0.02 * wave(time_s)[:, None] * PULSE_RGB)
    rgb += noise * rng.standard_normal(rgb.shape) + 2 * np.sin(2 * np.pi * 0.03 * time_s)[:, None]
    label = sign * wave(label_time_s - lag(label_time_s))
    box = np.tile([200.0, 100.0, 150.0, 150.0], (len(time_s), 1))
    face = rng.integers(0, 256, (9, 9, 3))
    crops = np.kron(face, np.ones((8, 8, 1)))[None] * 0.1 + SKIN + rng.normal(0, 2, (8, 72, 72, 3))
    return Signals(
        frame_time_s=time_s, pulse=np.interp(time_s, label_time_s, label), box=box,
        face_found=np.ones(len(time_s), dtype=bool), rgb=rgb, label=label, label_time_s=label_time_s,
        hr_bpm=np.full(len(label), rate_bpm), skin=skin_waveforms(rgb, time_s), stated=STATED,
        crops=crops.clip(0, 255).astype(np.uint8),
    )


def flags(part: Part) -> set[str]:
    return {finding.flag for finding in part.findings}


def lag_ms(part: Part) -> float:
    value = part.values["lag_ms"]
    assert isinstance(value, float)
    return value


def test_a_good_recording_has_no_findings() -> None:
    """Nothing is said against a recording with which nothing is wrong."""
    part, _ = examine(signals())
    assert part.findings == [] and part.values["polarity"] == "upright"
    assert part.values["rate_bpm"] == pytest.approx(58, abs=1)
    assert part.values["skin_bpm"] == pytest.approx(58, abs=1)


@pytest.mark.parametrize("planted_s", [0.0, 0.033, -0.033, 0.1, -0.2, 0.5])
def test_a_planted_lag_comes_back_with_its_sign(planted_s: float) -> None:
    """The lag of a label is found within a third of a frame, and flagged above 133 ms."""
    part, _ = examine(signals(lambda t: planted_s + 0 * t))
    assert lag_ms(part) == pytest.approx(1000 * planted_s, abs=1000 * FRAME_S / 3)
    assert ("lag" in flags(part)) == (abs(planted_s) > 0.133)
    assert "drift" not in flags(part)


@pytest.mark.parametrize(("fps", "rate_bpm"), [(20.0, 75.0), (61.0, 52.0)])
def test_the_lag_does_not_depend_on_the_frame_rate(fps: float, rate_bpm: float) -> None:
    """At 20 and at 61 frames a second a lag of 80 ms is found within a third of a frame of 30."""
    made = signals(lambda t: 0.08 + 0 * t, rate_bpm=rate_bpm)
    time_s = frame_times(1, fps, 30.0)
    rgb = np.stack([np.interp(time_s, made.frame_time_s, row) for row in made.rgb.T], axis=1)
    other = dataclasses.replace(
        made, frame_time_s=time_s, rgb=rgb, pulse=np.interp(time_s, made.label_time_s, made.label),
        skin=skin_waveforms(rgb, time_s), box=made.box[:1].repeat(len(time_s), 0))
    assert lag_ms(examine(other)[0]) == pytest.approx(80, abs=11)


def test_an_inverted_label_is_told_from_half_a_beat() -> None:
    """A label on its head is named as that, with its own lag, because systole is steeper."""
    part, _ = examine(signals(lambda t: 0.02 + 0 * t, sign=-1))
    assert part.values["polarity"] == "inverted" and "inverted_label" in flags(part)
    assert lag_ms(part) == pytest.approx(20, abs=11) == part.values["inverted_lag_ms"]
    assert "lag" not in flags(part)


def test_an_inverted_label_is_followed_as_one() -> None:
    """The drift of a label on its head is that of the label, not of its half beat."""
    part, found = examine(signals(lambda t: 0.3 * (t / 60 - 0.5), seconds=60.0, sign=-1))
    assert part.values["polarity"] == "inverted"
    assert found is not None and np.abs(found.track_s).max() < 0.2
    assert part.values["drift_ms"] == pytest.approx(300, abs=40)


def test_masked_stretches_of_a_label_are_not_judged() -> None:
    """Where a reader masked the label nothing is flat, noisy or out of step; only the gap is named."""
    made = signals()
    label, pulse = put(600, 1200, np.nan)(made.label.copy()), put(300, 600, np.nan)(made.pulse.copy())
    part, found = examine(dataclasses.replace(made, label=label, pulse=pulse))
    assert flags(part) == {"label_missing"} and part.values["missing_share"] == pytest.approx(1 / 3, abs=1e-3)
    assert found is not None and found.r > 0.9


def test_a_coarse_label_is_not_called_clipped() -> None:
    """A label in the 100 whole steps of an oximeter rests on its highest value for some samples: no fault."""
    made = signals()
    part, _ = examine(dataclasses.replace(made, label=np.round(50 + 50 * made.label)))
    assert part.findings == []


def test_a_sine_cannot_be_told_from_its_inverse() -> None:
    """Half a beat of lag and a flip are the same in a sinusoid: the audit says so, and flags the lag."""
    part, _ = examine(signals(lambda t: 0.5 + 0 * t, wave=lambda t: 0.5 * np.sin(2 * np.pi * t)))
    assert part.values["polarity"] == "undecided"
    (text,) = [finding.text for finding in part.findings if finding.flag == "lag"]
    assert "cannot be told apart" in text
    part, _ = examine(signals(wave=lambda t: 0.5 * np.sin(2 * np.pi * t)))
    assert part.findings == [] and any("would fit as well" in note for note in part.notes)


@pytest.mark.parametrize("drift_s", [0.3, -0.3, 1.2])
def test_a_clock_that_drifts_is_flagged(drift_s: float) -> None:
    """A lag that grows over the recording is measured, also over more than half a beat."""
    part, _ = examine(signals(lambda t: drift_s * (t / 60 - 0.5), seconds=60.0))
    assert part.values["drift_ms"] == pytest.approx(1000 * drift_s, rel=0.15, abs=20)
    assert "drift" in flags(part)


def test_skin_without_a_pulse_has_no_lag() -> None:
    """Where the skin shows nothing of the label the lag is null with a reason, never a number."""
    made = signals()
    rgb = SKIN + np.random.default_rng(5).normal(0, 0.3, made.rgb.shape)
    part, _ = examine(dataclasses.replace(made, rgb=rgb, skin=skin_waveforms(rgb, made.frame_time_s)))
    assert part.values["lag_ms"] is None and "no pulse" in part.reasons["lag_ms"]
    assert "lag_unknown" in flags(part)


def test_another_persons_label_is_found_by_its_rate() -> None:
    """A label of another rate than the skin's is flagged, and gets no lag."""
    mine, other = signals(rate_bpm=58.0), signals(rate_bpm=80.0)
    part, _ = examine(dataclasses.replace(mine, label=other.label, pulse=other.pulse, hr_bpm=other.hr_bpm))
    assert {"skin_disagrees", "lag_unknown"} <= flags(part)


def test_an_ecg_is_judged_by_its_beats() -> None:
    """Heart rate and lag of an ECG come from its R peaks; the travel of the pulse is no fault."""
    made, person = signals(), take()
    time_s = np.arange(0, 30, 1 / 256)
    ecg = person.ecg(time_s)
    part, _ = examine(dataclasses.replace(
        made, label=ecg, label_time_s=time_s, pulse=np.full(len(made.pulse), np.nan),
        stated={**STATED, "label_kind": "ecg", "label_rate_hz": 256.0}))
    assert part.values["rate_bpm"] == pytest.approx(58, abs=1) and part.findings == []
    assert -700 < lag_ms(part) < -200


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


def put(first: int, last: int, value: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Set a stretch to one value, or to what a function makes of it."""
    def change(row: np.ndarray) -> np.ndarray:
        row[first:last] = value(row[first:last]) if callable(value) else value
        return row
    return change


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


def made_up(n: int) -> list[Audited]:
    """Many audited recordings, a third of them suspicious."""
    rng = np.random.default_rng(0)
    part = examine(signals(seconds=12.0))[0]
    names = ("lag", "gap", "flat_label", "face_lost")
    return [
        Audited(f"set.p{i}-v1", "set", f"p{i}-v1", f"p{i}", Part(
            {**part.values, "lag_ms": round(float(rng.normal(0, 60)), 1)}, part.reasons,
            [Finding(names[i % 4], "a <script>alert(1)</script> & co", i % 90 == 0)] if i % 3 == 0 else []))
        for i in range(n)
    ]


def test_thousands_of_recordings_stay_one_small_page() -> None:
    """A table of 3000 recordings is below 3 MB, with pictures of at most 66 of them; nothing is executed."""
    audited = made_up(3000)
    chosen = page.chosen_for_details(audited)
    assert len(chosen) == page.MOST_DETAILS + page.GOOD_DETAILS
    text = page.html(audited, [page.Detail(key) for key in chosen], {})
    assert len(text) < 3_000_000 and "<script>alert" not in text
    lines = page.terminal_table(audited).splitlines()
    assert len(lines) < 40 and "2970 more" in " ".join(lines)
    assert lines[1].startswith("unusable")


def test_what_is_rounded_to_zero_has_no_sign() -> None:
    """A lag of -0.3 ms reads 0 in the table, not -0."""
    item = Audited("s.r", "s", "r", "r", Part({"lag_ms": -0.3, "lag_r": 0.98}))
    assert " 0  0.98" in page.terminal_table([item])


def test_csv_and_json_hold_every_recording_and_every_reason() -> None:
    """audit.csv has a row each; a failed recording has its reason; JSON refuses NaN."""
    audited = [*made_up(4), failed("set.x", "set", "x", "x", "the video is cut short")]
    rows = {row["recording"]: row for row in csv.DictReader(page.csv_text(audited).splitlines())}
    assert len(rows) == 5 and rows["set.x"]["verdict"] == "unusable" and rows["set.x"]["fps"] == ""
    assert "cut short" in rows["set.x"]["findings"]
    whole = page.as_json(audited, {"set.y": "left out"})
    json.dumps(whole, allow_nan=False)
    for entry in whole["recordings"]:
        for column, value in entry["values"].items():
            assert value is not None or entry["reasons"][column]
    assert whole["summary"]["n_unusable"] == 2 and whole["left_out"] == {"set.y": "left out"}


# From raw files to the page, by the command.

PLANTED = {
    "zero_device_rate": {"device_dropouts"}, "late_label": {"lag"}, "repeated_stamps": {"repeated_stamps"},
    "flat_label": {"failed"}, "cut_video": {"failed"},
}


def write_params(folder: Path, dataset: str, **preprocessing: Any) -> Path:
    settings = {"face_finder": "none", "landmarks": False, "workers": 1, "size": 64, **preprocessing}
    value = {
        "data": {"sets": [{"name": dataset, "root": str(folder / "raw")}], "store": str(folder / "store")},
        "net": {"name": "physnet"}, "preprocessing": settings, "logging": {"progress": False},
    }
    path = folder / "params.json"
    path.write_text(json.dumps(value))
    return path


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any], int]:
    """A set with every defect of its layout, audited: its folder, the truth, the exit code."""
    import main

    folder = tmp_path_factory.mktemp("audit")
    (folder / "raw").mkdir()
    truth = []
    for number, defect in enumerate([None, *PLANTED], 1):
        made = folder / f"only{number}"
        (one,) = layouts.build("ubfc_rppg_2").write(
            made, people=1, seconds=12.0, seed=number, defects=[defect] if defect else [])
        (made / one.recording).rename(folder / "raw" / f"subject{number}")
        truth.append(dataclasses.replace(one, recording=f"subject{number}"))
    code = main.main(["audit", str(write_params(folder, "ubfc_rppg_2"))])
    return folder, truth, code


def audited_rows(folder: Path) -> dict[str, dict[str, Any]]:
    whole = json.loads((folder / "store" / "audit" / "audit.json").read_text())
    return {entry["recording"].partition(".")[2]: entry for entry in whole["recordings"]}


def test_every_planted_defect_is_named_by_the_command(planted: tuple[Path, list[Any], int]) -> None:
    """From raw files on, each planted defect has its flag, and what is well is called so; exit code 3."""
    folder, truth, code = planted
    rows = audited_rows(folder)
    assert code == 3 and set(rows) == {one.recording for one in truth}
    for one in truth:
        expected = PLANTED[one.defect] if one.defect else set()
        assert set(rows[one.recording]["flags"]) == expected, (one, rows[one.recording]["findings"])
        value = rows[one.recording]["values"].get("lag_ms")
        assert value is None or value == pytest.approx(1000 * one.lag_s, abs=1000 * FRAME_S)
    assert {one.defect for one in truth} == {"", *PLANTED}


def test_the_page_is_whole_and_loads_nothing(planted: tuple[Path, list[Any], int]) -> None:
    """audit.html has pictures of the flagged recordings within it and asks for nothing from elsewhere."""
    folder, _, _ = planted
    text = (folder / "store" / "audit" / "audit.html").read_text()
    assert "data:image/jpeg" in text and "<polyline" in text
    assert not re.search(r"(src|href)\s*=\s*[\"'](?!data:)", text) and "http" not in text


def test_failures_that_are_allowed_do_not_change_the_code(
    planted: tuple[Path, list[Any], int], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """With preprocessing.allow_failed the code is 0; the table still names them; --out is respected."""
    import main

    folder, _, _ = planted
    code = main.main(["audit", str(folder / "params.json"), "--out", str(tmp_path / "out"),
                      "--set", "preprocessing.allow_failed=true"])
    assert code == 0 and {path.name for path in (tmp_path / "out").iterdir()} == {
        "audit.csv", "audit.html", "audit.json"}
    assert "unusable" in capsys.readouterr().out
    assert (tmp_path / "out/audit.json").read_bytes() == (folder / "store/audit/audit.json").read_bytes()


def test_a_stored_file_that_cannot_be_read_costs_itself_only(tmp_path: Path) -> None:
    """A recording whose stored file is no HDF5 is unusable with the reason; the audit goes on."""
    from commands.audit import Entry, examine_all

    (tmp_path / "a.h5").write_bytes(b"no HDF5")
    line = {"status": "done", "subject": "a", "warnings": [], "fps": 30.0}
    (item,) = examine_all([Entry("set.a", "set", "a", line, tmp_path / "a.h5")], False)
    assert item.verdict == "unusable" and "not an HDF5 file" in item.part.findings[0].text


def test_people_who_must_not_be_shown_are_not(
    planted: tuple[Path, list[Any], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recording of the do-not-show list is examined like the others, but not pictured."""
    import main
    from commands import audit

    folder, truth, _ = planted
    monkeypatch.setattr(audit, "hidden", lambda dataset: {one.recording for one in truth})
    main.main(["audit", str(folder / "params.json"), "--out", str(tmp_path)])
    text = (tmp_path / "audit.html").read_text()
    assert "data:image" not in text and "Not pictured" in text and "<polyline" in text


@pytest.mark.skipif(not shutil.which("chromium"), reason="no chromium to open the page in")
def test_the_page_works_in_a_browser(planted: tuple[Path, list[Any], int], tmp_path: Path) -> None:
    """Chromium opens the page without an error in its console, and the script has counted the rows."""
    folder, truth, _ = planted
    done = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         f"--user-data-dir={tmp_path}", "--enable-logging=stderr", "--v=0", "--dump-dom",
         (folder / "store/audit/audit.html").as_uri()], capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in done.stderr
    assert f"{len(truth)} of {len(truth)}</span>" in done.stdout


@pytest.mark.skipif(not DATA, reason="RPPG_REAL_DATA does not name the folder with real data")
def test_a_real_label_lies_within_two_frames_of_the_skin() -> None:
    """On the real clip the contact PPG lags by less than two frames and is not taken for inverted."""
    folder = Path(DATA or ".") / "fixtures"
    rows = np.genfromtxt(folder / "vitallens_sample_1_rgb_traces.csv", delimiter=",", names=True)
    time_s, names = rows["t_s"], rows.dtype.names or ()
    rgb = np.stack([rows[name] for name in names[1:4]], axis=1)
    made = dataclasses.replace(
        signals(), frame_time_s=time_s, pulse=rows["ppg"], label=rows["ppg"], label_time_s=time_s, rgb=rgb,
        skin=skin_waveforms(rgb, time_s), hr_bpm=np.empty(0), box=np.empty((0, 4)),
        stated={**STATED, "fps_declared": 30.098, "label_rate_hz": 30.0})
    part, _ = examine(made)
    assert abs(lag_ms(part)) < 67 and part.values["polarity"] != "inverted" and part.findings == []


# What a reader copes with, so that the recording is as good as any other.
HARMLESS = {
    "millisecond_times", "nested_copy", "durations", "grey_levels", "milliseconds", "no_header",
    "short_stamps", "no_respiration", "half_nested",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", layouts.names())
def test_every_defect_of_every_layout_is_caught(tmp_path: Path, name: str) -> None:
    """Whatever a fixture writer can plant is flagged, refused, or read as if it were not there."""
    import main

    for defect in layouts.build(name).defects:
        folder = tmp_path / defect
        folder.mkdir()
        truth = layouts.build(name).write(folder / "raw", people=2, seconds=16.0, defects=[defect])
        main.main(["audit", str(write_params(folder, name))])
        rows = audited_rows(folder)
        for one in truth:
            row = rows[one.recording]
            assert (row["verdict"] == "unusable") == (not one.usable), (one, row["findings"])
            if one.defect and one.usable and defect not in HARMLESS:
                assert row["flags"], one
            found = row["values"].get("lag_ms")
            if found is not None and row["values"]["label_kind"] != "ecg":
                beat_ms = 60_000 / one.rate_bpm
                off = (found - 1000 * one.lag_s + beat_ms / 2) % beat_ms - beat_ms / 2
                assert abs(off) < 1000 * FRAME_S, (one, found)
        shutil.rmtree(folder)
