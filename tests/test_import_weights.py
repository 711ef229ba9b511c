"""Weights of other programs: every key accounted for, nothing silently mismatched, the same outputs."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import main
import nets
from commands.imported import Origin, Recipe, outside, read_about
from commands.predict import of_file
from nets.foreign import KERAS_EPSILON, KerasFile, match
from nets.registry import NETS
from utils.errors import UserError

SIZE, DEPTH = 20, 4
"""Pictures that leave 3 x 3 maps before the linear layers, so that the order of flattening shows."""


def shaken(net: nn.Module) -> nn.Module:
    """Every weight and running statistic with a value of its own; variances stay positive."""
    generator = torch.Generator().manual_seed(7)
    for key, value in net.state_dict().items():
        if value.is_floating_point():
            noise = torch.randn(value.shape, generator=generator)
            value.copy_(noise.abs() + 0.5 if key.endswith("running_var") else 0.2 * noise)
    return net.eval()


def physnet_names(net: nn.Module) -> dict[str, Tensor]:
    """State of PhysNet under the names of its release and of rPPG-Toolbox."""
    blocks = {f"block{i}": f"ConvBlock{i}" for i in range(1, 10)} | {"up1": "upsample", "up2": "upsample2"}
    renamed = {}
    for key, value in net.state_dict().items():
        first, *rest = key.split(".")
        if first == "head":
            renamed[f"ConvBlock10.{rest[0]}"] = value
        else:
            renamed[f"{blocks[first]}.{('conv', 'norm').index(rest[0])}.{rest[1]}"] = value
    return renamed


def toolbox_names(net: nn.Module) -> dict[str, Tensor]:
    """State of a net with two branches under the names of rPPG-Toolbox, which spells it "apperance"."""
    return {key.replace("appearance_", "apperance_"): value for key, value in net.state_dict().items()}


def clip_for(net: nn.Module, frames: int) -> Tensor:
    spec = net.input_spec
    generator = torch.Generator().manual_seed(1)
    return 120 + 30 * torch.randn(1, spec.channels, frames, spec.size, spec.size, generator=generator)


def imported(source: Path, *words: str) -> Path:
    """The file that the command makes of `source`."""
    target = source.with_name(f"{source.stem}.imported.pt")
    assert main.main(["import-weights", str(source), "--output", str(target), *words]) == 0
    return target


def refused(source: Path, capsys: pytest.CaptureFixture, *words: str) -> str:
    """What the command says when it refuses, with exit code 2 and no file."""
    target = source.with_name("never.pt")
    assert main.main(["import-weights", str(source), "--output", str(target), *words]) == 2
    assert not target.exists()
    return capsys.readouterr().err


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize(("name", "options"), [
    ("physnet", {}), ("deepphys", {"size": SIZE}), ("tscan", {"size": SIZE, "frame_depth": DEPTH}),
    ("efficientphys", {"size": SIZE, "frame_depth": DEPTH}),
])
def test_toolbox_file_gives_equal_outputs(
    name: str, options: dict[str, int], wrapper: str | None, tmp_path: Path
) -> None:
    """A state dict under rPPG-Toolbox's names and "module.", bare or wrapped, answers as the net it is of."""
    torch.manual_seed(0)
    net = shaken(nets.build(name, **options))
    renamed = physnet_names(net) if name == "physnet" else toolbox_names(net)
    state = {f"module.{key}": value for key, value in renamed.items()}
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "toolbox.pth")
    words = [word for key, value in options.items() for word in ("--set", f"{key}={value}")]
    predictor = of_file(imported(tmp_path / "toolbox.pth", "--net", name, *words), None, {})
    clip = clip_for(net, 8)[..., :16, :16] if name == "physnet" else clip_for(net, 8)
    with torch.no_grad():
        assert torch.equal(predictor.method.net(clip), net(clip))


def keras_file(path: Path, net: nn.Module, told: KerasFile) -> dict[str, np.ndarray]:
    """Write `net` in the layout of Keras, each kind of layer written out; returns the variables."""
    made = {}
    for layer, name in told.layers.items():
        module = net.get_submodule(name)
        weight = module.weight.detach().numpy()
        if isinstance(module, nn.Linear):
            kernel = weight.T
            if name in told.flattened:
                channels, side = told.flattened[name], round((weight.shape[1] / told.flattened[name]) ** 0.5)
                maps = weight.reshape(-1, channels, side, side)
                kernel = np.einsum("ochw->hwco", maps).reshape(-1, len(weight))
        elif isinstance(module, nn.ConvTranspose3d):
            kernel = np.einsum("iothw->thwoi", weight)
        elif isinstance(module, nn.Conv3d):
            kernel = np.einsum("oithw->thwio", weight)
        elif isinstance(module, nn.Conv2d):
            kernel = np.einsum("oihw->hwio", weight)
        elif isinstance(module, nn.Conv1d):
            kernel = np.einsum("oit->tio", weight)
        else:
            kernel = weight
        variables = [kernel, getattr(module, "bias", None), getattr(module, "running_mean", None),
                     getattr(module, "running_var", None)]
        for number, value in enumerate(v for v in variables if v is not None):
            made[f"{layer}/vars/{number}"] = np.asarray(torch.as_tensor(value).detach())
    with h5py.File(path, "w") as handle:
        for key, value in made.items():
            handle[key] = value
    return made


KERAS_NETS = {
    "physnet": {}, "tscan": {"size": SIZE, "frame_depth": DEPTH}, "physformer": {},
    "efficientphys": {"size": SIZE, "frame_depth": DEPTH},
}


@pytest.mark.parametrize("name", KERAS_NETS)
def test_keras_file_gives_every_tensor_its_own_values(name: str, tmp_path: Path) -> None:
    """Kernels of every kind of layer, of an equally built net, come back in torch's layout, bit by bit."""
    told = NETS.get(name).keras
    options = {**told.options, **KERAS_NETS[name]}
    net = shaken(nets.build(name, **options))
    keras_file(tmp_path / "w.h5", net, told)
    made = match(nets.build(name, **options), tmp_path / "w.h5")
    assert made.problems == []
    assert made.state.keys() == net.state_dict().keys()
    for key, value in net.state_dict().items():
        assert torch.equal(made.state[key], value), key


def test_every_net_with_keras_files_is_tested() -> None:
    """No net states a Keras layout that the test above leaves out."""
    assert set(KERAS_NETS) == {name for name in NETS.names() if hasattr(NETS.get(name), "keras")}


def by_hand(w: dict[str, np.ndarray], frames: Tensor) -> Tensor:
    """EfficientPhys of open-rppg from the variables of its file: frames (T, S, S, 3), 0..1 -> (T,)."""

    def conv(layer: str, maps: Tensor, padding: int) -> Tensor:
        kernel, bias = (torch.from_numpy(w[f"{layer}/vars/{i}"]) for i in (0, 1))
        padded = F.pad(maps, (0, 0, padding, padding, padding, padding))
        patches = padded.unfold(1, kernel.shape[0], 1).unfold(2, kernel.shape[1], 1)
        return torch.einsum("nyxihw,hwio->nyxo", patches, kernel) + bias

    def shift(maps: Tensor) -> Tensor:
        moved, third = maps.clone(), maps.shape[-1] // 3
        for t in range(len(maps)):
            place = t % DEPTH
            moved[t, ..., :third] = maps[t + 1, ..., :third] if place < DEPTH - 1 else 0
            moved[t, ..., third:2 * third] = maps[t - 1, ..., third:2 * third] if place else 0
        return moved

    def masked(layer: str, maps: Tensor) -> Tensor:
        mask = conv(layer, maps, 0).sigmoid()
        mask = mask * mask.shape[1] * mask.shape[2] / (2 * mask.sum((1, 2), keepdim=True))
        maps = (maps * mask)[:, :maps.shape[1] // 2 * 2, :maps.shape[2] // 2 * 2]
        return sum(maps[:, i::2, j::2] for i in (0, 1) for j in (0, 1)) / 4

    motion = torch.cat([frames[1:] - frames[:-1], torch.zeros_like(frames[:1])])
    gamma, beta, mean, var = (torch.from_numpy(w[f"bn/vars/{i}"]).reshape(SIZE, SIZE, 1) for i in range(4))
    maps = gamma * (motion - mean) / (var + KERAS_EPSILON).sqrt() + beta
    maps = torch.tanh(conv("layers/conv2d", shift(maps), 1))
    maps = masked("attc1", torch.tanh(conv("layers/conv2d_1", shift(maps), 0)))
    maps = torch.tanh(conv("layers/conv2d_2", shift(maps), 1))
    maps = masked("attc2", torch.tanh(conv("layers/conv2d_3", shift(maps), 0)))
    flat = maps.reshape(len(maps), -1)
    for layer in ("dense1", "dense2"):
        kernel, bias = (torch.from_numpy(w[f"{layer}/vars/{i}"]) for i in (0, 1))
        flat = flat @ kernel + bias
        flat = torch.tanh(flat) if layer == "dense1" else flat
    return flat[:, 0]


def test_efficientphys_of_open_rppg_by_hand(tmp_path: Path) -> None:
    """The imported net answers as its layers, channels last and written out, do."""
    told = NETS.get("efficientphys").keras
    net = shaken(nets.build("efficientphys", **{**told.options, **KERAS_NETS["efficientphys"]}))
    variables = keras_file(tmp_path / "w.h5", net, told)
    file = imported(tmp_path / "w.h5", "--net", "efficientphys", "--set", f"size={SIZE}", "--set",
                    f"frame_depth={DEPTH}")
    frames = torch.rand(2 * DEPTH, SIZE, SIZE, 3, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        ours = of_file(file, None, {}).method.net(frames.permute(3, 0, 1, 2)[None])[0]
    torch.testing.assert_close(ours, by_hand(variables, frames), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(("name", "frames", "size"), [("physnet", 8, 32), ("physformer", 8, 32)])
def test_variant_of_open_rppg_standardises_colours(name: str, frames: int, size: int) -> None:
    """Another gain and offset of each colour changes the answer by rounding only, unlike as released."""
    small = getattr(NETS.get(name), "small_options", {})
    clip = 100 + 20 * torch.rand(1, 3, frames, size, size, generator=torch.Generator().manual_seed(3))
    other = clip * torch.tensor([1.1, 0.8, 0.9]).view(1, 3, 1, 1, 1) + 7
    change = {}
    for variant in ("open_rppg", "released"):
        torch.manual_seed(0)
        net = nets.build(name, variant=variant, **small).eval()
        with torch.no_grad():
            change[variant] = float((net(clip) - net(other)).abs().max())
    assert change["open_rppg"] < change["released"] / 100


def test_variants_are_as_large_as_their_files() -> None:
    """As many weights as the packages' files hold, without their running statistics."""
    sizes = {name: sum(p.numel() for p in nets.build(name, **NETS.get(name).keras.options).parameters())
             for name in KERAS_NETS}
    assert sizes == {
        "physnet": 768_577, "tscan": 532_899, "physformer": 7_380_865, "efficientphys": 2_178_561,
    }


def small_state() -> dict[str, Tensor]:
    return toolbox_names(shaken(nets.build("deepphys", size=12)))


SMALL = ("--net", "deepphys", "--set", "size=12")


@pytest.mark.parametrize(("change", "words"), [
    (lambda s: s.pop("motion_conv2.bias"), "motion_conv2.bias (32,) is missing in the source"),
    (lambda s: s.update({"extra.weight": torch.zeros(3)}), "extra.weight: DeepPhys has no extra.weight"),
    (lambda s: s.update({"motion_conv2.bias": torch.zeros(31)}), "motion_conv2.bias is (31,), not (32,)"),
    (lambda s: s["motion_conv2.bias"].fill_(float("nan")), "motion_conv2.bias: values that are not finite"),
])
def test_what_does_not_fit_is_refused_by_name(
    change: object, words: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Missing, unknown, misshapen and broken keys: exit code 2, named, also reported; no file."""
    state = small_state()
    change(state)  # type: ignore[operator]
    torch.save(state, tmp_path / "w.pth")
    assert words in refused(tmp_path / "w.pth", capsys, *SMALL)
    report = json.loads((tmp_path / "never.report.json").read_text())
    assert not report["fits"] and any(words in problem for problem in report["problems"])


def test_two_keys_for_one_tensor_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A tensor under the toolbox's name and under ours: which one is meant is not guessed."""
    torch.save({**small_state(), "appearance_conv1.bias": torch.zeros(32)}, tmp_path / "w.pth")
    assert "mean the same" in refused(tmp_path / "w.pth", capsys, *SMALL)


@pytest.mark.parametrize(("change", "words"), [
    (lambda h: h.__delitem__("attc1/vars/1"), "appearance_att_conv1.bias (32,) is missing"),
    (lambda h: h.__setitem__("attc3/vars/0", np.zeros(3, "f4")), "attc3/vars/0 (3,) is not known in files"),
    (lambda h: h.__setitem__("attc1/vars/2", np.zeros(3, "f4")), "has no appearance_att_conv1.vars/2"),
    (lambda h: h.__setitem__("dense1/notes", np.zeros(3, "f4")), "dense1/notes is no variable"),
])
def test_keras_files_that_do_not_fit_are_refused(
    change: object, words: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """The same of Keras files."""
    told = NETS.get("efficientphys").keras
    net = shaken(nets.build("efficientphys", **{**told.options, **KERAS_NETS["efficientphys"]}))
    keras_file(tmp_path / "w.h5", net, told)
    with h5py.File(tmp_path / "w.h5", "a") as handle:
        change(handle)  # type: ignore[operator]
    options = ("--net", "efficientphys", "--set", f"size={SIZE}", "--set", f"frame_depth={DEPTH}")
    assert words in refused(tmp_path / "w.h5", capsys, *options)


def test_what_is_no_weight_is_skipped_and_said(tmp_path: Path) -> None:
    """A profiler's counts are skipped, missing counters of batch norms begin at 0; the report says both."""
    state = physnet_names(shaken(nets.build("physnet")))
    state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    torch.save({**state, "total_ops": torch.zeros(1), "ConvBlock1.total_params": torch.zeros(1)},
               tmp_path / "w.pth")
    file = imported(tmp_path / "w.pth", "--net", "physnet")
    rows = json.loads(file.with_suffix(".report.json").read_text())["keys"]
    done = {row["source"] or row["ours"]: row["done"] for row in rows}
    assert done["total_ops"] == done["ConvBlock1.total_params"] == "skipped: of a profiler, no weight"
    assert done["block1.norm.num_batches_tracked"].startswith("set to 0")
    assert done["ConvBlock1.0.weight"] == "copied"
    assert len(rows) == len(nets.build("physnet").state_dict()) + 2


def test_file_carries_its_origin_and_its_input(tmp_path: Path) -> None:
    """Name, hash and terms of the source, and what the net is fed, come back with the file."""
    torch.save(small_state(), tmp_path / "w.pth")
    file = imported(tmp_path / "w.pth", *SMALL, "--set", "input.frames=60", "--trained-on", "UBFC-rPPG",
                    "--fps", "25", "--licence", "RAIL")
    recipe, origin = read_about(file) or (None, None)
    assert recipe == Recipe("deepphys", {"size": 12}, {"frames": 60})
    assert origin is not None and (origin.file, origin.trained_on, origin.fps, origin.licence) == (
        "w.pth", "UBFC-rPPG", 25.0, "RAIL")
    assert len(origin.sha256) == 64
    predictor = of_file(file, None, {})
    assert predictor.method.input_spec.frames == 60 and predictor.origin == origin


@pytest.mark.parametrize(("words", "said"), [
    (("--net", "physnett"), 'did you mean "physnet"'),
    ((*SMALL, "--set", "sise=12"), 'did you mean "size"'),
    ((*SMALL, "--set", "input.video=blue"), "video"),
    ((*SMALL, "--set", "size"), "use section.key=value"),
])
def test_wrong_words_are_explained(
    words: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Unknown nets, options and inputs end with exit code 2 and the close name."""
    torch.save(small_state(), tmp_path / "w.pth")
    assert said in refused(tmp_path / "w.pth", capsys, *words)


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A file that is there is kept."""
    torch.save(small_state(), tmp_path / "w.pth")
    imported(tmp_path / "w.pth", *SMALL)
    target = str(tmp_path / "w.imported.pt")
    assert main.main(["import-weights", str(tmp_path / "w.pth"), *SMALL, "--output", target]) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"text", b"\x89HDF\r\n\x1a\n and no more"])
def test_files_of_other_kinds_are_refused(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Empty, foreign and cut files end with exit code 2 and their name."""
    (tmp_path / "w.h5").write_bytes(content)
    assert "w.h5" in refused(tmp_path / "w.h5", capsys, "--net", "physnet")


def test_keras_file_of_an_unknown_net_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A net of which no Keras files are known says so."""
    keras_file(tmp_path / "w.h5", nets.build("physnet"), NETS.get("physnet").keras)
    assert "no Keras files of DeepPhys" in refused(tmp_path / "w.h5", capsys, "--net", "deepphys")


@pytest.mark.parametrize(("name", "method"), [
    ("rhythmnet", "RhythmNetMethod"), ("contrast_phys", "ContrastPhysMethod"), ("physnet", "Supervised"),
])
def test_bare_weights_take_the_nets_own_method(name: str, method: str, tmp_path: Path) -> None:
    """A state dict alone is answered by the method its net is made for."""
    torch.save(nets.build(name).state_dict(), tmp_path / "w.pt")
    assert type(of_file(tmp_path / "w.pt", name, {}).method).__name__ == method


@pytest.mark.parametrize("name", ["transrppg", "lfa"])
def test_nets_without_a_pulse_are_refused(name: str, tmp_path: Path) -> None:
    """A net that gives no pulse is refused with a sentence, never with a traceback."""
    torch.save(nets.build(name).state_dict(), tmp_path / "w.pt")
    with pytest.raises(UserError, match="cannot predict a pulse by itself"):
        of_file(tmp_path / "w.pt", name, {})


def test_every_default_method_takes_its_net() -> None:
    """The method a net names exists and accepts it."""
    from commands.building import default_method

    for name in NETS.names():
        if hasattr(NETS.get(name), "default_method"):
            small = getattr(NETS.get(name), "small_options", {})
            assert default_method(nets.build(name, **small)) is not None


@pytest.mark.parametrize(("origin", "video", "said"), [
    ({"fps": 30.0}, (60.0, 300, 200.0), "trained at 30"),
    ({"checked_fps": 30.0}, (15.0, 300, 200.0), "checked at 30"),
    ({}, (30.0, 100, 200.0), "fewer than a clip"), ({}, (30.0, 300, 50.0), "50 pixels wide"),
    ({"fps": 30.0}, (29.97, 300, 200.0), None), ({}, (100.0, 300, 200.0), None),
])
def test_what_is_outside_the_training_is_named(
    origin: dict[str, float], video: tuple[float, int, float], said: str | None
) -> None:
    """Frame rate, length and size of the face; nothing where all are as in the training or not known."""
    told = outside(Origin("w.h5", "0" * 64, **origin), 72, 180, *video)
    assert (said in told[0] and len(told) == 1) if said else told == []
