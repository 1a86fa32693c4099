# SPDX-License-Identifier: Apache-2.0
"""The deployed graph: uint8 RGB in, decoded maps out.

Normalisation and decoding travel with the weights, so that training, export and node cannot
disagree. Everything in here is plain arithmetic that exports to ONNX.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .decoder import upsample
from .network import ProtoMTL

OUTPUTS = ("segmentation", "confidence", "depth", "normals")
"""Names of the graph's outputs, in order."""

_RAW_STRIDE = 4


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
    """uint8 [B, H, W, 3] RGB to (segmentation, confidence, depth, normals).

    H and W are multiples of 32. Depth is canonical: metres for a camera whose focal length in
    pixels, at this input size, is the bundle's ``canonical_fx``. Normals are [B, H, W, 3].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: ProtoMTL, temperature: float = 1.0) -> None:
        super().__init__()
        self.network = network
        self.temperature = float(temperature)
        self.register_buffer("mean", torch.tensor(network.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(network.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        # cast before permuting: TensorRT takes no permuted uint8
        x = image.to(torch.float32).permute(0, 3, 1, 2)
        raw = self.network((x - self.mean) / self.std).raw
        ids, confidence = decode_segmentation(raw["segmentation"], _RAW_STRIDE, self.temperature)
        normals = decode_normals(raw["normals"], _RAW_STRIDE).permute(0, 2, 3, 1)
        return ids, confidence, decode_depth(raw["depth"], _RAW_STRIDE), normals
