# SPDX-License-Identifier: Apache-2.0
"""Distillation: what single-task teachers say where a frame has no label.

The teachers learnt from the same partial labels, each with a network of its own; what one network
loses by sharing is given back. After Li and Bilen: "Knowledge Distillation for Multi-task
Learning", ECCV workshops 2020, with predictions in place of features and a confidence per pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from proto_mtl_ros.model import ProtoMTL
from proto_mtl_ros.model.network import NetworkOutput
from proto_mtl_ros.tasks import (
    Categorical,
    Scalar,
    Task,
    UnitVector,
)
from proto_mtl_ros.training.auxiliary.auxiliary_loss import Term
from proto_mtl_ros.training.config import TrainConfig
from proto_mtl_ros.training.store import TEACHER


class TeacherDistillation(Term):
    """Student against teacher on the tasks that a frame has no label for.

    Cross entropy with the teacher's posterior, absolute error of canonical depth, 1 - cos of
    normals; each pixel weighted by the teacher's confidence, each task by its weight w_t, each
    frame by T / (T - n_b).
    """

    # a teacher that learnt from the labels believes in classes as often as they occur
    adjusted = True

    def __init__(self, tasks: Sequence[Task], network: ProtoMTL, config: TrainConfig) -> None:
        super().__init__(tasks, network, config)
        self.weights = config.loss.model_dump()

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
            values = disagreement(task, out.raw[task.name][lacks], teacher[:, :-1])
            confidence = teacher[:, -1]
            per_frame = (values * confidence).flatten(1).mean(1)
            total = total + self.weights[task.name] * (scale[lacks] * per_frame).sum() / frames
        return total


def disagreement(task: Task, raw: Tensor, teacher: Tensor) -> Tensor:
    """Return the loss per pixel [B, h, w] of a raw prediction against a teacher's.

    Args:
        raw: [B, C, h, w].
        teacher: posterior [B, C, h, w], canonical depth [B, 1, h, w] or vectors [B, 3, h, w].
    """
    if isinstance(task, Categorical):
        return -(teacher * F.log_softmax(raw, 1)).sum(1)
    if isinstance(task, Scalar):
        return (raw - teacher).abs().squeeze(1)
    if isinstance(task, UnitVector):
        return 1 - F.cosine_similarity(raw, teacher, dim=1, eps=1e-6)
    return F.binary_cross_entropy_with_logits(raw, teacher, reduction="none").squeeze(1)


def teacher_maps(task: Task, raw: Tensor, mirrored: Tensor) -> Tensor:
    """Return a teacher's prediction and its confidence, [B, C + 1, h, w].

    The prediction is the mean over the frame and its mirror image. The confidence of depth and
    normals comes from how far the two disagree, exp(-|log d1 - log d2| / 0.1) and
    exp(-angle / 15 degrees): an ensemble of two. A posterior says itself how sure it is, so its
    confidence is 1; weighted down where it is flat, rare classes would be heard least.

    Args:
        raw: raw prediction on the frame [B, C, h, w].
        mirrored: raw prediction on its mirror image, mirrored back (normals: x negated as well).
    """
    if isinstance(task, Categorical):
        mean = (raw.softmax(1) + mirrored.softmax(1)) / 2
        return torch.cat([mean, torch.ones_like(mean[:, :1])], 1)
    if isinstance(task, Scalar):
        confidence = torch.exp(-(raw.log() - mirrored.log()).abs() / 0.1)
        return torch.cat([(raw + mirrored) / 2, confidence], 1)
    if isinstance(task, UnitVector):
        first, second = F.normalize(raw, dim=1), F.normalize(mirrored, dim=1)
        cosine = (first * second).sum(1, keepdim=True).clamp(-1, 1)
        confidence = torch.exp(-torch.rad2deg(torch.acos(cosine)) / 15)
        return torch.cat([F.normalize(first + second, dim=1, eps=1e-6), confidence], 1)
    mean = (raw.sigmoid() + mirrored.sigmoid()) / 2
    return torch.cat([mean, torch.ones_like(mean)], 1)
