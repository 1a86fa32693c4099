# SPDX-License-Identifier: Apache-2.0
"""The knowledge-retrieval transformer (KRT) block.

    x = f^t + SelfAttention(LN(f^t))                  within one task's tokens
    x = x + CrossAttention(LN(x), LN(f^ta))           query f^t, key and value f^ta
    x = x + FFN(LN(x))

Pre-norm and residual (our choice; the paper's order is not published). Positions are told by a
depthwise 3x3 convolution, so any input size works.

Either attention can be linear in the number of tokens ("Efficient Attention", Shen et al., WACV
2021):

    softmax_d(Q) (softmax_n(K)^T V)                   d_head x d_head numbers stand for the context
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

AttentionKind = Literal["softmax", "linear"]


def linear_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return attention with a cost linear in the tokens: [..., N, d].

    ``q`` is [..., N, d], ``k`` and ``v`` are [..., K, d].
    The weights softmax_d(q) . softmax_n(k) of each query are positive and sum to one, as those of
    softmax attention do, without a division: nothing overflows in half precision.
    """
    return torch.softmax(q, dim=-1) @ (torch.softmax(k, dim=-2).transpose(-2, -1) @ v)


class Attention(nn.Module):
    """Multi-head attention of ``query`` [B, N, d] over ``context`` [B, K, d]."""

    def __init__(self, width: int, heads: int, kind: AttentionKind = "softmax") -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of {heads} heads")
        if kind not in ("softmax", "linear"):
            raise ValueError(f"unknown attention {kind!r}; there are: softmax, linear")
        self.heads = heads
        self.attend = linear_attention if kind == "linear" else F.scaled_dot_product_attention
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.project = nn.Linear(width, width)

    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        q = self.query(query).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.key_value(context).chunk(2, dim=-1)
        k = k.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        v = v.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        mixed = self.attend(q, k, v)
        return self.project(mixed.transpose(1, 2).flatten(2))


class KnowledgeRetrievalBlock(nn.Module):
    """One KRT block on a task's token map [B, d, h, w] and its retrieved knowledge [B, N, d].

    With ``cross`` false there is nothing to retrieve and no cross-attention: the block of the
    baselines without prototypes.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        expansion: int = 2,
        attention: AttentionKind = "softmax",
        cross: bool = True,
    ) -> None:
        super().__init__()
        self.cross = cross
        self.position = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm_self = nn.LayerNorm(width)
        self.self_attention = Attention(width, heads, attention)
        if cross:
            self.norm_query = nn.LayerNorm(width)
            self.norm_knowledge = nn.LayerNorm(width)
            self.cross_attention = Attention(width, heads, attention)
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
