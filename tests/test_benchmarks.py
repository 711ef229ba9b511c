"""What benchmarks over seeds make of runs: kept results, means, and the table of all nets."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks import nets, seeds

BESIDE = {name: {"mae_bpm": error, "pearson_r": 0.5, "snr_db": -1.0, "n": 8, "n_failed": 0}
          for name, error in zip(nets.COMPARED, (0.2, 0.3, 0.4, 17.0), strict=True)}
COST = {name: {"input": [1, 3, 128, 36, 36], "parameters": 1234, "flops_per_clip": 5_000_000_000,
               "wall_s_per_clip": 0.2, "cpu_s_per_clip": 0.1} for name in ("one", "two")}


def run(error: float | None, **changes: Any) -> dict[str, Any]:
    """What a finished run tells."""
    return {"mae_bpm": error, "pearson_r": 0.9, "snr_db": None, "n": 8, "n_failed": 0, "training_s": 5.0,
            "beside": BESIDE, **changes}


@pytest.fixture
def found() -> dict[str, Any]:
    """Two seeds; a run of the second net failed, and a recording of its other run has no number."""
    return {"31": {"one": run(1.0), "two": run(4.0, n=7, n_failed=1)},
            "32": {"one": run(3.0), "two": {"failed": "exit code 4"}}}


def test_every_recipe_of_the_comparison_is_run() -> None:
    """A file in params/compare is a net of the table, and the other way round."""
    assert sorted(nets.NETS) == sorted(path.stem for path in (seeds.ROOT / "params/compare").glob("*.json"))


def test_a_row_holds_mean_and_sd_over_the_seeds(found: dict[str, Any]) -> None:
    """Errors of 1 and 3 bpm are 2 ± 1.41; an SNR that no run has stays without a number."""
    row = nets.summary(found, COST)[0]
    assert (row["mae_bpm"], row["mae_bpm_sd"], row["mae_bpm_n"]) == (2.0, pytest.approx(2**0.5), 2)
    assert (row["snr_db"], row["snr_db_sd"], row["snr_db_n"]) == (None, None, 0)
    cells = dict(zip(*(lambda t: (t.columns, t.rows[0]))(nets.table_of([row], found)), strict=True))
    assert cells == {"net": "one", "clip": "128x36x36", "parameters": "1,234", "GFLOP": "5.00",
                     "s/clip": "0.100", "MAE [bpm]": "2.00 ± 1.41", "r": "0.90 ± 0.00", "SNR [dB]": "–",
                     "MAE by seed": "1.00, 3.00"}


def test_what_failed_is_named_below_the_table(found: dict[str, Any]) -> None:
    """A run that failed and a recording without a number are counted, not left out in silence."""
    table = nets.table_of(nets.summary(found, COST), found)
    assert "two: 1 of 2 runs failed, and 1 of 8 recordings have no number" in table.notes
    assert [row[5] for row in table.rows if row[0] == "two"] == ["4.00"]


def test_the_table_says_when_a_seed_is_still_missing(found: dict[str, Any]) -> None:
    """A table written while runs are at work tells which rows are not complete."""
    del found["32"]["one"]
    notes = nets.table_of(nets.summary(found, COST), found).notes
    assert "not finished: one (1 of 2 seeds)" in notes[-1] and "two" not in notes[-1]


def test_methods_beside_the_nets_have_one_value_a_seed(found: dict[str, Any]) -> None:
    """POS and its like stand there once, however many nets ran on the set."""
    (row,) = (row for row in nets.summary(found, COST) if row["method"] == "pos")
    assert (row["mae_bpm"], row["mae_bpm_sd"], row["runs"]) == (0.2, 0.0, 2)


def test_runs_that_read_different_data_are_refused(found: dict[str, Any]) -> None:
    """Where two runs of one set disagree about POS, there is no table."""
    found["31"]["two"]["beside"] = {**BESIDE, "pos": {**BESIDE["pos"], "mae_bpm": 0.21}}
    with pytest.raises(SystemExit, match="seed 31"):
        nets.summary(found, COST)


def test_every_seed_stands_in_the_csv(found: dict[str, Any]) -> None:
    """A line for each method and seed, and two for its mean and SD."""
    lines = list(csv.DictReader(nets.csv_of(found, nets.summary(found, COST)).splitlines()))
    mine = {line["seed"]: line["mae_bpm"] for line in lines if line["method"] == "one"}
    assert mine == {"31": "1.0000", "32": "3.0000", "mean": "2.0000", "sd": "1.4142"}
    assert all(None not in line and None not in line.values() for line in lines)
    assert [line["failed"] for line in lines if line["method"] == "two" and line["seed"] == "32"] == [
        "exit code 4"]


def test_a_run_gives_its_nets_row_and_those_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one row of metrics.json that is no method without training is the net's."""
    def made(*words: object, settings: dict[str, Any], overrides: list[str]) -> None:
        folder = Path(settings["run.output"]) / settings["run.name"]
        folder.mkdir()
        rows = [{"method": "physnet", **run(0.5)}, *({"method": name, **row} for name, row in BESIDE.items())]
        (folder / "metrics.json").write_text(json.dumps({"rows": rows}))
        (folder / "log.jsonl").write_text(
            '{"event": "epoch", "seconds": 2.0}\n{"event": "end"}\n' * 2
            + '{"event": "validation", "epoch": 2, "metrics": {"mae_bpm": 0.6}}\n')

    monkeypatch.setattr(nets, "call", made)
    told = nets.one_run("physnet", {"run.output": tmp_path}, [])
    assert (told["mae_bpm"], told["training_s"], told["beside"]) == (0.5, 4.0, BESIDE)
    assert told["validations"] == [{"epoch": 2, "mae_bpm": 0.6}]


def test_a_run_that_fails_is_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that stops is told with its exit code; the other runs go on."""
    def fails(*words: object, **options: object) -> None:
        raise subprocess.CalledProcessError(4, "main.py")

    monkeypatch.setattr(nets, "call", fails)
    assert nets.one_run("physnet", {}, []) == {"failed": "exit code 4"}


def test_a_finished_seed_is_not_made_again(tmp_path: Path) -> None:
    """With a folder for the work, a second call makes only the seeds that are new."""
    made = []

    def one_seed(seed: int, folder: Path) -> int:
        made.append(seed)
        return 10 * seed

    list(seeds.over_seeds([1], tmp_path, {}, one_seed))
    assert list(seeds.over_seeds([1, 2], tmp_path, {}, one_seed))[-1] == {"1": 10, "2": 20}
    assert made == [1, 2]


def test_a_seed_made_with_other_settings_is_refused(tmp_path: Path) -> None:
    """A kept result does not stand for one with another recipe."""
    list(seeds.over_seeds([1], tmp_path, {"epochs": 2}, lambda seed, folder: 0))
    with pytest.raises(SystemExit, match="other settings"):
        list(seeds.over_seeds([1], tmp_path, {"epochs": 3}, lambda seed, folder: 0))


def test_a_seed_without_a_number_does_not_count() -> None:
    """Mean and SD are those of the numbers there are, with their count."""
    assert seeds.spread([1.0, None, 3.0]) == (2.0, pytest.approx(2**0.5), 2)
    assert seeds.spread([None]) == (None, None, 0)
    assert seeds.spread([1.0]) == (1.0, None, 1)
