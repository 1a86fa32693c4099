# SPDX-License-Identifier: Apache-2.0
"""The supervised loss on labelled pixels, and how the tasks' losses become one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn

from proto_mtl_ros.model.torch_tasks import torch_task
from proto_mtl_ros.tasks import Task


def frame_weights(labelled: Tensor) -> Tensor:
    """Return what each frame counts in a loss, [B]: T / n_b of n_b labelled tasks, divided by B.

    ``labelled`` is bool [B, T].
    """
    frames, count = labelled.shape
    return count / labelled.sum(1).clamp_min(1) / frames


def supervised(
    raw: Mapping[str, Tensor],
    labels: Mapping[str, Tensor],
    labelled: Tensor,
    tasks: Sequence[Task],
    weights: Mapping[str, float],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return each task's part of L = 1/B sum_b (T / n_b) sum over labelled t of w_t l_t, and the
    plain means for the log; without tasks that no frame has a label for.

    n_b is the number of labelled tasks of frame b. ``labelled`` is bool [B, T]; frames without a
    label hold an empty map.
    """
    scale = frame_weights(labelled)
    losses: dict[str, Tensor] = {}
    means: dict[str, Tensor] = {}
    for index, task in enumerate(tasks):
        has = labelled[:, index]
        if bool(has.any()):
            per_frame = torch_task(task).loss(raw[task.name][has], labels[task.name][has])
            means[task.name] = per_frame.mean().detach()
            losses[task.name] = weights[task.name] * (scale[has] * per_frame).sum()
    return losses, means


def logit_offset(counts: Tensor, power: float) -> Tensor:
    """Return what is added to the logits [C] in training, so that rare classes are not given up.

    power * log(share), of Menon et al.: "Long-Tail Learning via Logit Adjustment", ICLR 2021,
    equation 10. ``counts`` are labelled pixels [C]; a class that never occurs counts as one.
    """
    share = counts.clamp_min(1).double()
    return (power * (share / share.sum()).log()).float()


WEIGHTINGS: dict[str, type[Weighting]] = {}
"""By the name that ``loss.weighting`` of a configuration gives."""

_Weighting = TypeVar("_Weighting", bound="type[Weighting]")


def weighting(name: str) -> Callable[[_Weighting], _Weighting]:
    """Register the decorated class under ``name``."""

    def register(kind: _Weighting) -> _Weighting:
        WEIGHTINGS[name] = kind
        return kind

    return register


@weighting("equal")
class Weighting(nn.Module):
    """Adds the losses up as they are; the base of the others.

    Tasks that a batch has no label of are left out. Where ``separates`` is set, ``backward`` takes
    the place of the plain backward pass, on one device, not in parts and not in fp16.
    """

    separates: ClassVar[bool] = False

    def __init__(self, names: Sequence[str], seed: int = 0) -> None:
        super().__init__()
        self.names, self.seed = tuple(names), seed
        self.register_buffer("_zero", torch.zeros(()), persistent=False)

    def forward(self, losses: dict[str, Tensor], step: int) -> Tensor:
        """Return the combined loss, a scalar; 0 if there is none.

        ``step``, the optimiser steps so far, and the seed are all that random weights may depend
        on, so that a resumed run draws the same ones.
        """
        if not losses:
            return self._zero.clone()  # type: ignore[operator]
        values = torch.stack(list(losses.values()))
        present = torch.tensor([self.names.index(name) for name in losses], device=values.device)
        return self.combine(values, present, step)

    def combine(self, losses: Tensor, present: Tensor, step: int) -> Tensor:
        """Return the combined loss of ``losses`` [n], those of the tasks ``present`` (indices)."""
        return losses.sum()

    def epoch_ended(self) -> None:
        """Take the end of an epoch into account; called before saving."""

    def backward(
        self, losses: dict[str, Tensor], extra: Tensor, trained: nn.Module, step: int
    ) -> None:
        """Add the gradient of losses and ``extra`` to that of ``trained``, which has
        ``network``."""
        raise NotImplementedError
