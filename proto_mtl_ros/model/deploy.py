# SPDX-License-Identifier: Apache-2.0
"""The deployed graph: uint8 RGB in, decoded maps out.

Normalisation and decoding travel with the weights, so that training, export and node cannot
disagree. Everything in here is plain arithmetic that exports to ONNX.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .decoder import upsample
from .network import RAW_STRIDE, ProtoMTL

OUTPUTS = ("segmentation", "confidence", "depth", "normals")
"""Names of the graph's outputs, in order."""


def decode_segmentation(logits: Tensor, scale: int, temperature: float) -> tuple[Tensor, Tensor]:
    """Return (ids uint8 [B, H, W], confidence uint8 [B, H, W]) from logits [B, C, h, w].

    Ids are the argmax of the upsampled logits. Confidence is 255 x the largest softmax; it is
    taken before upsampling, at 1/scale^2 of the exponentials.
    """
    ids = upsample(logits, scale).argmax(1).to(torch.uint8)
    best = torch.softmax(logits / temperature, dim=1).amax(1, keepdim=True)
    confidence = (upsample(best, scale).squeeze(1) * 255.0 + 0.5).clamp(0, 255).to(torch.uint8)
    return ids, confidence


def decode_depth(raw: Tensor, scale: int) -> Tensor:
    """Return canonical depth float32 [B, H, W] in metres from raw [B, 1, h, w]."""
    return upsample(raw, scale).squeeze(1)


def decode_normals(raw: Tensor, scale: int) -> Tensor:
    """Return unit vectors float32 [B, 3, H, W] from raw [B, 3, h, w]."""
    vectors = upsample(raw, scale)
    return vectors / vectors.square().sum(1, keepdim=True).sqrt().clamp_min(1e-6)


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
        maps: dict[str, Tensor] = {}
        if "segmentation" in raw:
            maps["segmentation"], maps["confidence"] = decode_segmentation(
                raw["segmentation"], RAW_STRIDE, self.temperature
            )
        if "depth" in raw:
            maps["depth"] = decode_depth(raw["depth"], RAW_STRIDE)
        if "normals" in raw:
            maps["normals"] = decode_normals(raw["normals"], RAW_STRIDE).permute(0, 2, 3, 1)
        return tuple(maps[name] for name in self.outputs)
