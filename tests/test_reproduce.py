"""Recipes of published tables: run on synthetic data in the layouts of the datasets, at reduced size."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import main
from commands.reproduce import TABLES
from preprocessing.synthetic import layouts
from utils.files import read_json

ROOT = Path(__file__).resolve().parent.parent
SMALL = {
    "preprocessing.face_finder": "none",
    "preprocessing.size": 32,
    "preprocessing.workers": 1,
    "train.epochs": 1,
    "net.input": '{"frames": 32, "size": 16}',
    "logging.figures": "false",
    "run.threads": 1,
    "run.device": "cpu",
    "split.absent": "name",
    "evaluation.bootstrap": 10,
    "evaluation.vital_signs": "false",
}
BOTH_WAYS = ("--only", "physnet_pure_to_ubfc", "physnet_ubfc_to_pure")
TABLE_FILES = sorted(TABLES.rglob("*.json"))


def small(home: Path, **more: object) -> list[str]:
    """--set words that make every recipe tiny and keep its files in `home`."""
    chosen = {**SMALL, "data.store": home / "store", **{k.replace("__", "."): v for k, v in more.items()}}
    return [word for key, value in chosen.items() for word in ("--set", f"{key}={value}")]


def call(*words: object) -> subprocess.CompletedProcess[str]:
    """`main.py reproduce` in a process of its own, from the project's folder."""
    return subprocess.run(
        [sys.executable, "main.py", "reproduce", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "WANDB_MODE": "disabled"},
    )


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small copies of UBFC-rPPG and PURE: two people of six seconds each."""
    home = tmp_path_factory.mktemp("raw")
    for name in ("ubfc_rppg_2", "pure"):
        layouts.build(name).write(home / name, people=2, seconds=6.0)
    return home


@pytest.fixture(scope="module")
def cross(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished cross-dataset table, both ways, with the output of the command in said.txt."""
    home = tmp_path_factory.mktemp("cross")
    done = call(
        "cross",
        "--root",
        f"ubfc_rppg_2={raw / 'ubfc_rppg_2'}",
        "--root",
        f"pure={raw / 'pure'}",
        "--out",
        home / "out",
        *BOTH_WAYS,
        *small(home),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (home / "said.txt").write_text(done.stdout)
    return home


def lines(out: Path) -> list[dict[str, str]]:
    with open(out / "table.csv", newline="") as handle:
        return list(csv.DictReader(handle))


def test_a_cross_dataset_table_is_run_end_to_end(cross: Path) -> None:
    """Train on PURE and test on UBFC-rPPG, and the other way: our rows stand beside published ones."""
    rows = lines(cross / "out")
    ours = {(row["trained on"], row["tested on"]) for row in rows if row["method"] == "physnet"}
    pure, ubfc = "pure, synthetic", "ubfc_rppg_2, synthetic"
    assert ours == {(pure, ubfc), (ubfc, pure)}
    assert {row["protocol"] for row in rows if row["method"] == "physnet"} == {"toolbox2023"}
    assert any(row["method"] == "PhysNet" and row["MAE [bpm]"] == "1.63" for row in rows)
    split = read_json(cross / "out" / "physnet_pure_to_ubfc" / "split.json")["parts"]
    assert {key.partition(".")[0] for key in split["train"]["recordings"]} == {"pure"}
    assert {key.partition(".")[0] for key in split["test"]["recordings"]} == {"ubfc_rppg_2"}


def test_small_synthetic_sets_never_agree_with_published_numbers(cross: Path) -> None:
    """Two recordings are not 42, whatever their error is."""
    verdicts = {row["verdict"] for row in lines(cross / "out")}
    assert verdicts and not any("within" in verdict or "outside" in verdict for verdict in verdicts)


def test_table_files_agree(cross: Path) -> None:
    """table.md, table.csv and table.tex hold the same rows, and the table was printed."""
    text, rows = (cross / "out" / "table.md").read_text(), lines(cross / "out")
    assert text.strip() in (cross / "said.txt").read_text()
    assert sum(line.startswith("| ") for line in text.splitlines()) == len(rows) + 2
    assert (cross / "out" / "table.tex").read_text().count(r"\\") == len(rows) + 1


def test_what_is_finished_is_not_run_again(cross: Path, raw: Path) -> None:
    """The same command once more only makes the table again, byte for byte."""
    before = {path: path.stat().st_mtime_ns for path in (cross / "out").rglob("metrics.json")}
    table = (cross / "out" / "table.md").read_bytes()
    done = call(
        "cross",
        "--root",
        f"ubfc_rppg_2={raw / 'ubfc_rppg_2'}",
        "--root",
        f"pure={raw / 'pure'}",
        "--out",
        cross / "out",
        *BOTH_WAYS,
        *small(cross),
    )
    assert done.returncode == 0 and done.stdout.count("finished: ") == 2
    assert before == {path: path.stat().st_mtime_ns for path in (cross / "out").rglob("metrics.json")}
    assert (cross / "out" / "table.md").read_bytes() == table


@pytest.fixture(scope="module")
def classical(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """GREEN, CHROM and POS on a set of which one recording cannot be read; what was said about it."""
    home = tmp_path_factory.mktemp("classical")
    shutil.copytree(raw / "ubfc_rppg_2", home / "raw")
    (home / "raw" / "subject1" / "ground_truth.txt").write_text("nothing")
    words = ["--root", f"ubfc_rppg_2={home / 'raw'}", "--root", "pure=/nowhere", "--out", home / "out"]
    done = call("ubfc", "--only", "classical", *words, *small(home))
    assert done.returncode == 3, done.stdout + done.stderr
    return home / "out", done.stderr


def test_untrained_methods_need_no_training_part(classical: tuple[Path, str]) -> None:
    """All recordings of a set are tested: nobody is left for training, and nobody is needed."""
    ours = [row for row in lines(classical[0]) if row["method"] in ("green", "chrom", "pos")]
    assert [row["n of N"] for row in ours] == ["1 of 2"] * 3
    assert "no recipe of this table reads it" in classical[1]


def test_failed_recordings_are_named_at_the_end(classical: tuple[Path, str]) -> None:
    """A recording that cannot be read does not stop the table: exit code 3, and it is named."""
    assert "subject1" in classical[1].partition("the table is made, but recordings failed")[2]


def test_folds_are_run_and_pooled(raw: Path, tmp_path: Path) -> None:
    """Leave one person out: every person is a fold of its own, and one row is made of all."""
    done = call(
        "pure",
        "--only",
        "physnet",
        "--root",
        f"pure={raw / 'pure'}",
        "--out",
        tmp_path / "out",
        *small(
            tmp_path, split__scheme="loso", split__file="null", split__valid=0, evaluation__protocol="default"
        ),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in (tmp_path / "out").glob("physnet_fold*")} == {
        "physnet_fold0",
        "physnet_fold1",
    }
    ours = [row for row in lines(tmp_path / "out") if row["method"] == "physnet"]
    assert "2 folds pooled" in ours[0]["result of"] and ours[0]["n of N"] == "4 of 4"
    assert "mean of 2 folds" in ours[1]["result of"]


def test_missing_data_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Without any of the data there is no table: exit 2, and every recipe says what it lacks."""
    assert (
        main.main(
            [
                "reproduce",
                "cross",
                "--root",
                f"pure={tmp_path}",
                "--root",
                f"ubfc_rppg_2={tmp_path / 'no'}",
                "--out",
                str(tmp_path / "out"),
            ]
        )
        == 2
    )
    said = capsys.readouterr().err
    recipes = list((TABLES / "cross").glob("*.json"))
    assert said.count("not run: ") == len(recipes) and "give --root ubfc_rppg_2=FOLDER" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "words, message",
    [
        (["reproduce", "ubcf"], "no table 'ubcf'; did you mean"),
        (["reproduce", "ubfc", "--only", "physnett"], "no such recipe"),
        (["reproduce", "ubfc", "--root", "pure"], "use dataset=FOLDER"),
        (["reproduce", "ubfc", "--root", "puer=/x"], "did you mean"),
    ],
)
def test_wrong_words_are_explained(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unknown tables, recipes and datasets are answered with what there is."""
    assert main.main(words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("path", TABLE_FILES, ids=lambda path: str(path.relative_to(TABLES)))
def test_recipes_say_what_they_are(path: Path) -> None:
    """A recipe has a reason, placeholder roots, a split file that exists, and is named after its table."""
    recipe = json.loads(path.read_text())
    assert recipe["why_comment"].endswith(".") and recipe["run"]["name"] == f"{path.parent.name}_{path.stem}"
    roots = [entry["root"] for entry in recipe["data"]["sets"]]
    assert all(root.startswith("data/") for root in roots)
    file = recipe["split"].get("file", "")
    assert not file or any(file.startswith(root) for root in roots) or (ROOT / file).exists()


@pytest.mark.slow
def test_the_folds_of_vipl_hr_become_one_row(tmp_path: Path) -> None:
    """The official folds as the dataset ships them: five runs, one pooled row over all recordings."""
    raw = tmp_path / "VIPL-HR-V1"
    truths = layouts.build("vipl_hr").write(raw, people=5, seconds=8.0)
    done = call(
        "vipl",
        "--only",
        "physnet",
        "--root",
        f"vipl_hr={raw}",
        "--out",
        tmp_path / "out",
        *small(tmp_path, evaluation__protocol="default"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    ours = [row for row in lines(tmp_path / "out") if row["method"] == "physnet"]
    assert ours[0]["result of"].endswith("5 folds pooled") and ours[0]["protocol"] == "default"
    assert ours[0]["n of N"] == f"{len(truths)} of {len(truths)}"
    published = [row for row in lines(tmp_path / "out") if row["method"] == "PhysNet"]
    assert published and all(
        "not comparable: ≠n" in row["verdict"] or "n?" in row["verdict"] for row in published
    )
