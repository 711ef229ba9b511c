"""What a net looks at, by pixel and by facial region; and the figure after each validation."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nets
from commands.attention import look_at, write_attention
from commands.learning import prepare, train_once
from dataset.index import RecordingInfo
from dataset.split import make_split
from evaluation.attention import MAPS, look, region_table
from nets import methods
from nets.methods.base import Method
from nets.methods.supervised import Supervised
from preprocessing.facial_regions import NAMES, facial_regions
from preprocessing.regions import HOLES, OVAL
from tests.fakes import clip_batch
from tests.stores import make_store
from training.tracking import NullTracker
from utils.contracts import InputSpec
from utils.files import read_json
from utils.runlog import RunLog
from utils.seeding import rng_state
from utils.settings import RunConfig

SIZE = 32


class OneRegion(nn.Module):
    """Reads the mean colour of some pixels only."""

    def __init__(self, mask: np.ndarray, frames: int = 16) -> None:
        super().__init__()
        self.input_spec = InputSpec(frames=frames, size=mask.shape[0], video="centred")
        self.register_buffer("mask", torch.from_numpy(mask).float())
        self.gain = nn.Parameter(torch.ones(3))

    def forward(self, video: Tensor) -> Tensor:
        colours = (video * self.mask).sum((3, 4)) / self.mask.sum()
        return (colours * self.gain.view(1, 3, 1)).sum(1)


def mesh(size: int = SIZE) -> np.ndarray:
    """468 made-up points of an upright face: an oval, eyes, brows and mouth where they belong."""
    points = np.full((468, 2), 0.5)
    angle = np.linspace(0, 2 * np.pi, len(OVAL), endpoint=False)
    points[list(OVAL)] = np.stack([0.5 + 0.35 * np.sin(angle), 0.5 - 0.45 * np.cos(angle)], axis=1)
    places = [(0.35, 0.42), (0.65, 0.42), (0.35, 0.34), (0.65, 0.34), (0.5, 0.74)]
    for hole, (x, y) in zip(HOLES, places, strict=True):
        turn = np.linspace(0, 2 * np.pi, len(hole), endpoint=False)
        points[list(hole)] = np.stack([x + 0.08 * np.cos(turn), y + 0.04 * np.sin(turn)], axis=1)
    points[[98, 97, 2, 326, 327]] = [[0.44, 0.62], [0.47, 0.63], [0.5, 0.63], [0.53, 0.63], [0.56, 0.62]]
    points[[48, 64, 129]], points[[278, 294, 358]] = [0.43, 0.58], [0.57, 0.58]
    points[[168, 6, 197, 195]] = [[0.5, 0.42], [0.5, 0.46], [0.5, 0.5], [0.5, 0.54]]
    return points * size


@pytest.fixture
def infos(tmp_path: Path) -> list[RecordingInfo]:
    """Six recordings of 32 px with a face mesh."""
    found = make_store(tmp_path / "store", [40] * 6, size=SIZE)
    for info in found:
        with h5py.File(info.path, "r+") as file:
            file["landmarks"] = np.repeat(mesh()[None], 40, axis=0).astype(np.float16)
    return found


def forehead() -> np.ndarray:
    return facial_regions(mesh(), SIZE)["forehead"]


def test_facial_regions_divide_the_picture() -> None:
    """Every pixel belongs to exactly one region, and every region lies where its name says."""
    masks = facial_regions(mesh(128), 128)
    assert tuple(masks) == NAMES
    assert np.array_equal(sum(masks.values()), np.ones((128, 128)))
    rows, columns = np.mgrid[:128, :128]
    middle = {name: (rows[m > 0].mean(), columns[m > 0].mean()) for name, m in masks.items()}
    assert middle["forehead"][0] < middle["left_eye"][0] < middle["nose"][0] < middle["mouth"][0]
    assert middle["mouth"][0] < middle["chin"][0]
    for name in ("eye", "cheek"):
        assert middle[f"left_{name}"][1] > 64 > middle[f"right_{name}"][1]
    assert masks["background"][0, 0] == 1 and masks["nose"][66, 64] == 1


def test_regions_turn_with_the_face() -> None:
    """On a face turned by 180 degrees the forehead is below and the subject's left is on the left."""
    turned = 128 - mesh(128)
    masks = facial_regions(turned, 128)
    rows, columns = np.mgrid[:128, :128]
    assert rows[masks["forehead"] > 0].mean() > 64 > columns[masks["left_cheek"] > 0].mean()


def test_a_net_that_reads_one_region_looks_at_it_alone() -> None:
    """All weight of both maps lies on the only pixels that such a net reads."""
    net = OneRegion(forehead())
    maps = look(lambda batch: net(batch.video), clip_batch(net.input_spec))
    for name in MAPS:
        for weight in maps[name]:
            table = region_table(weight, facial_regions(mesh(), SIZE))
            assert weight.sum() == pytest.approx(1.0) and table["forehead"]["share"] > 0.999
            assert table["forehead"]["density"] == pytest.approx(1 / table["forehead"]["area"], rel=1e-3)


def test_a_still_place_is_seen_but_contributes_nothing() -> None:
    """Sensitivity is even over a net that averages all pixels; the contribution is where something moves."""
    net = OneRegion(np.ones((8, 8)))
    batch = clip_batch(net.input_spec, n=1)
    batch.video[:, :, :, :, :4] = 0.3
    maps = look(lambda b: net(b.video), batch)
    assert np.allclose(maps["sensitivity"], 1 / 64)
    assert maps["contribution"][0, :, :4].sum() == pytest.approx(0.0, abs=1e-12)
    louder = torch.linspace(0.5, 2.0, 16)
    maps = look(lambda b: net(b.video) * louder, batch)
    assert maps["contribution"][0, :, :4].sum() == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize("answer", [
    lambda batch: torch.zeros(2, 16), lambda batch: batch.video.mean((1, 3, 4)) * 0,
    lambda batch: batch.video.mean((1, 3, 4)) * torch.nan, lambda batch: batch.video,
])
def test_a_waveform_that_owes_nothing_to_the_frames_has_no_map(answer: Any) -> None:
    """A constant answer, one that is not finite and one that is a video are refused, not shown as a map."""
    with pytest.raises(ValueError, match=r"not depend on the frames|zero or not finite|no waveform"):
        look(answer, clip_batch(InputSpec(frames=16, size=8)))


@pytest.mark.parametrize("name", ["physnet", "rppgnet"])
def test_looking_changes_nothing(name: str, infos: list[RecordingInfo]) -> None:
    """Weights, their gradients, training flags and random state are as before; twice gives the same map."""
    net: Any = nets.build(name)
    net.input_spec = net.input_spec.replace(frames=32, size=16)
    method = methods.build("supervised", net).train()
    before = {key: value.clone() for key, value in method.state_dict().items()}
    state = torch.get_rng_state()
    first, second = look_at(method, infos[0]), look_at(method, infos[0])
    assert all(torch.equal(before[key], value) for key, value in method.state_dict().items())
    assert all(p.grad is None for p in method.parameters()) and all(m.training for m in method.modules())
    assert torch.equal(state, torch.get_rng_state())
    assert all(np.array_equal(first.maps[which], second.maps[which]) for which in MAPS)


def written(folder: Path) -> dict[str, str]:
    files = (folder / "figures").iterdir()
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_attention_is_written_for_a_few_recordings(tmp_path: Path, infos: list[RecordingInfo]) -> None:
    """Four of six recordings, nearly all weight on the region the net reads, equal bytes the second time."""
    method = Supervised(OneRegion(forehead()))
    write_attention(tmp_path, method, "net", infos)
    first = written(tmp_path)
    assert set(first) == {"attention.json", "attention.png", "attention.pdf"}
    about = json.loads((tmp_path / "figures" / "attention.json").read_text())
    assert about["n_recordings"] == about["n_with_regions"] == 4 == len(about["recordings"])
    for which in MAPS:
        shares = {name: row["share"] for name, row in about["regions"][which].items()}
        assert shares["forehead"] > 0.999 and sum(shares.values()) == pytest.approx(1.0)
    write_attention(tmp_path, method, "net", infos)
    assert written(tmp_path) == first


def test_without_a_face_mesh_the_maps_stand_alone(tmp_path: Path) -> None:
    """No region is made up where no mesh is stored; the reason stands in the file."""
    infos = make_store(tmp_path / "store", [40] * 2, size=SIZE)
    write_attention(tmp_path, Supervised(OneRegion(forehead())), "net", infos)
    about = json.loads((tmp_path / "figures" / "attention.json").read_text())
    assert about["regions"] == {"sensitivity": {}, "contribution": {}} and "no face mesh" in about["reason"]
    assert (tmp_path / "figures" / "attention.png").exists()


def test_a_map_that_fails_costs_no_results(
    tmp_path: Path, infos: list[RecordingInfo], capsys: pytest.CaptureFixture
) -> None:
    """A net whose answer does not depend on the frames leaves a reason and no old picture."""
    write_attention(tmp_path, Supervised(OneRegion(forehead())), "net", infos)
    deaf = OneRegion(forehead())
    nn.init.zeros_(deaf.gain)
    write_attention(tmp_path, Supervised(deaf), "net", infos)
    assert not (tmp_path / "figures" / "attention.png").exists()
    assert "zero" in json.loads((tmp_path / "figures" / "attention.json").read_text())["reason"]
    assert "no map of what the net looks at" in capsys.readouterr().err


def test_people_who_must_not_be_shown_are_not(
    tmp_path: Path, infos: list[RecordingInfo], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recordings on their dataset's list of people not to be pictured are left out of the maps."""
    everyone = {info.recording for info in infos}
    shown = infos[0].recording
    method = Supervised(OneRegion(forehead()))
    monkeypatch.setattr("commands.attention.hidden", lambda dataset: everyone - {shown})
    write_attention(tmp_path, method, "net", infos)
    assert read_json(tmp_path / "figures" / "attention.json")["recordings"].keys() == {infos[0].key}
    monkeypatch.setattr("commands.attention.hidden", lambda dataset: everyone)
    write_attention(tmp_path / "none", method, "net", infos)
    assert "nobody" in read_json(tmp_path / "none" / "figures" / "attention.json")["reason"]
    assert not (tmp_path / "none" / "figures" / "attention.png").exists()


def test_a_method_without_training_has_no_map(tmp_path: Path, infos: list[RecordingInfo]) -> None:
    """It reads no frames; nothing is written."""
    method: Method = methods.build("classical", nets.build("pos"))
    write_attention(tmp_path, method, "pos", infos)
    assert not (tmp_path / "figures").exists()


# --- a figure after each validation --------------------------------------------------------------


def trained(folder: Path, infos: list[RecordingInfo], draw: bool) -> tuple[dict[str, Tensor], list[Any]]:
    """The weights after a training; its result and the state of every random generator, to be compared."""
    config = RunConfig.model_validate({
        "data": {"sets": [{"name": "made", "root": "raw"}]},
        "split": {"train": 0.5, "valid": 0.25, "test": 0.25},
        "net": {"name": "physnet", "input": {"frames": 32, "size": 16}},
        "train": {"epochs": 4, "batch": 2, "validate_every": 2},
        "logging": {"progress": False, "epoch_figures": draw}, "run": {"threads": 1, "device": "cpu"},
    })
    device, settings, method = prepare(config)
    result = train_once(
        config, settings, device, method, {info.key: info for info in infos},
        make_split(infos, config.split, 0), checkpoints=None, log=RunLog(folder / "log.jsonl"),
        tracker=NullTracker(), figures=folder / "epochs",
    )
    state = rng_state()
    numpy = [x.tolist() if isinstance(x, Tensor) else x for x in state["numpy"]]
    return method.state_dict(), [result, state["python"], numpy, state["torch"].tolist()]


def test_figures_after_each_validation_change_no_bit(tmp_path: Path) -> None:
    """A picture for epochs 2 and 4; weights, losses, metrics and random state equal those without."""
    infos = make_store(tmp_path / "store", [150] * 4, size=16)
    plain, first = trained(tmp_path, infos, draw=False)
    assert not (tmp_path / "epochs").exists()
    drawn, second = trained(tmp_path, infos, draw=True)
    assert sorted(p.name for p in (tmp_path / "epochs").iterdir()) == ["epoch_0002.png", "epoch_0004.png"]
    assert first == second
    assert all(torch.equal(plain[key], drawn[key]) for key in plain)
