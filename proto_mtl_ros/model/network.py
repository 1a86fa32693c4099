# SPDX-License-Identifier: Apache-2.0
"""The multi-task network: backbone, task decoders, prototypes, retrieval, heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from proto_mtl_ros.model.backbones import build_backbone
from proto_mtl_ros.model.class_chain import ClassChain
from proto_mtl_ros.model.decoder import TaskDecoder
from proto_mtl_ros.model.head import TaskHead
from proto_mtl_ros.model.prototypes import TaskPrototypes
from proto_mtl_ros.model.retrieval import (
    AttentionKind,
    KnowledgeRetrievalBlock,
)
from proto_mtl_ros.tasks import (
    Task,
    named_task,
)

RAW_STRIDE = 4
"""Raw predictions are this much smaller than the input."""

FEATURE_STRIDE = 16
"""So are the features of the tasks."""

SIZE_MULTIPLE = 32
"""Input height and width are multiples of this: the backbone's coarsest stride."""

RetrievalKind = Literal["prototypes", "one_hot", "none"]


@dataclass
class NetworkOutput:
    """What a forward pass gives.

    Attributes:
        raw: task name to raw prediction [B, channels, H/4, W/4].
        pooled: [B, T, d], the mean over each task's tokens f^t; what the AKG losses look at.
        affinity: [B, T, N, T], token-level affinity of each task's tokens to every task, as used
            for retrieval; None for a network without prototypes.
        taps: the backbone's features at strides 2, 4, 8, 16 and 32.
        features: task name to what its head reads, [B, d, H/16, W/16].
    """

    raw: dict[str, Tensor]
    pooled: Tensor
    affinity: Tensor | None
    taps: tuple[Tensor, ...]
    features: dict[str, Tensor] = field(default_factory=dict)


LARGEST = {
    "width": 2048,
    "slots": 64,
    "blocks": 8,
    "heads": 64,
    "ffn_expansion": 8,
    "head_width": 512,
}
"""Options of the network that are sizes, and the largest that a file may ask for."""


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
        retrieval: "prototypes": the method; "one_hot": each task retrieves from its own prototypes
            only, an ablation; "none": no prototypes and no cross-attention, the baselines.
        attention: "softmax", or "linear" in the number of tokens, for large inputs.
        class_chain: the segmentation's class posterior informs the tasks after it.
        pretrained: start the backbone from ImageNet.
        backbone_weights: the file of those weights, where the backbone has none of its own.

    Raises:
        ValueError: an option is unknown, or one does not fit the tasks.
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
        retrieval: RetrievalKind = "prototypes",
        attention: AttentionKind = "softmax",
        class_chain: bool = False,
        pretrained: bool = False,
        backbone_weights: str | None = None,
    ) -> None:
        super().__init__()
        if retrieval not in ("prototypes", "one_hot", "none"):
            raise ValueError(
                f"unknown retrieval {retrieval!r}; there are: prototypes, one_hot, none"
            )
        self.retrieval = retrieval
        self.width = width
        self.tasks = tuple(tasks)
        self.names = tuple(task.name for task in tasks)
        weights = Path(backbone_weights) if backbone_weights else None
        self.backbone = build_backbone(backbone, pretrained, weights)
        channels = tuple(int(c) for c in self.backbone.channels)  # type: ignore[union-attr, arg-type]
        self.decoders = nn.ModuleList(TaskDecoder(channels, width) for _ in tasks)
        self.prototypes = (
            None if retrieval == "none" else TaskPrototypes(len(tasks), slots, width, temperature)
        )
        self.chain = ClassChain(tasks, width) if class_chain else None
        self.krt = nn.ModuleList(
            nn.ModuleList(
                KnowledgeRetrievalBlock(
                    width, heads, ffn_expansion, attention, cross=retrieval != "none"
                )
                for _ in range(blocks)
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
        taps = tuple(self.backbone(image))
        raw: dict[str, Tensor] = {}
        read: dict[str, Tensor] = {}
        pooled: list[Tensor] = []
        affinities: list[Tensor] = []
        classes: Tensor | None = None
        for index, name in enumerate(self.names):
            features = self.decoders[index](taps)
            tokens = features.flatten(2).transpose(1, 2)
            knowledge = None
            if self.prototypes is not None:
                only = index if self.retrieval == "one_hot" else None
                knowledge, own = self.prototypes.retrieve(tokens, only)
                affinities.append(own)
            # after the prototypes have looked: a constant that the chain may learn to add would
            # tell the task without the decoder having learnt anything
            if self.chain is not None and classes is not None:
                features = self.chain(features, classes, index)
            for block in self.krt[index]:  # type: ignore[attr-defined]
                features = block(features, knowledge)
            read[name] = features
            raw[name] = self.heads[index](features, taps)
            if self.chain is not None and index == self.chain.source:
                classes = self.chain.knowledge(raw[name])
            pooled.append(tokens.mean(1))
        affinity = torch.stack(affinities, 1) if affinities else None
        return NetworkOutput(raw, torch.stack(pooled, 1), affinity, taps, read)


def build_from_manifest(architecture: dict[str, Any]) -> ProtoMTL:
    """Build the network that a bundle's ``architecture`` describes, without any weights.

    ``architecture`` has ``tasks`` (names), ``classes`` (of the segmentation) and the keyword
    arguments of ``ProtoMTL``.

    Raises:
        ValueError: a task or backbone is unknown, or a number is too large.
    """
    options = dict(architecture)
    names = options.pop("tasks")
    classes = tuple(options.pop("classes", ()))
    if not isinstance(names, list | tuple) or len(names) > 16 or len(classes) > 255:
        raise ValueError("tasks and classes must be lists of at most 16 and 255 names")
    for name, most in LARGEST.items():
        value = options.get(name, 1)
        if not isinstance(value, int) or not 0 <= value <= most:
            raise ValueError(f"{name} must be a whole number of at most {most}")
    for name in ("pretrained", "backbone_weights"):  # how it was started, not what it is
        options.pop(name, None)
    return ProtoMTL([named_task(name, classes) for name in names], **options)
