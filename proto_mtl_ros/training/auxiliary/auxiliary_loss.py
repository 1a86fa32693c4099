# SPDX-License-Identifier: Apache-2.0
"""The interface of a part of the training loss beside the supervised one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from proto_mtl_ros.model import ProtoMTL
from proto_mtl_ros.model.network import NetworkOutput
from proto_mtl_ros.tasks import Task
from proto_mtl_ros.training.config import TrainConfig


class Term(nn.Module):
    """One idea of what to learn from beside the labels.

    A term may own modules; they are trained with the network and never deployed. It must not keep
    the network as a submodule: its parameters would be counted twice.

    Args:
        tasks: the tasks of the network, in the order of ``labelled``.
        network: what is trained, for sizes and for parts that the term reads.
        config: the run.
    """

    adjusted = False
    """Whether the term reads logits with the logit adjustment, as the supervised loss does."""

    def __init__(self, tasks: Sequence[Task], network: ProtoMTL, config: TrainConfig) -> None:
        super().__init__()
        self.tasks = tuple(tasks)

    def forward(self, batch: dict[str, Any], out: NetworkOutput) -> Tensor:
        """Return the unweighted loss of a batch, a scalar; 0 with zero gradient where none applies.

        Args:
            batch: ``image`` uint8 [B, H, W, 3]; a label map per task; ``labelled`` bool [B, T];
                ``camera`` float32 [B, 4], fx, fy, cx, cy in pixels of the network's input;
                ``depth_factor`` float32 [B]; ``frame_id``.
            out: the network's output on the batch.
        """
        raise NotImplementedError
