"""Seeds and folds that share a row: of the same data only, and with every warning of every run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluation.aggregate import Result, results
from evaluation.runs_table import COLUMNS, runs_table
from evaluation.vital_table import vital_table
from tests.run_folders import protocol, row, run_folder, write_windows

UBFC = [f"subject{i}" for i in range(42)]
LEAK = {"leaks": True, "leak_details": ["train and test share 12 subjects"]}


def seeds(
    home: Path, *, origins: tuple = ((), ()), learned: tuple = ((), ()), **second: object
) -> list[Path]:
    """Two runs of one experiment with seeds 0 and 1; second: what metrics.json holds of the second alone."""
    made = []
    for seed, (tested, trained) in enumerate(zip(origins, learned, strict=True)):
        folder = run_folder(
            home / f"run_seed{seed}", [row("physnet", 42, mae_bpm=2.0 - seed), row("pos", 42, mae_bpm=4.0)],
            UBFC, trained=["pure.01-01"], seed=seed, stored=protocol("toolbox2023"),
            training={"datasets": ["pure"], "origins": list(trained)},
        )
        metrics = json.loads((folder / "metrics.json").read_text()) | (second if seed else {})
        metrics["test"]["origins"] = list(tested)
        (folder / "metrics.json").write_text(json.dumps(metrics))
        made.append(folder)
    return made


def of(method: str, made: list[Result]) -> list[Result]:
    return [result for result in made if result.method == method]


@pytest.mark.parametrize("changes", [
    {"origins": ((), ("synthetic",))},
    {"learned": ((), ("synthetic",))},
    {"training": {"datasets": ["pure", "RLAP (zoo)"], "origins": []}},
])
def test_runs_on_other_data_are_other_rows(tmp_path: Path, changes: dict) -> None:
    """Real and made-up recordings, or other weights at the start, are never averaged, though params agree."""
    made = of("physnet", results(seeds(tmp_path, **changes)))
    assert len(made) == 2 and not any(result.spread for result in made)
    assert len(of("physnet", results(seeds(tmp_path / "same")))) == 1


def test_a_made_up_test_set_keeps_its_mark_beside_a_real_one(tmp_path: Path) -> None:
    """Each row says on what it was tested, whichever of the folders is named first."""
    folders = seeds(tmp_path, origins=((), ("synthetic",)))
    for order in (folders, folders[::-1]):
        lines = [dict(zip(COLUMNS, line, strict=True)) for line in runs_table(order).rows]
        ours = {line["tested on"]: line["MAE [bpm]"] for line in lines if line["method"] == "physnet"}
        assert ours == {"ubfc_rppg_2": "2.00", "ubfc_rppg_2, synthetic": "1.00"}


def test_a_leak_of_any_seed_is_told_of_all(tmp_path: Path) -> None:
    """The second seed alone was tested on people it trained on: the common row leaks, agrees with nothing."""
    made = of("pos", results(seeds(tmp_path, split=LEAK)))
    assert len(made) == 1 and made[0].leaks == ("train and test share 12 subjects",)
    line = dict(zip(COLUMNS, runs_table(seeds(tmp_path / "again", split=LEAK)).rows[0], strict=True))
    assert "(LEAKS)" in line["result of"] and "within" not in line["verdict"]


def test_vital_signs_of_a_leaking_run_are_marked(tmp_path: Path) -> None:
    """The table of RF, LF and HF names leaks as the table of rates does."""
    cell = {"sd": 0.1, "rmse": 0.11, "pearson_r": 0.2, "n": 40, "n_failed": 2}
    signs = {"rows": [{"method": "pos", "rf_hz": cell}], "warnings": []}
    for folder, marked in zip(seeds(tmp_path, split=LEAK), (False, True), strict=True):
        metrics = json.loads((folder / "metrics.json").read_text())
        (folder / "metrics.json").write_text(json.dumps({**metrics, "vital_signs": signs}))
        table = vital_table([folder])
        assert table is not None and ("(LEAKS)" in table.rows[0][4]) == marked


def fold_folders(home: Path, learned: tuple, seed: int = 0, others: tuple = ()) -> list[Path]:
    """Two folds of one split; learned: origins of what each was trained on; others: people never tested."""
    made = []
    for fold, (subject, origins) in enumerate(zip("ab", learned, strict=True)):
        folder = run_folder(
            home / f"run_seed{seed}_fold{fold}", [row("physnet", 2, mae_bpm=1.0)], [subject],
            trained=[f"ubfc_rppg_2.{name}" for name in ("a", "b", *others) if name != subject], seed=seed,
            split={"scheme": "kfold", "fold": fold},
            training={"datasets": ["ubfc_rppg_2"], "origins": list(origins)},
        )
        metrics = json.loads((folder / "metrics.json").read_text())
        metrics["test"]["origins"] = [] if origins else ["synthetic"]
        (folder / "metrics.json").write_text(json.dumps(metrics))
        write_windows(folder, {subject: [1.0, 1.0]})
        made.append(folder)
    return made


def test_folds_of_mixed_data_are_one_set(tmp_path: Path) -> None:
    """Made-up recordings among real ones, tested in one fold and trained on in the other: both are told."""
    for result in results(fold_folders(tmp_path, ((), ("synthetic",)))):
        assert result.origins == result.train_origins == ("synthetic",)


def test_the_seed_with_the_most_untested_recordings_counts(tmp_path: Path) -> None:
    """Seeds of folds: recordings that no fold of the second seed tested keep the row from any agreement."""
    both = (("synthetic",), ("synthetic",))
    folders = [*fold_folders(tmp_path, both), *fold_folders(tmp_path, both, seed=1, others=("c", "d"))]
    made = results(folders)
    assert all("2 seeds" in result.label and result.untested == 2 for result in made)
