# SPDX-License-Identifier: Apache-2.0
"""The deployed graph: uint8 RGB in, decoded maps out.

Normalisation and decoding travel with the weights, so that training, export and node cannot
disagree. Everything in here is plain arithmetic that exports to ONNX.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from proto_mtl_ros.model.decoder import upsample
from proto_mtl_ros.model.network import (
    RAW_STRIDE,
    ProtoMTL,
)

OUTPUTS = ("segmentation", "confidence", "depth", "normals")
"""Names of the graph's outputs, in order."""


def decode(raw: Mapping[str, Tensor], temperature: float = 1.0) -> dict[str, Tensor]:
    """Return the maps of raw predictions at a quarter of the image's size, by name.

    Args:
        raw: of ``ProtoMTL``: segmentation (logits [B, C, h, w]), depth [B, 1, h, w], normals
            [B, 3, h, w]; those there are.
        temperature: what logits are divided by before the confidence is taken of them.

    Returns:
        segmentation: uint8 [B, H, W], the argmax of the upsampled logits. confidence: uint8
        [B, H, W], 255 x the largest softmax; it is taken before upsampling, at a sixteenth of the
        exponentials. depth: float32 [B, H, W], canonical metres. normals: float32 [B, H, W, 3].
    """
    maps: dict[str, Tensor] = {}
    small = {name: raw[name] for name in ("normals", "depth") if name in raw}
    if "segmentation" in raw:
        # channels last: over the channels of planes, runtimes compute an argmax pixel by pixel
        logits = upsample(raw["segmentation"], RAW_STRIDE).permute(0, 2, 3, 1)
        maps["segmentation"] = logits.argmax(-1).to(torch.uint8)
        scores = torch.softmax(raw["segmentation"] / temperature, dim=1)
        small["confidence"] = scores.amax(1, keepdim=True)
    # The narrow ones are upsampled together: runtimes work on blocks of eight or sixteen channels,
    # and one channel costs them as much.
    large = upsample(torch.cat(list(small.values()), 1), RAW_STRIDE)
    first = 0
    for name, part in small.items():
        maps[name] = large[:, first : first + part.shape[1]]
        first += part.shape[1]
    if "confidence" in maps:
        confidence = (maps["confidence"].squeeze(1) * 255.0 + 0.5).clamp(0, 255)
        maps["confidence"] = confidence.to(torch.uint8)
    if "depth" in maps:
        maps["depth"] = maps["depth"].squeeze(1)
    if "normals" in maps:
        vectors = maps["normals"]
        length = vectors.square().sum(1, keepdim=True).sqrt().clamp_min(1e-6)
        maps["normals"] = (vectors / length).permute(0, 2, 3, 1)
    return maps


class DeployGraph(nn.Module):
    """uint8 [B, H, W, 3] RGB to the decoded maps named by ``outputs``, as a tuple.

    H and W are multiples of 32. Segmentation and confidence are uint8 [B, H, W]. Depth is float32
    [B, H, W] and canonical: metres for a camera whose focal length in pixels, at this input size,
    is the bundle's ``canonical_fx``. Normals are float32 [B, H, W, 3].

    Attributes:
        outputs: those of ``OUTPUTS`` that the network's tasks give, in that order.
    """

    def __init__(self, network: ProtoMTL, temperature: float = 1.0) -> None:
        super().__init__()
        self.network = network
        self.temperature = float(temperature)
        given = {*network.names, *(("confidence",) if "segmentation" in network.names else ())}
        self.outputs = tuple(name for name in OUTPUTS if name in given)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        raw = self.network(self.network.normalise(image)).raw
        maps = decode(raw, self.temperature)
        return tuple(maps[name] for name in self.outputs)
