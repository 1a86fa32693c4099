# SPDX-License-Identifier: Apache-2.0
"""The light task decoders: backbone features to the tokens f^t of one task at stride 16."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


def conv_norm(inp: int, out: int, kernel: int = 1, groups: int = 1) -> nn.Sequential:
    """Return convolution + batch norm, stride 1, same padding."""
    return nn.Sequential(
        nn.Conv2d(inp, out, kernel, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out),
    )


class SeparableBlock(nn.Module):
    """Residual depthwise k x k + pointwise convolution on a map [B, C, h, w]."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.depthwise = conv_norm(channels, channels, kernel, groups=channels)
        self.pointwise = conv_norm(channels, channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x + self.pointwise(self.act(self.depthwise(x))))


def upsample(x: Tensor, scale: int) -> Tensor:
    """Bilinear upsampling by an integer; the one used everywhere in the network."""
    return F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)


class TaskDecoder(nn.Module):
    """Fuse strides 8, 16 and 32 into one task's token map [B, d, H/16, W/16]."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        _, _, c8, c16, c32 = channels
        self.coarse = conv_norm(c32, width)
        self.context = SeparableBlock(width, 5)
        self.middle = conv_norm(c16, width)
        self.fine = conv_norm(c8, width)
        self.refine = nn.Sequential(SeparableBlock(width, 5), SeparableBlock(width, 3))

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        _, _, f8, f16, f32 = pyramid
        coarse = upsample(self.context(F.relu(self.coarse(f32))), 2)
        # pooling before the 1x1 convolution costs a quarter and gives the same: both are linear
        fine = self.fine(F.avg_pool2d(f8, 2))
        return self.refine(F.relu(coarse + self.middle(f16) + fine))
