# SPDX-License-Identifier: Apache-2.0
"""Predictions and labels of a task as maps of one form, so that a network can compare them.

A map is [B, C, h, w] at the stride of the raw predictions: class posterior (segmentation; soft
where label pixels of several classes fall into one cell), depth squashed to 0..1 by the CDF of a
normal distribution, unit vectors (normals), probability (binary).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from proto_mtl_ros.tasks import (
    Categorical,
    Scalar,
    Task,
    UnitVector,
)

_DEPTH_MEAN_M, _DEPTH_SPREAD_M = 2.4, 1.5
"""Canonical depth that is squashed to 0.5, and the spread: about those of indoor frames."""


def squashed_depth(depth: Tensor) -> Tensor:
    """Return canonical depth in metres as 0..1, as JTR does it: near surfaces keep more range."""
    return torch.special.ndtr((depth - _DEPTH_MEAN_M) / _DEPTH_SPREAD_M)


def full_precision(raw: dict[str, Tensor], tasks: Sequence[Task]) -> list[Tensor]:
    """Return the raw predictions in the order of the tasks, in float32 or better."""
    return [raw[t.name].to(torch.promote_types(raw[t.name].dtype, torch.float32)) for t in tasks]


def connected_zero(tensors: Iterable[Tensor]) -> Tensor:
    """Return 0 as a function of ``tensors``: each then has a gradient, if a zero one.

    Distributed training waits for a gradient of every parameter in every step.
    """
    return torch.stack([tensor.sum() for tensor in tensors]).sum() * 0.0


def prediction_map(task: Task, raw: Tensor) -> Tensor:
    """Return the map of a raw prediction [B, C, h, w]; differentiable."""
    if isinstance(task, Categorical):
        return raw.softmax(1)
    if isinstance(task, Scalar):
        return squashed_depth(raw)
    if isinstance(task, UnitVector):
        return F.normalize(raw, dim=1, eps=1e-6)
    return raw.sigmoid()


def label_map(
    task: Task, label: Tensor, size: tuple[int, int], dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Return the map [B, C, h, w] of a label batch, and bool [B, 1, h, w], where it is valid.

    A cell is the mean over its valid pixels, and valid if at least half of its pixels are; where it
    is not, the map is 0.

    Args:
        task: what the label is of.
        label: as in a training batch, [B, H, W] or [B, H, W, 3].
        size: (h, w) of the raw prediction.
        dtype: of the result.
    """
    if isinstance(task, Categorical):
        valid = label < task.channels
        ids = torch.where(valid, label, 0).long()
        values = F.one_hot(ids, task.channels).permute(0, 3, 1, 2).to(dtype)
    elif isinstance(task, Scalar):
        valid = torch.isfinite(label) & (label > 0)
        values = squashed_depth(torch.where(valid, label, 1).to(dtype))[:, None]
    elif isinstance(task, UnitVector):
        # a comparison with NaN is false, so NaN is invalid as well
        valid = label.square().sum(-1) > 0.25
        values = torch.where(valid[..., None], label, 0).permute(0, 3, 1, 2).to(dtype)
    else:
        valid = label <= 1
        values = label[:, None].to(dtype)
    weight = valid[:, None].to(dtype)
    share = F.adaptive_avg_pool2d(weight, size)
    mean = F.adaptive_avg_pool2d(values * weight, size) / share.clamp_min(1e-6)
    if isinstance(task, UnitVector):
        mean = F.normalize(mean, dim=1, eps=1e-6)
    known = share >= 0.5
    return torch.where(known, mean, 0), known


def partly_labelled(labelled: Tensor, valid: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return (has, partly): bool [B, T], whose label has a valid cell, and bool [B].

    ``partly`` are the frames in which labels can say something of another task's prediction: at
    least one task has a label and at least one has none. A label without a valid cell says
    nothing: it counts neither as present nor as missing.

    Args:
        labelled: bool [B, T] of the batch.
        valid: per task bool [B, 1, h, w] of ``label_map``.
    """
    has = labelled & torch.stack([mask.flatten(1).any(1) for mask in valid], 1)
    return has, has.any(1) & (~labelled).any(1)
