# SPDX-License-Identifier: Apache-2.0
"""What several training processes have to agree on."""

from __future__ import annotations

import torch
from torch import Tensor, distributed


def world_size() -> int:
    """Return how many processes train together."""
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
