# SPDX-License-Identifier: Apache-2.0
"""The per-task heads: retrieved tokens f^tr and finer backbone features to raw predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from proto_mtl_ros.model.decoder import (
    SeparableBlock,
    conv_norm,
    upsample,
)
from proto_mtl_ros.tasks import (
    Scalar,
    Task,
    UnitVector,
)

_TYPICAL_DEPTH_M = 3.0
"""Where the depth head starts: a typical indoor distance."""


class TaskHead(nn.Module):
    """Tokens [B, d, H/16, W/16] and taps to the raw prediction [B, channels, H/4, W/4].

    Raw predictions: logits (segmentation), canonical depth in metres (depth; positive, being an
    exponential), unnormalised vectors (normals).
    """

    def __init__(self, task: Task, channels: Sequence[int], tokens: int, width: int) -> None:
        super().__init__()
        _, c4, c8, _, _ = channels
        self.positive = isinstance(task, Scalar)
        self.reduce = conv_norm(tokens, width)
        self.lateral8 = conv_norm(c8, width)
        self.block8 = SeparableBlock(width, 3)
        self.lateral4 = conv_norm(c4, width)
        self.block4 = SeparableBlock(width, 3)
        self.predict = nn.Conv2d(width, task.channels, 1)
        assert self.predict.bias is not None
        nn.init.normal_(self.predict.weight, std=0.01)
        nn.init.zeros_(self.predict.bias)
        if self.positive:
            nn.init.constant_(self.predict.bias, math.log(_TYPICAL_DEPTH_M))
        if isinstance(task, UnitVector):
            # start as a wall that faces the camera: a zero vector has no direction to learn from
            self.predict.bias.data[2] = -0.5

    def forward(self, tokens: Tensor, taps: Sequence[Tensor]) -> Tensor:
        x = upsample(self.reduce(tokens), 2)
        x = self.block8(F.relu(x + self.lateral8(taps[2])))
        x = self.block4(F.relu(upsample(x, 2) + self.lateral4(taps[1])))
        raw = self.predict(x)
        return raw.clamp(-4.0, 5.0).exp() if self.positive else raw
