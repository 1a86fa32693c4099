# SPDX-License-Identifier: Apache-2.0
"""Stops a training whose numbers broke, and says where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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

    def check(self, norm: Tensor, module: nn.Module, where: str, advice: str) -> None:
        """Let a finite step pass.

        Args:
            norm: of the gradient of all parameters, before clipping.
            module: what is trained.
            where: epoch and step that are under way.
            advice: what the user can do, the end of the sentence.

        Raises:
            TrainingError: the step is not finite; in every process alike.
        """
        seen, self._seen = self._seen, []
        if bool(torch.isfinite(norm)):
            self._skipped = 0
            return
        own = [(list(ids), {n: float(v) for n, v in parts.items()}) for ids, parts in seen]
        everywhere = [own]
        if world_size() > 1:
            everywhere = [own] * world_size()
            distributed.all_gather_object(everywhere, own)
        batches = [batch for one in everywhere for batch in one]
        broken: dict[str, None] = {}
        frames: dict[str, None] = {}
        for ids, parts in batches:
            bad = {n: v for n, v in parts.items() if not abs(v) < float("inf")}
            for name in [n for n in bad if n != TOTAL] or bad:
                broken[f"{name} is {bad[name]}"] = None
                frames |= dict.fromkeys(ids)
        if not broken:
            self._skipped += 1
            if self._skipped <= self._patience:
                return
        if broken:
            what = f"the loss of {', '.join(broken)}"
        else:
            frames = dict.fromkeys(frame for ids, _ in batches for frame in ids)
            gradients = ((n, p.grad) for n, p in module.named_parameters() if p.grad is not None)
            of = next((n for n, g in gradients if not bool(torch.isfinite(g).all())), "?")
            what = f"every loss is finite, but the gradient of {of} is not"
        raise TrainingError(f"{where}: {what}; frames of the batch: {', '.join(frames)}; {advice}")
