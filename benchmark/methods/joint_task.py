# SPDX-License-Identifier: Apache-2.0
"""Regularisation of all tasks at once in one learnt space, in the manner of JTR.

Nishi, Kim, Li, Pfister: "Joint-Task Regularization for Partially Labeled Multi-Task Learning",
CVPR 2024. The predictions of all tasks, stacked, are one noisy map Y^; with labels in place of
predictions where there are any it is a more reliable one, Y. With an auto-encoder (e, d):

    L = 4 (1 - cos(e(Y^), e(Y))) + 2 (R(d(e(Y^)), Y^) + R(d(e(Y)), Y))

R, the error of the reconstruction, is cross entropy, absolute error of the squashed depth, and
1 - cos for normals; one pass over all tasks makes it linear in their number. As in the original,
the distance trains the predictions of tasks that have no label in the frame (those of labelled
ones are detached) and the encoder; the reconstruction trains the auto-encoder only.

What differs from the original: one view of the frame where the original predicts two more crops of
it (here every method sees the same number of images per step); the posterior instead of a sample of
it; labelled pixels that are invalid keep the prediction in both maps instead of being zero in both;
a small auto-encoder with bilinear upsampling and group norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.methods.partial_labels import connected_zero, full_precision, partly_labelled
from proto_mtl_ros.model.decoder import upsample
from proto_mtl_ros.model.network import NetworkOutput
from proto_mtl_ros.model.torch_tasks import torch_task
from proto_mtl_ros.tasks import Scalar, Task, UnitVector
from proto_mtl_ros.training.auxiliary import AuxiliaryLoss, Setup, auxiliary_loss

_DISTANCE_WEIGHT = 4.0
_RECONSTRUCTION_WEIGHT = 2.0
_WIDTH = 32
_LATENT = 96
_GROUPS = 8


def _block(inp: int, out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inp, out, 3, stride, 1, bias=False), nn.GroupNorm(_GROUPS, out), nn.ReLU()
    )


class AutoEncoder(nn.Module):
    """Stacked maps [N, C, h, w] at stride 4 to a latent map at stride 16, and back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            _block(channels, _WIDTH, 2),
            _block(_WIDTH, 2 * _WIDTH, 2),
            nn.Conv2d(2 * _WIDTH, _LATENT, 3, padding=1),
        )
        self.coarse = _block(_LATENT, 2 * _WIDTH)
        self.middle = _block(2 * _WIDTH, _WIDTH)
        self.fine = nn.Conv2d(_WIDTH, channels, 3, padding=1)

    def decode(self, latent: Tensor) -> Tensor:
        """Return the reconstruction [N, C, h, w]: logits for what is a probability."""
        return self.fine(upsample(self.middle(upsample(self.coarse(F.relu(latent)), 2)), 2))


@auxiliary_loss("joint_task")
class JointTask(AuxiliaryLoss):
    """The loss above; 0 where no frame has both a labelled and an unlabelled task."""

    title = "joint-task regularisation (JTR)"
    least_tasks = 2

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.kinds = [torch_task(task) for task in self.tasks]
        self.auto_encoder = AutoEncoder(sum(task.channels for task in self.tasks))

    def forward(self, batch: dict[str, Any], out: NetworkOutput) -> Tensor:
        raw = full_precision(out.raw, self.tasks)
        stacked = self.stacks(batch, raw)
        nothing = connected_zero((*raw, *self.parameters()))
        if stacked is None:
            return nothing
        # a mean over the frames of the batch: those that do not apply count as 0
        share = len(stacked[0]) / len(raw[0])
        return nothing + share * (
            _DISTANCE_WEIGHT * self.distance(*stacked)
            + _RECONSTRUCTION_WEIGHT * self.reconstruction(*stacked)
        )

    def stacks(self, batch: dict[str, Any], raw: Sequence[Tensor]) -> tuple[Tensor, Tensor] | None:
        """Return (Y^, Y), each [n, C, h, w], of the n partly labelled frames; None if n = 0."""
        labelled = batch["labelled"]
        dtype, height, width = raw[0].dtype, *raw[0].shape[2:]
        maps = [k.label_map(batch[k.task.name], (height, width), dtype) for k in self.kinds]
        _, partly = partly_labelled(labelled, [valid for _, valid in maps])
        rows = torch.nonzero(partly).squeeze(1)
        if len(rows) == 0:
            return None
        noisy, reliable = [], []
        for index, (kind, (label, valid)) in enumerate(zip(self.kinds, maps)):
            predicted = kind.map(raw[index][rows])
            has = labelled[rows, index][:, None, None, None]
            predicted = torch.where(has, predicted.detach(), predicted)
            target = torch.where(has & valid[rows], label[rows], predicted)
            offset, scale = (0.5, 0.5) if kind.vectors else (0.0, 1.0)
            noisy.append(predicted * scale + offset)
            reliable.append(target * scale + offset)
        return torch.cat(noisy, 1), torch.cat(reliable, 1)

    def distance(self, noisy: Tensor, reliable: Tensor) -> Tensor:
        """Return the mean of 1 - cos between the latent maps."""
        first, second = self.auto_encoder.encoder(torch.cat([noisy, reliable])).chunk(2)
        return 1.0 - F.cosine_similarity(first, second, dim=1).mean()

    def reconstruction(self, noisy: Tensor, reliable: Tensor) -> Tensor:
        """Return the error of the reconstruction, the sum of both maps' and over the tasks."""
        maps = torch.cat([noisy, reliable]).detach()
        rebuilt = self.auto_encoder.decode(self.auto_encoder.encoder(maps))
        sizes = [task.channels for task in self.tasks]
        errors = [
            reconstruction_error(task, *pair)
            for task, pair in zip(self.tasks, zip(rebuilt.split(sizes, 1), maps.split(sizes, 1)))
        ]
        # the mean over 2 n maps is half of the sum of two means over n
        return 2.0 * torch.stack(errors).sum()


def reconstruction_error(task: Task, rebuilt: Tensor, target: Tensor) -> Tensor:
    """Return the mean error of a task's part of the reconstruction."""
    if isinstance(task, Scalar):
        rebuilt = rebuilt.sigmoid()
    elif isinstance(task, UnitVector):
        target = 2.0 * target - 1.0
    return torch_task(task).disagreement(rebuilt, target).mean()
