# SPDX-License-Identifier: Apache-2.0
"""From the losses of the tasks to one: how much each of them counts, learnt, measured or drawn.

With partial labels a batch may have no label of a task. That task is then left out of the sum and
of every statistic, so its weight waits until it is seen again. A loss of exactly 0 (no valid pixel
in any of its maps) says nothing either: it changes no statistic and no product.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn


class Weighting(nn.Module):
    """Adds the losses up as they are; the base of the others.

    Args:
        names: all tasks of the run, whether or not a batch has labels of them.
        seed: of what is drawn at random.
    """

    def __init__(self, names: Sequence[str], seed: int = 0) -> None:
        super().__init__()
        self.names, self.seed = tuple(names), seed
        self.register_buffer("_zero", torch.zeros(()), persistent=False)

    def forward(self, losses: dict[str, Tensor], step: int) -> Tensor:
        """Return the combined loss, a scalar; 0 if there is none.

        Args:
            losses: name of each task that the batch has labels of, to its loss, a scalar that
                already has the task's fixed weight.
            step: optimiser steps so far; with the seed, all that random weights depend on, so that
                a resumed run draws the same ones.
        """
        if not losses:
            return self._zero.clone()  # type: ignore[operator]
        present = torch.tensor(
            [self.names.index(name) for name in losses], device=next(iter(losses.values())).device
        )
        return self.combine(torch.stack(list(losses.values())), present, step)

    def combine(self, losses: Tensor, present: Tensor, step: int) -> Tensor:
        """Return the combined loss of ``losses`` [n], those of the tasks ``present`` (indices)."""
        return losses.sum()

    def epoch_ended(self) -> None:
        """Take the end of an epoch into account; call it once after each, before saving."""


class Uncertainty(Weighting):
    """sum_t exp(-s_t) L_t + s_t with learnt s_t = log sigma_t^2, from 0.

    Kendall, Gal, Cipolla: "Multi-Task Learning Using Uncertainty to Weigh Losses", CVPR 2018,
    equation 7 twice over, so that it starts as the plain sum.
    """

    def __init__(self, names: Sequence[str], seed: int = 0) -> None:
        super().__init__(names, seed)
        self.log_variance = nn.Parameter(torch.zeros(len(self.names)))

    def combine(self, losses: Tensor, present: Tensor, step: int) -> Tensor:
        log_variance = self.log_variance[present]
        # a loss without a valid pixel must not push its variance towards 0
        known = (losses.detach() != 0).to(losses.dtype)
        return (losses * (-log_variance).exp() + log_variance * known).sum()


class DynamicWeightAverage(Weighting):
    """w_t = T softmax_t(r_t / 2), r_t the mean loss of the last epoch over that of the one before.

    Liu, Johns, Davison: "End-to-End Multi-Task Learning with Attention", CVPR 2019, equation 7. A
    task's mean is over the steps in which it was present; r_t = 1 until it has been in two epochs,
    and stays as it was through an epoch without it.
    """

    temperature = 2.0
    total: Tensor
    count: Tensor
    last: Tensor
    before: Tensor

    def __init__(self, names: Sequence[str], seed: int = 0) -> None:
        super().__init__(names, seed)
        for buffer in ("total", "count", "last", "before"):
            self.register_buffer(buffer, torch.zeros(len(self.names), dtype=torch.float64))

    def combine(self, losses: Tensor, present: Tensor, step: int) -> Tensor:
        values = losses.detach().to(self.total.dtype)
        if self.training:
            self.total.index_add_(0, present, values)
            self.count.index_add_(0, present, (values != 0).to(self.count.dtype))
        return (self.weights().to(losses.dtype)[present] * losses).sum()

    def weights(self) -> Tensor:
        """Return the weight of every task, [T]; they sum to T."""
        known = self.before > 0
        ratio = torch.where(known, self.last / torch.where(known, self.before, 1.0), 1.0)
        return len(self.names) * (ratio / self.temperature).softmax(0)

    def epoch_ended(self) -> None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            # every process must weigh alike
            torch.distributed.all_reduce(self.total)
            torch.distributed.all_reduce(self.count)
        seen = self.count > 0
        mean = self.total / self.count.clamp_min(1.0)
        self.before.copy_(torch.where(seen, self.last, self.before))
        self.last.copy_(torch.where(seen, mean, self.last))
        self.total.zero_()
        self.count.zero_()


class RandomLossWeighting(Weighting):
    """w = n softmax(z), z standard normal, drawn anew in every step for the n present tasks.

    Lin, Ye, Zhang, Tsang: "Reasonable Effectiveness of Random Weighting", TMLR 2022; times n, so
    that a weight is 1 on average as in the plain sum.
    """

    def combine(self, losses: Tensor, present: Tensor, step: int) -> Tensor:
        # a draw for every task, present or not: which ones are present shifts nobody else's
        drawn = np.random.default_rng([self.seed, step]).standard_normal(len(self.names))
        scores = torch.as_tensor(drawn, dtype=losses.dtype, device=losses.device)[present]
        return (len(losses) * scores.softmax(0) * losses).sum()


class GeometricMean(Weighting):
    """(prod_t L_t)^(1/n) over the n present tasks: only relative changes count.

    Chennupati et al.: "MultiNet++: Multi-Stream Feature Aggregation and Geometric Loss Strategy
    for Multi-Task Learning", CVPR Workshops 2019.
    """

    def combine(self, losses: Tensor, present: Tensor, step: int) -> Tensor:
        known = losses.detach() > 0
        logarithms = torch.where(known, losses, 1.0).log().sum() / known.sum().clamp_min(1)
        return torch.where(known.any(), logarithms.exp(), losses.sum())


WEIGHTINGS: dict[str, type[Weighting]] = {
    "equal": Weighting,
    "uncertainty": Uncertainty,
    "dwa": DynamicWeightAverage,
    "rlw": RandomLossWeighting,
    "gls": GeometricMean,
}
"""By the name that ``config.loss.weighting`` gives."""
