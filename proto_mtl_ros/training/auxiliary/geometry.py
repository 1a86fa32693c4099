# SPDX-License-Identifier: Apache-2.0
"""Exact depth-normals geometry as supervision where either label is missing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from proto_mtl_ros.model.network import NetworkOutput
from proto_mtl_ros.model.torch_tasks import RAW_STRIDE, masked_mean, torch_task
from proto_mtl_ros.training.auxiliary.auxiliary_loss import (
    DERIVED_NORMALS,
    AuxiliaryLoss,
    Setup,
    auxiliary_loss,
)
from proto_mtl_ros.training.losses import frame_weights


def depth_normals(depth: Tensor, camera: Tensor) -> Tensor:
    """Return unit normals [B, 3, H, W] of positive depth [B, 1, H, W] in any unit, in the optical
    frame, facing the camera; differentiable.

    The inverse depth of a plane n . p = d is linear in the ray (x, y, 1): 1 / z = (n / d) . (x, y,
    1). Smoothed central differences, exact for planes, give the normal however steep it is.
    ``camera`` is fx, fy, cx, cy [B, 4] in pixels of the depth map.
    """
    inverse = 1.0 / depth
    fx, fy, cx, cy = (values[:, None, None, None] for values in camera.to(depth).unbind(1))
    kernel = depth.new_tensor([[1.0, 2.0, 1.0]])
    kernel = kernel.t() @ depth.new_tensor([[-1.0, 0.0, 1.0]]) / 8.0  # Sobel
    padded = F.pad(inverse, (1, 1, 1, 1), mode="replicate")
    a = F.conv2d(padded, kernel[None, None]) * fx
    b = F.conv2d(padded, kernel.t()[None, None]) * fy
    height, width = depth.shape[-2:]
    x = (torch.arange(width, device=depth.device, dtype=depth.dtype) - cx) / fx
    y = (torch.arange(height, device=depth.device, dtype=depth.dtype)[:, None] - cy) / fy
    c = inverse - a * x - b * y
    # the plane's inverse depth a x + b y + c is positive at the pixel, so -(a, b, c) faces us
    return -F.normalize(torch.cat([a, b, c], 1), dim=1, eps=1e-6)


_FLAT = 0.97
"""Least length of the mean label vector of a stride-4 cell: shorter, and an edge runs through."""

_PREDICTED = 0.2
"""Weight where depth and normals are both predicted: agreement of two guesses tells little."""


@auxiliary_loss("geometry")
class DepthNormalsGeometry(AuxiliaryLoss):
    """Normals and depth of one frame belong to the same surface.

    - depth labelled, normals not: predicted normals against those of the labelled depth;
    - normals labelled, depth not: normals of the predicted depth against the label;
    - neither: normals of the predicted depth against predicted normals.

    Each frame counts T / n_b, as in the supervised loss.
    """

    title = "depth-normals geometry"
    needs_tasks = frozenset({"depth", "normals"})
    wants = frozenset({DERIVED_NORMALS})

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        names = [task.name for task in setup.tasks]
        self.depth, self.normals = names.index("depth"), names.index("normals")
        self.normals_weight = setup.weights["normals"]

    def forward(self, batch: dict[str, Any], out: NetworkOutput) -> Tensor:
        labelled = batch["labelled"]
        has_depth, has_normals = labelled[:, self.depth], labelled[:, self.normals]
        scale = frame_weights(labelled)
        raw_depth, raw_normals = out.raw["depth"], out.raw["normals"]
        total = raw_depth.sum() * 0.0 + raw_normals.sum() * 0.0
        derive = has_depth & ~has_normals
        if DERIVED_NORMALS in batch and bool(derive.any()):
            kind = torch_task(self.tasks[self.normals])
            values = kind.loss(raw_normals[derive], batch[DERIVED_NORMALS][derive])
            total = total + self.normals_weight * (scale[derive] * values).sum()
        lift = ~has_depth
        if bool(lift.any()):
            surface = depth_normals(raw_depth[lift], _coarse(batch["camera"][lift]))
            label, valid = _cells(batch["normals"][lift])
            predicted = F.normalize(raw_normals[lift], dim=1, eps=1e-6)
            known = has_normals[lift]
            target = torch.where(known[:, None, None, None], label, predicted)
            valid = torch.where(known[:, None, None], valid, torch.ones_like(valid))
            # the derivative at the border sees the padding
            values = masked_mean(1 - (surface * target).sum(1), inner(valid, 1))
            weight = torch.where(known, 1.0, _PREDICTED)
            total = total + (scale[lift] * weight * values).sum()
        return total


def inner(valid: Tensor, border: int) -> Tensor:
    """Return bool [B, H, W] without the pixels of a border."""
    return F.pad(valid[:, border:-border, border:-border], (border,) * 4)


def _coarse(camera: Tensor) -> Tensor:
    """Return fx, fy, cx, cy [B, 4] for the raw maps."""
    focal, centre = camera[:, :2], camera[:, 2:]
    return torch.cat([focal / RAW_STRIDE, (centre + 0.5) / RAW_STRIDE - 0.5], 1)


def _cells(normals: Tensor) -> tuple[Tensor, Tensor]:
    """Return unit vectors [B, 3, h, w] of the cells of raw maps for labels [B, H, W, 3], and where
    they are one surface."""
    mean = F.avg_pool2d(normals.permute(0, 3, 1, 2), RAW_STRIDE)
    length = mean.norm(dim=1)
    return mean / length.clamp_min(1e-6)[:, None], length > _FLAT
