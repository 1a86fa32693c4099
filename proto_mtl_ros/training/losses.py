# SPDX-License-Identifier: Apache-2.0
"""Task losses on labelled pixels.

Every task loss returns one value per frame [B]; a frame without a valid pixel gives 0 with zero
gradient, never NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from proto_mtl_ros.tasks import (
    IGNORE_INDEX,
    Binary,
    Categorical,
    Scalar,
    Task,
    UnitVector,
)


def _masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Mean over the valid pixels of each frame: [B, H, W] and bool [B, H, W] to [B]."""
    # where, not product: an invalid pixel may hold NaN, and 0 * NaN is NaN
    total = torch.where(valid, values, values.new_zeros(())).flatten(1).sum(1)
    return total / valid.flatten(1).sum(1).clamp_min(1)


def _at_label_size(raw: Tensor, label_height: int, label_width: int) -> Tensor:
    return F.interpolate(raw, (label_height, label_width), mode="bilinear", align_corners=False)


def cross_entropy(raw: Tensor, label: Tensor) -> Tensor:
    """Cross entropy of logits [B, C, h, w] against ids uint8 [B, H, W], 255 ignored; [B]."""
    target = label.long()
    logits = _at_label_size(raw, *target.shape[1:])
    values = F.cross_entropy(logits, target, ignore_index=IGNORE_INDEX, reduction="none")
    return _masked_mean(values, target != IGNORE_INDEX)


def l1(raw: Tensor, label: Tensor) -> Tensor:
    """Absolute error of [B, 1, h, w] against [B, H, W] where the label is positive, finite; [B]."""
    prediction = _at_label_size(raw, *label.shape[1:]).squeeze(1)
    valid = torch.isfinite(label) & (label > 0)
    error = (prediction - torch.where(valid, label, label.new_ones(()))).abs()
    return _masked_mean(error, valid)


def cosine(raw: Tensor, label: Tensor) -> Tensor:
    """1 - cos between [B, 3, h, w] and unit vectors [B, H, W, 3]; (0, 0, 0) is ignored; [B]."""
    prediction = _at_label_size(raw, *label.shape[1:3])
    target = label.permute(0, 3, 1, 2)
    valid = target.square().sum(1) > 0.25
    return _masked_mean(1.0 - F.cosine_similarity(prediction, target, dim=1, eps=1e-6), valid)


def balanced_bce(raw: Tensor, label: Tensor) -> Tensor:
    """Binary cross entropy of logits [B, 1, h, w] against 0/1 uint8 [B, H, W], 255 ignored; [B].

    The rarer side is weighted up by the share of the other in the frame (Xie and Tu:
    "Holistically-Nested Edge Detection", ICCV 2015, equation 2).
    """
    logits = _at_label_size(raw, *label.shape[1:]).squeeze(1)
    valid = label != IGNORE_INDEX
    positive = (label == 1).to(logits.dtype)
    share = _masked_mean(positive, valid)[:, None, None]
    values = F.binary_cross_entropy_with_logits(logits, positive, reduction="none")
    return _masked_mean(values * torch.where(label == 1, 1 - share, share), valid)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": cross_entropy,
    "l1": l1,
    "cosine": cosine,
    "balanced_bce": balanced_bce,
}

_OF_KIND: dict[type[Task], str] = {
    Categorical: "cross_entropy",
    Scalar: "l1",
    UnitVector: "cosine",
    Binary: "balanced_bce",
}


def supervised(
    raw: dict[str, Tensor],
    labels: dict[str, Tensor],
    labelled: Tensor,
    tasks: Sequence[Task],
    weights: dict[str, float],
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
        if not bool(has.any()):
            continue
        per_frame = LOSSES[_OF_KIND[type(task)]](raw[task.name][has], labels[task.name][has])
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
