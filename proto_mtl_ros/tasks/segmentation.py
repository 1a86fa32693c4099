# SPDX-License-Identifier: Apache-2.0
"""Segmentation: one class id per pixel."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from proto_mtl_ros import drawing
from proto_mtl_ros.tasks.task import (
    IGNORE_INDEX,
    Maps,
    OutputMap,
    ResultTopic,
    Task,
    View,
    image_topic,
)


@dataclass(frozen=True)
class LabelSet:
    """The classes of a segmentation data set with the colours they are drawn in."""

    name: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...] = ()

    def __post_init__(self) -> None:
        if len(self.classes) != len(self.palette):
            raise ValueError(f"label set {self.name}: a colour is needed for every class")


NYU13 = LabelSet(
    "nyu13",
    (
        "bed", "books", "ceiling", "chair", "floor", "furniture", "objects",
        "picture", "sofa", "table", "tv", "wall", "window",
    ),
    (
        (230, 85, 70), (148, 103, 189), (174, 217, 238), (255, 160, 40), (110, 170, 80),
        (140, 86, 75), (227, 119, 194), (23, 190, 207), (220, 200, 50), (31, 119, 180),
        (60, 60, 70), (200, 195, 180), (90, 140, 255),
    ),
)  # fmt: skip


class SegmentationMetric:
    """Mean IoU over the classes that occur, from one confusion matrix over all frames."""

    def __init__(self, task: Categorical) -> None:
        self.task = task
        self.confusion = np.zeros((task.channels, task.channels), np.int64)

    def update(self, prediction: np.ndarray, label: np.ndarray) -> None:
        """Add ids uint8 [H, W] against labels uint8 [H, W]; 255 is ignored."""
        count = self.task.channels
        valid = (label < count) & (prediction < count)
        flat = label[valid].astype(np.int64) * count + prediction[valid]
        self.confusion += np.bincount(flat, minlength=count * count).reshape(count, count)

    def per_class(self) -> dict[str, float]:
        """Return the IoU of every class; NaN for one that neither occurs nor is predicted."""
        hit = np.diag(self.confusion).astype(np.float64)
        union = self.confusion.sum(0) + self.confusion.sum(1) - hit
        iou = np.divide(hit, union, out=np.full_like(hit, np.nan), where=union > 0)
        return dict(zip(self.task.classes, iou.tolist(), strict=True))

    def compute(self) -> dict[str, float]:
        total = self.confusion.sum()
        if total == 0:
            return dict.fromkeys(self.task.metrics, float("nan"))
        return {
            "miou": float(np.nanmean(list(self.per_class().values()))),
            "pixel_accuracy": float(np.trace(self.confusion) / total),
        }


@dataclass(frozen=True)
class Categorical(Task):
    """uint8 labels, 255 = unlabelled; logits as raw prediction; ids and confidence as maps."""

    classes: tuple[str, ...] = ()
    palette: tuple[tuple[int, int, int], ...] = ()

    @property
    def confidence(self) -> str:
        """Name of the map of 255 x the largest softmax."""
        return "confidence" if self.name == "segmentation" else super().confidence

    @property
    def maps(self) -> tuple[OutputMap, ...]:
        return (
            OutputMap(self.name, np.dtype(np.uint8)),
            OutputMap(self.confidence, np.dtype(np.uint8)),
        )

    @property
    def topics(self) -> tuple[ResultTopic, ...]:
        name = self.name
        return (
            image_topic(f"{name}/image", "mono8", "class ids, 255 = unlabelled", name),
            image_topic(f"{name}/confidence", "mono8", "0..255", self.confidence),
            image_topic(
                f"{name}/overlay",
                "rgb8",
                "class colours over the image, for people",
                name,
                lambda maps, rgb, s: drawing.overlay(rgb, maps[name], s.palette, alpha=0.5),
            ),
        )

    def valid(self, label: np.ndarray) -> np.ndarray:
        return np.asarray(label) < self.channels

    def empty_label(self, height: int, width: int) -> np.ndarray:
        return np.full((height, width), IGNORE_INDEX, np.uint8)

    def metric(self) -> SegmentationMetric:
        return SegmentationMetric(self)

    def fit(self, maps: Maps, wanted: frozenset[str], view: View) -> dict[str, np.ndarray]:
        fitted: dict[str, np.ndarray] = {}
        confidence = maps.get(self.confidence)
        if self.name in wanted and self.name in maps:
            ids = maps[self.name]
            if self.channels < 256 and ids.max(initial=0) >= self.channels:
                ids = np.where(ids < self.channels, ids, np.uint8(IGNORE_INDEX))
            if view.threshold > 0 and confidence is not None:
                ids = np.where(confidence < view.threshold, np.uint8(IGNORE_INDEX), ids)
            fitted[self.name] = view.fit(ids, "nearest")
        if self.confidence in wanted and confidence is not None:
            # of the same network pixel as the id beside it, so nearest as well
            fitted[self.confidence] = view.fit(confidence, "nearest")
        return fitted

    def invalid(self, maps: Maps) -> dict[str, float]:
        ids = maps[self.name]
        if ids.max(initial=0) < self.channels:
            return {}
        return {"invalid_class": float((ids >= self.channels).mean())}

    def draw(self, values: np.ndarray) -> np.ndarray:
        return drawing.draw_segmentation(values, self.palette)

    def over(self, classes: tuple[str, ...]) -> Categorical:
        """Return the task over other classes; their colours are a bundle's own matter."""
        return replace(
            self, channels=len(classes), classes=classes, palette=((0, 0, 0),) * len(classes)
        )


def segmentation(label_set: LabelSet) -> Categorical:
    """Return the segmentation task over ``label_set``."""
    return Categorical(
        name="segmentation",
        channels=len(label_set.classes),
        metrics=("miou", "pixel_accuracy"),
        higher_is_better=True,
        classes=label_set.classes,
        palette=label_set.palette,
    )


SEGMENTATION = segmentation(NYU13)
