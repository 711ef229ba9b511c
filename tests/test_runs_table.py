"""Runs beside published numbers: verdicts, marks, seeds, folds, rivals."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from evaluation import published
from evaluation.aggregate import Result, load_run, results
from evaluation.runs_table import COLUMNS, runs_table
from evaluation.verdict import is_preset, judge, tolerance
from evaluation.vital_table import vital_table
from tests.run_folders import protocol, row, run_folder, write_windows
from utils.errors import UserError

FACTS = published.load()
ALL_UBFC = [f"subject{i}" for i in range(42)]
LAST12 = [f"subject{i}" for i in range(38, 50)]


def result(
    method: str = "pos", train: str | None = None, test: str = "ubfc_rppg_2", **changes: object
) -> Result:
    """A result that is comparable with the toolbox2023 rows on all 42 recordings."""
    values = {"mae_bpm": 4.0, "rmse_bpm": 8.0, "sd_bpm": 8.0, "pearson_r": 0.9}
    facts = {
        "run": "run",
        "ids": ("12345678",),
        "method": method,
        "names": (method,),
        "trained": (train,) if train else (),
        "tested": (test,),
        "protocol": protocol("toolbox2023"),
        "values": values,
        "n": 42,
        "expected": 42,
        "n_recordings": 42,
        "subjects": tuple(f"{test}/{s}" for s in ALL_UBFC),
        **changes,
    }
    return Result(**facts)  # type: ignore[arg-type]


def entry(method: str, test: str, train: str | None, source: str) -> published.Entry:
    found = [e for e in FACTS.rows if (e.method, e.test, e.train, e.source) == (method, test, train, source)]
    return next(e for e in found if e.quantity == "hr")


POS = entry("pos", "ubfc_rppg_2", None, "toolbox2023")
CROSS = entry("physnet", "ubfc_rppg_2", "pure", "toolbox2023")


@pytest.mark.parametrize(
    "mae, word", [(4.0, "within"), (4.5, "within"), (3.5, "within"), (4.51, "outside"), (3.4, "outside")]
)
def test_untrained_methods_agree_within_half_a_bpm(mae: float, word: str) -> None:
    """Published 4.00: 0.5 bpm to both sides, and no further."""
    assert str(judge(POS, result(values={"mae_bpm": mae, "rmse_bpm": 8.0}), FACTS)) == word


def test_trained_nets_agree_within_a_bpm_or_a_quarter() -> None:
    """1 bpm for small errors, 25 % for large ones."""
    assert CROSS.values["mae_bpm"] == 1.63 and tolerance(CROSS, 1.63, False) == 1.0
    assert tolerance(CROSS, 9.36, False) == pytest.approx(2.34)
    ours = result("physnet", "pure", values={"mae_bpm": 2.6, "rmse_bpm": 5.0})
    assert str(judge(CROSS, ours, FACTS)) == "within"


def test_loose_targets_are_held_to_a_tenth_of_the_rmse() -> None:
    """VIPL-HR in the official folds: RMSE 14.8 within 10 %, and the verdict says loose."""
    vipl = entry("physnet", "vipl_hr", "vipl_hr", "autohr")
    ours = result(
        "physnet",
        "vipl_hr",
        "vipl_hr",
        protocol=protocol("physformer"),
        n=2378,
        expected=2378,
        n_recordings=2378,
        split_source="fold/fold*.mat",
        values={"mae_bpm": 9.0, "rmse_bpm": 13.5},
    )
    assert str(judge(vipl, ours, FACTS)) == "loose: within"
    worse = {"mae_bpm": 10.8, "rmse_bpm": 16.4}
    assert str(judge(vipl, result(**{**vars(ours), "values": worse}), FACTS)) == "loose: outside"
    other = result(**{**vars(ours), "split_source": "folds of RS-rPPG"})
    assert str(judge(vipl, other, FACTS)) == "not comparable: ≠s"


@pytest.mark.parametrize(
    "changes, mark",
    [
        ({"n_recordings": 41, "n": 41, "expected": 41}, "≠n"),
        ({"n": 41}, "≠n"),
        ({"protocol": protocol("toolbox")}, "≠p"),
        ({"protocol": protocol("toolbox2023", window_s=30.0)}, "≠p"),
        ({"protocol": protocol("toolbox2023", filter_high_hz=2.6)}, "≠p"),
        ({"origins": ("synthetic",)}, "≠d"),
        ({"leaks": ("train and test share 2 subjects",)}, "leaks"),
        ({"untested": 3}, "folds"),
    ],
)
def test_nothing_agrees_when_something_differs(changes: dict, mark: str) -> None:
    """Other recordings, protocol or data give no verdict of agreement, whatever the numbers are."""
    assert str(judge(POS, result(**changes), FACTS)) == f"not comparable: {mark}"


def test_an_own_protocol_with_a_presets_choices_is_that_preset() -> None:
    """What counts is every choice, not the name."""
    assert is_preset({**protocol("toolbox2023"), "name": "mine"}, "toolbox2023")
    assert not is_preset({**protocol("default"), "name": "toolbox2023"}, "toolbox2023")


def test_a_leak_into_the_validation_part_alone_is_no_mark() -> None:
    """The published PURE list of HR-CNN validates within its training part; its test part is clean."""
    assert str(judge(POS, result(leaks=("train and valid share 7 subjects",)), FACTS)) == "within"


def test_unstated_recordings_and_misprints_are_never_agreed_with() -> None:
    """n? where a document does not say what it tested; a flagged slip is no target."""
    green = entry("green", "ubfc_rppg_2", None, "pulsegan")
    slip = next(e for e in FACTS.rows if e.values.get("rmse_bpm") == 9.92 and e.test == "pure")
    assert judge(green, result("green"), FACTS).marks == ("n?", "≠p")
    assert "misprint" in judge(slip, result("chrom", test="pure"), FACTS).marks


def test_the_same_number_of_other_people_is_not_comparable() -> None:
    """Twelve recordings, but not subjects 38 to 49."""
    contrast = entry("contrast_phys", "ubfc_rppg_2", "ubfc_rppg_2", "contrastphys_1")
    ours = {"protocol": protocol("contrastphys"), "n": 12, "expected": 12, "n_recordings": 12}
    right = tuple(f"ubfc_rppg_2/{s}" for s in LAST12)
    wrong = (*right[:-1], "ubfc_rppg_2/subject1")
    args = {"values": {"mae_bpm": 0.7, "rmse_bpm": 1.0}}
    assert (
        str(judge(contrast, result("contrast_phys", "ubfc_rppg_2", subjects=right, **ours, **args), FACTS))
        == "within"
    )
    assert (
        str(judge(contrast, result("contrast_phys", "ubfc_rppg_2", subjects=wrong, **ours, **args), FACTS))
        == "not comparable: ≠s"
    )


def test_published_rows_stand_below_ours(tmp_path: Path) -> None:
    """A row of ours counts its verdicts; below it stand the rows of the same method, and no others'."""
    folder = run_folder(
        tmp_path / "demo",
        [row("pos", 42, mae_bpm=4.2, rmse_bpm=8.0), row("constant", 42, mae_bpm=9.0)],
        ALL_UBFC,
        stored=protocol("toolbox2023"),
    )
    table = runs_table([folder])
    cells = [dict(zip(COLUMNS, line, strict=True)) for line in table.rows]
    assert cells[0]["method"] == "pos" and cells[0]["verdict"].startswith("1 within")
    assert cells[0]["n of N"] == "42 of 42" and cells[0]["result of"].startswith("demo ")
    beside = cells[1 : next(i for i, c in enumerate(cells) if c["method"] == "constant")]
    assert {c["method"].split(" (")[0] for c in beside} == {"POS"}
    agreed = [c for c in beside if c["verdict"] == "within"]
    assert [(c["MAE [bpm]"], c["n of N"], c["protocol"]) for c in agreed] == [("4.00", "42", "toolbox2023")]
    assert any("rPPG-Toolbox" in note for note in table.notes)


def test_other_datasets_have_no_published_numbers(tmp_path: Path) -> None:
    """Numbers of one dataset are never shown beside another one."""
    folder = run_folder(
        tmp_path / "own",
        [row("physnet", 3, mae_bpm=1.0)],
        ["a", "b", "c"],
        dataset="folder",
        trained=["folder.d"],
    )
    table = runs_table([folder])
    assert len(table.rows) == 1 and table.rows[0][-1] == "–"
    assert table.notes == ["no published number is known here for these methods and datasets"]


def test_a_net_that_learned_by_another_papers_method_is_that_papers() -> None:
    """PhysNet trained as Contrast-Phys does stands beside Contrast-Phys, not beside PhysNet."""
    ubfc = ("ubfc_rppg_2",)
    found = FACTS.of(("contrast_phys", "physnet"), ubfc, ubfc)
    assert found and {entry.method for entry in found} == {"contrast_phys"}
    assert {entry.method for entry in FACTS.of(("supervised", "physnet"), ubfc, ubfc)} == {"physnet"}


def test_rows_of_another_training_set_are_not_beside() -> None:
    """Trained on PURE, on UBFC-rPPG and untrained are three things."""
    ubfc, pure = ("ubfc_rppg_2",), ("pure",)
    for trained in (ubfc, pure):
        found = FACTS.of(("physnet",), trained, ubfc)
        assert found and {entry.train for entry in found} == set(trained)
    assert {entry.train for entry in FACTS.of(("pos",), (), ubfc)} == {None}
    assert not FACTS.of(("pos",), (), ("ubfc_rppg_2", "pure"))


def test_rivals_are_those_of_the_same_training_and_test_set(tmp_path: Path) -> None:
    """A net trained on PURE and tested on UBFC-rPPG sees others that were, by their own authors."""
    folder = run_folder(
        tmp_path / "cross",
        [row("physnet", 42, mae_bpm=2.0)],
        ALL_UBFC,
        trained=["pure.01-01"],
        stored=protocol("toolbox2023"),
    )
    few, many = runs_table([folder]), runs_table([folder], every=True)
    rivals = [line for line in few.rows if line[-1] == "–" and line[1] != "physnet"]
    assert {line[2] for line in rivals} == {"pure"} and all("own" in line[3] for line in rivals)
    assert len(many.rows) > 2 * len(few.rows) and {line[0] for line in many.rows} == {"ubfc_rppg_2"}


def test_missing_recordings_are_counted(tmp_path: Path) -> None:
    """n of N counts a recording that failed before it could be predicted."""
    folder = run_folder(
        tmp_path / "run",
        [row("pos", 41, mae_bpm=4.0)],
        ALL_UBFC[:41],
        missing=["ubfc_rppg_2.lost"],
        stored=protocol("toolbox2023"),
    )
    table = runs_table([folder])
    assert table.rows[0][5] == "41 of 42" and "within" not in table.rows[0][-1]


def test_a_leaking_split_is_marked(tmp_path: Path) -> None:
    """A run that was tested on people it was trained on says so in its label and gets no verdict."""
    folder = run_folder(
        tmp_path / "run", [row("pos", 42, mae_bpm=4.0)], ALL_UBFC, stored=protocol("toolbox2023"), split=None
    )
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps({**metrics, "split": {"leaks": True}}))
    table = runs_table([folder])
    assert "(LEAKS)" in table.rows[0][3] and "within" not in table.rows[0][-1]


def test_seeds_become_mean_and_sd(tmp_path: Path) -> None:
    """Three runs that differ in seed and name are one row: 1.0, 2.0, 3.0 is 2.00 +- 1.00."""
    folders = [
        run_folder(
            tmp_path / f"s{seed}",
            [row("physnet", 42, mae_bpm=1.0 + seed, rmse_bpm=2.0)],
            ALL_UBFC,
            trained=["pure.01-01"],
            seed=seed,
        )
        for seed in range(3)
    ]
    made = results(folders)
    assert len(made) == 1 and made[0].values["mae_bpm"] == 2.0 and made[0].spread["mae_bpm"] == 1.0
    line = dict(zip(COLUMNS, runs_table(folders).rows[0], strict=True))
    assert (
        line["MAE [bpm]"] == "2.00 ± 1.00"
        and line["RMSE"] == "2.00 ± 0.00"
        and "3 seeds" in line["result of"]
    )


def test_the_seed_with_the_fewest_units_counts(tmp_path: Path) -> None:
    """A seed in which a method failed somewhere makes the common row incomplete."""
    folders = [
        run_folder(tmp_path / f"s{seed}", [row("physnet", n, mae_bpm=1.0)], ALL_UBFC, seed=seed)
        for seed, n in enumerate((42, 41))
    ]
    assert [(made.n, made.expected) for made in results(folders)] == [(41, 42)]


def test_a_number_missing_in_one_seed_is_missing_in_the_mean(tmp_path: Path) -> None:
    """A seed without r does not make the mean of the others look like that of all."""
    folders = [
        run_folder(tmp_path / f"s{seed}", [row("physnet", 42, mae_bpm=1.0, pearson_r=r)], ALL_UBFC, seed=seed)
        for seed, r in enumerate((0.9, None))
    ]
    assert results(folders)[0].values["pearson_r"] is None


def test_repeats_of_a_seed_are_no_evidence(tmp_path: Path) -> None:
    """Two runs of the same seed stay two rows: their SD would be 0 and mean nothing."""
    folders = [
        run_folder(tmp_path / name, [row("physnet", 42, mae_bpm=1.0)], ALL_UBFC) for name in ("a", "b")
    ]
    made = results(folders)
    assert len(made) == 2 and not made[0].spread


def test_other_settings_are_other_rows(tmp_path: Path) -> None:
    """Runs that differ in anything but seed, fold and place are never averaged."""
    folders = [
        run_folder(tmp_path / name, [row("physnet", 42, mae_bpm=1.0)], ALL_UBFC, seed=seed)
        for seed, name in enumerate(("a", "b"))
    ]
    params = json.loads((folders[1] / "params.json").read_text())
    (folders[1] / "params.json").write_text(json.dumps({**params, "train": {"epochs": 6}}))
    assert len(results(folders)) == 2


def test_the_run_id_changes_with_the_experiment(tmp_path: Path) -> None:
    """Other folders give the same id, another seed or another split another one."""
    same = [load_run(run_folder(tmp_path / place / "run", [], ALL_UBFC)).id for place in "ab"]
    other = load_run(run_folder(tmp_path / "c" / "run", [], ALL_UBFC, seed=1)).id
    assert same[0] == same[1] != other


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    """Unfinished and damaged folders are named."""
    with pytest.raises(UserError, match=r"no metrics.json; finish the run"):
        load_run(tmp_path)
    (tmp_path / "metrics.json").write_text('{"rows": []}')
    with pytest.raises(UserError, match=r"metrics.json: not the metrics of a run"):
        load_run(tmp_path)


def test_table_as_csv_and_latex(tmp_path: Path) -> None:
    """CSV reads back to the same cells; LaTeX escapes underscores and has one line per row."""
    table = runs_table([run_folder(tmp_path / "demo_1", [row("pos", 9, mae_bpm=4.0)], ALL_UBFC[:9])])
    assert list(csv.reader(io.StringIO(table.csv()))) == [table.columns, *table.rows]
    latex = table.latex()
    assert r"demo\_1" in latex and latex.count(r"\\") == 1 + len(table.rows) and r"$\neq$n" in latex


FOLDS = ({"a": [1.0, -1.0], "b": [3.0]}, {"c": [0.0], "dd": [2.0]})


def fold_folders(home: Path, folds: tuple = FOLDS, seed: int = 0) -> list[Path]:
    """Runs of the folds of one split over the subjects a, b, c, dd, with windows.csv."""
    made = []
    everyone = [subject for fold in FOLDS for subject in fold]
    for index, errors in enumerate(folds):
        sizes = [abs(error) for values in errors.values() for error in values]
        mae = sum(sizes) / len(sizes)
        folder = run_folder(
            home / f"run_seed{seed}_fold{index}",
            [row("physnet", len(sizes), mae_bpm=mae, rmse_bpm=9.0)],
            list(errors),
            trained=[f"ubfc_rppg_2.{s}" for s in everyone if s not in errors],
            seed=seed,
            split={"scheme": "folds", "file": "folds.json", "fold": index},
        )
        metrics = json.loads((folder / "metrics.json").read_text())
        metrics["test"]["n_windows"] = len(sizes)
        (folder / "metrics.json").write_text(json.dumps(metrics))
        write_windows(folder, errors)
        made.append(folder)
    return made


def test_folds_become_one_table_row(tmp_path: Path) -> None:
    """Errors 1, -1, 3 and 0, 2: pooled MAE 7/5, RMSE sqrt(15/5), ME 1; mean of the folds (5/3 + 1)/2."""
    pooled, mean = results(fold_folders(tmp_path))
    assert pooled.label.startswith("run ") and pooled.label.endswith(", 2 folds pooled")
    assert mean.label == pooled.label.replace("2 folds pooled", "mean of 2 folds") and mean.is_mean
    assert pooled.values["mae_bpm"] == pytest.approx(7 / 5) and pooled.values["me_bpm"] == pytest.approx(1.0)
    assert pooled.values["rmse_bpm"] == pytest.approx((15 / 5) ** 0.5) and (pooled.n, pooled.expected) == (
        5,
        5,
    )
    assert mean.values["mae_bpm"] == pytest.approx((5 / 3 + 1) / 2) and mean.spread[
        "mae_bpm"
    ] == pytest.approx((5 / 3 - 1) / 2**0.5)
    assert pooled.n_recordings == 4 and not pooled.untested
    assert set(pooled.subjects) == {f"ubfc_rppg_2/{s}" for s in ("a", "b", "c", "dd")}


def test_missing_folds_are_told(tmp_path: Path) -> None:
    """One of two folds is not the result of the split: it says so and is never agreed with."""
    table = runs_table(fold_folders(tmp_path)[:1])
    assert "fold 0" in table.rows[0][3]
    three = fold_folders(tmp_path / "three", (*FOLDS, {"e": [1.0]}))
    made = results([three[0], three[1]])
    assert all("within" not in line[-1] for line in table.rows)
    assert made[0].untested == 0  # nobody of fold 2 trained here: the two folds are whole
    lost = results(three[1:])
    assert lost[0].untested == 2 and "2 recordings are in no tested fold" in lost[0].notes[0]


def test_folds_of_several_seeds(tmp_path: Path) -> None:
    """Each seed's folds are pooled first; mean and SD are over the seeds."""
    worse = ({"a": [2.0, -2.0], "b": [6.0]}, {"c": [0.0], "dd": [4.0]})
    made = results([*fold_folders(tmp_path), *fold_folders(tmp_path, worse, seed=1)])
    assert made[0].values["mae_bpm"] == pytest.approx((7 / 5 + 14 / 5) / 2)
    assert (
        made[0].spread["mae_bpm"] == pytest.approx((14 / 5 - 7 / 5) / 2**0.5) and "2 seeds" in made[0].label
    )


def test_a_seed_that_lacks_folds_is_left_out_by_name(tmp_path: Path) -> None:
    """A seed with one of two folds would be another test set."""
    made = results([*fold_folders(tmp_path), fold_folders(tmp_path, seed=7)[0]])
    assert made[0].values["mae_bpm"] == pytest.approx(7 / 5) and any(
        "seeds 7 left out" in n for n in made[0].notes
    )


def test_recordings_in_two_folds_are_refused(tmp_path: Path) -> None:
    """Folds that share a recording are not folds of one split."""
    folders = fold_folders(tmp_path, ({"a": [1.0]}, {"a": [2.0]}))
    with pytest.raises(UserError, match=r"ubfc_rppg_2.a was tested in .*these are not folds"):
        results(folders)


def test_failed_windows_count_in_the_pooled_row(tmp_path: Path) -> None:
    """A method that failed in a fold has n of N below N, not a better mean."""
    folders = fold_folders(tmp_path)
    write_windows(folders[0], FOLDS[0], failed="b")
    pooled = results(folders)[0]
    assert (pooled.n, pooled.expected) == (4, 5) and pooled.values["mae_bpm"] == pytest.approx(1.0)


def test_folds_need_their_windows(tmp_path: Path) -> None:
    """Without windows.csv, or with another file in its place, folds cannot be pooled."""
    folders = fold_folders(tmp_path)
    (folders[1] / "windows.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"windows.csv: no column part"):
        results(folders)
    (folders[1] / "windows.csv").unlink()
    with pytest.raises(UserError, match=r"folds can only be pooled from the windows.csv"):
        results(folders)


def test_runs_can_be_shown_under_another_protocol(tmp_path: Path) -> None:
    """metrics.<protocol>.json of `evaluate` takes the place of the run's own; folds are refused."""
    folder = run_folder(tmp_path / "run", [row("pos", 42, mae_bpm=9.0)], ALL_UBFC)
    metrics = json.loads((folder / "metrics.json").read_text())
    other = {**metrics, "protocol": protocol("toolbox2023"), "rows": [row("pos", 42, mae_bpm=4.1)]}
    (folder / "metrics.toolbox2023.json").write_text(json.dumps(other))
    line = dict(zip(COLUMNS, runs_table([folder], protocol="toolbox2023").rows[0], strict=True))
    assert (line["protocol"], line["MAE [bpm]"]) == ("toolbox2023", "4.10")
    with pytest.raises(
        UserError, match=r"no metrics.toolbox.json; `python main.py evaluate .* --protocol toolbox`"
    ):
        runs_table([folder], protocol="toolbox")
    folds = fold_folders(tmp_path / "folds")
    for fold in folds:
        (fold / "metrics.toolbox.json").write_text((fold / "metrics.json").read_text())
    with pytest.raises(UserError, match="leave out --protocol"):
        runs_table(folds, protocol="toolbox")


def test_variability_stands_beside_published_tables(tmp_path: Path) -> None:
    """RF, LF, HF and LF/HF of a run with vital signs, the published rows below; no table without."""
    found = {"me": 0.0, "sd": 0.1, "rmse": 0.11, "mae": 0.1, "pearson_r": 0.2, "n": 40, "n_failed": 2}
    signs = {"rows": [{"method": "pos", "rf_hz": found, "lf_nu": found}], "warnings": ["short"]}
    folder = run_folder(tmp_path / "run", [row("pos", 42, mae_bpm=4.0)], ALL_UBFC, vital_signs=signs)
    table = vital_table([folder])
    assert table is not None and table.rows[0][1:3] == ["RF [Hz]", "pos"] and table.rows[0][5] == "40 of 42"
    assert table.rows[1][1:3] == ["RF [Hz]", "POS"] and table.rows[1][-3:] == ["0.109", "0.107", "0.087"]
    assert "run: short" in table.notes
    assert vital_table([run_folder(tmp_path / "none", [], ALL_UBFC)]) is None


def test_windows_count_as_often_as_they_stand_for_units(tmp_path: Path) -> None:
    """First windows with three units each: errors 1 1 1 -1 3 3 3 and 0 0 0 2 2 2."""
    folders = fold_folders(tmp_path)
    for folder, errors in zip(folders, FOLDS, strict=True):
        write_windows(folder, errors, units=3)
    pooled = results(folders)[0]
    assert pooled.n == 13 and pooled.values["mae_bpm"] == pytest.approx((3 + 1 + 9 + 0 + 6) / 13)
