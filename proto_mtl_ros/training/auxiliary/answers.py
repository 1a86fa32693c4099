# SPDX-License-Identifier: Apache-2.0
"""What answer prototypes learn beside the supervised losses: where a label lies among them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from proto_mtl_ros.model.answers import answers_of, assignment
from proto_mtl_ros.model.network import NetworkOutput
from proto_mtl_ros.model.torch_tasks import RAW_STRIDE, masked_mean, torch_task
from proto_mtl_ros.tasks import Categorical
from proto_mtl_ros.training.auxiliary.auxiliary_loss import AuxiliaryLoss, auxiliary_loss
from proto_mtl_ros.training.losses import frame_weights


@auxiliary_loss("answers")
class AnswerAssignment(AuxiliaryLoss):
    """Cross entropy of the distribution over the answers against the soft assignment of the label,
    for regressions; each frame counts T / n_b, as in the supervised loss."""

    title = "assignment of labels to answers"
    default = 0.3

    def forward(self, batch: dict[str, Any], out: NetworkOutput) -> Tensor:
        labelled = batch["labelled"]
        scale = frame_weights(labelled)
        total = out.raw[self.tasks[0].name].sum() * 0.0
        for index, task in enumerate(self.tasks):
            has = labelled[:, index]
            answers = answers_of(task)
            if task.name not in out.logits or answers is None or not bool(has.any()):
                continue
            if isinstance(task, Categorical):  # their sums are what the supervised loss looks at
                continue
            label = batch[task.name][has][:, ::2, ::2]  # every second pixel tells enough of a cell
            valid = torch_task(task).valid(label)[..., None]
            label = label[..., None] if label.ndim == 3 else label
            wanted = assignment(task, torch.where(valid, label, 1.0), answers.to(label)) * valid
            share = F.avg_pool2d(valid.permute(0, 3, 1, 2).float(), RAW_STRIDE // 2)
            wanted = F.avg_pool2d(wanted.permute(0, 3, 1, 2), RAW_STRIDE // 2)
            wanted = wanted / share.clamp_min(1e-6)
            error = -(wanted * out.logits[task.name][has].log_softmax(1)).sum(1)
            total = total + (scale[has] * masked_mean(error, share[:, 0] >= 0.5)).sum()
        return total
