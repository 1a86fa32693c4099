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
    raw: Mapping[str, Tensor], tasks: Sequence[Task], temperature: float = 1.0
) -> dict[str, Tensor]:
    """Return the maps of raw predictions at the image's size, in the order of the tasks' maps.

    [B, H, W], or [B, H, W, C] for vectors. Ids and confidence are uint8, the rest is float32; depth
    is canonical. ``temperature`` divides the logits before the confidence is taken of them.
    """
    kinds = [torch_task(task) for task in tasks]
    coarse = [kind.coarse(raw[kind.task.name], temperature) for kind in kinds]
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
        found |= kind.decode(raw[kind.task.name], own)
    return found


class DeployGraph(nn.Module):
    """uint8 [B, H, W, 3] RGB, H and W multiples of 32, to the maps ``outputs`` as a tuple.

    Depth is canonical: metres for a camera whose focal length in pixels, at this input size, is
    the bundle's ``canonical_fx``.
    """

    def __init__(self, network: ProtoMTL, temperature: float = 1.0) -> None:
        super().__init__()
        self.network = network
        self.temperature = float(temperature)
        blank = {task.name: torch.zeros(1, task.channels, 1, 1) for task in network.tasks}
        self.outputs = tuple(decode(blank, network.tasks))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        raw = self.network(self.network.normalise(image)).raw
        return tuple(decode(raw, self.network.tasks, self.temperature).values())
