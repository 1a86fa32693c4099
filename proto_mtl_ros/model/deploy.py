# SPDX-License-Identifier: Apache-2.0
"""The deployed graph: uint8 RGB in, decoded maps out.

Normalisation and decoding travel with the weights, so that training, export and node cannot
disagree. Everything in here is plain arithmetic that exports to ONNX.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from proto_mtl_ros.model.decoder import upsample
from proto_mtl_ros.model.network import ProtoMTL
from proto_mtl_ros.model.torch_tasks import RAW_STRIDE, torch_task
from proto_mtl_ros.tasks import Task


def decode(
    raw: Mapping[str, Tensor],
    tasks: Sequence[Task],
    temperature: float = 1.0,
    confidence: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Return the maps of raw predictions at the image's size, in the order of the tasks' maps.

    [B, H, W], or [B, H, W, C] for vectors. Ids and confidence are uint8, the rest is float32; depth
    is canonical. ``temperature`` divides the logits before the confidence is taken of them;
    ``confidence`` has the probabilities [B, 1, h, w] of regressions being right, by task.
    """
    kinds = [torch_task(task) for task in tasks]
    coarse = [kind.coarse(raw[kind.task.name], temperature) for kind in kinds]
    for kind, maps in zip(kinds, coarse, strict=True):
        if confidence and kind.task.name in confidence:
            maps[kind.task.confidence] = confidence[kind.task.name]
    # Enlarged together: runtimes work on blocks of eight or sixteen channels, and one channel
    # costs them as much.
    parts = [values for maps in coarse for values in maps.values()]
    large = upsample(torch.cat(parts, 1), RAW_STRIDE)
    found: dict[str, Tensor] = {}
    first = 0
    for kind, maps in zip(kinds, coarse, strict=True):
        own = {}
        for name, values in maps.items():
            own[name] = large[:, first : first + values.shape[1]]
            first += values.shape[1]
        sure = own.pop(kind.task.confidence, None)
        found |= kind.decode(raw[kind.task.name], own)
        if sure is not None:
            rounded = (sure.squeeze(1) * 255.0 + 0.5).clamp(0, 255)
            found[kind.task.confidence] = rounded.to(torch.uint8)
    return found


class DeployGraph(nn.Module):
    """uint8 [B, H, W, 3] RGB, H and W multiples of 32, to the maps ``outputs`` as a tuple.

    Depth is canonical: metres for a camera whose focal length in pixels, at this input size, is
    the bundle's ``canonical_fx``. ``confidence`` are a and b of a regression's probability of being
    right, see ``ModelManifest``.
    """

    def __init__(
        self,
        network: ProtoMTL,
        temperature: float = 1.0,
        confidence: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.temperature = float(temperature)
        blank = {task.name: torch.zeros(1, task.channels, 1, 1) for task in network.tasks}
        self.confidence = dict(confidence or {})
        sure = {name: torch.zeros(1, 1, 1, 1) for name in self.confidence}
        self.outputs = tuple(decode(blank, network.tasks, confidence=sure))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        out = self.network(self.network.normalise(image))
        sure = {n: torch.sigmoid(a + b * out.spread[n]) for n, (a, b) in self.confidence.items()}
        return tuple(decode(out.raw, self.network.tasks, self.temperature, sure).values())
