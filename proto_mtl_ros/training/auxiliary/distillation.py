# SPDX-License-Identifier: Apache-2.0
"""Distillation: what single-task teachers say where a frame has no label.

The teachers learnt from the same partial labels, each with a network of its own; what one network
loses by sharing is given back. After Li and Bilen: "Knowledge Distillation for Multi-task
Learning", ECCV workshops 2020, with predictions in place of features and a confidence per pixel.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from proto_mtl_ros.model.network import NetworkOutput
from proto_mtl_ros.model.torch_tasks import torch_task
from proto_mtl_ros.training.auxiliary.auxiliary_loss import (
    TEACHER,
    AuxiliaryLoss,
    Setup,
    auxiliary_loss,
)


@auxiliary_loss("distillation")
class TeacherDistillation(AuxiliaryLoss):
    """Student against teacher on the tasks that a frame has no label for.

    Each pixel is weighted by the teacher's confidence, each task by its weight w_t, each frame by
    T / (T - n_b).
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
