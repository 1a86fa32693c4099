# SPDX-License-Identifier: Apache-2.0
"""Distillation from single-task teachers that learnt from the same partial labels.

What one network loses by sharing is given back. After Li and Bilen: "Knowledge Distillation for
Multi-task Learning", ECCV workshops 2020, which aligns features through adapters.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from proto_mtl_ros.model.network import NetworkOutput
from proto_mtl_ros.model.torch_tasks import torch_task
from proto_mtl_ros.training.auxiliary.auxiliary_loss import (
    TEACHER,
    TEACHER_FEATURES,
    AuxiliaryLoss,
    Setup,
    auxiliary_loss,
)


@auxiliary_loss("distillation")
class TeacherDistillation(AuxiliaryLoss):
    """Student against teacher on the tasks that a frame has no label for.

    Each pixel is weighted by the teacher's confidence, each task by w_t, each frame by T / (T -
    n_b).
    """

    title = "distillation from teachers"
    # a teacher that learnt from the labels believes in classes as often as they occur
    adjusted = True
    wants = frozenset({TEACHER})

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.weights = setup.weights

    def forward(self, batch: dict[str, Any], out: NetworkOutput) -> Tensor:
        labelled = batch["labelled"]
        frames, count = labelled.shape
        scale = count / (count - labelled.sum(1)).clamp_min(1)
        total = out.raw[self.tasks[0].name].sum() * 0.0
        for index, task in enumerate(self.tasks):
            lacks = ~labelled[:, index]
            if f"{TEACHER}{task.name}" not in batch or not bool(lacks.any()):
                continue
            teacher = batch[f"{TEACHER}{task.name}"][lacks].permute(0, 3, 1, 2)
            values = torch_task(task).disagreement(out.raw[task.name][lacks], teacher[:, :-1])
            per_frame = (values * teacher[:, -1]).flatten(1).mean(1)
            total = total + self.weights[task.name] * (scale[lacks] * per_frame).sum() / frames
        return total


@auxiliary_loss("feature_distillation")
class FeatureDistillation(AuxiliaryLoss):
    """Mean squared error between the adapted features of the student and those of the teacher.

    The 1x1 adapters are left behind; features are those that the head reads, each channel
    standardised. The error of a task without any knowledge is 1.
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
        total = out.raw[next(iter(out.raw))].sum() * 0.0
        for name, adapter in self.adapters.items():
            teacher = batch[f"{TEACHER_FEATURES}{name}"].permute(0, 3, 1, 2)
            total = total + (adapter(out.features[name]) - teacher).square().mean()
        return total
