# SPDX-License-Identifier: Apache-2.0
"""Stops a training whose numbers broke, and says where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, distributed, nn

from proto_mtl_ros.errors import TrainingError
from proto_mtl_ros.training.processes import world_size

TOTAL = "total"
"""The part that is the sum of all; named only where every other part is finite."""

_PATIENCE = 20
"""Steps in a row that a gradient scaler may skip: it halves its factor each time."""


class FiniteGuard:
    """Looks at the norm of the gradient before each step of the optimiser.

    The norm is what all processes share, and a loss that is not finite makes it so as well. The
    parts of the losses are looked at only then, which spares a device a stop in every step.

    Args:
        scaled: a gradient scaler is at work: gradients that overflow are its business for a while.
    """

    def __init__(self, scaled: bool = False) -> None:
        self._patience = _PATIENCE if scaled else 0
        self._skipped = 0
        self._seen: list[tuple[Sequence[str], dict[str, Tensor]]] = []

    def watch(self, frame_ids: Sequence[str], parts: Mapping[str, Tensor]) -> None:
        """Remember a batch of the step that is under way and the parts of its loss."""
        self._seen.append((frame_ids, {name: value.detach() for name, value in parts.items()}))

    def check(
        self,
        norm: Tensor,
        parameters: Iterable[tuple[str, nn.Parameter]],
        epoch: int,
        step: int,
        advice: str,
    ) -> None:
        """Let a finite step pass.

        Args:
            norm: of the gradient of all parameters, before clipping.
            parameters: with their names.
            epoch, step: that are under way, from 1.
            advice: what the user can do, the end of the sentence.

        Raises:
            TrainingError: the step is not finite; in every process alike.
        """
        seen, self._seen = self._seen, []
        if bool(torch.isfinite(norm)):
            self._skipped = 0
            return
        broken = [
            (name, float(value), list(ids))
            for ids, parts in seen
            for name, value in parts.items()
            if not bool(torch.isfinite(value))
        ]
        ids = [frame_id for frame_ids, _ in seen for frame_id in frame_ids]
        broken, ids = _of_all_processes(broken, ids)
        if not broken:
            self._skipped += 1
            if self._skipped <= self._patience:
                return
        where = f"epoch {epoch}, step {step}"
        if broken:
            parts = [part for part in broken if part[0] != TOTAL] or broken
            names = dict.fromkeys(f"{name} is {value}" for name, value, _ in parts)
            frames = dict.fromkeys(frame_id for _, _, own in broken for frame_id in own)
            what = f"the loss of {', '.join(names)}"
        else:
            frames = dict.fromkeys(ids)
            of = next((n for n, p in parameters if p.grad is not None and not _finite(p.grad)), "?")
            what = f"every loss is finite, but the gradient of {of} is not"
        raise TrainingError(f"{where}: {what}; frames of the batch: {', '.join(frames)}; {advice}")


def _finite(values: Tensor) -> bool:
    return bool(torch.isfinite(values).all())


_Broken = list[tuple[str, float, list[str]]]


def _of_all_processes(broken: _Broken, ids: list[str]) -> tuple[_Broken, list[str]]:
    world = world_size()
    if world == 1:
        return broken, ids
    found: list = [None] * world
    distributed.all_gather_object(found, (broken, ids))
    return [part for own, _ in found for part in own], [i for _, own in found for i in own]
