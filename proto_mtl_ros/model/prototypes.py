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

    Args:
        tasks: number of tasks T.
        slots: vectors per task M; the paper has one.
        width: d, the width of the tokens.
        temperature: of the softmax over tasks. With cosines in [-1, 1] a temperature of 0.5 bounds
            the affinity at 0.96 for three tasks, so that retrieval cannot become a constant.
    """

    def __init__(self, tasks: int, slots: int, width: int, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.slots = slots
        self.vectors = nn.Parameter(torch.empty(tasks, slots, width))
        # orthogonal rows: the tasks start apart, at the scale of layer-normalised tokens
        flat = torch.empty(tasks * slots, width)
        nn.init.orthogonal_(flat, gain=width**0.5)
        with torch.no_grad():
            self.vectors.copy_(flat.view(tasks, slots, width))

    def similarity(self, features: Tensor) -> Tensor:
        """Return cos(f, v): features [..., d] to [..., T, M]."""
        unit = F.normalize(features, dim=-1)
        vectors = F.normalize(self.vectors, dim=-1)
        tasks, slots, width = vectors.shape
        flat = unit @ vectors.reshape(tasks * slots, width).t()
        return flat.unflatten(-1, (tasks, slots))

    def affinity(self, features: Tensor) -> Tensor:
        """Return A: features [..., d] to [..., T], sums to one over the tasks."""
        return self._affinity(self.similarity(features))

    def _affinity(self, similarity: Tensor) -> Tensor:
        best = similarity.amax(-1) if self.slots > 1 else similarity.squeeze(-1)
        return torch.softmax(best / self.temperature, dim=-1)

    def retrieve(self, features: Tensor, only: int | None = None) -> tuple[Tensor, Tensor]:
        """Return (f_ta [..., d], A [..., T]) for features [..., d].

        With ``only`` the affinity is frozen to the one-hot vector of that task (an ablation: the
        tokens see nothing but their own task's prototypes, whose slots are weighted as ever).
        """
        similarity = self.similarity(features)
        if only is None:
            affinity = self._affinity(similarity)
        else:
            own = torch.eye(similarity.shape[-2], device=similarity.device, dtype=similarity.dtype)
            affinity = own[only].expand(similarity.shape[:-1])
        weights = affinity.unsqueeze(-1)
        if self.slots > 1:
            weights = weights * torch.softmax(similarity / self.temperature, dim=-1)
        tasks, slots, width = self.vectors.shape
        retrieved = weights.flatten(-2) @ self.vectors.reshape(tasks * slots, width)
        return retrieved, affinity


def entropy(affinity: Tensor) -> Tensor:
    """Return the entropy in nats of the affinity: [..., T] to [...]; log T is soft, 0 one-hot."""
    return -(affinity * affinity.clamp_min(1e-12).log()).sum(-1)
