"""params.json: strict, whole, and honest about what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commands.params import load_config
from utils import config
from utils.errors import ParamsError, UserError

ROOT = Path(__file__).resolve().parent.parent
GOOD = {
    "data": {"sets": [{"name": "ubfc_rppg_2", "root": "somewhere"}]},
    "net": {"name": "physnet"},
}


def write(folder: Path, value: object) -> str:
    path = folder / "params.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return str(path)


def problems(folder: Path, value: object, overrides: list[str] | None = None) -> dict[str, str]:
    with pytest.raises(ParamsError) as caught:
        load_config(write(folder, value), overrides or [])
    return dict(caught.value.problems)


SHIPPED = [ROOT / "params.json", *(p for p in (ROOT / "params").rglob("*.json") if p.parent.name != "splits")]


@pytest.mark.parametrize("path", sorted(SHIPPED), ids=lambda p: p.name)
def test_every_shipped_params_file_loads(path: Path) -> None:
    """Every params file of the project passes all checks."""
    load_config(str(path), [])


def test_ten_mistakes_come_back_together(tmp_path: Path) -> None:
    """Ten different mistakes in one file are ten messages, each with its path."""
    bad = {
        "data": {"sets": [{"name": "ubfc", "root": "x", "optons": {}}]},
        "split": {"train": 1.0},
        "net": {"name": "physnett"},
        "method": {"name": "supervised", "options": {"los": "mse"}},
        "train": {"epoch": 3, "batch": "5", "amp": "f16", "learning_rate": -1, "optimizer": "adamm"},
        "evaluation": {"protocol": "defalt"},
        "run": {"seed": 5.5},
        "nett": {},
    }
    found = problems(tmp_path, bad)
    for path, word in {
        "data.sets.0.name": "ubfc_rppg_2", "data.sets.0.optons": "options", "split": "at most 1",
        "net.name": 'did you mean "physnet"', "method.options.los": "loss", "train.epoch": "epochs",
        "train.batch": '"5"', "train.amp": "bf16", "train.learning_rate": "greater than 0",
        "train.optimizer": "adam", "evaluation.protocol": "default", "run.seed": "5.5", "nett": "net",
    }.items():
        assert word in found[path], (path, found.get(path))


@pytest.mark.parametrize(("text", "message"), [
    ('{"run": {}, "run": {}}', 'key "run" appears twice'),
    ('{"a": NaN}', "NaN is not a JSON number"),
    ('{"a": ', "line 1 column"),
    ("[" * 100_000, "nested too deeply"),
    ("[]", "a JSON object with sections is expected"),
])
def test_hostile_json_is_one_message(tmp_path: Path, text: str, message: str) -> None:
    """Duplicate keys, NaN, broken and bottomless JSON are refused in one sentence."""
    with pytest.raises(UserError, match=message):
        load_config(write(tmp_path, text), [])


def test_huge_file_is_not_read(tmp_path: Path) -> None:
    """A params file of 100 MB is refused without being parsed."""
    path = tmp_path / "params.json"
    with open(path, "wb") as handle:
        handle.truncate(100_000_000)
    with pytest.raises(UserError, match="larger than 50 MB"):
        load_config(str(path), [])


def test_set_overrides_and_is_checked(tmp_path: Path) -> None:
    """--set changes one value, reads JSON types, and goes through the same checks."""
    path = write(tmp_path, GOOD)
    made = load_config(path, ["train.epochs=3", "run.name=other", "data.sets.0.root=there"])
    assert (made.train.epochs, made.run.name, made.data.sets[0].root) == (3, "other", "there")
    assert "train.epochs" in problems(tmp_path, GOOD, ["train.epochs=many"])
    with pytest.raises(UserError, match="section.key=value"):
        load_config(path, ["epochs"])


def test_comments_and_schema_are_ignored(tmp_path: Path) -> None:
    """Keys that end in _comment, and $schema, change nothing."""
    noted = {**GOOD, "$schema": "./params.schema.json", "why_comment": "x",
             "train": {"epochs_comment": "few", "epochs": 2}}
    assert load_config(write(tmp_path, noted), []).train.epochs == 2


def test_defaults_of_checks_are_those_of_the_sections() -> None:
    """The fallback values in the cross checks equal the sections' own defaults."""
    from utils.settings import Split

    assert (Split().train, Split().valid, Split().test, Split().folds) == (0.7, 0.1, 0.2, 5)
    assert config._cross_checks({}) == []


@pytest.mark.parametrize(("change", "path"), [
    ({"split": {"scheme": "lists"}}, "split.lists"),
    ({"split": {"lists": {"train": ["subject1"]}}}, "split.lists"),
    ({"split": {"scheme": "kfold", "file": "lists.json"}}, "split.file"),
    ({"split": {"scheme": "kfold", "lists": {"test": ["subject1"]}}}, "split.lists"),
    ({"split": {"scheme": "folds"}}, "split.file"),
    ({"evaluation": {"region": "fore_head"}}, "evaluation.region"),
    ({"split": {"scheme": "kfold", "folds": 3, "fold": 3}}, "split.fold"),
    ({"net": {"name": "physnet", "input": {"frames": 127}}}, "net.input"),
    ({"net": {"name": "physnet", "input": {"size": 8}}}, "net.input"),
    ({"net": {"name": "contrast_phys", "input": {"frames": 2}}}, "net.input"),
    ({"net": {"name": "physnet", "options": {"head_pool": "sum"}}}, "net.options.head_pool"),
    ({"run": {"name": "../up"}}, "run.name"),
    ({"run": {"device": "gpu"}}, "run.device"),
    ({"preprocessing": {"face_finder": "harr"}}, "preprocessing.face_finder"),
    ({"evaluation": {"classical": ["physnet"]}}, "evaluation.classical"),
    ({"train": {"scheduler": "onecycle"}}, "train.scheduler"),
    ({"method": {"name": "adaptive"}, "train": {"amp": "fp16"}}, "train.amp"),
    ({"method": {"name": "adaptive"}, "train": {"compile": True}}, "train.compile"),
    ({"net": {"name": "stven"}, "method": {"name": "stven"}, "train": {"compile": "reduce-overhead"}},
     "train.compile"),
    ({"train": {"optimizer_options": {"betas": 3, "bogus": 1}}}, "train.optimizer_options.bogus"),
])
def test_impossible_combinations_are_named(tmp_path: Path, change: dict, path: str) -> None:
    """Each cross check names the setting to change."""
    assert path in problems(tmp_path, {**GOOD, **change})


def test_schema_file_is_the_export() -> None:
    """params.schema.json equals what the config classes export."""
    assert json.loads((ROOT / "params.schema.json").read_text()) == config.schema()


def test_readme_table_is_generated() -> None:
    """The params table of the README equals `main.py list --params`."""
    assert config.params_table() in (ROOT / "README.md").read_text()
