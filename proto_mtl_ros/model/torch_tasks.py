# SPDX-License-Identifier: Apache-2.0
"""The torch half of a task: what heads, losses, teachers and the deployed graph know of its kind.

One class per kind, found by the kind of the task. Throughout, a raw prediction is [B, C, h, w] at
a quarter of the input's size, a label batch [B, H, W] or [B, H, W, C], and a *map* [B, C, h, w] is
what predictions and labels are compared as. Whatever has no valid pixel gives 0 with zero gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from proto_mtl_ros.model.decoder import upsample
from proto_mtl_ros.tasks import IGNORE_INDEX, Binary, Categorical, Scalar, Task, UnitVector

RAW_STRIDE = 4
"""Raw predictions are this much smaller than the input."""

_TYPICAL_DEPTH_M = 3.0
"""Where the depth head starts: a typical indoor distance."""

_MEAN_DEPTH_M, _DEPTH_SPREAD_M = 2.4, 1.5
"""Canonical depth that becomes 0.5 in a map, and the spread: about those of indoor frames."""


class TorchTask:
    """The base of all kinds.

    ``vectors``: the first channel is the x component of a vector, negated in a mirror image.
    """

    vectors = False

    def __init__(self, task: Task) -> None:
        self.task = task

    def start(self, bias: Tensor) -> None:
        """Set the bias [C] of the head's last layer, which is zero, to where learning starts."""

    def activate(self, raw: Tensor) -> Tensor:
        """Return the raw prediction from what the head's last layer gives."""
        return raw

    def valid(self, label: Tensor) -> Tensor:
        """Return bool [B, H, W]: where a label batch is one."""
        raise NotImplementedError

    def loss(self, raw: Tensor, label: Tensor) -> Tensor:
        """Return the loss of each frame over its labelled pixels, [B]."""
        raise NotImplementedError

    def coarse(self, raw: Tensor, temperature: float) -> dict[str, Tensor]:
        """Return what the deployed graph enlarges to the input's size, by the name of its map."""
        return {self.task.name: raw}

    def decode(self, raw: Tensor, large: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the decoded map from the enlarged one."""
        return {name: values.squeeze(1) for name, values in large.items()}

    def map(self, raw: Tensor) -> Tensor:
        """Return a raw prediction as a map; differentiable."""
        raise NotImplementedError

    def label_map(
        self, label: Tensor, size: tuple[int, int], dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Return the map of a label batch at ``size``, and where it is valid, bool [B, 1, h, w].

        A cell is the mean over its valid pixels, and valid if at least half of its pixels are;
        where it is not, the map is 0.
        """
        values, valid = self._dense(label, dtype)
        weight = valid[:, None].to(dtype)
        share = F.adaptive_avg_pool2d(weight, size)
        mean = F.adaptive_avg_pool2d(values * weight, size) / share.clamp_min(1e-6)
        known = share >= 0.5
        return torch.where(known, self._normal(mean), 0), known

    def _dense(self, label: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return the map of labels at their own size, and bool [B, H, W]: where it is valid."""
        raise NotImplementedError

    def _normal(self, mean: Tensor) -> Tensor:
        return mean

    def disagreement(self, raw: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss per pixel [B, h, w] of a raw prediction against a teacher's."""
        raise NotImplementedError

    def teach(self, raw: Tensor, mirrored: Tensor) -> Tensor:
        """Return a teacher's prediction and its confidence, [B, C + 1, h, w].

        The prediction is the mean over the frame and its mirror image; how far the two disagree
        says how sure it is. ``mirrored`` has been mirrored back.
        """
        mean = (self.map(raw) + self.map(mirrored)) / 2
        return torch.cat([mean, torch.ones_like(mean[:, :1])], 1)

    def mirror(self, raw: Tensor) -> Tensor:
        """Return a prediction on a mirror image as one on the image."""
        turned = raw.flip(3)
        if self.vectors:
            turned[:, 0].neg_()
        return turned


KINDS: dict[type[Task], type[TorchTask]] = {}
"""Kind of task to its torch half."""

_Half = TypeVar("_Half", bound=type[TorchTask])


def torch_half(kind: type[Task]) -> Callable[[_Half], _Half]:
    """Register the decorated class as the torch half of a kind of task."""

    def register(half: _Half) -> _Half:
        KINDS[kind] = half
        return half

    return register


def torch_task(task: Task) -> TorchTask:
    """Return the torch half of ``task``, that of the nearest kind it is of."""
    for kind in type(task).__mro__:
        if kind in KINDS:
            return KINDS[kind](task)
    raise ValueError(f"task {task.name!r} of kind {type(task).__name__} has no torch half")


@torch_half(Categorical)
class CategoricalTask(TorchTask):
    """Logits; a map is a posterior. The confidence is the largest softmax after the temperature,
    taken before enlarging, at a sixteenth of the exponentials."""

    def valid(self, label: Tensor) -> Tensor:
        return label < self.task.channels

    def loss(self, raw: Tensor, label: Tensor) -> Tensor:
        target = label.long()
        logits = _at_label_size(raw, target)
        values = F.cross_entropy(logits, target, ignore_index=IGNORE_INDEX, reduction="none")
        return masked_mean(values, target != IGNORE_INDEX)

    def coarse(self, raw: Tensor, temperature: float) -> dict[str, Tensor]:
        sure = torch.softmax(raw / temperature, dim=1).amax(1, keepdim=True)
        return {self.task.confidence: sure}

    def decode(self, raw: Tensor, large: dict[str, Tensor]) -> dict[str, Tensor]:
        # channels last: over the channels of planes, runtimes compute an argmax pixel by pixel
        logits = upsample(raw, RAW_STRIDE).permute(0, 2, 3, 1)
        return {self.task.name: logits.argmax(-1).to(torch.uint8)}

    def map(self, raw: Tensor) -> Tensor:
        return raw.softmax(1)

    def _dense(self, label: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        valid = self.valid(label)
        ids = torch.where(valid, label, 0).long()
        return F.one_hot(ids, self.task.channels).permute(0, 3, 1, 2).to(dtype), valid

    def disagreement(self, raw: Tensor, teacher: Tensor) -> Tensor:
        # A posterior says itself how sure it is, so its confidence is 1; weighted down where it
        # is flat, rare classes would be heard least.
        return -(teacher * F.log_softmax(raw, 1)).sum(1)


@torch_half(Scalar)
class ScalarTask(TorchTask):
    """A positive number, the exponential of what the head gives; canonical metres for depth.

    A map squashes it to 0..1 by the CDF of a normal distribution, as JTR does: near surfaces keep
    more range.
    """

    def start(self, bias: Tensor) -> None:
        nn.init.constant_(bias, math.log(_TYPICAL_DEPTH_M))

    def activate(self, raw: Tensor) -> Tensor:
        return raw.clamp(-4.0, 5.0).exp()

    def valid(self, label: Tensor) -> Tensor:
        return torch.isfinite(label) & (label > 0)

    def loss(self, raw: Tensor, label: Tensor) -> Tensor:
        valid = self.valid(label)
        target = torch.where(valid, label, label.new_ones(()))
        return masked_mean((_at_label_size(raw, label).squeeze(1) - target).abs(), valid)

    def map(self, raw: Tensor) -> Tensor:
        return torch.special.ndtr((raw - _MEAN_DEPTH_M) / _DEPTH_SPREAD_M)

    def _dense(self, label: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        valid = self.valid(label)
        return self.map(torch.where(valid, label, 1).to(dtype))[:, None], valid

    def disagreement(self, raw: Tensor, teacher: Tensor) -> Tensor:
        return (raw - teacher).abs().squeeze(1)

    def teach(self, raw: Tensor, mirrored: Tensor) -> Tensor:
        confidence = torch.exp(-(raw.log() - mirrored.log()).abs() / 0.1)
        return torch.cat([(raw + mirrored) / 2, confidence], 1)


@torch_half(UnitVector)
class UnitVectorTask(TorchTask):
    """A vector of any length; a map is of length one."""

    vectors = True

    def start(self, bias: Tensor) -> None:
        # a wall that faces the camera: a zero vector has no direction to learn from
        bias.data[2] = -0.5

    def valid(self, label: Tensor) -> Tensor:
        # a comparison with NaN is false, so NaN is invalid as well
        return label.square().sum(-1) > 0.25

    def loss(self, raw: Tensor, label: Tensor) -> Tensor:
        target = label.permute(0, 3, 1, 2)
        valid = self.valid(label)
        cosine = F.cosine_similarity(_at_label_size(raw, label), target, dim=1, eps=1e-6)
        return masked_mean(1.0 - cosine, valid)

    def decode(self, raw: Tensor, large: dict[str, Tensor]) -> dict[str, Tensor]:
        vectors = large[self.task.name]
        length = vectors.square().sum(1, keepdim=True).sqrt().clamp_min(1e-6)
        return {self.task.name: (vectors / length).permute(0, 2, 3, 1)}

    def map(self, raw: Tensor) -> Tensor:
        return F.normalize(raw, dim=1, eps=1e-6)

    def _normal(self, mean: Tensor) -> Tensor:
        return self.map(mean)

    def _dense(self, label: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        valid = self.valid(label)
        return torch.where(valid[..., None], label, 0).permute(0, 3, 1, 2).to(dtype), valid

    def disagreement(self, raw: Tensor, teacher: Tensor) -> Tensor:
        return 1 - F.cosine_similarity(raw, teacher, dim=1, eps=1e-6)

    def teach(self, raw: Tensor, mirrored: Tensor) -> Tensor:
        first, second = self.map(raw), self.map(mirrored)
        cosine = (first * second).sum(1, keepdim=True).clamp(-1, 1)
        confidence = torch.exp(-torch.rad2deg(torch.acos(cosine)) / 15)
        return torch.cat([self.map(first + second), confidence], 1)


@torch_half(Binary)
class BinaryTask(TorchTask):
    """A logit; a map, decoded or not, is a probability."""

    def valid(self, label: Tensor) -> Tensor:
        return label <= 1

    def loss(self, raw: Tensor, label: Tensor) -> Tensor:
        """Binary cross entropy; the rarer side is weighted up by the share of the other in the
        frame (Xie and Tu: "Holistically-Nested Edge Detection", ICCV 2015, equation 2)."""
        logits = _at_label_size(raw, label).squeeze(1)
        valid = label != IGNORE_INDEX
        positive = (label == 1).to(logits.dtype)
        share = masked_mean(positive, valid)[:, None, None]
        values = F.binary_cross_entropy_with_logits(logits, positive, reduction="none")
        return masked_mean(values * torch.where(label == 1, 1 - share, share), valid)

    def coarse(self, raw: Tensor, temperature: float) -> dict[str, Tensor]:
        return {self.task.name: raw.sigmoid()}

    def map(self, raw: Tensor) -> Tensor:
        return raw.sigmoid()

    def _dense(self, label: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        return label[:, None].to(dtype), self.valid(label)

    def disagreement(self, raw: Tensor, teacher: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(raw, teacher, reduction="none").squeeze(1)


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Return the mean over the valid pixels of each frame, [B]; values and bool are [B, ...]."""
    # where, not product: an invalid pixel may hold NaN, and 0 * NaN is NaN
    total = torch.where(valid, values, values.new_zeros(())).flatten(1).sum(1)
    return total / valid.flatten(1).sum(1).clamp_min(1)


def _at_label_size(raw: Tensor, label: Tensor) -> Tensor:
    return F.interpolate(raw, label.shape[1:3], mode="bilinear", align_corners=False)
