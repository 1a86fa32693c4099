# SPDX-License-Identifier: Apache-2.0
"""What a task is, and the tasks there are.

A task is a value object: how many channels the network predicts for it, which label values are
valid, which loss and metrics belong to it (named here, implemented in ``training`` and
``evaluation``). This module needs numpy only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

IGNORE_INDEX = 255
"""Segmentation id of a pixel without a class, in labels and in published masks."""


@dataclass(frozen=True)
class Task:
    """Common part of all tasks.

    Attributes:
        name: key of the task in samples, predictions, topics and reports.
        channels: channels of the raw prediction [B, channels, h, w].
        loss: name of the training loss, resolved by ``training.losses``.
        metrics: names of the figures that ``evaluation.metrics`` reports, the primary one first.
        higher_is_better: whether more is better of the primary figure.
    """

    name: str
    channels: int
    loss: str
    metrics: tuple[str, ...]
    higher_is_better: bool = False

    def valid(self, label: np.ndarray) -> np.ndarray:
        """Return bool[H, W]: the pixels of ``label`` that carry a label."""
        raise NotImplementedError

    def empty_label(self, height: int, width: int) -> np.ndarray:
        """Return a label map [H, W] or [H, W, C] in which no pixel is valid."""
        raise NotImplementedError


@dataclass(frozen=True)
class Categorical(Task):
    """One class id per pixel; uint8 labels, 255 = unlabelled; logits as raw prediction."""

    classes: tuple[str, ...] = ()
    palette: tuple[tuple[int, int, int], ...] = ()

    def valid(self, label: np.ndarray) -> np.ndarray:
        return np.asarray(label) < self.channels

    def empty_label(self, height: int, width: int) -> np.ndarray:
        return np.full((height, width), IGNORE_INDEX, np.uint8)


@dataclass(frozen=True)
class Scalar(Task):
    """One positive number per pixel; float32 labels; NaN, inf and values <= 0 are invalid."""

    unit: str = ""

    def valid(self, label: np.ndarray) -> np.ndarray:
        return np.isfinite(label) & (np.asarray(label) > 0)

    def empty_label(self, height: int, width: int) -> np.ndarray:
        return np.zeros((height, width), np.float32)


@dataclass(frozen=True)
class UnitVector(Task):
    """One direction per pixel; float32 [H, W, 3] labels; the zero vector is invalid.

    Validity is judged by the norm: a test of the component sum would drop true directions.
    """

    frame: str = ""

    def valid(self, label: np.ndarray) -> np.ndarray:
        return np.linalg.norm(label, axis=-1) > 0.5

    def empty_label(self, height: int, width: int) -> np.ndarray:
        return np.zeros((height, width, self.channels), np.float32)


@dataclass(frozen=True)
class Binary(Task):
    """Yes or no per pixel (edges, saliency); uint8 labels 0 or 1, 255 = unlabelled; a logit as raw
    prediction. None of the first-class tasks is of this kind; its loss is ``balanced_bce``.
    """

    def valid(self, label: np.ndarray) -> np.ndarray:
        return np.asarray(label) <= 1

    def empty_label(self, height: int, width: int) -> np.ndarray:
        return np.full((height, width), IGNORE_INDEX, np.uint8)


@dataclass(frozen=True)
class LabelSet:
    """The classes of a segmentation data set with the colours they are drawn in."""

    name: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...] = field(default=())

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


def segmentation(label_set: LabelSet) -> Categorical:
    """Return the segmentation task over ``label_set``."""
    return Categorical(
        name="segmentation",
        channels=len(label_set.classes),
        loss="cross_entropy",
        metrics=("miou", "pixel_accuracy"),
        higher_is_better=True,
        classes=label_set.classes,
        palette=label_set.palette,
    )


SEGMENTATION = segmentation(NYU13)
DEPTH = Scalar(
    name="depth",
    channels=1,
    loss="l1",
    metrics=("abs_err", "rel_err", "rmse", "delta1", "delta2", "delta3"),
    unit="m",
)
NORMALS = UnitVector(
    name="normals",
    channels=3,
    loss="cosine",
    metrics=("mean_deg", "median_deg", "within_11", "within_22", "within_30"),
    frame="optical: x right, y down, z forward; facing the camera",
)

TASKS: dict[str, Task] = {task.name: task for task in (SEGMENTATION, DEPTH, NORMALS)}
"""The first-class tasks in the order in which the network predicts them."""


def tasks_over(names: Iterable[str], label_set: LabelSet) -> tuple[Task, ...]:
    """Return the first-class tasks ``names``, the segmentation over the classes of ``label_set``.

    Raises:
        ValueError: there is no such task.
    """
    return tuple(
        segmentation(label_set) if name == "segmentation" else named_task(name) for name in names
    )


def named_task(name: str, classes: tuple[str, ...] = ()) -> Task:
    """Return the first-class task ``name``; the segmentation over ``classes`` if they are given.

    Raises:
        ValueError: there is no such task; the message names those there are.
    """
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}; there are: {', '.join(TASKS)}")
    task = TASKS[name]
    if isinstance(task, Categorical) and classes and classes != task.classes:
        # colours are a bundle's own matter: its palette says them
        return segmentation(LabelSet("custom", classes, ((0, 0, 0),) * len(classes)))
    return task
