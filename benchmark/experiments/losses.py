# SPDX-License-Identifier: Apache-2.0
"""What answer prototypes learn beside the recipe's losses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.experiments.answers import depth_assignment, normal_assignment, shifted
from benchmark.experiments.data import WEIGHTS
from benchmark.experiments.networks import Candidate
from proto_mtl_ros.model.torch_tasks import torch_task
from proto_mtl_ros.training.auxiliary.auxiliary_loss import TEACHER


def assignment(name: str, label: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
    """Return the soft assignment [B, M, h, w] of labels at stride 4 and where there is one."""
    label = label[:, ::2, ::2]  # every second pixel tells enough of a cell
    if name == "depth":
        valid = torch.isfinite(label) & (label > 0)
        weights = depth_assignment(torch.where(valid, label, 1.0))
    else:
        valid = label.square().sum(-1) > 0.25
        weights = normal_assignment(label, answers)
    weights = (weights * valid[..., None]).permute(0, 3, 1, 2)
    share = F.avg_pool2d(valid[:, None].float(), 2)
    return F.avg_pool2d(weights, 2) / share.clamp_min(1e-6), share[:, 0] >= 0.5


def knowledge(network: Candidate, batch: dict[str, Any]) -> dict[str, Tensor]:
    """CE(a, soft assignment of the label) by task; each frame counts T / n_b."""
    labelled = batch["labelled"]
    scale = labelled.shape[1] / labelled.sum(1).clamp_min(1) / len(labelled)
    losses = {}
    for i, name in enumerate(network.names):
        has = labelled[:, i]
        if name == "segmentation" or not bool(has.any()):
            continue
        head = network.heads[i]
        target, valid = assignment(name, batch[name][has], head.answers)  # type: ignore[arg-type]
        error = -(target * head.logits[has].log_softmax(1)).sum(1)  # type: ignore[index]
        error = torch.where(valid, error, 0).flatten(1).sum(1)
        error = error / valid.flatten(1).sum(1).clamp_min(1)
        losses[name] = (scale[has] * error).sum()
    return losses


def transfer(
    network: Candidate, batch: dict[str, Any], raw: dict[str, Tensor], weights: dict[str, float]
) -> Tensor:
    """KL(a_teacher || a) where a frame has no label; classes by their posterior, as in the recipe.

    Up to a constant: the cross entropy. Each frame counts T / (T - n_b).
    """
    labelled = batch["labelled"]
    count = labelled.shape[1]
    scale = count / (count - labelled.sum(1)).clamp_min(1) / len(labelled)
    total = next(iter(raw.values())).sum() * 0.0
    for i, (name, task) in enumerate(zip(network.names, network.tasks)):
        lacks = ~labelled[:, i]
        if not bool(lacks.any()):
            continue
        if name == "segmentation":
            teacher = batch[f"{TEACHER}{name}"][lacks].permute(0, 3, 1, 2)
            values = torch_task(task).disagreement(raw[name][lacks], teacher[:, :-1])
            weight = weights[name]
        else:
            target = batch[f"{WEIGHTS}{name}"][lacks].permute(0, 3, 1, 2)
            target = target / target.sum(1, keepdim=True).clamp_min(1e-6)
            if name == "depth":
                target = shifted(target, batch["depth_factor"][lacks])
            values = -(target * network.heads[i].logits[lacks].log_softmax(1)).sum(1)  # type: ignore[index]
            weight = 1.0
        total = total + weight * (scale[lacks] * values.flatten(1).mean(1)).sum()
    return total
