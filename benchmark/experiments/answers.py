# SPDX-License-Identifier: Apache-2.0
"""Answer prototypes: pairs of key and answer; a pixel's prediction is a mean of answers.

    a[n]  = softmax_m(cos(h[n], k_m) / tau)
    y[n]  = sum_m a[n, m] v_m + a small residual

The answers v_m are fixed and the same in every network, so a teacher's distribution a can be given
to a student as it is. Depth: log-depth centres. Normals: unit vectors, symmetric about x = 0, so
that a mirrored image permutes them. Segmentation: class slots, whose one-hot answers are summed as
probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from proto_mtl_ros.model.decoder import upsample
from proto_mtl_ros.model.network import TaskHead
from proto_mtl_ros.tasks import Categorical, Scalar, Task, UnitVector

DEPTHS, NEAREST_M, FARTHEST_M = 32, 0.4, 10.0
NORMALS = 48
SLOTS = 3
STEP = math.log(FARTHEST_M / NEAREST_M) / (DEPTHS - 1)
"""Between two depth answers, in log metres."""

_LARGEST_LOGIT = 40.0

_SIGMA = 0.21
"""Spread in radians that a normal label is assigned to answers with: half of their distance."""


def depth_answers() -> Tensor:
    """Return log metres [M, 1]."""
    return (math.log(NEAREST_M) + STEP * torch.arange(DEPTHS))[:, None]


def normal_answers() -> Tensor:
    """Return unit vectors [M, 3] facing the camera; number m + M/2 mirrors number m."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(NORMALS // 2, 3, generator=generator, dtype=torch.float64)
    points[:, 0].abs_()
    points[:, 2] = -points[:, 2].abs()
    mirror = points.new_tensor([-1.0, 1.0, 1.0])
    for step in range(600):  # repulsion on the part of the sphere that cameras see
        points = F.normalize(points, dim=1)
        every = torch.cat([points, points * mirror])
        apart = points[:, None] - every[None]
        square = apart.square().sum(-1).clamp_min(1e-6)
        square[torch.arange(len(points)), torch.arange(len(points))] = torch.inf
        points = points + 0.02 * 0.995**step * (apart / square[..., None] ** 1.5).sum(1)
        points[:, 0].clamp_(min=0.05)
        points[:, 2].clamp_(max=0.3)
    points = F.normalize(points, dim=1)
    return torch.cat([points, points * mirror]).float()


def mirrored(task: Task, weights: Tensor) -> Tensor:
    """Return the weights [B, M, h, w] of a mirrored map, not yet turned itself."""
    return weights.roll(NORMALS // 2, 1) if isinstance(task, UnitVector) else weights


def depth_assignment(depth: Tensor) -> Tensor:
    """Soft assignment of metres [...] to the depth answers: [..., M], sums to one."""
    apart = depth.clamp_min(1e-3).log()[..., None] - depth_answers()[:, 0]
    return torch.softmax(-0.5 * (apart / STEP).square(), -1)


def normal_assignment(normals: Tensor, answers: Tensor) -> Tensor:
    """Soft assignment of unit vectors [..., 3] to the answers [M, 3]: [..., M]."""
    return torch.softmax(normals @ answers.t() / _SIGMA**2, -1)


def shifted(weights: Tensor, factor: Tensor) -> Tensor:
    """Return depth weights [B, M, h, w] of depths divided by ``factor`` [B]."""
    place = torch.arange(DEPTHS) - factor.log()[:, None] / STEP
    place = place.clamp(0, DEPTHS - 1)
    # the mass of answer m goes to the two answers beside its new place
    move = (1 - (place[:, None, :] - torch.arange(DEPTHS)[None, :, None]).abs()).clamp_min(0)
    return torch.einsum("bkm,bmhw->bkhw", move, weights)


class AnswerHead(TaskHead):
    """``TaskHead`` whose last layer retrieves answers.

    Attributes:
        logits: of the last forward pass, [B, M, h, w]; softmax gives the weights a.
        retrieved, total: what the answers give, and with the residual, [B, C, h, w] (log metres,
            logits, vectors).
        flat: replace what is retrieved by its mean over the frame.
    """

    def __init__(self, task: Task, channels: Sequence[int], tokens: int, width: int) -> None:
        super().__init__(task, channels, tokens, width)
        self.task = task
        if isinstance(task, Scalar):
            answers = depth_answers()
        elif isinstance(task, UnitVector):
            answers = normal_answers()
        else:
            assert isinstance(task, Categorical)
            answers = torch.eye(task.channels).repeat_interleave(SLOTS, 0)
        self.register_buffer("answers", answers, persistent=False)
        self.keys = nn.Parameter(F.normalize(torch.randn(len(answers), width), dim=1))
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        nn.init.zeros_(self.predict.weight)
        nn.init.zeros_(self.predict.bias)
        self.flat = False

    def features(self, tokens: Tensor, pyramid: Sequence[Tensor]) -> Tensor:
        """Return h [B, width, H/4, W/4]."""
        x = upsample(self.reduce(tokens), 2)
        x = self.block8(F.relu(x + self.lateral8(pyramid[2])))
        return self.block4(F.relu(upsample(x, 2) + self.lateral4(pyramid[1])))

    def match(self, h: Tensor) -> Tensor:
        """Return the logits of the answers, cos(h, k) / tau: [B, M, h, w].

        Written so that runtimes are quick: the length of h is a convolution too, and divides what
        the keys gave; sums over channels in any other form cost several times as much.
        """
        keys = F.normalize(self.keys, dim=1) * self.log_scale.exp().clamp_max(_LARGEST_LOGIT)
        square = F.conv2d(h.square(), h.new_ones(1, h.shape[1], 1, 1))
        return F.conv2d(h, keys[:, :, None, None]) * torch.rsqrt(square + 1e-6)

    def answer(self, h: Tensor, logits: Tensor) -> Tensor:
        """Return the raw prediction."""
        # logits are bounded, so the softmax needs no maximum: weighted sum and sum in one product
        weights = logits.exp()
        answers = self.answers.t()[:, :, None, None]
        if isinstance(self.task, Categorical):
            retrieved = F.conv2d(weights, answers).log()
        else:
            both = F.conv2d(weights, torch.cat([answers, torch.ones_like(answers[:1])]))
            retrieved = both[:, :-1] / both[:, -1:]
        if self.flat:
            retrieved = retrieved.mean((2, 3), keepdim=True).expand_as(retrieved)
        total = retrieved + self.predict(h)
        if not torch.compiler.is_exporting():
            self.logits, self.retrieved, self.total = logits, retrieved, total
        return self.activate(total)

    def forward(self, tokens: Tensor, pyramid: Sequence[Tensor]) -> Tensor:
        h = self.features(tokens, pyramid)
        return self.answer(h, self.match(h))
