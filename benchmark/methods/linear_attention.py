# SPDX-License-Identifier: Apache-2.0
"""Attention that is linear in the number of tokens ("Efficient Attention", Shen et al., WACV 2021):

softmax_d(Q) (softmax_n(K)^T V)                   d_head x d_head numbers stand for the context
"""

from __future__ import annotations

import torch
from torch import Tensor

from proto_mtl_ros.model.network import ProtoMTL, network
from proto_mtl_ros.model.retrieval import Attention, KnowledgeRetrievalBlock


def linear_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return [..., N, d] for q [..., N, d], k and v [..., K, d].

    The weights softmax_d(q) . softmax_n(k) of each query are positive and sum to one, as those of
    softmax attention do, without a division: nothing overflows in half precision.
    """
    return torch.softmax(q, dim=-1) @ (torch.softmax(k, dim=-2).transpose(-2, -1) @ v)


class LinearAttention(Attention):
    """See ``linear_attention``."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return linear_attention(q, k, v)


class LinearBlock(KnowledgeRetrievalBlock):
    """The KRT block with both attentions linear."""

    attention = LinearAttention


@network("linear_attention")
class LinearAttentionMTL(ProtoMTL):
    """The network with linear attention."""

    block = LinearBlock
