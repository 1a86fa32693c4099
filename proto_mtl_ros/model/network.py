# SPDX-License-Identifier: Apache-2.0
"""The multi-task network: backbone, task decoders, prototypes, retrieval, heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..tasks import Task, named_task
from .backbones import build_backbone
from .decoder import TaskDecoder
from .head import TaskHead
from .prototypes import TaskPrototypes
from .retrieval import KnowledgeRetrievalBlock

RAW_STRIDE = 4
"""Raw predictions are this much smaller than the input."""

SIZE_MULTIPLE = 32
"""Input height and width are multiples of this: the backbone's coarsest stride."""


@dataclass
class NetworkOutput:
    """What a forward pass gives.

    Attributes:
        raw: task name to raw prediction [B, channels, H/4, W/4].
        pooled: [B, T, d], the mean over each task's tokens f^t; what the AKG losses look at.
        affinity: [B, T, N, T], token-level affinity of each task's tokens to every task.
    """

    raw: dict[str, Tensor]
    pooled: Tensor
    affinity: Tensor


class ProtoMTL(nn.Module):
    """Normalised image [B, 3, H, W] (H, W multiples of 32) to a raw map for every task.

    Args:
        tasks: the tasks, in the order of their prototypes.
        backbone: name in ``model.backbones``.
        width: token width d.
        slots: prototypes per task M.
        temperature: of the affinity.
        blocks: KRT blocks per task.
        heads: attention heads.
        head_width: channels of the heads at strides 8 and 4.
        pretrained: start the backbone from ImageNet.
    """

    _mean: Tensor
    _std: Tensor

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        backbone: str = "efficientnet_lite0",
        width: int = 192,
        slots: int = 4,
        temperature: float = 0.5,
        blocks: int = 1,
        heads: int = 4,
        ffn_expansion: int = 4,
        head_width: int = 48,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.names = tuple(task.name for task in tasks)
        self.backbone = build_backbone(backbone, pretrained)
        channels = tuple(int(c) for c in self.backbone.channels)  # type: ignore[union-attr, arg-type]
        self.decoders = nn.ModuleList(TaskDecoder(channels, width) for _ in tasks)
        self.prototypes = TaskPrototypes(len(tasks), slots, width, temperature)
        self.krt = nn.ModuleList(
            nn.ModuleList(
                KnowledgeRetrievalBlock(width, heads, ffn_expansion) for _ in range(blocks)
            )
            for _ in tasks
        )
        for name, values in (("_mean", self.mean), ("_std", self.std)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)
        self.heads = nn.ModuleList(TaskHead(task, channels, width, head_width) for task in tasks)

    @property
    def mean(self) -> tuple[float, ...]:
        """Per-channel mean of uint8 RGB that the backbone expects to be subtracted."""
        return tuple(self.backbone.mean)  # type: ignore[arg-type]

    @property
    def std(self) -> tuple[float, ...]:
        """Per-channel divisor after the mean."""
        return tuple(self.backbone.std)  # type: ignore[arg-type]

    def normalise(self, images: Tensor) -> Tensor:
        """Return uint8 RGB [B, H, W, 3] as ``forward`` takes it: float32 [B, 3, H, W]."""
        # cast before permuting: TensorRT takes no permuted uint8
        return (images.to(torch.float32).permute(0, 3, 1, 2) - self._mean) / self._std

    def forward(self, image: Tensor) -> NetworkOutput:
        taps = self.backbone(image)
        raw: dict[str, Tensor] = {}
        pooled, affinities = [], []
        for index, name in enumerate(self.names):
            features = self.decoders[index](taps)
            tokens = features.flatten(2).transpose(1, 2)
            knowledge, affinity = self.prototypes.retrieve(tokens)
            retrieved = features
            for block in self.krt[index]:  # type: ignore[attr-defined]
                retrieved = block(retrieved, knowledge)
            raw[name] = self.heads[index](retrieved, taps)
            pooled.append(tokens.mean(1))
            affinities.append(affinity)
        return NetworkOutput(raw, torch.stack(pooled, 1), torch.stack(affinities, 1))


def build_from_manifest(architecture: dict[str, Any]) -> ProtoMTL:
    """Build the network that a bundle's ``architecture`` describes, without any weights.

    ``architecture`` has ``tasks`` (names), ``classes`` (of the segmentation) and the keyword
    arguments of ``ProtoMTL``.

    Raises:
        ValueError: a task or backbone is unknown.
    """
    options = dict(architecture)
    names = options.pop("tasks")
    classes = tuple(options.pop("classes", ()))
    options.pop("pretrained", None)
    return ProtoMTL([named_task(name, classes) for name in names], **options)
