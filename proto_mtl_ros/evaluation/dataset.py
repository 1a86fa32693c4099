# SPDX-License-Identifier: Apache-2.0
"""Evaluate a model on labelled frames, through the same predictor that the node uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from proto_mtl_ros.data.sample import Sample
from proto_mtl_ros.errors import DataError
from proto_mtl_ros.runtime.predictor import Predictor
from proto_mtl_ros.tasks import named_task
from proto_mtl_ros.tasks.segmentation import SegmentationMetric
from proto_mtl_ros.tasks.task import Metric


@dataclass
class Evaluation:
    """Figures of one pass.

    Attributes:
        frames: how many frames were seen.
        metrics: task -> figure -> value, of the tasks that any frame has a label for.
        per_class: IoU of every class.
    """

    frames: int = 0
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    per_class: dict[str, float] = field(default_factory=dict)


def evaluate(
    predictor: Predictor,
    samples: Iterable[Sample],
    classes: tuple[str, ...],
    progress: Callable[[int], None] = lambda done: None,
) -> Evaluation:
    """Compare predictions with labels at the size of the labels.

    Args:
        predictor: of the model.
        samples: labelled frames; a label that a frame does not have is left out.
        classes: what the label ids mean; must be the classes of the model. Empty for data without
            a segmentation.
        progress: called with the number of frames done.

    Raises:
        DataError: the label set is not the model's, or there was no frame.
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
