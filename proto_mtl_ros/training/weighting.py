# SPDX-License-Identifier: Apache-2.0
"""From the losses of the tasks to one: their sum, and where other ways of adding up register.

With partial labels a batch may have no label of a task. That task is then left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, TypeVar

import torch
from torch import Tensor, nn

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

    Args:
        names: all tasks of the run, whether or not a batch has labels of them.
        seed: of what is drawn at random.

    Attributes:
        separates: whether ``backward`` takes the place of the plain backward pass. Such a method
            works on one device, not in parts and not in fp16.
    """

    separates: ClassVar[bool] = False

    def __init__(self, names: Sequence[str], seed: int = 0) -> None:
        super().__init__()
        self.names, self.seed = tuple(names), seed
        self.register_buffer("_zero", torch.zeros(()), persistent=False)

    def forward(self, losses: dict[str, Tensor], step: int) -> Tensor:
        """Return the combined loss, a scalar; 0 if there is none.

        Args:
            losses: name of each task that the batch has labels of, to its loss, a scalar that
                already has the task's fixed weight.
            step: optimiser steps so far; with the seed, all that random weights may depend on, so
                that a resumed run draws the same ones.
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
        """Take the end of an epoch into account; called once after each, before saving."""

    def backward(
        self, losses: dict[str, Tensor], extra: Tensor, trained: nn.Module, step: int
    ) -> None:
        """Add to ``grad`` of the parameters of ``trained``, which has ``network``.

        Args:
            losses: as in ``forward``.
            extra: what else is minimised, a scalar.
        """
        raise NotImplementedError
