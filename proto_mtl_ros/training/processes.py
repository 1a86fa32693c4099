# SPDX-License-Identifier: Apache-2.0
"""What several training processes have to agree on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, distributed


def world_size() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def gathered(values: Tensor) -> Tensor:
    """Return ``values`` [B, ...] of all processes as one batch [world * B, ...], with gradients.

    Every process then computes the same loss of the whole batch. Its gradient reaches each
    process's own rows alone, scaled by the number of processes, because gradients are averaged
    afterwards.
    """
    world = world_size()
    if world == 1:
        return values
    rank = distributed.get_rank()
    rows = [torch.empty_like(values) for _ in range(world)]
    distributed.all_gather(rows, values.detach().contiguous())
    rows[rank] = values.detach() + (values - values.detach()) * world
    return torch.cat(rows)


def averaged(values: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """Return the mean of each value over the processes that have it, without gradients."""
    if world_size() == 1:
        return dict(values)
    gpu = distributed.get_backend() == "nccl"
    device = torch.device("cuda", torch.cuda.current_device()) if gpu else "cpu"
    own = torch.full((1, len(names)), float("nan"), device=device)
    for index, name in enumerate(names):
        if name in values:
            own[0, index] = values[name].detach()
    mean = gathered(own).nanmean(0)
    return {name: mean[i] for i, name in enumerate(names) if not bool(mean[i].isnan())}
