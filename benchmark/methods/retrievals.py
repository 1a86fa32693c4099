# SPDX-License-Identifier: Apache-2.0
"""Networks of other retrievals: a class-prototype chain, frozen affinity, linear attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.methods.krt import Attention, KnowledgeRetrievalBlock, PaperMTL
from proto_mtl_ros.model.network import network
from proto_mtl_ros.tasks import Categorical, Task

_POOL = 4
"""Raw maps have stride 4, tokens stride 16."""


class ClassChain(nn.Module):
    """Class posterior of the first categorical task to an addition to each later task's tokens.

        p[n]  = mean over token n's pixels of softmax(segmentation logits)      class posterior c[n]
        = sum_c p[n, c] * e[c]                                            its class prototype x_t
        = f^t + W_t LN(c)                                                 for each later task t

    A floor is level and a wall is upright: the posterior, soft, carries that to depth and normals
    (after CauPsi, arXiv 2604.07651; the form is ours). W_t starts at zero, so a network with the
    chain starts as the one without. ValueError where no categorical task comes before another."""

    def __init__(self, tasks: Sequence[Task], width: int) -> None:
        super().__init__()
        sources = [index for index, task in enumerate(tasks) if isinstance(task, Categorical)]
        if not sources or sources[0] == len(tasks) - 1:
            raise ValueError(
                "a class chain needs the segmentation before another task, not the tasks "
                f"{', '.join(task.name for task in tasks) or '(none)'}: "
                "put segmentation first, or choose another model.retrieval"
            )
        self.source = sources[0]
        self.embeddings = nn.Parameter(torch.empty(tasks[self.source].channels, width))
        # the classes start apart, at the scale of layer-normalised tokens
        nn.init.orthogonal_(self.embeddings, gain=width**0.5)
        self.norm = nn.LayerNorm(width)
        self.project = nn.ModuleList(nn.Linear(width, width) for _ in tasks[self.source + 1 :])
        for linear in self.project:
            nn.init.zeros_(linear.weight)  # type: ignore[arg-type]
            nn.init.zeros_(linear.bias)  # type: ignore[arg-type]

    def knowledge(self, logits: Tensor) -> Tensor:
        """Return LN(c) as tokens [B, N, d] from the raw segmentation [B, C, H/4, W/4].

        The posterior is not detached: where a frame has depth but no segmentation, the depth's
        error is one more hint on what the pixel is. It is pooled after the softmax, so that a token
        on a boundary is a mixture of its classes.
        """
        posterior = F.avg_pool2d(torch.softmax(logits, dim=1), _POOL)
        return self.norm(posterior.flatten(2).transpose(1, 2) @ self.embeddings)

    def forward(self, features: Tensor, knowledge: Tensor, task: int) -> Tensor:
        """Return ``features`` [B, d, h, w] of the later task ``task`` with its addition."""
        added = self.project[task - self.source - 1](knowledge)
        return features + added.transpose(1, 2).unflatten(2, features.shape[-2:])


@network("class_chain")
class ClassChainMTL(PaperMTL):
    """The network with a class chain."""

    def __init__(self, tasks: Sequence[Task], **options: Any) -> None:
        super().__init__(tasks, **options)
        self.chain = ClassChain(tasks, self.width)

    def enter(self, features: Tensor, index: int, raw: dict[str, Tensor]) -> Tensor:
        if index <= self.chain.source:
            return features
        return self.chain(features, self.chain.knowledge(raw[self.names[self.chain.source]]), index)


@network("one_hot")
class OneHotRetrieval(PaperMTL):
    """Each task retrieves from its own prototypes alone; its slots are weighted as ever."""

    def retrieve(self, tokens: Tensor, index: int) -> tuple[Tensor, Tensor]:
        assert self.prototypes is not None
        similarity = self.prototypes.similarity(tokens)
        own = torch.eye(len(self.tasks), device=tokens.device, dtype=tokens.dtype)[index]
        affinity = own.expand(similarity.shape[:-1])
        return self.prototypes.mixed(similarity, affinity), affinity


def linear_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return softmax_d(q) (softmax_n(k)^T v) [..., N, d] for q [..., N, d], k and v [..., K, d].

    "Efficient Attention" (Shen et al., WACV 2021). The weights of each query are positive and sum
    to one, as those of softmax attention do, without a division: nothing overflows in half
    precision."""
    return torch.softmax(q, dim=-1) @ (torch.softmax(k, dim=-2).transpose(-2, -1) @ v)


class LinearAttention(Attention):
    """See ``linear_attention``."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return linear_attention(q, k, v)


class LinearBlock(KnowledgeRetrievalBlock):
    """The KRT block with both attentions linear."""

    attention = LinearAttention


@network("linear_attention")
class LinearAttentionMTL(PaperMTL):
    """The network with linear attention."""

    block = LinearBlock
