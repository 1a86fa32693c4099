# SPDX-License-Identifier: Apache-2.0
"""The per-task heads: retrieved tokens f^tr and finer backbone features to raw predictions."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from proto_mtl_ros.model.decoder import SeparableBlock, conv_norm, upsample
from proto_mtl_ros.model.torch_tasks import torch_task
from proto_mtl_ros.tasks import Task


class TaskHead(nn.Module):
    """Tokens [B, d, H/16, W/16] and the pyramid to the raw prediction [B, channels, H/4, W/4]."""

    def __init__(self, task: Task, channels: Sequence[int], tokens: int, width: int) -> None:
        super().__init__()
        _, c4, c8, _, _ = channels
        self.reduce = conv_norm(tokens, width)
        self.lateral8 = conv_norm(c8, width)
        self.block8 = SeparableBlock(width, 3)
        self.lateral4 = conv_norm(c4, width)
        self.block4 = SeparableBlock(width, 3)
        self.predict = nn.Conv2d(width, task.channels, 1)
        assert self.predict.bias is not None
        nn.init.normal_(self.predict.weight, std=0.01)
        nn.init.zeros_(self.predict.bias)
        kind = torch_task(task)
        kind.start(self.predict.bias)
        self.activate = kind.activate

    def forward(self, tokens: Tensor, pyramid: Sequence[Tensor]) -> Tensor:
        x = upsample(self.reduce(tokens), 2)
        x = self.block8(F.relu(x + self.lateral8(pyramid[2])))
        x = self.block4(F.relu(upsample(x, 2) + self.lateral4(pyramid[1])))
        return self.activate(self.predict(x))
