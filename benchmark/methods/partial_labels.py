# SPDX-License-Identifier: Apache-2.0
"""What the methods share that compare predictions with the labels of other tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from proto_mtl_ros.tasks import Task


def full_precision(raw: dict[str, Tensor], tasks: Sequence[Task]) -> list[Tensor]:
    """Return the raw predictions in the order of the tasks, in float32 or better."""
    return [raw[t.name].to(torch.promote_types(raw[t.name].dtype, torch.float32)) for t in tasks]


def connected_zero(tensors: Iterable[Tensor]) -> Tensor:
    """Return 0 as a function of ``tensors``: each then has a gradient, if a zero one.

    Distributed training waits for a gradient of every parameter in every step.
    """
    return torch.stack([tensor.sum() for tensor in tensors]).sum() * 0.0


def partly_labelled(labelled: Tensor, valid: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return (has, partly): bool [B, T], whose label has a valid cell, and bool [B], the frames
    with at least one such label and at least one task without a label.

    A label without a valid cell counts neither as present nor as missing. ``valid`` are the masks
    of ``TorchTask.label_map``."""
    has = labelled & torch.stack([mask.flatten(1).any(1) for mask in valid], 1)
    return has, has.any(1) & (~labelled).any(1)
