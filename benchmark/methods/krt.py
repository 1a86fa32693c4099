# SPDX-License-Identifier: Apache-2.0
"""The paper's network: prototypes, affinity, retrieval, and the knowledge-retrieval transformer.

A KRT block computes

    x = f^t + SelfAttention(LN(f^t))                  within one task's tokens
    x = x + CrossAttention(LN(x), LN(f^ta))           query f^t, key and value f^ta
    x = x + FFN(LN(x))

Pre-norm and residual (our choice; the paper's order is not published). Positions are told by a
depthwise 3x3 convolution, so any input size works.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from proto_mtl_ros.model.network import NetworkOutput, ProtoMTL, network
from proto_mtl_ros.tasks import Task


class TaskPrototypes(nn.Module):
    """The prototypes V in R^{T x M x d} and the retrieval with them.

    With cosines in [-1, 1] a temperature of 0.5 bounds the affinity at 0.96 for three tasks, so
    that retrieval cannot become a constant.
    """

    def __init__(self, tasks: int, slots: int, width: int, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        # orthogonal rows: the tasks start apart, at the scale of layer-normalised tokens
        flat = nn.init.orthogonal_(torch.empty(tasks * slots, width), gain=width**0.5)
        self.vectors = nn.Parameter(flat.view(tasks, slots, width))

    def similarity(self, features: Tensor) -> Tensor:
        """Return cos(f, v): features [..., d] to [..., T, M]."""
        vectors = F.normalize(self.vectors, dim=-1)
        flat = F.normalize(features, dim=-1) @ vectors.flatten(0, 1).t()
        return flat.unflatten(-1, vectors.shape[:2])

    def affinity(self, similarity: Tensor) -> Tensor:
        """Return A: similarity [..., T, M] to [..., T], sums to one over the tasks."""
        # max over one slot would export as a reduction for nothing
        best = similarity.amax(-1) if similarity.shape[-1] > 1 else similarity.squeeze(-1)
        return torch.softmax(best / self.temperature, dim=-1)

    def retrieve(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return (f_ta [..., d], A [..., T]) for features [..., d]."""
        similarity = self.similarity(features)
        affinity = self.affinity(similarity)
        return self.mixed(similarity, affinity), affinity

    def mixed(self, similarity: Tensor, affinity: Tensor) -> Tensor:
        """Return f_ta [..., d]."""
        weights = affinity.unsqueeze(-1)
        if similarity.shape[-1] > 1:
            weights = weights * torch.softmax(similarity / self.temperature, dim=-1)
        return weights.flatten(-2) @ self.vectors.flatten(0, 1)


def entropy(affinity: Tensor) -> Tensor:
    """Return the entropy in nats of the affinity: [..., T] to [...]; log T is soft, 0 one-hot."""
    return -(affinity * affinity.clamp_min(1e-12).log()).sum(-1)


class Attention(nn.Module):
    """Multi-head attention of ``query`` [B, N, d] over ``context`` [B, K, d]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of {heads} heads")
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.project = nn.Linear(width, width)

    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        q = self.query(query).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.key_value(context).chunk(2, dim=-1)
        k = k.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        v = v.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return self.project(self.attend(q, k, v).transpose(1, 2).flatten(2))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Return [..., N, d] for q [..., N, d], k and v [..., K, d]."""
        return F.scaled_dot_product_attention(q, k, v)


class KnowledgeRetrievalBlock(nn.Module):
    """One KRT block on a task's token map [B, d, h, w] and its retrieved knowledge [B, N, d].

    With ``cross`` false there is nothing to retrieve and no cross-attention: the block of the
    baselines without prototypes.
    """

    attention = Attention

    def __init__(self, width: int, heads: int, expansion: int, cross: bool = True) -> None:
        super().__init__()
        self.cross = cross
        self.position = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm_self = nn.LayerNorm(width)
        self.self_attention = self.attention(width, heads)
        if cross:
            self.norm_query = nn.LayerNorm(width)
            self.norm_knowledge = nn.LayerNorm(width)
            self.cross_attention = self.attention(width, heads)
        self.norm_ffn = nn.LayerNorm(width)
        self.ffn = nn.Sequential(
            nn.Linear(width, expansion * width), nn.GELU(), nn.Linear(expansion * width, width)
        )

    def forward(self, features: Tensor, knowledge: Tensor | None = None) -> Tensor:
        height, width = features.shape[-2:]
        features = features + self.position(features)
        x = features.flatten(2).transpose(1, 2)
        own = self.norm_self(x)
        x = x + self.self_attention(own, own)
        if self.cross:
            assert knowledge is not None
            x = x + self.cross_attention(self.norm_query(x), self.norm_knowledge(knowledge))
        x = x + self.ffn(self.norm_ffn(x))
        return x.transpose(1, 2).unflatten(2, (height, width))


@dataclass
class PaperOutput(NetworkOutput):
    """The output of a network with prototypes.

    Attributes:
        pooled: [B, T, d], the mean over each task's tokens f^t; what TKE and TC look at.
        affinity: [B, T, N, T], token-level affinity of each task's tokens to every task; empty for
            a network without prototypes.
    """

    pooled: Tensor = field(default_factory=lambda: torch.zeros(0))
    affinity: Tensor = field(default_factory=lambda: torch.zeros(0))


@network("prototypes")
class PaperMTL(ProtoMTL):
    """Prototypes, ``slots`` of each task, and ``blocks`` KRT blocks before each head.

    Variants override ``retrieve``, ``enter`` or ``block``.
    """

    answered = False
    has_prototypes = True
    block = KnowledgeRetrievalBlock

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        slots: int = 4,
        temperature: float = 0.5,
        blocks: int = 1,
        heads: int = 4,
        ffn_expansion: int = 4,
        **options: object,
    ) -> None:
        super().__init__(tasks, **options)  # type: ignore[arg-type]
        cross = self.has_prototypes
        self.prototypes = (
            TaskPrototypes(len(tasks), slots, self.width, temperature) if cross else None
        )
        self.krt = nn.ModuleList(
            nn.ModuleList(
                self.block(self.width, heads, ffn_expansion, cross) for _ in range(blocks)
            )
            for _ in tasks
        )

    def retrieve(self, tokens: Tensor, index: int) -> tuple[Tensor, Tensor]:
        """Return knowledge [B, N, d] and affinity [B, N, T] for the tokens of task ``index``."""
        assert self.prototypes is not None
        return self.prototypes.retrieve(tokens)

    def enter(self, features: Tensor, index: int, raw: dict[str, Tensor]) -> Tensor:
        """Return what the KRT blocks of task ``index`` read, [B, d, h, w].

        Called after the prototypes have looked: a constant that were added before would tell the
        task without the decoder having learnt anything. ``raw`` has the tasks before this one.
        """
        return features

    def forward(self, image: Tensor) -> PaperOutput:
        pyramid = tuple(self.backbone(image))
        out = PaperOutput({}, pyramid)
        pooled, affinities = [], []
        for index, name in enumerate(self.names):
            features = self.decoders[index](pyramid)
            tokens = features.flatten(2).transpose(1, 2)
            knowledge = None
            if self.prototypes is not None:
                knowledge, affinity = self.retrieve(tokens, index)
                affinities.append(affinity)
            features = self.enter(features, index, out.raw)
            for block in self.krt[index]:  # type: ignore[attr-defined]
                features = block(features, knowledge)
            out.features[name] = features
            out.raw[name], _, _ = self.heads[index](features, pyramid)
            pooled.append(tokens.mean(1))
        out.pooled = torch.stack(pooled, 1)
        if affinities:
            out.affinity = torch.stack(affinities, 1)
        return out


@network("self_attention")
class SelfAttentionMTL(PaperMTL):
    """The same without prototypes and cross-attention: the baselines of release 0.1."""

    has_prototypes = False
