"""A run folder is one experiment: same params, same people, one process."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from pathlib import Path

import pytest
import torch

import nets
from commands import testing
from commands.learning import refuse_unlabelled, train_once
from commands.lineage import Learned
from commands.recordings import keep_split
from commands.runfolder import RunFolder
from commands.starting import best_weights
from dataset.index import RecordingInfo
from dataset.split import make_split
from nets import methods
from training.tracking import NullTracker
from utils.config import validate
from utils.errors import UserError
from utils.runlog import RunLog
from utils.settings import RunConfig, Split


def config(folder: Path, **train: object) -> RunConfig:
    return validate({
        "data": {"sets": [{"name": "x", "root": "y"}]}, "net": {"name": "z"},
        "train": train, "run": {"name": "r", "output": str(folder)},
    }, "test")


def infos(sha256: str = "a") -> dict[str, RecordingInfo]:
    made = [RecordingInfo(
        key=f"d.s{i}", dataset="d", subject=f"s{i}", recording=f"s{i}", path=Path(f"s{i}.h5"), n_frames=100,
        fps=30.0, size=16, has_label=True, sha256=f"{sha256}{i}",
    ) for i in range(6)]
    return {info.key: info for info in made}


def test_the_split_is_kept_with_the_run(tmp_path: Path) -> None:
    """Another split, or the same people with other recordings, is refused by name; the same is accepted."""
    people, path = infos(), tmp_path / "split.json"
    parts = make_split(list(people.values()), Split(), seed=0)
    keep_split(people, parts, path, Learned())
    keep_split(people, parts, path, Learned())
    with pytest.raises(UserError, match="the recordings changed"):
        keep_split(infos("b"), parts, path, Learned())
    fewer = [info for info in people.values() if info.key != parts.keys("train")[0]]
    with pytest.raises(UserError, match="the split changed"):
        keep_split(people, make_split(fewer, Split(), seed=0), path, Learned())


def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path) -> None:
    """Somebody's folder of that name is refused by name, and not a byte of it is changed."""
    own = {"params.json": '{"mine": 1}', ".x.tmp": "work", "notes.txt": ""}
    for kept in (own, {"params.json": "{", ".lock": ""}, {"notes.txt": ""}, {".x.tmp": ""},
                 {"params.json": '{"data": {}, "net": {}}'}):
        folder = tmp_path / "r"
        folder.mkdir()
        for name, text in kept.items():
            (folder / name).write_text(text)
        with pytest.raises(UserError, match=r"r: holds files.*choose another run\.name"), \
                RunFolder(config(tmp_path)).opened():
            pass
        assert {path.name: path.read_text() for path in folder.iterdir()} == kept
        shutil.rmtree(folder)


@pytest.mark.parametrize("left", [[], [".lock"], [".lock", ".params.json.17.tmp"], ["params.json"]])
def test_a_run_killed_early_goes_on(tmp_path: Path, left: list[str]) -> None:
    """Whatever the first moments of a run leave behind, and a copy without hidden files, is continued."""
    with RunFolder(config(tmp_path)).opened() as folder:
        whole = (folder / "params.json").read_text()
    shutil.rmtree(folder)
    folder.mkdir()
    for name in left:
        (folder / name).write_text(whole if name == "params.json" else "")
    with RunFolder(config(tmp_path)).opened():
        assert sorted(path.name for path in folder.iterdir()) == [".lock", "params.json"]


def test_a_lost_best_checkpoint_is_said_with_the_remedy(tmp_path: Path) -> None:
    """The last weights do not take the place of those that validation chose."""
    with pytest.raises(UserError, match=r"run\.save_model = false"):
        best_weights(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.pt").write_bytes(b"")
    with pytest.raises(UserError, match=r"best\.pt: not there.*delete .*checkpoints, then run it again"):
        best_weights(tmp_path)
    (tmp_path / "finished.json").write_text("{}")
    with pytest.raises(UserError, match=r"delete .*checkpoints and .*finished\.json"):
        best_weights(tmp_path)


def test_recordings_without_a_label_are_named_before_training() -> None:
    """All of them, for methods that need every label; not for those that pass over them or read a share."""
    people = list(infos().values())
    bare = [dataclasses.replace(info, has_label=False) for info in people[:4]]
    net = nets.build("physnet")
    with pytest.raises(UserError, match=r"no label for training: d\.s0, d\.s1, d\.s2, d\.s3; leave"):
        refuse_unlabelled(methods.build("supervised", net), [*bare, *people[4:]])
    refuse_unlabelled(methods.build("supervised", net), people)
    for name, options in {"contrast_phys": {"label_share": 0.5}, "stven": {}, "rhythmnet": {}}.items():
        refuse_unlabelled(methods.build(name, nets.build(name), **options), [*bare, *people[4:]])
    for share in (0.0, 0.5, 1.0):  # Contrast-Phys+ without a single label would be Contrast-Phys
        learner = methods.build("contrast_phys", nets.build("contrast_phys"), label_share=share)
        with pytest.raises(UserError, match="no label") if share else contextlib.nullcontext():
            refuse_unlabelled(learner, bare)


def test_a_training_is_refused_before_its_first_clip_is_read(tmp_path: Path) -> None:
    """The files of these recordings do not exist: what is said is who has no label."""
    people = {key: dataclasses.replace(info, has_label=key == "d.s0") for key, info in infos().items()}
    parts = make_split(list(people.values()), Split(), seed=0)
    bare = [key for key in parts.keys("train") if key != "d.s0"]
    chosen, method = config(tmp_path, epochs=1), methods.build("supervised", nets.build("physnet"))
    with pytest.raises(UserError, match="no label for training: " + ", ".join(bare)):
        train_once(chosen, chosen.train, torch.device("cpu"), method, people, parts,
                   checkpoints=None, log=RunLog(None), tracker=NullTracker())


def test_other_params_are_named_with_both_values(tmp_path: Path) -> None:
    """Once there is a split, a changed setting is refused by path and values; what changes no result may."""
    with RunFolder(config(tmp_path, batch=3)).opened() as folder:
        pass
    with RunFolder(config(tmp_path, batch=4)).opened():
        (folder / "split.json").write_text("{}")
    with pytest.raises(UserError, match=r"train\.batch: 4 there, 8 now"), \
            RunFolder(config(tmp_path, batch=8)).opened():
        pass
    with RunFolder(config(tmp_path, batch=4, checkpoint_steps=3)).opened():
        pass


@pytest.mark.parametrize("epochs", [1, 3])
@pytest.mark.parametrize("finished", [False, True])
def test_a_run_is_neither_prolonged_nor_cut_short(tmp_path: Path, epochs: int, finished: bool) -> None:
    """Either would give another result than a run of that many epochs: validation and schedule differ."""
    folder = RunFolder(config(tmp_path, epochs=2))
    with folder.opened() as path:
        (path / "split.json").write_text("{}")
        if finished:
            folder.finish()
    with pytest.raises(UserError, match=r"train\.epochs: 2 there, . now(.|\n)*net\.init_from"), \
            RunFolder(config(tmp_path, epochs=epochs)).opened():
        pass


def test_two_processes_cannot_share_a_run(tmp_path: Path) -> None:
    """While one process works on a run, another one is turned away."""
    with RunFolder(config(tmp_path)).opened(), \
            pytest.raises(UserError, match="another process"), RunFolder(config(tmp_path)).opened():
        pass


def test_the_split_hash_is_that_of_who_is_where() -> None:
    """Other people, another hash; the content of their files has a hash of its own."""
    people = list(infos().values())
    assert make_split(people, Split(), 0).hash != make_split(people[:-1], Split(), 0).hash
    renamed = [dataclasses.replace(info, sha256="zz") for info in people]
    assert make_split(people, Split(), 0).hash == make_split(renamed, Split(), 0).hash


def test_the_runs_own_method_keeps_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of POS with options is answered by that POS, not by the table's plain row of the same name."""
    asked: list[dict] = []
    monkeypatch.setattr(testing, "infer", lambda methods, *rest, **more: asked.append(methods) or [])
    monkeypatch.setattr(testing, "StoreClips", lambda info, spec, frames: info)
    people = infos()
    own = methods.build("classical", nets.build("pos", compat=True))
    chosen = validate({
        "data": {"sets": [{"name": "x", "root": "y"}]}, "net": {"name": "pos"},
        "method": {"name": "classical"},
    }, "test")
    testing.predict_parts(chosen, own, people, make_split(list(people.values()), Split(), seed=0))
    assert list(asked[0]) == ["pos", "green", "chrom"] and asked[0]["pos"] is own
