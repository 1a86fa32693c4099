# SPDX-License-Identifier: Apache-2.0
"""The surface that a predicted depth makes: flat where the label is flat, steps where it steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from proto_mtl_ros.model.network import NetworkOutput
from proto_mtl_ros.model.torch_tasks import masked_mean, torch_task
from proto_mtl_ros.tasks import NORMALS
from proto_mtl_ros.training.auxiliary.auxiliary_loss import (
    DERIVED_NORMALS,
    AuxiliaryLoss,
    Setup,
    auxiliary_loss,
)
from proto_mtl_ros.training.auxiliary.geometry import depth_normals, inner
from proto_mtl_ros.training.losses import frame_weights

_SCALES = (4, 8, 16)
"""Pixels; nearer ones would see the steps that depth labels are stored in."""

_BORDER = 2


@auxiliary_loss("surface")
class DepthSurface(AuxiliaryLoss):
    """Of frames with a depth label, at the label's size: differences of log depth over 4, 8 and 16
    pixels, twice, and 1 - cos between the normals of the predicted depth and those of the frame.

    The normals of the frame are the normals label, or else those of the depth label. Differences
    over several distances after Eigen and Fergus (ICCV 2015) and Li and Snavely: "MegaDepth", CVPR
    2018, equation 8. Each frame counts T / n_b, as in the supervised loss.
    """

    title = "surface of depth"
    needs_tasks = frozenset({"depth"})
    wants = frozenset({DERIVED_NORMALS})

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.column = [task.name for task in setup.tasks].index("depth")

    def forward(self, batch: dict[str, Any], out: NetworkOutput) -> Tensor:
        labelled = batch["labelled"]
        has = labelled[:, self.column]
        raw = out.raw["depth"]
        if not bool(has.any()):
            return raw.sum() * 0.0
        scale, kind = frame_weights(labelled), torch_task(self.tasks[self.column])
        label = batch["depth"][has]
        valid = kind.valid(label)[:, None]
        label = label[:, None]
        depth = F.interpolate(raw[has], label.shape[2:], mode="bilinear", align_corners=False)
        error = torch.where(valid, depth.log() - torch.where(valid, label, 1.0).log(), 0)
        steps = torch.stack([_differences(error, valid, apart) for apart in _SCALES]).mean(0)
        normals = batch[DERIVED_NORMALS][has]
        if "normals" in batch:
            known = labelled[has, [t.name for t in self.tasks].index("normals")]
            normals = torch.where(known[:, None, None, None], batch["normals"][has], normals)
        surface = depth_normals(depth, batch["camera"][has])
        there = inner(torch_task(NORMALS).valid(normals), _BORDER)
        angle = 1 - (surface * normals.permute(0, 3, 1, 2)).sum(1)
        return (scale[has] * (2 * steps + masked_mean(angle, there))).sum()


def _differences(error: Tensor, valid: Tensor, apart: int) -> Tensor:
    """Return per frame [B] the mean difference of errors [B, 1, H, W] so far apart, x plus y."""
    across = masked_mean(
        (error[..., apart:] - error[..., :-apart]).abs(), valid[..., apart:] & valid[..., :-apart]
    )
    down = masked_mean(
        (error[..., apart:, :] - error[..., :-apart, :]).abs(),
        valid[..., apart:, :] & valid[..., :-apart, :],
    )
    return across + down
