"""The zoo: entries that fit their nets, files found, checked and imported once, and what users are told."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

import main
import nets
from benchmarks.machine import RESULTS
from commands import zoo
from commands.building import build_method
from commands.imported import read_about
from commands.predict import of_file
from nets.weights import read_state
from preprocessing.synthetic.generate import generate
from utils.config import validate
from utils.errors import UserError
from utils.files import write_json

DATA = os.environ.get("RPPG_REAL_DATA")
MEMBER = "fake_weights/data/small.pth"


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zoo with the one entry "small", whose file is returned; imported files go to a folder of the test."""
    torch.manual_seed(0)
    file = tmp_path / "small.pth"
    torch.save(nets.build("deepphys", size=12).state_dict(), file)
    told = {
        "sources": {"fake": {
            "package": "fake-weights", "version": "1.0", "get": "run `pip install fake-weights`",
            "about": {"licence": "MIT", "conditions": ["for tests"]},
        }},
        "entries": {"small": {
            "source": "fake", "path": MEMBER, "checked": {"bpm": 75.0, "reference_bpm": 75.4, "pass": True},
            "recipe": {"net": "deepphys", "options": {"size": 12}, "input": {},
                       "preprocessing": {"box_scale": 1.0}},
            "about": {"sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "trained_on": "nobody",
                      "fps": 30.0},
        }},
    }
    (tmp_path / "zoo.json").write_text(json.dumps(told))
    monkeypatch.setattr(zoo, "ENTRIES", tmp_path / "zoo.json")
    monkeypatch.setenv(zoo.FOLDER, str(tmp_path / "cache"))
    return file


def state_of(net: nn.Module) -> list[torch.Tensor]:
    return list(net.state_dict().values())


def test_entry_is_imported_once_and_carries_what_it_is(small: Path) -> None:
    """From the user's file into the cache; later without the file; the file tells net, crops and origin."""
    path = zoo.resolve("small", small)
    small.unlink()
    assert zoo.resolve("small") == path and path.parent.name == "cache"
    predictor = of_file(path, None, {})
    assert predictor.preprocessing.box_scale == 1.0 and predictor.origin is not None
    assert predictor.origin.sentence() == "trained on nobody at 30 frames a second; terms: MIT"
    assert predictor.origin.conditions == ("for tests",) and predictor.origin.zoo == "small"


def test_predict_tells_what_it_takes_and_warns(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The training is told before the result, what is unlike it is warned of; both are in the summary."""
    made = generate(tmp_path / "film", seed=3, train=1, valid=0, test=0, hard=0, control=0, seconds=5.0,
                    workers=1, progress=False)
    film = tmp_path / "film" / made["train"][0] / "vid.avi"
    words = ["--checkpoint", "zoo:small", "--source", str(small), "--out", str(tmp_path / "out")]
    assert main.main(["predict", str(film), *words]) == 0
    said = capsys.readouterr()
    assert "deepphys: trained on nobody at 30 frames a second; terms: MIT" in said.out
    assert "frames are fewer than a clip of this net (180)" in said.err.replace("\n", " ")
    summary = json.loads((tmp_path / "out/vid/summary.json").read_text())
    assert summary["weights"]["zoo"] == "small"
    assert any("fewer than a clip" in text for text in summary["warnings"])


def test_entry_is_found_in_a_wheel(small: Path, tmp_path: Path) -> None:
    """--source may be the package's wheel; one without the file is refused."""
    for name, member in (("good.whl", MEMBER), ("other.whl", "else.pth")):
        with zipfile.ZipFile(tmp_path / name, "w") as wheel:
            wheel.write(small, member)
    assert zoo.resolve("small", tmp_path / "good.whl").exists()
    with pytest.raises(UserError, match=r"small.pth is not in it"):
        zoo.resolve("small", tmp_path / "other.whl")


def test_entry_is_found_in_the_installed_package(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package is located by its metadata and not imported."""
    site = tmp_path / "site"
    (site / MEMBER).parent.mkdir(parents=True)
    small.rename(site / MEMBER)
    (site / "fake_weights/__init__.py").write_text("raise RuntimeError('imported')")
    about = site / "fake_weights-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-weights\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(str(site))
    assert zoo.resolve("small").exists()
    assert "fake_weights" not in sys.modules


def test_absent_weights_say_what_to_do(small: Path) -> None:
    """Neither given nor installed: the command to get them; an unknown name: the close one."""
    with pytest.raises(UserError, match="pip install fake-weights"):
        zoo.resolve("small")
    with pytest.raises(UserError, match='did you mean "small"'):
        zoo.resolve("smal")


def test_another_file_is_refused(small: Path) -> None:
    """A file with another hash is never taken for the entry's."""
    small.write_bytes(small.read_bytes() + b"x")
    with pytest.raises(UserError, match="not the file of this entry"):
        zoo.resolve("small", small)
    assert not zoo.cache_folder().exists()


def test_cache_folder_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """RPPG_ZOO, else XDG_CACHE_HOME."""
    monkeypatch.delenv(zoo.FOLDER, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert zoo.cache_folder() == Path("/somewhere/rppg-training/zoo")
    monkeypatch.setenv(zoo.FOLDER, "/elsewhere")
    assert zoo.cache_folder() == Path("/elsewhere")


def started(path: Path, epochs: int = 1, **fed: str) -> nn.Module:
    """DeepPhys with the weights of a file, fed as a config says."""
    config = validate({
        "data": {"sets": [{"name": "pure", "root": "x"}]}, "train": {"epochs": epochs},
        "net": {"name": "deepphys", "options": {"size": 12}, "init_from": str(path), "input": fed},
        "preprocessing": {"box_scale": 1.0},
    }, "test")
    return build_method(config).net


def test_training_may_start_from_an_entry(small: Path, capsys: pytest.CaptureFixture) -> None:
    """net.init_from takes the imported file, and says where the clips are of another form."""
    path = zoo.resolve("small", small)
    assert all(map(torch.equal, state_of(started(path)), read_state(path).values()))
    assert "learned from other clips" not in capsys.readouterr().err
    started(path, target="standardised")
    assert "target standardised (there diff_normalised)" in capsys.readouterr().err


def test_what_is_not_trained_is_fed_as_it_learned(small: Path) -> None:
    """With train.epochs 0 another form of clips is refused: the net could not get used to it."""
    path = zoo.resolve("small", small)
    started(path, epochs=0)
    with pytest.raises(UserError, match=r"net.init_from: .* target standardised \(there diff_.*train.epochs"):
        started(path, epochs=0, target="standardised")


def test_weights_that_do_not_fit_are_found_before_any_work(small: Path, tmp_path: Path) -> None:
    """No raw data is looked at: the root of this config does not exist."""
    write_json(tmp_path / "params.json", {
        "data": {"sets": [{"name": "pure", "root": "nowhere"}]},
        "net": {"name": "physnet", "init_from": str(small)}, "run": {"output": str(tmp_path / "runs")},
    })
    with pytest.raises(UserError, match=r"small.pth does not fit PhysNet"):
        main.dispatch(main.parser().parse_args(["run", str(tmp_path / "params.json")]))
    assert not (tmp_path / "runs").exists()


def test_source_needs_an_entry(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """--source without zoo:NAME is refused."""
    words = ["predict", "x.mp4", "--source", "w.whl"]
    assert main.main(words) == 2
    assert main.main([*words, "--checkpoint", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("--source goes with --checkpoint zoo:NAME") == 2


def test_list_names_every_entry(capsys: pytest.CaptureFixture) -> None:
    """`list --zoo` has a line for each, with what it was trained on, its terms and what it gave."""
    assert main.main(["list", "--zoo"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, entry in zoo.entries().items():
        (line,) = [text for text in lines if text.split()[:1] == [name]]
        assert f"trained on {entry.origin.trained_on}" in line and "terms: " in line and "real clip: " in line


def test_entries_are_whole() -> None:
    """Each has a hash, terms, a citation, conditions of use, and a net and input that can be built."""
    for name, entry in zoo.entries().items():
        assert entry.recipe.build() is not None, name
        assert len(entry.origin.sha256) == 64 and entry.origin.licence and entry.origin.citation
        assert entry.origin.fps or entry.origin.checked_fps


def test_entries_say_what_the_benchmark_found() -> None:
    """The rates stated for the real clip are those of the committed result, failures included."""
    found = json.loads((RESULTS / "zoo.json").read_text())["entries"]
    for name, entry in zoo.entries().items():
        told = {key: found[name].get(key) for key in ("bpm", "reference_bpm", "pass")}
        assert entry.checked == told
        if told["pass"] is None:
            assert found[name]["reason"]
        else:
            assert told["pass"] == (abs(told["bpm"] - told["reference_bpm"]) <= 3)
        unreliable = any("do not rely on it" in text for text in entry.origin.conditions)
        assert unreliable == (not told["pass"])
    assert sum(bool(row["pass"]) for row in found.values()) >= 3


@pytest.mark.skipif(not DATA, reason="RPPG_REAL_DATA does not name the folder with real data")
def test_public_checkpoint_is_its_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The released Contrast-Phys weights are taken by their hash."""
    monkeypatch.setenv(zoo.FOLDER, str(tmp_path))
    file = Path(DATA or ".") / "model" / "contrast_phys_ubfc_physnet.pt"
    recipe, origin = read_about(zoo.resolve("contrast-phys-ubfc", file)) or (None, None)
    assert recipe is not None and recipe.net == "contrast_phys"
    assert origin is not None and origin.trained_on == "UBFC-rPPG"
