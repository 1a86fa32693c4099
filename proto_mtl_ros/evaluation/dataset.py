# SPDX-License-Identifier: Apache-2.0
"""A model on labelled frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from proto_mtl_ros.data.sample import Sample
from proto_mtl_ros.errors import DataError
from proto_mtl_ros.runtime.predictor import Predictor
from proto_mtl_ros.tasks import named_task
from proto_mtl_ros.tasks.segmentation import SegmentationMetric
from proto_mtl_ros.tasks.task import Metric


@dataclass
class Evaluation:
    """Figures by task, of the tasks that any frame has a label for, and the IoU of every class."""

    frames: int = 0
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    per_class: dict[str, float] = field(default_factory=dict)

    def markdown(self, title: str) -> str:
        """Return a table per task and one with the IoU of every class."""
        tables = [
            {f"{task} {name}": value for name, value in figures.items()}
            for task, figures in self.metrics.items()
        ]
        parts = [_table(one) for one in (*tables, self.per_class) if one]
        return "\n\n".join([f"{title}: {self.frames} frames", *parts])


def _table(figures: Mapping[str, float]) -> str:
    cells = [
        "-" if math.isnan(value) else f"{value:.3f}" if abs(value) < 10 else f"{value:.2f}"
        for value in figures.values()
    ]
    rows = [[*figures], ["---"] * len(figures), cells]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


class Tally:
    """Compares maps of a model with labels, frame by frame; ``classes`` are those of the ids."""

    def __init__(self, tasks: Iterable[str], classes: tuple[str, ...]) -> None:
        self.tasks, self.classes, self.frames = tuple(tasks), classes, 0
        self._metrics: dict[str, Metric] = {}

    def add(self, maps: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]) -> None:
        self.frames += 1
        for name in self.tasks:
            if name in labels:
                metric = self._metrics.setdefault(name, named_task(name, self.classes).metric())
                metric.update(maps[name], labels[name])

    def result(self) -> Evaluation:
        found = Evaluation(self.frames)
        for name in (name for name in self.tasks if name in self._metrics):
            metric = self._metrics[name]
            found.metrics[name] = metric.compute()
            if isinstance(metric, SegmentationMetric):
                found.per_class = metric.per_class()
        return found


def evaluate(
    predictor: Predictor,
    samples: Iterable[Sample],
    classes: tuple[str, ...],
    progress: Callable[[int], None] = lambda done: None,
) -> Evaluation:
    """Compare predictions with labels at the size of the labels.

    ``classes`` are what the label ids mean; empty for data without a segmentation. ``progress``
    is called with the number of frames done. Raises DataError when the classes are not the
    model's, or when there was no frame.
    """
    manifest = predictor.bundle.manifest
    if "segmentation" in manifest.tasks and classes and manifest.classes != classes:
        raise DataError(
            f"model {manifest.name} has other classes than the data; map one to the other first"
        )
    tally = Tally(manifest.tasks, classes)
    for sample in samples:
        tally.add(predictor.predict(sample.rgb, sample.camera), sample.labels)
        progress(tally.frames)
    if not tally.frames:
        raise DataError("there is no frame to evaluate on")
    return tally.result()
