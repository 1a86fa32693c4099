# SPDX-License-Identifier: Apache-2.0
"""What several training processes have to agree on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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


def of_whole_batch(losses: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """Return the losses of the whole batch from those of this process's part of it.

    What weighs losses against each other must see these: it need not be linear in them.

    Args:
        losses: sums over this process's frames divided by their number; a name is absent where no
            frame has the label.
        names: all names there are, in one order.

    Returns:
        the means over the processes, without the names that are absent in all of them.
    """
    if world_size() == 1:
        return dict(losses)
    zero = next(iter(losses.values())).new_zeros(()) if losses else torch.zeros(())
    device = torch.device("cuda", torch.cuda.current_device()) if _on_gpu() else zero.device
    own = torch.stack([losses.get(name, zero).to(device) for name in names])
    present = torch.tensor([[float(name in losses) for name in names]], device=device)
    values = gathered(own[None]).mean(0)
    anywhere = gathered(present).amax(0).tolist()
    return {name: values[i] for i, name in enumerate(names) if anywhere[i] > 0}


def averaged(values: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """Return the mean of each value over the processes that have it, without gradients."""
    if world_size() == 1:
        return dict(values)
    device = torch.device("cuda", torch.cuda.current_device()) if _on_gpu() else "cpu"
    own = torch.full((1, len(names)), float("nan"), device=device)
    for index, name in enumerate(names):
        if name in values:
            own[0, index] = values[name].detach()
    mean = gathered(own).nanmean(0)
    missing = mean.isnan().tolist()
    return {name: mean[i] for i, name in enumerate(names) if not missing[i]}


def _on_gpu() -> bool:
    return distributed.get_backend() == "nccl"
