# SPDX-License-Identifier: Apache-2.0
"""Cross-task consistency in a joint space per pair of tasks, in the manner of MTPSL.

Li, Liu, Bilen: "Learning Multiple Dense Prediction Tasks from Partially Annotated Data", CVPR
2022. For a frame in which task s has no label and task t has one, the prediction of s and the label
of t are mapped into one space, where they must agree:

    L(s, t) = d(m_s, m_t) + 0.5 (d(m_s, f) + d(m_t, f))        d = 1 - cos per position

with m_s = e(prediction of s | s, t), m_t = e(label of t | s, t), and f the backbone's features,
detached: without them a constant embedding would agree perfectly. One encoder e serves all pairs: a
stem per task, then convolutions that FiLM conditions on the ordered pair. Pairs are summed and
frames averaged.

What differs from the original: one view of the frame where the original predicts a second crop of
it (here every method sees the same number of images per step); the posterior instead of a sample of
it; an encoder that is small as the network it trains is small, with features at stride 16 instead
of 32; group norm, so that the loss of a frame does not depend on its batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.methods.partial_labels import connected_zero, full_precision, partly_labelled
from proto_mtl_ros.model.network import NetworkOutput
from proto_mtl_ros.model.torch_tasks import torch_task
from proto_mtl_ros.training.auxiliary import AuxiliaryLoss, Setup, auxiliary_loss

_WIDTH = 32
_GROUPS = 8
_STRIDE16 = 3
"""Index of the features at stride 16 in the pyramid."""
_FEATURE_WEIGHT = 0.5
"""Of the agreement with the backbone's features."""


class PairConvolution(nn.Module):
    """3x3 convolution, group norm, and a scale and shift per pair of tasks (FiLM), then ReLU."""

    def __init__(self, inp: int, out: int, pairs: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inp, out, 3, stride, 1, bias=False)
        self.norm = nn.GroupNorm(_GROUPS, out, affine=False)
        self.scale = nn.Parameter(torch.ones(pairs, out))
        self.shift = nn.Parameter(torch.zeros(pairs, out))

    def forward(self, x: Tensor, pair: Tensor) -> Tensor:
        """Map [N, inp, h, w], with the index of the pair of each of the N maps."""
        x = self.norm(self.conv(x))
        return F.relu(x * self.scale[pair][:, :, None, None] + self.shift[pair][:, :, None, None])


class PairEncoder(nn.Module):
    """Task maps of so many channels at stride 4 to embeddings [N, E, h, w] at stride 16."""

    def __init__(self, channels: Sequence[int], pairs: int, embedding: int) -> None:
        super().__init__()
        self.stems = nn.ModuleList(nn.Conv2d(c, _WIDTH, 3, 2, 1) for c in channels)
        self.middle = PairConvolution(_WIDTH, 2 * _WIDTH, pairs, 1)
        self.coarse = PairConvolution(2 * _WIDTH, 2 * _WIDTH, pairs, 2)
        # no activation: the backbone's features, which it is compared with, have both signs
        self.project = nn.Conv2d(2 * _WIDTH, embedding, 1)

    def forward(self, stems: Tensor, pair: Tensor) -> Tensor:
        """Embed the output of the stems [N, width, h, w] of the pairs [N]."""
        x = F.relu(stems)
        return self.project(self.coarse(self.middle(x, pair), pair))


@auxiliary_loss("cross_task")
class CrossTask(AuxiliaryLoss):
    """The loss above; 0 where no frame has both a labelled and an unlabelled task."""

    title = "cross-task consistency (MTPSL)"
    least_tasks = 2

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.kinds = [torch_task(task) for task in self.tasks]
        count = len(self.tasks)
        self.pairs = [(s, t) for s in range(count) for t in range(count) if s != t]
        channels = [task.channels for task in self.tasks]
        embedding = setup.network.channels[_STRIDE16]
        self.encoder = PairEncoder(channels, len(self.pairs), embedding)

    def forward(self, batch: dict[str, Any], out: NetworkOutput) -> Tensor:
        raw = full_precision(out.raw, self.tasks)
        features, labelled = out.pyramid[_STRIDE16].detach(), batch["labelled"]
        dtype, height, width = raw[0].dtype, *raw[0].shape[2:]
        maps = [k.label_map(batch[k.task.name], (height, width), dtype) for k in self.kinds]
        labels, valid = [label for label, _ in maps], [mask for _, mask in maps]
        has, _ = partly_labelled(labelled, valid)
        nothing = connected_zero((*raw, *self.parameters()))
        sources, targets, pairs, frames, masks = [], [], [], [], []
        for index, (s, t) in enumerate(self.pairs):
            rows = torch.nonzero(~labelled[:, s] & has[:, t]).squeeze(1)
            if len(rows) == 0:
                continue
            mask = valid[t][rows].to(dtype)
            predicted = self.kinds[s].map(raw[s][rows]) * mask
            sources.append(self.encoder.stems[s](predicted))
            targets.append(self.encoder.stems[t](labels[t][rows]))
            pairs.append(torch.full_like(rows, index))
            frames.append(rows)
            masks.append(mask)
        if not sources:
            return nothing
        pair, frame = torch.cat(pairs), torch.cat(frames)
        embedded = self.encoder(torch.cat([*sources, *targets]), torch.cat([pair, pair]))
        source, target = embedded.chunk(2)
        feature = F.adaptive_avg_pool2d(features, embedded.shape[2:])[frame]
        distance = _distance(source, target) + _FEATURE_WEIGHT * (
            _distance(source, feature) + _distance(target, feature)
        )
        weight = F.adaptive_avg_pool2d(torch.cat(masks), embedded.shape[2:]).squeeze(1)
        # every one of them has a valid cell, so the divisor is positive
        per_pair = (distance * weight).flatten(1).sum(1) / weight.flatten(1).sum(1)
        return per_pair.sum() / len(labelled) + nothing


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """1 - cos over the channels: [N, E, h, w] twice to [N, h, w]."""
    return 1.0 - F.cosine_similarity(a, b, dim=1)
