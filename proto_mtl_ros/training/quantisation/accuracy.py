# SPDX-License-Identifier: Apache-2.0
"""What a quantised graph loses, on frames that it was not calibrated with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from proto_mtl_ros.data.sample import Sample
from proto_mtl_ros.evaluation.dataset import Tally
from proto_mtl_ros.runtime.predictor import Predictor
from proto_mtl_ros.tasks import named_task
from proto_mtl_ros.training.quantisation.int8 import QuantisationError

_UNITS = {"segmentation": "of pixels", "depth": "relative", "normals": "degrees"}


@dataclass
class Loss:
    """Main figures before and after, by task with labels, and ``disagreement`` of every task."""

    frames: int = 0
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)
    agreement: dict[str, float] = field(default_factory=dict)

    @property
    def percent(self) -> dict[str, float]:
        """Task -> relative loss in percent; negative where it became better."""
        found = {}
        for task, before in self.before.items():
            worse = before - self.after[task]
            found[task] = 100.0 * (worse if named_task(task).higher_is_better else -worse) / before
        return found

    def lines(self) -> list[str]:
        found = []
        for task, difference in self.agreement.items():
            text = f"{task:<13} differs by {difference:.4f} {_UNITS.get(task, '')}"
            if task in self.before:
                text += (
                    f"; {named_task(task).metrics[0]}"
                    f" {self.before[task]:.4f} -> {self.after[task]:.4f}"
                    f" ({self.percent[task]:+.2f} % loss)"
                )
            found.append(text)
        return found

    def check(self, most: float) -> None:
        """Raise QuantisationError where a figure lost more than ``most`` percent."""
        for task, percent in self.percent.items():
            if not percent <= most:
                raise QuantisationError(
                    f"int8 costs {percent:.2f} % of {task} {named_task(task).metrics[0]}, more than"
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
    tasks = reference.bundle.manifest.tasks
    tallies = [Tally(tasks, reference.bundle.classes) for _ in range(2)]
    for sample in samples:
        pair = [each.predict(sample.rgb, sample.camera) for each in (reference, quantised)]
        for name in tasks:
            sums.setdefault(name, []).append(disagreement(*(maps[name] for maps in pair)))
        for tally, maps in zip(tallies, pair):
            tally.add(maps, sample.labels)
        loss.frames += 1
        progress(loss.frames)
    loss.agreement = {task: float(np.mean(values)) for task, values in sums.items()}
    loss.before, loss.after = (
        {task: next(iter(figures.values())) for task, figures in tally.result().metrics.items()}
        for tally in tallies
    )
    return loss


def disagreement(a: np.ndarray, b: np.ndarray) -> float:
    """Return how far two maps disagree: the share of pixels with another id, the mean angle of
    vectors in degrees, else the mean relative difference."""
    if a.dtype.kind != "f":
        return float((a != b).mean())
    if a.ndim == 3:
        cosine = np.clip((a * b).sum(-1), -1.0, 1.0)
        return float(np.degrees(np.arccos(cosine)).mean())
    return float(np.nanmean(np.abs(a - b) / a))
