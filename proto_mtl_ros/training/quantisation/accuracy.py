# SPDX-License-Identifier: Apache-2.0
"""What a quantised graph loses, on frames that it was not calibrated with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from proto_mtl_ros.data.sample import Sample
from proto_mtl_ros.runtime.predictor import (
    Prediction,
    Predictor,
)
from proto_mtl_ros.tasks import (
    TASKS,
    named_task,
)
from proto_mtl_ros.tasks.task import Metric
from proto_mtl_ros.training.quantisation.int8 import QuantisationError


@dataclass
class Loss:
    """What became worse.

    Attributes:
        frames: how many were looked at.
        before, after: task -> its main figure, of the tasks that any frame has a label for.
        agreement: task -> how far the two disagree, of every task: the share of pixels with
            another class, the mean relative difference of depth, the mean angle of normals in
            degrees.
    """

    frames: int = 0
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)
    agreement: dict[str, float] = field(default_factory=dict)

    @property
    def percent(self) -> dict[str, float]:
        """Task -> relative loss in percent; negative where it became better."""
        return {
            task: 100.0
            * (
                self.before[task] - self.after[task]
                if TASKS[task].higher_is_better
                else self.after[task] - self.before[task]
            )
            / self.before[task]
            for task in self.before
        }

    def lines(self) -> list[str]:
        """Return one line per task."""
        units = {"segmentation": "of pixels", "depth": "relative", "normals": "degrees"}
        found = []
        for task, difference in self.agreement.items():
            text = f"{task:<13} differs by {difference:.4f} {units.get(task, '')}"
            if task in self.before:
                figure = TASKS[task].metrics[0]
                text += (
                    f"; {figure} {self.before[task]:.4f} -> {self.after[task]:.4f}"
                    f" ({self.percent[task]:+.2f} % loss)"
                )
            found.append(text)
        return found

    def check(self, most: float) -> None:
        """Raise QuantisationError where a figure lost more than ``most`` percent."""
        for task, percent in self.percent.items():
            if not percent <= most:
                raise QuantisationError(
                    f"int8 costs {percent:.2f} % of {task} {TASKS[task].metrics[0]}, more than"
                    f" {most:g} %: nothing was written; calibrate with more frames, or allow more"
                    " with --max-loss"
                )


def compare(
    reference: Predictor,
    quantised: Predictor,
    samples: Iterable[Sample],
    progress: Callable[[int], None] = lambda done: None,
) -> Loss:
    """Run both on the same frames, on the way that the node takes."""
    loss = Loss()
    sums: dict[str, list[float]] = {}
    metrics: dict[str, tuple[Metric, Metric]] = {}
    classes = reference.bundle.classes
    for sample in samples:
        first = reference.predict(sample.rgb, sample.camera)
        second = quantised.predict(sample.rgb, sample.camera)
        for task in reference.bundle.manifest.tasks:
            sums.setdefault(task, []).append(disagreement(task, first, second))
            label = sample.labels.get(task)
            if label is None:
                continue
            pair = metrics.setdefault(
                task, (named_task(task, classes).metric(), named_task(task, classes).metric())
            )
            for metric, prediction in zip(pair, (first, second), strict=True):
                metric.update(prediction[task], label)
        loss.frames += 1
        progress(loss.frames)
    loss.agreement = {task: float(np.mean(values)) for task, values in sums.items()}
    for task, (before, after) in metrics.items():
        figure = TASKS[task].metrics[0]
        loss.before[task] = before.compute()[figure]
        loss.after[task] = after.compute()[figure]
    return loss


def disagreement(task: str, first: Prediction, second: Prediction) -> float:
    """Return how far two predictions of a frame disagree; see ``Loss``."""
    a, b = first[task], second[task]
    if task == "segmentation":
        return float((a != b).mean())
    if task == "depth":
        return float(np.nanmean(np.abs(a - b) / a))
    cosine = np.clip((a * b).sum(-1), -1.0, 1.0)
    return float(np.degrees(np.arccos(cosine)).mean())
