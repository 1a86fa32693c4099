# SPDX-License-Identifier: Apache-2.0
"""Answer prototypes: pairs of a key and an answer; what a head predicts is a mean of answers.

    a[n] = softmax_m(cos(h[n], k_m) / tau)
    y[n] = sum_m a[n, m] v_m + W h[n]

h are the features of a head, [B, C, H/4, W/4]. The keys k_m and tau are learnt. The answers v_m are
fixed and the same in every network, so that the distribution a of one network can teach another:
log-depth centres, unit vectors (symmetric about x = 0: a mirrored image permutes them), and for
classes slots, whose probabilities are summed. The residual W h starts at zero. How far the answers
that a pixel retrieves are apart, its spread, says how sure it is: the standard deviation of log
depth; 1 - the length of the mean of the vectors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from proto_mtl_ros.model.decoder import SeparableBlock, conv_norm, upsample
from proto_mtl_ros.model.torch_tasks import torch_task
from proto_mtl_ros.tasks import Categorical, Scalar, Task, UnitVector

_DEPTHS, _NEAREST_M, _FARTHEST_M = 32, 0.4, 10.0
_STEP = math.log(_FARTHEST_M / _NEAREST_M) / (_DEPTHS - 1)
_VECTORS = 48
_SPREAD = 0.21
"""Radians by which a normal label spreads over the answers: half of their distance."""

_SLOTS = 3
"""Keys of a class."""

_LARGEST_LOGIT = 40.0


@lru_cache(1)
def unit_vectors() -> Tensor:
    """Return unit vectors [M, 3] that face the camera, evenly spread; m + M/2 mirrors m."""
    with torch.device("cpu"):  # not where a network without values is being built
        generator = torch.Generator().manual_seed(0)
        points = torch.randn(_VECTORS // 2, 3, generator=generator, dtype=torch.float64)
        points[:, 0].abs_()
        points[:, 2] = -points[:, 2].abs()
        mirror = points.new_tensor([-1.0, 1.0, 1.0])
        itself = torch.arange(len(points))
        for step in range(600):  # repulsion on the part of the sphere that a camera sees
            points = F.normalize(points, dim=1)
            apart = points[:, None] - torch.cat([points, points * mirror])[None]
            square = apart.square().sum(-1).clamp_min(1e-6)
            square[itself, itself] = torch.inf
            points = points + 0.02 * 0.995**step * (apart / square[..., None] ** 1.5).sum(1)
            points[:, 0].clamp_(min=0.05)
            points[:, 2].clamp_(max=0.3)
        points = F.normalize(points, dim=1)
        return torch.cat([points, points * mirror]).float()


def answers_of(task: Task) -> Tensor | None:
    """Return the answers [M, C] of a task, in the unit of its head: log metres, vectors, classes;
    None for a kind of task that has none."""
    if isinstance(task, Scalar):
        return (math.log(_NEAREST_M) + _STEP * torch.arange(_DEPTHS))[:, None]
    if isinstance(task, UnitVector):
        return unit_vectors().clone()  # networks load weights into theirs
    if isinstance(task, Categorical):
        return torch.eye(task.channels).repeat_interleave(_SLOTS, 0)
    return None


def assignment(task: Task, values: Tensor, answers: Tensor) -> Tensor:
    """Return the soft assignment [..., M] of label values [..., C] to the answers of a regression:
    what the distribution of a pixel is to be."""
    if isinstance(task, UnitVector):
        return torch.softmax(values @ answers.t() / _SPREAD**2, -1)
    apart = values.clamp_min(1e-3).log() - answers[:, 0]
    return torch.softmax(-0.5 * (apart / _STEP).square(), -1)


class TaskHead(nn.Module):
    """Tokens [B, d, H/16, W/16] and the pyramid to (raw prediction, logits of the answers, log of
    their spread).

    All are at a quarter of the input's size. A task without answers, or a head that is not to have
    them (``answered``), has the residual alone, and nothing else; classes have no spread.
    """

    def __init__(
        self,
        task: Task,
        channels: Sequence[int],
        tokens: int,
        width: int,
        answered: bool = True,
    ) -> None:
        super().__init__()
        _, c4, c8, _, _ = channels
        self.reduce = conv_norm(tokens, width)
        self.lateral8 = conv_norm(c8, width)
        self.block8 = SeparableBlock(width, 3)
        self.lateral4 = conv_norm(c4, width)
        self.block4 = SeparableBlock(width, 3)
        self.residual = nn.Conv2d(width, task.channels, 1)
        assert self.residual.bias is not None
        nn.init.zeros_(self.residual.bias)
        kind = torch_task(task)
        self.activate = kind.activate
        self.classes, self.vectors = isinstance(task, Categorical), isinstance(task, UnitVector)
        answers = answers_of(task) if answered else None
        self.register_buffer("answers", answers)  # stored: weights are of no use without them
        if answers is None:
            nn.init.normal_(self.residual.weight, std=0.01)
            kind.start(self.residual.bias)
        else:
            nn.init.zeros_(self.residual.weight)
            self.keys = nn.Parameter(F.normalize(torch.randn(len(answers), width), dim=1))
            self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def features(self, tokens: Tensor, pyramid: Sequence[Tensor]) -> Tensor:
        """Return h."""
        x = upsample(self.reduce(tokens), 2)
        x = self.block8(F.relu(x + self.lateral8(pyramid[2])))
        return self.block4(F.relu(upsample(x, 2) + self.lateral4(pyramid[1])))

    def match(self, h: Tensor) -> Tensor:
        """Return cos(h, k) / tau, [B, M, h, w].

        Written so that runtimes are quick: the length of h is a convolution too, and divides what
        the keys gave; sums over channels in any other form cost several times as much.
        """
        keys = F.normalize(self.keys, dim=1) * self.log_scale.exp().clamp_max(_LARGEST_LOGIT)
        square = F.conv2d(h.square(), h.new_ones(1, h.shape[1], 1, 1))
        return F.conv2d(h, keys[:, :, None, None]) * torch.rsqrt(square + 1e-6)

    def retrieve(self, logits: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return (mean of the answers, logarithm of their spread), for classes (logarithm of their
        sums, None)."""
        # logits are bounded, so a softmax needs no maximum: weighted sum and sum in one product
        weights = logits.exp()
        answers = self.answers.t()[:, :, None, None]  # type: ignore[operator]
        if self.classes:
            return F.conv2d(weights, answers).log(), None
        one = torch.ones_like(answers[:1])
        if self.vectors:
            sums = F.conv2d(weights, torch.cat([answers, one]))
            mean = sums[:, :-1] / sums[:, -1:]
            length = mean.square().sum(1, keepdim=True).sqrt()
            return mean, (1.0 - length).clamp_min(1e-3).log()
        middle = answers.mean(1, keepdim=True)  # half precision has few digits for squares
        apart = answers - middle
        sums = F.conv2d(weights, torch.cat([apart, apart.square(), one]))
        mean, square = (sums[:, k : k + 1] / sums[:, 2:] for k in (0, 1))
        variance = (square - mean.square()).clamp_min(1e-4)
        return mean + middle, 0.5 * variance.log()

    def forward(
        self, tokens: Tensor, pyramid: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        h = self.features(tokens, pyramid)
        if self.answers is None:
            return self.activate(self.residual(h)), None, None
        logits = self.match(h)
        retrieved, spread = self.retrieve(logits)
        return self.activate(retrieved + self.residual(h)), logits, spread
