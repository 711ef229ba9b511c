"""PhysNet's variants without a decoder: 2D, 3D and recurrent (Yu, Li, Zhao, BMVC 2019).

The paper names them and gives their results; only the encoder-decoder (nets/physnet.py) was released. Depth
and width of what follows the trunk are this project's reading.
"""

from __future__ import annotations

import abc
from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nets.layers.conv import conv_block
from nets.layers.pool import PooledReLU
from nets.registry import NETS
from utils.contracts import InputSpec

MIN_SIZE = 16
CHANNELS = 64
PLAN = (32, 64, 64, 64, 64, 64, 64, 64)
POOLED = (3, 5, 7)


class Trunk(nn.Module, abc.ABC):
    """PhysNet's nine convolutions, time kept and space halved four times; the head is a subclass's."""

    task = "pulse"

    def __init__(self, kernel_frames: int) -> None:
        """kernel_frames: temporal extent of all kernels but the first; 1: frame by frame."""
        super().__init__()
        self.input_spec = InputSpec(frames=128, size=128, video="diff_normalised", target="diff_normalised")
        first = nn.Conv3d(3, 16, (1, 5, 5), padding=(0, 2, 2))
        blocks: OrderedDict[str, nn.Module] = OrderedDict(block1=conv_block(first, 16, PooledReLU(1, 2)))
        channels_in = 16
        for number, channels in enumerate(PLAN, start=2):
            conv = nn.Conv3d(channels_in, channels, (kernel_frames, 3, 3), padding=(kernel_frames // 2, 1, 1))
            act = PooledReLU(1, 2) if number in POOLED else nn.ReLU(inplace=True)
            blocks[f"block{number}"] = conv_block(conv, channels, act)
            channels_in = channels
        self.trunk = nn.Sequential(blocks)

    def forward(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, T) float32; any T, H and W at least 16 (ValueError)."""
        _check(video)
        maps = self.trunk(video)
        # Full precision from here on, also under autocast: bf16 would round a waveform to 8 bits.
        with torch.autocast(maps.device.type, enabled=False):
            return self.answer(maps.float())

    @abc.abstractmethod
    def answer(self, maps: Tensor) -> Tensor:
        """(B, 64, T, H/16, W/16) -> (B, T); a subclass writes it."""


class Averaged(Trunk):
    """The trunk, a mean over space and one weight a channel."""

    def __init__(self, kernel_frames: int) -> None:
        """kernel_frames: as of Trunk."""
        super().__init__(kernel_frames)
        self.head = nn.Conv3d(CHANNELS, 1, 1)

    def answer(self, maps: Tensor) -> Tensor:
        """(B, 64, T, H/16, W/16) -> (B, T)."""
        waveform: Tensor = self.head(maps.mean((3, 4), keepdim=True)).flatten(1)
        return waveform


@NETS.register("physnet_2dcnn")
class PhysNet2DCNN(Averaged):
    """PhysNet, 2DCNN: every frame by itself, 246,977 parameters."""

    parameter_count = 246_977

    def __init__(self) -> None:
        """No options."""
        super().__init__(kernel_frames=1)


@NETS.register("physnet_3dcnn")
class PhysNet3DCNN(Averaged):
    """PhysNet, 3DCNN: 3x3x3 convolutions that keep time, 735,425 parameters."""

    parameter_count = 735_425

    def __init__(self) -> None:
        """No options."""
        super().__init__(kernel_frames=3)


class Recurrent(Trunk):
    """The 2D trunk, a mean over space, an LSTM over time and one linear layer a frame."""

    def __init__(self, num_layers: int, hidden: int, both_ways: bool) -> None:
        """hidden: width of each of num_layers layers, and of each direction."""
        super().__init__(kernel_frames=1)
        _check_layers(num_layers, hidden)
        self.lstm = nn.LSTM(CHANNELS, hidden, num_layers, batch_first=True, bidirectional=both_ways)
        self.head = nn.Linear(hidden * (2 if both_ways else 1), 1)

    def answer(self, maps: Tensor) -> Tensor:
        """(B, 64, T, H/16, W/16) -> (B, T)."""
        sequence, _ = self.lstm(maps.mean((3, 4)).transpose(1, 2).contiguous())
        waveform: Tensor = self.head(sequence).squeeze(2)
        return waveform


@NETS.register("physnet_lstm")
class PhysNetLSTM(Recurrent):
    """PhysNet, LSTM: frames by a 2D net, time by an LSTM, 280,257 parameters."""

    parameter_count = 280_257

    def __init__(self, *, num_layers: int = 1, hidden: int = 64) -> None:
        """num_layers, hidden: of the LSTM; which of 1 to 3 layers the paper has is not known."""
        super().__init__(num_layers, hidden, both_ways=False)


@NETS.register("physnet_bilstm")
class PhysNetBiLSTM(Recurrent):
    """PhysNet, BiLSTM: frames by a 2D net, time by an LSTM in both directions, 313,601 parameters."""

    parameter_count = 313_601

    def __init__(self, *, num_layers: int = 1, hidden: int = 64) -> None:
        """num_layers, hidden: of the LSTM, hidden of each direction."""
        super().__init__(num_layers, hidden, both_ways=True)


@NETS.register("physnet_convlstm")
class PhysNetConvLSTM(Trunk):
    """PhysNet, ConvLSTM: frames by a 2D net, maps over time by a convolutional LSTM, 542,145 parameters."""

    parameter_count = 542_145

    def __init__(self, *, num_layers: int = 1, hidden: int = 64) -> None:
        """num_layers, hidden: layers of the ConvLSTM and their channels."""
        super().__init__(kernel_frames=1)
        _check_layers(num_layers, hidden)
        self.cells = nn.ModuleList(
            ConvLSTM(hidden if layer else CHANNELS, hidden) for layer in range(num_layers)
        )
        self.head = nn.Conv3d(hidden, 1, 1)

    def answer(self, maps: Tensor) -> Tensor:
        """(B, 64, T, H/16, W/16) -> (B, T)."""
        for cell in self.cells:
            maps = cell(maps)
        waveform: Tensor = self.head(maps.mean((3, 4), keepdim=True)).flatten(1)
        return waveform


class ConvLSTM(nn.Module):
    """An LSTM whose gates are 3x3 convolutions (Shi et al., NeurIPS 2015), without peepholes.

    One convolution of input and hidden state, in this order, gives the input, forget and output gate and
    the candidate. States begin at 0.
    """

    def __init__(self, channels_in: int, hidden: int) -> None:
        """Channels of the input and of the state."""
        super().__init__()
        self.hidden = hidden
        self.gates = nn.Conv2d(channels_in + hidden, 4 * hidden, 3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, T, h, w) -> (B, hidden, T, h, w), the hidden state after each frame."""
        of_input, of_state = self.gates.weight.split([maps.shape[1], self.hidden], dim=1)
        # The input's part of all frames at once: the same sums as a convolution of both, frame by frame.
        frames = maps.transpose(1, 2)
        given = F.conv2d(frames.flatten(0, 1), of_input, self.gates.bias, padding=1)
        given = given.unflatten(0, frames.shape[:2])
        state = cell = torch.zeros_like(given[:, 0, : self.hidden])
        states = []
        for step in given.unbind(1):
            both = step + F.conv2d(state, of_state, padding=1)
            gates, candidate = both.split([3 * self.hidden, self.hidden], dim=1)
            enter, keep, leave = gates.sigmoid().chunk(3, dim=1)
            cell = keep * cell + enter * torch.tanh(candidate)
            state = leave * torch.tanh(cell)
            states.append(state)
        return torch.stack(states, dim=2)


def _check(video: Tensor) -> None:
    """ValueError unless the clip's shape is one these nets can answer for."""
    if video.dim() != 5 or video.shape[1] != 3:
        raise ValueError(f"physnet takes (B, 3, T, H, W), got a tensor of shape {tuple(video.shape)}")
    height, width = video.shape[3:]
    if min(height, width) < MIN_SIZE:
        raise ValueError(f"physnet takes pictures of at least {MIN_SIZE} pixels, got {height} x {width}")


def _check_layers(num_layers: int, hidden: int) -> None:
    """ValueError for a recurrent part without layers or width."""
    if num_layers < 1 or hidden < 1:
        raise ValueError(f"num_layers = {num_layers}, hidden = {hidden}: both must be at least 1")
