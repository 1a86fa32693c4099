# SPDX-License-Identifier: Apache-2.0
"""The supervised loss, on labelled pixels of labelled frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from proto_mtl_ros.model.torch_tasks import torch_task
from proto_mtl_ros.tasks import Task


def supervised(
    raw: Mapping[str, Tensor],
    labels: Mapping[str, Tensor],
    labelled: Tensor,
    tasks: Sequence[Task],
    weights: Mapping[str, float],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return each task's part of L = 1/B sum_b (T / n_b) sum over labelled t of w_t l_t.

    n_b is the number of labelled tasks of frame b.

    Args:
        raw: task name to raw prediction.
        labels: task name to label batch; unlabelled frames hold an empty map.
        labelled: bool [B, T].
        weights: task name to w_t.

    Returns:
        the parts, and per task the plain mean over the frames that have the label (for logging);
        both without the tasks that no frame has a label for.
    """
    frames, count = labelled.shape
    scale = count / labelled.sum(1).clamp_min(1)
    losses: dict[str, Tensor] = {}
    means: dict[str, Tensor] = {}
    for index, task in enumerate(tasks):
        has = labelled[:, index]
        if bool(has.any()):
            per_frame = torch_task(task).loss(raw[task.name][has], labels[task.name][has])
            means[task.name] = per_frame.mean().detach()
            losses[task.name] = weights[task.name] * (scale[has] * per_frame).sum() / frames
    return losses, means


def logit_offset(counts: Tensor, power: float) -> Tensor:
    """Return what is added to the logits [C] in training, so that rare classes are not given up.

    power * log(share), of Menon et al.: "Long-Tail Learning via Logit Adjustment", ICLR 2021,
    equation 10. A class that never occurs counts as one pixel.

    Args:
        counts: labelled pixels of each class, [C].
    """
    share = counts.clamp_min(1).double()
    return (power * (share / share.sum()).log()).float()
