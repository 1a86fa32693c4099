# SPDX-License-Identifier: Apache-2.0
"""Feature distillation: what the heads of single-task teachers read, in every frame.

A label says a few numbers per pixel; the features that a teacher made of the same frame say how to
get there. After Li and Bilen: "Knowledge Distillation for Multi-task Learning", ECCV workshops
2020, which aligns the student's features with those of a teacher per task through adapters; here
they are those of the task's own branch, each channel standardised.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from proto_mtl_ros.model.network import NetworkOutput
from proto_mtl_ros.training.auxiliary.auxiliary_loss import (
    TEACHER_FEATURES,
    AuxiliaryLoss,
    Setup,
    auxiliary_loss,
)


@auxiliary_loss("feature_distillation")
class FeatureDistillation(AuxiliaryLoss):
    """Mean squared error between the adapted features of the student and those of the teacher.

    The adapter is linear, 1x1; it is trained with the network and left behind. The error of a task
    without any knowledge is 1, of all tasks T. Frames count alike, whatever labels they have.
    """

    title = "distillation of their features"
    wants = frozenset({TEACHER_FEATURES})

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        width = setup.network.width
        self.adapters = nn.ModuleDict(
            {t.name: nn.Conv2d(width, width, 1) for t in setup.tasks if t.name in setup.taught}
        )

    def forward(self, batch: dict[str, Any], out: NetworkOutput) -> Tensor:
        total = out.pooled.sum() * 0.0
        for name, adapter in self.adapters.items():
            teacher = batch[f"{TEACHER_FEATURES}{name}"].permute(0, 3, 1, 2)
            total = total + (adapter(out.features[name]) - teacher).square().mean()
        return total
