# SPDX-License-Identifier: Apache-2.0
"""What a validation looks like: predictions beside labels, and how tasks are associated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from proto_mtl_ros.drawing.contact_sheet import SheetRow, contact_sheet
from proto_mtl_ros.tasks import Categorical, Task

_FRAMES = 4
_WIDTH = 256
_CELL = 84


class HeldOutPictures:
    """Gathers a few frames and the affinity of all of them.

    Args:
        tasks: of the network.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = tuple(tasks)
        self.rows: list[SheetRow] = []
        self.association = np.zeros((len(self.tasks), len(self.tasks)))
        self.frames = 0

    def add(
        self,
        frame_id: str,
        rgb: np.ndarray,
        predictions: Mapping[str, np.ndarray],
        labels: Mapping[str, np.ndarray],
        labelled: np.ndarray,
    ) -> None:
        """Keep the first frame of a batch, two rows of it, until there are enough.

        Args:
            rgb: uint8 [H, W, 3].
            predictions: decoded maps of the batch by name; depth in metres.
            labels: the same of the labels.
            labelled: bool [T].
        """
        if len(self.rows) < 2 * _FRAMES:
            has = {task.name for task, known in zip(self.tasks, labelled) if known}
            known = {name: maps for name, maps in labels.items() if name in has}
            for caption, maps in (("predicted", predictions), ("label", known)):
                # copies: a view would keep the whole batch
                first = {name: values[0].copy() for name, values in maps.items()}
                panels = (first.get(name) for name in ("segmentation", "depth", "normals"))
                self.rows.append(SheetRow(f"{frame_id} {caption}", rgb.copy(), *panels))

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
            categorical = next((t for t in self.tasks if isinstance(t, Categorical)), None)
            classes = categorical.classes if categorical else ()
            palette = categorical.palette if categorical else ((0, 0, 0),)
            pictures["held_out/frames"] = contact_sheet(
                self.rows, classes, palette, panel_width=_WIDTH
            )
        if self.frames:
            grey = np.kron(255 * (1 - self.association / self.frames), np.ones((_CELL, _CELL)))
            pictures["association"] = np.repeat(grey.astype(np.uint8)[..., None], 3, 2)
        return pictures
