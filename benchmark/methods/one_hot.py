# SPDX-License-Identifier: Apache-2.0
"""Retrieval with a frozen affinity: each task retrieves from its own prototypes only."""

from __future__ import annotations

import torch
from torch import Tensor

from proto_mtl_ros.model.network import ProtoMTL, network


@network("one_hot")
class OneHotRetrieval(ProtoMTL):
    """The affinity is the one-hot vector of the task; its slots are weighted as ever."""

    def retrieve(self, tokens: Tensor, index: int) -> tuple[Tensor, Tensor]:
        assert self.prototypes is not None
        similarity = self.prototypes.similarity(tokens)
        own = torch.eye(len(self.tasks), device=tokens.device, dtype=tokens.dtype)[index]
        affinity = own.expand(similarity.shape[:-1])
        return self.prototypes.mixed(similarity, affinity), affinity
