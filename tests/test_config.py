"""params.json: strict, whole, and honest about what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commands.params import EXTRAS, load_config
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
    from utils.settings import Preprocessing, Split

    assert (Split().train, Split().valid, Split().test, Split().folds) == (0.7, 0.1, 0.2, 5)
    assert config._cross_checks({}) == []
    assert all(getattr(Preprocessing(), name) is usual for name, usual in EXTRAS.values())


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
    ({"preprocessing": {"face_finder": "mediapipe_tasks"}}, "preprocessing.face_model"),
    ({"preprocessing": {"face_finder": "mediapipe_tasks", "face_model": "no/such.task"}},
     "preprocessing.face_model"),
    ({"preprocessing": {"face_model": "face.task"}}, "preprocessing.face_model"),
    ({"net": {"name": "physnet", "input": {"quality": "x264_250"}}}, "net.input.quality"),
    ({"net": {"name": "physnet", "input": {"quality": "x264_250", "frames": 127}}}, "net.input"),
    ({"net": {"name": "rppgnet"}, "method": {"name": "rppgnet"}}, "preprocessing.skin_mask"),
    ({"net": {"name": "meta_rppg"}, "method": {"name": "meta_rppg"}, "preprocessing": {"landmarks": False}},
     "preprocessing.landmarks"),
    ({"net": {"name": "stven"}, "method": {"name": "stven"}, "preprocessing": {"qualities": ["x264_1000"]}},
     "method.options.qualities"),
    ({"run": {"before": [{"name": "a", "net": {"name": "physnet", "input": {"quality": "x264_250"}}}]}},
     "run.before.0.net.input.quality"),
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


def test_copies_that_are_stored_may_be_read(tmp_path: Path) -> None:
    """A compressed copy that preprocessing makes is no problem, for the net and for the method."""
    copies = {"preprocessing": {"qualities": ["x264_1000", "x264_500", "x264_250"]}}
    read = {"net": {"name": "physnet", "input": {"quality": "x264_250"}}}
    assert load_config(write(tmp_path, {**GOOD, **copies, **read}), []).net.input.quality == "x264_250"
    both = {"net": {"name": "stven"}, "method": {"name": "stven"}}
    load_config(write(tmp_path, {**GOOD, **copies, **both}), [])


@pytest.mark.parametrize(("content", "message"), [
    (None, "No such file"), ("{", "line 1 column 2"), ('["a"]', "lists of names are expected"),
])
def test_a_split_file_that_cannot_be_read_is_a_problem(
    tmp_path: Path, content: str | None, message: str
) -> None:
    """Missing, damaged or something else, it is named with the other problems, before any work."""
    file = tmp_path / "lists.json"
    if content is not None:
        file.write_text(content)
    here = {**GOOD, "data": {"sets": [{"name": "pure", "root": str(tmp_path)}]}, "train": {"epochs": -1},
            "split": {"scheme": "lists", "file": str(file)}}
    found = problems(tmp_path, here)
    assert message in found["split.file"] and str(file) in found["split.file"] and "train.epochs" in found


def test_folds_that_the_file_does_not_have_are_a_problem(tmp_path: Path) -> None:
    """Of two folds the third cannot be tested."""
    file = tmp_path / "folds.json"
    file.write_text('{"folds": [["a"], ["b"]]}')
    here = {**GOOD, "data": {"sets": [{"name": "pure", "root": str(tmp_path)}]},
            "split": {"scheme": "folds", "file": str(file), "fold": 1}}
    assert load_config(write(tmp_path, here), []).split.fold == 1
    assert "2" in problems(tmp_path, here, ["split.fold=2"])["split.fold"]


def test_lists_in_two_places_are_a_problem(tmp_path: Path) -> None:
    """split.file and split.lists together are refused when the params are read."""
    file = tmp_path / "lists.json"
    file.write_text('{"train": ["a"], "test": ["b"]}')
    here = {**GOOD, "data": {"sets": [{"name": "pure", "root": str(tmp_path)}]},
            "split": {"scheme": "lists", "file": str(file)}}
    assert load_config(write(tmp_path, here), []).split.file == str(file)
    assert "both given" in problems(tmp_path, here, ['split.lists={"train": ["a"]}'])["split"]


def test_a_split_file_is_not_missed_before_its_dataset(tmp_path: Path) -> None:
    """Where the dataset is not there, that is what the user is told, when it is looked for."""
    there = {**GOOD, "split": {"scheme": "lists", "file": "somewhere/lists.json"}}
    assert load_config(write(tmp_path, there), []).split.file == "somewhere/lists.json"


@pytest.mark.parametrize("letters", ["\0", "\n", "\x1b[2J", "\ud800", "\x85"])
def test_texts_that_no_file_can_be_called_are_problems(tmp_path: Path, letters: str) -> None:
    """Control characters and lone surrogates are named by setting, all at once, as keys too."""
    bad = {**GOOD, "data": {"sets": [{"name": "pure", "root": f"a{letters}"}]},
           "net": {"name": "physnet", "options": {f"b{letters}": 1}}, "run": {"output": letters}}
    found = problems(tmp_path, bad)
    assert set(found) == {"data.sets.0.root", "net.options", "run.output"}
    assert all(text.isascii() and text.isprintable() for text in found.values())


def test_other_letters_than_english_ones_are_possible(tmp_path: Path) -> None:
    """Spaces, umlauts and Chinese are texts as any other."""
    assert load_config(write(tmp_path, GOOD), ["run.output=mes fichiers/ü 心"]).run.output.endswith("心")


def test_deep_nesting_below_the_parsers_limit_is_refused(tmp_path: Path) -> None:
    """800 brackets in an option are parsed, and then refused in a sentence."""
    deep: list = []
    for _ in range(800):
        deep = [deep]
    with pytest.raises(UserError, match="nested too deeply"):
        load_config(write(tmp_path, {**GOOD, "net": {"name": "pos", "options": {"a": deep}}}), [])
