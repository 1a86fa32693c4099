# SPDX-License-Identifier: Apache-2.0
"""A model on labelled frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

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
    metrics: dict[str, Metric] = {}
    result = Evaluation()
    for sample in samples:
        prediction = predictor.predict(sample.rgb, sample.camera)
        for name in manifest.tasks:
            label = sample.labels.get(name)
            if label is not None:
                metric = metrics.setdefault(name, named_task(name, classes).metric())
                metric.update(prediction[name], label)
        result.frames += 1
        progress(result.frames)
    if not result.frames:
        raise DataError("there is no frame to evaluate on")
    for name in (name for name in manifest.tasks if name in metrics):
        metric = metrics[name]
        result.metrics[name] = metric.compute()
        if isinstance(metric, SegmentationMetric):
            result.per_class = metric.per_class()
    return result
