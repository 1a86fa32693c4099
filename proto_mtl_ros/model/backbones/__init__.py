# SPDX-License-Identifier: Apache-2.0
"""Backbones by name. A backbone is an ``nn.Module`` that maps a normalised image [B, 3, H, W] to a
list of five feature maps at strides 2, 4, 8, 16 and 32. It has ``channels`` (five ints), ``mean``
and ``std`` (the normalisation of uint8 RGB it was trained with) and ``parts()``: the stem and the
blocks in order from the image, so that the first of them can be frozen.

Adding one: write its file, register a builder here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from proto_mtl_ros.model.backbones.efficientnet_lite import efficientnet_lite0
from proto_mtl_ros.model.backbones.resnet import resnet18

BACKBONES: dict[str, Callable[[bool, Path | None], nn.Module]] = {
    "efficientnet_lite0": efficientnet_lite0,
    "resnet18": resnet18,
}


def build_backbone(name: str, pretrained: bool, weights: Path | None = None) -> nn.Module:
    """Return the backbone ``name``, with ImageNet weights if ``pretrained``: from the file
    ``weights`` where no package ships them.

    ValueError for an unknown name, ConfigError for weights that are missing or do not fit.
    """
    if name not in BACKBONES:
        raise ValueError(f"unknown backbone {name!r}; there are: {', '.join(BACKBONES)}")
    return BACKBONES[name](pretrained, weights)
