"""A protocol, own or preset, decides the metrics, is written beside them, and gives every part its table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from evaluation import protocols
from evaluation.waveforms import write_waveforms
from tests.waves import recording
from utils.errors import UserError
from utils.settings import Protocol


def test_unknown_protocol_is_answered_with_the_close_one() -> None:
    """A misspelt protocol is refused with the name that was meant and those that exist."""
    with pytest.raises(UserError, match=r'did you mean "toolbox"\?.*known: default, toolbox, toolbox2023'):
        protocols.get("toolbx")


def test_own_protocol_changes_a_preset() -> None:
    """An own protocol has its changes, the rest of its base, and says so in metrics.json."""
    own = {"mine": Protocol(base="toolbox", changes={"filter_order": 3, "window_s": 5.0})}
    metrics = protocols.score([recording(1)], protocols.get("mine", own))
    described = metrics["protocol"]
    assert (described["name"], described["filter_order"], described["window_s"]) == ("mine", 3, 5.0)
    assert described["peak_high_hz"] == 3.3 and "toolbox" in described["description"]


def test_every_fault_of_an_own_protocol_is_named() -> None:
    """Unknown fields, wrong values and contradictions of an own protocol are named, fields with a hint."""
    own = {"mine": {"base": "default", "changes": {"filter_ordr": 3, "ddof": 2, "macc": "linear"}}}
    with pytest.raises(ValueError, match="mine") as caught:
        protocols.get("mine", own)
    for words in ('filter_ordr: unknown field; did you mean "filter_order"?', "ddof", "macc"):
        assert words in str(caught.value)
    with pytest.raises(UserError, match="peak_low_hz must be below peak_high_hz"):
        protocols.get("b", {"b": {"base": "default", "changes": {"peak_low_hz": 5.0}}})


def test_protocol_is_written_whole() -> None:
    """metrics.json names every field of the protocol, so that a number can be argued with."""
    described = protocols.score([recording(1)], "toolbox2023")["protocol"]
    assert set(protocols.Protocol.model_fields) <= set(described)


def test_metrics_are_json_and_repeatable() -> None:
    """The same waveforms give the same JSON text, intervals included, and no NaN in it."""
    waves = [recording(i, shift_bpm=i) for i in range(9)]
    texts = [json.dumps(protocols.score(waves, constant_bpm=80.0, seed=5), allow_nan=False) for _ in range(2)]
    assert texts[0] == texts[1]


def test_uneven_frames_are_scored_by_their_times() -> None:
    """With half the frames of the second half dropped, the default protocol still finds the rate."""
    kept = np.r_[np.arange(300), np.arange(300, 600, 2)]
    whole = recording(3)
    time_s = whole.time_s[kept]
    fps = (len(kept) - 1) / (time_s[-1] - time_s[0])
    wave = recording(3, time_s=time_s, fps=fps, label=np.full(len(kept), np.nan), reference_hr_bpm=75.0,
                     predictions={"net": whole.label[kept]})
    assert protocols.score([wave])["rows"][0]["mae_bpm"] < 0.1


def test_intervals_need_eight_subjects() -> None:
    """Seven subjects have ci95 null and the reason; eight have intervals around the mean."""
    seven = protocols.score([recording(i, i) for i in range(7)])["rows"][0]
    assert seven["ci95"] is None and "needs 8" in seven["reasons"]["ci95"]
    eight = protocols.score([recording(i, i) for i in range(8)])["rows"][0]
    low, high = eight["ci95"]["mae_bpm"]
    assert low < eight["mae_bpm"] < high


def test_constant_row_is_the_mean_rate() -> None:
    """The constant row errs by the distance to the rate given and has no waveform metrics."""
    row = protocols.score([recording(0), recording(4)], constant_bpm=70.0)["rows"][-1]
    assert row["method"] == "constant" and row["mae_bpm"] == pytest.approx(10.0, abs=0.05)
    assert row["snr_db"] is None and "no waveform" in row["reasons"]["snr_db"]


@pytest.mark.parametrize("value", ["fast", -1.0, float("nan")])
def test_constant_that_is_no_rate_is_refused(tmp_path: Path, value: object) -> None:
    """A foreign file whose constant_bpm is no heart rate is refused with the value."""
    write_waveforms(tmp_path / "own.h5", [recording(0)], {"constant_bpm": value})
    with pytest.raises(UserError, match="constant_bpm"):
        protocols.score(tmp_path / "own.h5")


def test_parts_have_tables_of_their_own() -> None:
    """A further labelled part gets rows, one without labels gets detections; the main table has neither."""
    rng = np.random.default_rng(0)
    silent = {"net": rng.standard_normal(600)}
    waves = [recording(0), recording(1, 6.0, part="hard"),
             recording(2, part="still", label=np.full(600, np.nan), predictions=silent)]
    metrics = protocols.score(waves)
    assert metrics["test"]["n_recordings"] == 1 and metrics["rows"][0]["mae_bpm"] < 0.1
    assert metrics["parts"]["hard"]["rows"][0]["mae_bpm"] == pytest.approx(6.0, abs=0.1)
    (found,) = metrics["parts"]["still"]["rows"]
    assert (found["recording"], found["method"], found["found"]) == ("any.r2", "net", False)
    assert found["snr_db"] < found["surrogate_snr_db_95"] and found["p_value"] > 0.01


def test_coarse_bins_are_told() -> None:
    """The header says how wide the spectral bins are: 1.76 bpm for 20 s under the toolbox, 0.1 by default."""
    assert protocols.score([recording(0)], "toolbox")["test"]["bin_bpm"] == pytest.approx(30 * 60 / 1024)
    assert protocols.score([recording(0)])["test"]["bin_bpm"] < 0.1001


def test_unknown_part_is_refused() -> None:
    """Asking for a part that is not there names those that are."""
    with pytest.raises(UserError, match='"test".*hard'):
        protocols.score([recording(0, part="hard")])


def test_windows_csv_holds_every_unit(tmp_path: Path) -> None:
    """windows.csv has a line per window and method; what does not exist is an empty cell."""
    metrics = protocols.score([recording(0), recording(1)], window_s=5.0, constant_bpm=60.0)
    protocols.write_windows(tmp_path / "windows.csv", metrics["windows"])
    lines = (tmp_path / "windows.csv").read_text().splitlines()
    assert lines[0].startswith("part,recording,subject,method,start_s,stop_s,reference,reference_bpm")
    assert len(lines) == 1 + 2 * 4 * 2 and ",constant,0,5," in lines[2] and ",,,,,,," in lines[2]
