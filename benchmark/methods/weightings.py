# SPDX-License-Identifier: Apache-2.0
"""Loss weightings: how much each task counts, learnt, measured or drawn.

A task without a label in the batch is left out of every statistic, so its weight waits until it is
seen again. A loss of exactly 0 (no valid pixel) changes no statistic and no product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, distributed, nn

from proto_mtl_ros.training.losses import Weighting, weighting
from proto_mtl_ros.training.processes import gathered, world_size


def of_whole_batch(losses: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """Return the losses of the whole batch from those of this process's part of it.

    What weighs losses against each other must see these: it need not be linear in them. Names that
    are absent in all processes are left out."""
    if world_size() == 1:
        return dict(losses)
    zero = next(iter(losses.values())).new_zeros(()) if losses else torch.zeros(())
    gpu = distributed.get_backend() == "nccl"
    device = torch.device("cuda", torch.cuda.current_device()) if gpu else zero.device
    own = torch.stack([losses.get(name, zero).to(device) for name in names])
    present = torch.tensor([[float(name in losses) for name in names]], device=device)
    values = gathered(own[None]).mean(0)
    anywhere = gathered(present).amax(0).tolist()
    return {name: values[i] for i, name in enumerate(names) if anywhere[i] > 0}


class Adaptive(Weighting):
    """A weighting that looks at the losses of the whole batch."""

    def forward(self, losses: dict[str, Tensor], step: int) -> Tensor:
        return super().forward(of_whole_batch(losses, self.names), step)


@weighting("uncertainty")
class Uncertainty(Adaptive):
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


@weighting("dwa")
class DynamicWeightAverage(Adaptive):
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
        if world_size() > 1:  # every process must weigh alike
            distributed.all_reduce(self.total)
            distributed.all_reduce(self.count)
        seen = self.count > 0
        mean = self.total / self.count.clamp_min(1.0)
        self.before.copy_(torch.where(seen, self.last, self.before))
        self.last.copy_(torch.where(seen, mean, self.last))
        self.total.zero_()
        self.count.zero_()


@weighting("rlw")
class RandomLossWeighting(Adaptive):
    """w = n softmax(z), z standard normal, drawn anew in every step for the n present tasks.

    Lin, Ye, Zhang, Tsang: "Reasonable Effectiveness of Random Weighting", TMLR 2022; times n, so
    that a weight is 1 on average as in the plain sum.
    """

    def combine(self, losses: Tensor, present: Tensor, step: int) -> Tensor:
        # a draw for every task, present or not: which ones are present shifts nobody else's
        drawn = np.random.default_rng([self.seed, step]).standard_normal(len(self.names))
        scores = torch.as_tensor(drawn, dtype=losses.dtype, device=losses.device)[present]
        return (len(losses) * scores.softmax(0) * losses).sum()


@weighting("gls")
class GeometricMean(Adaptive):
    """(prod_t L_t)^(1/n) over the n present tasks: only relative changes count.

    Chennupati et al.: "MultiNet++: Multi-Stream Feature Aggregation and Geometric Loss Strategy
    for Multi-Task Learning", CVPR Workshops 2019.
    """

    def combine(self, losses: Tensor, present: Tensor, step: int) -> Tensor:
        known = losses.detach() > 0
        logarithms = torch.where(known, losses, 1.0).log().sum() / known.sum().clamp_min(1)
        return torch.where(known.any(), logarithms.exp(), losses.sum())
