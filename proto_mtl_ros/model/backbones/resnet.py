# SPDX-License-Identifier: Apache-2.0
"""ResNet-18 as a feature extractor: the backbone of the paper's setting.

"Deep Residual Learning for Image Recognition" (He et al., CVPR 2016), in the variant everyone's
weights are for: names of the state dict and normalisation are torchvision's, so a checkpoint of its
``resnet18`` loads as it is. No package ships those weights; they come from a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from proto_mtl_ros.errors import ConfigError
from proto_mtl_ros.model.backbones.weights import load_weights


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a skip, which is a 1x1 convolution where shapes differ."""

    def __init__(self, inp: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inp, out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.downsample: nn.Module | None = None
        if stride != 1 or inp != out:
            self.downsample = nn.Sequential(
                nn.Conv2d(inp, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        skip = x if self.downsample is None else self.downsample(x)
        return F.relu(self.bn2(self.conv2(y)) + skip)


class ResNet18(nn.Module):
    """Image [B, 3, H, W], normalised by ``mean`` and ``std``, to five feature maps.

    H and W are multiples of 32. Channels 64, 64, 128, 256, 512 at strides 2, 4, 8, 16, 32.
    """

    channels = (64, 64, 128, 256, 512)
    # torchvision's for images in [0, 1], times 255
    mean = (123.675, 116.28, 103.53)
    std = (58.395, 57.12, 57.375)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _stage(64, 64, 1)
        self.layer2 = _stage(64, 128, 2)
        self.layer3 = _stage(128, 256, 2)
        self.layer4 = _stage(256, 512, 2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> list[Tensor]:
        stem = F.relu(self.bn1(self.conv1(x)))
        taps = [stem, self.layer1(F.max_pool2d(stem, 3, stride=2, padding=1))]
        for layer in (self.layer2, self.layer3, self.layer4):
            taps.append(layer(taps[-1]))
        return taps

    def parts(self) -> Sequence[nn.Module]:
        # the stem is no module of its own: torchvision's names do not know one
        stem = nn.Sequential(self.conv1, self.bn1)
        return (stem, *self.layer1, *self.layer2, *self.layer3, *self.layer4)


def _stage(inp: int, out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(BasicBlock(inp, out, stride), BasicBlock(out, out, 1))


def resnet18(pretrained: bool, weights: Path | None = None) -> ResNet18:
    """Return ResNet-18; with the weights in the file ``weights`` if ``pretrained``."""
    network = ResNet18()
    if pretrained:
        if weights is None:
            raise ConfigError(
                "the backbone resnet18 needs a file of ImageNet weights: set backbone_weights "
                "to the path of torchvision's resnet18 checkpoint (.pth or .safetensors)"
            )
        load_weights(network, weights, lambda key: None if key.startswith("fc.") else key)
    return network
