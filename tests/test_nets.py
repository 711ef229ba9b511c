"""Contracts every registered net keeps; a new net is covered without writing a test."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nets
from losses.waveform import neg_pearson
from nets.layers.pool import FirstMax, PooledReLU, blocks, max_pool, mean_pool
from nets.registry import NETS
from nets.summary import model_summary
from nets.weights import load_weights
from tests.fakes import FPS, clip_batch
from training.precision import place
from utils.contracts import ClipBatch, InputSpec
from utils.errors import UserError

SMALL = (16, 24)
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "physnet": [{}, {"head_pool": "max"}], "contrast_phys": [{}, {"S": 3}],
    "green": [{}, {"compat": True}], "pos": [{}, {"compat": True}],
    "ica": [{}, {"compat": True}, {"window_s": 1.6}], "pbv": [{}, {"window_s": 1.6}],
    "rppgnet": [{}, {"build": "compat"}, {"checkpointing": True}],
    "tscan": [{}, {"respiration": True}], "physnet_convlstm": [{}, {"num_layers": 2, "hidden": 8}],
}
SINGLE = ("rate", "liveness")
"""Tasks of nets that give one number a clip."""
ANSWERS = [name for name in nets.names() if NETS.get(name).task != "enhancement"]
ALL = [(name, options) for name in ANSWERS for options in VARIANTS.get(name, [{}])]
LEARNT = [
    (name, options) for name, options in ALL if getattr(NETS.get(name), "task", "pulse") != "classical"
]
REFUSED = (
    nn.MaxPool3d, nn.AvgPool3d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool3d, nn.FractionalMaxPool3d,
    nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.ReplicationPad1d, nn.ReplicationPad2d,
    nn.ReplicationPad3d, nn.ReflectionPad1d, nn.ReflectionPad3d, nn.Upsample,
)


def label(value: object) -> str:
    return value if isinstance(value, str) else ",".join(f"{k}={v}" for k, v in value.items()) or "default"


def each(cases: list[tuple[str, dict[str, Any]]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("name", "options"), cases, ids=label)


def built(name: str, options: dict[str, Any]) -> nn.Module:
    torch.manual_seed(1)
    return fresh(name, options)


def fresh(name: str, options: dict[str, Any]) -> nn.Module:
    """A net small enough to try: a class may name options that make it so."""
    return nets.build(name, **{**getattr(NETS.get(name), "small_options", {}), **options})


def small_spec(net: nn.Module, size: int | None = None, frames: int = 64) -> InputSpec:
    spec: InputSpec = net.input_spec
    sizes = getattr(net, "small_sizes", SMALL)
    multiple = spec.multiple_of
    return spec.replace(frames=-(-frames // multiple) * multiple, size=size or sizes[0])


def video_for(net: nn.Module, n: int = 2, size: int | None = None, frames: int = 64) -> Tensor:
    return clip_batch(small_spec(net, size, frames), n).video


def answer(net: nn.Module, video: Tensor) -> Tensor:
    return net(video, FPS) if getattr(net, "task", "pulse") == "classical" else net(video)


def single(net: nn.Module) -> bool:
    """Whether the net gives one number a clip."""
    return getattr(net, "task", "pulse") in SINGLE


def objective(net: nn.Module, batch: ClipBatch) -> Tensor:
    """What a net of this task learns: the pulse, the rate in steps of 20 bpm, or that a face is alive."""
    output = net(batch.video)
    losses = {"rate": lambda: (output - batch.hr_bpm).abs().mean() / 20,
              "liveness": lambda: F.softplus(-output).mean()}
    return losses.get(net.task, lambda: neg_pearson(output, batch.pulse))()


@each(ALL)
@pytest.mark.parametrize("n", [1, 2])
def test_shape_is_clips_by_frames(name: str, options: dict[str, Any], n: int) -> None:
    """(B, C, T, H, W) goes in and (B, T) comes out, or (B,) where a net gives a single number a clip."""
    net = built(name, options).eval()
    for size in getattr(net, "small_sizes", SMALL):
        for frames in (64, 96):
            video = video_for(net, n, size, frames)
            output = answer(net, video)
            assert output.shape == ((n,) if single(net) else (n, video.shape[2]))
            assert output.is_floating_point() and output.isfinite().all()


@each(LEARNT)
def test_every_parameter_has_a_gradient(name: str, options: dict[str, Any]) -> None:
    """In evaluation mode a random linear functional of the output reaches every parameter."""
    net = built(name, options).eval()
    output = net(video_for(net))
    (output * torch.randn_like(output)).sum().backward()
    exceptions = getattr(net, "no_gradient", {})
    for key, parameter in net.named_parameters():
        if key not in exceptions:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), key
            assert parameter.grad.abs().max() > 0, key


@each(LEARNT)
def test_training_gradients_are_finite(name: str, options: dict[str, Any]) -> None:
    """In training mode every gradient of the loss is finite, also for a single clip."""
    net = built(name, options).train()
    batch = clip_batch(small_spec(net), n=1)
    objective(net, batch).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


@each(ALL)
def test_evaluation_is_deterministic(name: str, options: dict[str, Any]) -> None:
    """The same clip gives the same bits twice, and random numbers are not touched."""
    net = built(name, options).eval()
    video = video_for(net)
    state = torch.get_rng_state()
    with torch.no_grad():
        first, second = answer(net, video), answer(net, video)
    assert torch.equal(first, second)
    assert torch.equal(state, torch.get_rng_state())


@each(ALL)
def test_clips_do_not_mix(name: str, options: dict[str, Any]) -> None:
    """In evaluation mode a clip's output does not depend on its neighbour in the batch."""
    net = built(name, options).eval()
    video = video_for(net)
    with torch.no_grad():
        torch.testing.assert_close(answer(net, video)[:1], answer(net, video[:1]), rtol=1e-4, atol=1e-5)


@each(LEARNT)
def test_saved_and_loaded_net_is_the_same(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    """A state dict that went through a file gives the same output in a fresh net."""
    net = built(name, options)
    video = video_for(net)
    net.train()(video)
    torch.save(net.state_dict(), tmp_path / "weights.pt")
    other = fresh(name, options)
    load_weights(other, tmp_path / "weights.pt")
    with torch.no_grad():
        assert torch.equal(net.eval()(video), other.eval()(video))


@each(LEARNT)
def test_layout_in_memory_does_not_change_the_result(name: str, options: dict[str, Any]) -> None:
    """channels_last_3d gives the same output up to rounding, in a waveform of full precision."""
    net = built(name, options).eval()
    video = video_for(net)
    with torch.no_grad():
        plain = net(video)
        place(net, "cpu", channels_last=True)
        other = net(video.contiguous(memory_format=torch.channels_last_3d))
    torch.testing.assert_close(plain, other, rtol=1e-3, atol=1e-4)


@each(LEARNT)
def test_autocast_keeps_the_waveform(name: str, options: dict[str, Any]) -> None:
    """Under bf16 autocast the output follows the full-precision one."""
    net = built(name, options).eval()
    video = video_for(net)
    with torch.no_grad():
        plain = net(video)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = net(video).float()
    if single(net):
        torch.testing.assert_close(mixed, plain, rtol=0.02, atol=0.05)
    elif plain.std() > 1e-3:
        correlation = torch.corrcoef(torch.stack([plain.flatten(), mixed.flatten()]))[0, 1]
        assert correlation > 0.9


@each(LEARNT)
def test_net_overfits_one_clip(name: str, options: dict[str, Any]) -> None:
    """A net can learn the pulse of one clip by heart."""
    net = built(name, options).train()
    batch = clip_batch(small_spec(net, frames=32), n=1)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = objective(net, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if losses[-1] < 0.05:
            break
    assert losses[-1] < 0.1, losses[::6]


@pytest.mark.parametrize("name", nets.names())
def test_parameter_count_is_the_stated_one(name: str) -> None:
    """A class that states `parameter_count` has exactly so many with its defaults."""
    cls = NETS.get(name)
    stated = 0 if getattr(cls, "task", "pulse") == "classical" else getattr(cls, "parameter_count", None)
    count = sum(p.numel() for p in nets.build(name).parameters())
    assert count == (count if stated is None else stated)


@each(ALL)
def test_net_says_what_it_is_fed(name: str, options: dict[str, Any]) -> None:
    """Every net has an InputSpec, a task and a first docstring line for `list`."""
    net = built(name, options)
    assert isinstance(net.input_spec, InputSpec)
    assert net.task in ("pulse", "levels", "classical", "search", *SINGLE)
    assert len(NETS.describe(name)) > 10


@pytest.mark.parametrize("name", nets.names())
def test_options_are_keyword_only(name: str) -> None:
    """Everything a net can be told is a keyword with a default: params need name nothing else."""
    parameters = list(inspect.signature(NETS.get(name)).parameters.values())
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters)
    assert all(p.default is not inspect.Parameter.empty for p in parameters)


@each(LEARNT)
def test_no_module_that_cuda_refuses(name: str, options: dict[str, Any]) -> None:
    """No layer whose backward pass CUDA refuses in deterministic mode."""
    refused = [key for key, m in built(name, options).named_modules() if isinstance(m, REFUSED)]
    assert not refused


def test_no_function_that_cuda_refuses() -> None:
    """Nor as functions: 3D pools and replicate padding are written in nets/layers/pool.py alone."""
    words = {"max_pool3d", "avg_pool3d", "adaptive_avg_pool3d", "adaptive_max_pool3d", "interpolate"}
    for path in Path(nets.__file__).parent.rglob("*.py"):
        names = {n.attr for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Attribute)}
        assert path.name == "pool.py" or not names & words, path.name


@pytest.mark.parametrize("name", nets.names())
def test_summary_counts_all_parameters(name: str) -> None:
    """The layers of the summary hold all parameters, and its text names the total."""
    net = nets.build(name)
    text, values = model_summary(net, net.input_spec)
    count = sum(p.numel() for p in net.parameters())
    assert values["parameters"] == count == sum(layer["parameters"] for layer in values["layers"])
    assert f"{count:,}" in text


@pytest.mark.parametrize(
    ("name", "frames", "size", "gmac"),
    [("physnet", 128, 128, 55.616), ("physnet", 64, 128, 27.808), ("physnet", 128, 72, 17.561),
     ("contrast_phys", 300, 128, 255.28)],
)
def test_operations_are_those_of_the_sheet(name: str, frames: int, size: int, gmac: float) -> None:
    """Multiply-accumulates of a clip agree with the published architecture."""
    net = nets.build(name)
    _, values = model_summary(net, net.input_spec.replace(frames=frames, size=size))
    assert values["macs_per_clip"] / 1e9 == pytest.approx(gmac, rel=1e-4)
    assert values["flops_per_clip"] == 2 * values["macs_per_clip"]


def test_physnet_submodules_have_the_published_sizes() -> None:
    """Each block of PhysNet has its own count, not only their sum."""
    net = nets.build("physnet")
    sizes = {key: sum(p.numel() for p in child.parameters()) for key, child in net.named_children()}
    same = {f"block{i}": 110_784 for i in range(4, 10)}
    ends = {"block1": 1_248, "block2": 13_920, "block3": 55_488, "up1": 16_576, "up2": 16_576, "head": 65}
    assert sizes == {**same, **ends}


def literal_physnet(head_pool: str) -> nn.Sequential:
    """The published layer table, one module after the other."""
    def conv(channels_in: int, channels_out: int) -> list[nn.Module]:
        kernel = nn.Conv3d(channels_in, channels_out, 3, 1, 1)
        return [kernel, nn.BatchNorm3d(channels_out), nn.ReLU()]

    def up() -> list[nn.Module]:
        kernel = nn.ConvTranspose3d(64, 64, (4, 1, 1), (2, 1, 1), (1, 0, 0))
        return [kernel, nn.BatchNorm3d(64), nn.ELU()]

    space, both = nn.MaxPool3d((1, 2, 2), (1, 2, 2)), nn.MaxPool3d((2, 2, 2), 2)
    head = (nn.AdaptiveAvgPool3d if head_pool == "avg" else nn.AdaptiveMaxPool3d)((32, 1, 1))
    first = [nn.Conv3d(3, 16, (1, 5, 5), 1, (0, 2, 2)), nn.BatchNorm3d(16), nn.ReLU(), space]
    return nn.Sequential(
        *first, *conv(16, 32), *conv(32, 64), both, *conv(64, 64), *conv(64, 64), both,
        *conv(64, 64), *conv(64, 64), space, *conv(64, 64), *conv(64, 64), *up(), *up(),
        head, nn.Conv3d(64, 1, 1), nn.Flatten(),
    )


@pytest.mark.parametrize("head_pool", ["avg", "max"])
def test_physnet_is_the_published_layer_table(head_pool: str) -> None:
    """Output and gradients equal those of the table written out literally, at a size with odd maps."""
    net = built("physnet", {"head_pool": head_pool}).train()
    other = literal_physnet(head_pool).train()
    other.load_state_dict(dict(zip(other.state_dict(), net.state_dict().values(), strict=True)))
    video, weight = torch.randn(2, 3, 32, 36, 36), torch.randn(2, 32)
    first, second = net(video), other(video)
    torch.testing.assert_close(first, second)
    (first * weight).sum().backward()
    (second * weight).sum().backward()
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        assert a.grad is not None and b.grad is not None
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-3 * float(b.grad.abs().max()) + 1e-5)


@pytest.mark.parametrize(
    ("shape", "words"),
    [((1, 3, 30, 16, 16), "multiple of 4"), ((1, 3, 32, 8, 16), "16 pixels"), ((3, 32, 16, 16), "B, C, T")],
)
def test_physnet_refuses_other_shapes(shape: tuple[int, ...], words: str) -> None:
    """A clip whose output would be stretched is refused with what is accepted."""
    with pytest.raises(ValueError, match=words):
        nets.build("physnet")(torch.zeros(shape))


@pytest.mark.parametrize("frames", [16, 17, 18, 19])
def test_contrast_phys_takes_any_length(frames: int) -> None:
    """Odd lengths at either halving come back whole, by repeating the last frame."""
    net = nets.build("contrast_phys").eval()
    with torch.no_grad():
        video = torch.rand(1, 3, frames, 32, 32) * 255
        rows = net.st_block(video)
        assert torch.equal(net(video), rows[:, -1])
    assert rows.shape == (1, 5, frames)
    torch.testing.assert_close(rows[:, -1], rows[:, :-1].mean(1))
    assert (frames % 2 == 0) or torch.equal(rows[..., -1], rows[..., -2])


def test_contrast_phys_ignores_brightness_and_contrast() -> None:
    """Clip and channel are standardised inside: any gain and offset per channel gives the same output."""
    net = nets.build("contrast_phys").eval()
    video = torch.rand(1, 3, 16, 16, 16) * 255
    gain, offset = torch.rand(1, 3, 1, 1, 1) + 0.5, torch.rand(1, 3, 1, 1, 1) * 20
    with torch.no_grad():
        torch.testing.assert_close(net(video), net(gain * video + offset), rtol=1e-3, atol=1e-4)


def test_contrast_phys_grid_is_row_by_row() -> None:
    """Local signals come as (0,0), (0,1), (1,0), (1,1), equal to adaptive pooling."""
    net = nets.build("contrast_phys", S=3)
    maps = torch.rand(2, 4, 5, 8, 7)
    torch.testing.assert_close(net._grid(maps), F.adaptive_avg_pool3d(maps, (5, 3, 3)))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("time", [1, 2])
def test_pools_are_torchs_pools(layout: torch.memory_format, time: int) -> None:
    """Element-wise and built-in pooling have the same values and gradients, ties included."""
    video = torch.randn(2, 3, 9, 8, 7).mul(2).round().contiguous(memory_format=layout).requires_grad_()
    expected = F.max_pool3d(video, (time, 2, 2))
    weight = torch.randn_like(expected)
    (grad,) = torch.autograd.grad((expected * weight).sum(), video)
    pooled = FirstMax.apply(video, time, 2)
    (own,) = torch.autograd.grad((pooled * weight).sum(), video)
    assert torch.equal(pooled, expected) and torch.equal(own, grad)
    assert torch.equal(max_pool(video, time, 2), expected)
    assert torch.equal(blocks(video, time, 2).amax((3, 5, 7)), expected)
    torch.testing.assert_close(blocks(video, time, 2).mean((3, 5, 7)), mean_pool(video, time, 2))


def test_pooling_before_relu_is_pooling_after_it() -> None:
    """Values and gradients are bit for bit those of ReLU, then max pooling, ties included."""
    video = torch.randn(2, 3, 8, 8, 8).mul(2).round().requires_grad_()
    expected = F.max_pool3d(video.relu(), 2)
    weight = torch.randn_like(expected)
    (grad,) = torch.autograd.grad((expected * weight).sum(), video)
    pooled = PooledReLU(2, 2)(video)
    (own,) = torch.autograd.grad((pooled * weight).sum(), video)
    assert torch.equal(pooled, expected) and torch.equal(own, grad)


def test_weights_of_another_net_are_refused(tmp_path: Path) -> None:
    """Missing and unexpected keys are listed, and nothing is loaded."""
    net = nets.build("physnet")
    before = {key: value.clone() for key, value in net.state_dict().items()}
    torch.save(nets.build("contrast_phys").state_dict(), tmp_path / "w.pt")
    with pytest.raises(UserError, match="missing.*unexpected"):
        load_weights(net, tmp_path / "w.pt")
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    """A shape that does not fit is named with both shapes."""
    torch.save(nets.build("physnet", in_channels=1).state_dict(), tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"block1.conv.weight is \(16, 1, 1, 5, 5\), not \(16, 3, 1, 5, 5\)"):
        load_weights(nets.build("physnet"), tmp_path / "w.pt")


def test_prefix_of_parallel_training_is_dropped(tmp_path: Path) -> None:
    """Names that begin with "module." load as they are without it."""
    net = built("physnet", {})
    torch.save({f"module.{k}": v for k, v in net.state_dict().items()}, tmp_path / "w.pt")
    other = nets.build("physnet")
    load_weights(other, tmp_path / "w.pt")
    assert torch.equal(net.head.weight, other.head.weight)


@pytest.mark.parametrize("position", [0.2, 0.5, 0.8])
def test_flipped_bit_is_found(tmp_path: Path, position: float) -> None:
    """A file with one wrong bit in a tensor is refused by its checksum."""
    path = tmp_path / "w.pt"
    torch.save(nets.build("physnet").state_dict(), path)
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        load_weights(nets.build("physnet"), path)


def test_unreadable_weights_are_named(tmp_path: Path) -> None:
    """A truncated, a foreign and a missing file, each a message with its path."""
    good = tmp_path / "good.pt"
    torch.save(nets.build("physnet").state_dict(), good)
    (tmp_path / "cut.pt").write_bytes(good.read_bytes()[:100_000])
    (tmp_path / "text.pt").write_text("no weights")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"epoch": 3}, tmp_path / "number.pt")
    for name in ("cut.pt", "text.pt", "list.pt", "number.pt", "absent.pt"):
        with pytest.raises(UserError, match=name):
            load_weights(nets.build("physnet"), tmp_path / name)


def test_non_finite_weights_are_refused(tmp_path: Path) -> None:
    """A NaN among the weights is named instead of being spread over every prediction."""
    state = nets.build("physnet").state_dict()
    state["head.bias"][0] = torch.nan
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(UserError, match="not finite: head.bias"):
        load_weights(nets.build("physnet"), tmp_path / "w.pt")
