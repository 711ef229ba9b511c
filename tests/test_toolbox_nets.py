"""DeepPhys, TS-CAN and EfficientPhys: counts, layer tables written out, shift, borders of clips, names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nets
from nets.efficientphys import difference
from nets.layers.attention import flat_width, soft_mask, temporal_shift
from nets.summary import model_summary
from nets.weights import load_weights
from utils.contracts import InputSpec
from utils.errors import UserError

NAMES = ("deepphys", "tscan", "efficientphys")
EACH = pytest.mark.parametrize("name", NAMES)
DEPTH = 10


def built(name: str, **options: object) -> nn.Module:
    torch.manual_seed(0)
    return nets.build(name, **{"size": 16, **options}).eval()


def clips_for(net: nn.Module, n: int = 2, frames: int = 2 * DEPTH) -> Tensor:
    spec: InputSpec = net.input_spec
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, spec.channels, frames, spec.size, spec.size, generator=generator)


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("name", "counts"),
    [("deepphys", (532_899, 2_228_643, 4_096_419)), ("tscan", (532_899, 2_228_643, 4_096_419)),
     ("efficientphys", (467_337, 2_163_081, 4_030_857))],
)
def test_parameters_are_those_of_the_sheet(name: str, counts: tuple[int, ...]) -> None:
    """At 36, 72 and 96 pixels."""
    assert tuple(count(nets.build(name, size=size)) for size in (36, 72, 96)) == counts


def test_second_head_is_the_multi_task_variants() -> None:
    """With respiration TS-CAN has as many parameters as MTTS-CAN, at 72 pixels."""
    assert count(nets.build("tscan", respiration=True)) == 4_326_052


def test_width_before_the_linear_layers() -> None:
    """What is left of 36, 72, 96 and 128 pixels."""
    assert [flat_width(size) for size in (36, 72, 96, 128)] == [3_136, 16_384, 30_976, 57_600]


@pytest.mark.parametrize(
    ("name", "mmac"),
    [("deepphys", (51.24, 227.05, 413.90)), ("tscan", (51.24, 227.05, 413.90)),
     ("efficientphys", (25.85, 114.69, 209.14))],
)
def test_operations_are_those_of_the_sheet(name: str, mmac: tuple[float, ...]) -> None:
    """Multiply-accumulates a frame at 36, 72 and 96 pixels."""
    for size, expected in zip((36, 72, 96), mmac, strict=True):
        net = nets.build(name, size=size)
        _, values = model_summary(net, net.input_spec.replace(frames=DEPTH))
        assert values["macs_per_clip"] / DEPTH / 1e6 == pytest.approx(expected, abs=0.005)


def literal_shift(frames: Tensor, depth: int) -> Tensor:
    """The temporal shift as the sheet tells it, number by number."""
    n, channels = frames.shape[:2]
    fold, shifted = channels // 3, frames.clone()
    for i in range(n):
        for c in range(2 * fold):
            other = i + 1 if c < fold else i - 1
            inside = 0 <= other < n and other // depth == i // depth
            shifted[i, c] = frames[other, c] if inside else 0
    return shifted


@pytest.mark.parametrize(("channels", "depth"), [(3, 5), (32, 10), (4, 2), (2, 5)])
def test_shift_is_the_literal_one(channels: int, depth: int) -> None:
    """A third from the next frame, a third from the previous one, zeros at the ends of a group."""
    frames = torch.randn(4 * depth, channels, 3, 2)
    assert torch.equal(temporal_shift(frames, depth), literal_shift(frames, depth))


def literal_mask(logit: Tensor) -> Tensor:
    """q H W / (2 sum of q), frame by frame."""
    q = logit.sigmoid()
    height, width = q.shape[2:]
    return torch.stack([frame * height * width / (2 * frame.sum()) for frame in q])


def test_mask_is_the_literal_one() -> None:
    """The mask of each frame sums to half the number of its places."""
    logit = 3 * torch.randn(4, 1, 7, 5)
    torch.testing.assert_close(soft_mask(logit), literal_mask(logit))
    torch.testing.assert_close(soft_mask(logit).mean((1, 2, 3)), torch.full((4,), 0.5))


def conv(net: nn.Module, name: str, x: Tensor, padding: int = 0) -> Tensor:
    layer = net.get_submodule(name)
    return F.conv2d(x, layer.weight, layer.bias, padding=padding)


def literal_head(net: nn.Module, maps: Tensor) -> Tensor:
    first, second = net.final_dense_1, net.final_dense_2
    hidden = torch.tanh(F.linear(maps.reshape(len(maps), -1), first.weight, first.bias))
    return F.linear(hidden, second.weight, second.bias)[:, 0]


def literal_two_branch(net: nn.Module, clip: Tensor, depth: int | None) -> Tensor:
    """Steps 1 to 9 of the sheet for one clip (6, T, S, S) -> (T,)."""
    frames = clip.transpose(0, 1)
    d, a = frames[:, :3], frames[:, 3:]
    for first, padded, plain in ((1, "conv1", "conv2"), (2, "conv3", "conv4")):
        d = d if depth is None else literal_shift(d, depth)
        d = torch.tanh(conv(net, f"motion_{padded}", d, 1))
        d = d if depth is None else literal_shift(d, depth)
        d = torch.tanh(conv(net, f"motion_{plain}", d))
        a = torch.tanh(conv(net, f"appearance_{padded}", a, 1))
        a = torch.tanh(conv(net, f"appearance_{plain}", a))
        d = F.avg_pool2d(d * literal_mask(conv(net, f"appearance_att_conv{first}", a)), 2)
        a = F.avg_pool2d(a, 2)
    return literal_head(net, d)


@pytest.mark.parametrize(("name", "depth"), [("deepphys", None), ("tscan", DEPTH), ("tscan", 5)])
@pytest.mark.parametrize("size", [16, 18, 23])
def test_two_branches_are_the_table_written_out(name: str, depth: int | None, size: int) -> None:
    """Both nets equal the literal steps, clip by clip, at sizes that pool with a remainder too."""
    net = built(name, size=size, **({"frame_depth": depth} if depth else {}))
    clips = clips_for(net)
    with torch.no_grad():
        expected = torch.stack([literal_two_branch(net, clip, depth) for clip in clips])
        torch.testing.assert_close(net(clips), expected, rtol=1e-4, atol=1e-5)


def literal_efficient(net: nn.Module, clip: Tensor, depth: int) -> Tensor:
    """The steps of the sheet for one clip (3, T, S, S) -> (T,)."""
    frames = clip.transpose(0, 1)
    d = torch.cat([frames[1:] - frames[:-1], torch.zeros_like(frames[:1])])
    norm = net.batch_norm
    d = F.batch_norm(d, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    for first, padded, plain in ((1, "conv1", "conv2"), (2, "conv3", "conv4")):
        d = torch.tanh(conv(net, f"motion_{padded}", literal_shift(d, depth), 1))
        d = torch.tanh(conv(net, f"motion_{plain}", literal_shift(d, depth)))
        d = F.avg_pool2d(d * literal_mask(conv(net, f"appearance_att_conv{first}", d)), 2)
    return literal_head(net, d)


@pytest.mark.parametrize("compat", [False, True])
def test_efficientphys_is_the_steps_written_out(compat: bool) -> None:
    """With running statistics of its own; in prediction the compatible form is the same."""
    net = built("efficientphys", compat=compat)
    with torch.no_grad():
        net.batch_norm.running_mean.uniform_(-0.1, 0.1)
        net.batch_norm.running_var.uniform_(0.5, 2)
        clips = clips_for(net)
        expected = torch.stack([literal_efficient(net, clip, DEPTH) for clip in clips])
        torch.testing.assert_close(net(clips), expected, rtol=1e-4, atol=1e-5)


@EACH
def test_a_clip_does_not_reach_into_its_neighbour(name: str) -> None:
    """Whatever the second clip is, the first one's answer is the same bits, in training mode too."""
    net = built(name)
    clips = clips_for(net)
    other = torch.cat([clips[:1], 5 * torch.randn_like(clips[1:])])
    assert torch.equal(net(clips)[0], net(other)[0]) and not torch.equal(net(clips)[1], net(other)[1])
    for part in net.modules():
        part.training = not isinstance(part, (nn.Dropout, nn.BatchNorm2d))
    assert torch.equal(net(clips)[0], net(other)[0])


def test_compatible_difference_runs_over_the_border() -> None:
    """As released, in training, the end of a clip is followed by the next one's first frame."""
    net = built("efficientphys", compat=True)
    clips = clips_for(net)
    other = torch.cat([clips[:1], clips[1:] + 5])
    net.training = True
    assert not torch.equal(net(clips)[0], net(other)[0])
    frames = torch.tensor([1.0, 2.0, 4.0, 7.0]).view(4, 1, 1, 1)
    assert difference(frames, 1).flatten().tolist() == [1, 2, 3, 0]
    assert difference(frames, 2).flatten().tolist() == [1, 0, 3, 0]


@pytest.mark.parametrize(
    ("name", "reach"), [("deepphys", (12, 12)), ("tscan", (10, 16)), ("efficientphys", (10, 16))]
)
def test_how_far_a_frame_reaches(name: str, reach: tuple[int, int]) -> None:
    """One frame changes itself alone, or frames up to four shifts away inside its group of ten."""
    net = built(name)
    clips = clips_for(net, n=1, frames=30)
    other = clips.clone()
    other[:, :, 12] += 1
    with torch.no_grad():
        changed = (net(clips) != net(other))[0].nonzero().flatten()
    assert (int(changed.min()), int(changed.max())) == reach


def test_multi_task_net_answers_twice() -> None:
    """Pulse as the forward pass has it, and respiration of weights of its own."""
    net = built("tscan", respiration=True)
    clips = clips_for(net)
    with torch.no_grad():
        pulse, breath = net.both(clips)
        assert torch.equal(pulse, net(clips)) and breath.shape == pulse.shape
        assert not torch.equal(pulse, breath)
    with pytest.raises(ValueError, match="respiration = true"):
        built("tscan").both(clips)


def toolbox_names(net: nn.Module, heads: dict[str, str]) -> dict[str, Tensor]:
    """The net's state dict under the names rPPG-Toolbox saves, with values that tell each key."""
    state = {}
    for number, (key, value) in enumerate(net.state_dict().items()):
        layer, _, leaf = key.rpartition(".")
        released = heads.get(layer, layer).replace("appearance_", "apperance_")
        state[f"{released}.{leaf}"] = torch.full_like(value, number + 1)
    return state


def test_released_physformer_loads_key_by_key(tmp_path: Path) -> None:
    """Twelve blocks in three groups of four, their layers in the released order and names."""
    net = nets.build("physformer")
    outside = {
        "stem.0.conv": "Stem0.0", "stem.0.norm": "Stem0.1", "stem.1.conv": "Stem1.0",
        "stem.1.norm": "Stem1.1", "stem.2.conv": "Stem2.0", "stem.2.norm": "Stem2.1",
        "tokens": "patch_embedding",
        "up1.conv": "upsample.1", "up1.norm": "upsample.2", "up2.conv": "upsample2.1",
        "up2.norm": "upsample2.2", "head": "ConvBlockLast",
    }
    inside = {
        "norm1": "norm1", "norm2": "norm2", "projection": "proj", "attention.value": "attn.proj_v.0",
        "attention.query.conv": "attn.proj_q.0.conv", "attention.query.norm": "attn.proj_q.1",
        "attention.key.conv": "attn.proj_k.0.conv", "attention.key.norm": "attn.proj_k.1",
        "feedforward.0.conv": "pwff.fc1.0", "feedforward.0.norm": "pwff.fc1.1",
        "feedforward.1.conv": "pwff.STConv.0", "feedforward.1.norm": "pwff.STConv.1",
        "feedforward.2.conv": "pwff.fc2.0", "feedforward.2.norm": "pwff.fc2.1",
    }
    state = {}
    for number, (key, value) in enumerate(net.state_dict().items()):
        layer, _, leaf = key.rpartition(".")
        if layer.startswith("blocks."):
            _, place, layer = layer.split(".", 2)
            group, place = divmod(int(place), 4)
            released = f"transformer{group + 1}.blocks.{place}.{inside[layer]}.{leaf}"
        else:
            released = f"{outside[layer]}.{leaf}"
        state[released] = torch.full_like(value, number + 1)
    assert len(state) == len(net.state_dict())
    torch.save({f"module.{key}": value for key, value in state.items()}, tmp_path / "w.pth")
    load_weights(net, tmp_path / "w.pth")
    for value, expected in zip(net.state_dict().values(), state.values(), strict=True):
        assert torch.equal(value, expected)
    own = dict(net.state_dict())
    assert list(type(net).rename(own)) == list(own)
    assert set(type(net).rename({"transformer4.blocks.0.proj.bias": own["head.bias"]})) == {
        "transformer4.blocks.0.proj.bias"
    }


MULTI_TASK = {
    "final_dense_1": "final_dense_1_y", "final_dense_2": "final_dense_2_y",
    "respiration_dense_1": "final_dense_1_r", "respiration_dense_2": "final_dense_2_r",
}


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize(
    ("name", "options", "heads", "examples"),
    [
        ("deepphys", {}, {}, ("apperance_conv4.bias", "apperance_att_conv2.weight", "motion_conv1.weight")),
        ("tscan", {}, {}, ("apperance_conv1.weight", "final_dense_1.weight", "final_dense_2.bias")),
        ("tscan", {"respiration": True}, MULTI_TASK, ("final_dense_1_y.weight", "final_dense_2_r.bias")),
        ("efficientphys", {}, {}, ("apperance_att_conv1.bias", "batch_norm.running_var")),
    ],
)
def test_toolbox_weights_load_key_by_key(
    name: str, options: dict[str, bool], heads: dict[str, str], examples: tuple[str, ...], prefix: str,
    tmp_path: Path,
) -> None:
    """A file with the toolbox's names, with and without "module.", gives every tensor its own values."""
    net = built(name, **options)
    state = toolbox_names(net, heads)
    assert set(examples) <= set(state)
    torch.save({prefix + key: value for key, value in state.items()}, tmp_path / "w.pth")
    load_weights(net, tmp_path / "w.pth")
    for value, expected in zip(net.state_dict().values(), state.values(), strict=True):
        assert torch.equal(value, expected)


def test_unknown_names_are_told(tmp_path: Path) -> None:
    """A key that no net here has, and one that is not there, are both named; nothing is loaded."""
    net = built("tscan")
    state = toolbox_names(net, {})
    state["apperance_conv9.weight"] = state.pop("apperance_conv3.weight")
    torch.save(state, tmp_path / "w.pth")
    words = r"missing: appearance_conv3.weight; unexpected: appearance_conv9.weight"
    with pytest.raises(UserError, match=words):
        load_weights(net, tmp_path / "w.pth")


@EACH
def test_own_names_pass_unchanged(name: str, tmp_path: Path) -> None:
    """Weights of a net of this project load as before."""
    net, other = built(name), nets.build(name, size=16)
    torch.save(net.state_dict(), tmp_path / "w.pt")
    load_weights(other, tmp_path / "w.pt")
    assert all(map(torch.equal, net.state_dict().values(), other.state_dict().values()))


@EACH
def test_size_is_an_option_of_the_net(name: str) -> None:
    """Another size of the input alone is refused with the option that sets both."""
    spec = nets.build(name, size=36).input_spec
    assert spec.size == 36 and spec.replace(size=36) == spec
    with pytest.raises(ValueError, match="built for 36 pixels.*net.options.size"):
        spec.replace(size=72)


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("tscan", (1, 6, 15, 16, 16), "multiple of them, got 15"), ("tscan", (1, 3, 10, 16, 16), "B, 6, T"),
        ("deepphys", (1, 6, 10, 16, 18), "16 x 18"), ("efficientphys", (3, 10, 16, 16), "B, 3, T"),
        ("efficientphys", (1, 3, 0, 16, 16), "got 0"),
    ],
)
def test_other_shapes_are_refused(name: str, shape: tuple[int, ...], words: str) -> None:
    """A clip that would be shifted over a border, or does not fit the weights, is refused."""
    with pytest.raises(ValueError, match=words):
        built(name)(torch.zeros(shape))


def test_another_form_of_the_frames_is_refused() -> None:
    """Three channels where the weights are for six: the message says what to leave out of the params."""
    net = built("deepphys")
    net.input_spec = net.input_spec.replace(video="diff_normalised")
    with pytest.raises(ValueError, match=r"B, 6, T.*leave net.input.video out"):
        net(clips_for(net))


@pytest.mark.parametrize(
    ("options", "words"), [({"size": 8}, "at least 10"), ({"frame_depth": 1}, "at least 2")]
)
def test_impossible_options_are_refused(options: dict[str, int], words: str) -> None:
    """Pictures too small for the convolutions, and groups without a neighbour."""
    with pytest.raises(ValueError, match=words):
        nets.build("tscan", **options)


@pytest.mark.parametrize(("depth", "frames"), [(10, 180), (20, 180), (7, 182), (16, 192)])
def test_clip_length_is_a_multiple_of_the_depth(depth: int, frames: int) -> None:
    """180 frames or the next multiple, and other lengths are refused."""
    spec = nets.build("tscan", frame_depth=depth).input_spec
    assert spec.frames == frames
    with pytest.raises(ValueError, match=f"multiple of {depth}"):
        spec.replace(frames=frames + 1)
