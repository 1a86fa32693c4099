# SPDX-License-Identifier: Apache-2.0
"""What a validation looks like: predictions above labels, and how tasks are associated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from proto_mtl_ros.tasks import Task

_FRAMES = 4
_CELL = 84


class HeldOutPictures:
    """Gathers a few frames and the affinity of all of them."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = tuple(tasks)
        self.rows: list[np.ndarray] = []
        self.association = np.zeros((len(self.tasks), len(self.tasks)))
        self.frames = 0

    def add(
        self,
        rgb: np.ndarray,
        predictions: Mapping[str, np.ndarray],
        labels: Mapping[str, np.ndarray],
        labelled: np.ndarray,
    ) -> None:
        """Keep the first frame of a batch, until there are enough.

        Args:
            rgb: uint8 [H, W, 3].
            predictions, labels: maps of the batch by name; depth in metres.
            labelled: bool [T]; the place of a missing label stays black.
        """
        if len(self.rows) < 2 * _FRAMES:
            known = [
                task.draw(labels[task.name][0]) if has else np.zeros_like(rgb)
                for task, has in zip(self.tasks, labelled)
            ]
            predicted = [task.draw(predictions[task.name][0]) for task in self.tasks]
            self.rows += [np.hstack([rgb, *predicted]), np.hstack([rgb, *known])]

    def add_affinity(self, affinity: Tensor) -> None:
        """Add the token-level affinity [B, T, N, T] of a batch."""
        self.association += affinity.float().mean(2).sum(0).cpu().numpy()
        self.frames += len(affinity)

    def drawn(self) -> dict[str, np.ndarray]:
        """Return the pictures, uint8 [H, W, 3], by the name that TensorBoard shows them under.

        ``association`` has a cell for the mean affinity of each task's tokens (row) to each task
        (column): white is 0, black 1.
        """
        pictures: dict[str, np.ndarray] = {}
        if self.rows:
            pictures["held_out/frames"] = np.vstack(self.rows)
        if self.frames:
            grey = np.kron(255 * (1 - self.association / self.frames), np.ones((_CELL, _CELL)))
            pictures["association"] = np.repeat(grey.astype(np.uint8)[..., None], 3, 2)
        return pictures
