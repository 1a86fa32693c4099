# SPDX-License-Identifier: Apache-2.0
"""The multi-task network: backbone, task decoders, prototypes, retrieval, heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from proto_mtl_ros.model.answers import AnswerHead
from proto_mtl_ros.model.backbones import build_backbone
from proto_mtl_ros.model.decoder import SeparableBlock, TaskDecoder, conv_norm, upsample
from proto_mtl_ros.model.retrieval import KnowledgeRetrievalBlock, TaskPrototypes
from proto_mtl_ros.model.torch_tasks import torch_task
from proto_mtl_ros.tasks import Task, named_task


class TaskHead(nn.Module):
    """Tokens [B, d, H/16, W/16] and the pyramid to the raw prediction [B, channels, H/4, W/4]."""

    def __init__(self, task: Task, channels: Sequence[int], tokens: int, width: int) -> None:
        super().__init__()
        _, c4, c8, _, _ = channels
        self.reduce = conv_norm(tokens, width)
        self.lateral8 = conv_norm(c8, width)
        self.block8 = SeparableBlock(width, 3)
        self.lateral4 = conv_norm(c4, width)
        self.block4 = SeparableBlock(width, 3)
        self.predict = nn.Conv2d(width, task.channels, 1)
        assert self.predict.bias is not None
        nn.init.normal_(self.predict.weight, std=0.01)
        nn.init.zeros_(self.predict.bias)
        kind = torch_task(task)
        kind.start(self.predict.bias)
        self.activate = kind.activate

    def forward(self, tokens: Tensor, pyramid: Sequence[Tensor]) -> Tensor:
        x = upsample(self.reduce(tokens), 2)
        x = self.block8(F.relu(x + self.lateral8(pyramid[2])))
        x = self.block4(F.relu(upsample(x, 2) + self.lateral4(pyramid[1])))
        return self.activate(self.predict(x))


FEATURE_STRIDE = 16
"""The features of the tasks are this much smaller than the input."""

SIZE_MULTIPLE = 32
"""Input height and width are multiples of this: the backbone's coarsest stride."""


@dataclass
class NetworkOutput:
    """What a forward pass gives.

    Attributes:
        raw: task name to raw prediction [B, channels, H/4, W/4].
        pooled: [B, T, d], the mean over each task's tokens f^t; what the AKG losses look at.
        affinity: [B, T, N, T], token-level affinity of each task's tokens to every task, as used
            for retrieval; None for a network without prototypes.
        pyramid: the backbone's features at strides 2, 4, 8, 16 and 32.
        features: task name to what its head reads, [B, d, H/16, W/16].
        logits: task name to the logits of its answer prototypes [B, M, H/4, W/4], where it has any.
    """

    raw: dict[str, Tensor]
    pooled: Tensor
    affinity: Tensor | None
    pyramid: tuple[Tensor, ...]
    features: dict[str, Tensor] = field(default_factory=dict)
    logits: dict[str, Tensor] = field(default_factory=dict)


NETWORKS: dict[str, type[ProtoMTL]] = {}
"""Kind of retrieval, ``model.retrieval`` of a configuration, to the network."""

_Network = TypeVar("_Network", bound="type[ProtoMTL]")


def network(retrieval: str) -> Callable[[_Network], _Network]:
    """Register the decorated class as the network with this kind of retrieval."""

    def register(kind: _Network) -> _Network:
        NETWORKS[retrieval] = kind
        return kind

    return register


@network("prototypes")
class ProtoMTL(nn.Module):
    """Normalised image [B, 3, H, W] (H, W multiples of 32) to a raw map for every task.

    Variants override ``retrieve``, ``enter`` or ``block``. ``width`` is d, ``slots`` M;
    ``pretrained`` starts the backbone from ImageNet, from the file ``backbone_weights`` where it
    brings none.
    """

    has_prototypes = True
    block = KnowledgeRetrievalBlock
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
        backbone_weights: str | None = None,
    ) -> None:
        super().__init__()
        self.width = width
        self.tasks = tuple(tasks)
        self.names = tuple(task.name for task in tasks)
        weights = Path(backbone_weights) if backbone_weights else None
        self.backbone = build_backbone(backbone, pretrained, weights)
        self.channels = tuple(int(c) for c in self.backbone.channels)  # type: ignore[union-attr, arg-type]
        self.decoders = nn.ModuleList(TaskDecoder(self.channels, width) for _ in tasks)
        self.prototypes = (
            TaskPrototypes(len(tasks), slots, width, temperature) if self.has_prototypes else None
        )
        self.krt = nn.ModuleList(
            nn.ModuleList(
                self.block(width, heads, ffn_expansion, self.has_prototypes) for _ in range(blocks)
            )
            for _ in tasks
        )
        for name, values in (("_mean", self.mean), ("_std", self.std)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)
        self.heads = nn.ModuleList(
            TaskHead(task, self.channels, width, head_width) for task in tasks
        )

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

    def retrieve(self, tokens: Tensor, index: int) -> tuple[Tensor, Tensor]:
        """Return knowledge [B, N, d] and affinity [B, N, T] for the tokens of task ``index``."""
        assert self.prototypes is not None
        return self.prototypes.retrieve(tokens)

    def enter(self, features: Tensor, index: int, raw: dict[str, Tensor]) -> Tensor:
        """Return what the KRT blocks of task ``index`` read, [B, d, h, w].

        Called after the prototypes have looked: a constant that were added before would tell the
        task without the decoder having learnt anything. ``raw`` has the tasks before this one.
        """
        return features

    def forward(self, image: Tensor) -> NetworkOutput:
        pyramid = tuple(self.backbone(image))
        raw: dict[str, Tensor] = {}
        read: dict[str, Tensor] = {}
        pooled: list[Tensor] = []
        affinities: list[Tensor] = []
        for index, name in enumerate(self.names):
            features = self.decoders[index](pyramid)
            tokens = features.flatten(2).transpose(1, 2)
            knowledge = None
            if self.prototypes is not None:
                knowledge, affinity = self.retrieve(tokens, index)
                affinities.append(affinity)
            features = self.enter(features, index, raw)
            for block in self.krt[index]:  # type: ignore[attr-defined]
                features = block(features, knowledge)
            read[name] = features
            raw[name] = self.heads[index](features, pyramid)
            pooled.append(tokens.mean(1))
        together = torch.stack(affinities, 1) if affinities else None
        return NetworkOutput(raw, torch.stack(pooled, 1), together, pyramid, read)


@network("answers")
class AnswerMTL(ProtoMTL):
    """Every head predicts a mean of answer prototypes; nothing stands between decoder and head."""

    has_prototypes = False

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        width: int = 192,
        head_width: int = 48,
        blocks: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(tasks, width=width, head_width=head_width, blocks=0, **options)
        self.heads = nn.ModuleList(
            AnswerHead(task, self.channels, width, head_width) for task in tasks
        )

    def forward(self, image: Tensor) -> NetworkOutput:
        pyramid = tuple(self.backbone(image))
        read = {n: decoder(pyramid) for n, decoder in zip(self.names, self.decoders, strict=True)}
        raw, logits = {}, {}
        for name, head in zip(self.names, self.heads, strict=True):
            raw[name], found = head(read[name], pyramid)
            if found is not None:
                logits[name] = found
        pooled = torch.stack([features.mean((2, 3)) for features in read.values()], 1)
        return NetworkOutput(raw, pooled, None, pyramid, read, logits)


@network("none")
class PlainMTL(ProtoMTL):
    """No prototypes and no cross-attention: the baselines."""

    has_prototypes = False


def build_network(tasks: Sequence[Task], retrieval: str = "prototypes", **options: Any) -> ProtoMTL:
    """Return the network of a kind of retrieval; ValueError where an option is not possible."""
    if retrieval not in NETWORKS:
        raise ValueError(f"unknown retrieval {retrieval!r}; there are: {', '.join(NETWORKS)}")
    return NETWORKS[retrieval](tasks, **options)


_LARGEST = {
    "width": 2048, "slots": 64, "blocks": 8, "heads": 64, "ffn_expansion": 8, "head_width": 512,
}  # fmt: skip
"""The largest sizes that a file may ask for."""

_GONE = {"attention": "softmax", "class_chain": False}
"""Options of the first release, and the value that every network of today has."""


def build_from_manifest(architecture: dict[str, Any]) -> ProtoMTL:
    """Build the network that a bundle's ``architecture`` describes, without any weights.

    ValueError for an unknown task or backbone, or a number that is too large.
    """
    options = dict(architecture)
    names = options.pop("tasks")
    classes = tuple(options.pop("classes", ()))
    if not isinstance(names, list | tuple) or len(names) > 16 or len(classes) > 255:
        raise ValueError("tasks and classes must be lists of at most 16 and 255 names")
    for name, most in _LARGEST.items():
        value = options.get(name, 1)
        if not isinstance(value, int) or not 0 <= value <= most:
            raise ValueError(f"{name} must be a whole number of at most {most}")
    for name, value in _GONE.items():
        if options.pop(name, value) != value:
            raise ValueError(f"{name} other than {value} is no longer part of the network")
    for name in ("pretrained", "backbone_weights"):  # how it was started, not what it is
        options.pop(name, None)
    return build_network([named_task(name, classes) for name in names], **options)
