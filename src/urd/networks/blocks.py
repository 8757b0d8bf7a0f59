"""Residual blocks shared by the bottleneck and the decoder (He et al., CVPR 2016)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

Resize = Literal["same", "down", "up"]


def conv_bn_relu(c_in: int, c_out: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution without bias, batch norm, ReLU; only `stride` changes the size."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU(inplace=True))


def _resizing_conv(c_in: int, c_out: int, kernel: int, resize: Resize) -> nn.Module:
    """A convolution that keeps or halves the size, or a 2x2 transposed one that doubles it."""
    if resize == "up":
        return nn.ConvTranspose2d(c_in, c_out, kernel_size=2, stride=2, bias=False)
    stride = 2 if resize == "down" else 1
    return nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)


class ResidualBlock(nn.Module):
    """ReLU(branch(x) + shortcut(x)), (B, c_in, H, W) to (B, c_out, H', W').

    Args:
        width: inner channels of a bottleneck block (1x1, 3x3, 1x1); `None` gives a basic block
            (3x3, 3x3). The size changes in the 3x3 convolution: the first one of a basic block,
            the middle one of a bottleneck block.
    """

    def __init__(self, c_in: int, c_out: int, width: int | None, resize: Resize = "same") -> None:
        super().__init__()
        if width is None:
            self.branch = nn.Sequential(
                _resizing_conv(c_in, c_out, 3, resize),
                nn.BatchNorm2d(c_out),
                nn.ReLU(inplace=True),
                nn.Conv2d(c_out, c_out, 3, padding=1, bias=False),
                nn.BatchNorm2d(c_out),
            )
        else:
            self.branch = nn.Sequential(
                *conv_bn_relu(c_in, width, 1),
                _resizing_conv(width, width, 3, resize),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                nn.Conv2d(width, c_out, 1, bias=False),
                nn.BatchNorm2d(c_out),
            )
        self.shortcut: nn.Module = nn.Identity()
        if resize != "same" or c_in != c_out:
            self.shortcut = nn.Sequential(
                _resizing_conv(c_in, c_out, 1, resize), nn.BatchNorm2d(c_out)
            )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.branch(x) + self.shortcut(x))


def residual_stage(
    c_in: int, c_out: int, width: int | None, depth: int, resize: Resize
) -> nn.Sequential:
    """`depth` residual blocks; the first one changes channels and size."""
    first = ResidualBlock(c_in, c_out, width, resize)
    return nn.Sequential(first, *(ResidualBlock(c_out, c_out, width) for _ in range(depth - 1)))
