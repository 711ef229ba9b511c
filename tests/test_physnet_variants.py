"""PhysNet's variants: counts, tables written out, what time each may see; released names of PhysNet."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nets
from nets.physnet_variants import ConvLSTM
from nets.summary import model_summary
from nets.weights import load_weights
from utils.errors import UserError

NAMES = ("physnet_2dcnn", "physnet_3dcnn", "physnet_lstm", "physnet_bilstm", "physnet_convlstm")
FRAMES, PLACE = 24, 12


def built(name: str, **options: int) -> nn.Module:
    """A net with running statistics of its own, in evaluation mode."""
    torch.manual_seed(0)
    net = nets.build(name, **options)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.running_mean.uniform_(-0.1, 0.1)
                module.running_var.uniform_(0.05, 0.2)
    return net.eval()


def clip(size: int = 16, frames: int = FRAMES) -> Tensor:
    return torch.randn(1, 3, frames, size, size, generator=torch.Generator().manual_seed(1))


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("name", "counts"),
    [("physnet_lstm", (280_257, 313_537, 346_817)), ("physnet_bilstm", (313_601, 412_929, 512_257)),
     ("physnet_convlstm", (542_145, 837_313, 1_132_481))],
)
def test_parameters_of_one_to_three_layers(name: str, counts: tuple[int, ...]) -> None:
    """The sheet's totals for every number of recurrent layers."""
    assert tuple(count(nets.build(name, num_layers=n)) for n in (1, 2, 3)) == counts


def test_trunk_has_the_sizes_of_the_sheet() -> None:
    """The 2D trunk block by block."""
    trunk = nets.build("physnet_2dcnn").trunk
    sizes = [count(block) for block in trunk]
    assert sizes == [1_248, 4_704, 18_624] + 6 * [37_056] and sum(sizes) == 246_912


@pytest.mark.parametrize(
    ("name", "gmac"),
    [("physnet_2dcnn", 13.640), ("physnet_3dcnn", 38.403), ("physnet_lstm", 13.640),
     ("physnet_bilstm", 13.640), ("physnet_convlstm", 13.640 + 1.208)],
)
def test_operations_are_those_of_the_sheet(name: str, gmac: float) -> None:
    """Convolutions and heads of 64 frames at 128 pixels; the 2 to 4 MMAC inside an LSTM are not counted."""
    net = nets.build(name)
    _, values = model_summary(net, net.input_spec.replace(frames=64))
    assert values["macs_per_clip"] / 1e9 == pytest.approx(gmac, abs=1e-3)


def norm(block: nn.Module, x: Tensor) -> Tensor:
    n = block.norm
    return F.relu(F.batch_norm(x, n.running_mean, n.running_var, n.weight, n.bias))


def literal_frames(trunk: nn.Module, video: Tensor) -> Tensor:
    """The 2D trunk frame by frame with 2D convolutions: (1, 3, T, H, W) -> (T, 64, h, w)."""
    made = []
    for frame in video[0].transpose(0, 1):
        x = frame[None]
        for number, block in enumerate(trunk, start=1):
            weight = block.conv.weight[:, :, 0]
            x = norm(block, F.conv2d(x, weight, block.conv.bias, padding=2 if number == 1 else 1))
            x = F.max_pool2d(x, 2) if number in (1, 3, 5, 7) else x
        made.append(x[0])
    return torch.stack(made)


@pytest.mark.parametrize("size", [16, 36])
def test_2dcnn_is_the_table_written_out(size: int) -> None:
    """Every frame by itself, a mean over space, one weight a channel."""
    net, video = built("physnet_2dcnn"), clip(size, 5)
    with torch.no_grad():
        means = literal_frames(net.trunk, video).mean((2, 3))
        expected = means @ net.head.weight.flatten() + net.head.bias
        torch.testing.assert_close(net(video)[0], expected, rtol=1e-4, atol=1e-5)


def test_3dcnn_is_the_table_written_out() -> None:
    """3x3x3 kernels from the second block on, pools over space only."""
    net, video = built("physnet_3dcnn"), clip(16, 6)
    with torch.no_grad():
        x = video
        for number, block in enumerate(net.trunk, start=1):
            padding = (0, 2, 2) if number == 1 else 1
            x = norm(block, F.conv3d(x, block.conv.weight, block.conv.bias, padding=padding))
            x = F.max_pool3d(x, (1, 2, 2)) if number in (1, 3, 5, 7) else x
        expected = F.conv3d(x.mean((3, 4), keepdim=True), net.head.weight, net.head.bias).flatten()
        torch.testing.assert_close(net(video)[0], expected, rtol=1e-4, atol=1e-5)


def literal_lstm(cell: nn.LSTM, sequence: Tensor, suffix: str = "") -> Tensor:
    """One layer by its definition; torch orders its gates input, forget, candidate, output."""
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    w_ih, w_hh, b_ih, b_hh = (getattr(cell, name + suffix) for name in names)
    h = c = torch.zeros(w_hh.shape[1])
    states = []
    for x in sequence:
        i, f, g, o = (w_ih @ x + b_ih + w_hh @ h + b_hh).chunk(4)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        states.append(h)
    return torch.stack(states)


@pytest.mark.parametrize("name", ["physnet_lstm", "physnet_bilstm"])
def test_lstm_reads_the_means_of_the_trunk(name: str) -> None:
    """Mean over space, the LSTM forwards (and backwards), a linear layer a frame."""
    net, video = built(name), clip(16, 6)
    with torch.no_grad():
        sequence = literal_frames(net.trunk, video).mean((2, 3))
        states = literal_lstm(net.lstm, sequence)
        if name == "physnet_bilstm":
            back = literal_lstm(net.lstm, sequence.flip(0), "_reverse").flip(0)
            states = torch.cat([states, back], dim=1)
        expected = F.linear(states, net.head.weight, net.head.bias)[:, 0]
        torch.testing.assert_close(net(video)[0], expected, rtol=1e-4, atol=1e-5)


def test_convlstm_cell_is_the_literal_one() -> None:
    """One convolution of input and state, frame by frame; gates i, f, o, candidate; gradients too."""
    torch.manual_seed(0)
    cell, maps = ConvLSTM(3, 5), torch.randn(2, 3, 6, 4, 4)
    state = memory = torch.zeros(2, 5, 4, 4)
    states = []
    for step in maps.unbind(2):
        i, f, o, g = cell.gates(torch.cat([step, state], dim=1)).chunk(4, dim=1)
        memory = f.sigmoid() * memory + i.sigmoid() * g.tanh()
        state = o.sigmoid() * memory.tanh()
        states.append(state)
    expected, made = torch.stack(states, dim=2), cell(maps)
    torch.testing.assert_close(made, expected)
    weight = torch.randn_like(made)
    pairs = [torch.autograd.grad((y * weight).sum(), list(cell.parameters())) for y in (expected, made)]
    for first, second in zip(*pairs, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(
    ("name", "first", "last"),
    [("physnet_lstm", PLACE, FRAMES - 1), ("physnet_bilstm", 0, FRAMES - 1),
     ("physnet_convlstm", PLACE, FRAMES - 1)],
)
def test_recurrent_nets_see_the_time_they_should(name: str, first: int, last: int, layers: int) -> None:
    """A changed frame changes what comes after it, with an LSTM in both directions also what came before."""
    check_reach(built(name, num_layers=layers), first, last)


@pytest.mark.parametrize(("name", "reach"), [("physnet_2dcnn", 0), ("physnet_3dcnn", 8)])
def test_convolutional_nets_see_the_time_they_should(name: str, reach: int) -> None:
    """A changed frame changes itself, or eight frames on both sides with eight kernels of three frames."""
    check_reach(built(name), PLACE - reach, PLACE + reach)


def check_reach(net: nn.Module, first: int, last: int) -> None:
    video = clip()
    other = video.clone()
    other[:, :, PLACE] += 10
    with torch.no_grad():
        changed = (net(video) != net(other))[0].nonzero().flatten()
    assert (int(changed.min()), int(changed.max())) == (first, last)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("shape", "words"), [((1, 3, 8, 15, 16), "16 pixels"), ((1, 6, 8, 16, 16), "B, 3, T")]
)
def test_other_shapes_are_refused(name: str, shape: tuple[int, ...], words: str) -> None:
    """Pictures too small to be halved four times and further channels are refused."""
    with pytest.raises(ValueError, match=words):
        nets.build(name)(torch.zeros(shape))


@pytest.mark.parametrize("options", [{"num_layers": 0}, {"hidden": 0}])
def test_no_layers_are_refused(options: dict[str, int]) -> None:
    """A recurrent net without a layer or without width."""
    for name in NAMES[2:]:
        with pytest.raises(ValueError, match="at least 1"):
            nets.build(name, **options)


def released_names(net: nn.Module) -> dict[str, Tensor]:
    """PhysNet's state dict under the released names, with values that tell each key."""
    names = {f"block{i}": f"ConvBlock{i}" for i in range(1, 10)}
    names |= {"up1": "upsample", "up2": "upsample2"}
    state = {}
    for number, (key, value) in enumerate(net.state_dict().items()):
        block, _, rest = key.partition(".")
        layer, _, leaf = rest.partition(".")
        released = f"ConvBlock10.{rest}" if block == "head" else (
            f"{names[block]}.{ {'conv': 0, 'norm': 1}[layer]}.{leaf}"
        )
        state[released] = torch.full_like(value, number + 1)
    return state


@pytest.mark.parametrize("prefix", ["", "module."])
def test_released_physnet_loads_key_by_key(prefix: str, tmp_path: Path) -> None:
    """A file with the released names, with and without "module.", gives every tensor its own values."""
    net = nets.build("physnet")
    state = released_names(net)
    known = {"ConvBlock1.0.weight", "ConvBlock9.1.running_mean", "upsample2.0.bias", "ConvBlock10.bias"}
    assert known <= set(state)
    torch.save({prefix + key: value for key, value in state.items()}, tmp_path / "w.pth")
    load_weights(net, tmp_path / "w.pth")
    for value, expected in zip(net.state_dict().values(), state.values(), strict=True):
        assert torch.equal(value, expected)


def test_unknown_released_names_are_told(tmp_path: Path) -> None:
    """Keys that PhysNet does not have are named as they came, with what is missing for them."""
    net = nets.build("physnet")
    state = released_names(net)
    state["ConvBlock2.7.weight"] = state.pop("ConvBlock2.0.weight")
    state["ConvBlock11.0.bias"] = torch.zeros(1)
    torch.save(state, tmp_path / "w.pth")
    words = r"missing: block2.conv.weight; unexpected: ConvBlock2.7.weight, ConvBlock11.0.bias"
    with pytest.raises(UserError, match=words):
        load_weights(net, tmp_path / "w.pth")
