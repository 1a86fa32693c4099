# SPDX-License-Identifier: Apache-2.0
"""Task prototypes: learnt vectors that stand for what each task knows.

Equations of "Task Prototype-Based Knowledge Retrieval for Multi-Task Learning from Partially
Annotated Data" (Oh, Kim, Kim; AAAI 2026; arXiv 2601.07474) as read in ``docs/method.md``:

    s[n, tau]  = max_m cos(f[n], v[tau, m])           similarity
    A[n]       = softmax_tau(s[n] / temperature)      affinity
    f_ta[n]    = sum_tau A[n, tau] * r[tau](n)        retrieved knowledge

where r[tau](n) = v[tau, 0] for one slot, and for M > 1 slots (our extension) their mean weighted
by softmax_m(cos(f[n], v[tau, m]) / temperature).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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
