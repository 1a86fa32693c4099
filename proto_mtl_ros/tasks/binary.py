# SPDX-License-Identifier: Apache-2.0
"""Yes or no per pixel: edges, saliency. None of the tasks that ship is of this kind."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from proto_mtl_ros.tasks.task import IGNORE_INDEX, ResultTopic, Task, View, image_topic


class BinaryMetric:
    """Largest F-measure over all thresholds."""

    def __init__(self, task: Binary) -> None:
        self.task = task
        self.counts = np.zeros((2, 256), np.int64)

    def update(self, prediction: np.ndarray, label: np.ndarray) -> None:
        """Add probability [H, W] against 0/1; 255 is ignored."""
        valid = self.task.valid(label)
        level = np.clip(prediction[valid] * 255, 0, 255).astype(np.int64)
        flat = label[valid].astype(np.int64) * 256 + level
        self.counts += np.bincount(flat, minlength=512).reshape(2, 256)

    def compute(self) -> dict[str, float]:
        false, true = np.cumsum(self.counts[:, ::-1], axis=1)
        total = true[-1]
        if not total:
            return {"max_f": float("nan")}
        # F = 2 TP / (2 TP + FP + FN), and TP + FN is all that is positive
        return {"max_f": float((2 * true / (true + false + total)).max())}


@dataclass(frozen=True)
class Binary(Task):
    """uint8 labels 0 or 1, 255 = unlabelled; a logit as raw prediction; a probability as map."""

    @property
    def topics(self) -> tuple[ResultTopic, ...]:
        name = self.name
        return (
            image_topic(
                f"{name}/image",
                "mono8",
                "255 x the probability",
                name,
                lambda maps, rgb, s: np.rint(255 * maps[name]).astype(np.uint8),
            ),
        )

    def valid(self, label: np.ndarray) -> np.ndarray:
        return np.asarray(label) <= 1

    def empty_label(self, height: int, width: int) -> np.ndarray:
        return np.full((height, width), IGNORE_INDEX, np.uint8)

    def metric(self) -> BinaryMetric:
        return BinaryMetric(self)

    def fit_map(self, values: np.ndarray, view: View) -> np.ndarray:
        probability = np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=0.0)
        return np.clip(view.fit(probability, "linear"), 0.0, 1.0)

    def draw(self, values: np.ndarray) -> np.ndarray:
        levels = np.where(self.valid(values), 255 * values, 0).astype(np.uint8)
        return cv2.merge([levels, levels, levels])


def binary(name: str) -> Binary:
    """Return a task of this kind."""
    return Binary(name, 1, ("max_f",), higher_is_better=True)
