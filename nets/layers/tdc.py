"""Temporal difference convolution (Yu, Li, Niu, Shi, Zhao, IEEE SPL 2020, arXiv 2004.12292)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

Triple = tuple[int, int, int]


def temporal_difference_conv(
    video: Tensor, weight: Tensor, theta: float | Tensor, bias: Tensor | None = None,
    stride: Triple = (1, 1, 1), padding: Triple = (1, 1, 1),
) -> Tensor:
    """A 3D convolution that sees, of the frames before and after, the change from the middle one.

    O(p, t) = sum_n w(-1, n) (I(p+n, t-1) - theta I(p, t)) + sum_n w(0, n) I(p+n, t)
            + sum_n w(+1, n) (I(p+n, t+1) - theta I(p, t)), as conv(I; w) - theta conv1x1x1(I; K) with K the
    sum of w over space and over both outer frames: one 3D and one 1x1x1 convolution with the same weights.
    Beyond the border I is 0, also where it stands in a difference.

    video: (B, C_in, T, H, W); weight: (C_out, C_in, 3, k, k), k odd; theta: 0 to 1, one or (C_out,);
    bias: (C_out,). Kernels over a single frame have no difference: a plain convolution.
    """
    plain = F.conv3d(video, weight, bias, stride, padding)
    if weight.shape[2] == 1 or (isinstance(theta, float) and theta == 0):
        return plain
    outer = (weight[:, :, 0] + weight[:, :, 2]).sum((2, 3))
    scale = theta.to(outer)[:, None] if isinstance(theta, Tensor) else theta
    centre = (scale * outer)[:, :, None, None, None]
    return plain - F.conv3d(_centres(video, weight, padding), centre, None, stride)


def _centres(video: Tensor, weight: Tensor, padding: Triple) -> Tensor:
    """The pixels that windows of this kernel and padding are centred on, before striding."""
    margins = [size // 2 - pad for size, pad in zip(weight.shape[2:], padding, strict=True)]
    if not any(margins):
        return video
    return F.pad(video, [-margin for margin in reversed(margins) for _ in range(2)])


class TDC(nn.Conv3d):
    """Temporal difference convolution as a layer, without bias: 27 C^2 weights for C -> C channels.

    theta = 0 is a plain convolution; the paper's search uses 0.2 and 1.0.
    """

    def __init__(
        self, channels_in: int, channels_out: int, theta: float, *, kernel: int = 3,
        stride: int | Triple = 1, padding: int | Triple = 1, bias: bool = False,
    ) -> None:
        """theta: share of the middle frame that is taken off; kernel: odd, over space (3 over time).

        A bias, where there is one, is added once.
        """
        if not 0 <= theta <= 1 or kernel % 2 == 0:
            raise ValueError(f"TDC needs theta within 0 to 1 and an odd kernel, got {theta} and {kernel}")
        super().__init__(channels_in, channels_out, (3, kernel, kernel), stride, padding, bias=bias)
        self.theta = float(theta)
        self.strides: Triple = (stride, stride, stride) if isinstance(stride, int) else stride
        self.margins: Triple = (padding, padding, padding) if isinstance(padding, int) else padding

    def forward(self, video: Tensor) -> Tensor:
        """(B, C_in, T, H, W) -> (B, C_out, T', H', W'), as a convolution of the same shape."""
        return temporal_difference_conv(video, self.weight, self.theta, self.bias, self.strides, self.margins)

    def extra_repr(self) -> str:
        """The convolution's, with theta."""
        return f"{super().extra_repr()}, theta={self.theta:g}"
