# SPDX-License-Identifier: Apache-2.0
"""Backbones by name. A backbone is an ``nn.Module`` that maps a normalised image [B, 3, H, W] to a
list of five feature maps at strides 2, 4, 8, 16 and 32, and has ``channels`` (five ints) and
``mean`` / ``std`` (the normalisation of uint8 RGB it was trained with).

Adding one: write its file, register a builder here.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from .efficientnet_lite import efficientnet_lite0

BACKBONES: dict[str, Callable[[bool], nn.Module]] = {"efficientnet_lite0": efficientnet_lite0}


def build_backbone(name: str, pretrained: bool) -> nn.Module:
    """Return the backbone ``name``, with ImageNet weights if ``pretrained``."""
    try:
        builder = BACKBONES[name]
    except KeyError:
        raise ValueError(f"unknown backbone {name!r}; there are: {', '.join(BACKBONES)}") from None
    return builder(pretrained)
