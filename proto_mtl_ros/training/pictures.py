# SPDX-License-Identifier: Apache-2.0
"""What a validation looks like: predictions beside labels, and how tasks are associated."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from torch import Tensor

from proto_mtl_ros.drawing import (
    SheetRow,
    contact_sheet,
)
from proto_mtl_ros.drawing.legend import (
    BACKGROUND,
    INK,
    LINE,
    blank,
    text_width,
    write,
)
from proto_mtl_ros.tasks import (
    Categorical,
    Task,
)

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
        frame_ids: Sequence[str],
        images: np.ndarray,
        predictions: dict[str, np.ndarray],
        labels: dict[str, np.ndarray],
        labelled: np.ndarray,
    ) -> None:
        """Keep the first frame of a batch, two rows of it, until there are enough.

        Args:
            images: uint8 [B, H, W, 3].
            predictions: decoded maps, task name to [B, H, W] or [B, H, W, 3]; depth in metres.
            labels: the same of the labels.
            labelled: bool [B, T].
        """
        if len(self.rows) >= 2 * _FRAMES:
            return
        # copies: a view would keep the whole batch
        rgb = images[0].copy()
        has = {task.name for task, known in zip(self.tasks, labelled[0]) if known}
        predicted = {name: maps[0].copy() for name, maps in predictions.items()}
        known = {name: maps[0].copy() for name, maps in labels.items() if name in has}
        self.rows.append(_row(f"{frame_ids[0]} predicted", rgb, predicted))
        self.rows.append(_row(f"{frame_ids[0]} label", rgb, known))

    def add_affinity(self, affinity: Tensor) -> None:
        """Add the token-level affinity [B, T, N, T] of a batch."""
        self.association += affinity.float().mean(2).sum(0).cpu().numpy()
        self.frames += len(affinity)

    def drawn(self) -> dict[str, np.ndarray]:
        """Return the pictures, uint8 [H, W, 3], by the name that TensorBoard shows them under."""
        pictures: dict[str, np.ndarray] = {}
        if self.rows:
            categorical = next((t for t in self.tasks if isinstance(t, Categorical)), None)
            classes = categorical.classes if categorical else ()
            palette = categorical.palette if categorical else ((0, 0, 0),)
            pictures["held_out/frames"] = contact_sheet(
                self.rows, classes, palette, panel_width=_WIDTH
            )
        if self.frames:
            names = [task.name for task in self.tasks]
            pictures["association"] = association_matrix(names, self.association / self.frames)
        return pictures


def _row(caption: str, rgb: np.ndarray, maps: dict[str, np.ndarray]) -> SheetRow:
    return SheetRow(caption, rgb, maps.get("segmentation"), maps.get("depth"), maps.get("normals"))


def association_matrix(names: Sequence[str], values: np.ndarray) -> np.ndarray:
    """Draw the mean affinity of each task's tokens (row) to each task (column).

    White is 0 and dark blue 1; rows sum to one.

    Args:
        names: of the T tasks.
        values: [T, T].

    Returns:
        uint8 [H, W, 3].
    """
    margin = 8
    left = margin + max(map(text_width, names)) + margin
    cell = max(_CELL, *(text_width(name) + margin for name in names))
    titles = ["affinity of the tokens of a task (row)", "to the prototypes of a task (column)"]
    top = margin + (len(titles) + 1) * LINE
    width = max(left + cell * len(names) + margin, max(map(text_width, titles)) + 2 * margin)
    picture = blank(top + _CELL * len(names) + margin, width)
    for line, title in enumerate(titles):
        write(picture, title, margin, margin // 2 + line * LINE)
    dark = np.array((20, 50, 120))
    for row, of in enumerate(names):
        y = top + row * _CELL
        write(picture, of, left - margin - text_width(of), y + (_CELL - LINE) // 2)
        for column, to in enumerate(names):
            x = left + column * cell
            if row == 0:
                write(picture, to, x + (cell - text_width(to)) // 2, top - LINE)
            value = float(values[row, column])
            shade = np.round((1 - value) * 255 + value * dark).astype(int)
            colour = tuple(int(c) for c in np.clip(shade, 0, 255))
            cv2.rectangle(picture, (x, y), (x + cell - 3, y + _CELL - 3), colour, -1)
            ink = BACKGROUND if value > 0.5 else INK
            text = f"{value:.3f}"
            write(picture, text, x + (cell - text_width(text)) // 2, y + (_CELL - LINE) // 2, ink)
    return picture
