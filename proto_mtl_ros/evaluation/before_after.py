# SPDX-License-Identifier: Apache-2.0
"""A model that has learnt beside the one it started from: the same frames, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from proto_mtl_ros.data.sample import FrameSource
from proto_mtl_ros.evaluation.dataset import Evaluation, Tally
from proto_mtl_ros.evaluation.frame_album import apart
from proto_mtl_ros.evaluation.report import YARDSTICKS
from proto_mtl_ros.runtime.predictor import Prediction, Predictor
from proto_mtl_ros.tasks import Task, named_task, tasks_over

_SAME = 0.03
"""Part of a figure by which it may change and count as the same."""

# figure by which a task without labels is compared with what it said before, and what is "kept"
_KEPT = {"segmentation": ("pixel_accuracy", 0.9), "depth": ("rel_err", 0.1),
         "normals": ("mean_deg", 8.0)}  # fmt: skip
_SHOWN = 4
_POOR = 0.3  # mIoU of classes that are new


@dataclass(frozen=True)
class Outcome:
    """What became of a task by one figure; ``before`` is None where the start cannot say."""

    task: str
    figure: str
    before: float | None
    after: float
    verdict: str
    yardstick: str = "against what it said before"


@dataclass
class BeforeAfter:
    """Figures of both models; ``drift``: of the second against the answers of the first, for tasks
    that no frame has a label of. ``panels`` are the worst frames: a caption, and pictures by head.
    """

    start: str
    reported_on: str
    before: Evaluation = field(default_factory=Evaluation)
    after: Evaluation = field(default_factory=Evaluation)
    drift: Evaluation = field(default_factory=Evaluation)
    panels: list[tuple[str, dict[str, np.ndarray]]] = field(default_factory=list)

    @property
    def outcomes(self) -> list[Outcome]:
        found = []
        for task, figures in self.after.metrics.items():
            figure, after = next(iter(figures.items()))
            before = self.before.metrics.get(task, {}).get(figure)
            word, good = _verdict(task, before, after), YARDSTICKS.get(figure, "")
            found.append(Outcome(task, figure, before, after, word, good))
        for task, figures in self.drift.metrics.items():
            if task in _KEPT:
                figure, most = _KEPT[task]
                kept = (figures[figure] >= most) == named_task(task, ("",)).higher_is_better
                word = "kept" if kept else "changed"
                found.append(Outcome(task, figure, None, figures[figure], word))
        return found

    @property
    def verdict(self) -> str:
        """Whether to use it, in words."""
        outcomes = self.outcomes
        lost = " and ".join(o.task for o in outcomes if o.verdict in ("worse", "changed"))
        gained = " and ".join(o.task for o in outcomes if o.verdict in ("better", "new"))
        if any(o.verdict == "poor" for o in outcomes):
            return "segmentation is poor: it needs more masks, or longer training"
        if not self.after.metrics:
            return "nothing judges it: no frame that was not learnt from has a label"
        if lost and gained:
            return f"better in {gained}, worse in {lost}: use it where the former counts"
        if lost:
            return f"worse in {lost}: do not use it"
        if gained:
            return "better: use it"
        return f"no better: {self.start or 'the start'} does as well"

    @property
    def beware(self) -> list[str]:
        """What else is wrong with it, a sentence each."""
        return [
            f"class {name} is never found (IoU 0)"
            for name, iou in self.after.per_class.items()
            if iou == 0
        ]

    @property
    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """Task, figure or class, before, after, and what that means, as text."""
        rows = [
            (o.task, o.figure, o.before, o.after, f"{o.verdict} ({o.yardstick})".replace(" ()", ""))
            for o in self.outcomes
        ]
        old = self.before.per_class
        rows += [
            ("IoU of", name, old.get(name), iou, "") for name, iou in self.after.per_class.items()
        ]
        return [(task, name, _text(old), _text(new), word) for task, name, old, new, word in rows]

    def lines(self) -> list[str]:
        """Return all of it as text for a terminal."""
        return [
            f"{self.start or 'nothing'} before, and after, on {self.reported_on}:",
            *(f"  {task:<13} {name:<16} {old:>8} {new:>8}  {word}".rstrip()
              for task, name, old, new, word in self.rows),
            *(f"beware: {one}" for one in self.beware),
            f"verdict: {self.verdict}",
        ]  # fmt: skip

    def markdown(self) -> str:
        """Return the table and the verdict of a model card."""
        head = ["task", "figure", self.start or "before", "this model", ""]
        table = [head, ["---"] * len(head), *self.rows]
        text = "\n".join("| " + " | ".join(row) + " |" for row in table)
        notes = "".join(f"\n\nBeware: {one}." for one in self.beware)
        return f"{text}\n\nVerdict: {self.verdict}.{notes}"


def compare_models(
    before: Predictor | None,
    after: Predictor,
    samples: FrameSource,
    reported_on: str,
    progress: Callable[[int], None] = lambda done: None,
    learnt: Collection[str] = (),
) -> BeforeAfter:
    """Run both models over the frames, which neither has learnt from; None: there is no first.

    ``learnt`` are the tasks that were learnt from labels, if from none of these frames.
    """
    classes, tasks = samples.label_set.classes, after.bundle.manifest.tasks
    found = BeforeAfter(before.bundle.name if before else "", reported_on)
    labelled = {*learnt, *(task for frame in samples.frame_ids for task in samples.has(frame))}
    known: list[str] = []
    if before is not None:
        known = [t for t in tasks if t in before.bundle.manifest.tasks]
        if before.bundle.manifest.classes != after.bundle.manifest.classes:
            known = [t for t in known if t != "segmentation"]
    old, new = Tally(known, classes), Tally(tasks, classes)
    drift = Tally([t for t in known if t not in labelled], after.bundle.manifest.classes)
    ranked = []
    for place in range(len(samples)):
        sample = samples[place]
        answer = after.predict(sample.rgb, sample.camera)
        new.add(answer, sample.labels)
        if before is not None:
            first: Any = before.predict(sample.rgb, sample.camera)
            old.add(first, sample.labels)
            drift.add(answer, first)
        error = _error(answer, sample.labels, classes)
        if error is not None:
            ranked.append((error, place))
        progress(place + 1)
    found.before, found.after, found.drift = old.result(), new.result(), drift.result()
    worst = (place for _, place in sorted(ranked, reverse=True))
    for place in apart(worst, _SHOWN, len(samples)):
        sample = samples[place]
        answer = after.predict(sample.rgb, sample.camera)
        first = before.predict(sample.rgb, sample.camera) if before else None
        for task in tasks_over([t for t in tasks if t in sample.labels], samples.label_set):
            name, label = task.name, sample.labels[task.name]
            drawn = {"input": sample.rgb, "label": task.draw(label)}
            if first is not None and name in known:
                drawn["before"] = task.draw(first[name])
            drawn["after"] = task.draw(answer[name])
            drawn["error after"] = error_map(task, answer[name], label)
            found.panels.append((f"{sample.frame_id}, {name}", drawn))
    return found


def _error(answer: Prediction, labels: Mapping[str, Any], classes: tuple[str, ...]) -> float | None:
    """Return how wrong a frame is by the first task that it has a label of."""
    for name in (name for name in answer if name in labels):
        tally = Tally([name], classes)
        tally.add(answer, labels)
        value = next(iter(tally.result().metrics[name].values()))
        if not math.isnan(value):
            return -value if named_task(name, classes).higher_is_better else value
    return None


def error_map(task: Task, prediction: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return uint8 [H, W, 3], black to white: nothing wrong to another class, 45 degrees, or half
    of a distance; dark blue where there is no label."""
    valid = task.valid(label)
    if label.dtype.kind in "ui":
        wrong = (prediction != label).astype(np.float32)
    elif label.ndim == 3:
        cosine = np.clip((prediction * label).sum(-1), -1, 1)
        wrong = np.degrees(np.arccos(cosine)) / 45
    else:
        wrong = np.abs(np.nan_to_num(prediction) - label) / np.where(valid, 0.5 * label, 1)
    grey = (255 * np.clip(np.nan_to_num(wrong), 0, 1)).astype(np.uint8)
    return np.where(valid[..., None], grey[..., None], np.array([0, 0, 90], np.uint8))


def _verdict(task: str, before: float | None, after: float) -> str:
    higher = named_task(task, ("",)).higher_is_better
    if before is None or math.isnan(before):
        return "poor" if higher and after < _POOR else "new"
    gain = (after - before) / max(abs(before), 1e-9) * (1 if higher else -1)
    return "worse" if not gain >= -_SAME else "better" if gain > _SAME else "as good"


def _text(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"
