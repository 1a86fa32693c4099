# SPDX-License-Identifier: Apache-2.0
"""The interface of a part of the training loss beside the supervised one, and their registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from proto_mtl_ros import plugins
from proto_mtl_ros.model import ProtoMTL
from proto_mtl_ros.model.network import NetworkOutput
from proto_mtl_ros.tasks import Task

TEACHER = "teacher_"
"""Prefix of the maps that a teacher predicted; the last channel is its confidence."""

TEACHER_FEATURES = "teacher_features_"
"""Prefix of the features that a teacher's head reads."""

DERIVED_NORMALS = "derived_normals"
"""Label map of the normals that follow from a depth label, for frames without a normals label."""


class Options(BaseModel):
    """What a configuration says of an auxiliary loss; subclasses add options of their own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = Field(ge=0)


@dataclass(frozen=True)
class Setup:
    """What an auxiliary loss is made from; ``tasks`` are in the order of ``labelled``, ``weights``
    are those of the supervised losses, ``taught`` the tasks that have a teacher."""

    tasks: Sequence[Task]
    network: ProtoMTL
    options: Any
    weights: Mapping[str, float]
    taught: frozenset[str] = frozenset()


class AuxiliaryLoss(nn.Module):
    """One idea of what to learn from beside the labels.

    It may own modules; they are trained with the network and never deployed. It must not keep the
    network as a submodule: its parameters would be counted twice. ``title`` is for model cards,
    ``default`` its weight where the configuration does not name it; ``adjusted``: it reads logits
    with the logit adjustment; ``wants``: which of ``TEACHER``, ``TEACHER_FEATURES`` and
    ``DERIVED_NORMALS`` batches shall hold.
    """

    title: ClassVar[str] = ""
    Options: ClassVar[type[Options]] = Options
    default: ClassVar[float] = 0.0
    adjusted: ClassVar[bool] = False
    needs_tasks: ClassVar[frozenset[str]] = frozenset()
    least_tasks: ClassVar[int] = 1
    wants: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.tasks = tuple(setup.tasks)

    def forward(self, batch: dict[str, Any], out: NetworkOutput) -> Tensor:
        """Return the unweighted loss of a batch, a scalar; 0 with zero gradient where none applies.

        Args:
            batch: ``image`` uint8 [B, H, W, 3]; a label map per task; ``labelled`` bool [B, T];
                ``camera`` float32 [B, 4], fx, fy, cx, cy in pixels of the network's input;
                ``depth_factor`` float32 [B]; ``frame_id``; and what the loss ``wants``.
            out: the network's output on the batch.
        """
        raise NotImplementedError


AUXILIARY_LOSSES: dict[str, type[AuxiliaryLoss]] = {}
"""Name, which is also the key in ``loss`` of a configuration, to the loss; see below."""


def auxiliary_losses() -> dict[str, type[AuxiliaryLoss]]:
    """Return the auxiliary losses there are by name, those of plugins last."""
    plugins.load()
    return AUXILIARY_LOSSES


_Loss = TypeVar("_Loss", bound=type[AuxiliaryLoss])


def auxiliary_loss(name: str) -> Callable[[_Loss], _Loss]:
    """Register the decorated class under ``name``."""

    def register(kind: _Loss) -> _Loss:
        AUXILIARY_LOSSES[name] = kind
        return kind

    return register
