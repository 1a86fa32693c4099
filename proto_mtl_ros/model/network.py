# SPDX-License-Identifier: Apache-2.0
"""The multi-task network: backbone, task decoders, heads with answer prototypes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from proto_mtl_ros.model.answers import TaskHead
from proto_mtl_ros.model.backbones import build_backbone
from proto_mtl_ros.model.decoder import TaskDecoder
from proto_mtl_ros.tasks import Task, named_task

FEATURE_STRIDE = 16
"""The features of the tasks are this much smaller than the input."""

SIZE_MULTIPLE = 32
"""Input height and width are multiples of this: the backbone's coarsest stride."""


@dataclass
class NetworkOutput:
    """What a forward pass gives.

    Attributes:
        raw: task name to raw prediction [B, channels, H/4, W/4].
        pyramid: the backbone's features at strides 2, 4, 8, 16 and 32.
        features: task name to what its head reads, [B, d, H/16, W/16].
        logits: task name to the logits of its answer prototypes [B, M, H/4, W/4], where it has any.
        spread: task name to the logarithm of the answers' spread [B, 1, H/4, W/4], of regressions.
    """

    raw: dict[str, Tensor]
    pyramid: tuple[Tensor, ...]
    features: dict[str, Tensor] = field(default_factory=dict)
    logits: dict[str, Tensor] = field(default_factory=dict)
    spread: dict[str, Tensor] = field(default_factory=dict)


NETWORKS: dict[str, type[ProtoMTL]] = {}
"""Kind of retrieval, ``model.retrieval`` of a configuration, to the network."""

_Network = TypeVar("_Network", bound="type[ProtoMTL]")


def network(retrieval: str) -> Callable[[_Network], _Network]:
    """Register the decorated class as the network with this kind of retrieval."""

    def register(kind: _Network) -> _Network:
        NETWORKS[retrieval] = kind
        return kind

    return register


@network("answers")
class ProtoMTL(nn.Module):
    """Normalised image [B, 3, H, W] (H, W multiples of 32) to a raw map for every task.

    Backbone, a decoder for each task, and heads that predict a mean of answer prototypes.
    ``width`` is d; ``pretrained`` starts the backbone from ImageNet, from the file
    ``backbone_weights`` where it brings none.
    """

    answered = True
    _mean: Tensor
    _std: Tensor

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        backbone: str = "efficientnet_lite0",
        width: int = 192,
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
        for name, values in (("_mean", self.mean), ("_std", self.std)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)
        self.heads = nn.ModuleList(
            TaskHead(task, self.channels, width, head_width, self.answered) for task in tasks
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

    def forward(self, image: Tensor) -> NetworkOutput:
        pyramid = tuple(self.backbone(image))
        out = NetworkOutput({}, pyramid)
        for name, decoder, head in zip(self.names, self.decoders, self.heads):
            out.features[name] = decoder(pyramid)
            out.raw[name], logits, spread = head(out.features[name], pyramid)
            if logits is not None:
                out.logits[name] = logits
            if spread is not None:
                out.spread[name] = spread
        return out


@network("none")
class PlainMTL(ProtoMTL):
    """No prototypes: the heads' last layer predicts."""

    answered = False


def build_network(tasks: Sequence[Task], retrieval: str = "answers", **options: Any) -> ProtoMTL:
    """Return the network of a kind of retrieval; ValueError where an option is not possible."""
    if retrieval not in NETWORKS:
        raise ValueError(f"unknown retrieval {retrieval!r}; there are: {', '.join(NETWORKS)}")
    return NETWORKS[retrieval](tasks, **options)


_LARGEST = {"width": 2048, "head_width": 512}
"""The largest sizes that a file may ask for."""


def build_from_manifest(architecture: dict[str, Any]) -> ProtoMTL:
    """Build the network that a bundle's ``architecture`` describes, without any weights.

    ValueError for an unknown task or backbone, a number that is too large, or a network of the
    releases before 0.3.
    """
    options = dict(architecture)
    names = options.pop("tasks")
    classes = tuple(options.pop("classes", ()))
    if not isinstance(names, list | tuple) or len(names) > 16 or len(classes) > 255:
        raise ValueError("tasks and classes must be lists of at most 16 and 255 names")
    if "slots" in options:  # those of plug-ins lie in options
        raise ValueError(
            "its network is one of the releases before 0.3, which torch no longer runs: choose the"
            " engine onnxruntime, openvino or tensorrt, which run its model.onnx"
        )
    options |= options.pop("options", {})
    for name, most in _LARGEST.items():
        value = options.get(name, 1)
        if not isinstance(value, int) or not 0 <= value <= most:
            raise ValueError(f"{name} must be a whole number of at most {most}")
    for name in ("pretrained", "backbone_weights"):  # how it was started, not what it is
        options.pop(name, None)
    return build_network([named_task(name, classes) for name in names], **options)
